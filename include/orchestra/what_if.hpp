#pragma once
// WhatIf: questions to a cluster as it might be. "Does it fit if two such nodes are added? Who would have to
// go? Where do the pods of this node go when it is drained?"
//
//   WhatIf branch(snapshot);                       // shared with other branches, never changed
//   branch.add_node(node).remove_node("old-1");
//   const WhatIf::Answer answer = branch.schedule(pods);
//
// A branch is a list of changes: a thousand of them cost what their changes cost. A question copies the
// snapshot, makes the changes in the copy, asks, and drops it: milliseconds for a cluster of thousands of
// nodes. Since 0.1.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "orchestra/scheduling_snapshot.hpp"

namespace orchestra {

/// Copyable; not thread safe; branches of one snapshot may be asked on different threads one after another,
/// not at once.
class ORC_API WhatIf {
 public:
  explicit WhatIf(std::shared_ptr<const SchedulingSnapshot> base, PlaceOptions options = {});

  WhatIf& add_node(NodeShape node);
  WhatIf& remove_node(std::string name);  ///< what ran there is gone, see drain()
  WhatIf& add_pod(PodShape pod, std::string node);
  WhatIf& remove_pod(std::string uid);

  struct Answer {
    std::vector<std::pair<std::string, std::string>> placed;   ///< "namespace/name", node
    std::vector<std::pair<std::string, std::string>> refused;  ///< "namespace/name", message
  };
  /// Places them in this order, each counted for the next.
  Answer schedule(const std::vector<PodShape>& pods) const;
  /// Takes the node away and places what ran there.
  Answer drain(const std::string& node) const;
  Preemption preempt(const PodShape& pod, const std::vector<DisruptionBudget>& budgets = {}) const;
  std::vector<NodeVerdict> explain(const PodShape& pod) const;
  /// How many nodes of this shape have to be added until all pods fit; nullopt: more than `most`, or none
  /// would help.
  std::optional<std::size_t> nodes_needed(const std::vector<PodShape>& pods, const NodeShape& shape,
                                          std::size_t most) const;
  /// The cluster as this branch has it.
  SchedulingSnapshot snapshot() const;

 private:
  struct Change {
    enum class Kind : std::uint8_t { add_node, remove_node, add_pod, remove_pod } kind;
    std::shared_ptr<const NodeShape> node;
    std::shared_ptr<const PodShape> pod;
    std::string name;  // of the node; or the UID
  };
  Answer schedule_in(SchedulingSnapshot& copy, const std::vector<PodShape>& pods) const;

  std::shared_ptr<const SchedulingSnapshot> base_;
  PlaceOptions options_;
  std::vector<Change> changes_;
};

/// The objects of a cluster, and how it might differ: what `orchestra explain` and `orchestra sim explain`
/// ask about. Values; any thread. Since 0.2.
struct ClusterQuestion {
  std::vector<Object> nodes, pods;
  std::vector<Object> others;        ///< namespaces, volumes, claims, classes, what CSI drivers say
  std::vector<std::string> without;  ///< names of nodes, as if they were not there
  std::vector<std::string> add;      ///< "NODE=N": as if there were N (1..100,000) more nodes like NODE
};

/// What the scheduler would say about one pod now, wherever it runs.
struct PodAnswer {
  std::string pod;                 ///< "namespace/name"
  std::vector<NodeVerdict> nodes;  ///< each with its reasons, or its scores
  std::string runs_on;             ///< empty: it has no node
  std::string goes_to;             ///< empty: nowhere, and `refusal` is what the scheduler says then
  std::string refusal;
  Preemption preemption;  ///< where it is refused: who would have to leave
  /// One line for each node if `rows`, with each rule's score if `scores`; then what follows from them.
  ORC_API std::string text(bool rows, bool scores) const;
};
/// `not_found` names a pod or node that is not there, `invalid` an entry of `add`.
ORC_API Result<PodAnswer> explain_pod(const ClusterQuestion& question, const std::string& ns,
                                      const std::string& name);

/// Places, in their order of priority and name, all pods that have no node, and those of the nodes in
/// `without`. Errors as explain_pod.
ORC_API Result<WhatIf::Answer> place_waiting(const ClusterQuestion& question);

}  // namespace orchestra
