// Scheduler extenders: a program that answers over HTTP, a scheduler that asks it, and what becomes of pods
// when it fails.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>

#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "tests/controllers/scheduled.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using namespace std::chrono_literals;

namespace {

// An extender in this process. What it says is set by the test; a verb for which nothing is set gets no
// answer.
class FakeExtender {
 public:
  using Answer = std::function<std::pair<int, std::string>(const json::value& args)>;

  FakeExtender() {
    HttpServerOptions options;
    options.listen = "127.0.0.1:0";
    options.body_bytes_max = 64 << 20;
    server_ = HttpServer::start(
                  engine_, options,
                  [this](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
                    const std::string verb = request.target.substr(request.target.rfind('/') + 1);
                    const json::value args = parse_json(request.body).value_or(nullptr);
                    std::unique_lock lock(mutex_);
                    heard_.push_back(verb + " " +
                                     string_at(args, "/Pod/metadata/name", string_at(args, "/PodName")));
                    const auto found = answers_.find(verb);
                    if (found == answers_.end()) {
                      silent_.push_back(std::move(responder));
                      return;
                    }
                    const Answer answer = found->second;
                    lock.unlock();
                    const auto [status, body] = answer(args);
                    responder->respond(status, {{"Content-Type", "application/json"}}, body);
                  })
                  .value();
  }
  ~FakeExtender() {
    server_->stop(0s);
    std::lock_guard lock(mutex_);
    silent_.clear();
  }
  void says(const std::string& verb, Answer answer) {
    std::lock_guard lock(mutex_);
    answers_[verb] = std::move(answer);
  }
  std::size_t asked(const std::string& what) {
    std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::count(heard_.begin(), heard_.end(), what));
  }
  std::string configuration(const std::string& more) const {
    return "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nextenders:\n- "
           "urlPrefix: " +
           url() + "\n  " + more + "\n";
  }
  std::string url() const { return "http://" + server_->address(); }

 private:
  Engine engine_;
  std::mutex mutex_;
  std::map<std::string, Answer> answers_;
  std::vector<std::string> heard_;
  std::vector<std::shared_ptr<HttpResponder>> silent_;
  std::shared_ptr<HttpServer> server_;
};

// Whole nodes that pass all but these.
FakeExtender::Answer all_but(const std::string& refused, const std::string& why) {
  return [=](const json::value& args) -> std::pair<int, std::string> {
    json::array passed;
    json::object failed;
    for (const json::value& node : *array_at(args, "/Nodes/items")) {
      const std::string name = string_at(node, "/metadata/name");
      if (refused == "*" || name == refused) {
        failed[name] = why;
      } else {
        passed.push_back(node);
      }
    }
    return {200, to_json(json::object{{"Nodes", {{"items", passed}}}, {"FailedNodes", failed}})};
  };
}

SchedulerOptions configured(const std::string& text) {
  SchedulerOptions options = test::Scheduled::fast();
  options.config_yaml = text;
  return options;
}

struct Extended : test::Scheduled {
  explicit Extended(const std::string& configuration) : Scheduled({}, configured(configuration)) {
    REQUIRE(scheduler.start());
  }
};

}  // namespace

TEST_CASE("an extender takes nodes out, and its scores count") {
  FakeExtender extender;
  extender.says("filter", all_but("n1", "no licence here"));
  extender.says("prioritize", [](const json::value&) -> std::pair<int, std::string> {
    return {200, R"([{"Host":"n3","Score":10}])"};
  });
  Extended cluster(extender.configuration("filterVerb: filter\n  prioritizeVerb: prioritize\n  weight: 10"));
  for (const char* node : {"n1", "n2", "n3"}) cluster.add_node(node, "4");
  cluster.knows_nodes(3);
  for (const char* pod : {"a", "b", "c"}) cluster.add_pod(pod, "500m");
  for (const char* pod : {"a", "b", "c"}) {
    CHECK_MESSAGE(cluster.eventually([&] { return cluster.node_of(pod) == "n3"; }), cluster.why(pod));
    CHECK(extender.asked(std::string("prioritize ") + pod) >= 1);
  }
  extender.says("filter", all_but("*", "no licence here"));
  cluster.add_pod("d", "500m");
  CHECK_MESSAGE(cluster.eventually([&] {
    return cluster.why("d").find("0/3 nodes are available: 3 no licence here.") == 0;
  }),
                cluster.why("d"));
  // Anything may help with what only the extender knows.
  extender.says("filter", all_but("n3", "no licence here"));
  REQUIRE(cluster.client.remove("v1", "pods", "a", "default", {.grace_period_seconds = 0}).wait(60s));
  CHECK_MESSAGE(
      cluster.eventually([&] { return !cluster.node_of("d").empty() && cluster.node_of("d") != "n3"; }),
      cluster.why("d"));
}

TEST_CASE(
    "an extender that gives no answer, or a wrong one, costs its own pods a while and no other pod "
    "anything") {
  FakeExtender extender;
  Extended cluster(extender.configuration(
      "filterVerb: filter\n  httpTimeout: 500ms\n  nodeCacheCapable: true\n  managedResources: [{name: "
      "example.com/seat, ignoredByScheduler: true}]"));
  cluster.add_node("n1", "4");
  const auto add_seat = [&](const std::string& name) {
    cluster.create(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
        ", namespace: default}\nspec: {containers: [{name: main, image: web, resources: {requests: "
        "{example.com/seat: 1}, limits: {example.com/seat: 1}}}]}\n");
  };
  add_seat("silent");
  CHECK(cluster.eventually([&] {
    return cluster.why("silent") == "extender " + extender.url() + ": filter: no answer within its deadline";
  }));
  cluster.add_pod("other", "500m");
  CHECK(cluster.eventually([&] { return cluster.node_of("other") == "n1"; }));
  CHECK(extender.asked("filter other") == 0);
  extender.says("filter", [](const json::value&) -> std::pair<int, std::string> { return {500, "oops"}; });
  add_seat("broken");
  const std::string failed = "extender " + extender.url() + ": filter: failed filter with extender at URL " +
                             extender.url() + "/filter, code 500";
  CHECK(cluster.eventually([&] { return cluster.why("broken") == failed; }));
  CHECK(cluster.eventually(
      [&] { return cluster.events_of("broken").find("FailedScheduling: " + failed) != std::string::npos; }));
  extender.says("filter", [](const json::value&) -> std::pair<int, std::string> {
    return {200, R"({"NodeNames":["elsewhere"]})"};
  });
  add_seat("wrong");
  CHECK(cluster.eventually(
      [&] { return cluster.why("wrong").find("about which it was not asked") != std::string::npos; }));
  extender.says("filter", [](const json::value& args) -> std::pair<int, std::string> {
    return {200, to_json(json::object{{"NodeNames", *find(args, "/NodeNames")}})};
  });
  for (const char* pod : {"silent", "broken", "wrong"})
    CHECK_MESSAGE(cluster.eventually([&] { return cluster.node_of(pod) == "n1"; }), cluster.why(pod));
}

TEST_CASE("an extender that may be ignored is passed over when it fails") {
  FakeExtender extender;
  extender.says("filter", [](const json::value&) -> std::pair<int, std::string> { return {503, ""}; });
  extender.says("prioritize", [](const json::value&) -> std::pair<int, std::string> {
    return {200, "nonsense"};
  });
  extender.says("bind", [](const json::value&) -> std::pair<int, std::string> { return {404, ""}; });
  Extended cluster(extender.configuration(
      "filterVerb: filter\n  prioritizeVerb: prioritize\n  weight: 1\n  bindVerb: bind\n  ignorable: true"));
  cluster.add_node("n1", "4");
  cluster.add_pod("a", "500m");
  CHECK_MESSAGE(cluster.eventually([&] { return cluster.node_of("a") == "n1"; }), cluster.why("a"));
  CHECK(extender.asked("bind a") == 1);
}

TEST_CASE("an extender that binds does it instead of the scheduler") {
  std::atomic<int> refusals{0};
  FakeExtender extender;
  Extended cluster(extender.configuration("bindVerb: bind"));
  extender.says(
      "bind", [&refusals, client = cluster.client](const json::value& args) -> std::pair<int, std::string> {
        if (refusals++ == 0) return {200, R"({"Error":"not now"})"};
        ApiRequest request;
        request.verb = "create";
        request.resource = "pods";
        request.subresource = "binding";
        request.ns = string_at(args, "/PodNamespace");
        request.name = string_at(args, "/PodName");
        request.body = to_json(json::object{
            {"apiVersion", "v1"},
            {"kind", "Binding"},
            {"metadata",
             {{"name", request.name}, {"namespace", request.ns}, {"uid", string_at(args, "/PodUID")}}},
            {"target", {{"apiVersion", "v1"}, {"kind", "Node"}, {"name", string_at(args, "/Node")}}}});
        // The answer may come before the binding does: the scheduler waits for the pod's own event.
        client.request(std::move(request)).on_ready([](const Result<ApiResponse>&) {});
        return {200, "{}"};
      });
  cluster.add_node("n1", "4");
  cluster.add_pod("a", "500m");
  CHECK_MESSAGE(cluster.eventually([&] { return cluster.node_of("a") == "n1"; }), cluster.why("a"));
  CHECK(extender.asked("bind a") == 2);
  CHECK(cluster.eventually([&] {
    return cluster.events_of("a").find("FailedScheduling: extender " + extender.url() + ": bind: not now") !=
           std::string::npos;
  }));
}
