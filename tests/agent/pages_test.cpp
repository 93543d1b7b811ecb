// What a node tells of real containers, and the way into a pod on the machine's network.
#include "base/json.hpp"
#include "tests/agent/test_node.hpp"

using namespace orchestra;
using namespace orchestra::agent_test;
using namespace std::chrono_literals;

TEST_CASE("the pages of a node have what its containers really use") {
  if (!enter_test_host("agent pages")) return;
  TestNode node(RuntimeOptions::Isolation::full,
                [](NodeAgentOptions& options) { options.eviction.period = 200ms; });
  node.create(pod_yaml("busy", "'echo 0123456789; while true; do busybox true; done'", "",
                       "    resources: {limits: {memory: 64Mi}}\n"));
  REQUIRE(node.wait_pod("busy", ready));
  const auto page = [&](const std::string& path) {
    auto got = node.agent->streams()->page("n1", path).wait(30s);
    REQUIRE_MESSAGE(got, got.error().to_string());
    CHECK_MESSAGE(got->code == 200, got->body);
    return got->body;
  };
  json::value summary;
  for (int tries = 0; tries < 600 && int_at(summary, "/pods/0/cpu/usageNanoCores") == 0; ++tries) {
    node.pause(100ms);
    summary = parse_json(page("/stats/summary")).value();
  }
  CAPTURE(to_pretty_json(summary));
  CHECK(string_at(summary, "/pods/0/podRef/name") == "busy");
  CHECK(string_at(summary, "/pods/0/podRef/uid") == node.pod("busy").uid());
  CHECK(int_at(summary, "/pods/0/containers/0/cpu/usageNanoCores") > 1'000'000);  // it does nothing but run
  CHECK(int_at(summary, "/pods/0/containers/0/cpu/usageCoreNanoSeconds") > 1'000'000);
  const std::int64_t used = int_at(summary, "/pods/0/containers/0/memory/workingSetBytes");
  CHECK(used > 0);
  CHECK(int_at(summary, "/pods/0/containers/0/memory/availableBytes") == (64 << 20) - used);
  CHECK(int_at(summary, "/pods/0/containers/0/logs/usedBytes") > 0);
  CHECK(string_at(summary, "/pods/0/network/name") == "eth0");
  CHECK(int_at(summary, "/node/cpu/usageNanoCores") > 0);
  CHECK(page("/metrics/resource")
            .find(R"(container_cpu_usage_seconds_total{container="main",namespace="default",pod="busy"} )") !=
        std::string::npos);
  CHECK(page("/metrics/cadvisor")
            .find(R"(container_network_receive_bytes_total{container="",interface="eth0")") !=
        std::string::npos);
  const auto pods = parse_json(page("/pods"));
  REQUIRE(pods);
  CHECK(string_at(*pods, "/items/0/metadata/name") == "busy");
  CHECK(string_at(*pods, "/items/0/status/phase") == "Running");
  const auto other = node.agent->streams()->page("n2", "/pods").wait(60s);
  REQUIRE_FALSE(other);
  CHECK(other.error().is(Error::not_found));
}

TEST_CASE("a pod on the machine's network is reached at the machine's address, never at its loopback") {
  if (!enter_test_host("agent host network")) return;
  const std::string server = "'while true; do echo from the machine | busybox nc -lp 8099; done'";
  for (const char* address : {"", "127.0.0.1", "169.254.169.254", "::1", "fe80::1"}) {
    CAPTURE(address);
    TestNode node(RuntimeOptions::Isolation::full,
                  [&](NodeAgentOptions& options) { options.node_ip = address; });
    node.create(pod_yaml("shared", server, "  hostNetwork: true\n"));
    REQUIRE(node.wait_pod("shared", ready));
    PodTarget target;
    target.ns = "default";
    target.pod = "shared";
    Result<std::shared_ptr<DuplexStream>> stream = Error(Error::unavailable, "test", "not tried");
    for (int tries = 0; tries < 600 && !stream && !stream.error().is(Error::denied); ++tries) {
      stream = node.agent->streams()->port_forward(target, 8099).wait(30s);
      if (!stream) node.pause(100ms);
    }
    if (*address != 0) {
      REQUIRE_FALSE(stream);
      CHECK_MESSAGE(stream.error().to_string().ends_with("address not allowed"), stream.error().to_string());
      continue;
    }
    REQUIRE_MESSAGE(stream, stream.error().to_string());
    auto said = (*stream)->read(100).wait(60s);
    REQUIRE(said);
    CHECK(*said == "from the machine\n");
    (*stream)->close();
  }
}

TEST_CASE("an address of the node that is none is refused by name") {
  Engine engine;
  NodeAgentOptions options;
  options.node_name = "n1";
  options.manifest_dir = "/nowhere";
  options.node_ip = "nonsense";
  NodeAgent agent(engine, Client(), {}, options);
  const auto started = agent.start();
  REQUIRE_FALSE(started);
  CHECK(started.error().message().find("\"nonsense\" is not an IP address") != std::string::npos);
  agent.stop();
  engine.stop();
}
