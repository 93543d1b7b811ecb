#pragma once
// What no node of the cluster could ever give a pod, however empty: more of a resource than any has, or a
// topology key that none is labelled with. Only a change of nodes can help such a pod.
#include <string>

#include "sched/scan.hpp"

namespace orchestra::sched {

/// One sentence; empty: some node could, as far as this looks.
std::string never_fits(const Attempt& attempt);

}  // namespace orchestra::sched
