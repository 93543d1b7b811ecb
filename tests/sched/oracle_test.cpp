// place() against the second evaluator of oracle.hpp: random clusters, random pods; every node's reasons, the
// feasible set, the totals and the winner must be equal, and the incremental sums must equal a recount after
// thousands of changes. ORCHESTRA_LONG=1 runs 10,000 seeds; ORCHESTRA_SEED=N replays one.
#include "tests/sched/oracle.hpp"

#include <cstdlib>

#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {

struct Seeds {
  unsigned first = 1, last = 200;
  Seeds(unsigned usual, unsigned at_length) : last(usual) {
    if (std::getenv("ORCHESTRA_LONG") != nullptr) last = at_length;
    if (const char* seed = std::getenv("ORCHESTRA_SEED"))
      first = last = static_cast<unsigned>(std::atoi(seed));
  }
};

// One pod on one cluster: all answers against the oracle's. Answers where it went.
std::string check(const SchedulingSnapshot& snapshot, const Oracle& oracle, const PodShape& pod) {
  const Decision decision = place(snapshot, pod);
  const auto totals = oracle.totals(pod);
  const std::string for_all = oracle.for_all(pod);
  const auto asked = Oracle::asked(pod);
  std::map<std::string, std::size_t> counts;
  const auto verdicts = explain(snapshot, pod);
  REQUIRE(verdicts.size() == oracle.nodes.size());
  for (const NodeVerdict& verdict : verdicts) {
    CAPTURE(verdict.node);
    if (asked && asked->empty()) {
      REQUIRE(verdict.reasons == std::vector<std::string>{"pod affinity terms conflict"});
      continue;
    }
    if (!for_all.empty()) {
      REQUIRE(verdict.reasons == std::vector<std::string>{for_all});
      continue;
    }
    auto expected = oracle.reasons(pod, *oracle.node_named(verdict.node));
    for (const std::string& reason : expected) ++counts[reason];
    auto actual = verdict.reasons;
    std::sort(expected.begin(), expected.end());
    std::sort(actual.begin(), actual.end());
    REQUIRE(actual == expected);
    REQUIRE(fits(snapshot, pod, verdict.node) == expected.empty());
    if (expected.empty()) REQUIRE(verdict.total == totals.at(verdict.node));
  }
  const std::string winner = oracle.winner(pod);
  if (winner.empty()) {
    REQUIRE(decision.unschedulable() != nullptr);
    REQUIRE(decision.unschedulable()->nodes == oracle.nodes.size());
    // Every node is in the counts; only lacking resources and volumes name several reasons for one.
    REQUIRE(decision.unschedulable()->counts == counts);
    if (decision.unschedulable()->for_all.empty())
      REQUIRE(decision.unschedulable()->never.empty() == !oracle.never(pod));
  } else {
    REQUIRE(decision.placement() != nullptr);
    REQUIRE(decision.placement()->node == winner);
    REQUIRE(decision.placement()->score == totals.at(winner));
    REQUIRE(decision.placement()->feasible == totals.size());
  }
  return winner;
}

void run_seed(unsigned seed, bool topology, bool volumes) {
  CAPTURE(seed);
  CAPTURE(topology);
  CAPTURE(volumes);
  Generator make{std::mt19937(seed), topology, volumes};
  SchedulingSnapshot snapshot;
  Oracle oracle;
  make.fill(oracle, snapshot);
  std::int64_t nodes = make.pick(1, 20);
  if (make.chance(5)) nodes = make.pick(21, 60);
  for (int i = 0; i < nodes; ++i) {
    oracle.nodes.push_back(make.node(i));
    snapshot.set_node(oracle.nodes.back());
    if (volumes && make.chance(20)) {
      oracle.limits[oracle.nodes.back().name] = {{"csi.example.com", make.pick(1, 2)}};
      snapshot.set_volume_limits(oracle.nodes.back().name, oracle.limits[oracle.nodes.back().name]);
    }
  }
  // Few kinds of pods, so that remembered classes are used and have to be right after each change.
  std::vector<PodShape> kinds;
  for (int i = 0; i < 8; ++i) kinds.push_back(make.pod());
  for (int i = 0; i < 30; ++i) {
    PodShape pod = make.chance(60) ? kinds[make.random() % kinds.size()] : make.pod();
    pod.name = pod.uid = "pod-" + std::to_string(i);
    const std::string winner = check(snapshot, oracle, pod);
    if (!winner.empty()) {
      snapshot.assume(pod, winner);
      oracle.pods.emplace_back(pod, winner);
    }
    if (make.chance(20) && !oracle.pods.empty()) {
      const std::size_t which = make.random() % oracle.pods.size();
      if (make.chance(30)) {
        // Relabelled, or on its way out.
        auto& [other, at] = oracle.pods[which];
        other.labels = make.labels();
        other.terminating = make.chance(50);
        snapshot.set_pod(other, at);
      } else {
        snapshot.forget(oracle.pods[which].first.uid);
        oracle.pods.erase(oracle.pods.begin() + static_cast<std::ptrdiff_t>(which));
      }
    }
    if (make.chance(10)) {
      NodeShape& node = oracle.nodes[make.random() % oracle.nodes.size()];
      const std::string name = node.name;
      const int index = std::stoi(name.substr(1));
      node = make.node(index);
      snapshot.set_node(node);
    }
    if (make.chance(5) && oracle.nodes.size() > 1) {
      const std::size_t which = make.random() % oracle.nodes.size();
      snapshot.remove_node(oracle.nodes[which].name);
      oracle.nodes.erase(oracle.nodes.begin() + static_cast<std::ptrdiff_t>(which));
    }
    if (make.chance(5)) {
      oracle.namespaces["two"] = {{"team", make.one_of<std::string>({"x", "y"})}};
      snapshot.set_namespace("two", oracle.namespaces["two"]);
    }
    if (make.chance(3)) snapshot = SchedulingSnapshot(snapshot);
  }
}

}  // namespace

TEST_CASE("every decision equals that of a slow evaluator written from the rules: the node's own rules") {
  const Seeds seeds(100, 10000);
  for (unsigned seed = seeds.first; seed <= seeds.last; ++seed) run_seed(seed, false, false);
}

TEST_CASE("every decision equals that of a slow evaluator: topology spread and pod affinity") {
  const Seeds seeds(200, 10000);
  for (unsigned seed = seeds.first; seed <= seeds.last; ++seed) run_seed(seed, true, false);
}

TEST_CASE("every decision equals that of a slow evaluator: all rules with volumes") {
  const Seeds seeds(200, 10000);
  for (unsigned seed = seeds.first; seed <= seeds.last; ++seed) run_seed(seed, true, true);
}

TEST_CASE("after thousands of changes the sums equal a recount") {
  Generator make{std::mt19937(11)};
  SchedulingSnapshot snapshot;
  std::map<std::string, std::pair<PodShape, std::string>> pods;
  std::map<std::string, NodeShape> nodes;
  for (int step = 0; step < 5000; ++step) {
    const std::string node = "n" + std::to_string(make.pick(0, 9));
    switch (make.pick(0, 4)) {
      case 0: {
        NodeShape shape = make.node(0);
        shape.name = node;
        snapshot.set_node(shape);
        nodes[node] = shape;
        break;
      }
      case 1:
        snapshot.remove_node(node);
        nodes.erase(node);
        break;
      case 2:
      case 3: {
        // New pods, and known ones that moved or changed.
        PodShape pod = make.pod();
        if (make.chance(30) && !pods.empty()) pod.uid = pods.begin()->first;
        snapshot.set_pod(pod, node);
        pods[pod.uid] = {pod, node};
        break;
      }
      default:
        if (pods.empty()) break;
        const std::string uid =
            std::next(pods.begin(), make.pick(0, static_cast<std::int64_t>(pods.size()) - 1))->first;
        CHECK(snapshot.remove_pod(uid) == pods[uid].second);
        pods.erase(uid);
    }
  }
  CHECK(snapshot.node_count() == nodes.size());
  CHECK(snapshot.pod_count() == pods.size());
  for (int i = 0; i < 10; ++i) {
    const std::string node = "n" + std::to_string(i);
    Amounts expected;
    std::int64_t count = 0;
    for (const auto& [uid, placed] : pods) {
      if (placed.second != node) continue;
      ++count;
      for (const auto& [resource, amount] : placed.first.requests) expected[resource] += amount;
    }
    std::erase_if(expected, [](const auto& entry) { return entry.second == 0; });
    if (nodes.count(node) > 0 || count > 0) expected["pods"] = count;
    CHECK(snapshot.used(node) == expected);
  }
}

TEST_CASE("what is remembered stays within its bounds, and the answers stay the same") {
  Generator make{std::mt19937(5)};
  SchedulingSnapshot small(SnapshotLimits{3, 1u << 20});
  Oracle oracle;
  make.fill(oracle, small);
  for (int i = 0; i < 15; ++i) {
    oracle.nodes.push_back(make.node(i));
    small.set_node(oracle.nodes.back());
  }
  std::vector<PodShape> kinds;
  for (int i = 0; i < 12; ++i) kinds.push_back(make.pod());
  for (int i = 0; i < 100; ++i) {
    PodShape pod = kinds[make.random() % kinds.size()];
    pod.name = pod.uid = "pod-" + std::to_string(i);
    const std::string winner = check(small, oracle, pod);
    if (winner.empty() || oracle.pods.size() > 40) continue;
    small.assume(pod, winner);
    oracle.pods.emplace_back(pod, winner);
  }
  CHECK(small.remembered_bytes() <= (1u << 20));
}
