#pragma once
// SchedulingSnapshot and place(): which node a pod should run on, and why not the others.
//
// Values only: no engine, no store, no clock. A batch farm or a VM packer can use it on its own machines:
//
//   SchedulingSnapshot snapshot;
//   for (const NodeShape& node : my_machines) snapshot.set_node(node);
//   const Decision decision = place(snapshot, pod);             // pure: same input, same answer
//   if (const Placement* at = decision.placement()) snapshot.assume(pod, at->node);
//   else print(decision.unschedulable()->message());            // "0/40 nodes are available: 3 Insufficient
//   cpu."
//
// All nodes are examined, never a sample. Rules, weights and reasons are those of kube-scheduler's default
// plugins (kubernetes/pkg/scheduler/framework/plugins); docs/scheduling.md lists them with the cost of each.
// Since 0.1.
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "orchestra/object.hpp"
#include "orchestra/selector.hpp"

namespace orchestra {

/// Amounts by resource name: "cpu" in thousandths, "memory" and "ephemeral-storage" in bytes, others counted.
using Amounts = std::map<std::string, std::int64_t>;

struct NodeTaint {
  std::string key, value, effect;  ///< NoSchedule, PreferNoSchedule, NoExecute
  friend bool operator==(const NodeTaint&, const NodeTaint&) = default;
};

struct NodeShape {
  std::string name, uid;
  std::map<std::string, std::string> labels;
  std::vector<NodeTaint> taints;
  bool unschedulable = false;
  Amounts allocatable;  ///< without "pods": no bound on their number
  /// Images that are on the node (every name of each, with tag or digest), in bytes.
  std::map<std::string, std::int64_t> images;
  /// Pods share the node's addresses (isolation level `process`): their containerPorts count as hostPorts.
  bool shares_ports = false;

  ORC_API static NodeShape from_object(const Object& node);
  friend bool operator==(const NodeShape&, const NodeShape&) = default;
};

struct PodPort {
  std::string protocol = "TCP", address = "0.0.0.0";
  int port = 0;
  friend auto operator<=>(const PodPort&, const PodPort&) = default;
};

struct Toleration {
  std::string key, op, value, effect;
  friend bool operator==(const Toleration&, const Toleration&) = default;
};

struct NodeRequirement {
  std::string key, op;  ///< In NotIn Exists DoesNotExist Gt Lt
  std::vector<std::string> values;
  friend bool operator==(const NodeRequirement&, const NodeRequirement&) = default;
};
/// All of them must hold; a term without requirements matches no node.
struct NodeTerm {
  std::vector<NodeRequirement> labels;
  std::vector<NodeRequirement> fields;  ///< metadata.name only
  std::int64_t weight = 0;              ///< of a preferred term
  friend bool operator==(const NodeTerm&, const NodeTerm&) = default;
};

/// One entry of spec.topologySpreadConstraints; counts pods of the pod's own namespace.
struct SpreadConstraint {
  std::string topology_key;
  std::int64_t max_skew = 1;
  std::int64_t min_domains = 1;  ///< fewer eligible domains than this: the smallest count is taken as 0
  bool hard = true;              ///< DoNotSchedule; else ScheduleAnyway
  Selector selector;             ///< matchLabelKeys are merged in
  bool honor_affinity = true;    ///< nodeAffinityPolicy Honor
  bool honor_taints = false;     ///< nodeTaintsPolicy Honor
  friend bool operator==(const SpreadConstraint&, const SpreadConstraint&) = default;
};

/// One term of podAffinity or podAntiAffinity.
struct PodTerm {
  std::string topology_key;
  Selector selector;                           ///< matchLabelKeys and mismatchLabelKeys are merged in
  std::vector<std::string> namespaces;         ///< these, and those that namespace_selector matches
  std::optional<Selector> namespace_selector;  ///< an empty one matches all; absent: none
  std::int64_t weight = 0;                     ///< of a preferred term
  friend bool operator==(const PodTerm&, const PodTerm&) = default;
};

/// What decides where a pod may go, and nothing of its identity: pods with equal rules share their work.
struct PodRules {
  std::string ns;
  std::map<std::string, std::string> labels;
  Amounts requests;                     ///< what has to fit; zeros may be left out
  std::int64_t score_millicores = 0;    ///< for scores: 100m per container that asks for no cpu,
  std::int64_t score_memory_bytes = 0;  ///< 200 MiB per container that asks for no memory
  std::map<std::string, std::string> node_selector;
  std::optional<std::vector<NodeTerm>> required_terms;  ///< one of them must match; absent: no such rule
  std::vector<NodeTerm> preferred_terms;
  std::vector<Toleration> tolerations;
  std::vector<PodPort> host_ports;
  std::vector<PodPort> container_ports;  ///< for nodes that share ports
  std::vector<SpreadConstraint> spread;
  /// For pods of a Service, ReplicaSet, StatefulSet or ReplicationController without constraints of their
  /// own: whom the profile's default constraints count.
  std::optional<Selector> default_spread;
  std::vector<PodTerm> affinity, anti_affinity, preferred_affinity, preferred_anti_affinity;
  std::vector<std::string> images;       ///< of all containers, init ones too
  std::vector<std::string> claims;       ///< PersistentVolumeClaims of its namespace
  std::vector<std::string> late_claims;  ///< of these, those made for the pod (ephemeral volumes)
  std::int64_t priority = 0;
  bool never_preempts = false;  ///< preemptionPolicy: Never
  bool terminating = false;
  friend bool operator==(const PodRules&, const PodRules&) = default;
};

/// Equal rules have equal hashes; tells kinds of pods apart.
ORC_API std::size_t rules_hash(const PodRules& rules);

struct PodShape : PodRules {
  std::string name, uid;
  std::string node_name;
  std::int64_t started_ns = 0;  ///< wall time; for preemption: who runs for longer is more important

  ORC_API static PodShape from_object(const Object& pod);
};

struct VolumeShape {
  std::string name, storage_class, mode = "Filesystem";
  std::int64_t bytes = 0;
  std::vector<std::string> access_modes;  ///< sorted
  std::map<std::string, std::string> labels;
  std::optional<std::vector<NodeTerm>> required_terms;
  std::string claim;  ///< "namespace/name" of the claim that has it or is promised it
  std::string claim_uid;
  std::string driver, handle;  ///< of a CSI volume
  bool available = true;       ///< phase Available or Pending: may be given to a claim
  ORC_API static VolumeShape from_object(const Object& volume);
  friend bool operator==(const VolumeShape&, const VolumeShape&) = default;
};
struct ClaimShape {
  std::string ns, name, uid;
  std::string volume, storage_class, mode = "Filesystem";
  std::int64_t bytes = 0;
  std::vector<std::string> access_modes;  ///< sorted
  std::optional<Selector> selector;
  bool bound = false;  ///< it has a volume and the binder has finished
  bool deleting = false;
  std::string owner_uid;  ///< its controller: the pod, for a claim of an ephemeral volume
  ORC_API static ClaimShape from_object(const Object& claim);
  friend bool operator==(const ClaimShape&, const ClaimShape&) = default;
};
struct StorageClassShape {
  std::string name, provisioner;
  bool waits_for_pod = false;  ///< volumeBindingMode WaitForFirstConsumer
  /// One of these must hold for a node where a volume is made; empty: any node.
  std::vector<NodeTerm> topologies;
  ORC_API static StorageClassShape from_object(const Object& storage_class);
  friend bool operator==(const StorageClassShape&, const StorageClassShape&) = default;
};

/// CSIStorageCapacity: how large a volume of a class can be made where these nodes reach. Since 0.2.
struct CapacityShape {
  std::string ns, name, storage_class;
  std::optional<Selector> nodes;  ///< labels of nodes; absent: none reaches it
  std::int64_t bytes = -1;        ///< maximumVolumeSize, else capacity; -1: neither is said
  ORC_API static CapacityShape from_object(const Object& capacity);
  friend bool operator==(const CapacityShape&, const CapacityShape&) = default;
};

/// Most volumes of each CSI driver on a node, from its CSINode.
ORC_API std::map<std::string, std::int64_t> csi_limits_of(const Object& csi_node);

/// What a profile sets (KubeSchedulerConfiguration); the defaults are upstream's.
struct SchedulingProfile {
  std::string name = "default-scheduler";
  std::set<std::string> disabled_filters;  ///< plugin names: "NodePorts", ...
  std::int64_t taint_weight = 3, node_affinity_weight = 2, spread_weight = 2, pod_affinity_weight = 2,
               fit_weight = 1, balanced_weight = 1, image_weight = 1;  ///< 0: the score is not asked for
  std::map<std::string, std::int64_t> plugin_weights;  ///< of the host's plugins; else their own

  enum class Fit : std::uint8_t { least_allocated, most_allocated, requested_to_capacity_ratio };
  Fit fit = Fit::least_allocated;
  std::vector<std::pair<std::string, std::int64_t>> fit_resources{{"cpu", 1}, {"memory", 1}};
  /// Of requested_to_capacity_ratio: (utilisation 0..100, score 0..10), linear in between.
  std::vector<std::pair<std::int64_t, std::int64_t>> fit_shape;
  std::vector<std::string> balanced_resources{"cpu", "memory"};
  std::set<std::string> ignored_resources, ignored_resource_groups;  ///< of the filter; extended ones only

  std::int64_t hard_pod_affinity_weight = 1;
  bool ignore_preferred_terms_of_existing_pods = false;
  /// For pods that have none of their own; their selector is the pod's default_spread.
  std::vector<SpreadConstraint> default_constraints = system_constraints();
  bool system_defaulted = true;  ///< nodes that lack a topology key then still get a score

  std::optional<std::vector<NodeTerm>> added_required;  ///< addedAffinity of NodeAffinity
  std::vector<NodeTerm> added_preferred;

  ORC_API static std::vector<SpreadConstraint> system_constraints();
  friend bool operator==(const SchedulingProfile&, const SchedulingProfile&) = default;
};

/// What is to be written before a pod can be bound to its node.
struct VolumeChoice {
  std::string claim;   ///< of the pod's namespace
  std::string volume;  ///< the volume that it gets; empty: its class makes one for that node
};

struct Placement {
  std::string node;
  std::int64_t score = 0;
  std::size_t feasible = 0;  ///< nodes that would do
  std::vector<VolumeChoice> volumes;
};

struct Unschedulable {
  std::size_t nodes = 0;                      ///< examined
  std::map<std::string, std::size_t> counts;  ///< reason -> nodes; a node may name several lacking resources
  std::string for_all;         ///< not empty: one reason for all nodes, found before any of them
  std::size_t resolvable = 0;  ///< nodes on which ending other pods could help
  /// Filled in by whoever tried to preempt: reason -> nodes. Empty: nobody tried.
  std::map<std::string, std::size_t> preemption;
  std::string preemption_note;    ///< instead of `preemption`: why nobody tried
  std::set<std::string> plugins;  ///< that said no
  /// Not empty: no node could run it even if it were empty ("No node in the cluster could ever run it: it
  /// asks for 9 cpu, the largest node has 4."); nothing but a change of nodes can help. Since 0.2.
  std::string never;
  /// As kube-scheduler prints it, then `never`.
  ORC_API std::string message() const;
};

/// A plugin of the host failed; the pod gets another try later.
struct PlacementFailed {
  std::string plugin, message;
};

struct Decision {
  std::variant<Placement, Unschedulable, PlacementFailed> answer;
  const Placement* placement() const { return std::get_if<Placement>(&answer); }
  const Unschedulable* unschedulable() const { return std::get_if<Unschedulable>(&answer); }
  const PlacementFailed* failed() const { return std::get_if<PlacementFailed>(&answer); }
};

/// A plugin's name in many rows, without a copy of the text in each.
class PluginName {
 public:
  PluginName() = default;
  /// A text that is never freed.
  PluginName(const char* builtin) : builtin_(builtin) {}
  explicit PluginName(std::shared_ptr<const std::string> own) : own_(std::move(own)) {}
  const char* c_str() const { return own_ ? own_->c_str() : builtin_; }
  operator std::string() const { return c_str(); }
  friend bool operator==(const PluginName& a, const std::string& b) { return b == a.c_str(); }

 private:
  const char* builtin_ = "";
  std::shared_ptr<const std::string> own_;
};

/// One plugin's opinion of a node.
struct PluginScore {
  PluginName plugin;
  std::int64_t raw = 0;
  std::int64_t normalised = 0;  ///< 0..100
  std::int64_t weight = 1;
};

/// One row of explain(): the reasons why not, or the scores.
struct NodeVerdict {
  std::string node;
  std::vector<std::string> reasons;  ///< empty: feasible
  std::string plugin;                ///< that said no
  bool resolvable = true;            ///< ending other pods could help
  std::vector<PluginScore> scores;   ///< of a feasible node
  std::int64_t total = 0;            ///< sum of normalised x weight
};

class SchedulerPlugin;

struct PlaceOptions {
  /// Among equally good nodes: 0 = the first name; else a permutation of names drawn from the seed.
  std::uint64_t tie_seed = 0;
  const SchedulingProfile* profile = nullptr;  ///< nullptr: the defaults
  std::vector<SchedulerPlugin*> plugins = {};  ///< of the host; see scheduler_plugin.hpp
  /// Runs calls into a plugin; false: they did not end in time, and may still run. The calls own their data.
  /// Empty: they run at once on this thread.
  std::function<bool(std::function<void()>)> guard = {};
  /// Nanoseconds of any steady origin; where it is given, place() tells `on_point` what PreFilter, Filter,
  /// PreScore and Score took, and how each ended, by upstream's names of statuses. The builtin plugins are
  /// columns of one evaluation: PreFilter is its making or upkeep, Filter and Score read it. Since 0.2.
  std::function<std::int64_t()> clock = {};
  std::function<void(const char* point, const char* status, std::int64_t took_ns)> on_point = {};
};

/// Bounds of what a snapshot remembers to be fast; never of what it knows.
struct SnapshotLimits {
  std::size_t classes_max = 1024;            ///< pods with equal rules share one; least recently used out
  std::size_t class_bytes_max = 256u << 20;  ///< of all of them
};

/// Nodes and what runs on them. Copyable. Not thread safe, not even for two calls of place(): it remembers
/// what it worked out for pods of the same kind.
class ORC_API SchedulingSnapshot {
 public:
  explicit SchedulingSnapshot(SnapshotLimits limits = {});
  ~SchedulingSnapshot();
  SchedulingSnapshot(const SchedulingSnapshot& other);
  SchedulingSnapshot& operator=(const SchedulingSnapshot& other);
  SchedulingSnapshot(SchedulingSnapshot&&) noexcept;
  SchedulingSnapshot& operator=(SchedulingSnapshot&&) noexcept;

  /// Nodes, pods, namespaces, volumes, claims, storage classes and CSINodes; other kinds are passed over.
  static SchedulingSnapshot from_objects(const std::vector<Object>& nodes, const std::vector<Object>& pods,
                                         const std::vector<Object>& others = {});

  /// Adds or replaces; what runs there stays. True: something changed that placement looks at.
  bool set_node(const NodeShape& node);
  bool remove_node(const std::string& name);
  /// A pod that uses its node: replaces what was known of its UID (an assumption too).
  void set_pod(const PodShape& pod, const std::string& node);
  /// Answers the node it was on, empty if it was not known.
  std::string remove_pod(const std::string& uid);
  /// Counts a pod whose binding is on its way; undone with forget().
  void assume(const PodShape& pod, const std::string& node) { set_pod(pod, node); }
  void forget(const std::string& uid) { (void)remove_pod(uid); }

  /// A pod that made room for itself on a node and waits for it: others of no higher priority keep clear.
  void nominate(const PodShape& pod, const std::string& node);
  void remove_nomination(const std::string& uid);
  std::string nominated_node(const std::string& uid) const;

  /// Labels of a namespace, for namespaceSelectors; a namespace that was never set has none. True: changed.
  bool set_namespace(const std::string& name, const std::map<std::string, std::string>& labels);
  bool set_volume(const VolumeShape& volume);
  bool remove_volume(const std::string& name);
  bool set_claim(const ClaimShape& claim);
  bool remove_claim(const std::string& ns, const std::string& name);
  bool set_storage_class(const StorageClassShape& storage_class);
  bool remove_storage_class(const std::string& name);
  bool set_capacity(const CapacityShape& capacity);
  bool remove_capacity(const std::string& ns, const std::string& name);
  /// CSIDriver: whether it says how much room there is (spec.storageCapacity); only then is it asked for.
  bool set_driver(const std::string& name, bool tells_capacity);
  /// CSI driver -> most volumes on the node (CSINode).
  bool set_volume_limits(const std::string& node, const std::map<std::string, std::int64_t>& limits);

  std::size_t node_count() const;
  std::size_t pod_count() const;
  std::vector<std::string> node_names() const;
  /// Sum of requests of the pods on a node; "pods" is their number.
  Amounts used(const std::string& node) const;
  std::string node_of(const std::string& uid) const;
  /// What is known of a placed pod; its node_name is empty.
  std::optional<PodShape> pod(const std::string& uid) const;
  /// UIDs of the pods on a node, sorted.
  std::vector<std::string> pods_on(const std::string& node) const;
  /// Bytes of what it remembers between decisions.
  std::size_t remembered_bytes() const;

  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Pure: the answer depends on nothing but its arguments.
ORC_API Decision place(const SchedulingSnapshot& snapshot, const PodShape& pod,
                       const PlaceOptions& options = {});
/// Every node with its reasons or scores, by name.
ORC_API std::vector<NodeVerdict> explain(const SchedulingSnapshot& snapshot, const PodShape& pod,
                                         const PlaceOptions& options = {});
/// Would this one node do? For deciding whether a change there could help a waiting pod.
ORC_API bool fits(const SchedulingSnapshot& snapshot, const PodShape& pod, const std::string& node,
                  const PlaceOptions& options = {});

/// Is there a node for it by the builtin rules? Cheaper than place(); for deciding whom a change may help.
ORC_API bool fits_somewhere(const SchedulingSnapshot& snapshot, const PodShape& pod,
                            const PlaceOptions& options = {});

/// A PodDisruptionBudget as preemption sees it.
struct DisruptionBudget {
  std::string ns, name;
  Selector selector;
  std::int64_t allowed = 0;         ///< status.disruptionsAllowed
  std::set<std::string> disrupted;  ///< pods by name that count as disrupted already
};

struct Preemption {
  std::string node;                        ///< empty: nothing helps
  std::vector<std::string> victims;        ///< UIDs, most important first
  std::size_t violations = 0;              ///< of disruption budgets
  std::size_t candidates = 0;              ///< nodes on which it would work
  std::map<std::string, std::size_t> why;  ///< node is empty: reason -> nodes, for Unschedulable::preemption
  std::string note;                        ///< instead: why nobody tried
};
/// Which pods of lower priority would have to end so that this one fits, and where: upstream's choice (fewest
/// violated budgets, lowest highest priority, smallest sum of priorities, fewest victims, latest start), over
/// all nodes. Nothing changes in the snapshot. Pure.
ORC_API Preemption preempt(const SchedulingSnapshot& snapshot, const PodShape& pod,
                           const std::vector<DisruptionBudget>& budgets = {},
                           const PlaceOptions& options = {});

}  // namespace orchestra
