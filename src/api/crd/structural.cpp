// See structural.hpp.
#include "api/crd/structural.hpp"

#include <re2/re2.h>

#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kTypes[] = {"array", "boolean", "integer", "number", "object", "string"};

bool known_type(std::string_view type) {
  return std::any_of(std::begin(kTypes), std::end(kTypes), [&](const char* each) { return type == each; });
}

/// Inside allOf, anyOf, oneOf, not: only what restricts values.
void check_logical(const json::object& schema, const json::object& outside, const FieldPath& path,
                   FieldErrors& errors, int depth);

void check_logicals(const json::object& schema, const json::object& outside, const FieldPath& path,
                    FieldErrors& errors, int depth) {
  for (const char* word : {"allOf", "anyOf", "oneOf"}) {
    const FieldPath list = path / word;
    for_each_object(schema, word, [&](std::size_t index, const json::object& part) {
      check_logical(part, outside, list[index], errors, depth + 1);
    });
  }
  if (const json::object* part = object_of(schema, "not"))
    check_logical(*part, outside, path / "not", errors, depth + 1);
}

void check_logical(const json::object& schema, const json::object& outside, const FieldPath& path,
                   FieldErrors& errors, int depth) {
  if (depth > kSchemaDepthMax) return errors.too_many(path, static_cast<std::size_t>(depth), kSchemaDepthMax);
  const bool int_or_string = flag_of(outside, "x-kubernetes-int-or-string");
  for (const char* word :
       {"type", "default", "description", "title", "nullable", "additionalProperties",
        "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type", "x-kubernetes-validations"}) {
    const json::value* value = schema.if_contains(word);
    if (value == nullptr || (value->is_bool() && !value->get_bool())) continue;
    if (int_or_string && std::string_view(word) == "type") continue;
    errors.forbidden(path / word, "must be empty to be structural");
  }
  const FieldPath properties = path / "properties";
  const json::object& known = object_or_empty(outside, "properties");
  for (const auto& [name, below] : object_or_empty(schema, "properties")) {
    if (!below.is_object()) continue;
    if (!known.contains(name) && !outside.contains("additionalProperties") &&
        !flag_of(outside, "x-kubernetes-preserve-unknown-fields")) {
      errors.required(properties.key(name), "because it is defined in " + properties.key(name).to_string());
      continue;
    }
    check_logical(below.get_object(), object_or_empty(known, name), properties.key(name), errors, depth + 1);
  }
  if (const json::object* items = object_of(schema, "items"))
    check_logical(*items, object_or_empty(outside, "items"), path / "items", errors, depth + 1);
  check_logicals(schema, outside, path, errors, depth);
}

void check_list(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  const std::string_view kind = text_of(schema, "x-kubernetes-list-type");
  const json::array& keys = array_or_empty(schema, "x-kubernetes-list-map-keys");
  if (!kind.empty() && kind != "atomic" && kind != "set" && kind != "map") {
    errors.not_supported(path / "x-kubernetes-list-type", json::string(kind), {"atomic", "map", "set"});
  }
  if (kind == "map" && keys.empty()) {
    errors.required(path / "x-kubernetes-list-map-keys",
                    "must not be empty if x-kubernetes-list-type is map");
  }
  if (kind != "map" && !keys.empty()) {
    errors.invalid(path / "x-kubernetes-list-type", kind,
                   "must be map if x-kubernetes-list-map-keys is non-empty");
  }
  const json::value* items = schema.if_contains("items");
  if (items == nullptr) return errors.required(path / "items", "must be specified");
  if (items->is_array())
    return errors.forbidden(path / "items", "items must be a schema object and not an array");
  const json::object& item = object_or_empty(schema, "items");
  for (const json::value& key : keys) {
    const std::string_view name = key.is_string() ? std::string_view(key.get_string()) : std::string_view();
    const json::object& property = object_or_empty(object_or_empty(item, "properties"), name);
    if (property.empty()) {
      errors.invalid(path / "x-kubernetes-list-map-keys", json::value(keys),
                     "entries must all be names of item properties");
      continue;
    }
    bool required = property.contains("default");
    for (const json::value& word : array_or_empty(item, "required")) required = required || word == key;
    if (!required) {
      const FieldPath inner = path / "items";
      const FieldPath at = inner / "properties";
      const FieldPath named = at.key(name);
      errors.required(named / "default",
                      "this property is in x-kubernetes-list-map-keys, so it must have a default or be a "
                      "required property");
    }
  }
}

void check_metadata(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  if (const std::string_view type = text_of(schema, "type"); !type.empty() && type != "object")
    errors.invalid(path / "type", type, "must be object");
  const FieldPath properties = path / "properties";
  for (const auto& [name, below] : object_or_empty(schema, "properties")) {
    if (name != "name" && name != "generateName") {
      errors.forbidden(
          properties,
          "must not specify anything other than name and generateName, but metadata is implicitly specified");
      return;
    }
    const std::string_view type =
        below.is_object() ? text_of(below.get_object(), "type") : std::string_view();
    const FieldPath at = properties.key(name);
    if (type != "string") errors.invalid(at / "type", type, "must be string");
  }
}

void check(const json::object& schema, const FieldPath& path, FieldErrors& errors, bool root, int depth) {
  if (depth > kSchemaDepthMax) return errors.too_many(path, static_cast<std::size_t>(depth), kSchemaDepthMax);
  const std::string_view type = text_of(schema, "type");
  const bool int_or_string = flag_of(schema, "x-kubernetes-int-or-string");
  const bool preserve = flag_of(schema, "x-kubernetes-preserve-unknown-fields");
  if (!text_of(schema, "$ref").empty()) errors.forbidden(path / "$ref", "$ref is not supported");
  if (flag_of(schema, "uniqueItems")) {
    errors.forbidden(path / "uniqueItems",
                     "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
  }
  if (type.empty()) {
    if (root) {
      errors.required(path / "type", "must not be empty at the root");
    } else if (!int_or_string && !preserve) {
      errors.required(path / "type", depth > 0 ? "must not be empty for specified object fields" : "");
    }
  } else if (!known_type(type)) {
    errors.not_supported(path / "type", json::string(type), {std::begin(kTypes), std::end(kTypes)});
  } else if (root && type != "object") {
    errors.invalid(path / "type", type, "must be object at the root");
  }
  if (int_or_string && !type.empty())
    errors.invalid(path / "type", type, "must be empty if x-kubernetes-int-or-string is true");
  if (flag_of(schema, "x-kubernetes-embedded-resource") && type != "object") {
    errors.invalid(path / "type", type, "must be object if x-kubernetes-embedded-resource is true");
  }
  if (const std::string_view pattern = text_of(schema, "pattern"); !pattern.empty()) {
    const re2::RE2 compiled(re2::StringPiece(pattern.data(), pattern.size()), re2::RE2::Quiet);
    if (!compiled.ok()) {
      errors.invalid(path / "pattern", pattern,
                     "must be a valid regular expression, but isn't: " + compiled.error());
    }
  }
  const json::value* more = schema.if_contains("additionalProperties");
  if (more != nullptr && more->is_bool() && !more->get_bool())
    errors.forbidden(path / "additionalProperties", "additionalProperties cannot be set to false");
  if (more != nullptr && !object_or_empty(schema, "properties").empty())
    errors.forbidden(path / "additionalProperties",
                     "additionalProperties and properties are mutual exclusive");
  if (type == "array") check_list(schema, path, errors);
  const FieldPath properties = path / "properties";
  for (const auto& [name, below] : object_or_empty(schema, "properties")) {
    // metadata is the server's: only its names may be restricted.
    if (root && std::string_view(name) == "metadata") {
      if (below.is_object()) check_metadata(below.get_object(), properties.key(name), errors);
      continue;
    }
    if (below.is_object()) check(below.get_object(), properties.key(name), errors, false, depth + 1);
  }
  if (more != nullptr && more->is_object())
    check(more->get_object(), path / "additionalProperties", errors, false, depth + 1);
  if (const json::object* items = object_of(schema, "items"))
    check(*items, path / "items", errors, false, depth + 1);
  check_logicals(schema, schema, path, errors, depth);
}

}  // namespace

void check_structural(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  check(schema, path, errors, true, 0);
}

}  // namespace orchestra::api
