#pragma once
// One node on real parts for the tests of the agent: API server, controllers, runtime, images, pod network,
// in a network namespace of its own without uplink.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "api/object_tree.hpp"
#include "api/pod_attacher.hpp"
#include "api/pod_runtime.hpp"
#include "base/fd.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/controllers.hpp"
#include "orchestra/env.hpp"
#include "orchestra/image_builder.hpp"
#include "orchestra/image_store.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/node_agent.hpp"
#include "orchestra/pod_network.hpp"
#include "runtime/pod_runtime_factory.hpp"
#include "tests/support/test.hpp"

namespace orchestra::agent_test {

using namespace std::chrono_literals;

/// The real clock, with a wall time that the test may set forward.
class ShiftedClock final : public Clock {
 public:
  Now now() override {
    Now real = real_clock().now();
    real.wall_ns += ahead.load();
    return real;
  }
  std::atomic<std::int64_t> ahead{0};
};

/// One node on real parts; restart() replaces the agent and the runtime handle as a new process would.
struct TestNode {
  using Tune = std::function<void(NodeAgentOptions&)>;
  explicit TestNode(RuntimeOptions::Isolation level, Tune change = {})
      : isolation(level), tune(std::move(change)) {
    REQUIRE(make_directories(dir / "context"));
    REQUIRE(system(("cp /bin/busybox " + (dir / "context/busybox")).c_str()) == 0);
    REQUIRE(write_file(
        dir / "context/Dockerfile",
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nENTRYPOINT [\"/bin/sh\", \"-c\"]\n"));
    REQUIRE(server.start());
    REQUIRE(controllers.start());
    images = ImageStore::open(engine, {.dir = dir / "images", .http = make_http_client(engine)}).value();
    auto built = ImageBuilder(images).build({.context = dir / "context", .tag = "box:1"}).wait(30s);
    REQUIRE_MESSAGE(built, built.error().to_string());
    if (level == RuntimeOptions::Isolation::process) {
      attacher = make_process_pod_network(engine, {.data_dir = dir / "net", .node_index = 7}).value();
    } else {
      auto opened = PodNetwork::open(engine, {.data_dir = dir / "net",
                                              .instance = instance,
                                              .pod_cidr = "10.244.0.0/24",
                                              .cluster_cidr = "10.244.0.0/16",
                                              .service_cidr = "10.96.0.0/16"});
      REQUIRE_MESSAGE(opened, opened.error().to_string());
      network = *opened;
      attacher = network->attacher();
    }
    start_agent();
  }
  ~TestNode() {
    if (agent) (void)agent->remove_all_pods(30s);
    stop_agent();
    // After a failed check pods may be left: nothing of a test may stay on the machine.
    if (open_runtime()) {
      if (auto pods = runtime->list().wait(60s)) {
        for (const PodRecord& one : *pods) (void)runtime->remove_pod(one.config.uid).wait(30s);
      }
      runtime.reset();
    }
    controllers.stop();
    if (network) (void)network->teardown().wait(60s);
    server.stop();
    rmdir("/run/orchestra");
  }
  /// The one before lets go of its folder when the last of its calls has ended.
  Result<void> open_runtime() {
    for (int tries = 0;; ++tries) {
      auto opened = make_pod_runtime(engine, {.state_dir = dir / "run",
                                              .data_dir = dir / "runtime",
                                              .isolation = isolation,
                                              .cgroup_parent = "/orchestra-" + instance,
                                              .instance = instance});
      if (opened) {
        runtime = *opened;
        return {};
      }
      if (!opened.error().is(Error::busy) || tries == 600) return opened.error();
      pause(100ms);
    }
  }
  void pause(Duration time) {
    Promise<void> timer;
    auto over = timer.pending();
    engine.after(time, [timer] { timer.set({}); });
    (void)over.wait(60s);
  }
  void start_agent() {
    auto opened = open_runtime();
    REQUIRE_MESSAGE(opened, opened.error().to_string());
    NodeAgentParts parts{runtime, images->service(), attacher, nullptr, make_http_client(engine)};
    NodeAgentOptions options;
    options.node_name = "n1";
    options.data_dir = dir.path();
    options.restart_backoff_base = 100ms;
    options.manifest_dir = dir / "manifests";
    if (tune) tune(options);
    agent = std::make_unique<NodeAgent>(engine, client, parts, options);
    auto started = agent->start();
    REQUIRE_MESSAGE(started, started.error().to_string());
  }
  void stop_agent() {
    if (agent) agent->stop();
    agent.reset();
    runtime.reset();
  }
  void create(const std::string& yaml) {
    auto object = Object::from_yaml(yaml);
    REQUIRE_MESSAGE(object, object.error().to_string());
    auto made = client.create(*object).wait(60s);
    REQUIRE_MESSAGE(made, made.error().to_string());
  }
  Object pod(const std::string& name) {
    auto object = client.get("v1", "pods", name, "default").wait(60s);
    return object ? *object : Object();
  }
  /// Follows a watch until `done` holds for the pod (an empty object: it is gone).
  bool wait_pod(const std::string& name, const std::function<bool(const Object&)>& done,
                Duration deadline = 60s) {
    ListOptions options;
    options.ns = "default";
    options.fields = "metadata.name=" + name;
    auto watch = client.watch("v1", "pods", options);
    REQUIRE(watch);
    const auto end = engine.clock().now().steady_ns + deadline.count();
    while (engine.clock().now().steady_ns < end) {
      if (done(pod(name))) return true;
      (void)watch->next(200ms);
    }
    const Object last = pod(name);
    MESSAGE("last seen: " << (last ? last.yaml() : "nothing"));
    if (auto events = client.list("v1", "events").wait(60s)) {
      for (const Object& e : events->items)
        MESSAGE(e.get("/reason").value_or("") << ": " << e.get("/message").value_or(""));
    }
    return false;
  }
  /// The log once it has `bytes` at least: a program may write after its pod is ready.
  std::string logs_of_size(const std::string& name, const std::string& container, std::size_t bytes) {
    std::string text;
    for (int tries = 0; tries < 600 && text.size() < bytes; ++tries) {
      if (tries != 0) pause(100ms);
      text = logs(name, container);
    }
    return text;
  }
  std::string logs(const std::string& name, const std::string& container, LogOptions options = {}) {
    const Object object = pod(name);
    auto stream = agent->streams()->log({"default", name, object.uid(), container, "n1"}, options).wait(60s);
    if (!stream) return "error: " + stream.error().to_string();
    std::string out;
    while (true) {
      auto chunk = (*stream)->read(4096).wait(60s);
      if (!chunk || chunk->empty()) return out;
      out += *chunk;
    }
  }

  std::string instance = "aa" + std::to_string(100000 + getpid() % 900000);
  RuntimeOptions::Isolation isolation;
  Tune tune;
  test::TempDir dir;
  ShiftedClock clock;
  Engine engine{EngineOptions{
      .log_sink = [](const LogRecord& r) { std::fprintf(stderr, "%s\n", format_log_text(r).c_str()); },
      .log_level = LogLevel::warning,
      .clock = &clock}};
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server{engine, store, {}};
  Client client = server.client();
  Controllers controllers{engine, client, {.local_volume_root = dir / "volumes"}};
  std::shared_ptr<ImageStore> images;
  std::shared_ptr<PodNetwork> network;
  std::shared_ptr<PodAttacher> attacher;
  std::shared_ptr<PodRuntime> runtime;
  std::unique_ptr<NodeAgent> agent;
};

inline bool running(const Object& pod) { return pod && pod.get("/status/phase") == "Running"; }
inline bool ready(const Object& pod) {
  return pod && pod.get_bool("/status/containerStatuses/0/ready").value_or(false);
}

inline std::string pod_yaml(const std::string& name, const std::string& script, const std::string& more = "",
                            const std::string& container = "") {
  return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
         ", namespace: default, labels: {app: x}}\nspec:\n  nodeName: n1\n"
         "  terminationGracePeriodSeconds: 1\n" +
         more + "  containers:\n  - name: main\n    image: box:1\n    args: [" + script + "]\n" + container;
}

/// The network namespace is this thread's, and that of the threads it makes.
inline bool enter_test_host(const char* test) {
  if (geteuid() != 0) {
    test::record_skip(test, "needs root");
    return false;
  }
  REQUIRE(unshare(CLONE_NEWNET) == 0);
  REQUIRE(system("ip link set lo up") == 0);
  return true;
}

}  // namespace orchestra::agent_test
