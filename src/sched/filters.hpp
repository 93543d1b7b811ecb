#pragma once
// Filters and raw scores of one node for one pod. Pure leaves; place.cpp holds the loop.
#include <string>
#include <vector>

#include "sched/snapshot.hpp"

namespace orchestra::sched {

/// A pod as the filters want it: made once per decision, looked at once per node.
struct Candidate {
  explicit Candidate(const PodShape& pod);
  const PodShape& pod;
  std::int64_t cpu = 0, memory = 0;
  std::vector<std::pair<std::string, std::int64_t>> others;  ///< further resources, amounts > 0
};

struct Rejection {
  std::vector<std::string> reasons;  ///< empty: the node will do
  bool resolvable = true;            ///< ending other pods on the node could help
};
/// The first filter that says no, in the order of upstream's default plugins.
Rejection reject(const Candidate& candidate, const NodeState& node);

bool tolerates(const Toleration& toleration, const NodeTaint& taint);
bool matches(const NodeTerm& term, const NodeShape& node);

/// PreferNoSchedule taints that the pod does not tolerate.
std::int64_t unwanted_taints(const PodShape& pod, const NodeShape& node);
/// Sum of the weights of matching preferred terms.
std::int64_t preferred_weight(const PodShape& pod, const NodeShape& node);
std::int64_t least_allocated(const Candidate& candidate, const NodeState& node);      ///< 0..100
std::int64_t balanced_allocation(const Candidate& candidate, const NodeState& node);  ///< 0..100

}  // namespace orchestra::sched
