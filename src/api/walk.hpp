#pragma once
// The recursion over (schema, value) that every visitor shares.
//
// A visitor has:
//   bool enter(SchemaRef, Value&, const FieldPath&)   before the children; false: do not go below
//   bool unknown(const FieldPath&)                    a member without a property; true: remove it
//   bool absent(SchemaRef, const Value&)              after a member was walked; true: remove it
// Value is json::value or const json::value. Members are visited in their order in the value, so what enter()
// adds to an object (defaults) is visited too.
#include <boost/json.hpp>
#include <type_traits>

#include "api/field_error.hpp"
#include "api/schema.hpp"

namespace orchestra::api {

template <class Value, class Visitor>
void walk(SchemaRef schema, Value& value, const FieldPath& path, Visitor& visitor) {
  constexpr bool kMutable = !std::is_const_v<Value>;
  if (!visitor.enter(schema, value, path)) return;
  if (schema.kind() == SchemaKind::list && value.is_array()) {
    std::size_t index = 0;
    for (auto& item : value.get_array()) walk(schema.element(), item, path[index++], visitor);
    return;
  }
  if (schema.kind() == SchemaKind::map && value.is_object()) {
    for (auto& member : value.get_object())
      walk(schema.element(), member.value(), path.key(member.key()), visitor);
    return;
  }
  if (schema.kind() != SchemaKind::object || !value.is_object()) return;
  auto& object = value.get_object();
  for (auto member = object.begin(); member != object.end();) {
    const FieldPath below = path / member->key();
    const SchemaRef property = schema.property(member->key());
    bool remove = false;
    if (!property) {
      remove = !schema.has(SchemaNode::preserve_unknown) && visitor.unknown(below);
    } else {
      walk(property, member->value(), below, visitor);
      remove = visitor.absent(property, member->value());
    }
    if constexpr (kMutable) {
      if (remove) {
        member = object.stable_erase(member);
        continue;
      }
    }
    ++member;
  }
}

}  // namespace orchestra::api
