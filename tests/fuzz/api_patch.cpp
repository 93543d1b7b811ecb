// A document and a patch (two JSON texts, one a line) in each of the three ways. A failed patch changes
// nothing.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/patches.hpp"
#include "api/types.hpp"
#include "base/json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line = text.find('\n');
  if (line == std::string_view::npos) return 0;
  const auto document = parse_json(text.substr(0, line));
  const auto patch = parse_json(text.substr(line + 1));
  if (!document || !patch) return 0;
  const std::string before = to_json(*document);
  json::value target = *document;
  if (!api::json_patch(target, *patch) && to_json(target) != before) std::abort();
  target = *document;
  api::merge_patch(target, *patch);
  json::value twice = target;
  api::merge_patch(twice, *patch);
  if (twice != target) std::abort();
  static const auto kPod = api::TypeRegistry::builtin()->find_kind("", "v1", "Pod");
  target = *document;
  if (!api::strategic_merge_patch(kPod->versions.front().schema, target, *patch) && to_json(target) != before)
    std::abort();
  return 0;
}
