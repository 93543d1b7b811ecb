// Helpers of the API tests: trees from YAML, whole answers as text.
#pragma once
#include <string>
#include <string_view>

#include "api/table.hpp"
#include "api/walker.hpp"
#include "base/json.hpp"
#include "base/yaml.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {

/// 2026-11-23T12:00:00Z
inline constexpr Now kNoon{.wall_ns = 1795435200LL * 1'000'000'000, .steady_ns = 0};

inline json::value from_yaml(std::string_view text) {
  auto parsed = parse_yaml(text);
  REQUIRE_MESSAGE(parsed.has_value(), (parsed ? std::string() : parsed.error().message()));
  return std::move(*parsed);
}

inline api::TypePtr type_of(const json::value& object) {
  const auto [group, version] = api::split_api_version(string_at(object, "/apiVersion"));
  auto record = api::TypeRegistry::builtin()->find_kind(group, version, string_at(object, "/kind"));
  REQUIRE_MESSAGE(record != nullptr, "unknown kind " << string_at(object, "/kind"));
  return record;
}
inline api::SchemaRef schema_of(const json::value& object) {
  const std::string version = api::split_api_version(string_at(object, "/apiVersion")).second;
  return type_of(object)->version(version)->schema;
}

}  // namespace orchestra::test
