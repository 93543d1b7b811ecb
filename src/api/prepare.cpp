// PrepareForCreate and -Update of Pod, Namespace, Job and CertificateSigningRequest:
// pkg/registry/{core,batch,certificates}/*/strategy.go.
#include "api/prepare.hpp"

#include <map>

#include "api/meta.hpp"
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

}  // namespace

const char* pod_qos_class(const json::object& pod) {
  std::map<std::string_view, Quantity> requests, limits;
  bool guaranteed = true;
  const json::object& spec = object_or_empty(pod, "spec");
  for (const char* list : {"containers", "initContainers"}) {
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
}

void prepare_namespace_create(json::object& object) {
  prepare_namespace(object);
  object_at(object, "status")["phase"] = "Active";
}

void prepare_namespace_update(json::object& object, const json::object& old) {
  const json::value* spec = old.if_contains("spec");
  if (spec != nullptr) object["spec"] = *spec;
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

void prepare_job(json::object& object) {
  json::object& spec = object_at(object, "spec");
  if (flag_of(spec, "manualSelector")) return;
  const std::string uid(text_of(object_or_empty(object, "metadata"), "uid"));
  const std::string name(text_of(object_or_empty(object, "metadata"), "name"));
  if (uid.empty() || spec.contains("selector")) return;
  json::object& labels = object_at(object_at(object_at(spec, "template"), "metadata"), "labels");
  for (const char* key : {"batch.kubernetes.io/controller-uid", "controller-uid"}) labels[key] = uid;
  for (const char* key : {"batch.kubernetes.io/job-name", "job-name"}) labels[key] = name;
  object_at(object_at(spec, "selector"), "matchLabels")["batch.kubernetes.io/controller-uid"] = uid;
}

}  // namespace orchestra::api
