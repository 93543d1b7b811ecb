#pragma once
// Reading members of JSON objects by name: nothing there, or something of another type, is "absent".
#include <boost/json.hpp>
#include <cstdint>
#include <string_view>

namespace orchestra::api {
namespace json = boost::json;

inline std::string_view text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}
inline bool flag_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_bool() && value->get_bool();
}
inline std::int64_t int_of(const json::object& object, std::string_view key, std::int64_t other = 0) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_int64() ? value->get_int64() : other;
}
inline const json::object* object_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr ? value->if_object() : nullptr;
}
inline json::object* object_of(json::object& object, std::string_view key) {
  json::value* value = object.if_contains(key);
  return value != nullptr ? value->if_object() : nullptr;
}
inline const json::array* array_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr ? value->if_array() : nullptr;
}
/// Never null: an empty object where there is none.
inline const json::object& object_or_empty(const json::object& object, std::string_view key) {
  static const json::object kEmpty;
  const json::object* found = object_of(object, key);
  return found != nullptr ? *found : kEmpty;
}
/// Never null: an empty array where there is none.
inline const json::array& array_or_empty(const json::object& object, std::string_view key) {
  static const json::array kEmpty;
  const json::array* found = array_of(object, key);
  return found != nullptr ? *found : kEmpty;
}
/// Calls `each(index, object)` for the objects of a list.
template <class Each>
void for_each_object(const json::object& parent, std::string_view key, Each each) {
  std::size_t index = 0;
  for (const json::value& item : array_or_empty(parent, key)) {
    if (item.is_object()) each(index, item.get_object());
    ++index;
  }
}
template <class Each>
void for_each_object(json::object& parent, std::string_view key, Each each) {
  json::value* list = parent.if_contains(key);
  if (list == nullptr || !list->is_array()) return;
  for (json::value& item : list->get_array()) {
    if (item.is_object()) each(item.get_object());
  }
}

}  // namespace orchestra::api
