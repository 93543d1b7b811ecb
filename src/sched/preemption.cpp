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
  using Victims = Evaluation::Victims;
  std::int64_t priority(const PlacedPod* pod) const { return impl_.records[pod->record].rules.priority; }
  bool more_important(const PlacedPod* a, const PlacedPod* b) const {
    const std::int64_t left = priority(a);
    const std::int64_t right = priority(b);
    if (left != right) return left > right;
    return a->started_ns != b->started_ns ? a->started_ns < b->started_ns : a->uid < b->uid;
  }
  std::vector<bool> violating(const std::vector<const PlacedPod*>& pods) const;
  void look(Slot slot, Victims& found);
  void measure(Victims& found) const;
  static bool better(const Victims& a, const Victims& b);
  void count(Slot slot, Code code);
  void name_counts();

  Attempt& attempt_;
  SchedulingSnapshot::Impl& impl_;
  const std::vector<DisruptionBudget>& budgets_;
  Preemption result_;
  Evaluation::Refusals counts_;  // why not; named at the end
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

void Search::look(Slot slot, Victims& found) {
  found = Victims();
  std::vector<const PlacedPod*> lower;
  for (const PlacedPod* pod : impl_.nodes[slot].pods) {
    if (priority(pod) < attempt_.pod.priority) lower.push_back(pod);
  }
  if (lower.empty()) return;
  found.code = attempt_.code_without(slot, lower);
  if (found.code != Code::ok) return;
  const auto important = [&](const PlacedPod* a, const PlacedPod* b) { return more_important(a, b); };
  std::sort(lower.begin(), lower.end(), important);
  // Give back as many as possible: first those whose budget is at stake, each group most important first.
  const std::vector<bool> violates = violating(lower);
  std::vector<const PlacedPod*> gone = lower;
  for (const bool at_stake : {true, false}) {
    for (std::size_t i = 0; i < lower.size(); ++i) {
      if (violates[i] != at_stake) continue;
      std::erase(gone, lower[i]);
      if (attempt_.code_without(slot, gone) == Code::ok) continue;
      gone.push_back(lower[i]);
      if (at_stake) ++found.violations;
    }
  }
  std::sort(gone.begin(), gone.end(), important);
  found.pods = std::move(gone);
  found.possible = true;
  measure(found);
}

void Search::measure(Victims& found) const {
  if (found.pods.empty()) return;
  // Upstream adds 2^31 to each, so that many pods of negative priority do not look cheaper than few.
  constexpr std::int64_t kShift = std::int64_t{1} << 31;
  found.highest = priority(found.pods.front());
  for (const PlacedPod* pod : found.pods) found.sum += priority(pod) + kShift;
  // The earliest start among those of highest priority; they are sorted so that it stands first.
  found.started_ns = found.pods.front()->started_ns;
}

// Each resource that is lacking even without the pods of lower priority.
void Search::count(Slot slot, Code code) {
  ++counts_.codes[static_cast<std::size_t>(code)];
  if (code != Code::fit) return;
  Evaluation::Overlay overlay;
  for (const PlacedPod* pod : impl_.nodes[slot].pods) {
    if (priority(pod) < attempt_.pod.priority) overlay.removed.push_back(pod);
  }
  attempt_.evaluation.count_lacking(slot, &overlay, counts_);
}

void Search::name_counts() {
  const auto add = [&](const std::string& reason, std::int32_t times) {
    if (times > 0) result_.why[reason] += static_cast<std::size_t>(times);
  };
  for (std::size_t i = 0; i < counts_.codes.size(); ++i) {
    const Code code = static_cast<Code>(i);
    const char* reason = code == Code::ok ? kNoVictims : reason_of(code);
    if (code != Code::fit) add(reason == nullptr ? "node(s) had other reasons" : reason, counts_.codes[i]);
  }
  add("Too many pods", counts_.too_many);
  for (std::size_t i = 0; i < counts_.lacking.size(); ++i) {
    const Id resource = attempt_.evaluation.record().amounts[i].first;
    add("Insufficient " + impl_.resources[resource].name, counts_.lacking[i]);
  }
}

// pickOneNodeForPreemption: each criterion only among those that the one before left equal. Whoever is asked
// first wins a draw.
bool Search::better(const Victims& a, const Victims& b) {
  if (a.violations != b.violations) return a.violations < b.violations;
  if (a.pods.empty() || b.pods.empty()) return a.pods.empty() && !b.pods.empty();
  if (a.highest != b.highest) return a.highest < b.highest;
  if (a.sum != b.sum) return a.sum < b.sum;
  if (a.pods.size() != b.pods.size()) return a.pods.size() < b.pods.size();
  return a.started_ns > b.started_ns;
}

Preemption Search::run() {
  const PodShape& pod = attempt_.pod;
  if (pod.never_preempts) {
    result_.note = "not eligible due to preemptionPolicy=Never.";
    return std::move(result_);
  }
  attempt_.prepare();
  // A node was made free for it already, and the pods there are on their way out.
  if (attempt_.own_promise()) {
    const Slot slot = *attempt_.own_promise();
    const Code code = attempt_.code(slot);
    if (code == Code::ok || resolvable(code)) {
      for (const PlacedPod* other : impl_.nodes[slot].pods) {
        if (!impl_.records[other->record].rules.terminating || priority(other) >= pod.priority) continue;
        result_.note = "not eligible due to a terminating pod on the nominated node.";
        return std::move(result_);
      }
    }
  }
  Evaluation& evaluation = attempt_.evaluation;
  // Remembered where nothing but the node itself decides.
  const bool remember = !evaluation.topology() && budgets_.empty() && !attempt_.volumes.any();
  if (remember) evaluation.victims.resize(impl_.nodes.size());
  counts_.lacking.assign(evaluation.record().amounts.size(), 0);
  const Victims* best = nullptr;
  Slot best_slot = 0;
  Victims own;  // of what is not remembered: found last, and the best
  Victims best_own;
  std::size_t helpless = 0;
  for (const Slot slot : impl_.by_rank) {
    const Code code = attempt_.for_all.empty() ? attempt_.code(slot) : Code::not_asked;
    const bool may_help = (code == Code::ok && attempt_.promised_away(slot)) ||
                          (resolvable(code) && (code != Code::fit || evaluation.fits_empty(slot)));
    if (!may_help) {
      ++helpless;
      continue;
    }
    // What was promised to this very pod counts for it alone.
    const bool shared = remember && attempt_.own_promise() != slot;
    Victims& found = shared ? evaluation.victims[slot] : own;
    if (!shared || !found.known) {
      look(slot, found);
      found.known = true;
    }
    if (!found.possible) {
      count(slot, found.code);
      continue;
    }
    ++result_.candidates;
    if (best != nullptr && !better(found, *best)) continue;
    if (!shared) best_own = own;
    best = shared ? &found : &best_own;
    best_slot = slot;
  }
  if (best == nullptr) {
    name_counts();
    if (helpless > 0) result_.why[kNotHelpful] = helpless;
    return std::move(result_);
  }
  result_.node = impl_.nodes[best_slot].shape.name;
  result_.violations = best->violations;
  for (const PlacedPod* victim : best->pods) result_.victims.push_back(victim->uid);
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
