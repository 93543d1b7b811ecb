// PodGC (kubernetes/pkg/controller/podgc/gc_controller.go): terminated pods beyond a bound, pods of nodes
// that are gone, and pods that are being deleted but that no node will end: they were never bound to one, or
// theirs is not ready and somebody says, by the taint node.kubernetes.io/out-of-service, that it is off.
//
// There is one key, "all". The one thing remembered between decisions is since when a node is missing: no
// object carries that; a restart only makes such pods live 40 s longer.
#include "controllers/podgc/decide.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "controllers/common/pods.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kKey = "all";
constexpr const char* kOutOfService = "node.kubernetes.io/out-of-service";

// With any effect and value, as upstream. A node that is ready again ends its pods itself.
bool out_of_service(const Object& node) {
  if (!node) return false;
  const json::object* ready = find_condition(tree(node), "Ready");
  if (ready != nullptr && string_at(json::value(*ready), "/status") == "True") return false;
  const json::array* taints = array_at(tree(node), "/spec/taints");
  return taints != nullptr && std::any_of(taints->begin(), taints->end(), [](const json::value& taint) {
           return string_at(taint, "/key") == kOutOfService;
         });
}

class PodGc final : public Reconciler {
 public:
  explicit PodGc(PodGcOptions options) : options_(options) {}
  std::string name() const override { return "pod-garbage-collector"; }

  std::vector<Source> sources() const override {
    Source of_pods{pods(), false,
                   [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
                     if (!now) return;
                     const std::string node = string_at(tree(now), "/spec/nodeName");
                     const bool stuck = now.deleting() && node.empty();
                     const bool ended = pod_terminal(now) && (!old || !pod_terminal(old));
                     const bool lost = !node.empty() && !old && !view.get(nodes(), {}, node);
                     const bool off = now.deleting() && (!old || !old.deleting()) && !node.empty() &&
                                      out_of_service(view.get(nodes(), {}, node));
                     if (stuck || ended || lost || off) wake(kKey);
                   }};
    Source of_nodes{nodes(), false,
                    [](const View&, const Object& old, const Object& now, const KeySink& wake) {
                      if (!now || (out_of_service(now) && !out_of_service(old))) wake(kKey);
                    }};
    return {std::move(of_pods), std::move(of_nodes)};
  }

  Actions decide(const std::string&, const View& view, Now now) const override {
    Actions actions;
    std::vector<Object> terminated;
    std::set<std::string> missing;
    for (const Object& pod : view.list(pods())) {
      const std::string node = string_at(tree(pod), "/spec/nodeName");
      if (node.empty()) {
        if (pod.deleting()) end(pod, "was never bound to a node", "", now, actions);
      } else if (!view.get(nodes(), {}, node)) {
        missing.insert(node);
        if (gone_for_good(node, now, actions)) {
          end(pod, "its node is gone", "PodGC: node no longer exists", now, actions);
          actions.list.back().checks.push_back({nodes(), {}, node, {}, LiveCheck::Expect::absent});
        }
        continue;
      } else if (pod.deleting() && out_of_service(view.get(nodes(), {}, node))) {
        end(pod, "its node is out of service", "", now, actions);
        continue;
      }
      if (pod_terminal(pod) && !pod.deleting()) terminated.push_back(pod);
    }
    forget_others(missing);
    end_oldest(std::move(terminated), now, actions);
    return actions;
  }

 private:
  // Force-deletes a pod; one that its owners still believe to run is Failed first.
  static void end(const Object& pod, const std::string& reason, const std::string& disruption, Now now,
                  Actions& actions) {
    if (!string_at(tree(pod), "/spec/nodeName").empty() && !pod_terminal(pod)) {
      json::value copy = tree(pod);
      set_at(copy, "/status/phase", json::value("Failed"));
      if (!disruption.empty()) {
        set_condition(array_in(copy, "/status/conditions"),
                      {"DisruptionTarget", "True", "DeletionByPodGC", disruption}, now.wall_ns, false);
      }
      actions.update_status(pods(), object_from_tree(std::move(copy)), reason);
    }
    actions.remove(pods(), pod, reason).grace_period_seconds = 0;
  }

  void end_oldest(std::vector<Object> terminated, Now now, Actions& actions) const {
    if (terminated.size() <= options_.terminated_max) return;
    const auto created = [](const Object& pod) {
      return time_at(tree(pod), "/metadata/creationTimestamp").value_or(0);
    };
    std::stable_sort(terminated.begin(), terminated.end(),
                     [&](const Object& a, const Object& b) { return created(a) < created(b); });
    terminated.resize(terminated.size() - options_.terminated_max);
    for (const Object& pod : terminated) end(pod, "more terminated pods than are kept", "", now, actions);
  }

  bool gone_for_good(const std::string& node, Now now, Actions& actions) const {
    std::lock_guard lock(mutex_);
    const std::int64_t since = missing_since_.try_emplace(node, now.steady_ns).first->second;
    const Duration gone(now.steady_ns - since);
    if (gone >= options_.node_gone) return true;
    actions.requeue(options_.node_gone - gone);
    return false;
  }

  void forget_others(const std::set<std::string>& missing) const {
    std::lock_guard lock(mutex_);
    std::erase_if(missing_since_, [&](const auto& entry) { return !missing.contains(entry.first); });
  }

  const PodGcOptions options_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::int64_t> missing_since_;  // node -> steady time
};

}  // namespace

std::shared_ptr<const Reconciler> make_pod_gc_reconciler(PodGcOptions options) {
  return std::make_shared<PodGc>(options);
}

}  // namespace orchestra::controllers
