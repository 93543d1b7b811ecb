#pragma once
// Schemas as a flat array of nodes.
//
// Problem: some 600 API types with 3,700 fields must cost little memory, no start-up time, and be readable
// by one walker for every purpose (prune, default, validate, patch, protobuf, OpenAPI).
// Idea: every property, list element and map value is one SchemaNode; the properties of one message lie side
// by side; a type that is used in many places (PodSpec) exists once and is reached by index, so recursive
// types are no special case. Strings are offsets into one pool. The builtin pool is generated at build time
// from src/api/types/*.types; a CustomResourceDefinition builds a pool of its own at run time.
// A SchemaRef is a cursor: a pool and an index, 16 bytes, passed by value.
#include <boost/json/fwd.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/error.hpp"

namespace orchestra::api {

enum class SchemaKind : std::uint8_t {
  any,  ///< no type is known: everything below is kept (x-kubernetes-preserve-unknown-fields)
  string,
  int32,
  int64,
  boolean,
  number,  ///< double
  bytes,   ///< base64 in JSON, raw in protobuf
  time,    ///< RFC 3339, whole seconds
  micro_time,
  duration,  ///< Go duration as a string
  quantity,  ///< string; a JSON number is accepted and kept as text
  int_or_string,
  raw_extension,  ///< any object
  fields_v1,
  json_value,  ///< JSONSchemaProps' JSON: any value
  object,
  map,
  list,
};
enum class ListKind : std::uint8_t { plain, atomic, set, map };
enum class PatchStrategy : std::uint8_t { none, merge, replace, retain_keys, merge_retain_keys };

/// Named places where code of ours adds what a table cannot say: computed defaults and cross-field
/// validation of one message type, wherever it occurs. Generated from `hook=NAME` of a type line.
enum class TypeHook : std::uint8_t;

struct SchemaNode {
  enum Flag : std::uint16_t {
    required = 1,
    omit_empty = 2,  ///< Go drops the zero value
    pointer = 4,     ///< Go tells absent from zero
    always = 8,      ///< Go always prints the zero value ({} for structs)
    immutable = 16,
    atomic = 32,     ///< map or struct: one owner for the whole (SSA)
    nullable = 64,   ///< CRDs: null is a value
    embedded = 128,  ///< x-kubernetes-embedded-resource
    preserve_unknown = 256,
    union_member = 512,
    non_empty = 2048,  ///< validation: absent or empty is "Required value"
    judged = 8192,     ///< the words of an enum are for readers: a hook refuses others, in words of its own
    custom = 4096,  ///< of a CustomResourceDefinition: wrong types are validation errors, empty values stay
    canonical = 1024,  ///< map of quantities that upstream rounds to thousandths and prints canonically
  };
  SchemaKind kind = SchemaKind::any;
  ListKind list_kind = ListKind::plain;
  PatchStrategy patch = PatchStrategy::none;
  std::uint8_t hook = 0;  ///< TypeHook of an object node
  std::uint16_t flags = 0;
  std::uint16_t number = 0;  ///< protobuf field number, 0 = none
  std::uint16_t count = 0;  ///< object: number of properties; list: 1 + place of the merge key in its element
  std::uint16_t type_name = 0;     ///< index into SchemaPool::type_names; 0 = anonymous
  std::uint32_t first = 0;         ///< object: index of the first property; list, map: index of the element
  std::uint32_t name = 0;          ///< JSON name of a property
  std::uint32_t default_json = 0;  ///< 0 = none
  std::uint32_t words = 0;         ///< keys of a list that is a map, "a,b"; of others an enum, "A|B|C"
  std::uint32_t description = 0;
};
static_assert(sizeof(SchemaNode) == 32);

/// Offset 0 of the strings is the empty string. All views live as long as the pool.
struct SchemaPool {
  std::span<const SchemaNode> nodes;
  const char* strings = "";
  std::span<const std::uint32_t> type_names;  ///< string offsets: "io.k8s.api.core.v1.PodSpec"; [0] = ""
  std::span<const std::uint32_t> type_descriptions;
  /// Custom pools: the OpenAPI schema of each node, for what nodes cannot say; null where there is none.
  std::span<const boost::json::object* const> rules = {};
  bool has_expressions = false;  ///< some node has x-kubernetes-validations
};

class SchemaRef {
 public:
  SchemaRef() = default;
  SchemaRef(const SchemaPool* pool, std::uint32_t index) : pool_(pool), index_(index) {}
  explicit operator bool() const { return pool_ != nullptr; }

  SchemaKind kind() const { return node().kind; }
  std::string_view name() const { return text(node().name); }
  /// "io.k8s.api.core.v1.PodSpec"; empty for an anonymous one.
  std::string_view type_name() const {
    return node().type_name == 0 ? std::string_view() : text(pool_->type_names[node().type_name]);
  }
  std::string_view description() const { return text(node().description); }
  std::string_view type_description() const {
    return node().type_name == 0 ? std::string_view() : text(pool_->type_descriptions[node().type_name]);
  }
  std::string_view default_json() const { return text(node().default_json); }
  std::string_view enum_values() const { return has_keys() ? std::string_view() : text(node().words); }
  std::string_view keys() const { return has_keys() ? text(node().words) : std::string_view(); }
  /// Of strategic merge.
  std::string_view merge_key() const {
    if (kind() != SchemaKind::list || node().count == 0) return {};
    return element().at(node().count - std::size_t{1}).name();
  }
  ListKind list_kind() const { return node().list_kind; }
  PatchStrategy patch() const { return node().patch; }
  TypeHook hook() const { return static_cast<TypeHook>(node().hook); }
  std::uint16_t number() const { return node().number; }
  bool has(SchemaNode::Flag flag) const { return (node().flags & flag) != 0; }

  /// Object: how many properties, and the i-th. List and map: the element.
  std::size_t size() const { return kind() == SchemaKind::object ? node().count : 0; }
  SchemaRef at(std::size_t i) const { return {pool_, node().first + static_cast<std::uint32_t>(i)}; }
  SchemaRef element() const { return {pool_, node().first}; }
  /// The property with this JSON name, or an empty ref.
  SchemaRef property(std::string_view json_name) const;
  /// The property with this protobuf number, or an empty ref.
  SchemaRef property(std::uint16_t number) const;

  const SchemaNode& node() const { return pool_->nodes[index_]; }
  /// The OpenAPI schema that this node was made from; null for builtin ones.
  const boost::json::object* rules() const {
    return index_ < pool_->rules.size() ? pool_->rules[index_] : nullptr;
  }
  const SchemaPool* pool() const { return pool_; }
  std::uint32_t index() const { return index_; }
  friend bool operator==(SchemaRef a, SchemaRef b) { return a.pool_ == b.pool_ && a.index_ == b.index_; }

 private:
  bool has_keys() const { return kind() == SchemaKind::list && list_kind() == ListKind::map; }
  std::string_view text(std::uint32_t offset) const { return pool_->strings + offset; }
  const SchemaPool* pool_ = nullptr;
  std::uint32_t index_ = 0;
};

/// The generated pool of all builtin types.
ORC_API const SchemaPool& builtin_schemas();
/// An object node by type name ("io.k8s.api.core.v1.PodSpec"), or an empty ref.
ORC_API SchemaRef builtin_type(std::string_view type_name);
/// Splits "a,b" or "A|B".
ORC_API std::vector<std::string_view> split_words(std::string_view text, char separator);

}  // namespace orchestra::api
