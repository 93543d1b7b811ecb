// The scheduler against a real API server in one process.
#include "orchestra/scheduler.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <stdexcept>

#include "tests/controllers/scheduled.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using test::Scheduled;
using namespace std::chrono_literals;

namespace {

// With the controller that binds claims and volumes.
struct ScheduledWithVolumes : Scheduled {
  Controllers binder{engine, client, [] {
                       ControllersOptions only;
                       only.enable = {"persistentvolume-binder"};
                       return only;
                     }()};
  ScheduledWithVolumes() {
    REQUIRE(scheduler.start());
    REQUIRE(binder.start());
  }
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
  REQUIRE(cluster.client.remove("v1", "pods", "a", "default", {.grace_period_seconds = 0}).wait(60s));
  CHECK(cluster.eventually([&] { return cluster.node_of("c") == "n1"; }));
  CHECK(cluster.eventually([&] {
    return cluster.events_of("c").find("Scheduled: Successfully assigned default/c to n1") !=
           std::string::npos;
  }));
  const Object bound = cluster.get(pods(), "default", "c");
  CHECK(string_at(*find_condition(tree(bound), "PodScheduled"), "/status") == "True");
}

TEST_CASE("a pod that no node could ever run is told so at once, and a node that can wakes it") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.add_node("n1", "4");
  cluster.add_pod("huge", "9");
  CHECK(cluster.eventually([&] {
    return cluster.why("huge").ends_with(
        "No node in the cluster could ever run it: it asks for 9 cpu, the largest node has 4.");
  }));
  cluster.add_node("n2", "16");
  CHECK(cluster.eventually([&] { return cluster.node_of("huge") == "n2"; }));
}

TEST_CASE(
    "node selectors and taints are kept, and a change of a node wakes "
    "who waits for it") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.add_node("n1", "4", "{disk: hdd}");
  cluster.add_pod("fast", "100m", "  nodeSelector: {disk: ssd}\n");
  // A new node is tainted until it is ready. What a waiting pod was told first may be that: a change that
  // lets it run nowhere does not wake it, so its condition keeps the first reason, and explain() says what is
  // true now.
  CHECK(cluster.eventually([&] {
    const auto table = cluster.scheduler.explain("default", "fast");
    return table && table->size() == 1 && table->at(0).reasons.size() == 1 &&
           table->at(0).reasons[0] == "node(s) didn't match Pod's node affinity/selector";
  }));
  CHECK(cluster.eventually(
      [&] { return cluster.why("fast").find("0/1 nodes are available: 1 node(s) ") != std::string::npos; }));
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

TEST_CASE("an important pod takes the place of a lesser one, and both are told") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.create(
      "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 1000\n");
  cluster.create(
      "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: patient}\nvalue: 1\n"
      "preemptionPolicy: Never\n");
  cluster.add_node("n1", "1");
  cluster.add_pod("low", "800m");
  REQUIRE(cluster.eventually([&] { return cluster.node_of("low") == "n1"; }));
  cluster.add_pod("never", "800m", "  priorityClassName: patient\n");
  REQUIRE(cluster.eventually([&] {
    return cluster.why("never").find("preemption: not eligible due to preemptionPolicy=Never.") !=
           std::string::npos;
  }));
  CHECK(cluster.node_of("low") == "n1");
  cluster.add_pod("boss", "800m", "  priorityClassName: high\n");
  CHECK_MESSAGE(cluster.eventually([&] { return cluster.node_of("boss") == "n1"; }), cluster.why("boss"));
  CHECK(cluster.eventually([&] { return !cluster.get(pods(), "default", "low"); }));
  CHECK(cluster.eventually(
      [&] { return cluster.events_of("low").find("Preempted: Preempted by pod ") != std::string::npos; }));
  CHECK(cluster.scheduler.stats().preemptions == 1);
  CHECK(cluster.scheduler.stats().victims == 1);
  CHECK(cluster.scheduler.snapshot().used("n1").at("pods") == 1);
}

TEST_CASE("pods that a full queue left out are placed when it has room again") {
  SchedulerOptions options = Scheduled::fast();
  options.flush_interval = Duration::zero();
  options.queue_bytes_max = 8 << 10;  // about ten pods
  Scheduled cluster({}, options);
  cluster.add_node("n1", "8");
  for (int i = 0; i < 60; ++i) cluster.add_pod("pod-" + std::to_string(i), "10m");
  REQUIRE(cluster.scheduler.start());
  CHECK_MESSAGE(cluster.eventually([&] { return cluster.scheduler.stats().scheduled == 60; }),
                cluster.scheduler.stats().scheduled);
  CHECK(cluster.scheduler.stats().left_out == 0);
}

TEST_CASE("a gated pod waits outside of all queues and is placed when its last gate goes") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.add_node("n1", "1");
  cluster.add_pod("gated", "100m", "  schedulingGates: [{name: example.com/wait}]\n");
  REQUIRE(cluster.eventually(
      [&] { return cluster.why("gated") == "Scheduling is blocked due to non-empty scheduling gates"; }));
  CHECK(cluster.scheduler.stats().gated == 1);
  CHECK(cluster.scheduler.stats().waiting == 0);
  REQUIRE(cluster.patch(pods(), "default", "gated", R"({"spec":{"schedulingGates":null}})"));
  CHECK(cluster.eventually([&] { return cluster.node_of("gated") == "n1"; }));
  CHECK(cluster.scheduler.stats().gated == 0);
}

TEST_CASE("a pod whose claim waits for its consumer gets a node, then its volume there, then is bound") {
  ScheduledWithVolumes cluster;
  cluster.add_node("n1", "1", "{disk: hdd, kubernetes.io/hostname: n1}");
  cluster.add_node("n2", "1", "{disk: ssd, kubernetes.io/hostname: n2}");
  cluster.create(R"(
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: waits}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: on-n2}
spec:
  storageClassName: waits
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  local: {path: /srv/data}
  nodeAffinity:
    required:
      nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: default}
spec:
  storageClassName: waits
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
)");
  cluster.add_pod("user", "100m", "  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]\n");
  CHECK_MESSAGE(cluster.eventually([&] { return cluster.node_of("user") == "n2"; }), cluster.why("user"));
  CHECK(cluster.eventually([&] {
    const Object claim =
        cluster.client.get("v1", "persistentvolumeclaims", "data", "default").wait(60s).value();
    return claim && string_at(tree(claim), "/spec/volumeName") == "on-n2";
  }));
  // Another that wants the same volume's space says what is missing.
  cluster.create(R"(
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: more, namespace: default}
spec:
  storageClassName: waits
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
)");
  cluster.add_pod("second", "100m", "  volumes: [{name: data, persistentVolumeClaim: {claimName: more}}]\n");
  CHECK_MESSAGE(cluster.eventually([&] {
    return cluster.why("second").find("2 node(s) didn't find available persistent volumes to bind") !=
           std::string::npos;
  }),
                cluster.why("second"));
  cluster.add_pod("lost", "100m", "  volumes: [{name: data, persistentVolumeClaim: {claimName: none}}]\n");
  CHECK(cluster.eventually([&] {
    return cluster.why("lost").find("0/2 nodes are available: persistentvolumeclaim \"none\" not found.") ==
           0;
  }));
  cluster.binder.stop();
}

TEST_CASE("a pod that came before its claim hears what is missing once the claim is there") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.add_node("n1", "1", "{kubernetes.io/hostname: n1}");
  cluster.add_pod("early", "100m", "  volumes: [{name: data, persistentVolumeClaim: {claimName: late}}]\n");
  REQUIRE(cluster.eventually([&] {
    return cluster.why("early").find("persistentvolumeclaim \"late\" not found") != std::string::npos;
  }));
  cluster.create(R"(
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: waits}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: late, namespace: default}
spec:
  storageClassName: waits
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
)");
  CHECK_MESSAGE(cluster.eventually([&] {
    return cluster.why("early").find("1 node(s) didn't find available persistent volumes to bind") !=
           std::string::npos;
  }),
                cluster.why("early"));
}

TEST_CASE("pods of a Service spread over zones without being told to") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  for (const char* name : {"a1", "a2", "b1"}) {
    cluster.add_node(
        name, "4",
        std::string("{topology.kubernetes.io/zone: ") + name[0] + ", kubernetes.io/hostname: " + name + "}");
  }
  cluster.create(
      "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\n"
      "spec: {selector: {app: web}, ports: [{port: 80}]}\n");
  for (int i = 0; i < 4; ++i) {
    cluster.create(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web-" + std::to_string(i) +
        ", namespace: default, labels: {app: web}}\nspec: {containers: [{name: main, image: web}]}\n");
    REQUIRE(cluster.eventually([&] { return !cluster.node_of("web-" + std::to_string(i)).empty(); }));
  }
  const SchedulingSnapshot snapshot = cluster.scheduler.snapshot();
  CHECK(snapshot.used("b1").at("pods") == 2);
}

namespace {

// What a plugin of a host can do to its scheduler.
struct Moody : SchedulerPlugin {
  std::string name() const override { return "Moody"; }
  bool filters() const override { return true; }
  std::optional<std::string> filter(const PodShape& pod, const NodeView&) override {
    if (pod.name == "throws") throw std::runtime_error("not this one");
    if (pod.name == "blocks") {
      std::unique_lock lock(mutex);
      released.wait(lock, [this] { return free; });
    }
    return std::nullopt;
  }
  Result<void> reserve(const PodShape& pod, const std::string&) override {
    if (pod.name == "unreservable" && refusals++ < 1)
      return Error(Error::unavailable, "moody", "come back later");
    return {};
  }
  PermitAnswer permit(const PodShape& pod, const std::string&) override {
    if (pod.name != "asks") return {};
    return {PermitAnswer::Kind::wait, {}, std::chrono::minutes(5)};
  }
  Result<void> pre_bind(const PodShape& pod, const std::string& node) override {
    std::lock_guard lock(mutex);
    prepared[pod.name] = node;
    return {};
  }
  void release() {
    std::lock_guard lock(mutex);
    free = true;
    released.notify_all();
  }
  std::mutex mutex;
  std::condition_variable released;
  bool free = false;
  std::atomic<int> refusals{0};
  std::map<std::string, std::string> prepared;
};

}  // namespace

TEST_CASE("a plugin that throws, blocks or refuses costs its pod a while and no other pod anything") {
  test::Cluster cluster;
  cluster.pods_become_ready = false;
  auto moody = std::make_shared<Moody>();
  SchedulerOptions options = Scheduled::fast();
  options.plugins.push_back(moody);
  options.plugin_deadline = 50ms;
  Scheduler scheduler(cluster.engine, cluster.client, options);
  REQUIRE(scheduler.start());
  cluster.create("apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n");
  REQUIRE(cluster.client
              .patch("v1", "nodes", "n1", "", PatchType::merge,
                     R"({"status":{"allocatable":{"cpu":"8","memory":"8Gi","pods":"110"}}})",
                     Scheduled::status())
              .wait(60s));
  REQUIRE(cluster.client.patch("v1", "nodes", "n1", "", PatchType::merge, R"({"spec":{"taints":null}})")
              .wait(60s));
  const auto add = [&](const std::string& name) {
    cluster.create("apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
                   ", namespace: default}\nspec: {containers: [{name: main, image: web}]}\n");
  };
  const auto node_of = [&](const std::string& name) {
    return string_at(tree(cluster.get(pods(), "default", name)), "/spec/nodeName");
  };
  const auto why = [&](const std::string& name) {
    const Object pod = cluster.get(pods(), "default", name);
    const json::object* condition = find_condition(tree(pod), "PodScheduled");
    return condition == nullptr ? std::string() : string_at(*condition, "/message");
  };
  add("throws");
  CHECK(cluster.eventually([&] { return why("throws") == "plugin Moody: filter: not this one"; }));
  add("unreservable");
  CHECK(cluster.eventually([&] { return node_of("unreservable") == "n1"; }));
  CHECK(moody->refusals >= 1);
  add("asks");
  CHECK(cluster.eventually([&] { return scheduler.allow("default", "asks"); }));
  CHECK(cluster.eventually([&] { return node_of("asks") == "n1"; }));
  {
    std::lock_guard lock(moody->mutex);
    CHECK(moody->prepared["asks"] == "n1");
  }
  add("blocks");
  CHECK(cluster.eventually(
      [&] { return why("blocks") == "plugin Moody: filter: no answer within its deadline"; }));
  moody->release();
  CHECK(cluster.eventually([&] { return node_of("blocks") == "n1"; }));
  add("well");
  CHECK(cluster.eventually([&] { return node_of("well") == "n1"; }));
  scheduler.stop();
}

TEST_CASE("a scheduler with a configuration that it does not understand does not start") {
  test::Cluster cluster;
  SchedulerOptions wrong;
  wrong.config_yaml =
      "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofile: []\n";
  Scheduler refused(cluster.engine, cluster.client, wrong);
  const auto started = refused.start();
  REQUIRE_FALSE(started);
  CHECK(started.error().is(Error::invalid));
}

namespace {
constexpr const char* kPodGroups = R"(
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: podgroups.scheduling.x-k8s.io, annotations: {api-approved.kubernetes.io: "https://example.com"}}
spec:
  group: scheduling.x-k8s.io
  scope: Namespaced
  names: {plural: podgroups, singular: podgroup, kind: PodGroup}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
)";
constexpr const char* kTrain =
    "apiVersion: scheduling.x-k8s.io/v1alpha1\nkind: PodGroup\nmetadata: {name: train, namespace: "
    "default}\nspec: {minMember: 3}\n";
}  // namespace

TEST_CASE("a gang takes the place of less important pods only when all of it fits then") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.create(kPodGroups);
  cluster.create(
      "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 100\n");
  for (const char* name : {"n1", "n2"}) cluster.add_node(name, "1");
  for (const char* name : {"low-1", "low-2"}) cluster.add_pod(name, "800m");
  REQUIRE(cluster.eventually(
      [&] { return !cluster.node_of("low-1").empty() && !cluster.node_of("low-2").empty(); }));
  REQUIRE(
      cluster.eventually([&] { return bool(cluster.client.create(*Object::from_yaml(kTrain)).wait(60s)); }));
  for (const char* name : {"rank-0", "rank-1", "rank-2"}) {
    cluster.create(std::string("apiVersion: v1\nkind: Pod\nmetadata: {name: ") + name +
                   ", namespace: default, labels: {scheduling.x-k8s.io/pod-group: train}}\n"
                   "spec: {priorityClassName: high, containers: [{name: main, image: web, resources: "
                   "{requests: {cpu: 800m}}}]}\n");
  }
  REQUIRE(cluster.eventually([&] {
    return cluster.why("rank-2").find("only 0 of the 3 pods that the group needs would have a node") !=
           std::string::npos;
  }));
  // Two places would not be enough: nobody has to go for them.
  CHECK(cluster.scheduler.stats().victims == 0);
  CHECK_FALSE(cluster.get(pods(), "default", "low-1").deleting());
  cluster.add_node("n3", "1");
  CHECK(cluster.eventually([&] {
    return !cluster.node_of("rank-0").empty() && !cluster.node_of("rank-1").empty() &&
           !cluster.node_of("rank-2").empty();
  }));
  CHECK(cluster.scheduler.stats().victims == 2);
}

TEST_CASE("a pod whose scheduler says nothing hears so, once") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.add_node("n1", "1");
  cluster.add_pod("lost", "100m", "  schedulerName: nobody\n");
  cluster.add_pod("ours", "100m");
  CHECK(cluster.eventually([&] {
    return cluster.events_of("lost") ==
           "FailedScheduling: no scheduler of this name is running, or it says nothing: nobody\n";
  }));
  CHECK(cluster.node_of("lost").empty());
  CHECK(cluster.events_of("ours").find("no scheduler") == std::string::npos);
}

TEST_CASE("attempts, whole schedulings and those who wait are measured by upstream's names") {
  const auto registry = Metrics::create();
  Scheduled cluster(registry);
  REQUIRE(cluster.scheduler.start());
  cluster.add_node("n1", "1");
  cluster.knows_nodes(1);
  cluster.add_pod("small", "100m");
  cluster.add_pod("large", "2");
  const auto shows = [&](const std::string& line) {
    return registry->text().find(line + "\n") != std::string::npos;
  };
  const std::string waiting =
      "scheduler_unschedulable_pods{plugin=\"NodeResourcesFit\",profile=\"default-scheduler\"} ";
  CHECK(cluster.eventually([&] { return shows(waiting + "1"); }));
  CHECK(cluster.eventually(
      [&] { return shows("scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} 1"); }));
  CHECK(
      registry->text().find("scheduler_scheduling_attempt_duration_seconds_count{result=\"unschedulable\"") !=
      std::string::npos);
  cluster.add_node("n2", "4");
  CHECK(cluster.eventually([&] { return cluster.node_of("large") == "n2" && shows(waiting + "0"); }));
  const std::string page = registry->text();
  for (const char* ended : {"PreFilter\",status=\"Success", "Filter\",status=\"Success",
                            "Filter\",status=\"Unschedulable", "Score\",status=\"Success"}) {
    CHECK(page.find("scheduler_framework_extension_point_duration_seconds_count{extension_point=\"" +
                    std::string(ended) + "\",profile=\"default-scheduler\"} ") != std::string::npos);
  }
  CHECK(cluster.eventually([&] {
    return shows(
        "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Bind\",status="
        "\"Success\","
        "profile=\"default-scheduler\"} 2");
  }));
}

TEST_CASE("a gang waits until all of it exists and fits, and is then bound together") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.create(kPodGroups);
  cluster.add_node("n1", "1");
  const auto add_member = [&](const std::string& name) {
    cluster.create("apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
                   ", namespace: default, labels: {scheduling.x-k8s.io/pod-group: train}}\n"
                   "spec: {containers: [{name: main, image: web, resources: {requests: {cpu: 800m}}}]}\n");
  };
  add_member("rank-0");
  CHECK_MESSAGE(cluster.eventually([&] {
    return cluster.why("rank-0").find("the PodGroup default/train of the pod is not there") !=
           std::string::npos;
  }),
                cluster.why("rank-0"));
  REQUIRE(cluster.eventually([&] {
    const auto made = Object::from_yaml(kTrain);
    return bool(cluster.client.create(*made).wait(60s));
  }));
  CHECK_MESSAGE(cluster.eventually([&] {
    return cluster.why("rank-0").find("the group train has 1 of the 3 pods that it needs") !=
           std::string::npos;
  }),
                cluster.why("rank-0"));
  add_member("rank-1");
  add_member("rank-2");
  CHECK_MESSAGE(cluster.eventually([&] {
    return cluster.why("rank-2").find("only 1 of the 3 pods that the group needs would have a node") !=
           std::string::npos;
  }),
                cluster.why("rank-2"));
  // No member holds a node while the others wait.
  CHECK(cluster.scheduler.snapshot().used("n1").count("cpu") == 0);
  cluster.add_node("n2", "1");
  cluster.add_node("n3", "1");
  CHECK(cluster.eventually([&] {
    return !cluster.node_of("rank-0").empty() && !cluster.node_of("rank-1").empty() &&
           !cluster.node_of("rank-2").empty();
  }));
}

TEST_CASE(
    "pods of one group and replica of a Workload are bound together, those of a basic group one by one") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.create(R"(
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: workloads.scheduling.k8s.io, annotations: {api-approved.kubernetes.io: "https://example.com"}}
spec:
  group: scheduling.k8s.io
  scope: Namespaced
  names: {plural: workloads, singular: workload, kind: Workload}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
)");
  cluster.add_node("n1", "2");
  const auto add_member = [&](const std::string& name, const std::string& group, const std::string& replica) {
    cluster.create("apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
                   ", namespace: default}\n"
                   "spec: {workloadRef: {name: train, podGroup: " +
                   group + ", podGroupReplicaKey: " + replica +
                   "}, containers: [{name: main, image: web, resources: {requests: {cpu: 500m}}}]}\n");
  };
  const auto told = [&](const std::string& name, const std::string& text) {
    return cluster.eventually([&] { return cluster.why(name).find(text) != std::string::npos; });
  };
  add_member("a-0", "workers", "a");
  CHECK_MESSAGE(told("a-0", R"(waiting for pods's workload "train" to appear in scheduling queue)"),
                cluster.why("a-0"));
  REQUIRE(cluster.eventually([&] {
    return bool(cluster.client
                    .create(*Object::from_yaml(
                        "apiVersion: scheduling.k8s.io/v1alpha1\nkind: Workload\nmetadata: {name: train, "
                        "namespace: default}\nspec: {podGroups: [{name: driver, policy: {basic: {}}}, "
                        "{name: workers, policy: {gang: {minCount: 2}}}]}\n"))
                    .wait(60s));
  }));
  add_member("b-0", "workers", "b");
  add_member("other", "helpers", "a");
  add_member("driver", "driver", "a");
  CHECK(cluster.eventually([&] { return !cluster.node_of("driver").empty(); }));
  // Two replicas of the group are two gangs: one pod of each is not yet enough.
  CHECK_MESSAGE(told("b-0", "the group train has 1 of the 2 pods that it needs"), cluster.why("b-0"));
  CHECK_MESSAGE(told("other", R"(pod group "helpers" doesn't exist for a workload "train")"),
                cluster.why("other"));
  CHECK(cluster.node_of("a-0").empty());
  add_member("a-1", "workers", "a");
  CHECK(
      cluster.eventually([&] { return !cluster.node_of("a-0").empty() && !cluster.node_of("a-1").empty(); }));
  CHECK(cluster.node_of("b-0").empty());
}

TEST_CASE("a claim whose class makes volumes gets one on the node that was chosen for its pod") {
  ScheduledWithVolumes cluster;
  cluster.add_node("n1", "1", "{kubernetes.io/hostname: n1}");
  cluster.create(R"(
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: made}
provisioner: orchestra.dev/local-path
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: fresh, namespace: default}
spec:
  storageClassName: made
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
)");
  cluster.add_pod("user", "100m", "  volumes: [{name: data, persistentVolumeClaim: {claimName: fresh}}]\n");
  CHECK_MESSAGE(cluster.eventually([&] { return cluster.node_of("user") == "n1"; }), cluster.why("user"));
  CHECK(cluster.eventually([&] {
    const Object claim =
        cluster.client.get("v1", "persistentvolumeclaims", "fresh", "default").wait(60s).value();
    return claim && claim.annotations().count("volume.kubernetes.io/selected-node") > 0 &&
           claim.annotations().at("volume.kubernetes.io/selected-node") == "n1" &&
           !string_at(tree(claim), "/spec/volumeName").empty();
  }));
  cluster.binder.stop();
}

TEST_CASE("a pod whose volume has room nowhere waits for a place that has") {
  Scheduled cluster;
  REQUIRE(cluster.scheduler.start());
  cluster.add_node("n1", "1", "{kubernetes.io/hostname: n1, rack: one}");
  cluster.create(R"(
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: csi.example.com}
spec: {storageCapacity: true}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: made}
provisioner: csi.example.com
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: default}
spec:
  storageClassName: made
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 5Gi}}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: default}
spec:
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
  containers: [{name: main, image: db}]
)");
  CHECK_MESSAGE(cluster.eventually([&] {
    return cluster.why("db").find("1 node(s) did not have enough free storage") != std::string::npos;
  }),
                cluster.why("db"));
  cluster.create(R"(
apiVersion: storage.k8s.io/v1
kind: CSIStorageCapacity
metadata: {name: room, namespace: default}
storageClassName: made
nodeTopology: {matchLabels: {rack: one}}
capacity: 5Gi
)");
  // The node is written into the claim: its driver would make the volume there now.
  CHECK_MESSAGE(cluster.eventually([&] {
    const auto claim = cluster.client.get("v1", "persistentvolumeclaims", "data", "default").wait(10s);
    return claim && claim->annotations().contains("volume.kubernetes.io/selected-node");
  }),
                cluster.why("db"));
}
