// Area startup: a whole one-node cluster in this process, in a network namespace of its own: time to ready on
// an empty and on a used folder, resident memory when idle, and the time from creating a pod to Ready.
#include <malloc.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/fd.hpp"
#include "bench/bench.hpp"
#include "bench/one_node.hpp"
#include "orchestra/cluster.hpp"
#include "orchestra/image_builder.hpp"

namespace orchestra::bench {
namespace {
using namespace std::chrono_literals;

double resident_mb() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::atof(line.c_str() + 6) / 1024;
  }
  return 0;
}

Result<void> measure_startup(const Options& options, Report& report, const std::string& folder) {
  // As the orchestra program does.
  mallopt(M_ARENA_MAX, static_cast<int>(std::max(2u, std::thread::hardware_concurrency())));
  ORC_TRY(make_image(folder));
  std::vector<double> empty;
  for (int i = 0; i < (options.quick ? 3 : 7); ++i) {
    Engine engine;
    Cluster cluster(engine, options_of(folder + "/empty" + std::to_string(i)));
    ORC_TRY(cluster.start());
    empty.push_back(static_cast<double>(cluster.info().ready_ms));
    ORC_TRY(cluster.down(30s));
  }
  report.add({"ready_ms_empty",
              percentile(empty, 0.5),
              "ms",
              200,
              "<=",
              {},
              "p50 of whole clusters with node, fresh folder"});
  Engine engine;
  Cluster cluster(engine, options_of(folder + "/data"));
  ORC_TRY(cluster.start());
  const Client client = cluster.client();
  // The preloaded image is there when the first pod is ready.
  ORC_TRY(pod_ready_ms(client, "warm"));
  std::vector<double> ready;
  for (int i = 0; i < (options.quick ? 10 : 40); ++i) {
    ORC_ASSIGN(const double ms, pod_ready_ms(client, "p" + std::to_string(i)));
    ready.push_back(ms);
    (void)client.remove("v1", "pods", "p" + std::to_string(i), "default").wait(10s);
  }
  report.add({"pod_created_to_ready_ms_p50",
              percentile(ready, 0.5),
              "ms",
              250,
              "<=",
              {},
              "image present, no probe, one after another"});
  report.add({"pod_created_to_ready_ms_p99", percentile(ready, 0.99), "ms", std::nullopt, "<=", {}, ""});
  report.add({"rss_mb",
              resident_mb(),
              "MB",
              60,
              "<=",
              {},
              "the whole one-node program after these pods; an arena of malloc for each core, as the "
              "orchestra program has them"});
  const std::int64_t cpu = cpu_ns(), wall = now_ns();
  Promise<void> pause;
  auto paused = pause.pending();
  engine.after(options.quick ? 3s : 10s, [pause] { pause.set({}); });
  ORC_TRY(paused.wait(60s));
  report.add({"idle_cpu_percent",
              100.0 * static_cast<double>(cpu_ns() - cpu) / static_cast<double>(now_ns() - wall),
              "%",
              std::nullopt,
              "<=",
              {},
              "of one core, one pod"});
  return cluster.down(60s);
}

void run_startup(const Options& options, Report& report) {
  if (!enter_own_network()) {
    report.add(
        {"ready_ms_empty", std::nullopt, "ms", 200, "<=", {}, "needs root: a network namespace of its own"});
    return;
  }
  char folder[] = "/tmp/orc-bench-XXXXXX";
  if (mkdtemp(folder) == nullptr) return;
  auto measured = measure_startup(options, report, folder);
  if (!measured)
    report.add({"startup_error", std::nullopt, "", std::nullopt, "<=", {}, measured.error().to_string()});
  (void)remove_tree(folder);
}
const bool startup_registered = register_area("startup", run_startup);
}  // namespace
}  // namespace orchestra::bench
