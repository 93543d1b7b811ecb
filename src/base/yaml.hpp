#pragma once
// YAML to JSON as sigs.k8s.io/yaml does it (YAML 1.1: 0644 is 420, yes/no/on/off are booleans, << merges),
// on libyaml events. Errors name line and column.
#include "base/json.hpp"

namespace orchestra {
ORC_API Result<json::value> parse_yaml(std::string_view text);
/// Documents between `---`; empty ones are left out. At most 10,000.
ORC_API Result<std::vector<json::value>> parse_yaml_documents(std::string_view text);
/// Paths of duplicate keys, as find_duplicate_keys.
ORC_API std::vector<std::string> find_duplicate_yaml_keys(std::string_view text);
ORC_API std::string to_yaml(const json::value& value);
}  // namespace orchestra
