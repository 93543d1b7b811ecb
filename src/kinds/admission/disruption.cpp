// Evictions ask the budget: upstream pkg/registry/core/pod/storage/eviction.go.
//
// The budget's status is lowered in the transaction that ends the pod, so a budget is never overdrawn,
// however many drain at once; its controller later replaces the figures by what it counts.
#include <algorithm>

#include "api/meta.hpp"
#include "api/select.hpp"
#include "api/status.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kBudgetsMax = 1000;
constexpr std::size_t kDisruptedMax = 2000;
constexpr const char* kRefusal = "Cannot evict pod as it would violate the pod's disruption budget.";

bool ready(const json::value& pod) {
  const json::array* conditions = array_at(pod, "/status/conditions");
  return conditions != nullptr &&
         std::any_of(conditions->begin(), conditions->end(), [](const json::value& one) {
           return string_at(one, "/type") == "Ready" && string_at(one, "/status") == "True";
         });
}

Error blocked(const std::string& why, int retry_after) {
  return api::too_many_requests(kRefusal, retry_after, {{"DisruptionBudget", why, ""}});
}

// The one budget that selects the pod; several are an error, none is fine.
Result<std::optional<Loaded>> budget_of(const View& view, const json::value& pod, json::value& tree) {
  const std::string ns(api::meta_string(pod, "namespace"));
  ORC_ASSIGN(const auto all, view.range(objects_range({"policy", "poddisruptionbudgets"}, ns), kBudgetsMax));
  std::optional<Loaded> chosen;
  for (const KeyValue& kv : all) {
    auto stored = decode_stored(kv.value.bytes());
    if (!stored) return stored.error();
    Loaded loaded{kv, *stored};
    ORC_ASSIGN(json::value one, loaded.tree());
    const json::value* text = find(one, "/spec/selector");
    if (text == nullptr) continue;
    auto selector = api::selector_of(text);
    if (!selector || !selector->matches(api::labels_of(pod))) continue;
    if (chosen) {
      return api::internal_error(
          "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.");
    }
    chosen = std::move(loaded);
    tree = std::move(one);
  }
  return chosen;
}

void lower(json::value& budget, const json::value& pod, std::int64_t left, std::int64_t wall_ns) {
  json::object& status = budget.get_object()["status"].get_object();
  status["disruptionsAllowed"] = left;
  json::value& disrupted = status["disruptedPods"];
  if (!disrupted.is_object()) disrupted = json::object();
  disrupted.get_object()[api::meta_string(pod, "name")] = api::format_time(wall_ns);
  json::value* conditions = status.if_contains("conditions");
  if (left > 0 || conditions == nullptr || !conditions->is_array()) return;
  for (json::value& one : conditions->get_array()) {
    if (!one.is_object() || string_at(one, "/type") != "DisruptionAllowed") continue;
    if (string_at(one, "/status") != "False")
      one.get_object()["lastTransitionTime"] = api::format_time(wall_ns);
    one.get_object()["status"] = "False";
    one.get_object()["reason"] = "InsufficientPods";
  }
}
}  // namespace

Result<void> spend_budget(const View& view, const json::value& pod, std::int64_t wall_ns, Change& change) {
  const std::string phase = string_at(pod, "/status/phase");
  if (phase == "Succeeded" || phase == "Failed" || phase == "Pending" || phase.empty() ||
      find(pod, "/metadata/deletionTimestamp") != nullptr) {
    return {};  // it serves nobody
  }
  json::value budget;
  ORC_ASSIGN(const std::optional<Loaded> loaded, budget_of(view, pod, budget));
  if (!loaded) return {};
  const std::string name(api::meta_string(budget, "name"));
  const std::int64_t healthy = int_at(budget, "/status/currentHealthy");
  const std::int64_t desired = int_at(budget, "/status/desiredHealthy");
  if (!ready(pod)) {
    const std::string policy = string_at(budget, "/spec/unhealthyPodEvictionPolicy");
    if (policy == "AlwaysAllow") return {};
    if (healthy >= desired && desired > 0) return {};
  }
  if (int_at(budget, "/status/observedGeneration") < int_at(budget, "/metadata/generation")) {
    return blocked("The disruption budget " + name + " is still being processed by the server.", 10);
  }
  const std::int64_t allowed = int_at(budget, "/status/disruptionsAllowed");
  const api::ResourceName budgets("policy", "poddisruptionbudgets");
  if (allowed < 0) return api::forbidden(budgets, name, "pdb disruptions allowed is negative");
  if (const json::object* disrupted = object_at(budget, "/status/disruptedPods");
      disrupted != nullptr && disrupted->size() > kDisruptedMax) {
    return api::forbidden(budgets, name,
                          "DisruptedPods map too big - too many evictions not confirmed by PDB controller");
  }
  if (allowed == 0) {
    return blocked("The disruption budget " + name + " needs " + std::to_string(desired) +
                       " healthy pods and has " + std::to_string(healthy) + " currently",
                   0);
  }
  lower(budget, pod, allowed - 1, wall_ns);
  const api::TypePtr type = api::TypeRegistry::builtin()->find_any_version("policy", "poddisruptionbudgets");
  change.expect(loaded->kv.key, loaded->kv);
  change.put(loaded->kv.key, Value(encode_object(*type, budget)));
  return {};
}

}  // namespace orchestra::apiserver
