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

namespace {
Object object_of(const std::string& yaml) {
  auto made = Object::from_yaml(yaml);
  REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
  return *made;
}
Object node_object(const std::string& name, const std::string& cpu) {
  return object_of("{apiVersion: v1, kind: Node, metadata: {name: " + name +
                   ", labels: {kubernetes.io/hostname: " + name + "}}, status: {allocatable: {cpu: '" + cpu +
                   "', memory: 8Gi, pods: '10'}}}");
}
Object pod_object(const std::string& name, const std::string& cpu, const std::string& node = {}) {
  return object_of("{apiVersion: v1, kind: Pod, metadata: {namespace: d, name: " + name + ", uid: u-" + name +
                   "}, spec: {" + (node.empty() ? "" : "nodeName: " + node + ", ") +
                   "containers: [{name: main, image: web, resources: {requests: {cpu: '" + cpu + "'}}}]}}");
}
}  // namespace

TEST_CASE("explain_pod says for each node why not, what would help, and where a pod that runs would go now") {
  ClusterQuestion question;
  question.nodes = {node_object("a", "2"), node_object("b", "1")};
  question.pods = {pod_object("old", "1500m", "a"), pod_object("new", "1")};
  question.pods.push_back(pod_object("small", "500m", "b"));
  auto answer = explain_pod(question, "d", "new");
  REQUIRE(answer);
  CHECK(answer->goes_to.empty());
  CHECK(answer->nodes.size() == 2);
  CHECK(answer->text(true, false) ==
        "a                                no   Insufficient cpu (NodeResourcesFit)\n"
        "b                                no   Insufficient cpu (NodeResourcesFit)\n"
        "d/new: 0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No "
        "preemption "
        "victims found for incoming pod.\n");
  question.add = {"b=2"};
  answer = explain_pod(question, "d", "new");
  REQUIRE(answer);
  CHECK(answer->goes_to == "b-like-0");
  CHECK(answer->nodes.size() == 4);
  question.add.clear();
  answer = explain_pod(question, "d", "old");
  REQUIRE(answer);
  CHECK(answer->runs_on == "a");
  CHECK(answer->text(false, false) == "it runs on a\nd/old would go to a\n");
  question.without = {"a"};
  CHECK(explain_pod(question, "d", "old")->goes_to.empty());
}

TEST_CASE("place_waiting takes who waits and who would lose his node, the most important first") {
  ClusterQuestion question;
  question.nodes = {node_object("a", "2"), node_object("b", "1")};
  question.pods = {pod_object("z-runs", "500m", "a"), pod_object("waits", "1"), pod_object("waits-too", "1")};
  auto answer = place_waiting(question);
  REQUIRE(answer);
  CHECK(answer->placed.size() == 2);
  question.without = {"a"};
  answer = place_waiting(question);
  REQUIRE(answer);
  REQUIRE(answer->placed.size() == 1);
  CHECK(answer->placed[0] == std::pair<std::string, std::string>("d/waits", "b"));
  CHECK(answer->refused.size() == 2);
}

TEST_CASE("a question about what is not there, or about too many nodes, is refused by name") {
  ClusterQuestion question;
  question.nodes = {node_object("a", "2")};
  question.pods = {pod_object("one", "1")};
  CHECK(explain_pod(question, "d", "two").error().to_string().find("there is no pod d/two") !=
        std::string::npos);
  question.without = {"b"};
  CHECK(explain_pod(question, "d", "one").error().is(Error::not_found));
  question.without.clear();
  for (const char* wrong : {"a=0", "a=x", "a=100001", "a=1x", "a="}) {
    question.add = {wrong};
    CHECK(explain_pod(question, "d", "one").error().is(Error::invalid));
  }
  question.add = {"c=1"};
  CHECK(place_waiting(question).error().is(Error::not_found));
}
