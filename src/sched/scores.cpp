// Raw scores (pkg/scheduler/framework/plugins/{tainttoleration,nodeaffinity,noderesources}). Integer
// arithmetic where upstream has it, so that the same nodes win.
#include <algorithm>
#include <cmath>
#include <vector>

#include "sched/filters.hpp"

namespace orchestra::sched {

namespace {
constexpr std::int64_t kScoreMax = 100;

std::int64_t at(const Amounts& amounts, const char* resource) {
  const auto found = amounts.find(resource);
  return found == amounts.end() ? 0 : found->second;
}
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

std::int64_t least_allocated(const PodShape& pod, const NodeState& node) {
  std::int64_t sum = 0;
  std::int64_t resources = 0;
  const auto score = [&](const char* resource, std::int64_t requested) {
    const std::int64_t total = at(node.shape.allocatable, resource);
    if (total <= 0) return;
    ++resources;
    if (requested <= total) sum += (total - requested) * kScoreMax / total;
  };
  score("cpu", node.score_millicores + pod.score_millicores);
  score("memory", node.score_memory_bytes + pod.score_memory_bytes);
  return resources == 0 ? 0 : sum / resources;
}

std::int64_t balanced_allocation(const PodShape& pod, const NodeState& node) {
  // A pod that asks for nothing is not balanced by anything: upstream skips it.
  if (at(pod.requests, "cpu") == 0 && at(pod.requests, "memory") == 0) return 0;
  std::vector<double> fractions;
  for (const char* resource : {"cpu", "memory"}) {
    const std::int64_t total = at(node.shape.allocatable, resource);
    if (total <= 0) continue;
    const std::int64_t requested = at(node.requested, resource) + at(pod.requests, resource);
    fractions.push_back(std::min(1.0, static_cast<double>(requested) / static_cast<double>(total)));
  }
  const double spread = fractions.size() == 2 ? std::abs((fractions[0] - fractions[1]) / 2) : 0;
  return static_cast<std::int64_t>((1 - spread) * static_cast<double>(kScoreMax));
}

}  // namespace orchestra::sched
