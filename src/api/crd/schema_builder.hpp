#pragma once
// A structural OpenAPI schema of a CustomResourceDefinition as the same flat nodes that builtin types have.
//
// Custom nodes carry SchemaNode::custom: wrong types are validation errors, not decoding errors, and empty
// values stay. What nodes cannot say (minimum, pattern, anyOf) is read from the schema's own JSON, which the
// pool keeps beside each node. metadata is a copy of the builtin ObjectMeta.
#include <memory>

#include <boost/json.hpp>
#include "api/schema.hpp"

namespace orchestra::api {
namespace json = boost::json;

/// Owns all that its pool refers to; the root is node 1.
struct CustomSchema {
  json::value document;  ///< the openAPIV3Schema; nodes point into it
  std::vector<SchemaNode> nodes;
  std::string strings;
  std::vector<std::uint32_t> type_names, type_descriptions;
  std::vector<const json::object*> rules;
  bool has_defaults = false;
  bool has_expressions = false;
  SchemaPool pool;
  SchemaRef root() const { return {&pool, 1}; }
};

/// `schema` must have passed check_structural. `type_name` is what OpenAPI calls it: "com.example.v1.Widget".
std::shared_ptr<const CustomSchema> build_schema(const json::value& schema, const std::string& type_name);

}  // namespace orchestra::api
