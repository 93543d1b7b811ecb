#pragma once
// orchestra.dev/v1 PodExplanation objects of what the scheduler says about pods. Pure.
#include "base/json.hpp"
#include "orchestra/what_if.hpp"

namespace orchestra::sched {

json::value pod_explanation(const PodAnswer& answer);

}  // namespace orchestra::sched
