// What is wrong with a CustomResourceDefinition: apiextensions/validation/validation.go.
#include <algorithm>
#include <set>

#include "api/crd/definition.hpp"
#include "api/crd/expressions.hpp"
#include "api/crd/structural.hpp"
#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

const json::object& spec_of(const json::object& object) { return object_or_empty(object, "spec"); }

void check_names(const json::object& names, const FieldPath& path, FieldErrors& errors) {
  const auto label = [&](const char* field) {
    const std::string_view text = text_of(names, field);
    if (text.empty()) return errors.required(path / field);
    std::string lower(text);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    const bool any_case = std::string_view(field).ends_with("ind");  // kind, listKind
    if (const std::string wrong = check_dns1035_label(any_case ? lower : std::string(text)); !wrong.empty())
      errors.invalid(path / field, text, wrong);
  };
  label("plural");
  label("singular");
  label("kind");
  label("listKind");
  if (text_of(names, "kind") == text_of(names, "listKind") && !text_of(names, "kind").empty()) {
    errors.invalid(path / "listKind", text_of(names, "listKind"), "kind and listKind may not be the same");
  }
  for (const char* list : {"shortNames", "categories"}) {
    const FieldPath at = path / list;
    std::size_t index = 0;
    for (const json::value& word : array_or_empty(names, list)) {
      const FieldPath item = at[index++];
      if (!word.is_string()) continue;
      if (const std::string wrong = check_dns1035_label(word.get_string()); !wrong.empty())
        errors.invalid(item, std::string_view(word.get_string()), wrong);
    }
  }
}

void check_version(const json::object& version, const FieldPath& path, FieldErrors& errors) {
  const std::string_view name = text_of(version, "name");
  if (const std::string wrong = check_dns1035_label(name); !wrong.empty())
    errors.invalid(path / "name", name, wrong);
  const FieldPath validation = path / "schema";
  const json::object* schema = object_of(object_or_empty(version, "schema"), "openAPIV3Schema");
  if (schema == nullptr) {
    errors.required(validation / "openAPIV3Schema", "schemas are required");
  } else {
    const std::size_t before = errors.size();
    check_structural(*schema, validation / "openAPIV3Schema", errors);
    if (errors.size() == before) check_expressions(*schema, validation / "openAPIV3Schema", errors);
  }
  const FieldPath columns = path / "additionalPrinterColumns";
  for_each_object(version, "additionalPrinterColumns", [&](std::size_t index, const json::object& column) {
    const FieldPath at = columns[index];
    if (text_of(column, "name").empty()) errors.required(at / "name");
    const std::string_view type = text_of(column, "type");
    static constexpr std::string_view kTypes[] = {"boolean", "date", "integer", "number", "string"};
    if (type.empty()) {
      errors.required(at / "type");
    } else if (std::find(std::begin(kTypes), std::end(kTypes), type) == std::end(kTypes)) {
      errors.invalid(at / "type", type, "must be one of boolean,date,integer,number,string");
    }
    const std::string_view json_path = text_of(column, "jsonPath");
    if (json_path.empty()) {
      errors.required(at / "jsonPath");
    } else if (!json_path.starts_with('.')) {
      errors.invalid(at / "jsonPath", json_path, "must be a simple json path starting with .");
    }
  });
  if (const json::object* scale = object_of(object_or_empty(version, "subresources"), "scale")) {
    const FieldPath subresources = path / "subresources";
    const FieldPath at = subresources / "scale";
    const auto under = [&](const char* field, std::initializer_list<std::string_view> roots, bool required,
                           const char* what) {
      const std::string_view text = text_of(*scale, field);
      if (text.empty()) {
        if (required) errors.required(at / field);
        return;
      }
      if (std::none_of(roots.begin(), roots.end(),
                       [&](std::string_view root) { return text.starts_with(root); }))
        errors.invalid(at / field, text, what);
    };
    under("specReplicasPath", {".spec."}, true, "should be a json path under .spec");
    under("statusReplicasPath", {".status."}, true, "should be a json path under .status");
    under("labelSelectorPath", {".spec.", ".status."}, false,
          "should be a json path under either .spec or .status");
  }
}

void check_conversion(const json::object& conversion, const FieldPath& path, FieldErrors& errors) {
  const std::string_view strategy = text_of(conversion, "strategy");
  const FieldPath webhook = path / "webhook";
  const json::object* config = object_of(conversion, "webhook");
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
  const json::array& versions = config == nullptr ? array_or_empty(conversion, "")
                                                  : array_or_empty(*config, "conversionReviewVersions");
  if (versions.empty()) {
    errors.required(webhook / "conversionReviewVersions");
  } else if (std::none_of(versions.begin(), versions.end(), [](const json::value& version) {
               return version == "v1" || version == "v1beta1";
             })) {
    errors.invalid(webhook / "conversionReviewVersions", json::value(versions),
                   "must include at least one of v1, v1beta1");
  }
}

void check_versions(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::array& versions = array_or_empty(spec, "versions");
  if (versions.empty()) {
    errors.required(path, "must have at least one version");
    return;
  }
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
  check_conversion(object_or_empty(spec, "conversion"), path / "conversion", errors);
  check_names(names, path / "names", errors);
  check_versions(spec, path / "versions", errors);
}

void validate_definition_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath path("spec");
  const json::object& spec = spec_of(object);
  const json::object& before = spec_of(old);
  require_same(spec.if_contains("group"), before.if_contains("group"), path / "group", errors);
  require_same(spec.if_contains("scope"), before.if_contains("scope"), path / "scope", errors);
  const FieldPath names = path / "names";
  for (const char* field : {"kind", "plural"}) {
    require_same(object_or_empty(spec, "names").if_contains(field),
                 object_or_empty(before, "names").if_contains(field), names / field, errors);
  }
  const FieldPath status("status");
  const FieldPath stored = status / "storedVersions";
  std::size_t index = 0;
  for (const json::value& version : array_or_empty(object_or_empty(old, "status"), "storedVersions")) {
    const FieldPath at = stored[index++];
    bool known = false;
    for_each_object(spec, "versions", [&](std::size_t, const json::object& each) {
      known = known || (version.is_string() && text_of(each, "name") == version.get_string());
    });
    if (!known)
      errors.invalid(at, version,
                     "missing from spec.versions; was previously a storage version, and must remain in "
                     "spec.versions until a storage migration ensures no data remains persisted in " +
                         to_json(version) + " and removes it from status.storedVersions");
  }
}

}  // namespace orchestra::api
