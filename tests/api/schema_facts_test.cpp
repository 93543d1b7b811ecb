// Our type tables against the published API types at our level, field by field: name, protobuf number, type,
// list type and keys, map type, patch strategy and merge key, omitempty; and kinds with scope and
// subresources.
//
// The facts (names, numbers and markers only) lie beside the specifications, not in this repository:
// ../shared/data/kubernetes-api-v1.35.json or the path in ORCHESTRA_K8S_API_FACTS.
#include <fstream>
#include <set>
#include <sstream>

#include "tests/api/support.hpp"
#include "tests/support/paths.hpp"

using namespace orchestra;
using namespace orchestra::api;

namespace {

std::string facts_path() {
  const char* given = std::getenv("ORCHESTRA_K8S_API_FACTS");
  return given != nullptr ? given : ORCHESTRA_SOURCE_DIR "/../shared/data/kubernetes-api-v1.35.json";
}

std::string type_prefix(const std::string& group_version) {
  if (group_version == "v1") return "io.k8s.api.core.v1.";
  if (group_version == "meta/v1") return "io.k8s.apimachinery.pkg.apis.meta.v1.";
  const auto [group, version] = split_api_version(group_version);
  const std::string word = group.substr(0, group.find('.'));
  if (word == "apiextensions")
    return "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions." + version + ".";
  if (word == "apiregistration") return "io.k8s.kube-aggregator.pkg.apis.apiregistration." + version + ".";
  if (word == "metrics") return "io.k8s.metrics.pkg.apis.metrics." + version + ".";
  return "io.k8s.api." + word + "." + version + ".";
}

const char* patch_text(PatchStrategy strategy) {
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
  return "";
}
const char* list_text(ListKind kind) {
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
  return "";
}

/// A Go type against ours; "" if they agree.
std::string type_difference(std::string go, SchemaRef ours, const json::object& aliases) {
  if (go.starts_with("*")) go.erase(0, 1);
  const std::size_t dot = go.find('.');
  if (dot != std::string::npos && go[0] != '[' && !go.starts_with("map[")) go = go.substr(dot + 1);
  if (const json::value* alias = aliases.if_contains(go)) go = std::string(alias->as_string());
  const auto is = [&](SchemaKind kind) {
    return ours.kind() == kind
               ? std::string()
               : "type " + go + " is ours of kind " + std::to_string(static_cast<int>(ours.kind()));
  };
  static const std::map<std::string, SchemaKind> kPlain = {
      {"string", SchemaKind::string},      {"int32", SchemaKind::int32},
      {"int64", SchemaKind::int64},        {"bool", SchemaKind::boolean},
      {"float64", SchemaKind::number},     {"[]byte", SchemaKind::bytes},
      {"Time", SchemaKind::time},          {"MicroTime", SchemaKind::micro_time},
      {"Quantity", SchemaKind::quantity},  {"IntOrString", SchemaKind::int_or_string},
      {"Duration", SchemaKind::duration},  {"RawExtension", SchemaKind::raw_extension},
      {"FieldsV1", SchemaKind::fields_v1}, {"JSON", SchemaKind::json_value},
      {"ResourceList", SchemaKind::map},   {"UID", SchemaKind::string}};
  if (const auto found = kPlain.find(go); found != kPlain.end()) return is(found->second);
  if (go.starts_with("[]")) {
    if (ours.kind() != SchemaKind::list) return "type " + go + " is no list of ours";
    return type_difference(go.substr(2), ours.element(), aliases);
  }
  if (go.starts_with("map[")) {
    if (ours.kind() != SchemaKind::map) return "type " + go + " is no map of ours";
    return type_difference(go.substr(go.find(']') + 1), ours.element(), aliases);
  }
  if (ours.kind() == SchemaKind::object) {
    const std::string_view name = ours.type_name();
    return name.ends_with("." + go) ? "" : "type " + go + " is ours " + std::string(name);
  }
  return {};  // a named string, list or map: judged where it is used
}

class Facts {
 public:
  Facts(const json::value& facts, std::set<std::string> listed) : facts_(facts), listed_(std::move(listed)) {}
  std::size_t fields = 0;

  void check() {
    for (const auto& [group, content] : *object_at(facts_, "/groups")) {
      if (!TypeRegistry::builtin()->has_group_version(split_api_version(group).first,
                                                      split_api_version(group).second) &&
          std::string_view(group) != "meta/v1") {
        continue;  // not of our level's tier 1
      }
      static const json::object kNone;
      const json::object* aliases = object_at(content, "/aliases");
      for (const auto& [name, type] : *object_at(content, "/types"))
        check_type(group, std::string(name), type, aliases != nullptr ? *aliases : kNone);
    }
    for (const std::string& entry : listed_)
      CHECK_MESSAGE(used_.count(entry) == 1, "no longer a difference: " << entry);
  }

 private:
  void differ(const std::string& group, const std::string& where, const std::string& what) {
    const std::string entry = group + " " + where;
    if (listed_.count(entry) == 1) {
      used_.insert(entry);
      return;
    }
    MESSAGE(entry << ": " << what);
    ++differences_;
    CHECK_MESSAGE(false, entry << ": " << what);
  }
  void check_type(const std::string& group, const std::string& name, const json::value& type,
                  const json::object& aliases) {
    const bool list = name.ends_with("List") && type.as_object().contains("fields") &&
                      string_at(type, "/fields/1/json") == "metadata" &&
                      string_at(type, "/fields/2/json") == "items";
    if (list) return;  // made from the kind
    const SchemaRef ours = builtin_type(type_prefix(group) + name);
    if (!ours) {
      // A type that no field and no kind of ours uses is only missed where its owner is.
      if (bool_at(type, "/root")) differ(group, name, "is missing");
      return;
    }
    if (bool_at(type, "/atomic") != ours.has(SchemaNode::atomic)) differ(group, name, "atomic differs");
    for (const json::value& field : *array_at(type, "/fields"))
      check_field(group, name, field, ours, aliases);
    if (bool_at(type, "/root")) check_kind(group, name, type);
  }
  void check_field(const std::string& group, const std::string& owner, const json::value& field,
                   SchemaRef ours, const json::object& aliases) {
    if (field.as_object().contains("inline")) return;
    const std::string name = string_at(field, "/json");
    if (name.empty() || name == "-") return;
    ++fields;
    const std::string where = owner + "." + name;
    const SchemaRef property = ours.property(name);
    if (!property) return differ(group, where, "is missing");
    if (property.number() != int_at(field, "/pb")) differ(group, where, "protobuf number differs");
    if (string_at(field, "/patchMergeKey") != property.merge_key()) differ(group, where, "merge key differs");
    if (string_at(field, "/patchStrategy") != patch_text(property.patch()))
      differ(group, where, "patch strategy differs");
    if (string_at(field, "/listType") != list_text(property.list_kind()))
      differ(group, where, "list type differs");
    std::string keys;
    if (const json::array* list = array_at(field, "/listMapKeys")) {
      for (const json::value& key : *list) keys += (keys.empty() ? "" : ",") + std::string(key.as_string());
    }
    if (keys != property.keys()) differ(group, where, "list keys differ");
    const bool atomic =
        string_at(field, "/mapType") == "atomic" || string_at(field, "/structType") == "atomic";
    if (atomic && !property.has(SchemaNode::atomic)) differ(group, where, "map type differs");
    if (bool_at(field, "/omitempty") || int_at(field, "/omitempty") == 1) {
      if (!property.has(SchemaNode::omit_empty) && name != "managedFields")
        differ(group, where, "omitempty differs");
    } else if (property.has(SchemaNode::omit_empty) && property.kind() != SchemaKind::object) {
      differ(group, where, "ours is omitted when empty, the published one is not");
    }
    if (const std::string what = type_difference(string_at(field, "/type"), property, aliases); !what.empty())
      differ(group, where, what);
  }
  void check_kind(const std::string& group, const std::string& name, const json::value& type) {
    const auto [api_group, version] = split_api_version(group);
    const TypePtr record = TypeRegistry::builtin()->find_kind(api_group, version, name);
    if (record == nullptr) return differ(group, name, "is no kind of ours");
    if (record->namespaced != bool_at(type, "/namespaced")) differ(group, name, "scope differs");
    bool status_field = false;
    for (const json::value& field : *array_at(type, "/fields"))
      status_field = status_field || string_at(field, "/json") == "status";
    for (const json::value& sub : *array_at(type, "/subresources")) {
      const std::string word(sub.as_string());
      const bool wanted = word == "status?" ? status_field && record->allows("update") : true;
      const std::string plain = word == "status?" ? "status" : word;
      if (wanted && record->subresource(plain) == nullptr)
        differ(group, name, "subresource " + plain + " is missing");
    }
  }

  const json::value& facts_;
  std::set<std::string> listed_, used_;
  std::size_t differences_ = 0;
};

}  // namespace

TEST_CASE("the type tables agree with the published types of our API level, field by field") {
  std::ifstream file(facts_path());
  if (!file) ORC_SKIP("schema facts", "there is no file " + facts_path());
  std::stringstream text;
  text << file.rdbuf();
  std::set<std::string> listed;
  std::ifstream list(ORCHESTRA_SOURCE_DIR "/tests/api/schema_differences.txt");
  for (std::string line; std::getline(list, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string group, where;
    words >> group >> where;
    listed.insert(group + " " + where);
  }
  const json::value tree = parse_json(text.str()).value();
  Facts facts(tree, std::move(listed));
  facts.check();
  CHECK(facts.fields > 1800);
}
