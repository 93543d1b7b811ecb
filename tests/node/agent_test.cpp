// NodeAgent on parts in memory: what it does with several pods at once. Real parts are in tests/agent.
#include "orchestra/node_agent.hpp"

#include <algorithm>
#include <fstream>
#include <future>

#include "api/meta.hpp"
#include "tests/node/fake_parts.hpp"

using namespace orchestra;
using namespace orchestra::node_test;

namespace {

struct AgentHouse {
  explicit AgentHouse(const std::function<void(NodeAgentOptions&)>& tune = {}) {
    REQUIRE(server.start());
    options.node_name = "n1";
    options.data_dir = dir.path();
    // What the machine is short of is another test's business.
    options.eviction.hard = options.eviction.soft = EvictionThresholds{0, 0, 0, 0};
    if (tune) tune(options);
  }
  void start() {
    agent = std::make_unique<NodeAgent>(engine, client,
                                        NodeAgentParts{runtime, std::make_shared<FakeImages>(),
                                                       std::make_shared<FakeNetwork>(), nullptr, nullptr},
                                        options);
    const auto started = agent->start();
    REQUIRE_MESSAGE(started, started.error().to_string());
  }
  ~AgentHouse() {
    if (agent) agent->stop();
    server.stop();
    engine.stop();
  }
  Object create(const std::string& name, const std::string& more = "") {
    const Object pod = FakeNode::object(
        R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + name +
        R"(","namespace":"default"},"spec":{"nodeName":"n1","automountServiceAccountToken":false,)" + more +
        R"("containers":[{"name":"main","image":"box","args":["x"]}]}})");
    auto made = client.create(pod).wait(60s);
    REQUIRE_MESSAGE(made, made.error().to_string());
    return *made;
  }
  /// Once `done` holds for the pod.
  bool wait(const std::string& name, const std::function<bool(const Object&)>& done) {
    ListOptions list;
    list.ns = "default";
    auto watch = client.watch("v1", "pods", list).value();
    const auto end = engine.clock().now().steady_ns + Duration(60s).count();
    while (engine.clock().now().steady_ns < end) {
      const auto pod = client.get("v1", "pods", name, "default").wait(60s);
      if (done(pod ? *pod : Object())) return true;
      (void)watch.next(200ms);
    }
    return false;
  }

  test::TempDir dir;
  Journal journal;
  Engine engine;
  ApiServer server{engine, MemoryStore::create(engine), {}};
  Client client = server.client();
  std::shared_ptr<FakeRuntime> runtime = std::make_shared<FakeRuntime>(journal);
  NodeAgentOptions options;
  std::unique_ptr<NodeAgent> agent;
};

}  // namespace

TEST_CASE("a pod of the same name waits until nothing of its predecessor is left") {
  AgentHouse house;
  house.runtime->code_on_signal = std::nullopt;
  house.start();
  const Object first = house.create("web");
  REQUIRE(house.journal.wait("start " + first.uid() + "-main-0"));
  DeleteOptions at_once;
  at_once.grace_period_seconds = 0;
  REQUIRE(house.client.remove("v1", "pods", "web", "default", at_once).wait(60s));
  const Object second = house.create("web");
  REQUIRE(second.uid() != first.uid());
  REQUIRE(house.journal.wait("signal " + first.uid() + "-main-0"));
  // A third pod of another name goes by, and so shows that the second was looked at.
  const Object other = house.create("other");
  REQUIRE(house.journal.wait("start " + other.uid() + "-main-0"));
  CHECK(house.journal.count("start " + second.uid() + "-main-0") == 0);
  house.runtime->end(first.uid() + "-main-0", 0);
  REQUIRE(house.journal.wait("start " + second.uid() + "-main-0"));
  const std::vector<std::string> lines = house.journal.lines();
  const auto at = [&](const std::string& line) { return std::find(lines.begin(), lines.end(), line); };
  CHECK(at("remove pod") < at("start " + second.uid() + "-main-0"));
}

TEST_CASE("an emptyDir beyond its size limit ends its pod, with upstream's words") {
  AgentHouse house([](NodeAgentOptions& options) { options.eviction.period = 50ms; });
  house.start();
  const std::string volume = R"("volumes":[{"name":"tmp","emptyDir":{"sizeLimit":"1Mi"}}],)";
  const Object large = house.create("large", volume), small = house.create("small", volume);
  for (const Object& pod : {large, small}) REQUIRE(house.journal.wait("start " + pod.uid() + "-main-0"));
  const auto fill = [&](const Object& pod, std::size_t bytes) {
    std::ofstream file(house.dir.path() + "/pods/" + pod.uid() + "/volumes/tmp/file");
    file << std::string(bytes, 'x');
    REQUIRE(file.flush());
  };
  fill(small, 500'000);
  fill(large, 2 << 20);
  REQUIRE(house.wait("large", [](const Object& pod) { return pod.get("/status/phase") == "Failed"; }));
  const Object evicted = house.client.get("v1", "pods", "large", "default").wait(60s).value();
  CHECK(evicted.get("/status/reason") == "Evicted");
  CHECK(evicted.get("/status/message") == R"(Usage of EmptyDir volume "tmp" exceeds the limit "1Mi". )");
  CHECK(house.client.get("v1", "pods", "small", "default").wait(60s).value().get("/status/phase") !=
        "Failed");
}

TEST_CASE("an agent whose clock is wrong still owns its node's name: it renews") {
  for (const std::int64_t wrong_by : {-3600, 3600}) {
    AgentHouse house([](NodeAgentOptions& options) { options.agent_id = "mine"; });
    const std::int64_t then = house.engine.clock().now().wall_ns + wrong_by * 1'000'000'000;
    int renewals = 0;
    const auto renewed = [&] {
      return R"("spec":{"renewTime":")" + api::format_micro_time(then + ++renewals * 1'000'000) + R"("})";
    };
    const Object lease = FakeNode::object(
        R"({"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"n1",)"
        R"("namespace":"kube-node-lease","annotations":{"orchestra.dev/agent-id":"another"}},)" +
        renewed() + "}");
    auto made = house.client.create(lease).wait(60s);
    REQUIRE_MESSAGE(made, made.error().to_string());
    NodeAgent agent(house.engine, house.client,
                    NodeAgentParts{house.runtime, std::make_shared<FakeImages>(),
                                   std::make_shared<FakeNetwork>(), nullptr, nullptr},
                    house.options);
    auto started = std::async(std::launch::async, [&] { return agent.start(); });
    while (started.wait_for(10ms) != std::future_status::ready) {
      REQUIRE(house.client
                  .patch("coordination.k8s.io/v1", "leases", "n1", "kube-node-lease", PatchType::merge,
                         "{" + renewed() + "}")
                  .wait(60s));
    }
    const auto result = started.get();
    REQUIRE_FALSE(result);
    CHECK(result.error().is(Error::busy));
    CHECK(result.error().message().find("another agent is node n1 and renews its lease") !=
          std::string::npos);
  }
}
