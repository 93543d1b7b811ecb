#pragma once
// What the scheduler says about one pod, and the orchestra.dev/v1 PodExplanation objects of that. Pure.
#include "base/json.hpp"
#include "orchestra/what_if.hpp"

namespace orchestra::sched {

/// Each node's verdict, and what follows from them: the node it would get, or what it would be told and who
/// would have to leave. `snapshot` is the cluster without this pod.
void judge(PodAnswer& answer, const SchedulingSnapshot& snapshot, const PodShape& pod,
           const PlaceOptions& options, const std::vector<DisruptionBudget>& budgets = {});

json::value pod_explanation(const PodAnswer& answer);

}  // namespace orchestra::sched
