// Resources on a real node: admission, in-place resize, eviction where the disk is short, a container that
// looks into another one's processes.
#include <sys/mount.h>

#include <algorithm>
#include <filesystem>

#include "tests/agent/test_node.hpp"

using namespace orchestra;
using namespace orchestra::agent_test;
using namespace std::chrono_literals;

namespace {

std::string condition(const Object& pod, const std::string& type, const char* field) {
  if (!pod) return {};
  if (const json::array* all = array_at(tree(pod), "/status/conditions")) {
    for (const json::value& one : *all) {
      if (string_at(one, "/type") == type) return string_at(one, field);
    }
  }
  return {};
}

Result<Object> resize(TestNode& node, const std::string& pod, const std::string& resources) {
  WriteOptions options;
  options.subresource = "resize";
  return node.client
      .patch("v1", "pods", pod, "default", PatchType::strategic,
             R"({"spec":{"containers":[{"name":"main","resources":)" + resources + "}]}}", options)
      .wait(60s);
}

/// What the kernel limits the container to: {cpu quota in us of 100 ms, bytes of memory}.
std::pair<std::int64_t, std::int64_t> limits_in_kernel(const std::string& container) {
  std::pair<std::int64_t, std::int64_t> out{-2, -2};
  std::error_code gone;
  for (int tries = 0; tries < 100; ++tries) {  // a group that somebody removes meanwhile ends the walk
    std::filesystem::recursive_directory_iterator at(
        "/sys/fs/cgroup", std::filesystem::directory_options::skip_permission_denied, gone);
    for (; !gone && at != std::filesystem::recursive_directory_iterator(); at.increment(gone)) {
      if (at->path().parent_path().filename() != container) continue;
      const std::string name = at->path().filename();
      const std::string text = read_file(at->path(), 128).value_or("");
      if (name == "cpu.max" || name == "cpu.cfs_quota_us") out.first = std::atoll(text.c_str());
      if (name == "memory.max" || name == "memory.limit_in_bytes") out.second = std::atoll(text.c_str());
    }
    if (!gone) break;
  }
  return out;
}

std::string cpu_limit(const Object& pod) {
  return pod ? pod.get("/status/containerStatuses/0/resources/limits/cpu").value_or("") : std::string();
}

constexpr const char* kSmall =
    "    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}\n";

}  // namespace

TEST_CASE("a running container gets other limits in place; what never fits is said and survives the agent") {
  if (!enter_test_host("agent resize")) return;
  TestNode node(RuntimeOptions::Isolation::full);
  node.create(pod_yaml("web", "'busybox sleep 1000'", "", kSmall));
  REQUIRE(node.wait_pod("web", ready));
  CHECK(cpu_limit(node.pod("web")) == "200m");
  const std::string container = node.pod("web").uid() + "-main-0";
  CHECK(limits_in_kernel(container) == std::pair<std::int64_t, std::int64_t>(20000, 64 << 20));

  auto grown = resize(node, "web", R"({"requests":{"cpu":"300m"},"limits":{"cpu":"400m","memory":"128Mi"}})");
  REQUIRE_MESSAGE(grown, grown.error().to_string());
  const auto now_400 = [](const Object& pod) {
    return cpu_limit(pod) == "400m" && condition(pod, "PodResizeInProgress", "/status").empty();
  };
  REQUIRE(node.wait_pod("web", now_400));
  CHECK(limits_in_kernel(container) == std::pair<std::int64_t, std::int64_t>(40000, 128 << 20));
  CHECK(node.pod("web").get_int("/status/containerStatuses/0/restartCount") == 0);
  CHECK(node.pod("web").get("/status/containerStatuses/0/allocatedResources/cpu") == "300m");
  REQUIRE(resize(node, "web", R"({"limits":{"memory":"64Mi"}})"));
  REQUIRE(
      node.wait_pod("web", [&](const Object&) { return limits_in_kernel(container).second == 64 << 20; }));

  REQUIRE(resize(node, "web", R"({"requests":{"cpu":"1000"},"limits":{"cpu":"1000"}})"));
  const auto infeasible = [](const Object& pod) {
    return condition(pod, "PodResizePending", "/reason") == "Infeasible";
  };
  REQUIRE(node.wait_pod("web", infeasible));
  CHECK(condition(node.pod("web"), "PodResizePending", "/message")
            .starts_with("Node didn't have enough capacity: cpu, requested: 1000000, capacity: "));
  // Another agent knows what was allocated, whatever the spec asks for.
  node.stop_agent();
  node.start_agent();
  REQUIRE(node.wait_pod("web", ready));
  CHECK(infeasible(node.pod("web")));
  CHECK(limits_in_kernel(container) == std::pair<std::int64_t, std::int64_t>(40000, 64 << 20));
  REQUIRE(resize(node, "web", R"({"requests":{"cpu":"100m"},"limits":{"cpu":"100m"}})"));
  REQUIRE(node.wait_pod("web", [](const Object& pod) {
    return cpu_limit(pod) == "100m" && condition(pod, "PodResizePending", "/status").empty();
  }));
  CHECK(limits_in_kernel(container).first == 10000);
  CHECK(node.pod("web").get_int("/status/containerStatuses/0/restartCount") == 0);
}

TEST_CASE(
    "a resize that has no room waits until another pod has ended, and a policy may restart the container") {
  if (!enter_test_host("agent resize waits")) return;
  TestNode node(RuntimeOptions::Isolation::full);
  const auto cpus = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  const auto part = [&](int percent) { return std::to_string(cpus * 10 * percent) + "m"; };
  node.create(
      pod_yaml("large", "'busybox sleep 1000'", "", "    resources: {requests: {cpu: " + part(60) + "}}\n"));
  node.create(
      pod_yaml("small", "'busybox sleep 1000'", "",
               "    resources: {requests: {cpu: " + part(20) +
                   ", memory: 16Mi}, limits: {memory: "
                   "32Mi}}\n    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]\n"));
  REQUIRE(node.wait_pod("large", ready));
  REQUIRE(node.wait_pod("small", ready));
  node.create(
      pod_yaml("third", "'busybox sleep 1000'", "", "    resources: {requests: {cpu: " + part(90) + "}}\n"));
  // The third was given to the node by hand: it does not fit beside the others.
  REQUIRE(node.wait_pod("third", [](const Object& pod) { return pod.get("/status/phase") == "Failed"; }));
  CHECK(node.pod("third").get("/status/reason") == "OutOfcpu");

  REQUIRE(resize(node, "small", R"({"requests":{"cpu":")" + part(60) + "\"}}"));
  REQUIRE(node.wait_pod("small", [](const Object& pod) {
    return condition(pod, "PodResizePending", "/reason") == "Deferred";
  }));
  REQUIRE(node.client.remove("v1", "pods", "large", "default").wait(60s));
  REQUIRE(node.wait_pod("small", [&](const Object& pod) {
    return pod.get("/status/containerStatuses/0/allocatedResources/cpu") == part(60) &&
           condition(pod, "PodResizePending", "/status").empty();
  }));
  CHECK(node.pod("small").get_int("/status/containerStatuses/0/restartCount") == 0);

  REQUIRE(resize(node, "small", R"({"limits":{"memory":"48Mi"}})"));
  REQUIRE(node.wait_pod("small", [](const Object& pod) {
    return ready(pod) && pod.get_int("/status/containerStatuses/0/restartCount") == 1 &&
           pod.get("/status/containerStatuses/0/resources/limits/memory") == "48Mi";
  }));
  CHECK(limits_in_kernel(node.pod("small").uid() + "-main-1").second == 48 << 20);
}

TEST_CASE("what a resize may not change is refused in upstream's words") {
  if (!enter_test_host("agent resize refused")) return;
  TestNode node(RuntimeOptions::Isolation::process);
  node.create(pod_yaml("web", "'busybox sleep 1000'", "",
                       "    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {memory: 64Mi}}\n"));
  const auto refusal = [&](const std::string& patch) {
    WriteOptions options;
    options.subresource = "resize";
    auto done = node.client.patch("v1", "pods", "web", "default", PatchType::json, patch, options).wait(60s);
    return done ? std::string("taken") : done.error().to_string();
  };
  const auto says = [&](const std::string& patch, const char* words) {
    const std::string text = refusal(patch);
    CAPTURE(text);
    CHECK(text.find(words) != std::string::npos);
  };
  const std::string at = "/spec/containers/0/resources/";
  says(R"([{"op":"remove","path":")" + at + R"(requests/cpu"}])", "resource requests cannot be removed");
  says(R"([{"op":"add","path":")" + at + R"(limits/ephemeral-storage","value":"1Gi"}])",
       "only cpu and memory resources are mutable");
  const std::string guaranteed = R"({"cpu":"100m","memory":"64Mi"})";
  says(R"([{"op":"replace","path":")" + at + R"(requests","value":)" + guaranteed +
           R"(},{"op":"replace","path":")" + at + R"(limits","value":)" + guaranteed + "}]",
       "Pod QOS Class may not change as a result of resizing");
  says(R"([{"op":"replace","path":"/spec/containers/0/name","value":"other"}])",
       "containers may not be renamed or reordered on resize");
  says(R"([{"op":"replace","path":")" + at + R"(requests/memory","value":"96Mi"}])",
       "must be less than or equal to memory limit of 64Mi");
  // What is no resource is not looked at, as upstream: the subresource drops it.
  CHECK(refusal(R"([{"op":"replace","path":"/spec/containers/0/image","value":"box:2"}])") == "taken");
  CHECK(node.pod("web").get("/spec/containers/0/image") == "box:1");
  // No cgroups at level process: nothing pretends.
  REQUIRE(node.wait_pod("web", ready));
  REQUIRE(resize(node, "web", R"({"limits":{"memory":"128Mi"}})"));
  CHECK(node.wait_pod("web", [](const Object& pod) {
    return condition(pod, "PodResizePending", "/reason") == "Infeasible";
  }));
}

namespace {
/// The agent's folder on a file system of 64 MiB, in a mount namespace of this thread and those that it
/// makes.
struct SmallDisk {
  SmallDisk() {
    REQUIRE(unshare(CLONE_NEWNS) == 0);
    REQUIRE(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    REQUIRE(mount("none", dir.path().c_str(), "tmpfs", 0, "size=64m") == 0);
  }
  ~SmallDisk() { umount2(dir.path().c_str(), MNT_DETACH); }
  test::TempDir dir;
};

EvictionOptions watchful(EvictionThresholds hard, EvictionThresholds soft) {
  EvictionOptions out;
  out.hard = hard;
  out.soft = soft;
  out.soft_grace = 2s;
  out.period = 200ms;
  out.image_age_min = Duration::zero();
  out.condition_stays = 1s;
  return out;
}

std::string write_mib(int mib) {
  return "'busybox dd if=/dev/zero of=/scratch/data bs=1M count=" + std::to_string(mib) +
         "; exec busybox sleep 1000'";
}
constexpr const char* kScratch = "  volumes: [{name: tmp, emptyDir: {}}]\n";
constexpr const char* kScratchMount = "    volumeMounts: [{name: tmp, mountPath: /scratch}]\n";
}  // namespace

TEST_CASE("a short disk: unused images go, then the pod that uses most; the node says so and recovers") {
  if (!enter_test_host("agent eviction")) return;
  SmallDisk disk;
  TestNode node(RuntimeOptions::Isolation::full, [&](NodeAgentOptions& options) {
    options.data_dir = disk.dir.path();
    options.eviction = watchful({0, 20, 0, 0}, {0, 0, 0, 0});
  });
  REQUIRE(write_file(node.dir / "context/Dockerfile", "FROM scratch\nCOPY busybox /bin/other\n"));
  REQUIRE(ImageBuilder(node.images).build({.context = node.dir / "context", .tag = "spare:1"}).wait(30s));
  const auto pressure = [&](const char* wanted) {
    for (int tries = 0; tries < 600; ++tries) {
      auto found = node.client.get("v1", "nodes", "n1").wait(60s);
      if (found && condition(*found, "DiskPressure", "/status") == wanted) return true;
      node.pause(100ms);
    }
    return false;
  };
  node.create(pod_yaml("modest", write_mib(8), kScratch, kScratchMount));
  REQUIRE(node.wait_pod("modest", ready));
  CHECK(pressure("False"));
  node.create(pod_yaml("greedy", write_mib(48), kScratch, kScratchMount));
  REQUIRE(node.wait_pod("greedy", [](const Object& pod) { return pod.get("/status/phase") == "Failed"; }));
  const Object greedy = node.pod("greedy");
  CHECK(greedy.get("/status/reason") == "Evicted");
  CHECK(greedy.get("/status/message")
            .value_or("")
            .starts_with("The node was low on resource: ephemeral-storage. Threshold quantity: "));
  CHECK(condition(greedy, "DisruptionTarget", "/reason") == "TerminationByKubelet");
  CHECK(ready(node.pod("modest")));
  const auto spare = node.images->lookup("spare:1");
  const auto used = node.images->lookup("box:1");
  CHECK((spare && !*spare));
  CHECK((used && *used));
  CHECK(pressure("False"));  // what it wrote is gone
}

TEST_CASE("a soft threshold ends a pod only when it lasts") {
  if (!enter_test_host("agent soft eviction")) return;
  SmallDisk disk;
  TestNode node(RuntimeOptions::Isolation::full, [&](NodeAgentOptions& options) {
    options.data_dir = disk.dir.path();
    options.eviction = watchful({0, 0, 0, 0}, {0, 50, 0, 0});
  });
  const std::int64_t before = node.engine.clock().now().steady_ns;
  node.create(pod_yaml("greedy", write_mib(40), kScratch, kScratchMount));
  REQUIRE(node.wait_pod("greedy", [](const Object& pod) { return pod.get("/status/phase") == "Failed"; }));
  CHECK(node.engine.clock().now().steady_ns - before >= Duration(2s).count());
  CHECK(node.pod("greedy").get("/status/reason") == "Evicted");
}

TEST_CASE(
    "the machine goes down: ordinary pods end first, critical ones after them, nothing starts any more") {
  if (!enter_test_host("agent shutdown")) return;
  TestNode node(RuntimeOptions::Isolation::full);
  const std::string stubborn = R"j('trap "" TERM; while :; do busybox sleep 0.1; done')j";
  std::string patient = pod_yaml("plain", stubborn);
  const std::string grace = "terminationGracePeriodSeconds: 1";
  patient.replace(patient.find(grace), grace.size(), "terminationGracePeriodSeconds: 60");
  node.create(patient);
  node.create(pod_yaml("quick", "'exec busybox sleep 1000'", "  priorityClassName: system-node-critical\n"));
  REQUIRE(node.wait_pod("plain", ready));
  REQUIRE(node.wait_pod("quick", ready));
  REQUIRE(node.agent->drain({.by_priority = {{2'000'000'000, 2s}, {0, 2s}}}));
  for (const char* name : {"plain", "quick"}) {
    REQUIRE(node.wait_pod(name, [](const Object& pod) { return pod.get("/status/phase") == "Failed"; }));
    CHECK(node.pod(name).get("/status/reason") == "Terminated");
    CHECK(condition(node.pod(name), "DisruptionTarget", "/reason") == "TerminationByKubelet");
  }
  const auto ended = [&](const char* name) {
    return node.pod(name).get("/status/containerStatuses/0/state/terminated/finishedAt").value_or("");
  };
  // Killed after its part of the time, though its own grace period is a minute; then the critical one.
  CHECK(node.pod("plain").get_int("/status/containerStatuses/0/state/terminated/exitCode") == 137);
  CHECK(ended("plain") <= ended("quick"));
  auto self = node.client.get("v1", "nodes", "n1").wait(60s);
  REQUIRE(self);
  CHECK(condition(*self, "Ready", "/status") == "False");
  node.create(pod_yaml("late", "'busybox sleep 1000'"));
  node.pause(1s);
  CHECK(node.pod("late").get("/status/phase") == "Pending");
}
