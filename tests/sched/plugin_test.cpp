// Plugins of the host in place(): asked about the nodes that the builtin rules left, counted like those, and
// bounded when they misbehave.
#include "orchestra/scheduler_plugin.hpp"

#include <stdexcept>

#include "tests/support/test.hpp"

using namespace orchestra;

namespace {

SchedulingSnapshot three_nodes() {
  SchedulingSnapshot snapshot;
  for (const char* name : {"a", "b", "c"}) {
    NodeShape node;
    node.name = name;
    node.labels["price"] = name == std::string("c") ? "1" : "9";
    node.allocatable = {{"cpu", 4000}, {"memory", 8LL << 30}, {"pods", 10}};
    snapshot.set_node(node);
  }
  return snapshot;
}

PodShape a_pod() {
  PodShape pod;
  pod.ns = "d";
  pod.name = pod.uid = "pod";
  pod.requests["cpu"] = 100;
  return pod;
}

struct Cheapest : SchedulerPlugin {
  std::string name() const override { return "Cheapest"; }
  std::int64_t weight() const override { return 10; }
  bool scores() const override { return true; }
  std::int64_t score(const PodShape&, const NodeView& node) override {
    return 100 - std::stoi(node.shape.labels.at("price")) * 10;
  }
};

struct Picky : SchedulerPlugin {
  std::string name() const override { return "Picky"; }
  bool filters() const override { return true; }
  std::optional<std::string> filter(const PodShape&, const NodeView& node) override {
    if (node.shape.name != "b") return "node(s) had the wrong colour";
    return std::nullopt;
  }
};

struct Hostile : SchedulerPlugin {
  enum class How { throws, throws_int, nonsense } how = How::throws;
  std::string name() const override { return "Hostile"; }
  bool scores() const override { return true; }
  std::int64_t score(const PodShape&, const NodeView&) override {
    if (how == How::throws) throw std::runtime_error("no mood");
    if (how == How::throws_int) throw 7;
    return 101;
  }
};

}  // namespace

TEST_CASE("a plugin's score decides with its weight, and explain() shows it") {
  const SchedulingSnapshot snapshot = three_nodes();
  Cheapest cheapest;
  PlaceOptions how;
  how.plugins = {&cheapest};
  CHECK(place(snapshot, a_pod()).placement()->node == "a");
  CHECK(place(snapshot, a_pod(), how).placement()->node == "c");
  const auto verdicts = explain(snapshot, a_pod(), how);
  REQUIRE(verdicts.size() == 3);
  const PluginScore& of_c = verdicts[2].scores.back();
  CHECK(of_c.plugin == "Cheapest");
  CHECK(of_c.normalised == 90);
  CHECK(of_c.weight == 10);
}

TEST_CASE("a plugin's reasons are counted with the others, and name it") {
  const SchedulingSnapshot snapshot = three_nodes();
  Picky picky;
  PlaceOptions how;
  how.plugins = {&picky};
  CHECK(place(snapshot, a_pod(), how).placement()->node == "b");
  CHECK(fits(snapshot, a_pod(), "b", how));
  CHECK_FALSE(fits(snapshot, a_pod(), "a", how));
  SchedulingSnapshot without = snapshot;
  without.remove_node("b");
  const Decision decision = place(without, a_pod(), how);
  REQUIRE(decision.unschedulable() != nullptr);
  CHECK(decision.unschedulable()->counts ==
        std::map<std::string, std::size_t>{{"node(s) had the wrong colour", 2}});
  CHECK(decision.unschedulable()->plugins == std::set<std::string>{"Picky"});
}

TEST_CASE("a plugin that throws or answers nonsense fails the pod by name and nothing else") {
  const SchedulingSnapshot snapshot = three_nodes();
  Hostile hostile;
  PlaceOptions how;
  how.plugins = {&hostile};
  for (const auto& [way, message] :
       {std::pair(Hostile::How::throws, "score: no mood"),
        std::pair(Hostile::How::throws_int, "score: an exception that is no std::exception"),
        std::pair(Hostile::How::nonsense, "score: 101 for node a is outside of 0..100")}) {
    hostile.how = way;
    const Decision decision = place(snapshot, a_pod(), how);
    REQUIRE(decision.failed() != nullptr);
    CHECK(decision.failed()->plugin == "Hostile");
    CHECK(decision.failed()->message == message);
    CHECK(place(snapshot, a_pod()).placement() != nullptr);
  }
}

TEST_CASE("a plugin that does not answer in time fails the pod, and its late answer harms nobody") {
  const SchedulingSnapshot snapshot = three_nodes();
  Cheapest cheapest;
  std::vector<std::function<void()>> late;
  PlaceOptions how;
  how.plugins = {&cheapest};
  how.guard = [&](std::function<void()> call) {
    late.push_back(std::move(call));
    return false;
  };
  const Decision decision = place(snapshot, a_pod(), how);
  REQUIRE(decision.failed() != nullptr);
  CHECK(decision.failed()->message == "score: no answer within its deadline");
  REQUIRE(late.size() == 1);
  late[0]();  // it still has all it needs
}
