// orchestra-bench sched: decisions of the scheduler's pure core, and pods created to bound in one process
// (API semantics, store, watches and scheduler included, as upstream's scheduler_perf counts them).
#include <condition_variable>
#include <mutex>

#include "bench/bench.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/informer.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/scheduler.hpp"

namespace orchestra::bench {
namespace {

using namespace std::chrono_literals;

NodeShape node_shape(int index) {
  NodeShape node;
  node.name = "node-" + std::to_string(index);
  node.labels["zone"] = std::string(1, static_cast<char>('a' + index % 3));
  node.allocatable = {{"cpu", 16000}, {"memory", 64LL << 30}, {"pods", 110}};
  return node;
}

PodShape pod_shape(int index) {
  PodShape pod;
  pod.ns = "bench";
  pod.name = pod.uid = "pod-" + std::to_string(index);
  pod.requests = {{"cpu", 100}, {"memory", 128LL << 20}};
  pod.score_millicores = 100;
  pod.score_memory_bytes = 128LL << 20;
  return pod;
}

void decisions(Report& report, int nodes, int pods, std::optional<double> goal) {
  SchedulingSnapshot snapshot;
  for (int i = 0; i < nodes; ++i) snapshot.set_node(node_shape(i));
  const std::int64_t begin = now_ns();
  for (int i = 0; i < pods; ++i) {
    const PodShape pod = pod_shape(i);
    const Decision decision = place(snapshot, pod);
    if (decision.placement() != nullptr) snapshot.assume(pod, decision.placement()->node);
  }
  const double rate = static_cast<double>(pods) * 1e9 / static_cast<double>(now_ns() - begin);
  report.add({"decide_pods_per_s_" + std::to_string(nodes) + "_nodes", rate, "pods/s", goal,
              ">=", std::nullopt, "every node examined, " + std::to_string(pods) + " pods, each assumed"});
}

std::string node_json(int index) {
  return R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"node-)" + std::to_string(index) +
         R"("},"status":{"allocatable":{"cpu":"16","memory":"64Gi","pods":"110"}}})";
}

// Created to bound: pods are created in batches while the scheduler runs.
void bound(Report& report, int nodes, int pods) {
  Engine engine;
  auto store = MemoryStore::create(engine);
  ApiServer server(engine, store, {});
  if (auto started = server.start(); !started) return;
  const Client client = server.client();
  std::vector<ApiRequest> requests;
  for (int i = 0; i < nodes; ++i) {
    const auto node = Object::from_json(node_json(i)).value();
    (void)client.create(node).wait(10s);
    WriteOptions status;
    status.subresource = "status";
    (void)client.patch("v1", "nodes", node.name(), "", PatchType::merge, std::string(node.json()), status)
        .wait(10s);
    (void)client.patch("v1", "nodes", node.name(), "", PatchType::merge, R"({"spec":{"taints":null}})").wait(10s);
  }
  std::mutex mutex;
  std::condition_variable changed;
  int bound = 0;
  Informer<k8s::Pod> watched(engine, client);
  watched.on_event([&](const k8s::Pod& old, const k8s::Pod& now) {
    if (!now || !now.get("/spec/nodeName") || (old && old.get("/spec/nodeName"))) return;
    std::lock_guard lock(mutex);
    ++bound;
    changed.notify_all();
  });
  (void)watched.start();
  Scheduler scheduler(engine, client);
  (void)scheduler.start();
  const std::int64_t begin = now_ns();
  for (int i = 0; i < pods; ++i) {
    ApiRequest request;
    request.verb = "create";
    request.resource = "pods";
    request.ns = "default";
    request.body = R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"pod-)" + std::to_string(i) +
                   R"("},"spec":{"containers":[{"name":"main","image":"web","resources":{"requests":)" +
                   R"({"cpu":"100m","memory":"128Mi"}}}]}})";
    requests.push_back(std::move(request));
    if (requests.size() < 100 && i + 1 < pods) continue;
    (void)client.batch(std::move(requests)).wait(30s);
    requests.clear();
  }
  std::unique_lock lock(mutex);
  const bool all = changed.wait_for(lock, 120s, [&] { return bound == pods; });
  const double rate = static_cast<double>(pods) * 1e9 / static_cast<double>(now_ns() - begin);
  lock.unlock();
  Metric metric{"basic_" + std::to_string(nodes) + "_nodes_created_to_bound",
                rate,
                "pods/s",
                15000.0,
                ">=",
                std::nullopt,
                std::to_string(pods) + " pods, memory store"};
  if (!all) {
    metric.value = std::nullopt;
    metric.note = "not all pods were bound within 120 s";
  }
  report.add(metric);
  scheduler.stop();
  watched.stop();
  server.stop();
  store->stop();
}

void run(const Options& options, Report& report) {
  decisions(report, 100, options.quick ? 2000 : 10000, std::nullopt);
  decisions(report, 1000, options.quick ? 500 : 5000, std::nullopt);
  decisions(report, 5000, options.quick ? 100 : 2000, 20000.0);
  bound(report, options.quick ? 50 : 500, options.quick ? 1000 : 5000);
}

const bool registered = register_area("sched", run);

}  // namespace
}  // namespace orchestra::bench
