#include "node/shutdown.hpp"

#include <algorithm>

namespace orchestra::node {

namespace {
constexpr std::int64_t kCriticalPriority = 2'000'000'000;
}

std::vector<NodeAgent::ShutdownPhase> shutdown_phases(const NodeAgent::DrainOptions& options) {
  std::vector<NodeAgent::ShutdownPhase> phases = options.by_priority;
  if (phases.empty()) phases = {{0, options.normal}, {kCriticalPriority, options.critical}};
  std::stable_sort(phases.begin(), phases.end(),
                   [](const auto& a, const auto& b) { return a.priority < b.priority; });
  return phases;
}

std::size_t shutdown_phase_of(const std::vector<NodeAgent::ShutdownPhase>& phases, std::int64_t priority) {
  const auto above =
      std::upper_bound(phases.begin(), phases.end(), priority,
                       [](std::int64_t value, const auto& phase) { return value < phase.priority; });
  return above == phases.begin() ? 0 : static_cast<std::size_t>(above - phases.begin()) - 1;
}

}  // namespace orchestra::node
