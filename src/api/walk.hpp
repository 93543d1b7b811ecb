#pragma once
// The recursion over (schema, value) that every visitor shares.
//
// A visitor has:
//   bool enter(SchemaRef, Value&, const FieldPath&)   before the children; false: do not go below
//   bool unknown(const FieldPath&)                    a member without a property; true: remove it
//   bool absent(SchemaRef, const Value&)              after a member was walked; true: remove it
// and may have, to follow a second value beside the first one:
//   void member(std::string_view name), void item(SchemaRef list, const Value&)   before a child
//   void leave()                                                                  after it
// Value is json::value or const json::value. Members are visited in their order in the value, so what enter()
// adds to an object (defaults) is visited too.
#include <algorithm>
#include <boost/json.hpp>
#include <span>
#include <type_traits>

#include "api/field_error.hpp"
#include "api/schema.hpp"

namespace orchestra::api {

template <class Visitor>
concept FollowsChildren = requires(Visitor visitor) {
  visitor.member(std::string_view());
  visitor.leave();
};

/// `besides`: members of this object that are neither looked at nor removed.
template <class Value, class Visitor>
void walk(SchemaRef schema, Value& value, const FieldPath& path, Visitor& visitor,
          std::span<const std::string_view> besides = {}) {
  constexpr bool kMutable = !std::is_const_v<Value>;
  if (!visitor.enter(schema, value, path)) return;
  if (schema.kind() == SchemaKind::list && value.is_array()) {
    std::size_t index = 0;
    for (auto& item : value.get_array()) {
      if constexpr (FollowsChildren<Visitor>) visitor.item(schema, item);
      walk(schema.element(), item, path[index++], visitor);
      if constexpr (FollowsChildren<Visitor>) visitor.leave();
    }
    return;
  }
  if (schema.kind() == SchemaKind::map && value.is_object()) {
    for (auto& member : value.get_object()) {
      if constexpr (FollowsChildren<Visitor>) visitor.member(member.key());
      walk(schema.element(), member.value(), path.key(member.key()), visitor);
      if constexpr (FollowsChildren<Visitor>) visitor.leave();
    }
    return;
  }
  if (schema.kind() != SchemaKind::object || !value.is_object()) return;
  auto& object = value.get_object();
  for (auto member = object.begin(); member != object.end();) {
    if (!besides.empty() &&
        std::find(besides.begin(), besides.end(), std::string_view(member->key())) != besides.end()) {
      ++member;
      continue;
    }
    const FieldPath below = path / member->key();
    const SchemaRef property = schema.property(member->key());
    bool remove = false;
    if (!property) {
      remove = !schema.has(SchemaNode::preserve_unknown) && visitor.unknown(below);
    } else {
      if constexpr (FollowsChildren<Visitor>) visitor.member(member->key());
      walk(property, member->value(), below, visitor);
      if constexpr (FollowsChildren<Visitor>) visitor.leave();
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
