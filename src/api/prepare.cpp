// PrepareForCreate and -Update of Pod, Namespace, Job and CertificateSigningRequest:
// pkg/registry/{core,batch,certificates}/*/strategy.go.
#include "api/prepare.hpp"

#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::api {
namespace {

constexpr std::string_view kQosResources[] = {"cpu", "memory"};

/// Adds what is above zero; false if one of cpu and memory is missing.
bool add_up(const json::object& list, std::map<std::string_view, Quantity>& sums) {
  bool all = true;
  for (const std::string_view name : kQosResources) {
    const json::value* text = list.if_contains(name);
    const Result<Quantity> quantity = text != nullptr && text->is_string()
                                          ? Quantity::parse(std::string_view(text->get_string()))
                                          : Quantity();
    if (!quantity || quantity->sign() <= 0) {
      all = false;
      continue;
    }
    sums[name] += *quantity;
  }
  return all;
}

json::object& object_at(json::object& parent, std::string_view key) {
  json::value& value = parent[key];
  if (!value.is_object()) value.emplace_object();
  return value.get_object();
}

/// Keys of a term whose values are those of the pod itself become requirements of its selector.
void merge_label_keys(json::object& term, const char* field, const char* op, const json::object& labels) {
  json::object* selector = object_of(term, "labelSelector");
  if (selector == nullptr) return;
  const json::array keys = array_or_empty(static_cast<const json::object&>(term), field);
  for (const json::value& key : keys) {
    const json::value* value = key.is_string() ? labels.if_contains(key.get_string()) : nullptr;
    if (value == nullptr) continue;
    json::value& list = (*selector)["matchExpressions"];
    if (!list.is_array()) list.emplace_array();
    list.get_array().push_back(json::object{{"key", key}, {"operator", op}, {"values", json::array{*value}}});
  }
}

void merge_all_label_keys(json::object& pod) {
  json::object* spec = object_of(pod, "spec");
  if (spec == nullptr) return;
  const json::object labels = object_or_empty(object_or_empty(pod, "metadata"), "labels");
  const auto merge = [&](json::object& term) {
    merge_label_keys(term, "matchLabelKeys", "In", labels);
    merge_label_keys(term, "mismatchLabelKeys", "NotIn", labels);
  };
  for_each_object(*spec, "topologySpreadConstraints", merge);
  json::object* affinity = object_of(*spec, "affinity");
  if (affinity == nullptr) return;
  for (const char* which : {"podAffinity", "podAntiAffinity"}) {
    json::object* terms = object_of(*affinity, which);
    if (terms == nullptr) continue;
    for_each_object(*terms, "requiredDuringSchedulingIgnoredDuringExecution", merge);
    for_each_object(*terms, "preferredDuringSchedulingIgnoredDuringExecution", [&](json::object& weighted) {
      if (json::object* term = object_of(weighted, "podAffinityTerm")) merge(*term);
    });
  }
}

bool is_claim_or_snapshot(const json::object& source) {
  const std::string_view kind = text_of(source, "kind"), group = text_of(source, "apiGroup");
  return (kind == "PersistentVolumeClaim" && group.empty()) ||
         (kind == "VolumeSnapshot" && group == "snapshot.storage.k8s.io");
}

/// pkg/api/persistentvolumeclaim: NormalizeDataSources.
void normalize_sources(json::object& spec) {
  const json::object* source = object_of(static_cast<const json::object&>(spec), "dataSource");
  const json::object* reference = object_of(static_cast<const json::object&>(spec), "dataSourceRef");
  if (source != nullptr && reference == nullptr) {
    json::object copy = *source;
    spec["dataSourceRef"] = std::move(copy);
  } else if (reference != nullptr && source == nullptr && text_of(*reference, "namespace").empty()) {
    json::object copy = *reference;
    copy.erase("namespace");
    spec["dataSource"] = std::move(copy);
  }
}

}  // namespace

const char* pod_qos_class(const json::object& pod) {
  std::map<std::string_view, Quantity> requests, limits;
  bool guaranteed = true;
  const json::object& spec = object_or_empty(pod, "spec");
  const json::object& whole = object_or_empty(spec, "resources");
  const bool pod_level =
      !object_or_empty(whole, "requests").empty() || !object_or_empty(whole, "limits").empty();
  if (pod_level) {
    add_up(object_or_empty(whole, "requests"), requests);
    guaranteed = object_or_empty(whole, "limits").empty() || add_up(object_or_empty(whole, "limits"), limits);
  }
  for (const char* list : {"containers", "initContainers"}) {
    if (pod_level) break;
    for_each_object(spec, list, [&](std::size_t, const json::object& container) {
      const json::object& resources = object_or_empty(container, "resources");
      add_up(object_or_empty(resources, "requests"), requests);
      if (!add_up(object_or_empty(resources, "limits"), limits)) guaranteed = false;
    });
  }
  if (requests.empty() && limits.empty()) return "BestEffort";
  for (const auto& [name, sum] : requests) {
    const auto limit = limits.find(name);
    if (limit == limits.end() || limit->second != sum) guaranteed = false;
  }
  return guaranteed && requests.size() == limits.size() ? "Guaranteed" : "Burstable";
}

void prepare_pod(json::object& object) {
  json::object& status = object_at(object, "status");
  status["phase"] = "Pending";
  status["qosClass"] = pod_qos_class(object);
  merge_all_label_keys(object);
}

void prepare_namespace_create(json::object& object) {
  prepare_namespace(object);
  object_at(object, "status")["phase"] = "Active";
}

void prepare_namespace_update(json::object& object, const json::object& old) {
  const json::value* spec = old.if_contains("spec");
  if (spec != nullptr) object["spec"] = *spec;
}

void prepare_claim_create(json::object& object) {
  json::object* spec = object_of(object, "spec");
  if (spec == nullptr) return;
  const json::object* source = object_of(static_cast<const json::object&>(*spec), "dataSource");
  if (source != nullptr && !is_claim_or_snapshot(*source)) spec->erase("dataSource");
  normalize_sources(*spec);
}

void prepare_claim_update(json::object& object, const json::object& old) {
  json::object* spec = object_of(object, "spec");
  if (spec == nullptr) return;
  const json::object& before = object_or_empty(old, "spec");
  // As it was taken once, even where it would not be taken today.
  if (!before.contains("dataSource") && !before.contains("dataSourceRef"))
    return prepare_claim_create(object);
  normalize_sources(*spec);
}

void prepare_csr_create(json::object& object) {
  json::object& spec = object_at(object, "spec");
  for (const char* field : {"username", "uid", "groups", "extra"}) spec.erase(field);
  object.erase("status");
}

void prepare_csr_update(json::object& object, const json::object& old) {
  const json::value* spec = old.if_contains("spec");
  if (spec != nullptr) object["spec"] = *spec;
}

// Coordinated leader election (CoordinatedLeaderElection, off by default): its fields are dropped.
void prepare_lease_create(json::object& object) {
  json::object* spec = object_of(object, "spec");
  if (spec == nullptr) return;
  for (const char* field : {"strategy", "preferredHolder"}) spec->erase(field);
}

void prepare_lease_update(json::object& object, const json::object& old) {
  json::object* spec = object_of(object, "spec");
  if (spec == nullptr) return;
  for (const char* field : {"strategy", "preferredHolder"}) {
    if (!object_or_empty(old, "spec").contains(field)) spec->erase(field);
  }
}

void prepare_job(json::object& object) {
  json::object& spec = object_at(object, "spec");
  if (flag_of(spec, "manualSelector")) return;
  const std::string uid(text_of(object_or_empty(object, "metadata"), "uid"));
  const std::string name(text_of(object_or_empty(object, "metadata"), "name"));
  if (uid.empty()) return;
  // What the user has set stays, and is refused where it does not fit (validate_job_create).
  json::object& labels = object_at(object_at(object_at(spec, "template"), "metadata"), "labels");
  for (const char* key : {"batch.kubernetes.io/controller-uid", "controller-uid"}) {
    if (!labels.contains(key)) labels[key] = uid;
  }
  for (const char* key : {"batch.kubernetes.io/job-name", "job-name"}) {
    if (!labels.contains(key)) labels[key] = name;
  }
  json::object& matched = object_at(object_at(spec, "selector"), "matchLabels");
  constexpr const char* kUid = "batch.kubernetes.io/controller-uid";
  if (!matched.contains(kUid)) matched[kUid] = uid;
}

}  // namespace orchestra::api
