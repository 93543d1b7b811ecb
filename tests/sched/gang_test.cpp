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
