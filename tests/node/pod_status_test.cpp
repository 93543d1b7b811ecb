// Phase, conditions, QoS and back-off: kubelet's rules as tables.
#include "node/pod_status.hpp"

#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::node;
using namespace std::chrono_literals;

namespace {
ContainerView up(bool ready) {
  ContainerView c;
  c.current = ContainerStatus{.id = "x", .state = ContainerState::running, .started_ns = 1};
  c.ready = ready;
  c.started = true;
  return c;
}
ContainerView down(int code) {
  ContainerView c;
  c.current = ContainerStatus{
      .id = "x", .state = ContainerState::exited, .started_ns = 1, .finished_ns = 2, .exit_code = code};
  return c;
}
ContainerView wait(const char* reason) {
  ContainerView c;
  c.waiting_reason = reason;
  return c;
}
}  // namespace

TEST_CASE("the phase follows from restart policy and containers") {
  struct Row {
    const char* policy;
    std::vector<ContainerView> containers;
    const char* phase;
    bool ready;
  };
  for (const Row& row : {Row{"Always", {up(true)}, "Running", true},
                         {"Always", {up(false)}, "Running", false},
                         {"Always", {wait("ContainerCreating")}, "Pending", false},
                         {"Always", {up(true), wait("ContainerCreating")}, "Running", false},
                         {"Always", {down(1)}, "Running", false},
                         {"Never", {down(0)}, "Succeeded", false},
                         {"Never", {down(0), down(3)}, "Failed", false},
                         {"Never", {down(3), up(true)}, "Running", false},
                         {"OnFailure", {down(0), down(0)}, "Succeeded", false},
                         {"OnFailure", {down(0), down(2)}, "Running", false}}) {
    json::array specs;
    PodView view;
    for (std::size_t i = 0; i < row.containers.size(); ++i) {
      const std::string name = "c" + std::to_string(i);
      specs.push_back(json::object{{"name", name}});
      view.containers[name] = row.containers[i];
    }
    const json::value pod =
        json::object{{"spec", json::object{{"restartPolicy", row.policy}, {"containers", specs}}}};
    view.pod = &pod;
    const PodSummary summary = summarise(view);
    CAPTURE(row.policy);
    CAPTURE(row.containers.size());
    CHECK(summary.phase == row.phase);
    CHECK(summary.ready == row.ready);
  }
}

TEST_CASE("a container restarts by its own rules, then its own policy, then the pod's") {
  const std::string rule =
      R"({"restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[42]}}],)";
  const std::string other =
      R"({"restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"NotIn","values":[42]}}],)";
  struct Row {
    const char* pod;
    std::string container;
    bool init;
    std::optional<int> code;
    bool again;
  };
  const Row rows[] = {
      {"Always", "{}", false, 0, true},
      {"OnFailure", "{}", false, 0, false},
      {"OnFailure", "{}", false, 1, true},
      {"Never", "{}", false, 1, false},
      {"Never", R"({"restartPolicy":"Always"})", false, 0, true},
      {"Never", R"({"restartPolicy":"OnFailure"})", false, 0, false},
      {"Always", R"({"restartPolicy":"Never"})", false, 1, false},
      {"Never", rule + R"("restartPolicy":"Never"})", false, 42, true},
      {"Never", rule + R"("restartPolicy":"Never"})", false, 41, false},
      {"Never", other + R"("restartPolicy":"Never"})", false, 41, true},
      {"Never", other + R"("restartPolicy":"Never"})", false, 42, false},
      {"Never", other + R"("restartPolicy":"Never"})", false, std::nullopt, false},
      {"Always", "{}", true, 0, false},
      {"Always", "{}", true, 1, true},
      {"Never", "{}", true, 1, false},
      {"Never", R"({"restartPolicy":"Always"})", true, 0, true},
      {"Always", R"({"restartPolicy":"Never"})", true, 1, false},
      {"Never", rule + R"("restartPolicy":"Never"})", true, 42, true},
  };
  for (const Row& row : rows) {
    const json::value pod = json::object{{"spec", json::object{{"restartPolicy", row.pod}}}};
    INFO(row.pod, " ", row.container, " init ", row.init, " code ", row.code.value_or(-1));
    CHECK(restarts(pod, json::parse(row.container), row.init, row.code) == row.again);
  }
}

TEST_CASE("the phase follows from what restarts: a container's own policy counts") {
  const auto phase = [](const std::string& spec, const ContainerView& c) {
    const json::value pod = json::parse(R"({"spec":)" + spec + "}");
    PodView view;
    view.pod = &pod;
    view.containers["c"] = c;
    return summarise(view).phase;
  };
  CHECK(phase(R"({"restartPolicy":"Never","containers":[{"name":"c","restartPolicy":"Always"}]})", down(0)) ==
        "Running");
  CHECK(phase(R"({"restartPolicy":"Always","containers":[{"name":"c","restartPolicy":"Never"}]})", down(0)) ==
        "Succeeded");
  CHECK(phase(R"({"restartPolicy":"Always","containers":[{"name":"c","restartPolicy":"Never"}]})", down(1)) ==
        "Failed");
}

TEST_CASE("init containers hold the pod back, a failed one ends it under Never") {
  const json::value pod = *parse_json(
      R"({"spec":{"restartPolicy":"Never","initContainers":[{"name":"i"}],"containers":[{"name":"c"}]}})");
  PodView view;
  view.pod = &pod;
  CHECK(summarise(view).phase == "Pending");
  const json::object status = make_status(view, {1'000'000'000, 0});
  CHECK(string_at(json::value(status), "/containerStatuses/0/state/waiting/reason") == "PodInitializing");
  view.containers["i"] = down(0);
  CHECK(summarise(view).initialized);
  view.containers["i"] = down(1);
  CHECK(summarise(view).phase == "Failed");
}

TEST_CASE("a pod is over with its main containers, and its phase says so when its sidecars have ended, too") {
  const json::value pod = *parse_json(
      R"({"spec":{"restartPolicy":"Never","initContainers":[{"name":"s","restartPolicy":"Always"},{"name":"i"}],
          "containers":[{"name":"c"}]}})");
  PodView view;
  view.pod = &pod;
  view.containers = {{"s", up(true)}, {"i", down(1)}};
  CHECK(summarise(view).over);
  CHECK(summarise(view).phase == "Pending");  // it never began
  view.containers = {{"s", up(true)}, {"i", down(0)}, {"c", down(0)}};
  CHECK(summarise(view).over);
  CHECK(summarise(view).phase == "Running");
  view.reason = "Evicted";
  CHECK(summarise(view).phase == "Running");
  view.containers["s"] = down(0);
  CHECK(summarise(view).phase == "Failed");
  view.reason.clear();
  CHECK(summarise(view).phase == "Succeeded");
  // A sidecar between two starts does not take back that init is done.
  view.containers = {{"s", wait("CrashLoopBackOff")}, {"i", down(0)}, {"c", up(true)}};
  CHECK(summarise(view).initialized);
  CHECK(summarise(view).phase == "Running");
  CHECK_FALSE(summarise(view).over);
}

TEST_CASE("a condition keeps its time until its value changes, foreign ones stay") {
  json::value pod = *parse_json(R"({"spec":{"containers":[{"name":"c"}]},"status":{"conditions":[
    {"type":"mine.example/gate","status":"True"},
    {"type":"Ready","status":"False","lastTransitionTime":"2020-01-01T00:00:00Z"}]}})");
  PodView view;
  view.pod = &pod;
  view.containers["c"] = up(false);
  json::value status = make_status(view, {2'000'000'000, 0});
  CHECK(string_at(status, "/conditions/0/type") == "mine.example/gate");
  CHECK(string_at(status, "/conditions/1/lastTransitionTime") == "2020-01-01T00:00:00Z");
  CHECK(string_at(status, "/conditions/1/message") == "containers with unready status: [c]");
  view.containers["c"].ready = true;
  status = make_status(view, {2'000'000'000, 0});
  CHECK(string_at(status, "/conditions/1/status") == "True");
  CHECK(string_at(status, "/conditions/1/lastTransitionTime") == "1970-01-01T00:00:02Z");
}

TEST_CASE("an unknown exit code is said, never invented as a kill of ours") {
  const json::value pod = *parse_json(R"({"spec":{"restartPolicy":"Never","containers":[{"name":"c"}]}})");
  PodView view;
  view.pod = &pod;
  view.containers["c"].current =
      ContainerStatus{.id = "x", .state = ContainerState::unknown, .reason = "another boot"};
  const json::value status = make_status(view, {});
  CHECK(string_at(status, "/containerStatuses/0/state/terminated/reason") == "ContainerStatusUnknown");
}

TEST_CASE("restarts back off from 10 s to 300 s") {
  CHECK(restart_backoff(0, 10s, 300s) == 0s);
  CHECK(restart_backoff(1, 10s, 300s) == 10s);
  CHECK(restart_backoff(3, 10s, 300s) == 40s);
  CHECK(restart_backoff(6, 10s, 300s) == 300s);
  CHECK(restart_backoff(4'000'000, 10s, 300s) == 300s);
}

TEST_CASE("QoS classes and cgroup limits follow requests and limits") {
  struct Row {
    const char* resources;
    const char* qos;
    std::int64_t shares, quota, memory;
  };
  for (const Row& row : {Row{"{}", "BestEffort", 2, 0, 0},
                         {R"({"requests":{"cpu":"500m"}})", "Burstable", 512, 0, 0},
                         {R"({"limits":{"cpu":"250m","memory":"64Mi"}})", "Guaranteed", 256, 25000, 64 << 20},
                         {R"({"requests":{"cpu":"1"},"limits":{"cpu":"2","memory":"1Gi"}})", "Burstable",
                          1024, 200000, 1 << 30}}) {
    const json::value pod = *parse_json(std::string(R"({"spec":{"containers":[{"name":"c","resources":)") +
                                        row.resources + "}]}}");
    CAPTURE(row.resources);
    CHECK(qos_class(pod) == row.qos);
    const ResourceLimits limits = limits_of(*find(pod, "/spec/containers/0"), row.qos, 8ll << 30);
    CHECK(limits.cpu_shares == row.shares);
    CHECK(limits.cpu_quota_us == row.quota);
    CHECK(limits.memory_bytes == row.memory);
  }
}
