// orchestra-bench sim: how fast whole clusters pass their days in virtual time.
#include <algorithm>
#include <cstdlib>

#include "base/engine_manual.hpp"
#include "base/fd.hpp"
#include "bench/bench.hpp"
#include "orchestra/simulator.hpp"
#include "sim/sim_env.hpp"

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
  const std::size_t each = std::clamp<std::size_t>(pods, 1, 500);
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
  if (!text.empty()) scenario.objects = {text};
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

std::size_t sim_resident_bytes() {
  const std::string text = read_file("/proc/self/statm", 4096).value_or("");
  const auto space = text.find(' ');
  return space == std::string::npos ? 0 : std::strtoull(text.c_str() + space, nullptr, 10) * 4096;
}

// The loop alone: as many timers as 5,000 agents would have, each of which comes again after ten seconds.
void sim_events(Report& report) {
  constexpr int kTimers = 5000 * 22;
  constexpr Duration kAgain = 10s;
  sim::SimClock clock;
  sim::SimRandom random(7);
  EngineOptions how;
  how.event_threads = 0;
  how.clock = &clock;
  how.random = &random;
  Engine engine(how);
  std::uint64_t fired = 0;
  std::function<void()> again = [&] {
    ++fired;
    engine.after(kAgain, [&again] { again(); });
  };
  for (int i = 0; i < kTimers; ++i) {
    const auto first = static_cast<std::int64_t>(random.next() % static_cast<std::uint64_t>(kAgain.count()));
    engine.after(Duration(first), [&again] { again(); });
  }
  const std::int64_t begin = now_ns();
  while (fired < std::uint64_t{10} * kTimers) {
    const auto next = next_timer_ns(engine);
    if (!next) break;
    clock.advance(Duration(*next - clock.now().steady_ns));
    run_ready(engine);
  }
  const double seconds = static_cast<double>(now_ns() - begin) / 1e9;
  report.add({"events_per_s", static_cast<double>(fired) / seconds, "events/s", 5e6, ">=", std::nullopt,
              std::to_string(kTimers) + " timers of 10 s, nothing else in them"});
  engine.stop();
}

void sim_memory(Report& report, std::size_t nodes) {
  const std::size_t before = sim_resident_bytes();
  SimCluster cluster(cluster_of(nodes, 0, 1h));
  if (!cluster.start()) return;
  const auto grown = static_cast<double>(sim_resident_bytes() - before);
  report.add({"bytes_per_sim_node", grown / static_cast<double>(nodes), "B", std::nullopt, "<=", std::nullopt,
              std::to_string(nodes) + " nodes without pods, control plane included"});
}

// Seven days in which something happens all the time: what is kept of it must not grow.
void sim_week(Report& report) {
  SimCluster cluster(cluster_of(50, 500, 7 * 24h));
  if (!cluster.start()) return;
  cluster.run_for(24h);
  const std::size_t before = sim_resident_bytes();
  cluster.run_for(6 * 24h);
  const auto grown = static_cast<double>(sim_resident_bytes()) - static_cast<double>(before);
  report.add({"growth_per_day_kib", grown / 6 / 1024, "KiB", std::nullopt, "<=", std::nullopt,
              "the second to the seventh day of 50 nodes and 500 pods, a node lost each ten minutes; the "
              "report's own timeline is in it"});
}

// The goal of the day is 144 times real time; its first hour has the start of all pods in it.
void sim_day(Report& report) {
  const std::int64_t begin = now_ns();
  SimCluster cluster(cluster_of(5000, 100'000, 24h));
  if (!cluster.start()) return;
  cluster.run_for(1h);
  const double hour = static_cast<double>(now_ns() - begin) / 1e9;
  report.add({"virtual_over_real_5000_nodes", 3600 / hour, "x", std::nullopt, ">=", std::nullopt,
              "the first hour of the day, with the start of all pods in it"});
  cluster.run_for(23h);
  Run day;
  day.seconds = static_cast<double>(now_ns() - begin) / 1e9;
  day.report = cluster.report();
  report.add({"day_5000_nodes_100k_pods_s", day.seconds, "s", 600.0, "<=", std::nullopt, note_of(day)});
}

void run_sim(const Options& options, Report& report) {
  sim_events(report);
  sim_memory(report, options.quick ? 500 : 5000);
  if (!options.quick) sim_week(report);
  for (const std::size_t nodes : {10, 100, 200, 1000}) {
    if (options.quick && nodes > 200) continue;
    const Run day = measure_run(cluster_of(nodes, nodes * 20, options.quick ? 30min : 2h));
    report.add({"virtual_over_real_" + std::to_string(nodes) + "_nodes", day.virtual_seconds / day.seconds,
                "x", std::nullopt, ">=", std::nullopt, note_of(day)});
  }
  const Run three = measure_run(cluster_of(200, 4000, options.quick ? 30min : 2h, 3));
  report.add({"virtual_over_real", three.virtual_seconds / three.seconds, "x", 200.0, ">=", std::nullopt,
              "200 nodes; " + note_of(three)});
  if (!options.quick) sim_day(report);
}

const bool sim_registered = register_area("sim", run_sim);

}  // namespace
}  // namespace orchestra::bench
