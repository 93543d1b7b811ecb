// orchestra-bench controllers: pods made by one ReplicaSet, the cost of a decision, deployments until they
// are complete, a namespace full of objects until it is gone, owners collected with their dependants, and
// what a quiet cluster costs; all in one process on the memory store. The agent's rows:
// controllers_agent.cpp.
#include <condition_variable>
#include <functional>
#include <mutex>

#include <sys/resource.h>

#include <algorithm>

#include "bench/bench.hpp"
#include "bench/controllers_agent.hpp"
#include "controllers/builtin.hpp"
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
          ResourceRef{"apps/v1", "replicasets"}, ResourceRef{"v1", "configmaps"}}) {
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
        return plane.seen.informer({"v1", "pods"}).cache().size() >= static_cast<std::size_t>(replicas);
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
        const std::vector<Object> seen = plane.seen.list({"apps/v1", "deployments"});
        if (seen.size() != static_cast<std::size_t>(count)) return false;
        for (const Object& deployment : seen) {
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

// Objects in plain caches: what a decision alone costs.
struct CacheView : View {
  std::map<ResourceRef, std::unique_ptr<ObjectCache>> caches;
  ObjectCache& of(const ResourceRef& resource) {
    auto& slot = caches[resource];
    if (!slot) slot = std::make_unique<ObjectCache>();
    return *slot;
  }
  const ObjectCache* cache(const ResourceRef& resource) const override {
    return &const_cast<CacheView*>(this)->of(resource);
  }
};

std::string owned(const std::string& kind, const std::string& api, const std::string& owner) {
  return R"("ownerReferences":[{"apiVersion":")" + api + R"(","kind":")" + kind + R"(","name":")" + owner +
         R"(","uid":"u-)" + owner + R"(","controller":true}])";
}

// One workload of `kind` with two running pods behind it (through a ReplicaSet for a Deployment).
void add_workload(CacheView& view, const std::string& kind, int i) {
  const std::string name = "w" + std::to_string(i);
  const std::string hash = kind == "Deployment" ? R"(,"pod-template-hash":"h")" : "";
  const std::string labels = R"("labels":{"app":")" + name + "\"" + hash + "}";
  const std::string pod_template =
      R"("template":{"metadata":{)" + labels + R"(},"spec":{"containers":[{"name":"c","image":"i"}]}})";
  const std::string selector = R"("selector":{"matchLabels":{"app":")" + name + "\"" + hash + "}}";
  const auto put = [&](const ResourceRef& resource, const std::string& json) {
    view.of(resource).put(Object::from_json(json).value());
  };
  std::string owner = name;
  std::string owner_kind = kind;
  if (kind == "Job") {
    put({"batch/v1", "jobs"}, R"({"apiVersion":"batch/v1","kind":"Job","metadata":{"name":")" + name +
                                  R"(","namespace":"d","uid":"u-)" + name +
                                  R"("},"spec":{"parallelism":2,"completions":2,)" + selector + "," +
                                  pod_template + "}}");
  } else {
    if (kind == "Deployment") {
      put({"apps/v1", "deployments"}, R"({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":")" +
                                          name + R"(","namespace":"d","uid":"u-)" + name +
                                          R"("},"spec":{"replicas":2,"selector":{"matchLabels":{"app":")" +
                                          name + R"("}},"template":{"metadata":{"labels":{"app":")" + name +
                                          R"("}},"spec":{"containers":[{"name":"c","image":"i"}]}}}})");
      owner = name + "-h";
      owner_kind = "ReplicaSet";
    }
    put({"apps/v1", "replicasets"},
        R"({"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":")" + owner +
            R"(","namespace":"d","uid":"u-)" + owner + "\"," + labels +
            (kind == "Deployment" ? "," + owned("Deployment", "apps/v1", name) : "") +
            R"(},"spec":{"replicas":2,)" + selector + "," + pod_template +
            R"(},"status":{"replicas":2,"readyReplicas":2,"availableReplicas":2,"fullyLabeledReplicas":2}})");
  }
  for (int pod = 0; pod < 2; ++pod) {
    put({"v1", "pods"},
        R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + owner + "-" + std::to_string(pod) +
            R"(","namespace":"d","uid":"p-)" + owner + std::to_string(pod) + "\"," + labels + "," +
            owned(owner_kind, owner_kind == "Job" ? "batch/v1" : "apps/v1", owner) +
            R"(},"spec":{"nodeName":"n"},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z"}]}})");
  }
}

// Writes into the view what is decided about `key` until nothing is: the object is at rest, as nearly all
// objects of a cluster are. True: it came to rest.
bool bring_to_rest(const Reconciler& reconciler, CacheView& view, const std::string& key, Now now) {
  for (int round = 0; round < 5; ++round) {
    const Actions actions = reconciler.decide(key, view, now);
    if (actions.empty()) return true;
    for (const Action& action : actions.list) {
      if (action.verb == Action::Verb::create) return false;
      if (action.verb == Action::Verb::update) view.of(action.resource).put(action.object);
    }
  }
  return false;
}

void decisions(Report& report, int count) {
  for (const auto& [kind, name] : {std::pair<std::string, std::string>{"Deployment", "deployment"},
                                   {"ReplicaSet", "replicaset"},
                                   {"Job", "job"}}) {
    CacheView view;
    for (int i = 0; i < count; ++i) add_workload(view, kind, i);
    const auto reconciler = controllers::make_reconciler(name, {});
    const Now now{1'767'225'600'000'000'000, 1};
    int at_rest = 0;
    for (int i = 0; i < count; ++i) {
      if (bring_to_rest(*reconciler, view, "d/w" + std::to_string(i), now)) ++at_rest;
    }
    std::vector<double> times;
    for (int round = 0; round < 5; ++round) {
      for (int i = 0; i < count; ++i) {
        const std::int64_t begin = now_ns();
        (void)reconciler->decide("d/w" + std::to_string(i), view, now);
        times.push_back(static_cast<double>(now_ns() - begin) / 1e3);
      }
    }
    std::sort(times.begin(), times.end());
    const std::string note = std::to_string(count) + " objects with two pods each, " +
                             std::to_string(at_rest) + " of them at rest, decide() alone";
    report.add(
        {"reconcile_us{" + name + "} p50", times[times.size() / 2], "us", 20.0, "<=", std::nullopt, note});
    report.add({"reconcile_us{" + name + "} p99", times[times.size() * 99 / 100], "us", 200.0,
                "<=", std::nullopt, note});
  }
}

void garbage(Report& report, int dependants) {
  Plane plane;
  plane.create(R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"owner","namespace":"default"}})");
  const auto owner = plane.client.get("v1", "configmaps", "owner", "default").wait(10s);
  if (!owner) return;
  std::vector<ApiRequest> requests;
  for (int i = 0; i < dependants; ++i) {
    ApiRequest request;
    request.verb = "create";
    request.resource = "configmaps";
    request.ns = "default";
    request.body = R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d)" + std::to_string(i) +
                   R"(","ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":")" +
                   owner->uid() + R"("}]}})";
    requests.push_back(std::move(request));
    if (requests.size() < 100 && i + 1 < dependants) continue;
    (void)plane.client.batch(std::move(requests)).wait(30s);
    requests.clear();
  }
  const std::int64_t begin = now_ns();
  (void)plane.client.remove("v1", "configmaps", "owner", "default").wait(30s);
  const bool done = plane.wait(
      [&] {
        const auto left = plane.seen.list({"v1", "configmaps"}, "default");
        return std::all_of(left.begin(), left.end(),
                           [](const Object& one) { return one.name() == "kube-root-ca.crt"; });
      },
      120s);
  const double rate = static_cast<double>(dependants) * 1e9 / static_cast<double>(now_ns() - begin);
  report.add(measured("gc_objects_per_s", done, rate, "objects/s", 10000.0,
                      ">=", std::to_string(dependants) + " dependants of one owner, background"));
}

double cpu_seconds() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

void idle(Report& report, int pods, Duration window) {
  Plane plane;
  plane.create(workload("ReplicaSet", "default", "web", pods));
  const bool ready = plane.wait(
      [&] {
        const Object set = plane.seen.get({"apps/v1", "replicasets"}, "default", "web");
        return set && set.get_int("/status/readyReplicas") == pods;
      },
      180s);
  (void)plane.wait([&] { return plane.controllers.idle(); }, 30s);
  const std::int64_t before = plane.store->revision();
  const double cpu = cpu_seconds();
  const Promise<> nobody;
  (void)nobody.pending().wait(window);
  const double seconds = static_cast<double>(window.count()) / 1e9;
  const std::int64_t after = plane.store->revision();
  const std::string note = std::to_string(pods) + " pods, nothing happens, " +
                           std::to_string(static_cast<int>(seconds)) + " s watched";
  report.add(measured("idle_writes_per_min", ready, static_cast<double>(after - before) * 60 / seconds,
                      "writes/min", 0.0, "<=", note + "; there is no node, so no lease"));
  report.add(measured("idle_cpu_percent", ready, (cpu_seconds() - cpu) * 100 / seconds, "% of a core", 1.0,
                      "<=", note));
}

void run_controllers(const Options& options, Report& report) {
  decisions(report, options.quick ? 200 : 1000);
  garbage(report, options.quick ? 500 : 10000);
  idle(report, options.quick ? 500 : 10000, options.quick ? 3s : 20s);

  replica_set(report, options.quick ? 500 : 10000);
  deployments(report, options.quick ? 20 : 200, options.quick ? 5 : 10);
  namespace_full(report, options.quick ? 500 : 2000);
  if (!options.quick) namespace_full(report, 10000);
  agent_rows(options, report);
}

const bool controllers_registered = register_area("controllers", run_controllers);

}  // namespace
}  // namespace orchestra::bench
