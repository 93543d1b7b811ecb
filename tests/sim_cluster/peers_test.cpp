// Simulated clusters whose control plane has several peers: production Raft stores under faults.
#include "tests/sim_cluster/support.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

constexpr const char* kShop = R"(
name: three peers
seed: 7
duration: 6m
peers: 3
nodes:
- {name: node, count: 4, cpu: 4, memory: 16Gi, zones: [a, b]}
objects: |
  apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: default}
  spec:
    replicas: 8
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec:
        tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
        containers:
        - {name: main, image: web:1, resources: {requests: {cpu: 500m, memory: 256Mi}}}
)";

SimScenario shop(const std::string& more) { return test::scenario_of(kShop + more); }
std::string refusal_of(const std::string& more) {
  const auto parsed = SimScenario::from_yaml(kShop + more);
  return parsed ? std::string() : parsed.error().to_string();
}

}  // namespace

TEST_CASE("three peers without a fault: one leads, one runs the controllers, all is as with one") {
  SimCluster cluster(shop("expect:\n- {recovered: default/web, from: 0s, within: 60s}\n"));
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.peers == 3);
  CHECK(report.elections == 1);
  CHECK(report.samples.back().serving == 8);
}

TEST_CASE("the store's leader loses its power: another leads, and a node that dies then is noticed") {
  SimCluster cluster(shop(R"(
events:
- {at: 1m, kill_peer: leader, for: 2m}
- {at: 1m10s, kill_node: node-1}
- {at: 4m, scale: {of: default/web, to: 10}}
expect:
- {recovered: default/web, from: 1m11s, within: 3m}
- {recovered: default/web, from: 4m, within: 1m}
)"));
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.elections >= 2);
  CHECK(test::told(report, "has power again") == 1);
  CHECK(report.pods_lost > 0);
}

TEST_CASE("a leader that is cut off with its controllers: others take over, and it follows when it is back") {
  SimCluster cluster(shop(R"(
events:
- {at: 1m, partition_peer: leader, for: 90s}
- {at: 1m30s, scale: {of: default/web, to: 12}}
expect:
- {recovered: default/web, from: 1m31s, within: 2m}
)"));
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.elections >= 2);
  CHECK(test::told(report, "controllers and scheduler run on peer") >= 1);
}

TEST_CASE("without a majority nothing changes, and all goes on when it is back") {
  SimCluster cluster(shop(R"(
events:
- {at: 1m, kill_peer: a, for: 90s}
- {at: 1m, kill_peer: b, for: 90s}
- {at: 1m10s, kill_node: node-0}
expect:
- {recovered: default/web, from: 1m11s, within: 4m}
)"));
  REQUIRE(cluster.start());
  cluster.run_for(75s);
  const auto refused = cluster.await(cluster.client().patch("apps/v1", "deployments", "web", "default",
                                                            PatchType::merge, R"({"spec":{"replicas":9}})"));
  CHECK_FALSE(refused);
  cluster.run_for(5min - cluster.now() + 1min);
  const SimReport report = cluster.report();
  INFO(report.text());
  CHECK(report.passed());
}

TEST_CASE("leadership that moves each half minute over slow disks breaks nothing") {
  SimCluster cluster(shop(R"(
events:
- {at: 30s, hand_over: true, every: 30s}
- {at: 1m, slow_disk: random, for: 20s, every: 1m}
- {at: 2m, set_image: {of: default/web, image: "web:2"}}
expect:
- {available: default/web, at_least: 6, from: 1m}
- {recovered: default/web, from: 2m1s, within: 3m}
)"));
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.elections >= 5);
}

TEST_CASE("with peers, faults and all, the same seed gives the same bytes, another seed others") {
  const SimScenario scenario = shop(R"(
events:
- {at: 1m, kill_peer: random, for: 40s}
- {at: 2m, partition_peer: leader, for: 40s}
- {at: 3m, hand_over: true}
- {at: 2m, kill_node: random, for: 1m}
)");
  SimCluster first(scenario);
  SimCluster second(scenario);
  const SimReport a = first.run();
  const SimReport b = second.run();
  CHECK(a.json() == b.json());
  CHECK(a.text() == b.text());
  SimScenario other = scenario;
  other.seed = 8;
  SimCluster third(other);
  CHECK(third.run().hash != a.hash);
}

TEST_CASE("what is said of peers and cannot be is refused with its place") {
  CHECK(refusal_of("events:\n- {at: 1m, kill_peer: d}\n").find("there is no peer \"d\"") !=
        std::string::npos);
  CHECK(refusal_of("events:\n- {at: 1m, hand_over: false}\n").find("must be true") != std::string::npos);
  CHECK(refusal_of("events:\n- {at: 1m, hand_over: true, for: 1m}\n").find("has no end") !=
        std::string::npos);
  CHECK(refusal_of("model: {network: 10ms..2s}\n").find("50ms") != std::string::npos);
  const auto even = SimScenario::from_yaml("peers: 2\nnodes: [{count: 1}]\n");
  REQUIRE_FALSE(even);
  CHECK(even.error().to_string().find("1, 3 or 5") != std::string::npos);
  const auto alone = SimScenario::from_yaml("nodes: [{count: 1}]\nevents:\n- {at: 1m, kill_peer: leader}\n");
  REQUIRE_FALSE(alone);
  CHECK(alone.error().to_string().find("peers: 3") != std::string::npos);
}

TEST_CASE("many workloads at once: controllers whose workers all wait for the store do not spin meanwhile") {
  SimScenario scenario = shop("");
  const std::string web = scenario.objects.front();
  for (int i = 0; i < 60; ++i) {
    std::string one = web;
    for (const auto& [from, to] : {std::pair<std::string, std::string>("web", "app-" + std::to_string(i)),
                                   {"replicas: 8", "replicas: 5"},
                                   {"cpu: 500m, memory: 256Mi", "cpu: 10m, memory: 1Mi"}}) {
      for (auto at = one.find(from); at != std::string::npos; at = one.find(from, at + to.size()))
        one.replace(at, from.size(), to);
    }
    scenario.objects.push_back(one);
  }
  scenario.duration = 20s;
  SimCluster cluster(scenario);
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(report.pods_bound == 8 + 60 * 5);
  CHECK(report.events < 100'000);  // millions, as long as a timer was armed for what is due already
}
