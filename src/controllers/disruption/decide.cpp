// Disruption controller (kubernetes/pkg/controller/disruption/disruption.go).
//
// disruptionsAllowed = healthy - desired. What is desired follows from minAvailable or maxUnavailable of the
// number of pods that the owners ask for, so that a scale-down is no disruption. A pod that was evicted and
// is not yet seen to go stands in disruptedPods for two minutes and does not count as healthy. The check and
// decrement at eviction is the API server's.
#include "controllers/disruption/decide.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "controllers/common/pods.hpp"

namespace orchestra::controllers {

namespace {

constexpr std::int64_t kDisruptedFor = 120'000'000'000;  // ns
constexpr std::int64_t kRoundUp = 1'000'000'000;

struct Expected {
  std::int64_t count = 0, desired = 0;
  std::string trouble = {};  // why it cannot be known
};

// The number of pods that a pod's owner asks for, by the owner that decides (a ReplicaSet's Deployment).
std::optional<std::pair<std::string, std::int64_t>> scale_of(const OwnerReference& owner,
                                                             const std::string& ns, const View& view) {
  const auto live = [&](const ResourceRef& resource, const OwnerReference& reference) {
    const Object object = view.get(resource, ns, reference.name);
    return object && object.uid() == reference.uid ? object : Object();
  };
  const auto answer = [](const Object& object) {
    return std::pair(object.uid(), int_at(tree(object), "/spec/replicas", 1));
  };
  if (owner.kind == "ReplicaSet") {
    const Object set = live(replica_sets(), owner);
    if (!set) return std::nullopt;
    const OwnerReference* above = set.controller();
    if (above != nullptr && above->kind == "Deployment") {
      const Object deployment = live(deployments(), *above);
      if (deployment) return answer(deployment);
    }
    return answer(set);
  }
  if (owner.kind == "StatefulSet") {
    const Object set = live(stateful_sets(), owner);
    if (set) return answer(set);
  } else if (owner.kind == "ReplicationController") {
    const Object controller = live(replication_controllers(), owner);
    if (controller) return answer(controller);
  } else if (owner.kind == "Deployment") {
    const Object deployment = live(deployments(), owner);
    if (deployment) return answer(deployment);
  }
  return std::nullopt;
}

Expected by_scale(const std::vector<Object>& covered, const View& view) {
  Expected expected;
  std::map<std::string, std::int64_t> scales;
  for (const Object& pod : covered) {
    const OwnerReference* owner = pod.controller();
    if (owner == nullptr) {
      expected.trouble = "found no controller ref for pod " + pod.name();
      continue;
    }
    const auto scale = scale_of(*owner, pod.ns(), view);
    if (!scale) {
      expected.trouble = owner->kind + " " + owner->name + " does not implement the scale subresource";
      continue;
    }
    scales[scale->first] = scale->second;
  }
  for (const auto& [uid, count] : scales) expected.count += count;
  return expected;
}

Expected expected_of(const json::value& root, const std::vector<Object>& covered, const View& view) {
  const json::value* unavailable = find(root, "/spec/maxUnavailable");
  const json::value* available = find(root, "/spec/minAvailable");
  if (unavailable != nullptr && !unavailable->is_null()) {
    Expected expected = by_scale(covered, view);
    expected.desired =
        std::max<std::int64_t>(0, expected.count - resolve_percent(unavailable, expected.count, true));
    return expected;
  }
  if (available == nullptr || available->is_null()) return {};
  if (!available->is_string()) {
    return {static_cast<std::int64_t>(covered.size()), resolve_percent(available, 0, true), {}};
  }
  Expected expected = by_scale(covered, view);
  expected.desired = resolve_percent(available, expected.count, true);
  return expected;
}

class Disruption final : public Reconciler {
 public:
  std::string name() const override { return "disruption"; }

  std::vector<Source> sources() const override {
    const auto budgets_of = [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
      for (const Object* pod : {&old, &now}) {
        if (!*pod) continue;
        for (const Object& budget : view.list(disruption_budgets(), pod->ns())) {
          const auto selector = LabelSelector::parse(find(tree(budget), "/spec/selector"));
          if (selector && selector->matches(pod->labels())) wake(ObjectKey::of(budget).text());
        }
      }
    };
    // A changed scale changes what is expected; which budgets cover it, their pods would tell.
    const auto all_of_namespace = [](const View& view, const Object& old, const Object& now,
                                     const KeySink& wake) {
      if (old && now && int_at(tree(old), "/spec/replicas", 1) == int_at(tree(now), "/spec/replicas", 1))
        return;
      for (const Object& budget : view.list(disruption_budgets(), (now ? now : old).ns()))
        wake(ObjectKey::of(budget).text());
    };
    return {watch_self(disruption_budgets()),           {pods(), false, budgets_of},
            {deployments(), false, all_of_namespace},   {replica_sets(), false, all_of_namespace},
            {stateful_sets(), false, all_of_namespace}, {replication_controllers(), false, all_of_namespace}};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object budget = view.get(disruption_budgets(), id.ns, id.name);
    if (!budget || budget.deleting()) return actions;
    const json::value& root = tree(budget);
    const auto selector = LabelSelector::parse(find(root, "/spec/selector"));
    json::value status = json::object();
    if (const json::value* before = find(root, "/status"); before != nullptr && before->is_object())
      status = *before;
    if (!selector) {
      actions.event(budget, "Warning", "InvalidSelector", selector.error().message());
      return actions;
    }
    std::vector<Object> covered = selector->select(view, pods(), id.ns);
    std::erase_if(covered, [](const Object& pod) { return pod_terminal(pod); });
    if (covered.empty()) actions.event(budget, "Normal", "NoPods", "No matching pods found");
    const Expected expected = expected_of(root, covered, view);
    if (!expected.trouble.empty()) {
      actions.event(budget, "Warning",
                    expected.count == 0 ? "CalculateExpectedPodCountFailed" : "UnmanagedPods",
                    "Failed to calculate the number of expected pods: " + expected.trouble);
    }
    if (!expected.trouble.empty() && expected.count == 0) {
      // Fail closed: what is not known is not allowed.
      status.get_object()["disruptionsAllowed"] = 0;
      set(array_in(status, "/conditions"), "False", "SyncFailed", expected.trouble, budget.generation(), now);
    } else {
      fill(status, covered, expected, budget.generation(), now, actions);
    }
    status.get_object()["observedGeneration"] = budget.generation();
    if (!same_meaning(find(root, "/status"), &status)) {
      json::value copy = root;
      set_at(copy, "/status", status);
      actions.update_status(disruption_budgets(), object_from_tree(std::move(copy)), "pods are counted");
    }
    actions.reason = std::to_string(int_at(status, "/currentHealthy")) + " healthy, " +
                     std::to_string(int_at(status, "/desiredHealthy")) + " desired, " +
                     std::to_string(int_at(status, "/disruptionsAllowed")) + " may go";
    return actions;
  }

 private:
  static void set(json::array& conditions, const char* value, const char* reason, const std::string& message,
                  std::int64_t generation, Now now) {
    set_condition(conditions, {"DisruptionAllowed", value, reason, message}, now.wall_ns, false);
    for (json::value& condition : conditions) {
      if (string_at(condition, "/type") != "DisruptionAllowed") continue;
      condition.get_object()["observedGeneration"] = generation;
      condition.get_object().insert(std::pair{"message", json::value("")});
    }
  }

  // Entries of pods that are still here, not yet leaving, and younger than two minutes.
  static std::set<std::string> keep_disrupted(json::value& status, const std::vector<Object>& covered,
                                              Now now, Actions& actions) {
    std::set<std::string> kept;
    json::object after;
    if (const json::object* before = object_at(status, "/disruptedPods")) {
      for (const auto& [name, value] : *before) {
        const std::string pod_name(name);
        const auto since =
            value.is_string() ? parse_time(std::string_view(value.get_string())) : std::nullopt;
        const auto pod = std::find_if(covered.begin(), covered.end(),
                                      [&](const Object& each) { return each.name() == pod_name; });
        if (!since || pod == covered.end() || pod->deleting()) continue;
        const std::int64_t rest = *since + kDisruptedFor - now.wall_ns;
        if (rest <= 0) continue;
        actions.requeue(Duration(rest + kRoundUp));
        kept.insert(pod_name);
        after[name] = value;
      }
    }
    if (after.empty()) {
      status.get_object().erase("disruptedPods");
    } else {
      status.get_object()["disruptedPods"] = std::move(after);
    }
    return kept;
  }

  static void fill(json::value& status, const std::vector<Object>& covered, const Expected& expected,
                   std::int64_t generation, Now now, Actions& actions) {
    const std::set<std::string> disrupted = keep_disrupted(status, covered, now, actions);
    const std::int64_t healthy = std::count_if(covered.begin(), covered.end(), [&](const Object& pod) {
      return !pod.deleting() && !disrupted.contains(pod.name()) && pod_ready(pod);
    });
    std::int64_t allowed = healthy - expected.desired;
    if (expected.count <= 0 || allowed <= 0) allowed = 0;
    json::object& fields = status.get_object();
    fields["currentHealthy"] = healthy;
    fields["desiredHealthy"] = expected.desired;
    fields["expectedPods"] = expected.count;
    fields["disruptionsAllowed"] = allowed;
    set(array_in(status, "/conditions"), allowed > 0 ? "True" : "False",
        allowed > 0 ? "SufficientPods" : "InsufficientPods", "", generation, now);
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_disruption_reconciler() { return std::make_shared<Disruption>(); }

}  // namespace orchestra::controllers
