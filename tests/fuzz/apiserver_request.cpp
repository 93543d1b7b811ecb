// What clients write into a request line and a token: paths and queries, continue tokens, stored values.
// A path that is accepted holds no traversal; only what this server sealed opens.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "apiserver/continue_token.hpp"
#include "apiserver/request_path.hpp"
#include "apiserver/stored_object.hpp"
#include "apiserver/streams/pod_proxy.hpp"
#include "apiserver/streams/proxy_target.hpp"

namespace {

/// A proxied request is one message whatever its target holds, or it is refused.
void check_proxied(std::string_view target) {
  using namespace orchestra::apiserver;
  const ProxyPath path = split_proxy_path(target, 7);
  if (path.prefix + path.rest != target) std::abort();
  (void)parse_proxy_name(target);
  if (!is_proxy_path(target)) return;
  orchestra::HttpServerRequest request;
  request.method = "GET";
  const std::string message = proxied_request(request, path, "pod:80");
  orchestra::http::HeadScanner scanner;
  orchestra::http::HeadLimits limits;
  limits.target_bytes_max = limits.head_bytes_max = 1 << 20;
  orchestra::http::Head head;
  using State = orchestra::http::HeadState;
  if (scanner.scan(message, limits).state != State::complete || scanner.bytes() != message.size())
    std::abort();
  if (orchestra::http::parse_request_head(message, limits, head).state == State::complete &&
      head.target.find(path.rest) == std::string_view::npos)
    std::abort();
}

}  // namespace

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
  check_proxied(text.substr(0, 10000));
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
