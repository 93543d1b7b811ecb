// place(): the loop over all nodes; a "no" is counted by reason, a "yes" is scored.
//
// Weights are upstream's defaults. TaintToleration and NodeAffinity are normalised over the feasible nodes
// only (helper.DefaultNormalizeScore). Ties go to the lowest name, or the lowest of a seeded permutation.
#include <algorithm>

#include "sched/filters.hpp"

namespace orchestra {

namespace {

constexpr std::int64_t kTaintWeight = 3;
constexpr std::int64_t kAffinityWeight = 2;

std::uint64_t mixed(std::uint64_t seed, const std::string& name) {
  std::uint64_t hash = 14695981039346656037ULL ^ seed;
  for (const char letter : name) {
    hash ^= static_cast<unsigned char>(letter);
    hash *= 1099511628211ULL;
  }
  hash ^= hash >> 29;
  return hash * 0x9E3779B97F4A7C15ULL;
}

bool goes_first(const std::string& a, const std::string& b, std::uint64_t seed) {
  if (seed == 0) return a < b;
  const std::uint64_t left = mixed(seed, a);
  const std::uint64_t right = mixed(seed, b);
  return left != right ? left < right : a < b;
}

// Raw values to 0..100 over the feasible nodes; `inverted`: the smallest raw value is the best.
void normalise(std::vector<NodeVerdict>& verdicts, std::int64_t NodeVerdict::*field, bool inverted) {
  std::int64_t most = 0;
  for (const NodeVerdict& verdict : verdicts) {
    if (verdict.reasons.empty()) most = std::max(most, verdict.*field);
  }
  for (NodeVerdict& verdict : verdicts) {
    std::int64_t& value = verdict.*field;
    if (most == 0) {
      value = inverted ? 100 : 0;
    } else {
      value = value * 100 / most;
      if (inverted) value = 100 - value;
    }
  }
}

std::vector<NodeVerdict> judge(const SchedulingSnapshot& snapshot, const PodShape& pod) {
  std::vector<NodeVerdict> verdicts;
  verdicts.reserve(snapshot.impl().nodes.size());
  for (const auto& [name, node] : snapshot.impl().nodes) {
    if (!node.present) continue;
    NodeVerdict verdict;
    verdict.node = name;
    sched::Rejection rejection = sched::reject(pod, node);
    verdict.reasons = std::move(rejection.reasons);
    verdict.resolvable = rejection.resolvable;
    if (verdict.reasons.empty()) {
      verdict.taints = sched::unwanted_taints(pod, node.shape);
      verdict.affinity = sched::preferred_weight(pod, node.shape);
      verdict.least_allocated = sched::least_allocated(pod, node);
      verdict.balanced = sched::balanced_allocation(pod, node);
    }
    verdicts.push_back(std::move(verdict));
  }
  normalise(verdicts, &NodeVerdict::taints, true);
  normalise(verdicts, &NodeVerdict::affinity, false);
  for (NodeVerdict& verdict : verdicts) {
    if (!verdict.reasons.empty()) continue;
    verdict.total = verdict.taints * kTaintWeight + verdict.affinity * kAffinityWeight +
                    verdict.least_allocated + verdict.balanced;
  }
  return verdicts;
}

Unschedulable refusal(const SchedulingSnapshot& snapshot, const PodShape& pod,
                      const std::vector<NodeVerdict>& verdicts) {
  Unschedulable why;
  why.nodes = verdicts.size();
  for (const NodeVerdict& verdict : verdicts) {
    for (const std::string& reason : verdict.reasons) ++why.counts[reason];
    if (!verdict.resolvable) continue;
    ++why.resolvable;
    const auto& priorities = snapshot.impl().nodes.at(verdict.node).priorities;
    if (!priorities.empty() && priorities.begin()->first < pod.priority) ++why.with_lower_priority;
  }
  return why;
}

}  // namespace

std::string Unschedulable::message() const {
  if (nodes == 0) return "no nodes available to schedule pods";
  const std::string head = "0/" + std::to_string(nodes) + " nodes are available: ";
  // Sorted as text with the count in front, as upstream's FitError does.
  std::vector<std::string> lines;
  for (const auto& [reason, count] : counts) lines.push_back(std::to_string(count) + " " + reason);
  std::sort(lines.begin(), lines.end());
  std::string text = head;
  for (std::size_t i = 0; i < lines.size(); ++i) text += (i == 0 ? "" : ", ") + lines[i];
  text += ". preemption: " + head;
  std::vector<std::string> preemption;
  if (nodes > resolvable) {
    preemption.push_back(std::to_string(nodes - resolvable) + " Preemption is not helpful for scheduling");
  }
  if (resolvable > with_lower_priority) {
    preemption.push_back(std::to_string(resolvable - with_lower_priority) +
                         " No preemption victims found for incoming pod");
  }
  if (with_lower_priority > 0) {
    preemption.push_back(std::to_string(with_lower_priority) + " Preemption is not supported");
  }
  std::sort(preemption.begin(), preemption.end());
  for (std::size_t i = 0; i < preemption.size(); ++i) text += (i == 0 ? "" : ", ") + preemption[i];
  return text + ".";
}

Decision place(const SchedulingSnapshot& snapshot, const PodShape& pod, const PlaceOptions& options) {
  const std::vector<NodeVerdict> verdicts = judge(snapshot, pod);
  const NodeVerdict* best = nullptr;
  std::size_t feasible = 0;
  for (const NodeVerdict& verdict : verdicts) {
    if (!verdict.reasons.empty()) continue;
    ++feasible;
    const bool better =
        best == nullptr || verdict.total > best->total ||
        (verdict.total == best->total && goes_first(verdict.node, best->node, options.tie_seed));
    if (better) best = &verdict;
  }
  if (best == nullptr) return {refusal(snapshot, pod, verdicts)};
  return {Placement{best->node, best->total, feasible}};
}

std::vector<NodeVerdict> explain(const SchedulingSnapshot& snapshot, const PodShape& pod) {
  return judge(snapshot, pod);
}

bool fits(const SchedulingSnapshot& snapshot, const PodShape& pod, const std::string& node) {
  const auto found = snapshot.impl().nodes.find(node);
  return found != snapshot.impl().nodes.end() && found->second.present &&
         sched::reject(pod, found->second).reasons.empty();
}

}  // namespace orchestra
