// What clients write into a request line and a token: paths and queries, continue tokens, stored values.
// A path that is accepted holds no traversal; only what this server sealed opens.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "apiserver/continue_token.hpp"
#include "apiserver/request_path.hpp"
#include "apiserver/stored_object.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra::apiserver;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto info = parse_request("GET", text)) {
    for (const std::string* part : {&info->ns, &info->resource, &info->name, &info->subresource}) {
      if (*part == ".." || *part == ".") std::abort();
    }
    if (info->is_resource && info->resource.empty()) std::abort();
    if (info->path.empty() || info->path[0] != '/') std::abort();
  }
  if (open_continue(text, "the key of this server")) std::abort();
  const std::string sealed = seal_continue({7, std::string(text.substr(0, 4000))}, "k");
  const auto opened = open_continue(sealed, "k");
  if (!opened || opened->revision != 7 || opened->last_key != text.substr(0, 4000)) std::abort();
  if (const auto stored = decode_stored(text)) json_with_revision(*stored, 9);
  if (const auto decoded = base64_decode(base64_encode(text)); !decoded || *decoded != text) std::abort();
  if (const auto decoded = percent_decode(percent_encode(text), true); !decoded || *decoded != text)
    std::abort();
  return 0;
}
