// YAML of any shape: what parses prints as YAML that parses to the same tree.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/yaml.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace orchestra;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto documents = parse_yaml_documents(text);
  (void)find_duplicate_yaml_keys(text);
  if (!documents) return 0;
  for (const json::value& document : *documents) {
    const std::string printed = to_yaml(document);
    const auto again = parse_yaml(printed);
    if (!again || to_json(*again) != to_json(document)) std::abort();
  }
  return 0;
}
