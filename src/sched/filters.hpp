#pragma once
// Filters and raw scores of one node for one pod. Pure leaves; place.cpp holds the loop.
#include <string>
#include <vector>

#include "sched/snapshot.hpp"

namespace orchestra::sched {

struct Rejection {
  std::vector<std::string> reasons;  ///< empty: the node will do
  bool resolvable = true;            ///< ending other pods on the node could help
};
/// The first filter that says no, in the order of upstream's default plugins.
Rejection reject(const PodShape& pod, const NodeState& node);

bool tolerates(const Toleration& toleration, const NodeTaint& taint);
bool matches(const NodeTerm& term, const NodeShape& node);

/// PreferNoSchedule taints that the pod does not tolerate.
std::int64_t unwanted_taints(const PodShape& pod, const NodeShape& node);
/// Sum of the weights of matching preferred terms.
std::int64_t preferred_weight(const PodShape& pod, const NodeShape& node);
std::int64_t least_allocated(const PodShape& pod, const NodeState& node);      ///< 0..100
std::int64_t balanced_allocation(const PodShape& pod, const NodeState& node);  ///< 0..100

}  // namespace orchestra::sched
