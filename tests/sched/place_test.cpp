// Messages, shapes from objects, ties, and the queue of waiting pods.
#include "controllers/scheduler/queue.hpp"
#include "orchestra/scheduling_snapshot.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {

Object object(const std::string& yaml) {
  auto parsed = Object::from_yaml(yaml);
  REQUIRE(parsed);
  return *parsed;
}

PodShape pod_of(const std::string& spec) {
  return PodShape::from_object(
      object("apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d, uid: u}\nspec:\n" + spec));
}

NodeShape node_named(const std::string& name, std::int64_t cpu, std::int64_t memory_gib) {
  NodeShape node;
  node.name = name;
  node.allocatable = {{"cpu", cpu}, {"memory", memory_gib << 30}, {"pods", 110}};
  return node;
}

PodShape pod_named(const std::string& name, std::int64_t cpu) {
  PodShape pod;
  pod.ns = "d";
  pod.name = pod.uid = name;
  pod.requests["cpu"] = cpu;
  pod.score_millicores = cpu;
  pod.score_memory_bytes = 200 << 20;
  return pod;
}

}  // namespace

TEST_CASE("a pod that fits nowhere names each reason with its count, as kube-scheduler words it") {
  SchedulingSnapshot snapshot;
  PodShape pod = pod_named("p", 4000);
  CHECK(place(snapshot, pod).unschedulable()->message() == "no nodes available to schedule pods");
  snapshot.set_node(node_named("a", 2000, 4));
  NodeShape tainted = node_named("b", 8000, 8);
  tainted.taints.push_back({"gpu", "yes", "NoSchedule"});
  snapshot.set_node(tainted);
  NodeShape cordoned = node_named("c", 8000, 8);
  cordoned.unschedulable = true;
  snapshot.set_node(cordoned);
  CHECK(place(snapshot, pod).unschedulable()->message() ==
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were "
        "unschedulable. "
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.");
  snapshot.set_node(node_named("a", 4000, 4));
  snapshot.set_pod(pod_named("other", 1000), "a");
  CHECK(place(snapshot, pod).unschedulable()->message() ==
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were "
        "unschedulable. "
        "preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption "
        "is not "
        "helpful for scheduling.");
}

TEST_CASE("a pod that no node could ever run is told so, behind what kube-scheduler says") {
  SchedulingSnapshot snapshot;
  snapshot.set_node(node_named("a", 4000, 4));
  snapshot.set_node(node_named("b", 1500, 32));
  const auto told = [&](const PodShape& pod) { return place(snapshot, pod).unschedulable()->message(); };
  const std::string usual =
      "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 Preemption is not "
      "helpful for scheduling.";
  CHECK(told(pod_named("p", 9000)) ==
        usual + " No node in the cluster could ever run it: it asks for 9 cpu, the largest node has 4.");
  PodShape pod = pod_named("p", 4500);
  pod.requests["memory"] = 64LL << 30;
  pod.requests["example.com/gpu"] = 2;
  CHECK(told(pod).ends_with(
      "could ever run it: it asks for 4500m cpu, the largest node has 4; it asks for 2 example.com/gpu, no "
      "node has any; it asks for 64Gi memory, the largest node has 32Gi."));
  // Enough of each, but nowhere of both.
  pod = pod_named("p", 3000);
  pod.requests["memory"] = 16LL << 30;
  CHECK(told(pod).ends_with(
      " could ever run it: it asks for 3 cpu and 16Gi memory, and no node has so much of all of them."));
  // A full node is another thing than a small one.
  snapshot.set_pod(pod_named("other", 3500), "a");
  CHECK(told(pod_named("p", 2000)).find("could ever") == std::string::npos);
  PodShape picky = pod_named("p", 100);
  picky.node_selector["disk"] = "ssd";  // a label may be added; upstream's reason says it already
  CHECK(told(picky).find("could ever") == std::string::npos);
}

TEST_CASE("a topology key that no node has is named") {
  SchedulingSnapshot snapshot;
  NodeShape node = node_named("a", 4000, 4);
  node.labels["zone"] = "z1";
  snapshot.set_node(node);
  PodShape pod = pod_named("p", 100);
  pod.labels["app"] = "web";
  SpreadConstraint spread;
  spread.topology_key = "rack";
  spread.selector = Selector::from_map({{"app", "web"}});
  pod.spread = {spread};
  CHECK(place(snapshot, pod).unschedulable()->message() ==
        "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required "
        "label). preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling. No node in "
        "the cluster could ever run it: no node has the label rack that its topology spread constraint "
        "names.");
  pod.spread.clear();
  PodTerm term;
  term.topology_key = "rack";
  term.namespaces = {"d"};
  term.selector = spread.selector;
  pod.affinity = {term};
  CHECK(place(snapshot, pod)
            .unschedulable()
            ->message()
            .ends_with("could ever run it: no node has the label rack that its pod affinity names."));
  pod.affinity[0].topology_key = "zone";
  pod.affinity[0].selector = Selector::from_map({{"app", "db"}});  // may come
  CHECK(place(snapshot, pod).unschedulable()->never.empty());
  node.labels["rack"] = "r1";
  snapshot.set_node(node);
  pod.affinity.clear();
  pod.spread = {spread};
  CHECK(place(snapshot, pod).placement() != nullptr);
}

TEST_CASE("several lacking resources of one node are all named") {
  SchedulingSnapshot snapshot;
  NodeShape node = node_named("a", 1000, 1);
  node.allocatable["pods"] = 0;
  snapshot.set_node(node);
  PodShape pod = pod_named("p", 2000);
  pod.requests["memory"] = 2LL << 30;
  pod.requests["example.com/gpu"] = 1;
  const auto counts = place(snapshot, pod).unschedulable()->counts;
  CHECK(counts.size() == 4);
  CHECK(counts.at("Insufficient example.com/gpu") == 1);
  CHECK(counts.at("Too many pods") == 1);
}

TEST_CASE("a pod asks for the sum of its containers and sidecars, or for its largest init container") {
  const PodShape small = pod_of(R"(
  containers:
  - {name: a, resources: {requests: {cpu: 100m, memory: 64Mi}}}
  - {name: b, resources: {limits: {cpu: "1"}}}
  initContainers:
  - {name: side, restartPolicy: Always, resources: {requests: {cpu: 200m}}}
  - {name: first, resources: {requests: {cpu: 500m, memory: 1Gi}}}
  overhead: {cpu: 10m}
)");
  CHECK(small.requests.at("cpu") == 1310);          // 100 + 1000 + 200 + 10
  CHECK(small.requests.at("memory") == 1LL << 30);  // the init container's
  const PodShape large = pod_of(R"(
  containers: [{name: a, resources: {requests: {cpu: 100m}}}]
  initContainers: [{name: first, resources: {requests: {cpu: "2"}}}]
)");
  CHECK(large.requests.at("cpu") == 2000);
  const PodShape nothing = pod_of("  containers: [{name: a}, {name: b}]\n");
  CHECK(nothing.requests.empty());
  CHECK(nothing.score_millicores == 200);
  CHECK(nothing.score_memory_bytes == 400LL << 20);
}

TEST_CASE("absurd quantities neither overflow nor go below zero") {
  const PodShape absurd = pod_of(R"(
  containers:
  - {name: a, resources: {requests: {cpu: "-5", memory: 9Ei}}}
  - {name: b, resources: {requests: {cpu: 1e30, memory: 9Ei}}}
  - {name: c, resources: {requests: {cpu: nonsense}}}
)");
  CHECK(absurd.requests.at("cpu") == 1LL << 52);
  CHECK(absurd.requests.at("memory") == 1LL << 53);
  SchedulingSnapshot snapshot;
  snapshot.set_node(node_named("a", 4000, 8));
  CHECK(place(snapshot, absurd).unschedulable()->counts.size() == 2);
}

TEST_CASE("at level process containerPorts clash unless the pod binds its own address") {
  SchedulingSnapshot snapshot;
  const Object node = object(
      "apiVersion: v1\nkind: Node\nmetadata: {name: a, labels: {orchestra.dev/isolation: process}}\n"
      "status: {allocatable: {cpu: '4', memory: 8Gi, pods: '110'}}\n");
  snapshot.set_node(NodeShape::from_object(node));
  const PodShape first = pod_of("  containers: [{name: a, ports: [{containerPort: 8080}]}]\n");
  snapshot.assume(first, "a");
  PodShape second = first;
  second.uid = "u2";
  CHECK(place(snapshot, second)
            .unschedulable()
            ->counts.count("node(s) didn't have free ports for the requested pod ports") == 1);
  const PodShape polite = PodShape::from_object(
      object("apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: d, uid: u3, annotations: "
             "{orchestra.dev/binds-pod-ip: 'true'}}\nspec: {containers: [{name: a, ports: [{containerPort: "
             "8080}]}]}\n"));
  CHECK(place(snapshot, polite).placement() != nullptr);
  NodeShape full = NodeShape::from_object(node);
  full.shares_ports = false;
  snapshot.set_node(full);
  CHECK(place(snapshot, second).placement() != nullptr);
}

TEST_CASE("equal nodes: the first name, or one of a seeded permutation, and always the same") {
  SchedulingSnapshot snapshot;
  for (const char* name : {"c", "a", "b", "d", "e", "f"}) snapshot.set_node(node_named(name, 4000, 8));
  const PodShape pod = pod_named("p", 100);
  CHECK(place(snapshot, pod).placement()->node == "a");
  bool other = false;
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    const std::string node = place(snapshot, pod, {seed}).placement()->node;
    CHECK(place(snapshot, pod, {seed}).placement()->node == node);
    other = other || node != "a";
  }
  CHECK(other);
}

TEST_CASE("pods of one kind spread over equal nodes") {
  SchedulingSnapshot snapshot;
  for (const char* name : {"a", "b", "c"}) snapshot.set_node(node_named(name, 4000, 8));
  for (int i = 0; i < 9; ++i) {
    const PodShape pod = pod_named("p" + std::to_string(i), 200);
    snapshot.assume(pod, place(snapshot, pod).placement()->node);
  }
  for (const char* name : {"a", "b", "c"}) CHECK(snapshot.used(name).at("pods") == 3);
}

TEST_CASE("the queue gives out the highest priority first, then whoever waited longest") {
  sched::SchedulingQueue queue({});
  PodShape low = pod_named("low", 1);
  PodShape high = pod_named("high", 1);
  PodShape later = pod_named("later", 1);
  high.priority = 10;
  queue.add(low, 1);
  queue.add(later, 2);
  queue.add(high, 3);
  CHECK(queue.take(4)->name == "high");
  CHECK(queue.take(4)->name == "low");
  CHECK(queue.take(4)->name == "later");
  CHECK_FALSE(queue.take(4));
}

TEST_CASE("a pod that fits nowhere waits for a change that helps it, and not for others") {
  constexpr std::int64_t kSecond = 1'000'000'000;
  sched::SchedulingQueue queue({});
  queue.add(pod_named("a", 1), 0);
  queue.add(pod_named("b", 2), 0);
  queue.park(queue.take(0)->uid, 0, sched::Hint::room);
  queue.park(queue.take(0)->uid, 0, sched::Hint::topology);
  CHECK(queue.waiting() == 2);
  // A change of labels is nothing to the one that waits for room: it is not even asked about.
  std::vector<std::string> asked;
  queue.changed(sched::Hint::topology);
  CHECK(queue.wants_wake());
  queue.wake(2 * kSecond, [&](const PodShape& pod) {
    asked.push_back(pod.name);
    return true;
  });
  CHECK(asked == std::vector<std::string>{"b"});
  CHECK_FALSE(queue.wants_wake());
  REQUIRE(queue.active() == 1);
  CHECK(queue.take(2 * kSecond)->name == "b");
  // Asked, and not helped.
  queue.changed(sched::Hint::room);
  queue.wake(2 * kSecond, [](const PodShape&) { return false; });
  CHECK_FALSE(queue.take(2 * kSecond));
  // The safety net: after five minutes it is tried even if nothing happened.
  const auto flushed = queue.take(301 * kSecond);
  REQUIRE(flushed);
  CHECK(flushed->name == "a");
}

TEST_CASE("room for one pod does not wake ten thousand, and none of them is forgotten") {
  sched::QueueOptions options;
  options.flush_ns = 0;
  options.backoff_min_ns = options.backoff_max_ns = 0;
  options.wake_max = 10;
  sched::SchedulingQueue queue(options);
  for (int i = 0; i < 1000; ++i) {
    PodShape pod = pod_named("pod-" + std::to_string(i), 1);
    queue.add(pod, i);
  }
  for (int i = 0; i < 1000; ++i) queue.park(queue.take(2000)->uid, 2000, sched::Hint::room);
  CHECK(queue.waiting() == 1000);
  int room = 0;
  int tried = 0;
  const auto turn = [&] {
    queue.wake(3000, [&](const PodShape&) { return room > 0; });
    while (const auto pod = queue.take(3000)) {
      ++tried;
      if (room > 0) {
        --room;
        queue.remove(pod->uid);
      } else {
        queue.park(pod->uid, 3000, sched::Hint::room);
      }
    }
  };
  room = 1;
  queue.changed(sched::Hint::room);
  while (queue.wants_wake()) turn();
  CHECK(queue.waiting() == 999);
  CHECK(tried <= 20);
  // Room for all of the others: they come in tens, without another event.
  room = 999;
  queue.changed(sched::Hint::room);
  while (queue.wants_wake()) turn();
  CHECK(queue.waiting() == 0);
  CHECK(room == 0);
}

TEST_CASE("a full queue leaves out who is least important, and asks for those again when it has room") {
  constexpr std::int64_t kSecond = 1'000'000'000;
  sched::SchedulingQueue measure({});
  measure.add(pod_named("pod-0000", 1), 0);
  sched::QueueOptions options;
  options.bytes_max = 100 * measure.bytes();
  sched::SchedulingQueue queue(options);
  std::map<std::string, PodShape> all;
  for (int i = 0; i < 1000; ++i) {
    PodShape pod = pod_named("pod-" + std::to_string(1000 + i), 1);
    pod.priority = i % 10 == 0 ? 10 : 0;
    all[pod.uid] = pod;
    queue.add(pod, i);
    REQUIRE(queue.bytes() <= options.bytes_max);
  }
  REQUIRE(queue.left_out() > 500);
  CHECK(queue.active() + queue.left_out() == 1000);
  // All important ones are there, whenever they came, and the first of the others.
  std::vector<std::string> placed;
  std::size_t looks = 0;
  for (std::int64_t now = 1000; !all.empty() && looks < 100; now += 1000) {
    if (queue.wants_relist(now)) {
      ++looks;
      queue.relisted(now);
      for (const auto& [uid, pod] : all) {
        if (!queue.contains(uid)) queue.add(pod, now);
      }
      REQUIRE(queue.bytes() <= options.bytes_max);
    }
    const auto pod = queue.take(now);
    REQUIRE(pod);
    placed.push_back(pod->uid);
    all.erase(pod->uid);
    queue.remove(pod->uid);
  }
  CHECK(all.empty());
  REQUIRE(placed.size() == 1000);
  CHECK(placed[99] == "pod-1990");
  CHECK(placed[100] == "pod-1001");
  CHECK(queue.bytes() == 0);
  CHECK_FALSE(queue.wants_relist(1'000'000));
  // Pods that fit nowhere fill it: those that were left out get their turn after a while all the same.
  for (int i = 0; i < 1000; ++i) queue.add(pod_named("pod-" + std::to_string(1000 + i), 1), 0);
  std::set<std::string> tried;
  while (const auto pod = queue.take(0)) {
    tried.insert(pod->uid);
    queue.park(pod->uid, 0);
  }
  CHECK_FALSE(queue.wants_relist(0));
  REQUIRE(*queue.next_due() <= 61 * kSecond);
  int from = 0;
  for (std::int64_t now = 61 * kSecond; tried.size() < 1000 && now < 3600 * kSecond; now += 60 * kSecond) {
    REQUIRE(queue.wants_relist(now));
    queue.relisted(now);
    std::optional<int> full;
    for (int i = from; i < from + 1000; ++i) {
      const PodShape pod = pod_named("pod-" + std::to_string(1000 + i % 1000), 1);
      if (queue.contains(pod.uid)) continue;
      queue.add(pod, now);
      if (!full && !queue.contains(pod.uid)) full = i % 1000;
    }
    from = full.value_or(0);
    CHECK(queue.bytes() <= options.bytes_max);
    while (const auto pod = queue.take(now)) {
      tried.insert(pod->uid);
      queue.park(pod->uid, now);
    }
  }
  CHECK(tried.size() == 1000);
}

TEST_CASE("a change while a pod is in hand is not lost, and back-off doubles from 1 s to 10 s") {
  constexpr std::int64_t kSecond = 1'000'000'000;
  sched::SchedulingQueue queue({});
  queue.add(pod_named("a", 1), 0);
  REQUIRE(queue.take(0));
  queue.changed(sched::Hint::room);
  queue.park("a", 0, sched::Hint::room);
  REQUIRE(queue.wants_wake());
  queue.wake(0, [](const PodShape&) { return true; });
  CHECK(queue.waiting() == 0);
  CHECK(*queue.next_due() == 1 * kSecond);
  std::int64_t now = 0;
  std::vector<std::int64_t> pauses;
  for (int i = 0; i < 6; ++i) {
    const std::int64_t due = *queue.next_due();
    pauses.push_back((due - now) / kSecond);
    now = due;
    REQUIRE(queue.take(now));
    queue.retry("a", now);
  }
  CHECK(pauses == std::vector<std::int64_t>{1, 2, 4, 8, 10, 10});
}

TEST_CASE(
    "what a pod asks for as a whole stands for its containers, and a resized one counts what it may hold") {
  const auto shape = [](const std::string& text) {
    const auto pod = Object::from_yaml(text);
    REQUIRE(pod);
    return PodShape::from_object(*pod);
  };
  const std::string head = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default}\n";
  const PodShape whole = shape(head + R"(
spec:
  resources: {requests: {cpu: "2", example.com/thing: "9"}}
  overhead: {cpu: 10m}
  containers:
  - {name: a, image: x, resources: {requests: {cpu: 100m, memory: 64Mi}}}
  - {name: b, image: x}
)");
  CHECK(whole.requests.at("cpu") == 2010);
  CHECK(whole.requests.at("memory") == 64LL << 20);
  CHECK_FALSE(whole.requests.contains("example.com/thing"));
  CHECK(whole.score_millicores == 2010);
  CHECK(whole.score_memory_bytes == (64LL << 20) + (200LL << 20));

  const std::string resized = R"(
spec:
  containers:
  - {name: a, image: x, resources: {requests: {cpu: 100m, memory: 64Mi}}}
  initContainers:
  - {name: side, image: x, restartPolicy: Always, resources: {requests: {cpu: 10m}}}
status:
  containerStatuses:
  - {name: a, resources: {requests: {cpu: 400m, memory: 64Mi}}, allocatedResources: {cpu: 300m, memory: 128Mi}}
  initContainerStatuses:
  - {name: side, resources: {requests: {cpu: 5m}}, allocatedResources: {cpu: 20m}}
)";
  const PodShape shrinks = shape(head + resized);
  CHECK(shrinks.requests.at("cpu") == 420);
  CHECK(shrinks.requests.at("memory") == 128LL << 20);
  const std::string grows = R"(
spec:
  containers:
  - {name: a, image: x, resources: {requests: {cpu: "9"}}}
status:
  containerStatuses: [{name: a, resources: {requests: {cpu: 400m}}, allocatedResources: {cpu: 300m}}]
)";
  CHECK(shape(head + grows).requests.at("cpu") == 9000);
  // The node has said that it can never be: what it asks for does not count.
  CHECK(
      shape(head + grows + "  conditions: [{type: PodResizePending, status: \"True\", reason: Infeasible}]\n")
          .requests.at("cpu") == 400);
  CHECK(shape(head + grows + "  conditions: [{type: PodResizePending, status: \"True\", reason: Deferred}]\n")
            .requests.at("cpu") == 9000);
}

TEST_CASE("a volume is made only where its driver says that there is room") {
  SchedulingSnapshot snapshot;
  for (const char* name : {"a", "b"}) {
    NodeShape node;
    node.name = name;
    node.labels = {{"zone", name}};
    node.allocatable = {{"cpu", 4000}, {"memory", 1LL << 30}, {"pods", 110}};
    snapshot.set_node(node);
  }
  StorageClassShape made;
  made.name = "made";
  made.provisioner = "csi.example.com";
  made.waits_for_pod = true;
  snapshot.set_storage_class(made);
  ClaimShape claim;
  claim.ns = "d";
  claim.name = claim.uid = "data";
  claim.storage_class = "made";
  claim.bytes = 5LL << 30;
  snapshot.set_claim(claim);
  PodShape pod;
  pod.ns = "d";
  pod.name = pod.uid = "db";
  pod.claims = {"data"};
  REQUIRE(place(snapshot, pod).placement() != nullptr);  // the driver does not say
  CHECK(snapshot.set_driver("csi.example.com", true));
  CHECK(place(snapshot, pod)
            .unschedulable()
            ->message()
            .find("0/2 nodes are available: 2 node(s) did not have enough free storage.") == 0);
  const auto capacity = [&](const std::string& name, const std::string& more) {
    const auto object = Object::from_yaml(
        "apiVersion: storage.k8s.io/v1\nkind: CSIStorageCapacity\nmetadata: {name: " + name +
        ", namespace: kube-system}\nstorageClassName: made\n" + more);
    REQUIRE(object);
    return CapacityShape::from_object(*object);
  };
  // Reached by nobody; too small in one piece; too small at all.
  CHECK(snapshot.set_capacity(capacity("none", "capacity: 100Gi\n")));
  CHECK(snapshot.set_capacity(capacity(
      "pieces", "nodeTopology: {matchLabels: {zone: a}}\ncapacity: 100Gi\nmaximumVolumeSize: 4Gi\n")));
  CHECK(snapshot.set_capacity(capacity("small", "nodeTopology: {matchLabels: {zone: a}}\ncapacity: 4Gi\n")));
  CHECK(place(snapshot, pod).unschedulable() != nullptr);
  CHECK(snapshot.set_capacity(capacity("large", "nodeTopology: {matchLabels: {zone: b}}\ncapacity: 5Gi\n")));
  REQUIRE(place(snapshot, pod).placement() != nullptr);
  CHECK(place(snapshot, pod).placement()->node == "b");
  CHECK(snapshot.remove_capacity("kube-system", "large"));
  CHECK(place(snapshot, pod).placement() == nullptr);
  CHECK(snapshot.set_driver("csi.example.com", false));
  CHECK(place(snapshot, pod).placement() != nullptr);
}
