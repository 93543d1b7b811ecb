// place(), explain(), fits(): one attempt each; and what an unschedulable pod is told.
#include <algorithm>

#include "sched/never.hpp"
#include "sched/scan.hpp"

namespace orchestra {

using namespace sched;

namespace {

constexpr std::size_t kScoringPlugins = 7;

void join_sorted(std::string& text, std::vector<std::string> lines) {
  std::sort(lines.begin(), lines.end());
  for (std::size_t i = 0; i < lines.size(); ++i) text += (i == 0 ? " " : ", ") + lines[i];
  if (!lines.empty()) text += ".";
}

std::vector<std::string> counted(const std::map<std::string, std::size_t>& counts) {
  std::vector<std::string> lines;
  for (const auto& [reason, count] : counts) lines.push_back(std::to_string(count) + " " + reason);
  return lines;
}

// As Evaluation::refusals(), for pods whose nodes are judged by more than what is on them.
void count_walking(const Attempt& attempt, Evaluation::Refusals& counts,
                   const std::function<void(Slot)>& one_by_one) {
  const Evaluation& evaluation = attempt.evaluation;
  counts.lacking.assign(evaluation.record().amounts.size(), 0);
  for (const Slot slot : attempt.impl.by_rank) {
    const Code code = attempt.code(slot);
    if (code == Code::ok || code == Code::volumes) {
      one_by_one(slot);
      continue;
    }
    ++counts.codes[static_cast<std::size_t>(code)];
    if (code != Code::fit) continue;
    evaluation.count_lacking(slot, nullptr, counts);
    if (evaluation.fits_empty(slot)) ++counts.fits_empty;
  }
}

Unschedulable refused(Attempt& attempt) {
  Unschedulable why;
  why.nodes = attempt.impl.present;
  if (!attempt.for_all.empty()) {
    why.for_all = attempt.for_all;
    why.plugins.insert(attempt.for_all_plugin);
    return why;
  }
  // Most nodes say one of a few things: those are counted by number, and named at the end.
  const Evaluation& evaluation = attempt.evaluation;
  Evaluation::Refusals counts;
  const auto one_by_one = [&](Slot slot) {
    const Attempt::Refusal refusal = attempt.refusal(slot);
    for (const std::string& reason : refusal.reasons) ++why.counts[reason];
    if (refusal.resolvable) ++why.resolvable;
    if (!refusal.plugin.empty()) why.plugins.insert(refusal.plugin);
  };
  if (attempt.plain() && evaluation.counts_refusals()) {
    counts = evaluation.refusals();
    // Those that would do were promised to others.
    std::set<Slot> promised;
    for (const auto& [uid, nomination] : attempt.impl.nominations) promised.insert(nomination.slot);
    for (const Slot slot : promised) {
      if (evaluation.code(slot) == Code::ok) one_by_one(slot);
    }
  } else {
    count_walking(attempt, counts, one_by_one);
  }
  why.resolvable += static_cast<std::size_t>(counts.fits_empty);
  const auto& codes = counts.codes;
  const auto& lacking = counts.lacking;
  const auto too_many = static_cast<std::size_t>(counts.too_many);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const Code code = static_cast<Code>(i);
    if (codes[i] == 0 || code == Code::ok || code == Code::absent) continue;
    why.plugins.insert(plugin_of(code));
    if (code == Code::fit) continue;
    const auto times = static_cast<std::size_t>(codes[i]);
    why.counts[reason_of(code)] += times;
    if (resolvable(code)) why.resolvable += times;
  }
  if (too_many > 0) why.counts["Too many pods"] += too_many;
  for (std::size_t i = 0; i < lacking.size(); ++i) {
    if (lacking[i] == 0) continue;
    const std::string& name = attempt.impl.resources[evaluation.record().amounts[i].first].name;
    why.counts["Insufficient " + name] += static_cast<std::size_t>(lacking[i]);
  }
  why.never = never_fits(attempt);
  return why;
}

// Tells what each point took, where somebody asks.
class Stopwatch {
 public:
  explicit Stopwatch(const PlaceOptions& options)
      : options_(options), runs_(options.clock && options.on_point) {
    if (runs_) since_ = options_.clock();
  }
  void ended(const char* point, const char* status) {
    if (!runs_) return;
    const std::int64_t now = options_.clock();
    options_.on_point(point, status, now - since_);
    since_ = now;
  }

 private:
  const PlaceOptions& options_;
  const bool runs_;
  std::int64_t since_ = 0;
};

}  // namespace

std::string Unschedulable::message() const {
  if (nodes == 0) return "no nodes available to schedule pods";
  const std::string head = "0/" + std::to_string(nodes) + " nodes are available:";
  std::string text = head;
  // Sorted as text with the count in front, as upstream's FitError does.
  if (!for_all.empty()) {
    text += " " + for_all + ".";
  } else {
    join_sorted(text, counted(counts));
  }
  // Behind upstream's words, so that those who look for them find them.
  const std::string end = never.empty() ? "" : " " + never;
  if (!preemption_note.empty()) return text + " preemption: " + preemption_note + end;
  std::map<std::string, std::size_t> victims = preemption;
  if (victims.empty()) {
    // Nobody tried: as far as the nodes alone can tell.
    if (nodes > resolvable) victims["Preemption is not helpful for scheduling"] = nodes - resolvable;
    if (resolvable > 0) victims["No preemption victims found for incoming pod"] = resolvable;
  }
  text += " preemption: " + head;
  join_sorted(text, counted(victims));
  return text + end;
}

Decision place(const SchedulingSnapshot& snapshot, const PodShape& pod, const PlaceOptions& options) {
  if (snapshot.node_count() == 0) return {Unschedulable()};
  Stopwatch watch(options);
  Attempt attempt(snapshot, pod, options);
  watch.ended("PreFilter", attempt.for_all.empty() ? "Success" : "UnschedulableAndUnresolvable");
  if (!attempt.for_all.empty()) return {refused(attempt)};
  // A node that was promised to the pod is taken if it will do, before any other is looked at.
  const std::optional<Slot> promised = attempt.own_promise();
  if (attempt.plain()) {
    const auto answer = [&](const Evaluation::Best& best) {
      watch.ended("Score", "Success");
      return Decision{Placement{attempt.impl.nodes[best.slot].shape.name, best.total, best.feasible, {}}};
    };
    const bool keeps = promised && attempt.code(*promised) == Code::ok && !attempt.promised_away(*promised);
    watch.ended("Filter", keeps || attempt.evaluation.feasible() > 0 ? "Success" : "Unschedulable");
    if (keeps) return answer(attempt.evaluation.best_at(*promised));
    if (const auto best = attempt.evaluation.best()) return answer(*best);
    return {refused(attempt)};
  }
  attempt.filter();
  watch.ended("Filter", attempt.failure                  ? "Error"
                        : attempt.feasible.slots.empty() ? "Unschedulable"
                                                         : "Success");
  if (!attempt.failure && !attempt.feasible.slots.empty()) {
    attempt.pre_score();
    watch.ended("PreScore", attempt.failure ? "Error" : "Success");
  }
  if (attempt.failure) return {std::move(*attempt.failure)};
  const std::vector<Slot>& slots = attempt.feasible.slots;
  if (slots.empty()) return {refused(attempt)};
  std::int64_t total = 0;
  std::size_t best = attempt.best(total);
  if (promised) {
    const auto found = std::lower_bound(slots.begin(), slots.end(), *promised);
    if (found != slots.end() && *found == *promised) {
      best = static_cast<std::size_t>(found - slots.begin());
      total = attempt.total(best, nullptr);
    }
  }
  watch.ended("Score", "Success");
  Placement placement{attempt.impl.nodes[slots[best]].shape.name, total, slots.size(), {}};
  if (attempt.volumes.any()) placement.volumes = attempt.volumes.check(slots[best]).choices;
  return {std::move(placement)};
}

std::vector<NodeVerdict> explain(const SchedulingSnapshot& snapshot, const PodShape& pod,
                                 const PlaceOptions& options) {
  if (snapshot.node_count() == 0) return {};
  Attempt attempt(snapshot, pod, options);
  attempt.walk();
  const auto& nodes = attempt.impl.nodes;
  std::vector<Slot> slots = attempt.impl.by_rank;
  if (options.tie_seed != 0) {
    std::sort(slots.begin(), slots.end(),
              [&](Slot a, Slot b) { return nodes[a].shape.name < nodes[b].shape.name; });
  }
  constexpr std::size_t kRefused = ~std::size_t{0};
  std::vector<std::size_t> entry(nodes.size(), kRefused);  // of attempt.feasible, by slot
  for (std::size_t i = 0; i < attempt.feasible.slots.size(); ++i) entry[attempt.feasible.slots[i]] = i;
  std::vector<NodeVerdict> verdicts(slots.size());
  for (std::size_t row = 0; row < slots.size(); ++row) {
    const Slot slot = slots[row];
    NodeVerdict& verdict = verdicts[row];
    verdict.node = nodes[slot].shape.name;
    if (attempt.failure) {
      verdict.reasons = {"plugin " + attempt.failure->plugin + ": " + attempt.failure->message};
      verdict.plugin = attempt.failure->plugin;
    } else if (!attempt.for_all.empty()) {
      verdict.reasons = {attempt.for_all};
      verdict.plugin = attempt.for_all_plugin;
      verdict.resolvable = false;
    } else if (entry[slot] != kRefused) {
      verdict.scores.reserve(kScoringPlugins + options.plugins.size());
      verdict.total = attempt.total(entry[slot], &verdict.scores);
    } else {
      Attempt::Refusal refusal = attempt.refusal(slot);
      verdict.reasons = std::move(refusal.reasons);
      verdict.plugin = std::move(refusal.plugin);
      verdict.resolvable = verdict.reasons.empty() || refusal.resolvable;
    }
  }
  return verdicts;
}

bool fits_somewhere(const SchedulingSnapshot& snapshot, const PodShape& pod, const PlaceOptions& options) {
  if (snapshot.node_count() == 0) return false;
  PlaceOptions builtin = options;
  builtin.plugins.clear();  // those of the host are asked when it is tried
  Attempt attempt(snapshot, pod, builtin);
  if (!attempt.for_all.empty()) return false;
  if (attempt.plain()) {
    const std::optional<Slot> promised = attempt.own_promise();
    return attempt.evaluation.feasible() > 0 ||
           (promised && attempt.code(*promised) == Code::ok && !attempt.promised_away(*promised));
  }
  attempt.prepare();
  return std::any_of(attempt.impl.by_rank.begin(), attempt.impl.by_rank.end(), [&](Slot slot) {
    return attempt.code(slot) == Code::ok && !attempt.promised_away(slot);
  });
}

bool fits(const SchedulingSnapshot& snapshot, const PodShape& pod, const std::string& node,
          const PlaceOptions& options) {
  const auto found = snapshot.impl().slots.find(node);
  if (found == snapshot.impl().slots.end() || !snapshot.impl().nodes[found->second].present) return false;
  Attempt attempt(snapshot, pod, options);
  if (!attempt.for_all.empty()) return false;
  attempt.prepare();
  if (attempt.refusal(found->second).code != Code::ok) return false;
  attempt.feasible.slots.push_back(found->second);
  attempt.run_filters();
  return !attempt.failure && !attempt.feasible.slots.empty();
}

}  // namespace orchestra
