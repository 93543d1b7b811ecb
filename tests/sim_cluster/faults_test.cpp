// Faults that users and machines make, on whole clusters in virtual time.
#include <set>

#include "tests/sim_cluster/support.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

// Six pods behind a Service, of which a budget keeps four.
SimScenario shop(const std::string& more) {
  return test::scenario_of(R"(
seed: 11
duration: 20m
nodes: [{name: node, count: 4, cpu: 4}]
objects: |
  apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: default}
  spec:
    replicas: 6
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec:
        tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
        containers: [{name: main, image: "web:1", resources: {requests: {cpu: 500m}}}]
  ---
  apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: default}
  spec: {selector: {app: web}, ports: [{port: 80}]}
  ---
  apiVersion: policy/v1
  kind: PodDisruptionBudget
  metadata: {name: web, namespace: default}
  spec: {minAvailable: 4, selector: {matchLabels: {app: web}}}
)" + more);
}

}  // namespace

TEST_CASE("nodes are drained within the budget, one after another, and all is Ready again") {
  const SimScenario drains = shop(R"(
events:
- {at: 2m, drain: node-0}
- {at: 2m, drain: node-1}
expect:
- {available: default/web, at_least: 4, from: 1m}
- {recovered: default/web, from: 3m, within: 10m}
)");
  SimCluster cluster(drains);
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(test::told(report, "is drained: nothing is left to evict") == 2);
  SimCluster again(drains);
  CHECK(again.run().json() == report.json());
}

TEST_CASE("clocks that are set by minutes, on nodes and in the control plane, cost no node, pod or run") {
  const auto run = [](const std::string& more, const std::string& peer) {
    SimCluster cluster(test::scenario_of(R"(
seed: 11
duration: 25m
nodes: [{name: node, count: 4, cpu: 4}]
objects: |
  apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: default}
  spec:
    replicas: 6
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec: {containers: [{name: main, image: web}]}
  ---
  apiVersion: batch/v1
  kind: Job
  metadata: {name: batch, namespace: default}
  spec:
    completions: 12
    parallelism: 2
    activeDeadlineSeconds: 1200
    template: {spec: {restartPolicy: Never, containers: [{name: main, image: batch}]}}
  ---
  apiVersion: batch/v1
  kind: CronJob
  metadata: {name: tick, namespace: default}
  spec:
    schedule: "* * * * *"
    jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: tick}]}}}}
events:
- {at: 3m, step_clock: {of: )" + peer + R"(, by: 7m}, for: 4m}
- {at: 5m, step_clock: {of: node-1, by: -10m}, for: 3m}
- {at: 6m, step_clock: {of: node-2, by: 10m}}
- {at: 9m, step_clock: {of: )" + peer + R"(, by: -5m}, for: 5m}
expect:
- {available: default/web, at_least: 6, from: 1m}
- {completed: job/default/batch, within: 20m}
- {converged: true, from: 20m, within: 2m}
)" + more));
    const SimReport report = cluster.run();
    INFO(report.text());
    CHECK(report.passed());
    CHECK(test::told(report, "is not Ready") == 0);
    CHECK(report.pods_lost == 0);
    // Each minute that the clock shows is one run, whatever the clock did: the minutes that it jumped over
    // are one together, those that it showed twice are not run again.
    std::set<std::string> runs;
    std::size_t complete = 0;
    for (const auto& [at, what] : report.timeline) {
      if (what.rfind("job default/tick-", 0) != 0) continue;
      ++complete;
      runs.insert(what);
    }
    CHECK(runs.size() == complete);
    CHECK(complete >= 14);
    CHECK(complete <= 16);
    CHECK(report.pods_created - (6 + 12 + complete) <= 1);        // one may run at the end
    CHECK(test::told(report, "tick-28333347 is complete") == 1);  // begun just before the clock was set back
  };
  run("model: {run: 20s..40s}", "control");
  run("model: {run: 20s..40s, every_renewal: true}", "control");
  run("model: {run: 20s..40s}\npeers: 3", "leader");
}

TEST_CASE("that a node which is well is called not Ready breaks an invariant") {
  SimCluster cluster(shop(""));
  REQUIRE(cluster.start());
  cluster.run_for(2min);
  WriteOptions status;
  status.subresource = "status";
  REQUIRE(cluster.await(
      cluster.client().patch("v1", "nodes", "node-1", "", PatchType::strategic,
                             R"({"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}})", status)));
  cluster.run_for(1s);
  const SimReport report = cluster.report();
  INFO(report.text());
  REQUIRE(report.violations.size() == 1);
  CHECK(report.violations.front().find("node node-1 is well and was found not to be Ready") !=
        std::string::npos);
}

TEST_CASE("a quota holds while pods are lost and made anew") {
  SimCluster cluster(shop(R"(
events:
- at: 1m
  apply: |
    apiVersion: v1
    kind: ResourceQuota
    metadata: {name: q, namespace: default}
    spec: {hard: {pods: "6", requests.cpu: "3"}}
- {at: 2m, scale: {of: default/web, to: 12}}
- {at: 3m, kill_node: random, for: 3m}
- {at: 4m, delete_pods: {of: default/web, count: 2}, every: 1m, until: 8m}
)"));
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.violations.empty());
  CHECK(report.samples.back().pods == 6);
}

TEST_CASE("slow probes make the pods of a node unready though they serve, until they are in time again") {
  SimCluster cluster(shop("events:\n- {at: 2m, slow_probes: node-0, for: 3m}\n"));
  REQUIRE(cluster.start());
  cluster.run_for(3min);
  SimReport report = cluster.report();
  const auto last = [&] { return report.samples.back(); };
  CHECK(last().serving == 6);
  CHECK(last().ready < 6);
  CHECK(report.violations.empty());  // the endpoints follow
  cluster.run_for(5min);
  report = cluster.report();
  INFO(report.text());
  CHECK(last().ready == 6);
  CHECK(report.passed());
}

TEST_CASE("while the registry is down new images do not start, and a budget keeps the old ones") {
  SimCluster cluster(shop(R"(
events:
- {at: 2m, registry_down: true, for: 6m}
- {at: 3m, set_image: {of: default/web, image: "web:2"}}
expect:
- {available: default/web, at_least: 4, from: 1m}
- {converged: true, from: 8m, within: 11m}
)"));
  REQUIRE(cluster.start());
  cluster.run_for(7min);
  const auto pods = cluster.await(cluster.client().list("v1", "pods"));
  REQUIRE(pods);
  std::size_t waiting = 0;
  for (const Object& pod : pods->items) {
    waiting += pod.get("/status/containerStatuses/0/state/waiting/reason").value_or("") == "ImagePullBackOff"
                   ? 1
                   : 0;
  }
  CHECK(waiting > 0);
  cluster.run_for(13min);
  const SimReport report = cluster.report();
  INFO(report.text());
  CHECK(report.passed());
}

TEST_CASE("pods and nodes that users delete at random are made good") {
  SimCluster cluster(shop(R"(
events:
- {at: 2m, delete_pods: {of: random, count: 1}, every: 1m, until: 10m}
- {at: 3m, delete_node: random, for: 2m}
expect:
- {converged: true, from: 11m, within: 5m}
)"));
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  CHECK(test::told(report, "1 pods, drawn, are deleted") == 9);
  CHECK(test::told(report, "is no more") == 1);
  CHECK(report.samples.back().nodes_ready == 4);
}

TEST_CASE("an endpoint that somebody else lists for a pod that is not there is found at the end") {
  SimCluster cluster(shop(""));
  REQUIRE(cluster.start());
  cluster.run_for(2min);
  CHECK(cluster.report().violations.empty());
  REQUIRE(cluster.apply(R"(
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: stale, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.9.9.9], conditions: {ready: true}, targetRef: {kind: Pod, name: long-gone, namespace: default}}]
ports: [{port: 80}]
)"));
  cluster.run_for(1min);
  const auto violations = cluster.report().violations;
  REQUIRE(violations.size() == 1);
  CHECK(violations[0].find("the endpoints of Service default/web list as ready the pod long-gone") !=
        std::string::npos);
}

TEST_CASE("an eviction that a budget forbids is a violation, whoever wrote it") {
  SimCluster cluster(shop(""));
  REQUIRE(cluster.start());
  cluster.run_for(2min);
  const auto pods = cluster.await(cluster.client().list("v1", "pods"));
  REQUIRE(pods);
  std::string names;
  for (std::size_t i = 0; i < 3; ++i)
    names += (i == 0 ? "\"" : ",\"") + pods->items[i].name() + "\":\"2026-01-01T00:00:00Z\"";
  WriteOptions status;
  status.subresource = "status";
  REQUIRE(cluster.await(cluster.client().patch("policy/v1", "poddisruptionbudgets", "web", "default",
                                               PatchType::merge,
                                               R"({"status":{"disruptedPods":{)" + names + "}}}", status)));
  cluster.run_for(5s);
  const auto violations = cluster.report().violations;
  REQUIRE_FALSE(violations.empty());
  CHECK(violations[0].find("leaves 3 healthy pods, and the budget web asks for 4") != std::string::npos);
}
