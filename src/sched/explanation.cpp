#include "sched/explanation.hpp"

namespace orchestra::sched {

namespace {

json::value texts(const std::vector<std::string>& from) {
  json::array out;
  for (const std::string& text : from) out.emplace_back(text);
  return out;
}

json::object of_node(const NodeVerdict& verdict) {
  json::object out{{"name", verdict.node}, {"fits", verdict.reasons.empty()}};
  if (!verdict.reasons.empty()) {
    out["reasons"] = texts(verdict.reasons);
    out["plugin"] = verdict.plugin;
    out["resolvable"] = verdict.resolvable;
    return out;
  }
  json::array scores;
  for (const PluginScore& score : verdict.scores) {
    scores.push_back(json::object{{"plugin", score.plugin.c_str()},
                                  {"raw", score.raw},
                                  {"score", score.normalised},
                                  {"weight", score.weight}});
  }
  out["score"] = verdict.total;
  out["scores"] = std::move(scores);
  return out;
}

}  // namespace

void judge(PodAnswer& answer, const SchedulingSnapshot& snapshot, const PodShape& pod,
           const PlaceOptions& options, const std::vector<DisruptionBudget>& budgets) {
  answer.nodes = explain(snapshot, pod, options);
  Decision decision = place(snapshot, pod, options);
  if (const Placement* at = decision.placement()) {
    answer.goes_to = at->node;
    return;
  }
  if (const PlacementFailed* failed = decision.failed()) {
    answer.refusal = "plugin " + failed->plugin + ": " + failed->message;
    return;
  }
  Unschedulable& why = std::get<Unschedulable>(decision.answer);
  if (why.nodes > 0 &&
      (options.profile == nullptr || !options.profile->disabled_filters.contains("DefaultPreemption"))) {
    answer.preemption = preempt(snapshot, pod, budgets, options);
    why.preemption = answer.preemption.why;
    why.preemption_note = answer.preemption.note;
  }
  answer.refusal = why.message();
}

json::value pod_explanation(const PodAnswer& answer) {
  const auto slash = answer.pod.find('/');
  json::object out{{"apiVersion", "orchestra.dev/v1"},
                   {"kind", "PodExplanation"},
                   {"metadata", json::object{{"name", answer.pod.substr(slash + 1)},
                                             {"namespace", answer.pod.substr(0, slash)},
                                             {"creationTimestamp", nullptr}}}};
  if (!answer.runs_on.empty()) out["nodeName"] = answer.runs_on;
  if (!answer.goes_to.empty()) out["wouldGoTo"] = answer.goes_to;
  if (!answer.refusal.empty()) out["message"] = answer.refusal;
  if (!answer.preemption.node.empty()) {
    json::object preemption{{"nodeName", answer.preemption.node},
                            {"victims", texts(answer.preemption.victims)}};
    if (answer.preemption.violations > 0) preemption["violations"] = answer.preemption.violations;
    out["preemption"] = std::move(preemption);
  }
  json::array nodes;
  for (const NodeVerdict& verdict : answer.nodes) nodes.push_back(of_node(verdict));
  if (!nodes.empty()) out["nodes"] = std::move(nodes);
  return out;
}

}  // namespace orchestra::sched
