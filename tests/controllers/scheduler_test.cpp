// The scheduler against a real API server in one process.
#include "orchestra/scheduler.hpp"

#include <chrono>

#include "tests/controllers/cluster.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using namespace std::chrono_literals;

namespace {

struct Scheduled : test::Cluster {
  Scheduled() : scheduler(engine, client, fast()) { pods_become_ready = false; }
  ~Scheduled() { scheduler.stop(); }
  static SchedulerOptions fast() {
    SchedulerOptions options;
    options.backoff_min = 10ms;
    options.backoff_max = 50ms;
    options.status_interval = 10ms;
    return options;
  }

  void add_node(const std::string& name, const std::string& cpu, const std::string& labels = "{}") {
    create("apiVersion: v1\nkind: Node\nmetadata: {name: " + name + ", labels: " + labels + "}\n");
    const auto done = client
                          .patch("v1", "nodes", name, "", PatchType::merge,
                                 R"({"status":{"allocatable":{"cpu":")" + cpu +
                                     R"(","memory":"8Gi","pods":"110"},"capacity":{"cpu":")" + cpu +
                                     R"(","memory":"8Gi","pods":"110"}}})",
                                 status())
                          .wait(10s);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    // Admission taints new nodes until somebody knows that they are well.
    REQUIRE(client.patch("v1", "nodes", name, "", PatchType::merge, R"({"spec":{"taints":null}})").wait(10s));
  }
  static WriteOptions status() {
    WriteOptions options;
    options.subresource = "status";
    return options;
  }
  void add_pod(const std::string& name, const std::string& cpu, const std::string& more = "") {
    create("apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
           ", namespace: default}\nspec:\n  containers:\n" +
           "  - {name: main, image: web, resources: {requests: {cpu: " + cpu + "}}}\n" + more);
  }
  std::string node_of(const std::string& pod) {
    return string_at(tree(get(pods(), "default", pod)), "/spec/nodeName");
  }
  std::string why(const std::string& pod) {
    const Object object = get(pods(), "default", pod);
    const json::object* condition = object ? find_condition(tree(object), "PodScheduled") : nullptr;
    return condition == nullptr ? "" : string_at(*condition, "/message");
  }
  std::string events_of(const std::string& pod) {
    std::string text;
    for (const Object& event : client.list("v1", "events", {.ns = "default"}).wait(10s).value().items) {
      if (event.get("/involvedObject/name") != pod) continue;
      text += event.get("/reason").value_or("") + ": " + event.get("/message").value_or("") + "\n";
    }
    return text;
  }
  Scheduler scheduler;
};

}  // namespace

TEST_CASE(
    "pods get nodes, the one that fits nowhere says why and is placed "
    "when a node can take it") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.add_node("n1", "1");
  for (const char* name : {"a", "b"}) cluster.add_pod(name, "500m");
  CHECK(cluster.eventually([&] { return cluster.node_of("a") == "n1" && cluster.node_of("b") == "n1"; }));
  cluster.add_pod("c", "200m");
  CHECK(cluster.eventually([&] {
    return cluster.why("c") ==
           "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes "
           "are available: "
           "1 No preemption victims found for incoming pod.";
  }));
  CHECK(cluster.eventually([&] {
    return cluster.events_of("c").find(
               "FailedScheduling: 0/1 nodes are "
               "available: 1 Insufficient cpu.") == 0;
  }));
  const auto table = cluster.scheduler.explain("default", "c");
  REQUIRE(table);
  CHECK(table->at(0).reasons == std::vector<std::string>{"Insufficient cpu"});

  // A pod that ends makes room for it.
  REQUIRE(cluster.client.remove("v1", "pods", "a", "default", {.grace_period_seconds = 0}).wait(10s));
  CHECK(cluster.eventually([&] { return cluster.node_of("c") == "n1"; }));
  CHECK(cluster.eventually([&] {
    return cluster.events_of("c").find("Scheduled: Successfully assigned default/c to n1") !=
           std::string::npos;
  }));
  const Object bound = cluster.get(pods(), "default", "c");
  CHECK(string_at(*find_condition(tree(bound), "PodScheduled"), "/status") == "True");
}

TEST_CASE(
    "node selectors and taints are kept, and a change of a node wakes "
    "who waits for it") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.add_node("n1", "4", "{disk: hdd}");
  cluster.add_pod("fast", "100m", "  nodeSelector: {disk: ssd}\n");
  CHECK_MESSAGE(cluster.eventually([&] {
    return cluster.why("fast").find("1 node(s) didn't match Pod's node affinity/selector.") !=
           std::string::npos;
  }),
                cluster.why("fast"), " ", cluster.scheduler.stats().waiting, " waiting ",
                cluster.scheduler.stats().backing_off, " backing off ", cluster.scheduler.stats().active,
                " active");
  REQUIRE(cluster.patch(nodes(), "", "n1", R"({"metadata":{"labels":{"disk":"ssd"}}})"));
  CHECK(cluster.eventually([&] { return cluster.node_of("fast") == "n1"; }));

  REQUIRE(cluster.patch(nodes(), "", "n1",
                        R"({"spec":{"taints":[{"key":"own","value":"yes","effect":"NoSchedule"}]}})"));
  cluster.add_node("n2", "1");
  // Pods and nodes come on two watches: the scheduler has to have heard of the taint.
  REQUIRE(cluster.eventually([&] {
    const auto table = cluster.scheduler.explain("default", "fast");
    return table && table->size() == 2 && table->at(0).reasons.size() == 1 &&
           table->at(0).reasons[0] == "node(s) had untolerated taint(s)";
  }));
  cluster.add_pod("any", "100m");
  cluster.add_pod("owner", "2", "  tolerations: [{key: own, operator: Exists}]\n");
  CHECK(
      cluster.eventually([&] { return cluster.node_of("any") == "n2" && cluster.node_of("owner") == "n1"; }));
}

TEST_CASE(
    "before there is any node the message says so; 200 pods are bound "
    "when one comes") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  for (int i = 0; i < 100; ++i) cluster.add_pod("p" + std::to_string(i), "10m");
  CHECK(cluster.eventually([&] { return cluster.why("p0") == "no nodes available to schedule pods"; }));
  cluster.add_node("n1", "8");
  cluster.add_node("n2", "8");
  for (int i = 100; i < 200; ++i) cluster.add_pod("p" + std::to_string(i), "10m");
  CHECK(cluster.eventually([&] {
    std::size_t bound = 0;
    for (const Object& pod : cluster.seen.list(pods(), "default")) {
      bound += string_at(tree(pod), "/spec/nodeName").empty() ? 0 : 1;
    }
    return bound == 200;
  }));
  CHECK(cluster.eventually([&] { return cluster.scheduler.stats().scheduled == 200; }));
  CHECK(cluster.scheduler.stats().in_flight == 0);
  // What it believes equals what is.
  const SchedulingSnapshot believed = cluster.scheduler.snapshot();
  const auto real = SchedulingSnapshot::from_objects(cluster.seen.list(nodes()), cluster.seen.list(pods()));
  for (const char* node : {"n1", "n2"}) CHECK(believed.used(node) == real.used(node));
}

TEST_CASE(
    "a pod of another scheduler, or one that somebody else bound, is "
    "left alone but counted") {
  Scheduled cluster;
  cluster.add_node("n1", "1");
  REQUIRE(cluster.scheduler.start());
  cluster.add_pod("foreign", "100m", "  schedulerName: other\n");
  cluster.add_pod("bound", "800m", "  nodeName: n1\n");
  cluster.add_pod("mine", "500m");
  CHECK(cluster.eventually(
      [&] { return cluster.why("mine").find("1 Insufficient cpu") != std::string::npos; }));
  CHECK(cluster.node_of("foreign").empty());
  CHECK(cluster.scheduler.snapshot().used("n1").at("cpu") == 800);
}
