// orchestra-bench controllers: pods made by one ReplicaSet, the cost of a decision, deployments until they
// are complete, and a namespace full of objects until it is gone; all in one process on the memory store.
#include <condition_variable>
#include <functional>
#include <mutex>

#include "bench/bench.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/controllers.hpp"
#include "orchestra/memory_store.hpp"

namespace orchestra::bench {
namespace {

using namespace std::chrono_literals;

// A control plane whose pods become ready at once.
struct Plane {
  std::mutex mutex;
  std::condition_variable changed;
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server{engine, store, {}};
  Client client;
  InformerSet seen{engine, (started = server.start().has_value(), client = server.client())};
  Controllers controllers{engine, client};
  bool started = false;

  Plane() {
    for (const ResourceRef& resource :
         {ResourceRef{"v1", "pods"}, ResourceRef{"v1", "namespaces"}, ResourceRef{"apps/v1", "deployments"},
          ResourceRef{"v1", "configmaps"}}) {
      seen.informer(resource).on_event([this, resource](const Object&, const Object& now) {
        if (resource.resource == "pods" && now) pod_changed(now);
        std::lock_guard lock(mutex);
        changed.notify_all();
      });
    }
    (void)seen.start();
    (void)controllers.start();
  }
  ~Plane() {
    controllers.stop();
    seen.stop();
    server.stop();
    store->stop();
  }

  void pod_changed(const Object& pod) {
    if (pod.deleting()) {
      DeleteOptions gone;
      gone.grace_period_seconds = 0;
      client.remove("v1", "pods", pod.name(), pod.ns(), gone).on_ready([](const Result<void>&) {});
    } else if (pod.get("/status/phase") != "Running") {
      WriteOptions status;
      status.subresource = "status";
      client
          .patch("v1", "pods", pod.name(), pod.ns(), PatchType::merge,
                 R"({"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True",)"
                 R"("lastTransitionTime":"2026-01-01T00:00:00Z"}]}})",
                 status)
          .on_ready([](const Result<Object>&) {});
    }
  }

  bool wait(const std::function<bool()>& done, Duration deadline) {
    const std::int64_t end = now_ns() + deadline.count();
    std::unique_lock lock(mutex);
    while (!done()) {
      if (now_ns() > end) return false;
      changed.wait_for(lock, 5ms);
    }
    return true;
  }
  void create(const std::string& json) { (void)client.create(Object::from_json(json).value()).wait(30s); }
};

std::string workload(const std::string& kind, const std::string& ns, const std::string& name, int replicas) {
  return R"({"apiVersion":"apps/v1","kind":")" + kind + R"(","metadata":{"name":")" + name +
         R"(","namespace":")" + ns + R"("},"spec":{"replicas":)" + std::to_string(replicas) +
         R"(,"selector":{"matchLabels":{"app":")" + name +
         R"("}},"template":{"metadata":{"labels":{"app":")" + name +
         R"("}},"spec":{"containers":[{"name":"main","image":"web"}]}}}})";
}

Metric measured(std::string name, bool done, double value, const char* unit, std::optional<double> goal,
                const char* op, std::string note) {
  if (!done)
    return {std::move(name), std::nullopt, unit, goal, op, std::nullopt, "not done within its time; " + note};
  return {std::move(name), value, unit, goal, op, std::nullopt, std::move(note)};
}

void replica_set(Report& report, int replicas) {
  Plane plane;
  const std::int64_t begin = now_ns();
  plane.create(workload("ReplicaSet", "default", "web", replicas));
  const bool done = plane.wait(
      [&] {
        return plane.seen.list({"v1", "pods"}).size() >= static_cast<std::size_t>(replicas);
      },
      120s);
  const double rate = static_cast<double>(replicas) * 1e9 / static_cast<double>(now_ns() - begin);
  report.add(measured(
      "replicaset_pods_created_per_s", done, rate, "pods/s", 20000.0,
      ">=", std::to_string(replicas) + " pods, one ReplicaSet, memory store, pods made ready meanwhile"));
}

void deployments(Report& report, int count, int replicas) {
  Plane plane;
  const std::int64_t begin = now_ns();
  for (int i = 0; i < count; ++i)
    plane.create(workload("Deployment", "default", "web-" + std::to_string(i), replicas));
  const bool done = plane.wait(
      [&] {
        for (const Object& deployment : plane.seen.list({"apps/v1", "deployments"})) {
          if (deployment.get_int("/status/availableReplicas") != replicas) return false;
        }
        return true;
      },
      180s);
  const double seconds = static_cast<double>(now_ns() - begin) / 1e9;
  const RunnerStats stats = plane.controllers.stats("deployment");
  report.add(measured("deployments_" + std::to_string(count) + "x" + std::to_string(replicas) + "_converge_s",
                      done, seconds, "s", std::nullopt, "<=", "pods become ready at once"));
  if (stats.reconciles > 0) {
    report.add({"reconcile_us_deployment_mean",
                static_cast<double>(stats.work_ns) / 1e3 / static_cast<double>(stats.reconciles), "us",
                std::nullopt, "<=", std::nullopt, "decision and writes, wall time under load"});
  }
}

void namespace_full(Report& report, int objects) {
  Plane plane;
  plane.create(R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"full"}})");
  std::vector<ApiRequest> requests;
  for (int i = 0; i < objects; ++i) {
    ApiRequest request;
    request.verb = "create";
    request.resource = "configmaps";
    request.ns = "full";
    request.body =
        R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c)" + std::to_string(i) + R"("}})";
    requests.push_back(std::move(request));
    if (requests.size() < 100 && i + 1 < objects) continue;
    (void)plane.client.batch(std::move(requests)).wait(30s);
    requests.clear();
  }
  const std::int64_t begin = now_ns();
  (void)plane.client.remove("v1", "namespaces", "full").wait(30s);
  const bool done = plane.wait([&] { return !plane.seen.get({"v1", "namespaces"}, "", "full"); }, 120s);
  const double seconds = static_cast<double>(now_ns() - begin) / 1e9;
  report.add(measured("namespace_delete_" + std::to_string(objects) + "_s", done, seconds, "s",
                      objects == 10000 ? std::optional(5.0) : std::nullopt, "<=", "ConfigMaps"));
}

void run(const Options& options, Report& report) {
  replica_set(report, options.quick ? 500 : 10000);
  deployments(report, options.quick ? 20 : 200, options.quick ? 5 : 10);
  namespace_full(report, options.quick ? 500 : 2000);
  if (!options.quick) namespace_full(report, 10000);
}

const bool registered = register_area("controllers", run);

}  // namespace
}  // namespace orchestra::bench
