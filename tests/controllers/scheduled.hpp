#pragma once
// A scheduler against a real API server in one process; nodes and pods are made by the tests.
#include <algorithm>
#include <chrono>
#include <string>

#include "orchestra/scheduler.hpp"
#include "tests/controllers/cluster.hpp"

namespace orchestra::test {

struct Scheduled : test::Cluster {
  explicit Scheduled(std::shared_ptr<Metrics> metrics = {}, SchedulerOptions options = fast())
      : scheduler(engine, client, with(std::move(options), std::move(metrics))) {
    pods_become_ready = false;
  }
  static SchedulerOptions with(SchedulerOptions options, std::shared_ptr<Metrics> metrics) {
    options.metrics = std::move(metrics);
    return options;
  }
  ~Scheduled() { scheduler.stop(); }
  static SchedulerOptions fast() {
    SchedulerOptions options;
    options.backoff_min = std::chrono::milliseconds(10);
    options.backoff_max = std::chrono::milliseconds(50);
    options.status_interval = std::chrono::milliseconds(10);
    options.unserved_after = std::chrono::milliseconds(50);
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
                          .wait(std::chrono::seconds(60));
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    // Admission taints new nodes until somebody knows that they are well.
    REQUIRE(client.patch("v1", "nodes", name, "", PatchType::merge, R"({"spec":{"taints":null}})")
                .wait(std::chrono::seconds(60)));
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
  /// Pods and nodes come on two watches: waits until the scheduler knows so many nodes, all of them well.
  void knows_nodes(std::size_t count) {
    add_pod("probe", "1m", "  schedulingGates: [{name: example.com/wait}]\n");
    REQUIRE(eventually([&] {
      const auto table = scheduler.explain("default", "probe");
      return table && table->size() == count &&
             std::all_of(table->begin(), table->end(),
                         [](const NodeVerdict& row) { return row.reasons.empty(); });
    }));
  }
  std::string node_of(const std::string& pod) {
    return string_at(tree(get(controllers::pods(), "default", pod)), "/spec/nodeName");
  }
  std::string why(const std::string& pod) {
    const Object object = get(controllers::pods(), "default", pod);
    const json::object* condition =
        object ? controllers::find_condition(tree(object), "PodScheduled") : nullptr;
    return condition == nullptr ? "" : string_at(*condition, "/message");
  }
  std::string events_of(const std::string& pod) {
    std::string text;
    for (const Object& event :
         client.list("v1", "events", {.ns = "default"}).wait(std::chrono::seconds(60)).value().items) {
      if (event.get("/involvedObject/name") != pod) continue;
      text += event.get("/reason").value_or("") + ": " + event.get("/message").value_or("") + "\n";
    }
    return text;
  }
  Scheduler scheduler;
};

}  // namespace orchestra::test
