// PodWorker on parts in memory: who is asked for what, in which order, and what is told meanwhile.
#include <future>

#include "api/meta.hpp"
#include "api/object_tree.hpp"
#include "base/fd.hpp"
#include "base/json.hpp"
#include "tests/node/fake_parts.hpp"

using namespace orchestra;
using namespace orchestra::node_test;
using namespace std::chrono_literals;

namespace {

/// `main` and what else the spec holds; a name is its UID's beginning, too.
Object pod_with(const std::string& name, const std::string& main, const std::string& more = "",
                const std::string& metadata = "") {
  return FakeNode::object(
      R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + name +
      R"(","namespace":"default","uid":"u")" + metadata +
      R"(},"spec":{"nodeName":"n1","automountServiceAccountToken":false,"terminationGracePeriodSeconds":30,)" +
      more + R"("containers":[{"name":"main","image":"box","args":["x"])" + main + "}]}}");
}

std::string limits(const char* cpu, const char* memory) {
  return std::string(R"(,"resources":{"limits":{"cpu":")") + cpu + R"(","memory":")" + memory + R"("}})";
}
constexpr const char* kRestarts =
    R"(,"resizePolicy":[{"resourceName":"memory","restartPolicy":"RestartContainer"}])";

/// All that the runtime was asked for.
std::vector<std::string> asked(FakeNode& node) {
  auto lines = node.journal.lines();
  std::erase_if(lines, [](const std::string& line) { return line.starts_with("event "); });
  return lines;
}

std::string condition(const Object& pod, const std::string& type) {
  for (const json::value& one : *array_at(tree(pod), "/status/conditions")) {
    if (string_at(one, "/type") == type) return string_at(one, "/status");
  }
  return {};
}

}  // namespace

TEST_CASE("who takes the events of a pod may ask for the pod meanwhile") {
  FakeNode node;
  node.network->warnings = {"no bandwidth limits here"};
  std::shared_ptr<node::PodWorker> worker;
  std::promise<bool> answered;
  std::thread asking;
  node.on_event = [&](const std::string& event) {
    if (event != "NetworkDegraded: no bandwidth limits here") return;
    auto asked = std::make_shared<std::promise<std::string>>();
    auto address = asked->get_future();
    asking = std::thread([&worker, asked] { asked->set_value(worker->address()); });
    answered.set_value(address.wait_for(5s) == std::future_status::ready);
  };
  worker = node.worker(pod_with("web", ""));
  worker->wake();
  CHECK(answered.get_future().get());
  REQUIRE(node.journal.wait("start u-main-0"));
  asking.join();
}

TEST_CASE("a pod runs until its sidecars have ended; its place is free when others hear that it is over") {
  FakeNode node(FakeNode::Api::server);
  node.runtime->code_on_signal = std::nullopt;
  const Object pod = node.create(pod_with(
      "web", R"(,"resources":{"requests":{"cpu":"1"}})",
      R"("restartPolicy":"Never","initContainers":[{"name":"side","image":"box","args":["x"],"restartPolicy":"Always"}],)"));
  const auto worker = node.worker(pod);
  const std::string main = pod.uid() + "-main-0", side = pod.uid() + "-side-0";
  worker->wake();
  REQUIRE(node.journal.wait("start " + main));
  node.runtime->end(main, 0);
  REQUIRE(node.journal.wait("signal " + side));
  worker->mirrored();  // whatever it has to tell is told anew
  REQUIRE(node.wait_phase("web", "Running"));
  CHECK(condition(node.pod("web"), "Initialized") == "True");
  CHECK(node.context.allocations.claim("other", {4000, 0}));
  node.runtime->end(side, 0);
  REQUIRE(node.wait_phase("web", "Succeeded"));
  CHECK_FALSE(node.context.allocations.claim("other", {4000, 0}));
  CHECK(node.journal.count("start " + pod.uid() + "-side-1") == 0);
}

TEST_CASE("sidecars end after the main containers, the last that was started first") {
  FakeNode node;
  node.runtime->code_on_signal = std::nullopt;
  const auto sidecar = [](const std::string& name) {
    return R"({"name":")" + name + R"(","image":"box","args":["x"],"restartPolicy":"Always"})";
  };
  const auto worker = node.worker(
      pod_with("web", "", R"("initContainers":[)" + sidecar("one") + "," + sidecar("two") + "],"));
  worker->wake();
  REQUIRE(node.journal.wait("start u-main-0"));
  worker->removed();
  for (const char* name : {"main", "two", "one"}) {
    const std::string id = std::string("u-") + name + "-0";
    REQUIRE(node.journal.wait("signal " + id));
    node.runtime->end(id, 0);
  }
  REQUIRE(node.journal.wait("finished"));
  CHECK(asked(node) == std::vector<std::string>{
                           "create pod cpu 0m memory 0Mi", "start u-one-0", "start u-two-0", "start u-main-0",
                           "signal u-main-0", "signal u-two-0", "signal u-one-0", "remove pod", "finished"});
}

namespace {
std::string deleted_with_grace(int seconds) {
  return R"(,"deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":)" +
         std::to_string(seconds);
}
}  // namespace

TEST_CASE("a later delete shortens the grace of a pod that ends, and never lengthens it") {
  for (const auto& [first, second] : {std::pair(600, 1), std::pair(2, 600)}) {
    FakeNode node;
    node.runtime->code_on_signal = std::nullopt;
    const auto worker = node.worker(pod_with("web", ""));
    worker->wake();
    REQUIRE(node.journal.wait("start u-main-0"));
    worker->update(pod_with("web", "", "", deleted_with_grace(first)));
    REQUIRE(node.journal.wait("signal u-main-0"));
    if (first > 60) CHECK(node.journal.count("kill u-main-0") == 0);
    worker->update(pod_with("web", "", "", deleted_with_grace(second)));
    CHECK(node.journal.wait("kill u-main-0"));
  }
}

TEST_CASE("a preStop hook that overruns the grace leaves its program two seconds of its own") {
  FakeNode node;
  node.runtime->code_on_signal = std::nullopt;
  const std::string hook = R"(,"lifecycle":{"preStop":{"exec":{"command":["wait"]}}})";
  const auto worker = node.worker(pod_with("web", hook));
  worker->wake();
  REQUIRE(node.journal.wait("start u-main-0"));
  worker->update(pod_with("web", hook, "", deleted_with_grace(600)));
  REQUIRE(node.journal.wait("exec u-main-0"));
  CHECK(node.journal.count("signal u-main-0") == 0);
  node.clock.ahead = Duration(601s).count();
  worker->wake();
  REQUIRE(node.journal.wait("signal u-main-0"));
  CHECK(node.journal.count("kill u-main-0") == 0);
  node.clock.ahead = Duration(604s).count();
  worker->wake();
  REQUIRE(node.journal.wait("kill u-main-0"));
}

TEST_CASE("on a machine that was started anew a pod does its init containers again") {
  FakeNode node;
  const auto worker =
      node.worker(pod_with("web", "", R"("initContainers":[{"name":"first","image":"box","args":["x"]}],)"));
  PodRecord record;
  record.config.uid = record.sandbox.uid = "u";
  record.sandbox.ended = true;
  for (const char* name : {"first", "main"}) {
    ContainerStatus ended{.id = std::string("u-") + name + "-0", .pod_uid = "u", .name = name};
    ended.state = ContainerState::exited;
    ended.exit_code = 0;
    record.containers.push_back(ended);
  }
  worker->adopt(record);
  worker->wake();
  REQUIRE(node.journal.wait("start u-first-1"));
  node.runtime->end("u-first-1", 0);
  REQUIRE(node.journal.wait("start u-main-1"));
  CHECK(node.journal.count("start u-first-2") == 0);
}

TEST_CASE("what a pod ended with is in the API before the records of it go") {
  FakeNode node(FakeNode::Api::away);
  const auto worker = node.worker(pod_with("web", "", R"("restartPolicy":"Never",)"));
  worker->wake();
  REQUIRE(node.journal.wait("start u-main-0"));
  node.runtime->end("u-main-0", 3);
  // Before its end and after it, and once more after the pause between two tries.
  const std::string refused = "event could not write a pod's status";
  const std::size_t before = node.journal.count(refused);
  REQUIRE(node.journal.wait(refused, before + 3));
  CHECK(node.journal.count("remove pod") == 0);
  worker->removed();  // the API is back and has no such pod any more
  CHECK(node.journal.wait("finished"));
  CHECK(node.journal.count("remove pod") == 1);
}

TEST_CASE("an agent that finds less of an ended pod than was told leaves its status as it is") {
  FakeNode node(FakeNode::Api::server);
  const Object made = node.create(pod_with("web", "", R"("restartPolicy":"Never",)"));
  WriteOptions status;
  status.subresource = "status";
  const auto told =
      node.context.client
          .patch(
              "v1", "pods", "web", "default", PatchType::merge,
              R"({"status":{"phase":"Failed","reason":"Evicted","podIP":"10.0.0.7","podIPs":[{"ip":"10.0.0.7"}],
          "containerStatuses":[{"name":"main","image":"box","imageID":"","ready":false,"restartCount":0,
                                "state":{"terminated":{"exitCode":3}}}]}})",
              status)
          .wait(60s);
  REQUIRE_MESSAGE(told, told.error().to_string());
  const auto worker = node.worker(*told);
  PodRecord record;  // the agent before was killed while it took the pod apart
  record.config.uid = record.sandbox.uid = made.uid();
  record.sandbox.ended = true;
  worker->adopt(record);
  worker->wake();
  REQUIRE(node.journal.wait("remove pod"));
  worker->stop();
  CHECK(node.pod("web").resource_version() == told->resource_version());
  CHECK(node.journal.count("start " + made.uid() + "-main-0") == 0);
}

TEST_CASE("an evicted pod that does not end is waited for in vain no longer than its grace and some") {
  FakeNode node;
  node.runtime->code_on_signal = std::nullopt;
  const auto worker = node.worker(pod_with("web", ""));
  worker->wake();
  REQUIRE(node.journal.wait("start u-main-0"));
  CHECK_FALSE(worker->evicting());
  worker->evict("the disk is short", 30s);
  REQUIRE(node.journal.wait("signal u-main-0"));
  CHECK(worker->evicting());
  node.clock.ahead = Duration(50s).count();
  CHECK(worker->evicting());
  node.clock.ahead = Duration(61s).count();
  CHECK_FALSE(worker->evicting());
  CHECK(worker->evicted());
}

TEST_CASE("the deadline of a pod counts from the start that its status tells, under a new agent too") {
  const std::string told =
      "event DeadlineExceeded: Pod was active on the node longer than the specified deadline";
  for (const int seconds : {600, 60}) {
    FakeNode node;
    json::value pod = tree(pod_with("web", "", "\"activeDeadlineSeconds\":" + std::to_string(seconds) + ","));
    const std::int64_t began = node.clock.now().wall_ns - Duration(300s).count();
    pod.as_object()["status"] = json::object{{"phase", "Running"}, {"startTime", api::format_time(began)}};
    const auto worker = node.worker(FakeNode::object(to_json(pod)));
    worker->wake();
    REQUIRE(node.journal.wait(seconds == 600 ? "start u-main-0" : told));
    CHECK(node.journal.count("start u-main-0") == (seconds == 600 ? 1 : 0));
    if (seconds == 600) {
      node.clock.ahead = Duration(301s).count();
      worker->wake();
      CHECK(node.journal.wait(told));
      CHECK(node.journal.wait("signal u-main-0"));
    }
  }
}

TEST_CASE("a clock that is set neither ends a pod at its deadline nor keeps it beyond") {
  const std::string told =
      "event DeadlineExceeded: Pod was active on the node longer than the specified deadline";
  for (const Duration set_by : {Duration(1h), Duration(-1h)}) {
    FakeNode node;
    const auto worker = node.worker(pod_with("web", "", R"("activeDeadlineSeconds":600,)"));
    worker->wake();
    REQUIRE(node.journal.wait("start u-main-0"));
    node.clock.set_by = set_by.count();
    node.clock.ahead = Duration(500s).count();
    worker->wake();
    CHECK(node.journal.count(told) == 0);
    node.clock.ahead = Duration(601s).count();
    worker->wake();
    CHECK(node.journal.wait(told));
  }
}

TEST_CASE("a pod of a runtime class that this node does not have is not run by another runtime") {
  FakeNode node(FakeNode::Api::server);
  for (const char* handler : {"gvisor", "orchestra"}) {
    node.create(
        FakeNode::object(R"({"apiVersion":"node.k8s.io/v1","kind":"RuntimeClass","metadata":{"name":")" +
                         std::string(handler) + R"("},"handler":")" + handler + "\"}"));
  }
  const Object refused = node.create(pod_with("boxed", "", R"("runtimeClassName":"gvisor",)"));
  const Object taken = node.create(pod_with("plain", "", R"("runtimeClassName":"orchestra",)"));
  node.worker(refused)->wake();
  node.worker(taken)->wake();
  REQUIRE(node.journal.wait("start " + taken.uid() + "-main-0"));
  const auto told = [&] {
    ListOptions of_events;
    of_events.ns = "default";
    of_events.fields = "involvedObject.name=boxed,reason=FailedCreatePodSandBox";
    const auto events = node.context.client.list("v1", "events", of_events).wait(60s).value();
    return events.items.empty() ? std::string() : events.items[0].get("/message").value_or("");
  };
  std::string message;
  for (int look = 0; look < 3000 && message.empty(); ++look) {
    message = told();
    if (message.empty()) node.workers[0]->wake();
  }
  CHECK(message.find("no runtime for \"gvisor\" is configured on this node") != std::string::npos);
  CHECK(node.journal.count("start " + refused.uid() + "-main-0") == 0);
}

TEST_CASE("a pod that is being deleted is not evicted on top") {
  FakeNode node;
  const auto worker = node.worker(pod_with("web", "", "", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z")"));
  worker->evict("emptyDir is too large", 1s);
  CHECK_FALSE(worker->evicting());
  CHECK_FALSE(worker->evicted());
}

TEST_CASE("a container of an older agent, without a note of its resources, is resized like any other") {
  FakeNode node;
  const auto worker = node.worker(pod_with("web", limits("200m", "64Mi")));
  PodRecord record;
  record.config.uid = record.sandbox.uid = "u";
  record.config.limits = node::pod_limits(tree(worker->pod()), "Guaranteed");
  ContainerConfig config;
  config.id = "u-main-0";
  config.name = "main";
  REQUIRE(node.runtime->create_container("u", config).wait(60s));
  REQUIRE(node.runtime->start_container("u", config.id).wait(60s));
  record.containers = {node.runtime->status("u", config.id).wait(60s).value()};
  worker->adopt(record);
  worker->update(pod_with("web", limits("400m", "128Mi")));
  REQUIRE(node.journal.wait("limit pod cpu 400m memory 128Mi"));
  CHECK(asked(node) == std::vector<std::string>{"start u-main-0", "limit pod cpu 0m memory 128Mi",
                                                "limit u-main-0 cpu 400m memory 128Mi",
                                                "limit pod cpu 400m memory 128Mi"});
}

TEST_CASE("the pod's own limits are lifted before a container restarts with larger ones, and set after it") {
  FakeNode node;
  const auto worker = node.worker(pod_with("web", limits("200m", "64Mi") + kRestarts));
  worker->wake();
  REQUIRE(node.journal.wait("start u-main-0"));
  worker->update(pod_with("web", limits("400m", "128Mi") + kRestarts));
  REQUIRE(node.journal.wait("limit pod cpu 400m memory 128Mi"));
  CHECK(asked(node) == std::vector<std::string>{"create pod cpu 200m memory 64Mi", "start u-main-0",
                                                "limit pod cpu 0m memory 128Mi", "signal u-main-0",
                                                "start u-main-1", "limit pod cpu 400m memory 128Mi"});
}

TEST_CASE("a runtime that cannot resize is asked once for each change") {
  FakeNode node;
  node.runtime->limits_answer = [](const std::string&) -> Result<void> {
    return Error(Error::unsupported, "runtime", "there are no cgroups here");
  };
  const auto worker = node.worker(pod_with("web", limits("200m", "64Mi")));
  worker->wake();
  REQUIRE(node.journal.wait("start u-main-0"));
  const auto with_debugger = [](const std::string& name) {
    return R"("ephemeralContainers":[{"name":")" + name + R"(","image":"box","args":["x"]}],)";
  };
  // Where the second of them runs the turn that began with the first one is over.
  for (const char* name : {"one", "two", "three"}) {
    worker->update(pod_with("web", limits("400m", "64Mi"), with_debugger(name)));
    REQUIRE(node.journal.wait(std::string("start u-") + name + "-0"));
  }
  CHECK(node.journal.count("limit pod cpu 0m memory 64Mi") == 1);
  CHECK(node.journal.count("limit u-main-0 cpu 400m memory 64Mi") == 0);
  worker->update(pod_with("web", limits("300m", "64Mi"), with_debugger("four")));
  REQUIRE(node.journal.wait("limit pod cpu 0m memory 64Mi", 2));
}

namespace {
/// The first of `name`'s container statuses as it is told, once `done` holds for it.
json::value told_status(FakeNode& node, const std::string& name,
                        const std::function<bool(const json::value&)>& done) {
  ListOptions options;
  options.ns = "default";
  auto watch = node.context.client.watch("v1", "pods", options).value();
  const auto end = node.clock.now().steady_ns + Duration(60s).count();
  json::value last;
  while (node.clock.now().steady_ns < end) {
    const Object pod = node.pod(name);
    if (const json::array* all = array_at(tree(pod), "/status/containerStatuses")) last = all->front();
    if (done(last)) return last;
    (void)watch.next(200ms);
  }
  FAIL("the status of " << name << " is " << to_json(last));
  return last;
}
}  // namespace

TEST_CASE("a container whose postStart hook fails is killed, and waits as PostStartHookError") {
  FakeNode node(FakeNode::Api::server);
  node.context.options.restart_backoff_base = node.context.options.restart_backoff_max = 1h;
  const Object pod =
      node.create(pod_with("web", R"(,"lifecycle":{"postStart":{"exec":{"command":["prepare"]}}})"));
  const std::string id = pod.uid() + "-main-0";
  node.worker(pod)->wake();
  REQUIRE(node.journal.wait("exec " + id));
  node.runtime->forget_commands();
  REQUIRE(node.journal.wait("kill " + id));
  // The first restart is at once, the second waits.
  const std::string again = pod.uid() + "-main-1";
  REQUIRE(node.journal.wait("exec " + again));
  node.runtime->forget_commands();
  REQUIRE(node.journal.wait("kill " + again));
  const json::value status = told_status(node, "web", [](const json::value& seen) {
    return string_at(seen, "/state/waiting/reason") == "PostStartHookError";
  });
  CHECK(string_at(status, "/state/waiting/message").starts_with("PostStartHook failed: "));
  CHECK(find(status, "/lastState/terminated") != nullptr);
  node.clock.ahead = Duration(11s).count();
  node.workers.front()->wake();
  const json::value later = told_status(node, "web", [](const json::value& seen) {
    return string_at(seen, "/state/waiting/reason") == "CrashLoopBackOff";
  });
  CHECK(string_at(later, "/state/waiting/message").starts_with("back-off 3600s restarting failed container"));
}

TEST_CASE("the containers of a pod share 12 KiB of termination messages, and one has 4 KiB at most") {
  for (const int others : {0, 3}) {
    CAPTURE(others);
    FakeNode node(FakeNode::Api::server);
    node.runtime->code_on_signal = std::nullopt;
    std::string more;
    for (int i = 0; i < others; ++i)
      more += R"(},{"name":"other)" + std::to_string(i) + R"(","image":"box","args":["x"])";
    const Object pod = node.create(pod_with("web", more, R"("restartPolicy":"Never",)"));
    const std::string id = pod.uid() + "-main-0";
    node.worker(pod)->wake();
    REQUIRE(node.journal.wait("start " + id));
    REQUIRE(write_file(node.dir.path() + "/pods/" + pod.uid() + "/termination/" + id,
                       std::string(10'000, 'x'), 0644));
    node.runtime->end(id, 1);
    const json::value status = told_status(
        node, "web", [](const json::value& seen) { return find(seen, "/state/terminated") != nullptr; });
    CHECK(string_at(status, "/state/terminated/message").size() == (others == 0 ? 4096 : 3072));
  }
}

TEST_CASE("containers after one with a postStart hook are started when the hook has ended") {
  const std::string hook = R"(,"lifecycle":{"postStart":{"exec":{"command":["wait"]}}})";
  const std::string side =
      R"("initContainers":[{"name":"side","image":"box","args":["x"],"restartPolicy":"Always")";
  struct Row {
    std::string main, more;
    std::string first, next;
  };
  for (const Row& row :
       {Row{hook + R"(},{"name":"second","image":"box","args":["x"])", "", "u-main-0", "u-second-0"},
        Row{"", side + hook + "}],", "u-side-0", "u-main-0"}}) {
    CAPTURE(row.first);
    FakeNode node;
    const auto worker = node.worker(pod_with("web", row.main, row.more));
    worker->wake();
    REQUIRE(node.journal.wait("exec " + row.first));
    // Where this one runs the turn that began the hook is over.
    worker->update(
        pod_with("web", row.main,
                 row.more + R"("ephemeralContainers":[{"name":"look","image":"box","args":["x"]}],)"));
    REQUIRE(node.journal.wait("start u-look-0"));
    CHECK(node.journal.count("start " + row.next) == 0);
    node.runtime->finish_commands(0);
    CHECK(node.journal.wait("start " + row.next));
    CHECK(node.journal.count("kill " + row.first) == 0);
  }
}
