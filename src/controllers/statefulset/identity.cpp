// Names, labels and claims of the pods of a StatefulSet; see identity.hpp.
#include "controllers/statefulset/identity.hpp"

#include <algorithm>

#include "controllers/common/history.hpp"
#include "controllers/common/pods.hpp"

namespace orchestra::controllers {

std::optional<std::int64_t> ordinal_of(const std::string& pod, const std::string& set) {
  if (pod.size() <= set.size() + 1 || !pod.starts_with(set) || pod[set.size()] != '-') return std::nullopt;
  const std::string_view digits = std::string_view(pod).substr(set.size() + 1);
  const auto number = to_int(digits);
  if (!number || *number < 0 || *number > INT32_MAX || std::to_string(*number) != digits) return std::nullopt;
  return number;
}

namespace {

std::string claim_name(const json::value& claim_template, const Object& set, std::int64_t ordinal) {
  return string_at(claim_template, "/metadata/name") + "-" + set.name() + "-" + std::to_string(ordinal);
}

// The claims of the templates take the place of volumes with the same name.
void add_volumes(json::value& pod, const Object& set, std::int64_t ordinal) {
  const json::array* templates = array_at(tree(set), "/spec/volumeClaimTemplates");
  if (templates == nullptr || templates->empty()) return;
  json::array volumes;
  for (const json::value& each : *templates) {
    const std::string name = claim_name(each, set, ordinal);
    volumes.push_back(json::object{{"name", string_at(each, "/metadata/name")},
                                   {"persistentVolumeClaim", {{"claimName", name}}}});
  }
  if (const json::array* own = array_at(pod, "/spec/volumes")) {
    for (const json::value& volume : *own) {
      const bool replaced = std::any_of(volumes.begin(), volumes.end(), [&](const json::value& claim) {
        return string_at(claim, "/name") == string_at(volume, "/name");
      });
      if (!replaced) volumes.push_back(volume);
    }
  }
  set_at(pod, "/spec/volumes", std::move(volumes));
}

}  // namespace

Object stateful_pod(const Object& set, const Object& revision, std::int64_t ordinal) {
  json::value pod = tree(pod_from_template(template_of(revision), set));
  const std::string name = set.name() + "-" + std::to_string(ordinal);
  json::object& metadata = object_in(pod, "/metadata");
  metadata.erase("generateName");
  metadata["name"] = name;
  json::object& labels = object_in(pod, "/metadata/labels");
  labels[kPodNameLabel] = name;
  labels[kPodIndexLabel] = std::to_string(ordinal);
  labels[kRevisionLabel] = revision.name();
  set_at(pod, "/spec/hostname", json::value(name));
  const std::string service = string_at(tree(set), "/spec/serviceName");
  if (!service.empty()) set_at(pod, "/spec/subdomain", json::value(service));
  add_volumes(pod, set, ordinal);
  return object_from_tree(std::move(pod));
}

std::vector<Object> claims_of(const Object& set, std::int64_t ordinal) {
  std::vector<Object> claims;
  const json::array* templates = array_at(tree(set), "/spec/volumeClaimTemplates");
  if (templates == nullptr) return claims;
  for (const json::value& each : *templates) {
    json::value claim = each;
    json::object& root = object_in(claim, "");
    root["apiVersion"] = "v1";
    root["kind"] = "PersistentVolumeClaim";
    root.erase("status");
    json::object& metadata = object_in(claim, "/metadata");
    metadata["name"] = claim_name(each, set, ordinal);
    metadata["namespace"] = set.ns();
    metadata.erase("creationTimestamp");
    if (const json::object* selector = object_at(tree(set), "/spec/selector/matchLabels")) {
      json::object& labels = object_in(claim, "/metadata/labels");
      for (const auto& [key, value] : *selector) labels[key] = value;
    }
    claims.push_back(object_from_tree(std::move(claim)));
  }
  return claims;
}

bool keep_claim_owners(const Object& set, std::int64_t ordinal, const Object& pod, bool condemned,
                       const View& view, Actions& actions) {
  const json::value& root = tree(set);
  const bool on_delete =
      string_at(root, "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted", "Retain") == "Delete";
  const bool on_scale =
      string_at(root, "/spec/persistentVolumeClaimRetentionPolicy/whenScaled", "Retain") == "Delete";
  const bool by_pod = condemned && on_scale;
  const bool by_set = on_delete && !by_pod;
  bool ordered = false;
  for (const Object& wanted : claims_of(set, ordinal)) {
    const Object claim = view.get(persistent_volume_claims(), set.ns(), wanted.name());
    if (!claim || claim.deleting()) continue;
    json::array owners;
    bool changed = false;
    bool has_set = false;
    bool has_pod = false;
    if (const json::array* present = array_at(tree(claim), "/metadata/ownerReferences")) {
      for (const json::value& owner : *present) {
        const bool is_set = string_at(owner, "/uid") == set.uid();
        const bool is_pod = string_at(owner, "/kind") == "Pod" && string_at(owner, "/name") == pod.name();
        const bool live_pod = is_pod && string_at(owner, "/uid") == pod.uid();
        if ((is_set && !by_set) || (is_pod && !(by_pod && live_pod))) {
          changed = true;
          continue;
        }
        has_set |= is_set;
        has_pod |= live_pod;
        owners.push_back(owner);
      }
    }
    const auto reference = [](const Object& owner, const char* api_version, const char* kind) {
      return json::object{
          {"apiVersion", api_version}, {"kind", kind}, {"name", owner.name()}, {"uid", owner.uid()}};
    };
    if (by_set && !has_set) owners.push_back(reference(set, "apps/v1", "StatefulSet"));
    if (by_pod && !has_pod) owners.push_back(reference(pod, "v1", "Pod"));
    changed |= (by_set && !has_set) || (by_pod && !has_pod);
    if (!changed) continue;
    json::value copy = tree(claim);
    if (owners.empty()) {
      object_in(copy, "/metadata").erase("ownerReferences");
    } else {
      set_at(copy, "/metadata/ownerReferences", std::move(owners));
    }
    actions.update(persistent_volume_claims(), object_from_tree(std::move(copy)),
                   by_pod   ? "goes with its pod (whenScaled: Delete)"
                   : by_set ? "goes with its set (whenDeleted: Delete)"
                            : "is retained");
    ordered = true;
  }
  return ordered;
}

}  // namespace orchestra::controllers
