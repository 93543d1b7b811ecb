#pragma once
// JSON on Boost.JSON: one place that sets the depth, keeps positions in errors and prints canonically.
#include <boost/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra {
namespace json = boost::json;

/// Depth 512 (Boost's default of 32 is too low for a CRD that holds a pod template). Errors name line and
/// column. Duplicate keys: the last wins (see find_duplicate_keys).
ORC_API Result<json::value> parse_json(std::string_view text, json::storage_ptr storage = {});
/// "spec.replicas", "spec.containers[0].name", in the order in which they appear.
ORC_API std::vector<std::string> find_duplicate_keys(std::string_view text);
/// Keys in insertion order, no white space, integers and doubles as Go prints them.
ORC_API std::string to_json(const json::value& value);
ORC_API std::string to_pretty_json(const json::value& value);

/// The value at "/spec/replicas"; nullptr if absent or a parent is not an object/array.
ORC_API const json::value* find(const json::value& root, std::string_view pointer);
ORC_API std::string string_at(const json::value& root, std::string_view pointer, std::string_view other = {});
ORC_API std::int64_t int_at(const json::value& root, std::string_view pointer, std::int64_t other = 0);
ORC_API bool bool_at(const json::value& root, std::string_view pointer, bool other = false);
ORC_API const json::array* array_at(const json::value& root, std::string_view pointer);
ORC_API const json::object* object_at(const json::value& root, std::string_view pointer);
/// Sets the value, making objects on the way.
ORC_API void set_at(json::value& root, std::string_view pointer, json::value value);

}  // namespace orchestra
