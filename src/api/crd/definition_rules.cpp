// What is wrong with a CustomResourceDefinition: apiextensions/validation/validation.go.
#include <algorithm>
#include <set>

#include "api/crd/definition.hpp"
#include "api/crd/expressions.hpp"
#include "api/crd/schema_builder.hpp"
#include "api/crd/structural.hpp"
#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/walker.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

const json::object& spec_of(const json::object& object) { return object_or_empty(object, "spec"); }

constexpr std::size_t kSelectableMax = 8;
constexpr std::size_t kDeprecationBytesMax = 256;

void check_words(const json::object& names, const char* list, const FieldPath& path, FieldErrors& errors) {
  const FieldPath at = path / list;
  std::size_t index = 0;
  for (const json::value& word : array_or_empty(names, list)) {
    const FieldPath item = at[index++];
    if (!word.is_string()) continue;
    if (const std::string wrong = check_dns1035_label(word.get_string()); !wrong.empty())
      errors.invalid(item, std::string_view(word.get_string()), wrong);
  }
}

void check_names(const json::object& names, const FieldPath& path, FieldErrors& errors) {
  for (const char* field : {"plural", "singular", "kind", "listKind"}) {
    const std::string_view text = text_of(names, field);
    if (text.empty()) {
      errors.required(path / field);
      continue;
    }
    const bool any_case = std::string_view(field).ends_with("ind");  // kind, listKind
    std::string judged(text);
    if (any_case) {
      std::transform(judged.begin(), judged.end(), judged.begin(),
                     [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    }
    if (const std::string wrong = check_dns1035_label(judged); !wrong.empty()) {
      errors.invalid(path / field, text,
                     (any_case ? "may have mixed case, but should otherwise match: " : "") + wrong);
    }
  }
  check_words(names, "shortNames", path, errors);
  if (text_of(names, "kind") == text_of(names, "listKind") && !text_of(names, "kind").empty()) {
    errors.invalid(path / "listKind", text_of(names, "listKind"), "kind and listKind may not be the same");
  }
  check_words(names, "categories", path, errors);
}

void check_deprecation(const json::object& version, const FieldPath& path, FieldErrors& errors) {
  if (!version.contains("deprecationWarning")) return;
  const FieldPath at = path / "deprecationWarning";
  const std::string_view text = text_of(version, "deprecationWarning");
  if (!flag_of(version, "deprecated"))
    return errors.invalid(at, text, "can only be set for deprecated versions");
  if (text.size() > kDeprecationBytesMax) errors.invalid(at, text, "must be <= 256 characters long");
  if (text.empty()) errors.invalid(at, text, "must not be an empty string");
  const auto control = std::find_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) < 0x20) || c == 0x7f; });
  if (control != text.end()) {
    errors.invalid(at, text,
                   "must only contain printable UTF-8 characters; non-printable character found at index " +
                       std::to_string(control - text.begin()));
  }
}

/// A default must be a value that its own schema takes, without what would be pruned.
void check_defaults(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  const json::value* preset = schema.if_contains("default");
  if (preset != nullptr && !preset->is_null()) {
    const FieldPath at = path / "default";
    // Inside of an object: a schema that stands alone is one of a resource.
    const auto built = build_schema(
        json::object{{"type", "object"}, {"properties", json::object{{"value", schema}}}}, "default");
    const SchemaRef value = built->root().property("value");
    json::value copy = *preset;
    const auto unknown = prune_unknown(value, copy);
    if (!unknown) {
      errors.invalid(at, *preset, unknown.error().message());
    } else if (!unknown->empty()) {
      errors.invalid(at, *preset, "must not have unknown fields");
    }
    validate_schema(value, *preset, at, errors);
  }
  const FieldPath properties = path / "properties";
  for (const auto& [name, below] : object_or_empty(schema, "properties")) {
    if (below.is_object()) check_defaults(below.get_object(), properties.key(name), errors);
  }
  if (const json::object* items = object_of(schema, "items")) check_defaults(*items, path / "items", errors);
}

/// With a status subresource the schema of the status is cut out: what stands beside the properties of the
/// whole must not be about them together.
void check_root_words(const json::object& schema, const FieldPath& path, FieldErrors& errors) {
  static constexpr std::pair<std::string_view, const char*> kAllowed[] = {
      {"description", "Description"},
      {"type", "Type"},
      {"format", "Format"},
      {"title", "Title"},
      {"maximum", "Maximum"},
      {"exclusiveMaximum", "ExclusiveMaximum"},
      {"minimum", "Minimum"},
      {"exclusiveMinimum", "ExclusiveMinimum"},
      {"maxLength", "MaxLength"},
      {"minLength", "MinLength"},
      {"pattern", "Pattern"},
      {"maxItems", "MaxItems"},
      {"minItems", "MinItems"},
      {"uniqueItems", "UniqueItems"},
      {"multipleOf", "MultipleOf"},
      {"required", "Required"},
      {"items", "Items"},
      {"properties", "Properties"},
      {"externalDocs", "ExternalDocs"},
      {"example", "Example"},
      {"x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"},
      {"x-kubernetes-validations", "XValidations"}};
  std::string words;
  for (const auto& [word, name] : kAllowed) words += (words.empty() ? "" : " ") + std::string(name);
  for (const auto& [word, value] : schema) {
    const bool nothing = value.is_null() || value == json::value(false) ||
                         (value.is_array() && value.get_array().empty()) ||
                         (value.is_string() && value.get_string().empty());
    const bool allowed = std::any_of(std::begin(kAllowed), std::end(kAllowed),
                                     [&](const auto& each) { return each.first == word; });
    if (nothing || allowed) continue;
    return errors.invalid(
        path, std::string_view(word),
        "only [" + words +
            "] fields are allowed at the root of the schema if the status subresource is enabled");
  }
}

void check_schema(const json::object& version, const FieldPath& path, FieldErrors& errors) {
  const FieldPath validation = path / "schema";
  const FieldPath at = validation / "openAPIV3Schema";
  const json::object* schema = object_of(object_or_empty(version, "schema"), "openAPIV3Schema");
  if (schema == nullptr) return errors.required(at, "schemas are required");
  const std::size_t before = errors.size();
  if (object_or_empty(version, "subresources").contains("status")) check_root_words(*schema, at, errors);
  if (flag_of(*schema, "nullable")) errors.forbidden(at / "nullable", "nullable cannot be true at the root");
  check_structural(*schema, at, errors);
  if (errors.size() == before) check_defaults(*schema, at, errors);
  if (errors.size() == before) check_expressions(*schema, at, errors);
}

/// The schema of the field at ".spec.color"; null where there is none.
const json::object* field_schema(const json::object& schema, std::string_view path) {
  const json::object* found = &schema;
  for (const std::string_view name : split_words(path.substr(1), '.')) {
    found = object_of(object_or_empty(*found, "properties"), name);
    if (found == nullptr) return nullptr;
  }
  return found;
}

void check_selectable(const json::object& version, const FieldPath& path, FieldErrors& errors) {
  const json::object& schema = object_or_empty(object_or_empty(version, "schema"), "openAPIV3Schema");
  const FieldPath list = path / "selectableFields";
  std::set<std::string_view> fields;
  for_each_object(version, "selectableFields", [&](std::size_t index, const json::object& field) {
    const FieldPath one = list[index];
    const FieldPath at = one / "jsonPath";
    const std::string_view text = text_of(field, "jsonPath");
    if (text.empty()) return errors.required(at);
    if (!text.starts_with('.') || text.find('[') != std::string_view::npos)
      return errors.invalid(at, text, "is an invalid path: it does not refer to a valid field");
    const bool meta = text == ".metadata" || text.starts_with(".metadata.");
    const json::object* found = field_schema(schema, text);
    if (found == nullptr && !meta)
      return errors.invalid(at, text, "is an invalid path: it does not refer to a valid field");
    if (meta) errors.invalid(at, text, "must not point to fields in metadata");
    const std::string_view type = found == nullptr ? "" : text_of(*found, "type");
    if (type != "string" && type != "boolean" && type != "integer" && !meta) {
      errors.invalid(
          at, text,
          "must point to a field of type string, boolean or integer. Enum string fields and strings "
          "with formats are allowed.");
    }
    if (!fields.insert(text).second) errors.duplicate(at, json::string(text));
  });
  if (fields.size() > kSelectableMax) errors.too_many(list, fields.size(), kSelectableMax);
}

void check_columns(const json::object& version, const FieldPath& path, FieldErrors& errors) {
  static constexpr std::string_view kTypes[] = {"boolean", "date", "integer", "number", "string"};
  static constexpr std::string_view kFormats[] = {"byte",  "date",  "date-time", "double",
                                                  "float", "int32", "int64",     "password"};
  const FieldPath columns = path / "additionalPrinterColumns";
  const auto one_of = [](const auto& words) {
    std::string out = "must be one of ";
    for (const std::string_view word : words) out += (out.ends_with(' ') ? "" : ",") + std::string(word);
    return out;
  };
  const auto listed = [](const auto& words, std::string_view word) {
    return std::find(std::begin(words), std::end(words), word) != std::end(words);
  };
  for_each_object(version, "additionalPrinterColumns", [&](std::size_t index, const json::object& column) {
    const FieldPath at = columns[index];
    if (text_of(column, "name").empty()) errors.required(at / "name");
    const std::string_view type = text_of(column, "type"), format = text_of(column, "format"),
                           json_path = text_of(column, "jsonPath");
    if (type.empty()) {
      errors.required(at / "type", one_of(kTypes));
    } else if (!listed(kTypes, type)) {
      errors.invalid(at / "type", type, one_of(kTypes));
    }
    if (!format.empty() && !listed(kFormats, format)) errors.invalid(at / "format", format, one_of(kFormats));
    if (json_path.empty()) {
      errors.required(at / "jsonPath");
    } else if (!json_path.starts_with('.')) {
      errors.invalid(at / "jsonPath", json_path, "must be a simple json path starting with .");
    }
  });
}

void check_scale(const json::object& version, const FieldPath& path, FieldErrors& errors) {
  const json::object* scale = object_of(object_or_empty(version, "subresources"), "scale");
  if (scale == nullptr) return;
  const FieldPath subresources = path / "subresources";
  const FieldPath at = subresources / "scale";
  const auto under = [&](const char* field, std::initializer_list<std::string_view> roots, bool required,
                         const char* what) {
    const std::string_view text = text_of(*scale, field);
    if (text.empty()) {
      if (required) errors.required(at / field);
      return;
    }
    if (!text.starts_with('.')) {
      errors.invalid(at / field, text, "must be a simple json path starting with .");
    } else if (std::none_of(roots.begin(), roots.end(),
                            [&](std::string_view root) { return text.starts_with(root); })) {
      errors.invalid(at / field, text, what);
    }
  };
  under("specReplicasPath", {".spec."}, true, "should be a json path under .spec");
  under("statusReplicasPath", {".status."}, true, "should be a json path under .status");
  under("labelSelectorPath", {".spec.", ".status."}, false,
        "should be a json path under either .spec or .status");
}

void check_version(const json::object& version, const FieldPath& path, FieldErrors& errors) {
  const std::string_view name = text_of(version, "name");
  if (const std::string wrong = check_dns1035_label(name); !wrong.empty())
    errors.invalid(path / "name", name, wrong);
  check_deprecation(version, path, errors);
  check_schema(version, path, errors);
  check_scale(version, path, errors);
  check_columns(version, path, errors);
  check_selectable(version, path, errors);
}

void check_conversion(const json::object& conversion, const FieldPath& path, FieldErrors& errors) {
  const std::string_view strategy = text_of(conversion, "strategy");
  const FieldPath webhook = path / "webhook";
  const json::object* config = object_of(conversion, "webhook");
  if (strategy.empty()) errors.required(path / "strategy");
  if (strategy.empty() || strategy == "None") {
    if (config != nullptr) errors.forbidden(webhook, "should not be set when strategy is not set to Webhook");
    return;
  }
  if (strategy != "Webhook")
    return errors.not_supported(path / "strategy", json::string(strategy), {"None", "Webhook"});
  const json::object* client = config == nullptr ? nullptr : object_of(*config, "clientConfig");
  if (client == nullptr) {
    errors.required(webhook / "clientConfig", "required when strategy is set to Webhook");
  } else {
    validate_client_config(*client, webhook / "clientConfig", errors);
  }
  const json::object none;
  check_review_versions(array_or_empty(config == nullptr ? none : *config, "conversionReviewVersions"), {},
                        webhook / "conversionReviewVersions", errors);
}

void check_versions(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  std::set<std::string_view> names;
  int storage = 0;
  for_each_object(spec, "versions", [&](std::size_t index, const json::object& version) {
    const FieldPath at = path[index];
    storage += flag_of(version, "storage") ? 1 : 0;
    check_version(version, at, errors);
    if (!names.insert(text_of(version, "name")).second)
      errors.invalid(path, text_of(version, "name"), "must contain unique version names");
  });
  if (storage != 1)
    errors.invalid(path, json::value(storage), "must have exactly one version marked as storage version");
}

/// Groups of the community are for definitions that it has approved, or that say that they are not.
void check_approval(const json::object& object, FieldErrors& errors) {
  constexpr const char* kApproved = "api-approved.kubernetes.io";
  constexpr const char* kWhere = ", see https://github.com/kubernetes/enhancements/pull/1111";
  const std::string_view group = text_of(spec_of(object), "group");
  const auto within = [&](std::string_view domain) {
    return group == domain || (group.size() > domain.size() && group.ends_with(domain) &&
                               group[group.size() - domain.size() - 1] == '.');
  };
  if (!within("k8s.io") && !within("kubernetes.io")) return;
  const FieldPath meta("metadata");
  const FieldPath notes = meta / "annotations";
  const json::object& annotations = object_or_empty(object_or_empty(object, "metadata"), "annotations");
  const std::string_view text = text_of(annotations, kApproved);
  const std::string must =
      std::string("protected groups must have approval annotation \"") + kApproved + "\"";
  if (text.empty()) return errors.required(notes.key(kApproved), must + kWhere);
  if (text.starts_with("unapproved")) return;
  const std::size_t colon = text.find("://");
  const bool url = colon != std::string_view::npos && colon > 0 && colon + 3 < text.size() &&
                   text[colon + 3] != '/' && text.find(' ') == std::string_view::npos;
  if (url) return;
  errors.invalid(notes.key(kApproved), text,
                 must + " with either a URL or a reason starting with \"unapproved\"" + kWhere);
}

bool is_established(const json::object& definition) {
  bool out = false;
  for_each_object(
      object_or_empty(definition, "status"), "conditions", [&](std::size_t, const json::object& condition) {
        out = out || (text_of(condition, "type") == "Established" && text_of(condition, "status") == "True");
      });
  return out;
}

}  // namespace

void prepare_definition(json::object& object) {
  object["status"] = json::object{{"conditions", json::array()},
                                  {"acceptedNames", json::object{{"plural", ""}, {"kind", ""}}},
                                  {"storedVersions", json::array()}};
}

void validate_definition(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const json::object& names = object_or_empty(spec, "names");
  const FieldPath path("spec");
  const std::string_view group = text_of(spec, "group");
  const std::string_view name = text_of(object_or_empty(object, "metadata"), "name");
  if (name != std::string(text_of(names, "plural")) + "." + std::string(group)) {
    errors.invalid(FieldPath("metadata") / "name", name, "must be spec.names.plural+\".\"+spec.group");
  }
  if (group.empty()) {
    errors.required(path / "group");
  } else if (const std::string wrong = check_dns1123_subdomain(group); !wrong.empty()) {
    errors.invalid(path / "group", group, wrong);
  } else if (group.find('.') == std::string_view::npos) {
    errors.invalid(path / "group", group, "should be a domain with at least one dot");
  }
  const std::string_view scope = text_of(spec, "scope");
  if (scope.empty()) {
    errors.required(path / "scope");
  } else if (scope != "Cluster" && scope != "Namespaced") {
    errors.not_supported(path / "scope", json::string(scope), {"Cluster", "Namespaced"});
  }
  if (flag_of(spec, "preserveUnknownFields")) {
    errors.invalid(path / "preserveUnknownFields", json::value(true),
                   "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
                   "spec.versions[*].schema instead");
  }
  check_approval(object, errors);
  check_conversion(object_or_empty(spec, "conversion"), path / "conversion", errors);
  check_names(names, path / "names", errors);
  check_versions(spec, path / "versions", errors);
}

void validate_definition_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath path("spec");
  const json::object& spec = spec_of(object);
  const json::object& before = spec_of(old);
  const FieldPath names = path / "names";
  const auto same_name = [&](const char* field) {
    require_same(object_or_empty(spec, "names").if_contains(field),
                 object_or_empty(before, "names").if_contains(field), names / field, errors);
  };
  // What has no objects yet may still become another kind.
  if (is_established(old)) {
    require_same(spec.if_contains("scope"), before.if_contains("scope"), path / "scope", errors);
    same_name("kind");
  }
  require_same(spec.if_contains("group"), before.if_contains("group"), path / "group", errors);
  same_name("plural");
  const FieldPath status("status");
  const FieldPath stored = status / "storedVersions";
  std::size_t index = 0;
  for (const json::value& version : array_or_empty(object_or_empty(old, "status"), "storedVersions")) {
    const FieldPath at = stored[index++];
    bool known = false;
    for_each_object(spec, "versions", [&](std::size_t, const json::object& each) {
      known = known || (version.is_string() && text_of(each, "name") == version.get_string());
    });
    const std::string name = version.is_string() ? std::string(version.get_string()) : std::string();
    if (!known)
      errors.invalid(at, version,
                     "missing from spec.versions; " + name +
                         " was previously a storage version, and must remain "
                         "in spec.versions until a storage migration ensures no data remains persisted in " +
                         name + " and removes " + name + " from status.storedVersions");
  }
}

}  // namespace orchestra::api
