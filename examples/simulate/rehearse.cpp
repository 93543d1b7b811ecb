// A rehearsal as a program: what happens to a Deployment when a node of five dies?
#include <cstdio>

#include "orchestra/simulator.hpp"

namespace {
constexpr const char* kWeb = R"(
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 10
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: main, image: "web:1", resources: {requests: {cpu: 500m}}}]
)";
}  // namespace

int main() {
  using namespace std::chrono_literals;
  orchestra::SimScenario scenario;
  scenario.seed = 7;
  scenario.nodes = {orchestra::SimNodes{.name = "node", .count = 5}};
  scenario.objects = {kWeb};
  orchestra::SimCluster cluster(scenario);
  if (auto started = cluster.start(); !started) {
    std::fprintf(stderr, "%s\n", started.error().to_string().c_str());
    return 1;
  }
  cluster.run_for(1min);
  orchestra::SimEvent lost;
  lost.kind = orchestra::SimEvent::Kind::kill_node;
  lost.target = "node-1";
  if (!cluster.happen(lost)) return 1;
  cluster.run_for(10min);
  // The API is the production one; ask it what you would ask kubectl.
  const auto pods = cluster.await(cluster.client().list("v1", "pods"));
  std::printf("%s\n%zu pods are there\n", cluster.report().text().c_str(), pods ? pods->items.size() : 0);
  return cluster.report().passed() ? 0 : 1;
}
