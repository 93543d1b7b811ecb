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

// A feasible node while its score is worked out. Raw values first: taints and affinity are normalised when
// the largest of all feasible nodes is known.
struct Scored {
  const NodeState* node = nullptr;
  std::int64_t taints = 0, affinity = 0, least_allocated = 0, balanced = 0;

  static Scored of(const sched::Candidate& candidate, const NodeState& node) {
    return {&node, sched::unwanted_taints(candidate.pod, node.shape),
            sched::preferred_weight(candidate.pod, node.shape), sched::least_allocated(candidate, node),
            sched::balanced_allocation(candidate, node)};
  }
  std::int64_t total() const {
    return taints * kTaintWeight + affinity * kAffinityWeight + least_allocated + balanced;
  }
};

// helper.DefaultNormalizeScore: 0..100, for taints the fewest are the best.
void normalise(std::vector<Scored>& feasible) {
  std::int64_t taints = 0;
  std::int64_t affinity = 0;
  for (const Scored& each : feasible) {
    taints = std::max(taints, each.taints);
    affinity = std::max(affinity, each.affinity);
  }
  for (Scored& each : feasible) {
    each.taints = taints == 0 ? 100 : 100 - each.taints * 100 / taints;
    each.affinity = affinity == 0 ? 0 : each.affinity * 100 / affinity;
  }
}

void count(const sched::Rejection& rejection, const NodeState& node, std::int64_t priority,
           Unschedulable& why) {
  for (const std::string& reason : rejection.reasons) ++why.counts[reason];
  if (!rejection.resolvable) return;
  ++why.resolvable;
  if (!node.priorities.empty() && node.priorities.begin()->first < priority) ++why.with_lower_priority;
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
  const sched::Candidate candidate(pod);
  std::vector<Scored> feasible;
  feasible.reserve(snapshot.impl().present);
  Unschedulable why;
  for (const auto& [name, node] : snapshot.impl().nodes) {
    if (!node.present) continue;
    ++why.nodes;
    const sched::Rejection rejection = sched::reject(candidate, node);
    if (rejection.reasons.empty()) {
      feasible.push_back(Scored::of(candidate, node));
    } else {
      count(rejection, node, pod.priority, why);
    }
  }
  if (feasible.empty()) return {std::move(why)};
  normalise(feasible);
  const Scored* best = &feasible.front();
  for (const Scored& each : feasible) {
    const std::int64_t lead = each.total() - best->total();
    if (lead > 0 ||
        (lead == 0 && goes_first(each.node->shape.name, best->node->shape.name, options.tie_seed))) {
      best = &each;
    }
  }
  return {Placement{best->node->shape.name, best->total(), feasible.size()}};
}

std::vector<NodeVerdict> explain(const SchedulingSnapshot& snapshot, const PodShape& pod) {
  const sched::Candidate candidate(pod);
  std::vector<NodeVerdict> verdicts;
  std::vector<Scored> feasible;
  for (const auto& [name, node] : snapshot.impl().nodes) {
    if (!node.present) continue;
    sched::Rejection rejection = sched::reject(candidate, node);
    if (rejection.reasons.empty()) feasible.push_back(Scored::of(candidate, node));
    verdicts.push_back({name, std::move(rejection.reasons), rejection.resolvable});
  }
  normalise(feasible);
  auto next = feasible.begin();
  for (NodeVerdict& verdict : verdicts) {
    if (!verdict.reasons.empty()) continue;
    verdict.taints = next->taints;
    verdict.affinity = next->affinity;
    verdict.least_allocated = next->least_allocated;
    verdict.balanced = next->balanced;
    verdict.total = next->total();
    ++next;
  }
  return verdicts;
}

bool fits(const SchedulingSnapshot& snapshot, const PodShape& pod, const std::string& node) {
  const auto found = snapshot.impl().nodes.find(node);
  return found != snapshot.impl().nodes.end() && found->second.present &&
         sched::reject(sched::Candidate(pod), found->second).reasons.empty();
}

}  // namespace orchestra
