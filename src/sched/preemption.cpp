// preempt(): which pods of lower priority have to end so that one fits
// (kubernetes/pkg/scheduler/framework/preemption/preemption.go, plugins/defaultpreemption).
//
// Upstream tries a sample of nodes on copies of them; this tries all nodes on counters: the pods that are
// "gone" are an overlay of a few subtractions. What was found for a node is remembered in the evaluation
// until the node changes, so a thousand equal preemptors do not repeat it.
#include <algorithm>

#include "sched/scan.hpp"

namespace orchestra {

using namespace sched;

namespace {

constexpr const char* kNotHelpful = "Preemption is not helpful for scheduling";
constexpr const char* kNoVictims = "No preemption victims found for incoming pod";

class Search {
 public:
  Search(Attempt& attempt, const std::vector<DisruptionBudget>& budgets)
      : attempt_(attempt), impl_(attempt.impl), budgets_(budgets) {}

  Preemption run();

 private:
  struct Candidate {
    Slot slot = 0;
    std::vector<const PlacedPod*> victims;  // most important first
    std::size_t violations = 0;
  };
  std::int64_t priority(const PlacedPod* pod) const { return impl_.records[pod->record].rules.priority; }
  bool more_important(const PlacedPod* a, const PlacedPod* b) const {
    const std::int64_t left = priority(a);
    const std::int64_t right = priority(b);
    if (left != right) return left > right;
    return a->started_ns != b->started_ns ? a->started_ns < b->started_ns : a->uid < b->uid;
  }
  std::vector<bool> violating(const std::vector<const PlacedPod*>& pods) const;
  std::optional<Candidate> victims_on(Slot slot);
  std::optional<Candidate> look(Slot slot, Code& code);
  bool better(const Candidate& a, const Candidate& b) const;
  void count(Slot slot, Code code, const std::vector<const PlacedPod*>& removed);

  Attempt& attempt_;
  SchedulingSnapshot::Impl& impl_;
  const std::vector<DisruptionBudget>& budgets_;
  Preemption result_;
};

// In the order of `pods`: does ending it take more than its budgets allow, given those before it?
std::vector<bool> Search::violating(const std::vector<const PlacedPod*>& pods) const {
  std::vector<bool> violates(pods.size(), false);
  if (budgets_.empty()) return violates;
  std::vector<std::int64_t> allowed;
  for (const DisruptionBudget& budget : budgets_) allowed.push_back(budget.allowed);
  for (std::size_t i = 0; i < pods.size(); ++i) {
    const PodRules& rules = impl_.records[pods[i]->record].rules;
    if (rules.labels.empty()) continue;
    for (std::size_t b = 0; b < budgets_.size(); ++b) {
      const DisruptionBudget& budget = budgets_[b];
      if (budget.ns != rules.ns || budget.selector.empty() || !budget.selector.matches(rules.labels) ||
          budget.disrupted.contains(pods[i]->name)) {
        continue;
      }
      if (--allowed[b] < 0) violates[i] = true;
    }
  }
  return violates;
}

std::optional<Search::Candidate> Search::look(Slot slot, Code& code) {
  std::vector<const PlacedPod*> lower;
  for (const PlacedPod* pod : impl_.nodes[slot].pods) {
    if (priority(pod) < attempt_.pod.priority) lower.push_back(pod);
  }
  if (lower.empty()) {
    code = Code::ok;
    return std::nullopt;
  }
  code = attempt_.code_without(slot, lower);
  if (code != Code::ok) return std::nullopt;
  std::sort(lower.begin(), lower.end(),
            [&](const PlacedPod* a, const PlacedPod* b) { return more_important(a, b); });
  // Give back as many as possible: first those whose budget is at stake, each group most important first.
  const std::vector<bool> violates = violating(lower);
  Candidate candidate;
  candidate.slot = slot;
  std::vector<const PlacedPod*> gone = lower;
  for (const bool at_stake : {true, false}) {
    for (std::size_t i = 0; i < lower.size(); ++i) {
      if (violates[i] != at_stake) continue;
      std::erase(gone, lower[i]);
      if (attempt_.code_without(slot, gone) == Code::ok) continue;
      gone.push_back(lower[i]);
      if (at_stake) ++candidate.violations;
    }
  }
  std::sort(gone.begin(), gone.end(),
            [&](const PlacedPod* a, const PlacedPod* b) { return more_important(a, b); });
  candidate.victims = std::move(gone);
  return candidate;
}

// Remembered where nothing but the node itself decides.
std::optional<Search::Candidate> Search::victims_on(Slot slot) {
  Evaluation& evaluation = attempt_.evaluation;
  const bool remember = !evaluation.topology() && budgets_.empty() && !attempt_.volumes.any() &&
                        impl_.nodes[slot].nominated.empty();
  Code code = Code::ok;
  if (!remember) {
    auto found = look(slot, code);
    if (!found) count(slot, code, {});
    return found;
  }
  if (evaluation.victims.size() < impl_.nodes.size()) evaluation.victims.resize(impl_.nodes.size());
  Evaluation::Victims& known = evaluation.victims[slot];
  if (known.generation != impl_.nodes[slot].generation) {
    auto found = look(slot, code);
    known.generation = impl_.nodes[slot].generation;
    known.possible = found.has_value();
    known.code = code;
    known.pods = found ? std::move(found->victims) : std::vector<const PlacedPod*>();
  }
  if (!known.possible) {
    count(slot, known.code, {});
    return std::nullopt;
  }
  return Candidate{slot, known.pods, 0};
}

void Search::count(Slot slot, Code code, const std::vector<const PlacedPod*>&) {
  if (code == Code::ok) {
    ++result_.why[kNoVictims];
    return;
  }
  if (code == Code::fit) {
    Evaluation::Overlay overlay;
    for (const PlacedPod* pod : impl_.nodes[slot].pods) {
      if (priority(pod) < attempt_.pod.priority) overlay.removed.push_back(pod);
    }
    for (const std::string& reason : attempt_.evaluation.lacking(slot, &overlay)) ++result_.why[reason];
    return;
  }
  const char* reason = reason_of(code);
  ++result_.why[reason == nullptr ? "node(s) had other reasons" : reason];
}

// pickOneNodeForPreemption: each criterion only among those that the one before left equal.
bool Search::better(const Candidate& a, const Candidate& b) const {
  if (a.violations != b.violations) return a.violations < b.violations;
  if (a.victims.empty() != b.victims.empty()) return a.victims.empty();
  if (a.victims.empty()) return false;
  const std::int64_t highest_a = priority(a.victims.front());
  const std::int64_t highest_b = priority(b.victims.front());
  if (highest_a != highest_b) return highest_a < highest_b;
  // Upstream adds 2^31 to each, so that many pods of negative priority do not look cheaper than few.
  constexpr std::int64_t kShift = std::int64_t{1} << 31;
  const auto sum = [&](const Candidate& each) {
    std::int64_t total = 0;
    for (const PlacedPod* pod : each.victims) total += priority(pod) + kShift;
    return total;
  };
  const std::int64_t sum_a = sum(a);
  const std::int64_t sum_b = sum(b);
  if (sum_a != sum_b) return sum_a < sum_b;
  if (a.victims.size() != b.victims.size()) return a.victims.size() < b.victims.size();
  // The earliest start among the victims of highest priority; they are sorted so that it stands first.
  if (a.victims.front()->started_ns != b.victims.front()->started_ns)
    return a.victims.front()->started_ns > b.victims.front()->started_ns;
  return impl_.rank[a.slot] < impl_.rank[b.slot];
}

Preemption Search::run() {
  const PodShape& pod = attempt_.pod;
  if (pod.never_preempts) {
    result_.note = "not eligible due to preemptionPolicy=Never.";
    return std::move(result_);
  }
  attempt_.prepare();
  // A node was made free for it already, and the pods there are on their way out.
  const auto promised = impl_.nominations.find(pod.uid);
  if (promised != impl_.nominations.end()) {
    const Slot slot = promised->second.slot;
    const Code code = attempt_.code(slot);
    if (code == Code::ok || resolvable(code)) {
      for (const PlacedPod* other : impl_.nodes[slot].pods) {
        if (!impl_.records[other->record].rules.terminating || priority(other) >= pod.priority) continue;
        result_.note = "not eligible due to a terminating pod on the nominated node.";
        return std::move(result_);
      }
    }
  }
  std::optional<Candidate> best;
  std::size_t helpless = 0;
  for (const Slot slot : impl_.by_rank) {
    const Code code = attempt_.for_all.empty() ? attempt_.code(slot) : Code::not_asked;
    const bool may_help = (code == Code::ok && attempt_.promised_away(slot)) ||
                          (resolvable(code) && (code != Code::fit || attempt_.evaluation.fits_empty(slot)));
    if (!may_help) {
      ++helpless;
      continue;
    }
    auto candidate = victims_on(slot);
    if (!candidate) continue;
    ++result_.candidates;
    if (!best || better(*candidate, *best)) best = std::move(candidate);
  }
  if (helpless > 0) result_.why[kNotHelpful] = helpless;
  if (!best) return std::move(result_);
  result_.why.clear();
  result_.node = impl_.nodes[best->slot].shape.name;
  result_.violations = best->violations;
  for (const PlacedPod* victim : best->victims) result_.victims.push_back(victim->uid);
  return std::move(result_);
}

}  // namespace

Preemption preempt(const SchedulingSnapshot& snapshot, const PodShape& pod,
                   const std::vector<DisruptionBudget>& budgets, const PlaceOptions& options) {
  if (snapshot.node_count() == 0) return {};
  Attempt attempt(snapshot, pod, options);
  return Search(attempt, budgets).run();
}

}  // namespace orchestra
