// Node lifecycle (kubernetes/pkg/controller/nodelifecycle/node_lifecycle_controller.go).
//
// A node lives while its Lease is renewed or its Ready condition gets heartbeats. What counts is when this
// controller saw a renewal (View::observed), not the time it tells: that is a reading of the node's clock,
// and ours may be set as well. Silent for `grace`: all its conditions become Unknown, its pods not ready (so
// that services leave them), and it gets the taint unreachable. Conditions and spec.unschedulable show as
// NoSchedule taints at once; NoExecute, which ends pods, comes to one node per interval, and to none when no
// node at all is well: then the trouble is more likely ours than theirs.
#include "controllers/nodelifecycle/decide.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "controllers/common/pods.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kLeaseNamespace = "kube-node-lease";
constexpr const char* kNotReady = "node.kubernetes.io/not-ready";
constexpr std::int64_t kUnhealthyPercent = 55;
constexpr std::int64_t kLargeZone = 50;  // nodes
constexpr const char* kUnreachable = "node.kubernetes.io/unreachable";

std::string status_of_condition(const json::value& node, const char* type) {
  const json::object* condition = find_condition(node, type);
  const json::value* status = condition == nullptr ? nullptr : condition->if_contains("status");
  return status != nullptr && status->is_string() ? std::string(status->get_string()) : std::string();
}

// Whether a version of a node is a sign of life: the first that is seen, and each with another heartbeat.
bool node_vouches(const Object& old, const Object& now) {
  if (!old) return true;
  const auto heartbeat = [](const Object& node) {
    const json::object* ready = find_condition(tree(node), "Ready");
    const json::value* told = ready == nullptr ? nullptr : ready->if_contains("lastHeartbeatTime");
    return told != nullptr && told->is_string() ? std::string_view(told->get_string()) : std::string_view();
  };
  const std::string_view told = heartbeat(now);
  return !told.empty() && told != heartbeat(old);
}

// A renewal is one whatever time it tells: the node's clock may have been set back.
bool lease_vouches(const Object& old, const Object& now) {
  if (now.ns() != kLeaseNamespace) return false;
  return !old || !same_meaning(find(tree(old), "/spec/renewTime"), find(tree(now), "/spec/renewTime"));
}

// When (steady) this controller last saw a sign of life. Nobody observes: it is seen now.
std::int64_t last_heard(const std::string& name, const View& view, Now now) {
  const auto of_node = view.observed(nodes(), {{}, name});
  const auto of_lease = view.observed(leases(), {kLeaseNamespace, name});
  if (!of_node && !of_lease) return now.steady_ns;
  return std::max(of_node ? of_node->at.steady_ns : INT64_MIN, of_lease ? of_lease->at.steady_ns : INT64_MIN);
}

struct Taint {
  std::string key, effect;
  friend bool operator==(const Taint&, const Taint&) = default;
};

// Taints that this controller gives and takes; all others are somebody else's.
bool is_ours(const Taint& taint) {
  constexpr std::array<std::string_view, 7> kOurs = {kNotReady,
                                                     kUnreachable,
                                                     "node.kubernetes.io/memory-pressure",
                                                     "node.kubernetes.io/disk-pressure",
                                                     "node.kubernetes.io/pid-pressure",
                                                     "node.kubernetes.io/network-unavailable",
                                                     "node.kubernetes.io/unschedulable"};
  if (std::find(kOurs.begin(), kOurs.end(), taint.key) == kOurs.end()) return false;
  return taint.effect == "NoSchedule" ||
         (taint.effect == "NoExecute" && (taint.key == kNotReady || taint.key == kUnreachable));
}

std::vector<Taint> wanted_taints(const json::value& node) {
  std::vector<Taint> taints;
  const std::string ready = status_of_condition(node, "Ready");
  if (ready == "False") taints.push_back({kNotReady, "NoSchedule"});
  if (ready == "Unknown") taints.push_back({kUnreachable, "NoSchedule"});
  constexpr std::array<std::array<const char*, 2>, 4> kPressures = {{
      {"MemoryPressure", "node.kubernetes.io/memory-pressure"},
      {"DiskPressure", "node.kubernetes.io/disk-pressure"},
      {"PIDPressure", "node.kubernetes.io/pid-pressure"},
      {"NetworkUnavailable", "node.kubernetes.io/network-unavailable"},
  }};
  for (const auto& [condition, key] : kPressures) {
    if (status_of_condition(node, condition) == "True") taints.push_back({key, "NoSchedule"});
  }
  if (bool_at(node, "/spec/unschedulable"))
    taints.push_back({"node.kubernetes.io/unschedulable", "NoSchedule"});
  return taints;
}

Taint taint_from(const json::value& entry) { return {string_at(entry, "/key"), string_at(entry, "/effect")}; }

bool has_taint(const json::value& node, const Taint& taint) {
  const json::array* taints = array_at(node, "/spec/taints");
  return taints != nullptr && std::any_of(taints->begin(), taints->end(),
                                          [&](const json::value& t) { return taint_from(t) == taint; });
}

class NodeLifecycle final : public Reconciler {
 public:
  explicit NodeLifecycle(NodeLifecycleOptions options) : options_(options) {}
  std::string name() const override { return "node-lifecycle"; }

  // Renewals wake nobody: each node is looked at when its time could be over.
  std::vector<Source> sources() const override {
    Source of_nodes = watch_self(nodes());
    of_nodes.observes = node_vouches;
    return {std::move(of_nodes), {leases(), false, {}, lease_vouches}, {pods()}};
  }

  // A node that lives and is as it should be, which is nearly always so, is looked at without a copy.
  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const Object node = view.get(nodes(), {}, key);
    if (!node || node.deleting()) return actions;
    std::optional<json::value> changed = silent(node, view, now, actions);
    if (changed && !same_meaning(find(tree(node), "/status"), find(*changed, "/status"))) {
      actions.update_status(nodes(), object_from_tree(*changed), "no sign of life");
    }
    const json::value& seen = changed ? *changed : tree(node);
    std::vector<Taint> taints = wanted_taints(seen);
    add_no_execute(seen, node, view, now, taints, actions);
    const std::string ready = status_of_condition(seen, "Ready");
    if (!taints_fit(seen, taints)) {
      json::value root = seen;
      write_taints(root, taints, now);
      actions.update(nodes(), object_from_tree(std::move(root)), "taints as its conditions");
    }
    if (ready != "True") leave_pods(node, view, now, actions);
    actions.reason = "Ready is " + ready;
    return actions;
  }

 private:
  // The node with its conditions Unknown, if it is silent; else says when to look again.
  std::optional<json::value> silent(const Object& node, const View& view, Now now, Actions& actions) const {
    const Duration since(now.steady_ns - last_heard(node.name(), view, now));
    const bool posted = find_condition(tree(node), "Ready") != nullptr;
    const Duration allowed = posted ? options_.grace : options_.startup_grace;
    if (since <= allowed) {
      actions.requeue(allowed - since + std::chrono::seconds(1));
      return std::nullopt;
    }
    json::value root = tree(node);
    json::array& conditions = array_in(root, "/status/conditions");
    for (const char* type : {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"}) {
      const json::object* present = find_condition(root, type);
      if (present != nullptr && string_at(*present, "/status") == "Unknown") continue;
      const std::string heartbeat = present != nullptr ? string_at(*present, "/lastHeartbeatTime") : "";
      const bool ever = present != nullptr;
      set_condition(conditions,
                    {type, "Unknown", ever ? "NodeStatusUnknown" : "NodeStatusNeverUpdated",
                     ever ? "Kubelet stopped posting node status." : "Kubelet never posted node status."},
                    now.wall_ns, false);
      for (json::value& condition : conditions) {
        if (string_at(condition, "/type") == type && !heartbeat.empty()) {
          condition.get_object()["lastHeartbeatTime"] = heartbeat;
        }
      }
    }
    actions.requeue(options_.grace);
    return root;
  }

  void add_no_execute(const json::value& root, const Object& node, const View& view, Now now,
                      std::vector<Taint>& taints, Actions& actions) const {
    const std::string ready = status_of_condition(root, "Ready");
    if (ready != "False" && ready != "Unknown") return;
    const Taint wanted{ready == "False" ? kNotReady : kUnreachable, "NoExecute"};
    if (has_taint(root, wanted)) {
      taints.push_back(wanted);
      return;
    }
    const ZoneView zone = look_at_zones(root, node, view, now);
    const auto interval = interval_of(zone);
    if (!interval) {
      actions.requeue(options_.eviction_interval);
      return;
    }
    const Duration since(now.wall_ns - zone.newest_taint);
    if (since < *interval) {
      actions.requeue(*interval - since + std::chrono::seconds(1));
      return;
    }
    taints.push_back(wanted);
  }

  // The zone of a node as eviction sees it.
  struct ZoneView {
    std::int64_t nodes = 0, unwell = 0;
    std::int64_t newest_taint = 0;  // wall ns, of NoExecute in this zone
    bool all_zones_down = true;
  };

  static std::string zone_of(const Object& node) {
    const auto label = [&](const char* name) {
      const auto found = node.labels().find(name);
      return found == node.labels().end() ? std::string() : found->second;
    };
    return label("topology.kubernetes.io/region") + ":" + label("topology.kubernetes.io/zone");
  }

  static ZoneView look_at_zones(const json::value& root, const Object& node, const View& view, Now now) {
    ZoneView zone;
    const std::string here = zone_of(node);
    for (const Object& each : view.list(nodes())) {
      const bool self = each.uid() == node.uid();
      const bool well = status_of_condition(self ? root : tree(each), "Ready") == "True";
      if (well) zone.all_zones_down = false;
      if (zone_of(each) != here) continue;
      ++zone.nodes;
      if (!well) ++zone.unwell;
      const json::array* present = self ? nullptr : array_at(tree(each), "/spec/taints");
      if (present == nullptr) continue;
      for (const json::value& taint : *present) {
        const Taint one = taint_from(taint);
        if (one.effect != "NoExecute" || !is_ours(one)) continue;
        const std::int64_t added = time_at(taint, "/timeAdded").value_or(0);
        // A taint of the future says that the clock was set back: it would hold up all others until then.
        if (added <= now.wall_ns) zone.newest_taint = std::max(zone.newest_taint, added);
      }
    }
    return zone;
  }

  // Between two nodes of a zone; nullopt: none leaves. Nobody well anywhere is our own trouble. A zone of
  // which more than two nodes and 55 % are unwell is partly down: slower if it is large, else not at all. (A
  // zone that is wholly down while others live goes at the usual rate, as upstream.)
  std::optional<Duration> interval_of(const ZoneView& zone) const {
    if (zone.all_zones_down) return std::nullopt;
    const bool wholly = zone.unwell == zone.nodes;
    const bool partly = !wholly && zone.unwell > 2 && zone.unwell * 100 >= zone.nodes * kUnhealthyPercent;
    if (!partly) return options_.eviction_interval;
    if (zone.nodes > kLargeZone) return options_.eviction_interval * 10;
    return std::nullopt;
  }

  // Whether write_taints() would change nothing.
  static bool taints_fit(const json::value& node, const std::vector<Taint>& wanted) {
    if (const json::array* present = array_at(node, "/spec/taints")) {
      for (const json::value& entry : *present) {
        const Taint taint = taint_from(entry);
        if (is_ours(taint) && std::find(wanted.begin(), wanted.end(), taint) == wanted.end()) return false;
        if (taint.effect == "NoExecute" && !time_at(entry, "/timeAdded")) return false;
      }
    }
    return std::all_of(wanted.begin(), wanted.end(),
                       [&](const Taint& taint) { return has_taint(node, taint); });
  }

  static void write_taints(json::value& root, const std::vector<Taint>& wanted, Now now) {
    const json::array* before = array_at(root, "/spec/taints");
    json::array after;
    if (before != nullptr) {
      for (const json::value& entry : *before) {
        const Taint taint = taint_from(entry);
        if (is_ours(taint) && std::find(wanted.begin(), wanted.end(), taint) == wanted.end()) continue;
        after.push_back(entry);
        // Whoever leaves later needs to know since when (taints by hand come without a time).
        if (taint.effect == "NoExecute" && !time_at(entry, "/timeAdded"))
          after.back().get_object()["timeAdded"] = format_time(now.wall_ns);
      }
    }
    for (const Taint& taint : wanted) {
      if (has_taint(root, taint)) continue;
      json::object entry{{"key", taint.key}, {"effect", taint.effect}};
      entry["timeAdded"] = format_time(now.wall_ns);
      after.push_back(std::move(entry));
    }
    if (after.empty()) {
      object_in(root, "/spec").erase("taints");
    } else {
      set_at(root, "/spec/taints", std::move(after));
    }
  }

  // Nobody answers for the pods of such a node: services stop sending to them.
  static void leave_pods(const Object& node, const View& view, Now now, Actions& actions) {
    for (const Object& pod : view.find(pods(), ObjectCache::kNode, node.name())) {
      if (!pod_ready(pod) || pod_terminal(pod)) continue;
      json::value copy = tree(pod);
      for (json::value& condition : array_in(copy, "/status/conditions")) {
        if (string_at(condition, "/type") != "Ready") continue;
        condition.get_object()["status"] = "False";
        condition.get_object()["lastTransitionTime"] = format_time(now.wall_ns);
      }
      actions.update_status(pods(), object_from_tree(std::move(copy)), "its node is not ready");
      actions.event(pod, "Warning", "NodeNotReady", "Node is not ready");
    }
  }

  const NodeLifecycleOptions options_;
};

}  // namespace

std::shared_ptr<const Reconciler> make_node_lifecycle_reconciler(NodeLifecycleOptions options) {
  return std::make_shared<NodeLifecycle>(options);
}

}  // namespace orchestra::controllers
