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
// All nodes are examined, never a sample. Rules and reasons are those of kube-scheduler's default plugins:
// NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit; scores
// TaintToleration, NodeAffinity, LeastAllocated and BalancedAllocation with their default weights. Since 0.1.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "orchestra/object.hpp"

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
  /// Pods share the node's addresses (isolation level `process`): their containerPorts count as hostPorts.
  bool shares_ports = false;

  static NodeShape from_object(const Object& node);
  friend bool operator==(const NodeShape&, const NodeShape&) = default;
};

struct PodPort {
  std::string protocol = "TCP", address = "0.0.0.0";
  int port = 0;
  friend auto operator<=>(const PodPort&, const PodPort&) = default;
};

struct Toleration {
  std::string key, op, value, effect;
};

struct NodeRequirement {
  std::string key, op;  ///< In NotIn Exists DoesNotExist Gt Lt
  std::vector<std::string> values;
};
/// All of them must hold; a term without requirements matches no node.
struct NodeTerm {
  std::vector<NodeRequirement> labels;
  std::vector<NodeRequirement> fields;  ///< metadata.name only
  std::int64_t weight = 0;              ///< of a preferred term
};

struct PodShape {
  std::string ns, name, uid;
  Amounts requests;                     ///< what has to fit; zeros may be left out
  std::int64_t score_millicores = 0;    ///< for scores: 100m per container that asks for no cpu,
  std::int64_t score_memory_bytes = 0;  ///< 200 MiB per container that asks for no memory
  std::map<std::string, std::string> node_selector;
  std::optional<std::vector<NodeTerm>> required_terms;  ///< one of them must match; absent: no such rule
  std::vector<NodeTerm> preferred_terms;
  std::vector<Toleration> tolerations;
  std::string node_name;
  std::vector<PodPort> host_ports;
  std::vector<PodPort> container_ports;  ///< for nodes that share ports
  std::int64_t priority = 0;

  static PodShape from_object(const Object& pod);
};

struct Placement {
  std::string node;
  std::int64_t score = 0;
  std::size_t feasible = 0;  ///< nodes that would do
};

struct Unschedulable {
  std::size_t nodes = 0;                      ///< examined
  std::map<std::string, std::size_t> counts;  ///< reason -> nodes; a node may name several lacking resources
  std::size_t resolvable = 0;                 ///< nodes on which ending other pods could help
  std::size_t with_lower_priority = 0;        ///< of these, nodes that have pods of lower priority
  /// As kube-scheduler prints it.
  std::string message() const;
};

struct Decision {
  std::variant<Placement, Unschedulable> answer;
  const Placement* placement() const { return std::get_if<Placement>(&answer); }
  const Unschedulable* unschedulable() const { return std::get_if<Unschedulable>(&answer); }
};

/// One row of explain(): the reasons why not, or the scores.
struct NodeVerdict {
  std::string node;
  std::vector<std::string> reasons;  ///< empty: feasible
  bool resolvable = true;            ///< ending other pods could help
  std::int64_t taints = 0, affinity = 0, least_allocated = 0, balanced = 0, total = 0;
};

struct PlaceOptions {
  /// Among equally good nodes: 0 = the first name; else a permutation of names drawn from the seed.
  std::uint64_t tie_seed = 0;
};

/// Nodes and what runs on them. Copyable; not thread safe.
class ORC_API SchedulingSnapshot {
 public:
  SchedulingSnapshot();
  ~SchedulingSnapshot();
  SchedulingSnapshot(const SchedulingSnapshot& other);
  SchedulingSnapshot& operator=(const SchedulingSnapshot& other);
  SchedulingSnapshot(SchedulingSnapshot&&) noexcept;
  SchedulingSnapshot& operator=(SchedulingSnapshot&&) noexcept;

  static SchedulingSnapshot from_objects(const std::vector<Object>& nodes, const std::vector<Object>& pods);

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

  std::size_t node_count() const;
  std::size_t pod_count() const;
  std::vector<std::string> node_names() const;
  /// Sum of requests of the pods on a node; "pods" is their number.
  Amounts used(const std::string& node) const;
  std::string node_of(const std::string& uid) const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Pure.
ORC_API Decision place(const SchedulingSnapshot& snapshot, const PodShape& pod,
                       const PlaceOptions& options = {});
/// Every node with its reasons or scores, by name.
ORC_API std::vector<NodeVerdict> explain(const SchedulingSnapshot& snapshot, const PodShape& pod);
/// Would this one node do? For deciding whether a change there could help a waiting pod.
ORC_API bool fits(const SchedulingSnapshot& snapshot, const PodShape& pod, const std::string& node);

}  // namespace orchestra
