// Scenario files: what is wrong is refused with line and column, and what is right is read.
#include "orchestra/simulator.hpp"
#include "sim/command.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

std::string problem(const std::string& text) {
  const auto parsed = SimScenario::from_yaml(text, "day.yaml");
  return parsed ? "none" : parsed.error().message();
}
bool says(const std::string& text, const std::string& place, const std::string& what) {
  const std::string told = problem(text);
  const bool right = told.rfind("day.yaml " + place + ":", 0) == 0 && told.find(what) != std::string::npos;
  if (!right) MESSAGE(told);
  return right;
}

constexpr const char* kNodes = "nodes:\n- {name: node, count: 2, zones: [a]}\n";

}  // namespace

TEST_CASE("an unknown field is refused where it stands, with those that are known") {
  CHECK(says("seed: 1\nnode:\n- {count: 3}\n", "line 2 column 1", "is not known here; known are duration"));
  CHECK(says("nodes:\n- count: 3\n  memroy: 4Gi\n", "line 3 column 3", "nodes[0].memroy"));
  CHECK(says("events:\n- {at: 1m, kill_nod: node-0}\n", "line 2 column 12", "kill_nod"));
  CHECK(says("model:\n  pull: 1s\n  strat: 2s\n", "line 3 column 3", "model.strat"));
}

TEST_CASE("a wrong type is refused where it stands") {
  CHECK(says("seed: seven\n", "line 1 column 1", "must be a whole number, not \"seven\""));
  CHECK(says("nodes: 5\n", "line 1 column 1", "must be a list"));
  CHECK(says("nodes:\n- 5\n", "line 2 column 3", "must be a mapping"));
  CHECK(says("duration: soon\n", "line 1 column 1", "\"soon\" is no time"));
  CHECK(says("model:\n  fail: often\n", "line 2 column 3", "must be a number"));
  CHECK(says("nodes:\n- {count: 2.5}\n", "line 2 column 4", "whole number"));
  CHECK(says("nodes:\n- {cpu: four}\n", "line 2 column 4", "nodes[0].cpu"));
  CHECK(says("objects: [a]\n", "line 1 column 1", "must be text"));
}

TEST_CASE("numbers that contradict each other are refused") {
  CHECK(says("model:\n  pull: 10s..2s\n", "line 2 column 3", "ends before it begins"));
  CHECK(says("nodes:\n- {memory: -1Gi}\n", "line 2 column 4", "is negative"));
  CHECK(says("nodes:\n- {count: 0}\n", "line 2 column 4", "outside of 1..100000"));
  CHECK(says("model: {heartbeat: 50s}\n", "line 1 column 9", "must be 1s to 40s"));
  CHECK(says("model: {fail: 1.5}\n", "line 1 column 9", "outside of"));
  CHECK(says(std::string(kNodes) + "duration: 5m\nevents:\n- {at: 6m, kill_node: node-0}\n",
             "line 5 column 4", "after the end"));
  CHECK(says("expect:\n- {available: a/b, at_least: 1, from: 2m, until: 1m}\n", "line 2 column 43",
             "before \"from\""));
  CHECK(says("expect:\n- {recovered: a/b, from: 9m, within: 2m}\n", "line 2 column 3", "after the end"));
  CHECK(says("expect:\n- {served: a/b, at_least: 2}\n", "line 2 column 17", "share"));
}

TEST_CASE("an event says what happens, to whom and when") {
  const std::string nodes = kNodes;
  CHECK(says(nodes + "events:\n- {kill_node: node-0}\n", "line 4 column 3", "not when"));
  CHECK(says(nodes + "events:\n- {at: 1m}\n", "line 4 column 3", "not what happens"));
  CHECK(says(nodes + "events:\n- {at: 1m, kill_node: node-0, cordon: node-1}\n", "line 4 column 12",
             "one thing"));
  CHECK(
      says(nodes + "events:\n- {at: 1m, restart_node: node-0, for: 1m}\n", "line 4 column 34", "has no end"));
  CHECK(says(nodes + "events:\n- {at: 1m, scale: {of: a/b}}\n", "line 4 column 12", "\"to\""));
  CHECK(problem(nodes + "events:\n- {at: 1m, kill_node: node-2}\n").find("there is no node \"node-2\"") !=
        std::string::npos);
  CHECK(problem(nodes + "events:\n- {at: 1m, kill_zone: b}\n").find("zone \"b\"") != std::string::npos);
  CHECK(problem(nodes + "events:\n- {at: 1m, kill_node: random, for: 1m, every: 2m}\n") == "none");
}

TEST_CASE("YAML that is none, is twice or is too large") {
  CHECK(problem("seed: 1\nseed: 2\n") == "day.yaml: line 2 column 1: seed is there twice");
  CHECK(problem("seed: [1\n").find("line ") != std::string::npos);
  CHECK(problem(std::string(5u << 20, '#')).find("at most") != std::string::npos);
  CHECK(says("objects: |\n  kind: [Pod\n", "line 1 column 1", "line "));
}

TEST_CASE("times and ranges are read as they are meant") {
  CHECK(parse_sim_duration("1h30m").value() == 90min);
  CHECK(parse_sim_duration("250ms").value() == 250ms);
  CHECK(parse_sim_duration("1.5s").value() == 1500ms);
  CHECK(parse_sim_duration("2d").value() == 48h);
  for (const char* text : {"", "5", "-5s", "5 s", "1e99h", "s", "5x", "400d"})
    CHECK_FALSE(parse_sim_duration(text));
  const auto scenario = SimScenario::from_yaml("model: {start: 1s..2s, stop: 3s}\n");
  REQUIRE(scenario);
  CHECK(scenario->model.start.most == 2s);
  CHECK(scenario->model.stop.least == 3s);
  CHECK(scenario->model.stop.most == 3s);
}

TEST_CASE("objects that the API refuses end the simulation with their name") {
  SimScenario scenario;
  scenario.nodes = {SimNodes{}};
  scenario.objects = {
      "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: default}\nspec: {containers: []}\n"};
  SimCluster cluster(scenario);
  const auto started = cluster.start();
  REQUIRE_FALSE(started);
  CHECK(started.error().to_string().find("applying Pod default/x") != std::string::npos);
}

TEST_CASE("a live cluster's objects become a scenario: users' objects without their life, nodes by shape") {
  const auto objects = Object::many_from_yaml(R"(
apiVersion: v1
kind: Node
metadata: {name: big, uid: u1, resourceVersion: "5", labels: {disk: ssd, topology.kubernetes.io/zone: b}}
spec: {taints: [{key: gpu, value: "yes", effect: NoSchedule}, {key: node.kubernetes.io/unreachable, effect: NoExecute}]}
status: {allocatable: {cpu: 3500m, memory: 12Gi, pods: "50", nvidia.com/gpu: "2"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, uid: u2, resourceVersion: "7"}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations: [{key: gpu, operator: Exists}]
      containers: [{name: main, image: web}]
status: {replicas: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: default, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: u3, controller: true}]}
spec: {nodeName: big, containers: [{name: main, image: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default, uid: u4}
spec: {clusterIP: 10.1.2.3, clusterIPs: [10.1.2.3], selector: {app: web}, ports: [{port: 80}]}
)");
  REQUIRE(objects);
  SimScenario scenario;
  REQUIRE(import_objects(*objects, scenario));
  REQUIRE(scenario.nodes.size() == 1);
  CHECK(scenario.nodes[0].cpu == "3500m");
  CHECK(scenario.nodes[0].resources.at("nvidia.com/gpu") == "2");
  CHECK(scenario.nodes[0].taints == std::vector<std::string>{"gpu=yes:NoSchedule"});
  REQUIRE(scenario.objects.size() == 1);
  CHECK(scenario.objects[0].find("web-1") == std::string::npos);
  CHECK(scenario.objects[0].find("10.1.2.3") == std::string::npos);
  CHECK(scenario.objects[0].find("uid") == std::string::npos);
  scenario.duration = 2min;
  SimExpectation ready;
  ready.kind = SimExpectation::Kind::recovered;
  ready.target = "default/web";
  ready.within = 1min;
  scenario.expect = {ready};
  SimCluster cluster(scenario);
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
}
