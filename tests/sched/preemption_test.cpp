// preempt() against a search that takes pods away and puts them back on the slow evaluator, and the promises
// (nominations) that come of it.
#include "tests/sched/oracle.hpp"

#include <cstdlib>

#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {

struct Choice {
  std::string node;
  std::vector<PodShape> victims;  // most important first
  std::size_t violations = 0;
};

bool more_important(const PodShape& a, const PodShape& b) {
  if (a.priority != b.priority) return a.priority > b.priority;
  return a.started_ns != b.started_ns ? a.started_ns < b.started_ns : a.uid < b.uid;
}

// The rule, step by step, on copies.
std::vector<Choice> choices(const Oracle& oracle, const PodShape& pod,
                            const std::vector<DisruptionBudget>& budgets) {
  static const std::set<std::string> kHopeless{
      "node(s) were unschedulable",
      "node(s) didn't match the requested node name",
      "node(s) had untolerated taint(s)",
      "node(s) didn't match Pod's node affinity/selector",
      "node(s) didn't satisfy plugin(s) [NodeAffinity]",
      "node(s) didn't match pod topology spread constraints (missing required label)",
      "node(s) didn't match pod affinity rules"};
  std::vector<Choice> all;
  for (const NodeShape& node : oracle.nodes) {
    const auto reasons = oracle.reasons(pod, node);
    if (reasons.empty() || kHopeless.count(reasons[0]) > 0) continue;
    std::vector<PodShape> lower;
    Oracle without = oracle;
    without.pods.clear();
    for (const auto& [other, at] : oracle.pods) {
      if (at == node.name && other.priority < pod.priority) {
        lower.push_back(other);
      } else {
        without.pods.emplace_back(other, at);
      }
    }
    if (lower.empty() || !without.reasons(pod, node).empty()) continue;
    std::sort(lower.begin(), lower.end(), more_important);
    std::map<std::string, std::int64_t> left;
    std::vector<PodShape> at_stake;
    std::vector<PodShape> others;
    for (const PodShape& each : lower) {
      bool violates = false;
      for (const DisruptionBudget& budget : budgets) {
        if (budget.ns != each.ns || each.labels.empty() || budget.selector.empty() ||
            !Oracle::selects(budget.selector, each.labels)) {
          continue;
        }
        left.emplace(budget.name, budget.allowed);
        if (--left[budget.name] < 0) violates = true;
      }
      (violates ? at_stake : others).push_back(each);
    }
    Choice choice{node.name, {}, 0};
    for (auto* group : {&at_stake, &others}) {
      for (const PodShape& each : *group) {
        without.pods.emplace_back(each, node.name);
        if (without.reasons(pod, node).empty()) continue;
        without.pods.pop_back();
        choice.victims.push_back(each);
        if (group == &at_stake) ++choice.violations;
      }
    }
    std::sort(choice.victims.begin(), choice.victims.end(), more_important);
    all.push_back(choice);
  }
  return all;
}

// Smaller is better, criterion by criterion.
std::vector<std::int64_t> cost(const Choice& choice) {
  std::int64_t sum = 0;
  for (const PodShape& victim : choice.victims) sum += victim.priority + (1LL << 31);
  return {static_cast<std::int64_t>(choice.violations), choice.victims[0].priority, sum,
          static_cast<std::int64_t>(choice.victims.size()), -choice.victims[0].started_ns};
}

}  // namespace

TEST_CASE("the pods that have to go are those that the rule chooses, on random small clusters") {
  unsigned last = 200;
  if (std::getenv("ORCHESTRA_LONG") != nullptr) last = 10000;
  std::size_t preempted = 0;
  std::size_t with_budgets = 0;
  for (unsigned seed = 1; seed <= last; ++seed) {
    CAPTURE(seed);
    Generator make{std::mt19937(seed), seed % 2 == 0, false};
    SchedulingSnapshot snapshot;
    Oracle oracle;
    make.fill(oracle, snapshot);
    const std::int64_t nodes = make.pick(1, 6);
    for (int i = 0; i < nodes; ++i) {
      oracle.nodes.push_back(make.node(i));
      snapshot.set_node(oracle.nodes.back());
    }
    std::vector<DisruptionBudget> budgets;
    if (make.chance(50)) {
      DisruptionBudget budget;
      budget.ns = make.one_of<std::string>({"one", "two"});
      budget.name = "budget";
      budget.selector = make.selector();
      budget.allowed = make.pick(0, 1);
      budgets.push_back(budget);
    }
    for (int i = 0; i < 25; ++i) {
      PodShape pod = make.pod();
      pod.priority = i < 15 ? make.pick(0, 3) : make.pick(2, 9);
      pod.node_name.clear();
      const Decision decision = place(snapshot, pod);
      if (const Placement* at = decision.placement()) {
        oracle.pods.emplace_back(pod, at->node);
        snapshot.assume(pod, at->node);
        continue;
      }
      const Preemption found = preempt(snapshot, pod, budgets);
      const auto expected = choices(oracle, pod, budgets);
      REQUIRE(found.candidates == expected.size());
      if (expected.empty()) {
        REQUIRE(found.node.empty());
        continue;
      }
      ++preempted;
      std::vector<std::int64_t> best = cost(expected[0]);
      for (const Choice& each : expected) best = std::min(best, cost(each));
      bool as_chosen = false;
      for (const Choice& each : expected) {
        if (each.node != found.node || cost(each) != best) continue;
        std::vector<std::string> uids;
        for (const PodShape& victim : each.victims) uids.push_back(victim.uid);
        as_chosen = uids == found.victims && each.violations == found.violations;
      }
      REQUIRE(as_chosen);
      if (found.violations > 0) ++with_budgets;
      // They go, and then the pod does fit there.
      for (const std::string& uid : found.victims) {
        snapshot.forget(uid);
        std::erase_if(oracle.pods, [&](const auto& entry) { return entry.first.uid == uid; });
      }
      REQUIRE(fits(snapshot, pod, found.node));
      snapshot.assume(pod, found.node);
      oracle.pods.emplace_back(pod, found.node);
    }
  }
  // The generator makes cases, or the test says nothing.
  CHECK(preempted > 100);
  CHECK(with_budgets > 5);
}

namespace {

NodeShape node_with(const std::string& name, std::int64_t cpu) {
  NodeShape node;
  node.name = name;
  node.allocatable = {{"cpu", cpu}, {"memory", 8LL << 30}, {"pods", 110}};
  return node;
}
PodShape pod_with(const std::string& name, std::int64_t cpu, std::int64_t priority) {
  PodShape pod;
  pod.ns = "d";
  pod.name = pod.uid = name;
  pod.requests["cpu"] = cpu;
  pod.score_millicores = cpu;
  pod.priority = priority;
  return pod;
}

}  // namespace

TEST_CASE("a pod that never preempts says so, and others say how many nodes could not help") {
  SchedulingSnapshot snapshot;
  snapshot.set_node(node_with("a", 1000));
  snapshot.set_node(node_with("b", 1000));
  NodeShape tainted = node_with("c", 8000);
  tainted.taints.push_back({"gpu", "yes", "NoSchedule"});
  snapshot.set_node(tainted);
  snapshot.assume(pod_with("low", 900, 0), "a");
  snapshot.assume(pod_with("equal", 900, 5), "b");
  PodShape polite = pod_with("polite", 1000, 5);
  polite.never_preempts = true;
  CHECK(preempt(snapshot, polite).note == "not eligible due to preemptionPolicy=Never.");
  const PodShape rude = pod_with("rude", 1000, 5);
  const Preemption found = preempt(snapshot, rude);
  CHECK(found.node == "a");
  CHECK(found.victims == std::vector<std::string>{"low"});
  snapshot.forget("low");
  snapshot.assume(pod_with("also-equal", 900, 5), "a");
  const Preemption none = preempt(snapshot, rude);
  CHECK(none.node.empty());
  CHECK(none.why == std::map<std::string, std::size_t>{{"No preemption victims found for incoming pod", 2},
                                                       {"Preemption is not helpful for scheduling", 1}});
}

TEST_CASE("a promised node is kept clear of pods of no higher priority, and its pod goes there") {
  SchedulingSnapshot snapshot;
  snapshot.set_node(node_with("a", 1000));
  snapshot.set_node(node_with("b", 4000));
  snapshot.assume(pod_with("much", 3800, 9), "b");
  const PodShape waiting = pod_with("waiting", 800, 5);
  snapshot.nominate(waiting, "a");
  // The same priority: node a is promised away, and b is full.
  const Decision refused = place(snapshot, pod_with("other", 800, 5));
  REQUIRE(refused.unschedulable() != nullptr);
  CHECK(refused.unschedulable()->counts == std::map<std::string, std::size_t>{{"Insufficient cpu", 2}});
  // Beside the promised pod there is room for a small one, and a more important one need not care.
  CHECK(place(snapshot, pod_with("small", 150, 5)).placement() != nullptr);
  CHECK(place(snapshot, pod_with("boss", 800, 6)).placement()->node == "a");
  CHECK(place(snapshot, waiting).placement()->node == "a");
  // The promise is kept also where another node would be better.
  snapshot.forget("much");
  CHECK(place(snapshot, pod_with("other", 800, 5)).placement()->node == "b");
  CHECK(place(snapshot, waiting).placement()->node == "a");
  snapshot.assume(waiting, "a");
  CHECK(snapshot.nominated_node("waiting").empty());
}

TEST_CASE("while pods on the promised node are on their way out nobody else is asked to go") {
  SchedulingSnapshot snapshot;
  snapshot.set_node(node_with("a", 1000));
  snapshot.set_node(node_with("b", 1000));
  PodShape leaving = pod_with("leaving", 900, 0);
  leaving.terminating = true;
  snapshot.assume(leaving, "a");
  snapshot.assume(pod_with("staying", 900, 0), "b");
  const PodShape pod = pod_with("pod", 900, 5);
  snapshot.nominate(pod, "a");
  const Preemption found = preempt(snapshot, pod);
  CHECK(found.node.empty());
  CHECK(found.note == "not eligible due to a terminating pod on the nominated node.");
}
