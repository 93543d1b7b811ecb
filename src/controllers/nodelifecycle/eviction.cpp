// Taint eviction (kubernetes/pkg/controller/tainteviction): pods leave a node with NoExecute taints unless
// they tolerate them, at once or when the shortest tolerationSeconds has passed since the taint came, or
// since the pod did. That time is counted from when this controller saw the taints, so that a clock that is
// set sends nobody away; what passed before is kept in the taint itself (timeAdded, which node lifecycle
// fills in), so a restart forgets nothing and a taint that goes in time needs no cancellation.
#include <algorithm>

#include "api/placement.hpp"
#include "controllers/common/pods.hpp"
#include "controllers/nodelifecycle/decide.hpp"

namespace orchestra::controllers {

namespace {

std::vector<json::value> no_execute_taints(const Object& node) {
  std::vector<json::value> taints;
  if (!node) return taints;
  if (const json::array* all = array_at(tree(node), "/spec/taints")) {
    for (const json::value& taint : *all) {
      if (string_at(taint, "/effect") == "NoExecute") taints.push_back(taint);
    }
  }
  return taints;
}

// Whether other taints than before, with any time, are what keeps pods away.
bool taints_came(const Object& old, const Object& now) {
  const auto without_times = [](const Object& node) {
    std::vector<json::value> taints = no_execute_taints(node);
    for (json::value& taint : taints) taint.get_object().erase("timeAdded");
    return taints;
  };
  const std::vector<json::value> taints = without_times(now);
  return !taints.empty() && taints != without_times(old);
}

// For how long a taint has been there for this pod.
Duration exposed(const json::value& taint, const Object& pod, const std::optional<Observed>& seen, Now now) {
  const std::int64_t added = time_at(taint, "/timeAdded").value_or(seen ? seen->at.wall_ns : now.wall_ns);
  // An older taint of the same node has its age of before, though another came.
  const Duration age = Observed{seen ? seen->at : now, false}.elapsed(now, added);
  const json::object* scheduled = find_condition(tree(pod), "PodScheduled");
  const json::value* since = scheduled == nullptr ? nullptr : scheduled->if_contains("lastTransitionTime");
  const auto bound = since == nullptr ? std::nullopt : time_at(*since, "");
  return std::max(Duration::zero(), age - Duration(std::max<std::int64_t>(0, bound.value_or(added) - added)));
}

// How long a pod may stay in spite of one taint: nullopt is always.
std::optional<Duration> stays_for(const json::value& taint, const Object& pod,
                                  const std::optional<Observed>& seen, Now now) {
  const json::array* tolerations = array_at(tree(pod), "/spec/tolerations");
  if (tolerations == nullptr) return Duration::zero();
  bool tolerated = false;
  std::optional<std::int64_t> shortest;
  for (const json::value& toleration : *tolerations) {
    if (!api::tolerates(toleration, taint)) continue;
    tolerated = true;
    const json::value* seconds = find(toleration, "/tolerationSeconds");
    if (seconds == nullptr || !seconds->is_number()) continue;
    const std::int64_t each = std::max<std::int64_t>(0, int_at(toleration, "/tolerationSeconds"));
    if (!shortest || each < *shortest) shortest = each;
  }
  if (!tolerated) return Duration::zero();
  if (!shortest) return std::nullopt;
  return std::max(Duration::zero(), Duration(*shortest * 1'000'000'000) - exposed(taint, pod, seen, now));
}

class TaintEviction final : public Reconciler {
 public:
  std::string name() const override { return "taint-eviction"; }

  std::vector<Source> sources() const override {
    Source of_pods{pods(), false,
                   [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
                     if (!now || now.deleting()) return;
                     const std::string node = string_at(tree(now), "/spec/nodeName");
                     if (node.empty()) return;
                     const bool bound_now = !old || string_at(tree(old), "/spec/nodeName") != node;
                     if (bound_now && !no_execute_taints(view.get(nodes(), {}, node)).empty()) {
                       wake(ObjectKey::of(now).text());
                     }
                   }};
    Source of_nodes{nodes(), false,
                    [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
                      if (!now || no_execute_taints(now) == no_execute_taints(old)) return;
                      for (const Object& pod : view.find(pods(), ObjectCache::kNode, now.name())) {
                        wake(ObjectKey::of(pod).text());
                      }
                    },
                    taints_came};
    return {std::move(of_pods), std::move(of_nodes)};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object pod = view.get(pods(), id.ns, id.name);
    if (!pod || pod.deleting() || pod_terminal(pod)) return actions;
    const std::string node_name = string_at(tree(pod), "/spec/nodeName");
    if (node_name.empty()) return actions;
    const std::optional<Observed> seen = view.observed(nodes(), {{}, node_name});
    std::optional<Duration> shortest;
    for (const json::value& taint : no_execute_taints(view.get(nodes(), {}, node_name))) {
      const auto stays = stays_for(taint, pod, seen, now);
      if (stays && (!shortest || *stays < *shortest)) shortest = stays;
    }
    if (!shortest) return actions;
    if (*shortest > Duration::zero()) {
      actions.requeue(*shortest);
      actions.reason = "tolerates the taints of " + node_name + " for a while";
      return actions;
    }
    evict(pod, now, actions);
    actions.reason = "does not tolerate the taints of " + node_name;
    return actions;
  }

 private:
  static void evict(const Object& pod, Now now, Actions& actions) {
    json::value copy = tree(pod);
    const bool marked = set_condition(array_in(copy, "/status/conditions"),
                                      {"DisruptionTarget", "True", "DeletionByTaintManager",
                                       "Taint manager: deleting due to NoExecute taint"},
                                      now.wall_ns, false);
    if (marked) actions.update_status(pods(), object_from_tree(std::move(copy)), "says why it goes");
    actions.event(pod, "Normal", "TaintManagerEviction",
                  "Marking for deletion Pod " + ObjectKey::of(pod).text());
    actions.remove(pods(), pod, "its node has a NoExecute taint that it does not tolerate");
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_taint_eviction_reconciler() {
  return std::make_shared<TaintEviction>();
}

}  // namespace orchestra::controllers
