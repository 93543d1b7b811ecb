// Raw scores (pkg/scheduler/framework/plugins/{tainttoleration,nodeaffinity,noderesources}). Integer
// arithmetic where upstream has it, so that the same nodes win.
#include <algorithm>
#include <cmath>

#include "sched/filters.hpp"

namespace orchestra::sched {

namespace {
constexpr std::int64_t kScoreMax = 100;
}  // namespace

std::int64_t unwanted_taints(const PodShape& pod, const NodeShape& node) {
  return std::count_if(node.taints.begin(), node.taints.end(), [&](const NodeTaint& taint) {
    if (taint.effect != "PreferNoSchedule") return false;
    return std::none_of(pod.tolerations.begin(), pod.tolerations.end(),
                        [&](const Toleration& toleration) { return tolerates(toleration, taint); });
  });
}

std::int64_t preferred_weight(const PodShape& pod, const NodeShape& node) {
  std::int64_t sum = 0;
  for (const NodeTerm& term : pod.preferred_terms) {
    if (matches(term, node)) sum += term.weight;
  }
  return sum;
}

std::int64_t least_allocated(const Candidate& candidate, const NodeState& node) {
  std::int64_t sum = 0;
  std::int64_t resources = 0;
  const auto score = [&](std::int64_t total, std::int64_t requested) {
    if (total <= 0) return;
    ++resources;
    if (requested <= total) sum += (total - requested) * kScoreMax / total;
  };
  score(node.cpu_total, node.score_millicores + candidate.pod.score_millicores);
  score(node.memory_total, node.score_memory_bytes + candidate.pod.score_memory_bytes);
  return resources == 0 ? 0 : sum / resources;
}

std::int64_t balanced_allocation(const Candidate& candidate, const NodeState& node) {
  // A pod that asks for nothing is not balanced by anything: upstream skips it.
  if (candidate.cpu == 0 && candidate.memory == 0) return 0;
  if (node.cpu_total <= 0 || node.memory_total <= 0) return kScoreMax;  // one resource is always in balance
  const auto fraction = [](std::int64_t requested, std::int64_t total) {
    return std::min(1.0, static_cast<double>(requested) / static_cast<double>(total));
  };
  const double cpu = fraction(node.cpu_used + candidate.cpu, node.cpu_total);
  const double memory = fraction(node.memory_used + candidate.memory, node.memory_total);
  return static_cast<std::int64_t>((1 - std::abs((cpu - memory) / 2)) * static_cast<double>(kScoreMax));
}

}  // namespace orchestra::sched
