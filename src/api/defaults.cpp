// Defaults: the constant ones of the schema, then what a hook computes, then the children.
//
// Upstream spreads this over pkg/apis/*/v1/defaults.go and generated code; the order there is the same (a
// parent before its children). Structs that Go always prints are made here too ({} for status, strategy,
// resources), and so are the zero values of fields without omitempty, since clients read them.
#include "api/schema_marks.hpp"
#include "api/type_hooks.hpp"
#include "api/walk.hpp"
#include "api/walker.hpp"
#include "base/assert.hpp"
#include "base/json.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::api {
namespace {

/// What Go prints for a field that is never omitted; null where that would be null.
json::value zero_value(SchemaRef schema) {
  switch (schema.kind()) {
    case SchemaKind::object:
      return json::object();
    case SchemaKind::string:
      return "";
    case SchemaKind::int32:
    case SchemaKind::int64:
      return std::int64_t{0};
    case SchemaKind::boolean:
      return false;
    case SchemaKind::quantity:
      return "0";
    default:
      return nullptr;
  }
}

json::value default_of(SchemaRef property) {
  if (const std::string_view text = property.default_json(); !text.empty()) {
    Result<json::value> parsed = parse_json(text);
    ORC_ASSERT_MSG(parsed.has_value(), "a default in a .types file is not JSON");
    return std::move(*parsed);
  }
  return property.has(SchemaNode::always) ? zero_value(property) : json::value(nullptr);
}

/// An empty string or zero is absence to upstream where the field has a default and is no pointer.
/// (Fields of custom schemas count as pointers: there both are values.)
bool counts_as_absent(SchemaRef property, const json::value& value) {
  if (property.has(SchemaNode::pointer) || property.default_json().empty()) return false;
  if (value.is_string()) return value.get_string().empty();
  return value.is_int64() && value.get_int64() == 0;
}

/// True where the default is what Go leaves out in print.
bool prints_nothing(SchemaRef property) {
  return property.default_json() == "0" && !property.has(SchemaNode::pointer) &&
         !property.has(SchemaNode::always);
}

/// Upstream rounds resource lists to thousandths, which also makes their text canonical.
void canonical_quantities(json::object& list) {
  for (auto& member : list) {
    if (!member.value().is_string()) continue;
    const Result<Quantity> parsed = Quantity::parse(std::string_view(member.value().get_string()));
    if (!parsed) continue;
    const Quantity rounded = Quantity::from_milli(parsed->milli_value(), parsed->format());
    member.value() = rounded < *parsed ? parsed->to_string() : rounded.to_string();
  }
}

struct DefaultVisitor {
  bool enter(SchemaRef schema, json::value& value, const FieldPath&) {
    if (!defaults_somewhere(schema)) return false;
    if (!value.is_object()) return true;
    json::object& object = value.get_object();
    if (schema.kind() == SchemaKind::map && schema.has(SchemaNode::canonical)) canonical_quantities(object);
    if (schema.kind() != SchemaKind::object) return true;
    for_each_marked(schema, Mark::defaulted, [&](SchemaRef property) {
      const json::value* found = object.if_contains(property.name());
      if (found != nullptr && !counts_as_absent(property, *found)) return;
      if (prints_nothing(property)) return;
      json::value value_or_null = default_of(property);
      if (!value_or_null.is_null()) object[property.name()] = std::move(value_or_null);
    });
    if (schema.hook() != TypeHook::none) run_default_hook(schema.hook(), object);
    return true;
  }
  bool unknown(const FieldPath&) { return false; }
  bool absent(SchemaRef, const json::value&) { return false; }
};

}  // namespace

json::value zero_value_of(SchemaRef schema) {
  if (schema.kind() != SchemaKind::object) return zero_value(schema);
  json::object object;
  for (std::size_t i = 0; i < schema.size(); ++i) {
    const SchemaRef property = schema.at(i);
    if (!property.has(SchemaNode::always)) continue;
    json::value value = zero_value_of(property);
    if (!value.is_null()) object[property.name()] = std::move(value);
  }
  return object;
}

void apply_defaults(SchemaRef schema, json::value& value, std::span<const std::string_view> settled) {
  DefaultVisitor visitor;
  walk(schema, value, FieldPath(), visitor, settled);
}

}  // namespace orchestra::api
