// One walk from a kind over all message types it uses; recursive ones end at the set of names seen.
#include "api/openapi_schema.hpp"

#include <algorithm>

#include "api/builtin_schemas.hpp"
#include "api/types.hpp"
#include "base/assert.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.";
constexpr const char* kQuantity = "io.k8s.apimachinery.pkg.api.resource.Quantity";
constexpr const char* kIntOrString = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
constexpr const char* kRawExtension = "io.k8s.apimachinery.pkg.runtime.RawExtension";

const char* list_type_word(ListKind kind) {
  switch (kind) {
    case ListKind::atomic:
      return "atomic";
    case ListKind::set:
      return "set";
    case ListKind::map:
      return "map";
    case ListKind::plain:
      break;
  }
  return nullptr;
}

const char* patch_word(PatchStrategy strategy) {
  switch (strategy) {
    case PatchStrategy::merge:
      return "merge";
    case PatchStrategy::replace:
      return "replace";
    case PatchStrategy::retain_keys:
      return "retainKeys";
    case PatchStrategy::merge_retain_keys:
      return "merge,retainKeys";
    case PatchStrategy::none:
      break;
  }
  return nullptr;
}

json::object one_of_string_and(const char* other) {
  json::array choices;
  choices.push_back(json::object{{"type", "string"}});
  choices.push_back(json::object{{"type", other}});
  return {{"oneOf", std::move(choices)}};
}

void add_extensions(SchemaRef schema, json::object& out) {
  if (const char* word = list_type_word(schema.list_kind())) out["x-kubernetes-list-type"] = word;
  if (!schema.keys().empty()) {
    json::array keys;
    for (const std::string_view key : split_words(schema.keys(), ',')) keys.emplace_back(json::string(key));
    out["x-kubernetes-list-map-keys"] = std::move(keys);
  }
  if (schema.has(SchemaNode::atomic)) out["x-kubernetes-map-type"] = "atomic";
  if (const char* word = patch_word(schema.patch())) out["x-kubernetes-patch-strategy"] = word;
  if (!schema.merge_key().empty()) out["x-kubernetes-patch-merge-key"] = json::string(schema.merge_key());
}

}  // namespace

std::string OpenApiSchemas::reference(std::string_view type_name) const {
  return (v3_ ? "#/components/schemas/" : "#/definitions/") + std::string(type_name);
}

void OpenApiSchemas::special(const char* name, json::object schema) {
  if (seen_.insert(name).second) done_.emplace(name, std::move(schema));
}

/// Version 3 cannot say more beside a $ref, so upstream wraps it in allOf; version 2 can.
json::object OpenApiSchemas::refer(std::string_view type_name) {
  json::object ref{{"$ref", reference(type_name)}};
  if (!v3_) return ref;
  json::array all;
  all.push_back(std::move(ref));
  return {{"allOf", std::move(all)}};
}

json::object OpenApiSchemas::type(SchemaRef schema) {
  switch (schema.kind()) {
    case SchemaKind::any:
    case SchemaKind::json_value:
      return {};
    case SchemaKind::string:
      return {{"type", "string"}};
    case SchemaKind::int32:
      return {{"type", "integer"}, {"format", "int32"}};
    case SchemaKind::int64:
      return {{"type", "integer"}, {"format", "int64"}};
    case SchemaKind::boolean:
      return {{"type", "boolean"}};
    case SchemaKind::number:
      return {{"type", "number"}, {"format", "double"}};
    case SchemaKind::bytes:
      return {{"type", "string"}, {"format", "byte"}};
    case SchemaKind::time:
    case SchemaKind::micro_time: {
      const std::string name = kMeta + std::string(schema.kind() == SchemaKind::time ? "Time" : "MicroTime");
      special(name.c_str(),
              {{"description", "A point in time, RFC 3339."}, {"type", "string"}, {"format", "date-time"}});
      return refer(name);
    }
    case SchemaKind::duration: {
      const std::string name = kMeta + std::string("Duration");
      special(name.c_str(), {{"description", "A duration such as 1h30m."}, {"type", "string"}});
      return refer(name);
    }
    case SchemaKind::quantity: {
      json::object plain{{"type", "string"}};
      json::object described = v3_ ? one_of_string_and("number") : std::move(plain);
      described["description"] = "An amount with an optional suffix: 500m, 1.5, 2Gi.";
      special(kQuantity, std::move(described));
      return refer(kQuantity);
    }
    case SchemaKind::int_or_string: {
      json::object plain{{"type", "string"}};
      json::object described = v3_ ? one_of_string_and("integer") : std::move(plain);
      described["format"] = "int-or-string";
      described["description"] = "A number, or text: the name of a port, or a percentage.";
      special(kIntOrString, std::move(described));
      return refer(kIntOrString);
    }
    case SchemaKind::raw_extension:
      special(kRawExtension, {{"description", "Any object."}, {"type", "object"}});
      return refer(kRawExtension);
    case SchemaKind::fields_v1: {
      const std::string name = kMeta + std::string("FieldsV1");
      special(name.c_str(), {{"description", "A set of fields as a tree."}, {"type", "object"}});
      return refer(name);
    }
    case SchemaKind::object:
      queue(schema);
      return refer(schema.type_name());
    case SchemaKind::map:
      return {{"type", "object"}, {"additionalProperties", type(schema.element())}};
    case SchemaKind::list:
      return {{"type", "array"}, {"items", type(schema.element())}};
  }
  return {};
}

json::object OpenApiSchemas::property(SchemaRef schema) {
  json::object out;
  if (!schema.description().empty()) out["description"] = json::string(schema.description());
  for (auto& member : type(schema)) out[member.key()] = std::move(member.value());
  if (!schema.default_json().empty()) {
    if (auto value = parse_json(schema.default_json())) out["default"] = std::move(*value);
  } else if (schema.kind() == SchemaKind::object && schema.has(SchemaNode::always)) {
    out["default"] = json::object();
  }
  if (!schema.enum_values().empty() && schema.kind() == SchemaKind::string) {
    // In the order of the alphabet, as published; the table has them in the order in which errors name them.
    std::vector<std::string_view> sorted = split_words(schema.enum_values(), '|');
    std::sort(sorted.begin(), sorted.end());
    json::array words;
    for (const std::string_view word : sorted) words.emplace_back(json::string(word));
    out["enum"] = std::move(words);
  }
  add_extensions(schema, out);
  return out;
}

json::object OpenApiSchemas::message(SchemaRef schema) {
  json::object out;
  if (!schema.type_description().empty()) out["description"] = json::string(schema.type_description());
  out["type"] = "object";
  json::array required;
  json::object properties;
  for (std::size_t i = 0; i < schema.size(); ++i) {
    const SchemaRef each = schema.at(i);
    if (each.has(SchemaNode::required)) required.emplace_back(json::string(each.name()));
    properties[each.name()] = property(each);
  }
  if (!required.empty()) out["required"] = std::move(required);
  if (!properties.empty()) out["properties"] = std::move(properties);
  if (schema.has(SchemaNode::atomic)) out["x-kubernetes-map-type"] = "atomic";
  return out;
}

namespace {
/// Version 2 has no words for these (apiextensions' ToStructuralOpenAPIV2); a nullable or free value says
/// nothing about its type there.
void simplify_for_v2(json::object& schema) {
  for (const char* word : {"oneOf", "anyOf", "allOf", "not", "x-kubernetes-validations"}) schema.erase(word);
  const auto flag = [&](const char* word) {
    const json::value* value = schema.if_contains(word);
    return value != nullptr && value->is_bool() && value->get_bool();
  };
  const bool free = flag("nullable") || flag("x-kubernetes-preserve-unknown-fields");
  if (free || flag("x-kubernetes-int-or-string")) {
    schema.erase("type");
    if (free) schema.erase("items");
    if (free) schema.erase("properties");
  }
  schema.erase("nullable");
  for (const char* word : {"items", "additionalProperties"}) {
    json::value* below = schema.if_contains(word);
    if (below != nullptr && below->is_object()) simplify_for_v2(below->get_object());
  }
  if (json::value* properties = schema.if_contains("properties"); properties && properties->is_object()) {
    for (auto& member : properties->get_object()) {
      if (member.value().is_object()) simplify_for_v2(member.value().get_object());
    }
  }
}
}  // namespace

/// The schema as its author wrote it, with the fields that every object has.
json::object OpenApiSchemas::custom(SchemaRef schema) {
  json::object out = *schema.rules();
  if (!v3_) simplify_for_v2(out);
  out["type"] = "object";
  json::value& found = out["properties"];
  if (!found.is_object()) found.emplace_object();
  json::object& properties = found.get_object();
  for (const char* name : {"apiVersion", "kind"}) {
    if (!properties.contains(name)) properties[name] = json::object{{"type", "string"}};
  }
  const std::string meta = std::string(kMeta) + "ObjectMeta";
  add_type(meta);
  properties["metadata"] = refer(meta);
  return out;
}

void OpenApiSchemas::queue(SchemaRef message) {
  if (seen_.insert(std::string(message.type_name())).second) pending_.push_back(message);
}

void OpenApiSchemas::drain() {
  while (!pending_.empty()) {
    const SchemaRef schema = pending_.back();
    pending_.pop_back();
    done_[std::string(schema.type_name())] = schema.rules() != nullptr ? custom(schema) : message(schema);
  }
}

void OpenApiSchemas::note_gvk(const std::string& type_name, const GroupVersionKind& gvk) {
  gvks_[type_name].push_back(
      json::object{{"group", gvk.group}, {"kind", gvk.kind}, {"version", gvk.version}});
}

void OpenApiSchemas::add_type(std::string_view type_name) {
  const SchemaRef schema = builtin_type(type_name);
  if (!schema) return;
  queue(schema);
  drain();
}

void OpenApiSchemas::add_kind(const TypeRecord& record, const TypeVersion& version) {
  const std::string name(version.schema.type_name());
  if (gvks_.count(name) != 0) return;
  queue(version.schema);
  note_gvk(name, record.gvk(version.name));
  if (record.allows("list")) {
    const std::string list = name + "List";
    add_type(std::string(kMeta) + "ListMeta");
    json::object items{{"type", "array"}, {"items", refer(name)}, {"description", "The objects."}};
    json::object meta = refer(std::string(kMeta) + "ListMeta");
    json::object text{{"type", "string"}};
    json::object properties{
        {"apiVersion", text}, {"items", std::move(items)}, {"kind", text}, {"metadata", std::move(meta)}};
    json::array required;
    required.emplace_back("items");
    special(list.c_str(), {{"description", "A list of " + record.kind + " objects."},
                           {"type", "object"},
                           {"required", std::move(required)},
                           {"properties", std::move(properties)}});
    note_gvk(list, {record.group, version.name, record.list_kind});
  }
  drain();
}

void OpenApiSchemas::add_body(const std::string& type_name, const GroupVersionKind& kind) {
  if (gvks_.count(type_name) != 0) return;
  add_type(type_name);
  note_gvk(type_name, kind);
}

// Options and watch frames are kinds of every group version; upstream lists those that its code knows, we
// those that are served.
void OpenApiSchemas::add_common() {
  add_body(std::string(kMeta) + "Status", {"", "v1", "Status"});
  for (const char* kind : {"DeleteOptions", "WatchEvent"}) {
    const std::string name = std::string(kMeta) + kind;
    if (gvks_.count(name) != 0) continue;
    add_type(name);
    for (const TypeRegistry::GroupVersion& each : TypeRegistry::builtin()->group_versions())
      note_gvk(name, {each.group, each.version, kind});
  }
}

void OpenApiSchemas::add_bodies(std::string_view group, std::string_view version) {
  for (const KindText& body : builtin_kinds()) {
    if (std::string_view(body.text).find("hidden\n") == std::string_view::npos) continue;
    if (std::string_view(body.type_name).starts_with(kMeta)) continue;  // of every group
    const auto [its_group, its_version] = split_api_version(body.group_version);
    if (!version.empty() && (its_group != group || its_version != version)) continue;
    const SchemaRef schema = builtin_type(body.type_name);
    ORC_ASSERT(schema);
    if (gvks_.count(body.type_name) != 0) continue;
    queue(schema);
    note_gvk(body.type_name, {std::string(its_group), std::string(its_version), body.kind});
    drain();
  }
}

json::object OpenApiSchemas::take() {
  json::object out;
  for (auto& [name, schema] : done_) {
    if (const auto gvks = gvks_.find(name); gvks != gvks_.end()) {
      schema["x-kubernetes-group-version-kind"] = std::move(gvks->second);
    }
    out[name] = std::move(schema);
  }
  done_.clear();
  return out;
}

}  // namespace orchestra::api
