// What objects count for in quotas, and which quota selects them.
//
// Upstream pkg/quota/v1/evaluator/core (pods.go, services.go, persistent_volume_claims.go) and
// generic/evaluator.go for count/RESOURCE.GROUP.
#include <algorithm>

#include "api/meta.hpp"
#include "api/select.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {

bool is(const api::TypeRecord& type, std::string_view group, std::string_view resource) {
  return type.group == group && type.plural == resource;
}
std::optional<Quantity> quantity_of(const json::value& value) {
  if (!value.is_string()) {
    return value.is_int64() ? std::optional<Quantity>(Quantity::from_int(value.get_int64())) : std::nullopt;
  }
  auto parsed = Quantity::parse(value.get_string());
  return parsed ? std::optional<Quantity>(*parsed) : std::nullopt;
}
void add(Usage& usage, const json::object* list) {
  if (list == nullptr) return;
  for (const auto& [name, value] : *list) {
    if (const auto amount = quantity_of(value)) usage[std::string(name)] += *amount;
  }
}
void raise(Usage& usage, const Usage& other) {
  for (const auto& [name, amount] : other) {
    Quantity& own = usage[name];
    if (amount > own) own = amount;
  }
}

// The sum of the containers and sidecars, or what the init containers need at their time if that is more.
Usage resources_of_pod(const json::value& pod, const std::string& kind) {
  const std::string pointer = "/resources/" + kind;
  Usage sum;
  Usage sidecars;
  Usage init;
  if (const json::array* containers = array_at(pod, "/spec/initContainers")) {
    for (const json::value& container : *containers) {
      if (string_at(container, "/restartPolicy") == "Always") {
        add(sidecars, object_at(container, pointer));
        raise(init, sidecars);
        continue;
      }
      Usage now = sidecars;
      add(now, object_at(container, pointer));
      raise(init, now);
    }
  }
  if (const json::array* containers = array_at(pod, "/spec/containers")) {
    for (const json::value& container : *containers) add(sum, object_at(container, pointer));
  }
  for (const auto& [name, amount] : sidecars) sum[name] += amount;
  raise(sum, init);
  add(sum, object_at(pod, "/spec/overhead"));
  return sum;
}

bool is_over(const json::value& pod) {
  const std::string phase = string_at(pod, "/status/phase");
  return phase == "Succeeded" || phase == "Failed";
}

void add_pod(Usage& usage, const json::value& pod) {
  if (is_over(pod)) return;
  usage["pods"] = Quantity::from_int(1);
  for (const auto& [name, amount] : resources_of_pod(pod, "requests")) {
    usage["requests." + name] = amount;
    if (name == "cpu" || name == "memory" || name == "ephemeral-storage" || name.starts_with("hugepages-"))
      usage[name] = amount;
  }
  for (const auto& [name, amount] : resources_of_pod(pod, "limits")) {
    if (name == "cpu" || name == "memory" || name == "ephemeral-storage") usage["limits." + name] = amount;
  }
}

void add_service(Usage& usage, const json::value& service) {
  const std::string type = string_at(service, "/spec/type");
  usage["services"] = Quantity::from_int(1);
  if (type != "NodePort" && type != "LoadBalancer") return;
  std::int64_t ports = 0;
  if (const json::array* list = array_at(service, "/spec/ports")) {
    for (const json::value& port : *list)
      ports += type == "NodePort" || int_at(port, "/nodePort") != 0 ? 1 : 0;
  }
  usage["services.nodeports"] = Quantity::from_int(ports);
  if (type == "LoadBalancer") usage["services.loadbalancers"] = Quantity::from_int(1);
}

void add_claim(Usage& usage, const json::value& claim) {
  usage["persistentvolumeclaims"] = Quantity::from_int(1);
  const std::string name = string_at(claim, "/spec/storageClassName");
  const std::string by_class = name + ".storageclass.storage.k8s.io/";
  if (!name.empty()) usage[by_class + "persistentvolumeclaims"] = Quantity::from_int(1);
  const json::value* asked = find(claim, "/spec/resources/requests/storage");
  const auto storage = asked == nullptr ? std::nullopt : quantity_of(*asked);
  if (!storage) return;
  usage["requests.storage"] = *storage;
  if (!name.empty()) usage[by_class + "requests.storage"] = *storage;
}

bool best_effort(const json::value& pod) {
  for (const char* kind : {"requests", "limits"}) {
    for (const auto& [name, amount] : resources_of_pod(pod, kind)) {
      if ((name == "cpu" || name == "memory") && !amount.is_zero()) return false;
    }
  }
  return true;
}
bool crosses_namespaces(const json::value& pod) {
  for (const char* kind : {"podAffinity", "podAntiAffinity"}) {
    for (const char* when : {"requiredDuringSchedulingIgnoredDuringExecution",
                             "preferredDuringSchedulingIgnoredDuringExecution"}) {
      const json::array* terms = array_at(pod, std::string("/spec/affinity/") + kind + "/" + when);
      if (terms == nullptr) continue;
      for (const json::value& entry : *terms) {
        const json::value* term = find(entry, "/podAffinityTerm");
        if (term == nullptr) term = &entry;
        const json::array* names = array_at(*term, "/namespaces");
        if ((names != nullptr && !names->empty()) || find(*term, "/namespaceSelector") != nullptr)
          return true;
      }
    }
  }
  return false;
}

bool value_in(const json::value& expression, const std::string& value) {
  const json::array* values = array_at(expression, "/values");
  return values != nullptr && std::any_of(values->begin(), values->end(),
                                          [&](const json::value& one) { return one == json::value(value); });
}
bool matches_class(const json::value& expression, const std::string& name) {
  const std::string op = string_at(expression, "/operator");
  if (op == "Exists") return !name.empty();
  if (op == "DoesNotExist") return name.empty();
  if (op == "In") return value_in(expression, name);
  return op == "NotIn" && !value_in(expression, name);
}

bool scope_selects(const std::string& scope, const json::value* expression, const api::TypeRecord& type,
                   const json::value& object) {
  if (scope == "VolumeAttributesClass") {
    if (!is(type, "", "persistentvolumeclaims")) return false;
    const std::string name = string_at(object, "/spec/volumeAttributesClassName");
    return expression == nullptr ? !name.empty() : matches_class(*expression, name);
  }
  if (!is(type, "", "pods")) return false;
  if (scope == "Terminating") return find(object, "/spec/activeDeadlineSeconds") != nullptr;
  if (scope == "NotTerminating") return find(object, "/spec/activeDeadlineSeconds") == nullptr;
  if (scope == "BestEffort") return best_effort(object);
  if (scope == "NotBestEffort") return !best_effort(object);
  if (scope == "CrossNamespacePodAffinity") return crosses_namespaces(object);
  if (scope != "PriorityClass") return false;
  const std::string name = string_at(object, "/spec/priorityClassName");
  return expression == nullptr ? !name.empty() : matches_class(*expression, name);
}
}  // namespace

Usage usage_of(const api::TypeRecord& type, const json::value& object) {
  Usage usage;
  usage["count/" + type.qualified_resource()] = Quantity::from_int(1);
  if (is(type, "", "pods")) {
    add_pod(usage, object);
  } else if (is(type, "", "services")) {
    add_service(usage, object);
  } else if (is(type, "", "persistentvolumeclaims")) {
    add_claim(usage, object);
  } else if (type.group.empty() &&
             (type.plural == "secrets" || type.plural == "configmaps" ||
              type.plural == "replicationcontrollers" || type.plural == "resourcequotas")) {
    usage[type.plural] = Quantity::from_int(1);
  }
  return usage;
}

bool quota_selects(const json::value& quota, const api::TypeRecord& type, const json::value& object) {
  if (const json::array* scopes = array_at(quota, "/spec/scopes")) {
    for (const json::value& scope : *scopes) {
      if (scope.is_string() && !scope_selects(std::string(scope.get_string()), nullptr, type, object))
        return false;
    }
  }
  if (const json::array* expressions = array_at(quota, "/spec/scopeSelector/matchExpressions")) {
    for (const json::value& expression : *expressions) {
      if (!scope_selects(string_at(expression, "/scopeName"), &expression, type, object)) return false;
    }
  }
  return true;
}

}  // namespace orchestra::apiserver
