// Records and status of definitions: see definition.hpp. The rules of a definition itself are in
// definition_rules.cpp.
#include "api/crd/definition.hpp"

#include <algorithm>

#include "api/crd/schema_builder.hpp"
#include "api/meta.hpp"
#include "api/tree.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

/// "example.com" + "v1" + "Widget" -> "com.example.v1.Widget"
std::string openapi_name(std::string_view group, std::string_view version, std::string_view kind) {
  std::string out;
  for (const std::string_view word : split_words(group, '.')) out = std::string(word) + "." + out;
  return out + std::string(version) + "." + std::string(kind);
}

std::vector<std::string> words_of(const json::object& object, std::string_view list) {
  std::vector<std::string> out;
  for (const json::value& word : array_or_empty(object, list)) {
    if (word.is_string()) out.emplace_back(word.get_string());
  }
  return out;
}

/// ".spec.replicas" -> "/spec/replicas"
std::string pointer_of(std::string_view path) {
  std::string out;
  for (const std::string_view word : split_words(path, '.')) {
    if (!word.empty()) out += "/" + std::string(word);
  }
  return out;
}

/// v1 before v1beta2 before v1alpha1 before others: how upstream prefers versions of a group.
std::tuple<int, int, int> priority_of(std::string_view version) {
  int major = 0, minor = 0;
  std::size_t at = 1;
  const auto number = [&](int& out) {
    const std::size_t begin = at;
    while (at < version.size() && version[at] >= '0' && version[at] <= '9' && at - begin < 9)
      out = out * 10 + (version[at++] - '0');
    return at > begin;
  };
  if (version.empty() || version[0] != 'v' || !number(major)) return {0, 0, 0};
  if (at == version.size()) return {3, major, 0};
  const std::string_view rest = version.substr(at);
  const int stage = rest.starts_with("beta") ? 2 : rest.starts_with("alpha") ? 1 : 0;
  if (stage == 0) return {0, 0, 0};
  at += stage == 2 ? 4 : 5;
  if (!number(minor) || at != version.size()) return {0, 0, 0};
  return {stage, major, minor};
}

std::string deprecation_of(const TypeRecord& record, const json::object& version) {
  if (!flag_of(version, "deprecated")) return {};
  const std::string_view said = text_of(version, "deprecationWarning");
  if (!said.empty()) return std::string(said);
  return record.group + "/" + std::string(text_of(version, "name")) + " " + record.kind + " is deprecated";
}

void add_version(TypeRecord& record, const json::object& version,
                 std::vector<std::shared_ptr<const CustomSchema>>& schemas) {
  const std::string name(text_of(version, "name"));
  const json::object& validation = object_or_empty(version, "schema");
  json::value schema(object_or_empty(validation, "openAPIV3Schema"));
  auto built = build_schema(schema, openapi_name(record.group, name, record.kind));
  record.complete_on_read = record.complete_on_read || built->has_defaults;
  record.versions.push_back({.name = name,
                             .schema = built->root(),
                             .served = flag_of(version, "served"),
                             .storage = flag_of(version, "storage"),
                             .deprecation = deprecation_of(record, version)});
  schemas.push_back(std::move(built));
}

/// Subresources and columns of one version.
void add_surface(TypeRecord& record, const json::object& version) {
  const json::object& subresources = object_or_empty(version, "subresources");
  const std::string name(text_of(version, "name"));
  if (subresources.contains("status")) {
    record.has_status = true;
    record.subresources.push_back(
        {.name = "status", .kind = record.gvk(name), .verbs = {"get", "patch", "update"}});
  }
  if (const json::object* scale = object_of(subresources, "scale")) {
    record.subresources.push_back(
        {.name = "scale", .kind = {"autoscaling", "v1", "Scale"}, .verbs = {"get", "patch", "update"}});
    record.scale.replicas = pointer_of(text_of(*scale, "specReplicasPath"));
    record.scale.current = pointer_of(text_of(*scale, "statusReplicasPath"));
    record.scale.selector = pointer_of(text_of(*scale, "labelSelectorPath"));
    record.scale.selector_is_text = true;
  }
  record.columns.push_back({.name = "Name", .format = "name", .description = "Name of the object."});
  for_each_object(version, "additionalPrinterColumns", [&](std::size_t, const json::object& column) {
    Column out{.name = std::string(text_of(column, "name")),
               .type = std::string(text_of(column, "type")),
               .format = std::string(text_of(column, "format")),
               .description = std::string(text_of(column, "description")),
               .priority = static_cast<int>(int_of(column, "priority"))};
    out.json_path = text_of(column, "jsonPath");
    record.columns.push_back(std::move(out));
  });
  if (array_or_empty(version, "additionalPrinterColumns").empty()) {
    record.columns.push_back({.name = "Age",
                              .type = "date",
                              .description = "Time since the object was created.",
                              .json_path = ".metadata.creationTimestamp"});
  }
}

std::string selectable_label(const json::object& field) {
  const std::string path(text_of(field, "jsonPath"));
  return path.substr(path.starts_with('.') ? 1 : 0);
}

/// Selectable fields are in the header of each stored object, so all versions keep those of all.
void add_selectable(TypeRecord& record, const json::object& version) {
  for_each_object(version, "selectableFields", [&](std::size_t, const json::object& field) {
    SelectableField out{.label = selectable_label(field),
                        .pointer = pointer_of(text_of(field, "jsonPath")),
                        .absent = "",
                        .stored = ""};
    const bool there = std::any_of(record.selectable.begin(), record.selectable.end(),
                                   [&](const SelectableField& one) { return one.label == out.label; });
    if (!there) record.selectable.push_back(std::move(out));
  });
}

/// Selectors of a version name its own fields alone.
void offer_selectable(TypeRecord& record, const json::object& version) {
  for (SelectableField& field : record.selectable) {
    field.offered = false;
    for_each_object(version, "selectableFields", [&](std::size_t, const json::object& own) {
      field.offered = field.offered || selectable_label(own) == field.label;
    });
  }
}

const json::value* condition_of(const json::value& definition, std::string_view type) {
  const json::array* list = array_at(definition, "/status/conditions");
  if (list == nullptr) return nullptr;
  for (const json::value& each : *list) {
    if (string_at(each, "/type") == type) return &each;
  }
  return nullptr;
}

/// Sets a condition; the time moves only when the status does.
void set_condition(json::value& definition, std::string_view type, std::string_view status,
                   std::string_view reason, std::string_view message, Now now) {
  json::value& value = definition.get_object()["status"];
  if (!value.is_object()) value.emplace_object();
  json::value& list = value.get_object()["conditions"];
  if (!list.is_array()) list.emplace_array();
  json::value* found = nullptr;
  for (json::value& each : list.get_array()) {
    if (string_at(each, "/type") == type) found = &each;
  }
  if (found == nullptr) {
    list.get_array().push_back(json::object{{"type", json::string(type)}});
    found = &list.get_array().back();
  }
  json::object& condition = found->get_object();
  if (text_of(condition, "status") != status) {
    condition["status"] = json::string(status);
    condition["lastTransitionTime"] = format_time(now.wall_ns);
  }
  condition["reason"] = json::string(reason);
  condition["message"] = json::string(message);
}

/// The first name that another type of the group has; "" if all are free.
std::string clash(const json::object& names, std::string_view group, const std::string& plural,
                  const TypeRegistry& others, std::string& reason) {
  for (const TypePtr& other : others.records()) {
    if (other->group != group || other->plural == plural) continue;
    const auto taken = [&](std::string_view name) {
      return name == other->plural || name == other->singular ||
             std::find(other->short_names.begin(), other->short_names.end(), name) !=
                 other->short_names.end();
    };
    const auto says = [&](const char* why, std::string_view name) {
      reason = why;
      return json::serialize(json::string(name)) + " is already in use";
    };
    if (taken(plural)) return says("PluralConflict", plural);
    if (taken(text_of(names, "singular"))) return says("SingularConflict", text_of(names, "singular"));
    for (const json::value& word : array_or_empty(names, "shortNames")) {
      if (word.is_string() && taken(word.get_string())) return says("ShortNamesConflict", word.get_string());
    }
    if (text_of(names, "kind") == other->kind) return says("KindConflict", other->kind);
    if (text_of(names, "listKind") == other->list_kind) return says("ListKindConflict", other->list_kind);
  }
  return {};
}

}  // namespace

Result<TypePtr> record_of_definition(const json::value& definition,
                                     std::shared_ptr<const ObjectConverter> converter) {
  const json::object* spec = object_at(definition, "/spec");
  if (spec == nullptr) return Error(Error::invalid, "api", "a definition without spec");
  const json::object& names = object_or_empty(*spec, "names");
  auto record = std::make_shared<TypeRecord>();
  record->group = text_of(*spec, "group");
  record->kind = text_of(names, "kind");
  record->list_kind = text_of(names, "listKind");
  record->plural = text_of(names, "plural");
  record->singular = text_of(names, "singular");
  record->short_names = words_of(names, "shortNames");
  record->categories = words_of(names, "categories");
  record->namespaced = text_of(*spec, "scope") != "Cluster";
  record->verbs = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"};
  record->builtin = false;
  record->converter = std::move(converter);
  record->has_generation = true;
  record->unconditional_update = false;
  std::vector<std::shared_ptr<const CustomSchema>> schemas;
  std::vector<const json::object*> versions;
  for_each_object(*spec, "versions",
                  [&](std::size_t, const json::object& version) { versions.push_back(&version); });
  if (versions.empty()) return Error(Error::invalid, "api", "a definition without versions");
  std::stable_sort(versions.begin(), versions.end(), [](const json::object* a, const json::object* b) {
    return priority_of(text_of(*a, "name")) > priority_of(text_of(*b, "name"));
  });
  for (const json::object* version : versions) add_version(*record, *version, schemas);
  for (const json::object* version : versions) add_selectable(*record, *version);
  record->owned = std::make_shared<std::vector<std::shared_ptr<const CustomSchema>>>(std::move(schemas));
  if (versions.size() > 1) {
    for (const json::object* version : versions) {
      auto own = std::make_shared<TypeRecord>(*record);
      own->by_version.clear();
      add_surface(*own, *version);
      offer_selectable(*own, *version);
      record->by_version.emplace(std::string(text_of(*version, "name")), std::move(own));
    }
  }
  add_surface(*record, *versions.front());
  return TypePtr(std::move(record));
}

DefinitionDecision judge_definition(const json::value& definition, const TypeRegistry& others, Now now) {
  DefinitionDecision decision;
  const json::object* spec = object_at(definition, "/spec");
  if (spec == nullptr) return decision;
  json::value next = definition;
  const json::object& names = object_or_empty(*spec, "names");
  const std::string plural(text_of(names, "plural"));
  std::string reason;
  const std::string why = clash(names, text_of(*spec, "group"), plural, others, reason);
  decision.removing = find(definition, "/metadata/deletionTimestamp") != nullptr;
  if (why.empty()) {
    set_at(next, "/status/acceptedNames", json::value(names));
    set_condition(next, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now);
    const json::value* established = condition_of(definition, "Established");
    if (established == nullptr || string_at(*established, "/status") != "True") {
      set_condition(next, "Established", "True", "InitialNamesAccepted",
                    "the initial names have been accepted", now);
    }
    decision.served = true;
  } else {
    set_condition(next, "NamesAccepted", "False", reason, why, now);
    const json::value* established = condition_of(definition, "Established");
    // Once established it stays so: its objects must remain reachable.
    decision.served = established != nullptr && string_at(*established, "/status") == "True";
    if (!decision.served)
      set_condition(next, "Established", "False", "NotAccepted", "not all names are accepted", now);
  }
  if (decision.removing) {
    set_condition(next, "Terminating", "True", "InstanceDeletionInProgress",
                  "CustomResource deletion is in progress", now);
  }
  json::array stored;
  if (const json::array* before = array_at(definition, "/status/storedVersions")) stored = *before;
  for_each_object(*spec, "versions", [&](std::size_t, const json::object& version) {
    const json::value name = json::string(text_of(version, "name"));
    if (flag_of(version, "storage") && std::find(stored.begin(), stored.end(), name) == stored.end())
      stored.push_back(name);
  });
  set_at(next, "/status/storedVersions", std::move(stored));
  if (next != definition) decision.object = std::move(next);
  return decision;
}

json::value api_service_of(const TypeRegistry& registry, std::string_view group, std::string_view version,
                           Now now) {
  // Groups in the order of discovery, as upstream's priorities are.
  std::int64_t priority = 18000;
  std::int64_t among = 15;
  std::string_view last;
  std::int64_t minimum = 17800;
  for (const TypeRegistry::GroupVersion& each : registry.group_versions()) {
    if (each.group != last) {
      among = 15;
      priority = each.group.empty() ? 18000 : minimum;
      minimum = std::max<std::int64_t>(minimum - 100, 1000);
    }
    last = each.group;
    if (each.group == group && each.version == version) break;
    --among;
  }
  const std::string name = std::string(version) + "." + std::string(group);
  const json::object condition{{"type", "Available"},
                               {"status", "True"},
                               {"lastTransitionTime", format_time(now.wall_ns)},
                               {"reason", "Local"},
                               {"message", "Local APIServices are always available"}};
  json::object spec{{"version", json::string(version)},
                    {"groupPriorityMinimum", priority},
                    {"versionPriority", std::max<std::int64_t>(among, 1)}};
  if (!group.empty()) spec["group"] = json::string(group);
  const json::object labels{{"kube-aggregator.kubernetes.io/automanaged", "onstart"}};
  return json::object{{"apiVersion", "apiregistration.k8s.io/v1"},
                      {"kind", "APIService"},
                      {"metadata", json::object{{"name", name}, {"labels", labels}}},
                      {"spec", std::move(spec)},
                      {"status", json::object{{"conditions", json::array{condition}}}}};
}

}  // namespace orchestra::api
