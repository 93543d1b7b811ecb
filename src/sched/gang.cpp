// place_gang() and preempt_gang(): see gang.hpp.
#include "orchestra/gang.hpp"

#include "sched/snapshot.hpp"

namespace orchestra {

Gang place_gang(SchedulingSnapshot& snapshot, const std::vector<PodShape>& pods, std::size_t already,
                std::size_t minimum, const PlaceOptions& options) {
  Gang gang;
  std::string first_refusal;
  for (const PodShape& pod : pods) {
    Decision decision = place(snapshot, pod, options);
    if (Placement* at = std::get_if<Placement>(&decision.answer)) {
      snapshot.assume(pod, at->node);
      gang.placements.emplace_back(pod.uid, std::move(*at));
      continue;
    }
    gang.left.push_back(pod.uid);
    if (!first_refusal.empty()) continue;
    const PlacementFailed* failed = decision.failed();
    first_refusal = failed == nullptr ? decision.unschedulable()->message()
                                      : "plugin " + failed->plugin + ": " + failed->message;
  }
  gang.placed = already + gang.placements.size() >= minimum;
  if (gang.placed) return gang;
  gang.message = "only " + std::to_string(already + gang.placements.size()) + " of the " +
                 std::to_string(minimum) + " pods that the group needs would have a node; " + first_refusal;
  for (const auto& [uid, at] : gang.placements) snapshot.forget(uid);
  for (const auto& [uid, at] : gang.placements) gang.left.push_back(uid);
  gang.placements.clear();
  return gang;
}

GangPreemption preempt_gang(const SchedulingSnapshot& snapshot, const std::vector<PodShape>& pods,
                            std::size_t already, std::size_t minimum, std::vector<DisruptionBudget> budgets,
                            const PlaceOptions& options) {
  GangPreemption gang;
  SchedulingSnapshot rest = snapshot;
  for (const PodShape& pod : pods) {
    const Decision decision = place(rest, pod, options);
    if (const Placement* at = decision.placement()) {
      rest.assume(pod, at->node);
      gang.nodes.emplace_back(pod.uid, at->node);
      continue;
    }
    const Unschedulable* why = decision.unschedulable();
    if (why == nullptr || why->resolvable == 0) continue;
    const Preemption plan = preempt(rest, pod, budgets, options);
    if (!plan.note.empty() && !pod.never_preempts) gang.waits = true;
    if (plan.node.empty()) continue;
    for (const std::string& uid : plan.victims) {
      const sched::PlacedPod& victim = *rest.impl().pods.find(uid);
      const PodRules& rules = rest.impl().records[victim.record].rules;
      for (DisruptionBudget& budget : budgets) {
        if (budget.ns == rules.ns && !budget.selector.empty() && budget.selector.matches(rules.labels) &&
            !budget.disrupted.contains(victim.name)) {
          --budget.allowed;
        }
      }
      rest.forget(uid);
      gang.victims.push_back(uid);
    }
    gang.violations += plan.violations;
    rest.assume(pod, plan.node);
    gang.nodes.emplace_back(pod.uid, plan.node);
  }
  gang.helps = !gang.waits && !gang.victims.empty() && already + gang.nodes.size() >= minimum;
  return gang;
}

}  // namespace orchestra
