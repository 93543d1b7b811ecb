// The rows of the node agent in orchestra-bench controllers: real pods of a one-node cluster in this process.
#include "bench/controllers_agent.hpp"

#include <malloc.h>
#include <stdlib.h>

#include <algorithm>
#include <set>

#include "base/fd.hpp"
#include "bench/one_node.hpp"

namespace orchestra::bench {
namespace {

using namespace std::chrono_literals;

constexpr const char* kName = "agent";

struct Node {
  Client client;
  std::string folder;

  /// Waits until `done`, looking every `pause`; seconds it took, or -1.
  template <class Done>
  static double seconds_until(Done done, double most, Duration pause = 2ms) {
    const std::int64_t begin = now_ns();
    while (true) {
      const double seconds = static_cast<double>(now_ns() - begin) / 1e9;
      if (done()) return seconds;
      if (seconds > most) return -1;
      const Promise<> nobody;
      (void)nobody.pending().wait(pause);
    }
  }
  std::size_t ready() const {
    auto pods = client.list("v1", "pods", {.ns = "default"}).wait(30s);
    if (!pods) return 0;
    return static_cast<std::size_t>(std::count_if(
        pods->items.begin(), pods->items.end(),
        [](const Object& pod) { return pod.get_bool("/status/containerStatuses/0/ready").value_or(false); }));
  }
  std::size_t pods() const {
    auto list = client.list("v1", "pods", {.ns = "default"}).wait(30s);
    return list ? list->items.size() : 1;
  }
  /// Waits until no pod and no event was written for 2 s: leases are renewed for ever, what pods go through
  /// comes to an end.
  void settle() const {
    std::string before;
    std::int64_t since = now_ns();
    (void)seconds_until(
        [&] {
          std::string now;
          for (const char* resource : {"pods", "events"}) {
            auto list = client.list("v1", resource, {.ns = "default"}).wait(30s);
            if (!list) return false;
            for (const Object& object : list->items) now += object.resource_version() + " ";
          }
          if (now != before) {
            before = std::move(now);
            since = now_ns();
          }
          return now_ns() - since > 2'000'000'000;
        },
        60, 100ms);
  }
  /// Milliseconds from before the one request that creates them until each of `count` pods without a probe is
  /// ready.
  Result<std::vector<double>> at_once(int count) const {
    std::vector<ApiRequest> requests;
    for (int i = 0; i < count; ++i) {
      ApiRequest request;
      request.verb = "create";
      request.resource = "pods";
      request.ns = "default";
      request.body = R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"once)" + std::to_string(i) +
                     R"("},"spec":{"terminationGracePeriodSeconds":0,)"
                     R"("containers":[{"name":"main","image":"bench/sleep:1"}]}})";
      requests.push_back(std::move(request));
    }
    ORC_ASSIGN(ObjectWatch watch, client.watch("v1", "pods", {.ns = "default"}));
    const std::int64_t begin = now_ns();
    ORC_ASSIGN(const auto made, client.batch(std::move(requests)).wait(60s));
    for (const auto& one : made) ORC_TRY(one);
    std::vector<double> times;
    std::set<std::string> seen;
    while (times.size() < static_cast<std::size_t>(count) && now_ns() - begin < 60'000'000'000) {
      auto changes = watch.next(1s);
      if (!changes) continue;
      for (const ObjectChange& change : *changes) {
        const Object& pod = change.object;
        if (!pod.get_bool("/status/containerStatuses/0/ready").value_or(false)) continue;
        if (seen.insert(pod.name()).second) times.push_back(static_cast<double>(now_ns() - begin) / 1e6);
      }
    }
    if (times.size() < static_cast<std::size_t>(count))
      return Error(
          Error::deadline_exceeded, "bench",
          std::to_string(times.size()) + " of " + std::to_string(count) + " pods were ready in 60 s");
    return times;
  }
  Result<void> create(int count, const std::string& prefix) const {
    std::vector<ApiRequest> requests;
    for (int i = 0; i < count; ++i) {
      ApiRequest request;
      request.verb = "create";
      request.resource = "pods";
      request.ns = "default";
      request.body =
          R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + prefix + std::to_string(i) +
          R"("},"spec":{"containers":[{"name":"main","image":"bench/sleep:1",)"
          R"("command":["/bin/busybox","sh","-c","trap 'exit 0' TERM; /bin/busybox sleep 100000 & wait"],)"
          R"("readinessProbe":{"exec":{"command":["/bin/busybox","true"]},"periodSeconds":10},)"
          R"("volumeMounts":[{"name":"settings","mountPath":"/settings"}]}],)"
          R"("volumes":[{"name":"settings","configMap":{"name":"settings"}}]}})";
      requests.push_back(std::move(request));
    }
    ORC_ASSIGN(const auto made, client.batch(std::move(requests)).wait(60s));
    for (const auto& one : made) ORC_TRY(one);
    return {};
  }
  /// How many mounted volumes show this version of the ConfigMap.
  int showing(const std::vector<Object>& pods, const std::string& version) const {
    int count = 0;
    for (const Object& pod : pods) {
      const std::string path = folder + "/data/pods/" + pod.uid() + "/volumes/settings/version";
      if (read_file(path, 4096).value_or("") == version) ++count;
    }
    return count;
  }
};

Metric row(const std::string& name, double value, const std::string& unit, std::optional<double> goal,
           const std::string& op, const std::string& note) {
  if (value < 0) return {name, std::nullopt, unit, goal, op, std::nullopt, "did not come to its end in time"};
  return {name, value, unit, goal, op, std::nullopt, note};
}

/// What the program has allocated and not given back, whatever the allocator keeps beside it.
double heap_bytes() {
  const struct mallinfo2 heap = mallinfo2();
  return static_cast<double>(heap.uordblks + heap.hblkhd);
}

Result<void> measure(const Options& options, Report& report, const std::string& folder) {
  const int many = options.quick ? 20 : 100;
  ORC_TRY(make_image(folder));
  {
    Engine engine;
    Cluster cluster(engine, options_of(folder + "/data"));
    ORC_TRY(cluster.start());
    const Node node{cluster.client(), folder};
    ORC_TRY(pod_ready_ms(node.client, "warm"));
    std::vector<double> one;
    for (int i = 0; i < (options.quick ? 10 : 40); ++i) {
      ORC_ASSIGN(const double ms, pod_ready_ms(node.client, "p" + std::to_string(i)));
      one.push_back(ms);
      (void)node.client.remove("v1", "pods", "p" + std::to_string(i), "default").wait(10s);
    }
    const std::string note = "image present, no probe, one after another";
    report.add(row("pod_created_to_ready_ms p50", percentile(one, 0.5), "ms", 60, "<=", note));
    report.add(row("pod_created_to_ready_ms p99", percentile(one, 0.99), "ms", 200, "<=", note));
    (void)node.client.remove("v1", "pods", "warm", "default").wait(10s);
    (void)Node::seconds_until([&] { return node.pods() == 0; }, 30);

    constexpr int kAtOnce = 50;
    ORC_ASSIGN(const std::vector<double> once, node.at_once(kAtOnce));
    report.add(row("pod_created_to_ready_ms{at once} p99", percentile(once, 0.99), "ms", 1000, "<=",
                   std::to_string(kAtOnce) + " pods in one request, image present, no probe; each from "
                                             "before that request until a watch shows it ready"));
    ORC_TRY(node.client.remove_collection("v1", "pods", {.ns = "default"}).wait(60s));
    (void)Node::seconds_until([&] { return node.pods() == 0; }, 60);
    node.settle();
    const double heap = heap_bytes();

    ORC_TRY(node.client
                .create(*Object::from_yaml(
                    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: "
                    "default}\ndata: {version: '1'}\n"))
                .wait(10s));
    const std::string count =
        std::to_string(many) + " pods at once, each with a ConfigMap volume and an exec probe";
    ORC_TRY(node.create(many, kName));
    const double started =
        Node::seconds_until([&] { return node.ready() == static_cast<std::size_t>(many); }, 120);
    report.add(row("pods_started_per_s", started < 0 ? -1 : many / started, "pods/s", 50, ">=", count));

    ORC_ASSIGN(const ObjectList pods, node.client.list("v1", "pods", {.ns = "default"}).wait(10s));
    node.settle();
    report.add(row("agent_bytes_per_pod", (heap_bytes() - heap) / many, "B", 65536, "<=",
                   std::to_string(many) +
                       " idle pods; growth of what the whole program has allocated, its API "
                       "server included, without the pods' shims"));
    const std::int64_t cpu = cpu_ns(), wall = now_ns();
    const Promise<> nobody;
    (void)nobody.pending().wait(options.quick ? 3s : 20s);  // one wait: looking each 2 ms cost more than the pods
    report.add(row(
        "agent_cpu_percent_idle",
        100.0 * static_cast<double>(cpu_ns() - cpu) / static_cast<double>(now_ns() - wall), "% of a core", 1,
        "<=",
        std::to_string(many) + " idle pods, exec probes each 10 s; the whole program with its API server"));

    std::vector<double> visible;
    for (int version = 2; version < 7; ++version) {
      const std::string text = std::to_string(version);
      ORC_TRY(node.client
                  .patch("v1", "configmaps", "settings", "default", PatchType::merge,
                         R"({"data":{"version":")" + text + "\"}}")
                  .wait(10s));
      const double seconds = Node::seconds_until([&] { return node.showing(pods.items, text) == many; }, 60);
      if (seconds < 0)
        return Error(Error::deadline_exceeded, "bench", "version " + text + " was not seen by all pods");
      visible.push_back(seconds * 1000);
    }
    report.add(row("configmap_update_visible_ms", percentile(visible, 0.99), "ms", 2000,
                   "<=", "until the last of " + std::to_string(many) + " pods shows it, worst of five"));
    cluster.stop();
  }
  {
    Engine engine;
    Cluster cluster(engine, options_of(folder + "/data"));
    const std::int64_t begin = now_ns();
    ORC_TRY(cluster.start());
    const Node node{cluster.client(), folder};
    const double adopted =
        Node::seconds_until([&] { return node.ready() == static_cast<std::size_t>(many); }, 60);
    const double ms = static_cast<double>(now_ns() - begin) / 1e6;
    std::int64_t restarts = 0;
    ORC_ASSIGN(const ObjectList pods, node.client.list("v1", "pods", {.ns = "default"}).wait(10s));
    for (const Object& pod : pods.items)
      restarts += pod.get_int("/status/containerStatuses/0/restartCount").value_or(0);
    report.add(row("adopt_ms", adopted < 0 ? -1 : ms, "ms", 500, "<=",
                   std::to_string(many) + " pods, whole start of the program after stop(), " +
                       std::to_string(restarts) + " restarts; kill -9 is tests/e2e/survival.sh"));
    const std::int64_t ending = now_ns();
    ORC_TRY(node.client.remove_collection("v1", "pods", {.ns = "default"}).wait(60s));
    const double ended = Node::seconds_until([&] { return node.pods() == 0; }, 120);
    report.add(row("pods_ended_per_s", ended < 0 ? -1 : many / (static_cast<double>(now_ns() - ending) / 1e9),
                   "pods/s", 50,
                   ">=", "with 30 s of grace, their programs end by SIGTERM; until their objects are gone"));
    return cluster.down(60s);
  }
}

}  // namespace

void agent_rows(const Options& options, Report& report) {
  const char* missing = "needs root and a network namespace of its own";
  if (!enter_own_network())
    return report.add({"pods_started_per_s", std::nullopt, "pods/s", 50, ">=", std::nullopt, missing});
  char folder[] = "/tmp/orc-bench-XXXXXX";
  if (mkdtemp(folder) == nullptr) return;
  auto measured = measure(options, report, folder);
  if (!measured) {
    report.add(
        {"agent_error", std::nullopt, "", std::nullopt, "<=", std::nullopt, measured.error().to_string()});
    Engine engine;
    Cluster cluster(engine, options_of(std::string(folder) + "/data"));
    if (cluster.start()) (void)cluster.down(60s);
  }
  (void)remove_tree(folder);
}

}  // namespace orchestra::bench
