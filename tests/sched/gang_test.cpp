// place_gang() on random clusters: all or nothing, no pod more than fits, and the snapshot as before after a
// no.
#include "orchestra/gang.hpp"

#include <random>

#include "tests/support/test.hpp"

using namespace orchestra;

namespace {

PodShape member(const std::string& name, std::int64_t cpu) {
  PodShape pod;
  pod.ns = "d";
  pod.name = pod.uid = name;
  pod.requests["cpu"] = cpu;
  pod.score_millicores = cpu;
  return pod;
}

}  // namespace

TEST_CASE(
    "a gang gets all its nodes or none, and equal pods are placed exactly when there is room for them") {
  std::mt19937 random(3);
  int placed = 0;
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    SchedulingSnapshot snapshot;
    std::int64_t rooms = 0;
    const std::int64_t each = 100 * (1 + static_cast<std::int64_t>(random() % 5));
    const int nodes = 1 + static_cast<int>(random() % 6);
    for (int i = 0; i < nodes; ++i) {
      NodeShape node;
      node.name = "n" + std::to_string(i);
      const std::int64_t cpu = 100 * static_cast<std::int64_t>(random() % 20);
      node.allocatable = {{"cpu", cpu}, {"memory", 1LL << 30}, {"pods", 110}};
      rooms += cpu / each;
      snapshot.set_node(node);
    }
    std::vector<PodShape> pods;
    const std::size_t size = 1 + random() % 20;
    for (std::size_t i = 0; i < size; ++i) pods.push_back(member("p" + std::to_string(i), each));
    const std::size_t already = random() % 3;
    const std::size_t minimum = already + 1 + random() % size;
    const Gang gang = place_gang(snapshot, pods, already, minimum);
    const std::size_t fit = std::min<std::size_t>(size, static_cast<std::size_t>(rooms));
    REQUIRE(gang.placed == (already + fit >= minimum));
    REQUIRE(gang.placements.size() + gang.left.size() == size);
    if (gang.placed) {
      ++placed;
      REQUIRE(gang.placements.size() == fit);
      REQUIRE(snapshot.pod_count() == fit);
    } else {
      ++refused;
      REQUIRE(gang.placements.empty());
      REQUIRE(snapshot.pod_count() == 0);
      REQUIRE(gang.message.find("only " + std::to_string(already + fit) + " of the ") == 0);
      for (const std::string& node : snapshot.node_names()) REQUIRE(snapshot.used(node).at("pods") == 0);
    }
  }
  CHECK(placed > 30);
  CHECK(refused > 30);
}

TEST_CASE("others leave for a gang only when all of it fits then, and nobody goes who need not") {
  std::mt19937 random(5);
  int helped = 0;
  int in_vain = 0;
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    SchedulingSnapshot snapshot;
    const int nodes = 1 + static_cast<int>(random() % 5);
    std::size_t low = 0;
    std::size_t rooms = 0;  // of 1000m, were all of lower priority gone
    for (int i = 0; i < nodes; ++i) {
      NodeShape node;
      node.name = "n" + std::to_string(i);
      const std::int64_t size = 1 + static_cast<std::int64_t>(random() % 4);
      node.allocatable = {{"cpu", size * 1000}, {"memory", 1LL << 30}, {"pods", 110}};
      snapshot.set_node(node);
      rooms += static_cast<std::size_t>(size);
      for (std::int64_t j = 0; j < size; ++j) {
        if (random() % 4 == 0) continue;  // free
        PodShape pod = member("low-" + std::to_string(i) + "-" + std::to_string(j), 1000);
        if (random() % 4 == 0) {
          pod.priority = 100;  // stays
          --rooms;
        } else {
          ++low;
        }
        snapshot.assume(pod, node.name);
      }
    }
    std::vector<PodShape> pods;
    const std::size_t size = 1 + random() % 6;
    for (std::size_t i = 0; i < size; ++i) {
      pods.push_back(member("gang-" + std::to_string(i), 1000));
      pods.back().priority = 10;
    }
    const std::size_t before = snapshot.pod_count();
    Gang as_it_is = place_gang(snapshot, pods, 0, size);
    if (as_it_is.placed) continue;
    REQUIRE(snapshot.pod_count() == before);
    const GangPreemption plan = preempt_gang(snapshot, pods, 0, size);
    REQUIRE(snapshot.pod_count() == before);
    REQUIRE(plan.helps == (rooms >= size));
    if (!plan.helps) {
      ++in_vain;
      continue;
    }
    ++helped;
    // One victim for each member that found no free room, and the gang fits when they are gone.
    const std::size_t free = rooms - low;
    REQUIRE(plan.victims.size() == size - free);
    REQUIRE(plan.nodes.size() == size);
    for (const std::string& uid : plan.victims) REQUIRE(!snapshot.remove_pod(uid).empty());
    REQUIRE(place_gang(snapshot, pods, 0, size).placed);
  }
  CHECK(helped > 30);
  CHECK(in_vain > 30);
}

TEST_CASE("a gang that waits for promised nodes takes no other victims") {
  SchedulingSnapshot snapshot;
  for (const char* name : {"a", "b"}) {
    NodeShape node;
    node.name = name;
    node.allocatable = {{"cpu", 1000}, {"memory", 1LL << 30}, {"pods", 110}};
    snapshot.set_node(node);
    PodShape low = member(std::string("low-") + name, 1000);
    snapshot.set_pod(low, name);
  }
  PodShape pod = member("gang-0", 1000);
  pod.priority = 10;
  const GangPreemption plan = preempt_gang(snapshot, {pod}, 0, 1);
  REQUIRE(plan.helps);
  const std::string node = plan.nodes.at(0).second;
  snapshot.nominate(pod, node);
  PodShape ending = member("low-" + node, 1000);
  ending.terminating = true;
  snapshot.set_pod(ending, node);
  const GangPreemption again = preempt_gang(snapshot, {pod}, 0, 1);
  CHECK_FALSE(again.helps);
  CHECK(again.waits);
  CHECK(again.victims.empty());
}
