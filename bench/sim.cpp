// orchestra-bench sim: how fast whole clusters pass their days in virtual time.
#include <algorithm>
#include <cstdlib>

#include "bench/bench.hpp"
#include "orchestra/simulator.hpp"

namespace orchestra::bench {
namespace {

using namespace std::chrono_literals;

// `pods` small pods in Deployments of 500, spread over the nodes.
SimScenario cluster_of(std::size_t nodes, std::size_t pods, Duration time, std::size_t peers = 1) {
  SimScenario scenario;
  scenario.peers = peers;
  scenario.seed = 7;
  scenario.duration = time;
  SimNodes shape;
  shape.count = nodes;
  shape.cpu = "16";
  shape.memory = "64Gi";
  shape.zones = {"a", "b", "c"};
  scenario.nodes = {shape};
  std::string text;
  const std::size_t each = std::min<std::size_t>(500, pods);
  for (std::size_t i = 0; i < pods / each; ++i) {
    const std::string name = "app-" + std::to_string(i);
    text += "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name +
            ", namespace: default}\nspec:\n  replicas: " + std::to_string(each) +
            "\n  selector: {matchLabels: {app: " + name +
            "}}\n  template:\n    metadata: {labels: {app: " + name +
            "}}\n    spec:\n      containers: [{name: main, image: web, resources: {requests: {cpu: 100m, "
            "memory: "
            "128Mi}}}]\n";
  }
  scenario.objects = {text};
  // Something happens: a node is lost each ten minutes and comes back, a workload rolls each hour.
  SimEvent lost;
  lost.kind = SimEvent::Kind::kill_node;
  lost.target = "random";
  lost.at = 5min;
  lost.lasts = 8min;
  lost.every = 10min;
  SimEvent roll;
  roll.kind = SimEvent::Kind::set_image;
  roll.target = "default/app-0";
  roll.text = "web:2";
  roll.at = 30min;
  if (time > lost.at) scenario.events.push_back(lost);
  if (time > roll.at) scenario.events.push_back(roll);
  if (peers == 1) return scenario;
  // And a peer each twenty minutes, the store's leader among them.
  SimEvent dark;
  dark.kind = SimEvent::Kind::kill_peer;
  dark.target = "leader";
  dark.at = 12min;
  dark.lasts = 3min;
  dark.every = 20min;
  if (time > dark.at) scenario.events.push_back(dark);
  return scenario;
}

struct Run {
  double seconds = 0, virtual_seconds = 0;
  SimReport report;
};
Run measure_run(SimScenario scenario) {
  const std::int64_t begin = now_ns();
  SimCluster cluster(std::move(scenario));
  Run run;
  run.report = cluster.run();
  run.seconds = static_cast<double>(now_ns() - begin) / 1e9;
  run.virtual_seconds = static_cast<double>(run.report.simulated.count()) / 1e9;
  return run;
}

std::string note_of(const Run& run) {
  std::string note = std::to_string(run.report.writes) + " writes, " +
                     std::to_string(run.report.pods_created) + " pods created, " +
                     std::to_string(run.report.pods_lost) + " lost, " +
                     (run.report.peers == 1 ? std::string("one peer (memory store)")
                                            : std::to_string(run.report.peers) + " peers, " +
                                                  std::to_string(run.report.elections) + " leaders");
  if (!run.report.passed())
    note += "; NOT CLEAN: " +
            (run.report.violations.empty() ? run.report.failures : run.report.violations).front();
  return note;
}

void run_sim(const Options& options, Report& report) {
  for (const std::size_t nodes : {10, 100, 200, 1000}) {
    if (options.quick && nodes > 200) continue;
    const Run day = measure_run(cluster_of(nodes, nodes * 20, options.quick ? 30min : 2h));
    report.add({"virtual_over_real_" + std::to_string(nodes) + "_nodes", day.virtual_seconds / day.seconds,
                "x", std::nullopt, ">=", std::nullopt, note_of(day)});
  }
  const Run three = measure_run(cluster_of(200, 4000, options.quick ? 30min : 2h, 3));
  report.add({"virtual_over_real", three.virtual_seconds / three.seconds, "x", 200.0, ">=", std::nullopt,
              "200 nodes; " + note_of(three)});
  Metric whole{"day_5000_nodes_100k_pods_s",
               std::nullopt,
               "s",
               600.0,
               "<=",
               std::nullopt,
               "only with ORCHESTRA_LONG=1; see the row of an hour"};
  if (options.quick) return report.add(whole);
  // The goal of the day is 144 times real time.
  const Run hour = measure_run(cluster_of(5000, 100'000, 1h));
  report.add({"virtual_over_real_5000_nodes", hour.virtual_seconds / hour.seconds, "x", 144.0,
              ">=", std::nullopt, note_of(hour) + "; an hour, with the start of all pods in it"});
  if (std::getenv("ORCHESTRA_LONG") != nullptr) {
    const Run day = measure_run(cluster_of(5000, 100'000, 24h));
    whole.value = day.seconds;
    whole.note = note_of(day);
  }
  report.add(whole);
}

const bool sim_registered = register_area("sim", run_sim);

}  // namespace
}  // namespace orchestra::bench
