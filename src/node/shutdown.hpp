#pragma once
// In which order pods end when their node goes down (kubernetes/pkg/kubelet/nodeshutdown). Pure.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "orchestra/node_agent.hpp"

namespace orchestra::node {

/// The phases from the lowest priority to the highest; without any, ordinary pods and then critical ones.
std::vector<NodeAgent::ShutdownPhase> shutdown_phases(const NodeAgent::DrainOptions& options);
/// The phase of a pod: the last one whose priority is not above the pod's; the first for those below all.
std::size_t shutdown_phase_of(const std::vector<NodeAgent::ShutdownPhase>& phases, std::int64_t priority);

}  // namespace orchestra::node
