// Whole clusters in virtual time: the production control plane, model nodes.
#include "tests/sim_cluster/support.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

constexpr const char* kShop = R"(
name: one node is lost
seed: 7
duration: 10m
nodes:
- {name: node, count: 5, cpu: 4, memory: 16Gi, zones: [a, b, c]}
objects: |
  apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: default}
  spec:
    replicas: 10
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec:
        tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
        containers:
        - {name: main, image: web:1, resources: {requests: {cpu: 500m, memory: 256Mi}}}
events:
- {at: 2m, kill_node: node-1}
expect:
- {recovered: default/web, from: 0s, within: 60s}
- {available: default/web, at_least: 7, from: 60s}
- {recovered: default/web, from: 2m1s, within: 3m}
)";

}  // namespace

TEST_CASE("a lost node's pods run elsewhere, and all is Ready again") {
  SimCluster cluster(test::scenario_of(kShop));
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.pods_lost == 2);
  CHECK(report.met.size() == 3);
}

TEST_CASE("the same seed gives the same bytes, another seed others") {
  const SimScenario scenario = test::scenario_of(kShop);
  SimCluster first(scenario);
  SimCluster second(scenario);
  const SimReport a = first.run();
  const SimReport b = second.run();
  CHECK(a.json() == b.json());
  CHECK(a.svg() == b.svg());
  CHECK(a.csv() == b.csv());
  CHECK(a.text() == b.text());
  SimScenario other = scenario;
  other.seed = 8;
  SimCluster third(other);
  CHECK(third.run().hash != a.hash);
}

TEST_CASE("without controllers a lost pod is not replaced, and the expectation says where it stands") {
  SimScenario scenario = test::scenario_of(kShop);
  SimEvent away;
  away.kind = SimEvent::Kind::stop_controllers;
  away.at = 90s;
  scenario.events.push_back(away);
  SimCluster cluster(scenario);
  const SimReport report = cluster.run();
  REQUIRE(report.failures.size() == 1);
  CHECK(report.failures[0].find("8 of 10 pods serve") != std::string::npos);
  CHECK(report.failures[0].find("line ") != std::string::npos);
  CHECK(report.violations.empty());
}

TEST_CASE("a node that is cut off: its pods run on unseen, are replaced, and end when it is back") {
  SimScenario scenario = test::scenario_of(kShop);
  scenario.events.front().kind = SimEvent::Kind::partition_node;
  scenario.events.front().lasts = 4min;
  SimCluster cluster(scenario);
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.pods_lost == 0);
  CHECK(report.samples.back().pods == 10);
  CHECK(report.samples.back().nodes_ready == 5);
}

TEST_CASE("a node without power boots again and runs what it is given") {
  SimScenario scenario = test::scenario_of(kShop);
  scenario.events.front().lasts = 20s;  // back before anybody gave it up
  SimCluster cluster(scenario);
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.pods_created == 10);
}

TEST_CASE("Jobs come to their end, also where runs fail") {
  SimScenario scenario = test::scenario_of(R"(
duration: 20m
model: {run: 5s..10s, fail: 0.3}
nodes: [{count: 2}]
objects: |
  apiVersion: batch/v1
  kind: Job
  metadata: {name: once, namespace: default}
  spec:
    completions: 6
    parallelism: 2
    backoffLimit: 100
    template:
      spec:
        restartPolicy: Never
        containers: [{name: main, image: "job:1"}]
expect:
- {completed: job/default/once, within: 20m}
)");
  SimCluster cluster(scenario);
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.samples.back().done == 6);
  CHECK(report.samples.back().failed > 0);
}

TEST_CASE("scaling, deleting, cordoning and a new image are done as a user does them") {
  SimCluster cluster(test::scenario_of(R"(
duration: 30m
nodes: [{count: 3}]
objects: |
  apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: default}
  spec:
    replicas: 3
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec: {containers: [{name: main, image: "web:1"}]}
events:
- {at: 1m, cordon: node-0}
- {at: 2m, scale: {of: default/web, to: 9}}
- {at: 4m, delete_pods: {of: default/web, count: 2}}
- {at: 6m, set_image: {of: default/web, image: "web:2"}}
- {at: 10m, remove: deployment/default/web}
expect:
- {recovered: default/web, from: 2m, within: 1m}
- {recovered: default/web, from: 4m, within: 1m}
- {recovered: default/web, from: 6m1s, within: 3m}
)"));
  REQUIRE(cluster.start());
  cluster.run_for(3min);
  const auto on_first = [&] {
    const auto pods = cluster.await(cluster.client().list("v1", "pods", {.fields = "spec.nodeName=node-0"}));
    REQUIRE(pods);
    return pods->items.size();
  };
  const std::size_t before = on_first();
  CHECK(before <= 1);
  cluster.run_for(6min);
  const auto pods = cluster.await(cluster.client().list("v1", "pods"));
  REQUIRE(pods);
  CHECK(pods->items.size() == 9);
  for (const Object& pod : pods->items) CHECK(pod.get("/spec/containers/0/image").value_or("") == "web:2");
  CHECK(on_first() == 0);
  cluster.run_for(3min);
  const SimReport report = cluster.report();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.samples.back().pods == 0);
}

TEST_CASE("an event that cannot be is a failure with its place, and the simulation goes on") {
  SimScenario scenario = test::scenario_of(kShop);
  scenario.events.clear();
  scenario.expect.clear();
  SimEvent scale;
  scale.kind = SimEvent::Kind::scale;
  scale.target = "default/nobody";
  scale.at = 1min;
  scale.place = "day.yaml line 3 column 1";
  scenario.events = {scale};
  SimCluster cluster(scenario);
  const SimReport report = cluster.run();
  REQUIRE(report.failures.size() == 1);
  CHECK(report.failures[0].find("default/nobody") != std::string::npos);
  CHECK(report.failures[0].find("line 3 column 1") != std::string::npos);
  CHECK(report.simulated == 10min);
}

TEST_CASE("renewals that nobody could miss are not written, and what happens is noticed at the same times") {
  SimScenario scenario = test::scenario_of(kShop);
  scenario.expect.clear();
  SimEvent cut = scenario.events.front();
  cut.kind = SimEvent::Kind::partition_node;
  cut.target = "node-3";
  cut.at = 4min + 3s;
  cut.lasts = 2min;
  scenario.events.push_back(cut);
  SimScenario each = scenario;
  each.model.every_renewal = true;
  SimCluster few(scenario);
  SimCluster all(each);
  const SimReport some = few.run();
  const SimReport every = all.run();
  CHECK(some.writes + 60 < every.writes);
  const auto told = [](const SimReport& report) {
    std::vector<std::string> lines;
    for (const SimNote& note : report.timeline) {
      if (note.what.find("Ready") != std::string::npos)
        lines.push_back(std::to_string(note.at.count()) + note.what);
    }
    return lines;
  };
  CHECK(told(some).size() == 3);  // two that are gone, one that comes back
  CHECK(told(some) == told(every));
}
