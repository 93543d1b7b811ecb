// Taint eviction (kubernetes/pkg/controller/tainteviction): pods leave a node with NoExecute taints unless
// they tolerate them, at once or when the shortest tolerationSeconds has passed since the taint came. The
// time is kept in the taint itself (timeAdded, which node lifecycle fills in), so a restart forgets nothing
// and a taint that goes in time needs no cancellation.
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

// When a pod has to leave because of one taint: never (nullopt), or at a wall time; 0 is at once.
std::optional<std::int64_t> leaves_at(const json::value& taint, const json::array* tolerations, Now now) {
  if (tolerations == nullptr) return 0;
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
  if (!tolerated) return 0;
  if (!shortest) return std::nullopt;
  return time_at(taint, "/timeAdded").value_or(now.wall_ns) + *shortest * 1'000'000'000;
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
                    }};
    return {std::move(of_pods), std::move(of_nodes)};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object pod = view.get(pods(), id.ns, id.name);
    if (!pod || pod.deleting() || pod_terminal(pod)) return actions;
    const std::string node_name = string_at(tree(pod), "/spec/nodeName");
    if (node_name.empty()) return actions;
    std::optional<std::int64_t> earliest;
    for (const json::value& taint : no_execute_taints(view.get(nodes(), {}, node_name))) {
      const auto at = leaves_at(taint, array_at(tree(pod), "/spec/tolerations"), now);
      if (at && (!earliest || *at < *earliest)) earliest = at;
    }
    if (!earliest) return actions;
    if (*earliest > now.wall_ns) {
      actions.requeue(Duration(*earliest - now.wall_ns));
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
