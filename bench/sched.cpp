// orchestra-bench sched: decisions of the scheduler's pure core, and pods created to bound in one process
// (API semantics, store, watches and scheduler included, as upstream's scheduler_perf counts them).
#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <iterator>
#include <mutex>

#include "base/fd.hpp"
#include "bench/bench.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/gang.hpp"
#include "orchestra/informer.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/raft_store.hpp"
#include "orchestra/scheduler.hpp"
#include "orchestra/what_if.hpp"

namespace orchestra::bench {
namespace {

using namespace std::chrono_literals;

NodeShape node_shape(int index) {
  NodeShape node;
  node.name = "node-" + std::to_string(index);
  node.labels["kubernetes.io/hostname"] = node.name;
  node.labels["topology.kubernetes.io/zone"] = std::string(1, static_cast<char>('a' + index % 3));
  node.labels["disk"] = index % 2 == 0 ? "ssd" : "hdd";
  node.allocatable = {{"cpu", 16000}, {"memory", 64LL << 30}, {"pods", 110}};
  return node;
}

// Pods of `kinds` workloads: equal but for their label.
PodShape pod_shape(int index, int kinds) {
  PodShape pod;
  pod.ns = "bench";
  pod.name = pod.uid = "pod-" + std::to_string(index);
  pod.labels["app"] = "app-" + std::to_string(index % kinds);
  pod.requests = {{"cpu", 100}, {"memory", 128LL << 20}};
  pod.score_millicores = 100;
  pod.score_memory_bytes = 128LL << 20;
  return pod;
}

PodTerm same_app(const PodShape& pod, const std::string& key) {
  PodTerm term;
  term.topology_key = key;
  term.namespaces = {pod.ns};
  term.selector = Selector::from_map(pod.labels);
  return term;
}

struct Case {
  std::string name;
  int pods = 0;
  std::optional<double> goal;
  std::string note;
  std::function<PodShape(int)> make;
};

std::string per_pod(double rate) {
  char text[48];
  std::snprintf(text, sizeof text, "%.2f us per pod, ", 1e6 / rate);
  return text;
}

// Decisions of the pure core, with the full default profile; every placement is assumed before the next.
void decisions(Report& report, int nodes, const Case& what) {
  SchedulingSnapshot snapshot;
  for (int i = 0; i < nodes; ++i) snapshot.set_node(node_shape(i));
  int refused = 0;
  const std::int64_t begin = now_ns();
  for (int i = 0; i < what.pods; ++i) {
    const PodShape pod = what.make(i);
    const Decision decision = place(snapshot, pod);
    if (decision.placement() != nullptr) {
      snapshot.assume(pod, decision.placement()->node);
    } else {
      ++refused;
    }
  }
  const double rate = static_cast<double>(what.pods) * 1e9 / static_cast<double>(now_ns() - begin);
  report.add({what.name + "_" + std::to_string(nodes) + "_nodes", rate, "pods/s", what.goal,
              ">=", std::nullopt,
              what.note + "; every node examined, " + per_pod(rate) + std::to_string(what.pods) + " pods, " +
                  std::to_string(refused) + " refused, " + std::to_string(snapshot.remembered_bytes() >> 10) +
                  " KiB remembered"});
}

std::vector<Case> cases(int nodes, bool quick) {
  const auto count = [&](int usual) { return quick ? std::max(20, usual / 20) : usual; };
  const int walks = nodes >= 50000 ? 500 : 5000;
  const auto goal = [&](double at_5000) { return nodes == 5000 ? std::optional(at_5000) : std::nullopt; };
  std::optional<double> decide;
  if (nodes == 5000) decide = 20000;
  if (nodes == 50000) decide = 5000;
  return {
      {"decide_pods_per_s", count(20000), decide, "100 kinds of pods",
       [](int i) { return pod_shape(i, 100); }},
      {"decide_one_kind", count(20000), std::nullopt, "one kind of pods",
       [](int i) { return pod_shape(i, 1); }},
      {"spread_hard", count(walks), goal(4000), "zone spread, maxSkew 1, 10 kinds",
       [](int i) {
         PodShape pod = pod_shape(i, 10);
         SpreadConstraint rule;
         rule.topology_key = "topology.kubernetes.io/zone";
         rule.selector = Selector::from_map(pod.labels);
         pod.spread = {rule};
         return pod;
       }},
      {"spread_default", count(walks), goal(4000), "system default constraints, 10 kinds",
       [](int i) {
         PodShape pod = pod_shape(i, 10);
         pod.default_spread = Selector::from_map(pod.labels);
         return pod;
       }},
      {"affinity_required", count(walks), goal(2000), "zone affinity, 10 kinds",
       [](int i) {
         PodShape pod = pod_shape(i, 10);
         pod.affinity = {same_app(pod, "topology.kubernetes.io/zone")};
         return pod;
       }},
      {"anti_affinity_required", std::min(nodes, count(walks)), goal(2000), "host anti-affinity, 10 kinds",
       [](int i) {
         PodShape pod = pod_shape(i, 10);
         pod.anti_affinity = {same_app(pod, "kubernetes.io/hostname")};
         return pod;
       }},
      {"affinity_preferred", count(walks), goal(2000), "zone preference, 10 kinds",
       [](int i) {
         PodShape pod = pod_shape(i, 10);
         PodTerm term = same_app(pod, "topology.kubernetes.io/zone");
         term.weight = 10;
         pod.preferred_affinity = {term};
         return pod;
       }},
      {"affinity_namespace_selector", count(walks), goal(2000), "host anti-affinity over 100 namespaces",
       [](int i) {
         PodShape pod = pod_shape(i, 10);
         pod.ns = "bench-" + std::to_string(i % 100);
         PodTerm term = same_app(pod, "kubernetes.io/hostname");
         term.namespaces.clear();
         term.namespace_selector = Selector();
         term.selector = Selector::from_map({{"app", "app-0"}});
         if (i % 10 == 0) pod.anti_affinity = {term};
         return pod;
       }},
  };
}

std::size_t resident_bytes();

// Each pod has a claim of its own that waits for it, of a class that makes volumes in one zone of three.
void volumes(Report& report, int nodes, int pods) {
  SchedulingSnapshot snapshot;
  for (int i = 0; i < nodes; ++i) snapshot.set_node(node_shape(i));
  StorageClassShape made;
  made.name = "made";
  made.provisioner = "example.com/zonal";
  made.waits_for_pod = true;
  NodeTerm zone;
  zone.labels = {{"topology.kubernetes.io/zone", "In", {"a"}}};
  made.topologies = {zone};
  snapshot.set_storage_class(made);
  int refused = 0;
  const std::int64_t begin = now_ns();
  for (int i = 0; i < pods; ++i) {
    PodShape pod = pod_shape(i, 10);
    ClaimShape claim;
    claim.ns = pod.ns;
    claim.name = "claim-" + std::to_string(i);
    claim.uid = claim.name;
    claim.storage_class = "made";
    claim.bytes = 1 << 30;
    claim.access_modes = {"ReadWriteOnce"};
    snapshot.set_claim(claim);
    pod.claims = {claim.name};
    const Decision decision = place(snapshot, pod);
    if (decision.placement() == nullptr) {
      ++refused;
    } else {
      snapshot.assume(pod, decision.placement()->node);
    }
  }
  report.add({"volumes_wait_for_pod_" + std::to_string(nodes) + "_nodes",
              static_cast<double>(pods) * 1e9 / static_cast<double>(now_ns() - begin), "pods/s",
              nodes == 5000 ? std::optional(2000.0) : std::nullopt, ">=", std::nullopt,
              std::to_string(pods) + " pods, each with a claim of its own of a zonal class, " +
                  std::to_string(refused) + " refused; decisions only"});
}

// scheduler_perf's small pods, as many as it ever had; decisions and assumptions, without API and store.
void million(Report& report) {
  SchedulingSnapshot snapshot;
  constexpr int kNodes = 50'000;
  constexpr int kPods = 1'000'000;
  for (int i = 0; i < kNodes; ++i) snapshot.set_node(node_shape(i));
  int refused = 0;
  const std::int64_t begin = now_ns();
  for (int i = 0; i < kPods; ++i) {
    const PodShape pod = pod_shape(i, 100);
    const Decision decision = place(snapshot, pod);
    if (decision.placement() == nullptr) {
      ++refused;
    } else {
      snapshot.assume(pod, decision.placement()->node);
    }
  }
  report.add({"million_pods_50000_nodes", static_cast<double>(now_ns() - begin) / 1e9, "s", 150.0,
              "<=", std::nullopt,
              "decisions only, without API and store; 100 kinds, " + std::to_string(refused) + " refused, " +
                  std::to_string(resident_bytes() >> 20) + " MiB resident (goal 4 GB)"});
}

// A full cluster of low-priority pods; each preemptor decides, its victims go, it is placed.
void preemption(Report& report, int nodes, int preemptors) {
  SchedulingSnapshot snapshot;
  for (int i = 0; i < nodes; ++i) {
    NodeShape node = node_shape(i);
    node.allocatable["cpu"] = 4000;
    snapshot.set_node(node);
    for (int j = 0; j < 4; ++j) {
      PodShape low = pod_shape(i * 4 + j, 1);
      low.requests["cpu"] = 900;
      snapshot.assume(low, node.name);
    }
  }
  int bound = 0;
  const std::int64_t begin = now_ns();
  for (int i = 0; i < preemptors; ++i) {
    PodShape pod = pod_shape(1'000'000 + i, 1);
    pod.requests["cpu"] = 3000;
    pod.priority = 10;
    if (place(snapshot, pod).placement() != nullptr) continue;
    const Preemption plan = preempt(snapshot, pod);
    if (plan.node.empty()) continue;
    snapshot.nominate(pod, plan.node);
    for (const std::string& victim : plan.victims) snapshot.forget(victim);
    const Decision again = place(snapshot, pod);
    if (again.placement() == nullptr) continue;
    snapshot.assume(pod, again.placement()->node);
    ++bound;
  }
  Metric metric{"preempt_pods_per_s_" + std::to_string(nodes) + "_nodes",
                static_cast<double>(preemptors) * 1e9 / static_cast<double>(now_ns() - begin),
                "pods/s",
                nodes == 5000 ? std::optional(1000.0) : std::nullopt,
                ">=",
                std::nullopt,
                std::to_string(preemptors) + " preemptors, " + std::to_string(bound) +
                    " placed; decisions only, victims go at once"};
  report.add(metric);
}

// explain() of one pod over all nodes.
void explaining(Report& report, int nodes) {
  SchedulingSnapshot snapshot;
  for (int i = 0; i < nodes; ++i) snapshot.set_node(node_shape(i));
  constexpr int kTimes = 20;
  std::size_t rows = explain(snapshot, pod_shape(0, 1)).size();
  const std::int64_t begin = now_ns();
  for (int i = 0; i < kTimes; ++i) rows += explain(snapshot, pod_shape(0, 1)).size();
  report.add({"explain_us_" + std::to_string(nodes) + "_nodes",
              static_cast<double>(now_ns() - begin) / 1e3 / kTimes, "us",
              nodes == 5000 ? std::optional(500.0) : std::nullopt, "<=", std::nullopt,
              std::to_string(rows / (kTimes + 1)) + " rows, as strings"});
}

// Gangs of 64 pods, all or nothing.
void gangs(Report& report, int nodes, int gang_count) {
  constexpr int kMembers = 64;
  SchedulingSnapshot snapshot;
  for (int i = 0; i < nodes; ++i) snapshot.set_node(node_shape(i));
  int placed = 0;
  const std::int64_t begin = now_ns();
  for (int i = 0; i < gang_count; ++i) {
    std::vector<PodShape> members;
    for (int j = 0; j < kMembers; ++j) members.push_back(pod_shape(i * kMembers + j, 1));
    for (PodShape& member : members) member.labels["app"] = "gang-" + std::to_string(i);
    if (place_gang(snapshot, members, 0, kMembers).placed) ++placed;
  }
  report.add({"gang_" + std::to_string(nodes) + "_nodes",
              static_cast<double>(gang_count) * kMembers * 1e9 / static_cast<double>(now_ns() - begin),
              "pods/s", nodes == 5000 ? std::optional(3000.0) : std::nullopt, ">=", std::nullopt,
              std::to_string(gang_count) + " gangs of 64 pods, " + std::to_string(placed) +
                  " placed whole; decisions only"});
}

// What nodes and pods take in a snapshot, and a thousand branches of it.
void memory_and_branches(Report& report, int nodes, int pods) {
  const std::size_t at_first = resident_bytes();
  auto snapshot = std::make_shared<SchedulingSnapshot>();
  for (int i = 0; i < nodes; ++i) snapshot->set_node(node_shape(i));
  const std::size_t with_nodes = resident_bytes();
  for (int i = 0; i < pods; ++i) {
    PodShape pod = pod_shape(i, 10);
    pod.uid += "-0000-4000-8000-" + std::string(36 - 15 - pod.uid.size(), '0');  // as long as UIDs are
    const Decision decision = place(*snapshot, pod);
    if (decision.placement() != nullptr) snapshot->assume(pod, decision.placement()->node);
  }
  const std::size_t with_pods = resident_bytes();
  const std::string size = std::to_string(nodes) + "_nodes";
  report.add({"bytes_per_node_" + size, static_cast<double>(with_nodes - at_first) / nodes, "B", 2048.0,
              "<=", std::nullopt, "growth of the process; names and labels included"});
  report.add(
      {"bytes_per_pod_" + size,
       (static_cast<double>(with_pods - with_nodes) - static_cast<double>(snapshot->remembered_bytes())) /
           pods,
       "B", 256.0, "<=", std::nullopt,
       std::to_string(pods) + " placed pods of 10 kinds; without the " +
           std::to_string(snapshot->remembered_bytes() >> 10) + " KiB that are remembered of kinds"});
  constexpr int kBranches = 1000;
  std::vector<WhatIf> branches;
  branches.reserve(kBranches);
  const std::size_t before = resident_bytes();
  const std::int64_t begin = now_ns();
  for (int i = 0; i < kBranches; ++i) {
    branches.emplace_back(snapshot);
    branches.back().add_node(node_shape(nodes + i)).remove_node("node-" + std::to_string(i));
  }
  report.add({"whatif_branch_us_" + size, static_cast<double>(now_ns() - begin) / 1e3 / kBranches, "us",
              100.0, "<=", std::nullopt,
              "made, with one node more and one less; " + std::to_string(kBranches) + " of them alive take " +
                  std::to_string((resident_bytes() - before) >> 10) + " KiB (goal 10 MB)"});
  const std::vector<PodShape> asked{pod_shape(pods, 1)};
  const std::int64_t ask = now_ns();
  constexpr int kAsked = 5;
  std::size_t found = 0;
  for (int i = 0; i < kAsked; ++i)
    found += branches[static_cast<std::size_t>(i)].schedule(asked).placed.size();
  report.add({"whatif_ask_us_" + size, static_cast<double>(now_ns() - ask) / 1e3 / kAsked, "us", std::nullopt,
              "<=", std::nullopt,
              "one pod on a branch: a copy of the snapshot, " + std::to_string(found) + " placed"});
}

std::size_t resident_bytes() {
  const std::string text = read_file("/proc/self/statm", 4096).value_or("");
  const auto space = text.find(' ');
  return space == std::string::npos ? 0 : std::strtoull(text.c_str() + space, nullptr, 10) * 4096;
}

std::int64_t cpu_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::string node_json(int index) {
  return R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"node-)" + std::to_string(index) +
         R"("},"status":{"allocatable":{"cpu":"16","memory":"64Gi","pods":"110"}}})";
}

// One pod after another, in a cluster where nothing else happens.
void latency(Report& report, int nodes, const Client& client, std::mutex& mutex,
             std::condition_variable& changed, const int& bound, int before) {
  std::vector<double> times;
  for (int i = 0; i < 50; ++i) {
    const auto pod = Object::from_json(
        R"({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"default","name":"one-)" +
        std::to_string(i) + R"("},"spec":{"containers":[{"name":"main","image":"web"}]}})");
    const std::int64_t begin = now_ns();
    if (!pod || !client.create(*pod).wait(10s)) return;
    std::unique_lock lock(mutex);
    if (!changed.wait_for(lock, 10s, [&] { return bound == before + i + 1; })) return;
    times.push_back(static_cast<double>(now_ns() - begin) / 1e6);
  }
  report.add({"idle_latency_ms_" + std::to_string(nodes) + "_nodes", percentile(times, 0.5), "ms", 2.0,
              "<=", std::nullopt, "median of 50 pods, created to bound, memory store"});
}

/// Sends them in batches; false: some was refused.
bool send_all(const Client& client, std::vector<ApiRequest> requests) {
  for (std::size_t at = 0; at < requests.size(); at += 250) {
    const std::size_t end = std::min(requests.size(), at + 250);
    const auto done =
        client
            .batch({std::make_move_iterator(requests.begin() + static_cast<std::ptrdiff_t>(at)),
                    std::make_move_iterator(requests.begin() + static_cast<std::ptrdiff_t>(end))})
            .wait(60s);
    if (!done || std::any_of(done->begin(), done->end(), [](const auto& one) { return !one; })) return false;
  }
  return true;
}

bool make_nodes(const Client& client, int nodes) {
  std::vector<ApiRequest> creates, statuses, untainted;
  for (int i = 0; i < nodes; ++i) {
    ApiRequest request;
    request.verb = "create";
    request.resource = "nodes";
    request.body = node_json(i);
    creates.push_back(request);
    request.verb = "patch";
    request.name = "node-" + std::to_string(i);
    request.content_type = "application/merge-patch+json";
    ApiRequest taints = request;
    taints.body = R"({"spec":{"taints":null}})";
    untainted.push_back(std::move(taints));
    request.subresource = "status";
    statuses.push_back(std::move(request));
  }
  return send_all(client, std::move(creates)) && send_all(client, std::move(statuses)) &&
         send_all(client, std::move(untainted));
}

/// On the disk that TMPDIR (or /var/tmp) lies on; gone at the end.
struct StoreFolder {
  std::string path;
  StoreFolder() {
    const char* base = std::getenv("TMPDIR");
    path = std::string(base != nullptr ? base : "/var/tmp") + "/orc-bench-sched-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) path.clear();
  }
  ~StoreFolder() {
    std::error_code ignored;
    if (!path.empty()) std::filesystem::remove_all(path, ignored);
  }
};

// Created to bound: pods are created in batches, a few of them under way at a time, while the scheduler runs.
void bound(Report& report, int nodes, int pods, bool durable) {
  const StoreFolder folder;
  Engine engine;
  std::shared_ptr<StateStore> store;
  if (durable) {
    RaftStoreOptions options;
    options.data_dir = folder.path + "/s";
    auto opened = RaftStore::open(engine, options);
    if (opened) store = std::move(*opened);
  } else {
    store = MemoryStore::create(engine);
  }
  const std::string name =
      "basic_" + std::to_string(nodes) + "_nodes_created_to_bound" + (durable ? "_raft" : "");
  Metric metric{name,
                std::nullopt,
                "pods/s",
                durable ? 5000.0 : 15000.0,
                ">=",
                std::nullopt,
                "the store, the server or the nodes could not be made"};
  if (!store) return report.add(metric);
  ApiServer server(engine, store, {});
  if (auto started = server.start(); !started) return report.add(metric);
  const Client client = server.client();
  if (!make_nodes(client, nodes)) return report.add(metric);
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
  constexpr std::size_t kUnderWay = 4;
  std::deque<Pending<std::vector<Result<Object>>>> creating;
  std::vector<ApiRequest> requests;
  const std::int64_t cpu_before = cpu_ns();
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
    if (creating.size() == kUnderWay) {
      (void)creating.front().wait(30s);
      creating.pop_front();
    }
    creating.push_back(client.batch(std::move(requests)));
    requests.clear();
  }
  std::unique_lock lock(mutex);
  const bool all = changed.wait_for(lock, 120s, [&] { return bound == pods; });
  metric.value = static_cast<double>(pods) * 1e9 / static_cast<double>(now_ns() - begin);
  lock.unlock();
  const auto cpu_us = static_cast<double>(cpu_ns() - cpu_before) / 1e3 / pods;
  metric.note = std::to_string(pods) + " pods, " + std::to_string(static_cast<int>(cpu_us)) +
                " us of CPU time each, " +
                (durable ? "each write synced, at " + folder.path : std::string("memory store"));
  if (!all) {
    metric.value = std::nullopt;
    metric.note = "not all pods were bound within 120 s";
  }
  report.add(metric);
  if (all && nodes >= 500 && !durable) latency(report, nodes, client, mutex, changed, bound, pods);
  scheduler.stop();
  watched.stop();
  server.stop();
  store->stop();
}

void run_sched(const Options& options, Report& report) {
  memory_and_branches(report, 5000, options.quick ? 20'000 : 100'000);
  for (const int nodes : {100, 1000, 5000, 50000}) {
    if (options.quick && nodes > 5000) continue;
    for (const Case& each : cases(nodes, options.quick)) decisions(report, nodes, each);
  }
  for (const int nodes : {1000, 5000}) {
    preemption(report, nodes, options.quick ? nodes / 10 : nodes);
    explaining(report, nodes);
    volumes(report, nodes, options.quick ? 250 : 5000);
    gangs(report, nodes, options.quick ? 10 : 100);
  }
  if (!options.quick) million(report);
  bound(report, options.quick ? 50 : 500, options.quick ? 1000 : 5000, false);
  for (const bool durable : {false, true}) bound(report, 5000, options.quick ? 5000 : 10000, durable);
}

const bool sched_registered = register_area("sched", run_sched);

}  // namespace
}  // namespace orchestra::bench
