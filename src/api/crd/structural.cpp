// See structural.hpp. The rules of two files of upstream, in one walk: schema/validation.go (what makes a
// schema structural) and apis/apiextensions/validation/validation.go (what a definition may not use).
#include "api/crd/structural.hpp"

#include <re2/re2.h>

#include <algorithm>
#include <set>

#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kTypes[] = {"array", "boolean", "integer", "number", "object", "string"};

enum class Level : std::uint8_t { root, item, field };

/// Where a schema stands.
struct Place {
  Level level = Level::root;
  int depth = 0;
  bool in_meta = false;              ///< of an object: apiVersion, kind, metadata
  std::string_view no_default = {};  ///< why there is no default here; empty: there may be one
};

bool known_type(std::string_view type) {
  return std::any_of(std::begin(kTypes), std::end(kTypes), [&](const char* each) { return type == each; });
}

/// What Go's types leave out.
bool says_nothing(const json::value& value) {
  return value.is_null() || (value.is_bool() && !value.get_bool()) ||
         (value.is_string() && value.get_string().empty()) ||
         (value.is_array() && value.get_array().empty()) || (value.is_object() && value.get_object().empty());
}
bool says(const json::object& schema, std::string_view word) {
  const json::value* value = schema.if_contains(word);
  return value != nullptr && !says_nothing(*value);
}

/// `anyOf: [{type: integer}, {type: string}]`
bool is_int_or_string(const json::object& schema) {
  static const json::value kPattern = json::array{json::object{{"type", "integer"}}, {{"type", "string"}}};
  const json::value* any = schema.if_contains("anyOf");
  return any != nullptr && *any == kPattern;
}

// --- what no schema may use --------------------------------------------------------------------------------

void check_unsupported(const json::object& schema, const FieldPath& path, const Place& place,
                       FieldErrors& errors) {
  const std::string_view type = text_of(schema, "type");
  if (!type.empty() && !known_type(type))
    errors.not_supported(path / "type", json::string(type), {std::begin(kTypes), std::end(kTypes)});
  if (type == "null")
    errors.forbidden(path / "type", "type cannot be set to null, use nullable as an alternative");
  const json::value* preset = schema.if_contains("default");
  if (preset != nullptr && !preset->is_null() && !place.no_default.empty())
    errors.forbidden(path / "default", "must not be set " + std::string(place.no_default));
  for (const char* word : {"id", "$ref", "patternProperties", "definitions"}) {
    if (says(schema, word)) errors.forbidden(path / word, std::string(word) + " is not supported");
  }
  for (const char* word : {"additionalItems", "dependencies"}) {
    if (schema.contains(word)) errors.forbidden(path / word, std::string(word) + " is not supported");
  }
  if (const json::value* items = schema.if_contains("items"); items != nullptr && items->is_array())
    errors.forbidden(path / "items", "items must be a schema object and not an array");
  if (flag_of(schema, "uniqueItems")) {
    errors.forbidden(path / "uniqueItems",
                     "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
  }
  if (place.in_meta && flag_of(schema, "x-kubernetes-embedded-resource")) {
    errors.forbidden(path / "x-kubernetes-embedded-resource", "must not be used inside of resource meta");
  }
  const json::value* preserve = schema.if_contains("x-kubernetes-preserve-unknown-fields");
  if (preserve != nullptr && preserve->is_bool() && !preserve->get_bool()) {
    errors.invalid(path / "x-kubernetes-preserve-unknown-fields", *preserve, "must be true or undefined");
  }
  const json::value* more = schema.if_contains("additionalProperties");
  if (more != nullptr && more->is_bool() && !more->get_bool())
    errors.forbidden(path / "additionalProperties", "additionalProperties cannot be set to false");
  if (more != nullptr && more->is_object() && says(schema, "properties")) {
    errors.forbidden(path / "additionalProperties",
                     "additionalProperties and properties are mutual exclusive");
  }
  if (const std::string_view pattern = text_of(schema, "pattern"); !pattern.empty()) {
    const re2::RE2 compiled(re2::StringPiece(pattern.data(), pattern.size()), re2::RE2::Quiet);
    if (!compiled.ok()) {
      errors.invalid(path / "pattern", pattern,
                     "must be a valid regular expression, but isn't: " + compiled.error());
    }
  }
}

void must_be(const char* wanted, const std::string& because, std::string_view type, const FieldPath& path,
             FieldErrors& errors) {
  const std::string text = std::string("must be ") + wanted + " if " + because;
  if (type.empty()) {
    errors.required(path / "type", text);
  } else {
    errors.invalid(path / "type", type, text);
  }
}

// --- lists and maps ----------------------------------------------------------------------------------------

/// The keys by which the items of a list are told apart.
void check_map_keys(const json::object& schema, const json::object& item, const FieldPath& path,
                    FieldErrors& errors) {
  const json::array& keys = array_or_empty(schema, "x-kubernetes-list-map-keys");
  const FieldPath items = path / "items", at = path / "x-kubernetes-list-map-keys";
  const FieldPath properties = items / "properties";
  std::set<std::string_view> seen;
  for (const json::value& key : keys) {
    const std::string_view name = key.is_string() ? std::string_view(key.get_string()) : std::string_view();
    const json::object* property = object_of(object_or_empty(item, "properties"), name);
    if (!seen.insert(name).second)
      errors.invalid(at, json::value(keys), "must not contain duplicate entries");
    if (property == nullptr) {
      errors.invalid(at, json::value(keys), "entries must all be names of item properties");
      continue;
    }
    const FieldPath named = properties.key(name);
    const std::string_view type = text_of(*property, "type");
    if (type == "array" || type == "object") {
      errors.invalid(named / "type", type,
                     "must be a scalar type if parent array's x-kubernetes-list-type is map");
    }
    const json::array& required = array_or_empty(item, "required");
    if (std::find(required.begin(), required.end(), key) == required.end() &&
        !property->contains("default")) {
      errors.required(named / "default",
                      "this property is in x-kubernetes-list-map-keys, so it must have a default or be a "
                      "required property");
    }
    if (flag_of(*property, "nullable")) {
      errors.forbidden(named / "nullable",
                       "this property is in x-kubernetes-list-map-keys, so it cannot be nullable");
    }
  }
}

void check_list_type(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  const std::string_view type = text_of(schema, "type"), kind = text_of(schema, "x-kubernetes-list-type");
  const bool given = schema.contains("x-kubernetes-list-type"),
             keys = says(schema, "x-kubernetes-list-map-keys");
  const FieldPath at = path / "x-kubernetes-list-type", items = path / "items";
  const json::object* item = object_of(schema, "items");
  if (given && type != "array") must_be("array", "x-kubernetes-list-type is specified", type, path, errors);
  if (given && type == "array" && kind == "set" && item != nullptr) {
    constexpr const char* kText = "must be atomic as item of a list with x-kubernetes-list-type=set";
    const std::string_view of_item = text_of(*item, "type"), list = text_of(*item, "x-kubernetes-list-type"),
                           map = text_of(*item, "x-kubernetes-map-type");
    if (of_item == "array" && item->contains("x-kubernetes-list-type") && list != "atomic")
      errors.invalid(items / "x-kubernetes-list-type", list, kText);
    if (of_item == "object" && map != "atomic") errors.invalid(items / "x-kubernetes-map-type", map, kText);
  }
  if (given && kind != "atomic" && kind != "set" && kind != "map")
    errors.not_supported(at, json::string(kind), {"atomic", "set", "map"});
  if (keys && !given) errors.required(at, "must be map if x-kubernetes-list-map-keys is non-empty");
  if (keys && given && kind != "map")
    errors.invalid(at, kind, "must be map if x-kubernetes-list-map-keys is non-empty");
  if ((kind == "map" || kind == "set") && item != nullptr && flag_of(*item, "nullable")) {
    errors.forbidden(items / "nullable",
                     "cannot be nullable when x-kubernetes-list-type is " + std::string(kind));
  }
  if (kind != "map") return;
  if (!keys) {
    errors.required(path / "x-kubernetes-list-map-keys",
                    "must not be empty if x-kubernetes-list-type is map");
  }
  if (item == nullptr) return errors.required(items, "must have a schema if x-kubernetes-list-type is map");
  if (text_of(*item, "type") != "object") {
    return errors.invalid(items / "type", text_of(*item, "type"),
                          "must be object if parent array's x-kubernetes-list-type is map");
  }
  check_map_keys(schema, *item, path, errors);
}

void check_map_type(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  if (!schema.contains("x-kubernetes-map-type")) return;
  const std::string_view type = text_of(schema, "type"), kind = text_of(schema, "x-kubernetes-map-type");
  if (type != "object") must_be("object", "x-kubernetes-map-type is specified", type, path, errors);
  if (kind != "atomic" && kind != "granular")
    errors.not_supported(path / "x-kubernetes-map-type", json::string(kind), {"atomic", "granular"});
}

// --- logical parts: allOf, anyOf, oneOf, not ---------------------------------------------------------------

void check_part(const json::object& part, bool skip_any, const FieldPath& path, int depth,
                FieldErrors& errors);

/// `skip_any`: the anyOf here says "integer or string", which is a type.
void check_parts(const json::object& schema, bool skip_any, bool skip_first, const FieldPath& path, int depth,
                 FieldErrors& errors) {
  for (const char* word : {"anyOf", "allOf", "oneOf"}) {
    if (skip_any && std::string_view(word) == "anyOf") continue;
    const FieldPath list = path / word;
    const bool first = skip_first && std::string_view(word) == "allOf";
    for_each_object(schema, word, [&](std::size_t index, const json::object& part) {
      check_part(part, first && index == 0, list[index], depth + 1, errors);
    });
  }
  if (const json::object* part = object_of(schema, "not"))
    check_part(*part, false, path / "not", depth + 1, errors);
}

void check_part(const json::object& part, bool skip_any, const FieldPath& path, int depth,
                FieldErrors& errors) {
  if (depth > kSchemaDepthMax) return errors.too_many(path, static_cast<std::size_t>(depth), kSchemaDepthMax);
  constexpr std::pair<const char*, const char*> kWords[] = {{"type", "empty"},
                                                            {"additionalProperties", "undefined"},
                                                            {"default", "undefined"},
                                                            {"title", "empty"},
                                                            {"description", "empty"},
                                                            {"nullable", "false"},
                                                            {"x-kubernetes-preserve-unknown-fields", "false"},
                                                            {"x-kubernetes-embedded-resource", "false"},
                                                            {"x-kubernetes-int-or-string", "false"},
                                                            {"x-kubernetes-list-map-keys", "empty"},
                                                            {"x-kubernetes-list-type", "undefined"},
                                                            {"x-kubernetes-map-type", "undefined"},
                                                            {"x-kubernetes-validations", "empty"}};
  for (const auto& [word, state] : kWords) {
    if (says(part, word))
      errors.forbidden(path / word, std::string("must be ") + state + " to be structural");
  }
  check_unsupported(part, path, {Level::field, depth}, errors);
  const FieldPath properties = path / "properties";
  for (const auto& [name, below] : object_or_empty(part, "properties")) {
    const FieldPath at = properties.key(name);
    if (std::string_view(name) == "metadata")
      errors.forbidden(at, "must not be specified in a nested context");
    if (below.is_object()) check_part(below.get_object(), false, at, depth + 1, errors);
  }
  if (const json::object* items = object_of(part, "items"))
    check_part(*items, false, path / "items", depth + 1, errors);
  check_parts(part, skip_any, false, path, depth, errors);
}

/// Whatever a part restricts is said outside of it: `outside` is the schema there, null where there is none.
void complete_part(const json::object& part, const json::object* outside, const FieldPath& at,
                   const FieldPath& path, FieldErrors& errors);

void complete_parts(const json::object& schema, const json::object* outside, const FieldPath& at,
                    const FieldPath& path, FieldErrors& errors) {
  if (const json::object* part = object_of(schema, "not"))
    complete_part(*part, outside, at, path / "not", errors);
  for (const char* word : {"allOf", "anyOf", "oneOf"}) {
    const FieldPath list = path / word;
    for_each_object(schema, word, [&](std::size_t index, const json::object& part) {
      complete_part(part, outside, at, list[index], errors);
    });
  }
}

void complete_part(const json::object& part, const json::object* outside, const FieldPath& at,
                   const FieldPath& path, FieldErrors& errors) {
  if (outside == nullptr) return errors.required(at, "because it is defined in " + path.to_string());
  complete_parts(part, outside, at, path, errors);
  if (const json::object* items = object_of(part, "items"))
    complete_part(*items, object_of(*outside, "items"), at / "items", path / "items", errors);
  const FieldPath properties = path / "properties", there = at / "properties";
  for (const auto& [name, below] : object_or_empty(part, "properties")) {
    if (below.is_object())
      complete_part(below.get_object(), object_of(object_or_empty(*outside, "properties"), name),
                    there.key(name), properties.key(name), errors);
  }
}

// --- the schema itself -------------------------------------------------------------------------------------

void check_type(const json::object& schema, const FieldPath& path, const Place& place, FieldErrors& errors) {
  const std::string_view type = text_of(schema, "type");
  const bool either = flag_of(schema, "x-kubernetes-int-or-string");
  const bool preserve = flag_of(schema, "x-kubernetes-preserve-unknown-fields");
  const bool embedded = flag_of(schema, "x-kubernetes-embedded-resource");
  if (either && preserve) {
    errors.invalid(path / "x-kubernetes-preserve-unknown-fields", json::value(true),
                   "must be false if x-kubernetes-int-or-string is true");
  }
  if (either && embedded) {
    errors.invalid(path / "x-kubernetes-embedded-resource", json::value(true),
                   "must be false if x-kubernetes-int-or-string is true");
  }
  // Upstream finds this when it builds the structural schema, and says so in other words.
  if (either && !type.empty())
    errors.invalid(path / "type", type, "must be empty if x-kubernetes-int-or-string is true");
  if (embedded && type != "object") {
    must_be("object", "x-kubernetes-embedded-resource is true", type, path, errors);
  } else if (type.empty() && !either && !preserve) {
    errors.required(path / "type", place.level == Level::root ? "must not be empty at the root"
                                   : place.level == Level::item
                                       ? "must not be empty for specified array items"
                                       : "must not be empty for specified object fields");
  }
  if (place.level == Level::root && known_type(type) && type != "object")
    errors.invalid(path / "type", type, "must be object at the root");
  if (type == "array" && !schema.contains("items")) errors.required(path / "items", "must be specified");
  if (!schema.contains("additionalProperties")) return;
  if (place.level == Level::root)
    errors.forbidden(path / "additionalProperties", "must not be used at the root");
  if (embedded) {
    errors.forbidden(path / "additionalProperties",
                     "must not be used if x-kubernetes-embedded-resource is set");
  }
}

/// metadata is the server's: a definition may restrict the names.
bool is_plain_metadata(const json::object& schema) {
  for (const auto& [word, value] : schema) {
    if (word == "type" || word == "default" || says_nothing(value)) continue;
    if (word != "properties" || !value.is_object()) return false;
    for (const auto& [name, below] : value.get_object()) {
      if (name != "name" && name != "generateName") return false;
    }
  }
  return true;
}

void check_resource(const json::object& schema, const FieldPath& path, const Place& place,
                    FieldErrors& errors) {
  const bool embedded = flag_of(schema, "x-kubernetes-embedded-resource");
  if (place.level != Level::root && !embedded) return;
  const json::object& known = object_or_empty(schema, "properties");
  const FieldPath properties = path / "properties";
  for (const auto& [name, wanted] :
       {std::pair{"kind", "string"}, {"apiVersion", "string"}, {"metadata", "object"}}) {
    const json::object* property = object_of(known, name);
    const FieldPath at = properties.key(name);
    if (property != nullptr && text_of(*property, "type") != wanted)
      errors.invalid(at / "type", text_of(*property, "type"), std::string("must be ") + wanted);
  }
  const json::object* metadata = object_of(known, "metadata");
  if (place.level == Level::root && metadata != nullptr && !is_plain_metadata(*metadata)) {
    errors.forbidden(
        properties.key("metadata"),
        "must not specify anything other than name and generateName, but metadata is implicitly specified");
  }
  if (embedded && known.empty() && !flag_of(schema, "x-kubernetes-preserve-unknown-fields")) {
    errors.required(properties,
                    "must not be empty if x-kubernetes-embedded-resource is true without "
                    "x-kubernetes-preserve-unknown-fields");
  }
}

void check(const json::object& schema, const FieldPath& path, const Place& place, FieldErrors& errors) {
  if (place.depth > kSchemaDepthMax)
    return errors.too_many(path, static_cast<std::size_t>(place.depth), kSchemaDepthMax);
  check_unsupported(schema, path, place, errors);
  check_type(schema, path, place, errors);
  check_resource(schema, path, place, errors);
  check_list_type(schema, path, errors);
  check_map_type(schema, path, errors);
  const bool root = place.level == Level::root;
  const bool resource = root || flag_of(schema, "x-kubernetes-embedded-resource");
  Place below = place;
  ++below.depth;
  const FieldPath properties = path / "properties";
  for (const auto& [name, property] : object_or_empty(schema, "properties")) {
    if (!property.is_object()) continue;
    Place here = below;
    here.level = Level::field;
    const bool meta = name == "metadata" || name == "kind" || name == "apiVersion";
    const std::string reason = "in top-level " + std::string(name);
    if (resource && meta) here.in_meta = true;
    if (root && meta) here.no_default = reason;
    check(property.get_object(), properties.key(name), here, errors);
  }
  if (const json::object* more = object_of(schema, "additionalProperties")) {
    Place here = below;
    here.level = Level::field;
    if (place.in_meta) here.no_default = "inside additionalProperties applying to object metadata";
    check(*more, path / "additionalProperties", here, errors);
  }
  if (const json::object* items = object_of(schema, "items")) {
    Place here = below;
    here.level = Level::item;
    check(*items, path / "items", here, errors);
  }
  const json::array& all = array_or_empty(schema, "allOf");
  const bool first = !all.empty() && all[0].is_object() && is_int_or_string(all[0].get_object());
  check_parts(schema, is_int_or_string(schema), first, path, place.depth, errors);
}

/// Each logical part against the schema around it, at every level.
void complete(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  complete_parts(schema, &schema, path, path, errors);
  const FieldPath properties = path / "properties";
  for (const auto& [name, below] : object_or_empty(schema, "properties")) {
    if (below.is_object()) complete(below.get_object(), properties.key(name), errors);
  }
  if (const json::object* more = object_of(schema, "additionalProperties"))
    complete(*more, path / "additionalProperties", errors);
  if (const json::object* items = object_of(schema, "items")) complete(*items, path / "items", errors);
}

/// Depth of the whole, logical parts included: what passed is walked without looking at depth again.
bool too_deep(const FieldErrors& errors, std::size_t from) {
  return std::any_of(errors.begin() + static_cast<std::ptrdiff_t>(from), errors.end(),
                     [](const FieldError& error) { return error.type == FieldErrorType::too_many; });
}

}  // namespace

void check_structural(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  const std::size_t before = errors.size();
  check(schema, path, {}, errors);
  if (!too_deep(errors, before)) complete(schema, path, errors);
}

}  // namespace orchestra::api
