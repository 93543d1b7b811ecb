// WhatIf: branches answer for the cluster as it might be, and leave it as it is.
#include "orchestra/what_if.hpp"

#include "tests/support/test.hpp"

using namespace orchestra;

namespace {

NodeShape node_of(const std::string& name, std::int64_t cpu) {
  NodeShape node;
  node.name = name;
  node.labels["kubernetes.io/hostname"] = name;
  node.allocatable = {{"cpu", cpu}, {"memory", 8LL << 30}, {"pods", 10}};
  return node;
}
PodShape pod_of(const std::string& name, std::int64_t cpu) {
  PodShape pod;
  pod.ns = "d";
  pod.name = pod.uid = name;
  pod.requests["cpu"] = cpu;
  pod.score_millicores = cpu;
  return pod;
}

}  // namespace

TEST_CASE("a branch adds nodes, drains them and counts how many are missing; the base does not change") {
  auto base = std::make_shared<SchedulingSnapshot>();
  base->set_node(node_of("a", 2000));
  base->set_node(node_of("b", 1000));
  base->assume(pod_of("one", 1500), "a");
  base->assume(pod_of("two", 800), "b");
  WhatIf now(base);
  CHECK(now.schedule({pod_of("new", 1000)}).refused.at(0).second.find("2 Insufficient cpu") !=
        std::string::npos);
  WhatIf more = now;
  more.add_node(node_of("c", 2000));
  const auto answer = more.schedule({pod_of("new", 1000), pod_of("newer", 1000), pod_of("newest", 1000)});
  CHECK(answer.placed.size() == 2);
  CHECK(answer.placed.at(0) == std::pair<std::string, std::string>("d/new", "c"));
  CHECK(answer.refused.size() == 1);

  // Draining b: its pod goes to the new node, or nowhere without it.
  CHECK(more.drain("b").placed.at(0) == std::pair<std::string, std::string>("d/two", "c"));
  CHECK(now.drain("b").refused.at(0).first == "d/two");
  CHECK(more.remove_node("c").drain("b").refused.size() == 1);

  std::vector<PodShape> many;
  for (int i = 0; i < 7; ++i) many.push_back(pod_of("many-" + std::to_string(i), 900));
  CHECK(now.nodes_needed(many, node_of("big", 2000), 10) == 4);
  CHECK_FALSE(now.nodes_needed(many, node_of("big", 2000), 3));
  CHECK_FALSE(now.nodes_needed({pod_of("huge", 9000)}, node_of("big", 2000), 5));
  CHECK(now.nodes_needed({pod_of("small", 100)}, node_of("big", 2000), 5) == 0);

  PodShape boss = pod_of("boss", 900);
  boss.priority = 5;
  CHECK(now.preempt(boss).node == "a");  // equal: the first name
  CHECK(now.remove_pod("two").schedule({boss}).placed.at(0).second == "b");
  CHECK(base->node_count() == 2);
  CHECK(base->pod_count() == 2);
}
