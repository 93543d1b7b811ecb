// ResourceQuota usage (kubernetes/pkg/controller/resourcequota, pkg/quota/v1/evaluator/core).
//
// Admission charges what is created; this recounts from the objects themselves, after deletions and every
// five minutes, so that a charge that was lost comes right again. Terminal pods use nothing.
#include "controllers/quota/decide.hpp"

#include <algorithm>

#include "controllers/common/pods.hpp"

namespace orchestra::controllers {

namespace {

constexpr Duration kRecount = std::chrono::minutes(5);
constexpr const char* kStorageClassSuffix = ".storageclass.storage.k8s.io/";

Quantity quantity_of(const json::value& value) {
  return value.is_string() ? Quantity::parse(std::string_view(value.get_string())).value_or(Quantity())
                           : Quantity();
}

// max(sum of containers and sidecars, each init container with the sidecars before it) + overhead.
std::map<std::string, Quantity> pod_total(const json::value& pod, const char* which) {
  std::map<std::string, Quantity> sum;
  std::map<std::string, Quantity> sidecars;
  std::map<std::string, Quantity> peak;
  const auto amounts = [&](const json::value& container) {
    std::map<std::string, Quantity> out;
    if (const json::object* list = object_at(container, std::string("/resources/") + which)) {
      for (const auto& [name, value] : *list) out[std::string(name)] = quantity_of(value);
    }
    return out;
  };
  if (const json::array* all = array_at(pod, "/spec/containers")) {
    for (const json::value& container : *all) {
      for (const auto& [name, amount] : amounts(container)) sum[name] += amount;
    }
  }
  if (const json::array* all = array_at(pod, "/spec/initContainers")) {
    for (const json::value& container : *all) {
      const bool sidecar = string_at(container, "/restartPolicy") == "Always";
      for (const auto& [name, amount] : amounts(container)) {
        Quantity here = amount + sidecars[name];
        peak[name] = std::max(peak[name], here);
        if (!sidecar) continue;
        sidecars[name] += amount;
        sum[name] += amount;
      }
    }
  }
  for (const auto& [name, amount] : peak) sum[name] = std::max(sum[name], amount);
  if (const json::object* overhead = object_at(pod, "/spec/overhead")) {
    for (const auto& [name, value] : *overhead) {
      if (sum.contains(std::string(name))) sum[std::string(name)] += quantity_of(value);
    }
  }
  return sum;
}

bool best_effort(const json::value& pod) {
  return string_at(pod, "/status/qosClass") == "BestEffort" ||
         (pod_total(pod, "requests").empty() && pod_total(pod, "limits").empty());
}

bool scope_holds(const std::string& scope, const json::value& pod) {
  const json::value* deadline = find(pod, "/spec/activeDeadlineSeconds");
  const bool terminating = deadline != nullptr && deadline->is_number();
  if (scope == "Terminating") return terminating;
  if (scope == "NotTerminating") return !terminating;
  if (scope == "BestEffort") return best_effort(pod);
  if (scope == "NotBestEffort") return !best_effort(pod);
  if (scope == "PriorityClass") return !string_at(pod, "/spec/priorityClassName").empty();
  if (scope == "CrossNamespacePodAffinity") {
    for (const char* kind : {"podAffinity", "podAntiAffinity"}) {
      const std::string at =
          std::string("/spec/affinity/") + kind + "/requiredDuringSchedulingIgnoredDuringExecution";
      if (const json::array* terms = array_at(pod, at)) {
        for (const json::value& term : *terms) {
          if (find(term, "/namespaces") != nullptr || find(term, "/namespaceSelector") != nullptr)
            return true;
        }
      }
    }
  }
  return false;
}

bool expression_holds(const json::value& expression, const json::value& pod) {
  const std::string scope = string_at(expression, "/scopeName");
  if (scope != "PriorityClass") return scope_holds(scope, pod);
  const std::string value = string_at(pod, "/spec/priorityClassName");
  const std::string op = string_at(expression, "/operator");
  const json::array* values = array_at(expression, "/values");
  const bool listed =
      values != nullptr && std::any_of(values->begin(), values->end(), [&](const json::value& each) {
        return each.is_string() && each.get_string() == value;
      });
  if (op == "In") return listed;
  if (op == "NotIn") return !listed;
  return op == "Exists" ? !value.empty() : value.empty();
}

void charge_pod(const Object& pod, Charge& charge) {
  charge["pods"] = Quantity::from_int(1);
  for (const auto& [name, amount] : pod_total(tree(pod), "requests")) {
    charge["requests." + name] = amount;
    if (name == "cpu" || name == "memory" || name == "ephemeral-storage") charge[name] = amount;
  }
  for (const auto& [name, amount] : pod_total(tree(pod), "limits")) charge["limits." + name] = amount;
}

void charge_service(const Object& service, Charge& charge) {
  charge["services"] = Quantity::from_int(1);
  const json::value& root = tree(service);
  const std::string type = string_at(root, "/spec/type", "ClusterIP");
  const json::array* ports = array_at(root, "/spec/ports");
  const auto count = static_cast<std::int64_t>(ports == nullptr ? 0 : ports->size());
  if (type == "LoadBalancer") charge["services.loadbalancers"] = Quantity::from_int(1);
  const bool node_ports = type == "NodePort" || (type == "LoadBalancer" &&
                                                 bool_at(root, "/spec/allocateLoadBalancerNodePorts", true));
  if (node_ports) charge["services.nodeports"] = Quantity::from_int(count);
}

void charge_claim(const Object& claim, Charge& charge) {
  const Quantity size =
      Quantity::parse(string_at(tree(claim), "/spec/resources/requests/storage", "0")).value_or(Quantity());
  charge["persistentvolumeclaims"] = Quantity::from_int(1);
  charge["requests.storage"] = size;
  const std::string name = string_at(tree(claim), "/spec/storageClassName");
  if (name.empty()) return;
  charge[name + kStorageClassSuffix + "requests.storage"] = size;
  charge[name + kStorageClassSuffix + "persistentvolumeclaims"] = Quantity::from_int(1);
}

}  // namespace

Charge charge_of(const ResourceRef& resource, const Object& object) {
  Charge charge;
  const auto slash = resource.api_version.find('/');
  const std::string group = slash == std::string::npos ? "" : resource.api_version.substr(0, slash);
  charge["count/" + resource.resource + (group.empty() ? "" : "." + group)] = Quantity::from_int(1);
  if (resource == pods()) {
    // Terminal pods stay as objects and use nothing else.
    if (!pod_terminal(object)) charge_pod(object, charge);
  } else if (resource == services()) {
    charge_service(object, charge);
  } else if (resource == persistent_volume_claims()) {
    charge_claim(object, charge);
  } else if (group.empty() &&
             (resource.resource == "configmaps" || resource.resource == "secrets" ||
              resource.resource == "replicationcontrollers" || resource.resource == "resourcequotas")) {
    charge[resource.resource] = Quantity::from_int(1);
  }
  return charge;
}

bool quota_covers(const json::value& quota, const ResourceRef& resource, const Object& object) {
  const json::array* scopes = array_at(quota, "/spec/scopes");
  const json::array* expressions = array_at(quota, "/spec/scopeSelector/matchExpressions");
  const bool scoped =
      (scopes != nullptr && !scopes->empty()) || (expressions != nullptr && !expressions->empty());
  if (!scoped) return true;
  if (resource != pods()) return false;
  const json::value& pod = tree(object);
  if (scopes != nullptr && !std::all_of(scopes->begin(), scopes->end(), [&](const json::value& scope) {
        return scope.is_string() && scope_holds(std::string(scope.get_string()), pod);
      }))
    return false;
  return expressions == nullptr ||
         std::all_of(expressions->begin(), expressions->end(),
                     [&](const json::value& each) { return expression_holds(each, pod); });
}

namespace {

class QuotaReconciler final : public Reconciler {
 public:
  explicit QuotaReconciler(std::vector<KnownResource> catalog) : catalog_(std::move(catalog)) {
    std::erase_if(catalog_,
                  [](const KnownResource& each) { return !each.namespaced || each.kind == "Event"; });
  }
  std::string name() const override { return "resourcequota"; }

  std::vector<Source> sources() const override {
    std::vector<Source> sources = {watch_self(resource_quotas())};
    for (const KnownResource& each : catalog_) {
      if (each.ref == resource_quotas()) continue;
      const bool pod = each.ref == pods();
      const bool sized = each.ref == services() || each.ref == persistent_volume_claims();
      sources.push_back(
          {each.ref, true,
           [pod, sized](const View& view, const Object& old, const Object& now, const KeySink& wake) {
             const bool both = old && now;
             if (both && !pod && !sized) return;
             if (both && pod && pod_terminal(old) == pod_terminal(now)) return;
             if (both && sized && same_meaning(find(tree(old), "/spec"), find(tree(now), "/spec"))) return;
             for (const Object& quota : view.list(resource_quotas(), (now ? now : old).ns()))
               wake(ObjectKey::of(quota).text());
           }});
    }
    return sources;
  }

  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object quota = view.get(resource_quotas(), id.ns, id.name);
    if (!quota || quota.deleting()) return actions;
    const json::value& root = tree(quota);
    const json::object* hard = object_at(root, "/spec/hard");
    json::value status = json::object();
    Charge total;
    for (const KnownResource& each : catalog_) {
      for (const Object& object : view.list(each.ref, id.ns)) {
        if (!quota_covers(root, each.ref, object)) continue;
        for (const auto& [name, amount] : charge_of(each.ref, object)) total[name] += amount;
      }
    }
    json::object used;
    if (hard != nullptr) {
      status.get_object()["hard"] = *hard;
      for (const auto& [name, limit] : *hard) {
        const auto found = total.find(std::string(name));
        used[name] = found == total.end() ? "0" : found->second.to_string();
      }
      status.get_object()["used"] = std::move(used);
    }
    const json::value* before = find(root, "/status");
    if (!same_amounts(before, status)) {
      json::value copy = root;
      set_at(copy, "/status", std::move(status));
      actions.update_status(resource_quotas(), object_from_tree(std::move(copy)),
                            "what is there was counted");
    }
    actions.requeue(kRecount);
    actions.reason = "counted " + std::to_string(total.size()) + " kinds of use";
    return actions;
  }

 private:
  // "1" and "1000m" are the same use.
  static bool same_amounts(const json::value* before, const json::value& after) {
    if (before == nullptr) return false;
    for (const char* list : {"/hard", "/used"}) {
      const json::object* a = object_at(*before, list);
      const json::object* b = object_at(after, list);
      if ((a == nullptr) != (b == nullptr)) return false;
      if (a == nullptr) continue;
      if (a->size() != b->size()) return false;
      for (const auto& [name, value] : *b) {
        const json::value* other = a->if_contains(name);
        if (other == nullptr || quantity_of(*other) != quantity_of(value)) return false;
      }
    }
    return true;
  }

  std::vector<KnownResource> catalog_;
};

}  // namespace

std::shared_ptr<const Reconciler> make_quota_reconciler(std::vector<KnownResource> catalog) {
  return std::make_shared<QuotaReconciler>(std::move(catalog));
}

}  // namespace orchestra::controllers
