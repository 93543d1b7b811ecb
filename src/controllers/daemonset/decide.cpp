// DaemonSet controller (kubernetes/pkg/controller/daemon/daemon_controller.go, update.go).
//
// Each node either should have a pod, may keep one that runs (a NoSchedule taint came later), or must not
// have one. Pods go through the scheduler, pinned to their node by a required affinity on metadata.name. A
// rolling update with maxUnavailable ends old pods first; with maxSurge the new pod must be available first,
// so two may share a node. A failed pod is replaced with growing pauses; how often it failed travels in an
// annotation, because this function has no memory.
#include "controllers/daemonset/decide.hpp"

#include <algorithm>
#include <map>

#include "api/placement.hpp"
#include "controllers/common/history.hpp"
#include "controllers/common/observations.hpp"
#include "controllers/common/pods.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kHash = "controller-revision-hash";
constexpr const char* kFailures = "orchestra.dev/daemon-failures";
constexpr std::size_t kBurst = 250;  // creates, and as many deletes, of one decision
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kPauseMax = 900 * kSecond;

json::array auto_tolerations(const json::value& spec) {
  json::array list;
  const auto add = [&](const char* key, const char* effect) {
    list.push_back(json::object{{"key", key}, {"operator", "Exists"}, {"effect", effect}});
  };
  add("node.kubernetes.io/not-ready", "NoExecute");
  add("node.kubernetes.io/unreachable", "NoExecute");
  add("node.kubernetes.io/disk-pressure", "NoSchedule");
  add("node.kubernetes.io/memory-pressure", "NoSchedule");
  add("node.kubernetes.io/pid-pressure", "NoSchedule");
  add("node.kubernetes.io/unschedulable", "NoSchedule");
  if (bool_at(spec, "/hostNetwork")) add("node.kubernetes.io/network-unavailable", "NoSchedule");
  return list;
}

json::array tolerations_of(const json::value& spec) {
  json::array all;
  if (const json::array* own = array_at(spec, "/tolerations")) all = *own;
  for (json::value& each : auto_tolerations(spec)) {
    if (std::find(all.begin(), all.end(), each) == all.end()) all.push_back(std::move(each));
  }
  return all;
}

// The node that a pod is for: where it is, or where its affinity pins it.
std::string node_of(const json::value& pod) {
  std::string node = string_at(pod, "/spec/nodeName");
  if (!node.empty()) return node;
  const json::array* terms = array_at(
      pod, "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms");
  if (terms == nullptr) return node;
  for (const json::value& term : *terms) {
    const json::array* fields = array_at(term, "/matchFields");
    if (fields == nullptr) continue;
    for (const json::value& field : *fields) {
      if (string_at(field, "/key") == "metadata.name") return string_at(field, "/values/0");
    }
  }
  return node;
}

// util.ReplaceDaemonSetPodNodeNameNodeAffinity: every term is replaced by the one that names the node.
void pin(json::value& pod, const std::string& node) {
  json::object term{{"matchFields", json::array{json::object{
                                        {"key", "metadata.name"}, {"operator", "In"}, {"values", {node}}}}}};
  set_at(pod, "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
         json::object{{"nodeSelectorTerms", json::array{std::move(term)}}});
}

std::int64_t failures_of(const Object& pod) {
  return to_int(annotation(pod, kFailures).value_or("0")).value_or(0);
}

std::int64_t ended_at(const Object& pod) {
  std::int64_t latest = 0;
  if (const json::array* statuses = array_at(tree(pod), "/status/containerStatuses")) {
    for (const json::value& status : *statuses)
      latest = std::max(latest, time_at(status, "/state/terminated/finishedAt").value_or(0));
  }
  return latest != 0 ? latest : time_at(tree(pod), "/metadata/creationTimestamp").value_or(0);
}

struct Pass {
  const Object& set;
  const View& view;
  const Now now;
  Actions& actions;
  std::string hash = {};
  json::value spec = {};  // of the template, with all tolerations
  std::int64_t min_ready = 0, max_unavailable = 1, max_surge = 0;
  std::optional<Duration> due = {};
  std::map<std::string, std::vector<Object>> by_node = {};  // pods that are ours
  std::map<std::string, std::int64_t> missing = {};         // node -> failures so far
  std::vector<Object> surplus = {};
  std::map<std::string, bool> should_run = {};
  struct Counts {
    std::int64_t current = 0, desired = 0, misplaced = 0, ready = 0, updated = 0, available = 0;
  } counts = {};

  bool is_new(const Object& pod) const {
    const auto label = pod.labels().find(kHash);
    return label != pod.labels().end() && label->second == hash;
  }
  bool available(const Object& pod) { return !pod.deleting() && pod_available(pod, min_ready, now, due); }

  // {should run, may keep running}
  std::pair<bool, bool> judge(const Object& node) const {
    const std::string pinned = string_at(spec, "/nodeName");
    if (!pinned.empty() && pinned != node.name()) return {false, false};
    if (!api::accepts_node(spec, node)) return {false, false};
    bool run = true;
    bool stay = true;
    if (const json::array* taints = array_at(tree(node), "/spec/taints")) {
      for (const json::value& taint : *taints) {
        const std::string effect = string_at(taint, "/effect");
        if (effect == "PreferNoSchedule" || api::tolerated(array_at(spec, "/tolerations"), taint)) continue;
        run = false;
        if (effect == "NoExecute") stay = false;
      }
    }
    return {run, stay};
  }

  // A failed pod goes after its pause, and its replacement knows how often that happened.
  bool retire_failed(const std::string& node, const Object& pod, bool replace) {
    const std::int64_t ended = ended_at(pod);
    const std::int64_t began = time_at(tree(pod), "/status/startTime").value_or(ended);
    const std::int64_t failures = ended - began > 2 * kPauseMax ? 0 : failures_of(pod);
    const std::int64_t pause = std::min(kPauseMax, kSecond << std::min<std::int64_t>(failures, 10));
    const Duration rest = Duration(pause) - age_of(view, pods(), pod, ended, now);
    if (rest > Duration::zero()) {
      actions.requeue(rest);
      return false;
    }
    actions.event(set, "Warning", "FailedDaemonPod",
                  "Found failed daemon pod " + pod.ns() + "/" + pod.name() + " on node " + node +
                      ", will try to kill it");
    surplus.push_back(pod);
    if (replace) missing[node] = failures + 1;
    return true;
  }

  void manage_node(const Object& node) {
    const auto [run, stay] = judge(node);
    should_run[node.name()] = run;
    auto found = by_node.find(node.name());
    std::vector<Object> running;
    bool held = false;  // by a failed pod in its pause, or by one that is on its way out
    if (found != by_node.end()) {
      for (const Object& pod : found->second) {
        const std::string phase = string_at(tree(pod), "/status/phase");
        if (pod.deleting()) {
          held = true;
        } else if (!stay) {
          surplus.push_back(pod);
        } else if (phase == "Failed" || phase == "Succeeded") {
          if (!retire_failed(node.name(), pod, run)) held = true;
        } else {
          running.push_back(pod);
        }
      }
    }
    if (run && running.empty() && !held && !missing.contains(node.name())) missing[node.name()] = 0;
    if (!running.empty()) missing.erase(node.name());
    if (!stay || running.size() < 2) return;
    std::sort(running.begin(), running.end(), [](const Object& a, const Object& b) {
      const auto ta = time_at(tree(a), "/metadata/creationTimestamp").value_or(0);
      const auto tb = time_at(tree(b), "/metadata/creationTimestamp").value_or(0);
      return ta != tb ? ta < tb : a.name() < b.name();
    });
    // One stays; while a surge is allowed, the oldest of either revision.
    bool kept_old = false;
    bool kept_new = false;
    for (const Object& pod : running) {
      bool& kept = max_surge > 0 && !is_new(pod) ? kept_old : kept_new;
      if (kept) surplus.push_back(pod);
      kept = true;
    }
  }

  void roll() {
    std::vector<Object> candidates;
    std::vector<std::string> waiting_nodes;
    std::int64_t unavailable = 0;
    std::int64_t surge = 0;
    for (const auto& [node, run] : should_run) {
      if (!run) continue;
      const Object* old_pod = nullptr;
      const Object* new_pod = nullptr;
      const auto found = by_node.find(node);
      if (found != by_node.end()) {
        for (const Object& pod : found->second) {
          if (pod_terminal(pod)) continue;
          (is_new(pod) ? new_pod : old_pod) = &pod;
        }
      }
      if (max_surge == 0) {
        if (old_pod == nullptr) {
          if (new_pod == nullptr || !available(*new_pod)) ++unavailable;
        } else if (new_pod != nullptr || old_pod->deleting()) {
          ++unavailable;
        } else if (!available(*old_pod)) {
          ++unavailable;
          surplus.push_back(*old_pod);  // costs nothing: it serves nobody
        } else {
          candidates.push_back(*old_pod);
        }
        continue;
      }
      if (old_pod == nullptr) continue;
      if (new_pod != nullptr) {
        ++surge;
        if (available(*new_pod) && !old_pod->deleting()) surplus.push_back(*old_pod);
      } else if (!available(*old_pod)) {
        if (!old_pod->deleting()) surplus.push_back(*old_pod);
        missing.emplace(node, 0);
      } else {
        waiting_nodes.push_back(node);
      }
    }
    for (std::int64_t i = 0; i < max_unavailable - unavailable && i < std::int64_t(candidates.size()); ++i)
      surplus.push_back(candidates[static_cast<std::size_t>(i)]);
    for (std::int64_t i = 0; i < max_surge - surge && i < std::int64_t(waiting_nodes.size()); ++i)
      missing.emplace(waiting_nodes[static_cast<std::size_t>(i)], 0);
  }

  void order() {
    const json::value pod_template = *find(tree(set), "/spec/template");
    std::size_t created = 0;
    for (const auto& [node, failures] : missing) {
      if (created++ == kBurst) {
        actions.requeue(Duration::zero());
        break;
      }
      json::value pod = tree(pod_from_template(pod_template, set));
      set_at(pod, "/spec/tolerations", tolerations_of(spec));
      object_in(pod, "/metadata/labels")[kHash] = hash;
      if (failures > 0) object_in(pod, "/metadata/annotations")[kFailures] = std::to_string(failures);
      pin(pod, node);
      Action& create = actions.create(pods(), object_from_tree(std::move(pod)), "node " + node + " has none");
      create.independent = true;
      create.announce = Announcement{set, "SuccessfulCreate", "Created pod: "};
    }
    std::sort(surplus.begin(), surplus.end(),
              [](const Object& a, const Object& b) { return a.name() < b.name(); });
    surplus.erase(std::unique(surplus.begin(), surplus.end(),
                              [](const Object& a, const Object& b) { return a.uid() == b.uid(); }),
                  surplus.end());
    for (std::size_t i = 0; i < std::min(surplus.size(), kBurst); ++i) {
      Action& remove = actions.remove(pods(), surplus[i],
                                      "it has no business on " + node_of(tree(surplus[i])) + " any more");
      remove.independent = true;
      remove.announce = Announcement{set, "SuccessfulDelete", "Deleted pod: "};
    }
    if (surplus.size() > kBurst) actions.requeue(Duration::zero());
  }

  void count() {
    for (const auto& [node, run] : should_run) {
      const auto found = by_node.find(node);
      std::vector<const Object*> live;
      if (found != by_node.end()) {
        for (const Object& pod : found->second) {
          if (!pod.deleting() && !pod_terminal(pod)) live.push_back(&pod);
        }
      }
      if (!run) {
        if (!live.empty()) ++counts.misplaced;
        continue;
      }
      ++counts.desired;
      if (live.empty()) continue;
      ++counts.current;
      const auto any = [&](auto test) {
        return std::any_of(live.begin(), live.end(), [&](const Object* pod) { return test(*pod); });
      };
      if (any([](const Object& pod) { return pod_ready(pod); })) ++counts.ready;
      if (any([&](const Object& pod) { return available(pod); })) ++counts.available;
      if (any([&](const Object& pod) { return is_new(pod); })) ++counts.updated;
    }
  }

  void write_status(std::int64_t collisions) {
    const json::value* before = find(tree(set), "/status");
    json::value status = before != nullptr && before->is_object() ? *before : json::value(json::object());
    json::object& fields = status.get_object();
    fields["currentNumberScheduled"] = counts.current;
    fields["numberMisscheduled"] = counts.misplaced;
    fields["desiredNumberScheduled"] = counts.desired;
    fields["numberReady"] = counts.ready;
    fields["observedGeneration"] = set.generation();
    const auto put = [&](const char* name, std::int64_t value) {
      if (value != 0) {
        fields[name] = value;
      } else {
        fields.erase(name);
      }
    };
    put("updatedNumberScheduled", counts.updated);
    put("numberAvailable", counts.available);
    put("numberUnavailable", counts.desired - counts.available);
    put("collisionCount", collisions);
    if (same_meaning(before, &status)) return;
    const bool new_size = int_at(tree(set), "/status/observedGeneration") != set.generation();
    json::value copy = tree(set);
    set_at(copy, "/status", std::move(status));
    actions.update_status(daemon_sets(), object_from_tree(std::move(copy)), "pods are counted").coalesce =
        !new_size;
  }
};

// What of a node this controller looks at; heartbeats wake nobody.
bool same_for_us(const Object& a, const Object& b) {
  return a && b && a.labels() == b.labels() && a.deleting() == b.deleting() &&
         same_meaning(find(tree(a), "/spec/taints"), find(tree(b), "/spec/taints"));
}

class DaemonSetReconciler final : public Reconciler {
 public:
  std::string name() const override { return "daemonset"; }

  std::vector<Source> sources() const override {
    Source of_pods = watch_owned(pods(), "apps/v1", "DaemonSet");
    auto owned = of_pods.keys;
    of_pods.keys = [owned](const View& view, const Object& old, const Object& now, const KeySink& wake) {
      owned(view, old, now, wake);
      if (!now || now.controller() != nullptr || now.deleting()) return;
      for (const Object& set : view.list(daemon_sets(), now.ns())) {
        const auto selector = LabelSelector::parse(find(tree(set), "/spec/selector"));
        if (selector && selector->matches(now.labels())) wake(ObjectKey::of(set).text());
      }
    };
    of_pods.observes = [](const Object& old, const Object& now) {
      const OwnerReference* owner = now.controller();
      return owner != nullptr && owner->kind == "DaemonSet" && pod_came_to_end(old, now);
    };
    Source of_nodes{nodes(), false,
                    [](const View& view, const Object& old, const Object& now, const KeySink& wake) {
                      if (same_for_us(old, now)) return;
                      for (const Object& set : view.list(daemon_sets())) wake(ObjectKey::of(set).text());
                    }};
    return {watch_self(daemon_sets()), std::move(of_pods), std::move(of_nodes),
            watch_owned(controller_revisions(), "apps/v1", "DaemonSet")};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object set = view.get(daemon_sets(), id.ns, id.name);
    if (!set) return actions;
    const auto selector = LabelSelector::parse(find(tree(set), "/spec/selector"));
    if (!selector || selector->empty()) {
      actions.event(set, "Warning", "SelectingAll",
                    "This daemon set is selecting all pods. A non-empty selector is required.");
      return actions;
    }
    if (find(tree(set), "/spec/template/spec") == nullptr) return actions;
    Pass pass{set, view, now, actions};
    const bool settled = claim(pass, *selector);
    std::int64_t collisions = int_at(tree(set), "/status/collisionCount");
    const History history = sync_history(set, *selector, view, kHash, collisions, actions);
    const auto hash = history.update.labels().find(kHash);
    pass.hash = hash != history.update.labels().end() ? hash->second : "";
    read(pass);
    for (const Object& node : view.list(nodes())) pass.manage_node(node);
    stray_pods(pass);
    const bool rolling =
        string_at(tree(set), "/spec/updateStrategy/type", "RollingUpdate") == "RollingUpdate";
    if (rolling) {
      limits(pass);
      pass.roll();
    }
    if (settled && !history.changed && !set.deleting()) pass.order();
    pass.count();
    pass.write_status(collisions);
    if (!set.deleting()) prune(pass, history);
    if (pass.due) actions.requeue(*pass.due);
    actions.reason = std::to_string(pass.counts.current) + " of " + std::to_string(pass.counts.desired) +
                     " nodes have a pod, " + std::to_string(pass.counts.updated) + " updated, " +
                     std::to_string(pass.counts.available) + " available";
    return actions;
  }

  Actions failed(const std::string& key, const View& view, Now, const Action& action,
                 const Error& error) const override {
    Actions actions;
    const ObjectKey id = ObjectKey::from_text(key);
    const Object set = view.get(daemon_sets(), id.ns, id.name);
    const bool create = action.verb == Action::Verb::create;
    if (!set || (!create && action.verb != Action::Verb::remove)) return actions;
    actions.event(set, "Warning", create ? "FailedCreate" : "FailedDelete",
                  (create ? "Error creating: " : "Error deleting: ") + error.message());
    return actions;
  }

 private:
  static bool claim(Pass& pass, const LabelSelector& selector) {
    bool settled = true;
    for (const Object& pod : pass.view.find(pods(), ObjectCache::kOwner, pass.set.uid())) {
      const OwnerReference* owner = pod.controller();
      if (owner == nullptr || owner->uid != pass.set.uid()) continue;
      if (selector.matches(pod.labels())) {
        pass.by_node[node_of(tree(pod))].push_back(pod);
      } else if (!pass.set.deleting()) {
        pass.actions.update(pods(), released(pod, pass.set.uid()), "its labels no longer match the selector");
        settled = false;
      }
    }
    if (pass.set.deleting()) return settled;
    for (const Object& pod : selector.select_orphans(pass.view, pods(), pass.set.ns())) {
      if (pod.deleting()) continue;
      Action& adopt =
          pass.actions.update(pods(), adopted(pod, pass.set), "an orphan that matches the selector");
      adopt.checks.push_back(
          {daemon_sets(), pass.set.ns(), pass.set.name(), pass.set.uid(), LiveCheck::Expect::present});
      settled = false;
    }
    return settled;
  }

  static void read(Pass& pass) {
    const json::value& root = tree(pass.set);
    pass.spec = *find(root, "/spec/template/spec");
    set_at(pass.spec, "/tolerations", tolerations_of(pass.spec));
    pass.min_ready = int_at(root, "/spec/minReadySeconds");
    // manage_node() has to know whether two pods may share a node; the number comes later.
    const json::value* surge = find(root, "/spec/updateStrategy/rollingUpdate/maxSurge");
    pass.max_surge = resolve_percent(surge, 1000, true);
  }

  static void limits(Pass& pass) {
    std::int64_t desired = 0;
    for (const auto& [node, run] : pass.should_run) desired += run ? 1 : 0;
    const json::value* most = find(tree(pass.set), "/spec/updateStrategy/rollingUpdate/maxUnavailable");
    const json::value* surge = find(tree(pass.set), "/spec/updateStrategy/rollingUpdate/maxSurge");
    pass.max_unavailable = most == nullptr ? 1 : resolve_percent(most, desired, true);
    pass.max_surge = resolve_percent(surge, desired, true);
    if (pass.max_surge == 0 && pass.max_unavailable == 0) pass.max_unavailable = 1;
  }

  // Pods of nodes that are no more.
  static void stray_pods(Pass& pass) {
    for (const auto& [node, list] : pass.by_node) {
      if (pass.should_run.contains(node)) continue;
      for (const Object& pod : list) {
        if (!pod.deleting() && string_at(tree(pod), "/spec/nodeName").empty()) {
          pass.surplus.push_back(pod);  // never bound; PodGC takes those that were
        }
      }
    }
  }

  static void prune(const Pass& pass, const History& history) {
    std::vector<std::string> live;
    for (const auto& [node, list] : pass.by_node) {
      for (const Object& pod : list) {
        const auto label = pod.labels().find(kHash);
        if (label != pod.labels().end()) live.push_back(pass.set.name() + "-" + label->second);
      }
    }
    prune_revisions(history, live, int_at(tree(pass.set), "/spec/revisionHistoryLimit", 10), pass.actions);
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_daemon_set_reconciler() {
  return std::make_shared<DaemonSetReconciler>();
}

}  // namespace orchestra::controllers
