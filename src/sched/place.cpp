// place(), explain(), fits(): one attempt each; and what an unschedulable pod is told.
#include <algorithm>

#include "sched/scan.hpp"

namespace orchestra {

using namespace sched;

namespace {

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
  std::array<std::size_t, static_cast<std::size_t>(Code::absent)> codes{};
  std::vector<std::size_t> lacking(evaluation.record().amounts.size(), 0);
  std::size_t too_many = 0;
  for (const Slot slot : attempt.impl.by_rank) {
    const Code code = attempt.code(slot);
    if (code == Code::fit) {
      ++codes[static_cast<std::size_t>(code)];
      if (attempt.impl.pods_used[slot] + 1 > attempt.impl.pods_total[slot]) ++too_many;
      evaluation.count_lacking(slot, lacking);
      if (evaluation.fits_empty(slot)) ++why.resolvable;
    } else if (code == Code::ok || code == Code::volumes) {
      const Attempt::Refusal refusal = attempt.refusal(slot);
      for (const std::string& reason : refusal.reasons) ++why.counts[reason];
      if (refusal.resolvable) ++why.resolvable;
      if (!refusal.plugin.empty()) why.plugins.insert(refusal.plugin);
    } else {
      ++codes[static_cast<std::size_t>(code)];
      if (resolvable(code)) ++why.resolvable;
    }
  }
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const Code code = static_cast<Code>(i);
    if (codes[i] == 0) continue;
    why.plugins.insert(plugin_of(code));
    if (code != Code::fit) why.counts[reason_of(code)] += codes[i];
  }
  if (too_many > 0) why.counts["Too many pods"] += too_many;
  for (std::size_t i = 0; i < lacking.size(); ++i) {
    if (lacking[i] == 0) continue;
    const std::string& name = attempt.impl.resources[evaluation.record().amounts[i].first].name;
    why.counts["Insufficient " + name] += lacking[i];
  }
  return why;
}

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
  if (!preemption_note.empty()) return text + " preemption: " + preemption_note;
  std::map<std::string, std::size_t> victims = preemption;
  if (victims.empty()) {
    // Nobody tried: as far as the nodes alone can tell.
    if (nodes > resolvable) victims["Preemption is not helpful for scheduling"] = nodes - resolvable;
    if (resolvable > 0) victims["No preemption victims found for incoming pod"] = resolvable;
  }
  text += " preemption: " + head;
  join_sorted(text, counted(victims));
  return text;
}

Decision place(const SchedulingSnapshot& snapshot, const PodShape& pod, const PlaceOptions& options) {
  if (snapshot.node_count() == 0) return {Unschedulable()};
  Attempt attempt(snapshot, pod, options);
  if (attempt.for_all.empty() && attempt.plain()) {
    if (const auto best = attempt.evaluation.best())
      return {Placement{attempt.impl.nodes[best->slot].shape.name, best->total, best->feasible, {}}};
    attempt.prepare();
    return {refused(attempt)};
  }
  attempt.walk();
  if (attempt.failure) return {std::move(*attempt.failure)};
  if (attempt.feasible.empty()) {
    return {refused(attempt)};
  }
  const Attempt::Feasible* best = nullptr;
  std::int64_t best_total = 0;
  for (const Attempt::Feasible& node : attempt.feasible) {
    const std::int64_t total = attempt.total(node, nullptr);
    if (best == nullptr || total > best_total ||
        (total == best_total && attempt.impl.rank[node.slot] < attempt.impl.rank[best->slot])) {
      best = &node;
      best_total = total;
    }
  }
  // A node that was promised to the pod is taken if it will do, before any other is looked at.
  const std::string nominated = snapshot.nominated_node(pod.uid);
  for (const Attempt::Feasible& node : attempt.feasible) {
    if (nominated.empty() || attempt.impl.nodes[node.slot].shape.name != nominated) continue;
    best = &node;
    best_total = attempt.total(node, nullptr);
  }
  Placement placement{attempt.impl.nodes[best->slot].shape.name, best_total, attempt.feasible.size(), {}};
  if (attempt.volumes.any()) placement.volumes = attempt.volumes.check(best->slot).choices;
  return {std::move(placement)};
}

std::vector<NodeVerdict> explain(const SchedulingSnapshot& snapshot, const PodShape& pod,
                                 const PlaceOptions& options) {
  std::vector<NodeVerdict> verdicts;
  if (snapshot.node_count() == 0) return verdicts;
  Attempt attempt(snapshot, pod, options);
  attempt.walk();
  std::map<std::string, NodeVerdict> by_name;
  for (const Slot slot : attempt.impl.by_rank) {
    NodeVerdict verdict;
    verdict.node = attempt.impl.nodes[slot].shape.name;
    if (attempt.failure) {
      verdict.reasons = {"plugin " + attempt.failure->plugin + ": " + attempt.failure->message};
      verdict.plugin = attempt.failure->plugin;
    } else if (!attempt.for_all.empty()) {
      verdict.reasons = {attempt.for_all};
      verdict.plugin = attempt.for_all_plugin;
      verdict.resolvable = false;
    } else {
      Attempt::Refusal refusal = attempt.refusal(slot);
      verdict.reasons = std::move(refusal.reasons);
      verdict.plugin = std::move(refusal.plugin);
      verdict.resolvable = verdict.reasons.empty() || refusal.resolvable;
    }
    by_name.emplace(verdict.node, std::move(verdict));
  }
  for (const Attempt::Feasible& node : attempt.feasible) {
    if (attempt.failure) break;
    NodeVerdict& verdict = by_name.at(attempt.impl.nodes[node.slot].shape.name);
    verdict.total = attempt.total(node, &verdict.scores);
  }
  for (auto& [name, verdict] : by_name) verdicts.push_back(std::move(verdict));
  return verdicts;
}

bool fits_somewhere(const SchedulingSnapshot& snapshot, const PodShape& pod, const PlaceOptions& options) {
  if (snapshot.node_count() == 0) return false;
  PlaceOptions builtin = options;
  builtin.plugins.clear();  // those of the host are asked when it is tried
  Attempt attempt(snapshot, pod, builtin);
  if (!attempt.for_all.empty()) return false;
  if (attempt.plain()) return attempt.evaluation.feasible() > 0;
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
  attempt.feasible.emplace_back(found->second);
  attempt.run_filters();
  return !attempt.failure && !attempt.feasible.empty();
}

}  // namespace orchestra
