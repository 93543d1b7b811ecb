// What users and hostile clients ask for that can never be, or is very much of it: each is answered, with the
// reason, within bounds, and the next pod is placed as if nothing had been.
#include <chrono>

#include "orchestra/gang.hpp"
#include "orchestra/scheduling_snapshot.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {

constexpr int kNodes = 50;

NodeShape node_of(int index) {
  NodeShape node;
  node.name = "n" + std::to_string(index);
  node.labels = {{"kubernetes.io/hostname", node.name},
                 {"zone", std::string(1, static_cast<char>('a' + index % 3))}};
  node.allocatable = {{"cpu", 4000}, {"memory", 8LL << 30}, {"pods", 110}};
  return node;
}

PodShape pod_of(const std::string& name) {
  PodShape pod;
  pod.ns = "d";
  pod.name = pod.uid = name;
  pod.labels = {{"app", "web"}};
  pod.requests = {{"cpu", 100}, {"memory", 64LL << 20}};
  return pod;
}

SchedulingSnapshot cluster() {
  SchedulingSnapshot snapshot;
  for (int i = 0; i < kNodes; ++i) snapshot.set_node(node_of(i));
  return snapshot;
}

// Its message; the counts of nodes are all nodes.
std::string refusal(const SchedulingSnapshot& snapshot, const PodShape& pod) {
  const Decision decision = place(snapshot, pod);
  REQUIRE(decision.unschedulable() != nullptr);
  const Unschedulable& why = *decision.unschedulable();
  CHECK(why.nodes == kNodes);
  if (why.for_all.empty()) {
    std::size_t sum = 0;
    for (const auto& [reason, count] : why.counts) sum += count;
    CHECK(sum == kNodes);
  }
  return why.message();
}

PodTerm term_of(const Selector& selector, const std::string& key) {
  PodTerm term;
  term.topology_key = key;
  term.namespaces = {"d"};
  term.selector = selector;
  return term;
}

}  // namespace

TEST_CASE("contradictory rules are refused with their reason, and the next pod is placed") {
  SchedulingSnapshot snapshot = cluster();
  PodShape both = pod_of("both");  // in zone a, and not in zone a
  NodeTerm term;
  term.labels = {{"zone", "In", {"a"}}, {"zone", "NotIn", {"a"}}};
  both.required_terms = std::vector<NodeTerm>{term};
  CHECK(refusal(snapshot, both).find("50 node(s) didn't match Pod's node affinity/selector") !=
        std::string::npos);

  PodShape alone = pod_of("alone");  // with its like, and never with its like
  const Selector like = Selector::from_map(alone.labels);
  alone.affinity = {term_of(like, "zone")};
  alone.anti_affinity = {term_of(like, "zone")};
  const Decision first = place(snapshot, alone);  // nobody is there yet: it may be the first
  REQUIRE(first.placement() != nullptr);
  snapshot.assume(alone, first.placement()->node);
  PodShape second = alone;
  second.name = second.uid = "second";
  // Two zones of three have no pod to be with, the third has one that it must not be with.
  CHECK(refusal(snapshot, second).find("node(s) didn't match pod affinity rules") != std::string::npos);
  // The next pod of that label only keeps out of the zone that the first one forbids it.
  const auto zone_of = [](const std::string& node) { return std::stoi(node.substr(1)) % 3; };
  const Decision next = place(snapshot, pod_of("next"));
  REQUIRE(next.placement() != nullptr);
  CHECK(zone_of(next.placement()->node) != zone_of(first.placement()->node));
}

TEST_CASE("spreads that cannot be met are refused with their reason") {
  SchedulingSnapshot snapshot = cluster();
  PodShape pod = pod_of("spread");
  SpreadConstraint rule;
  rule.topology_key = "rack";  // no node has it
  rule.selector = Selector::from_map(pod.labels);
  pod.spread = {rule};
  CHECK(refusal(snapshot, pod)
            .find("50 node(s) didn't match pod topology spread constraints (missing required label)") !=
        std::string::npos);
  pod.spread.front().topology_key = "zone";
  pod.spread.front().min_domains = 1'000'000;  // three are there: the least is 0
  for (int i = 0; i < 3; ++i) {
    PodShape one = pod;
    one.name = one.uid = "spread-" + std::to_string(i);
    const Decision decision = place(snapshot, one);
    REQUIRE(decision.placement() != nullptr);
    snapshot.assume(one, decision.placement()->node);
  }
  pod.uid = "spread-3";
  CHECK(refusal(snapshot, pod).find("50 node(s) didn't match pod topology spread constraints") !=
        std::string::npos);
}

TEST_CASE("quantities that are absurd on nodes and pods take nobody's place") {
  SchedulingSnapshot snapshot = cluster();
  NodeShape odd = node_of(0);
  odd.allocatable = {{"cpu", -5}, {"memory", std::numeric_limits<std::int64_t>::max()}, {"pods", 110}};
  snapshot.set_node(odd);
  PodShape huge = pod_of("huge");
  huge.requests = {{"cpu", std::int64_t{1} << 52}, {"memory", std::int64_t{1} << 52}};
  CHECK(place(snapshot, huge).unschedulable()->message().find("50 Insufficient cpu") != std::string::npos);
  for (int i = 0; i < 200; ++i) {
    PodShape pod = pod_of("p" + std::to_string(i));
    const Decision decision = place(snapshot, pod);
    REQUIRE(decision.placement() != nullptr);
    CHECK(decision.placement()->node != odd.name);
    snapshot.assume(pod, decision.placement()->node);
  }
}

TEST_CASE("thousands of distinct selectors and labels are decided on within the bounds of memory") {
  SchedulingSnapshot snapshot(SnapshotLimits{64, 8u << 20});
  for (int i = 0; i < kNodes; ++i) {
    NodeShape node = node_of(i);
    for (int j = 0; j < 1000; ++j) node.labels["label-" + std::to_string(j) + "-" + std::to_string(i)] = "x";
    snapshot.set_node(node);
  }
  int placed = 0;
  for (int i = 0; i < 3000; ++i) {
    PodShape pod = pod_of("p" + std::to_string(i));
    pod.labels = {{"app", "app-" + std::to_string(i)}, {"key-" + std::to_string(i), "value"}};
    pod.requests = {{"cpu", 1}};
    pod.anti_affinity = {term_of(Selector::from_map(pod.labels), "kubernetes.io/hostname")};
    SpreadConstraint rule;
    rule.topology_key = "zone";
    rule.selector = Selector::from_map(pod.labels);
    rule.hard = i % 2 == 0;
    pod.spread = {rule};
    NodeTerm term;
    term.labels = {{"label-" + std::to_string(i % 1000) + "-" + std::to_string(i % kNodes), "Exists", {}}};
    term.weight = 1;
    pod.preferred_terms = {term};
    const Decision decision = place(snapshot, pod);
    REQUIRE(decision.placement() != nullptr);
    CHECK(decision.placement()->node == "n" + std::to_string(i % kNodes));  // whom it prefers
    snapshot.assume(pod, decision.placement()->node);
    ++placed;
    REQUIRE(snapshot.remembered_bytes() <= 8u << 20);
  }
  CHECK(placed == 3000);
  // And all of them go again.
  for (int i = 0; i < 3000; ++i) CHECK(!snapshot.remove_pod("p" + std::to_string(i)).empty());
  CHECK(snapshot.pod_count() == 0);
}
