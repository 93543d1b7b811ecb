// Eviction, statistics, gRPC health calls and static pods: pure parts by table.
#include "api/object_tree.hpp"
#include "metrics/resource_metrics.hpp"
#include "node/eviction.hpp"
#include "node/grpc_health.hpp"
#include "node/static_pods.hpp"
#include "node/statistics.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::node;

TEST_CASE("a signal below its threshold is a shortage, one that could not be read is none") {
  PressureSignals signals{.memory_available = 50 << 20,
                          .memory_capacity = 1 << 30,
                          .disk_available = 20,
                          .disk_capacity = 100,
                          .inodes_free = 0,
                          .inodes = 0,
                          .pids_available = 10,
                          .pids = 1000};
  const auto found = shortages(signals, {});
  REQUIRE(found.size() == 2);
  CHECK(std::string(found[0].condition()) == "MemoryPressure");
  CHECK(std::string(found[1].condition()) == "PIDPressure");
  PressureMemory memory;
  memory.note(found, 1'000);
  CHECK(memory.holds("MemoryPressure", 299'000'000'000));
  CHECK_FALSE(memory.holds("MemoryPressure", 301'000'000'000));
  CHECK_FALSE(memory.holds("DiskPressure", 1'000));
}

TEST_CASE("a soft shortage counts once it has lasted without a break; a threshold of 0 is not looked at") {
  PressureSignals signals{.disk_available = 20, .disk_capacity = 100, .inodes_free = 1, .inodes = 1000};
  CHECK(shortages(signals, {0, 0, 0, 0}).empty());
  const auto low = shortages(signals, {0, 30, 0, 0});
  REQUIRE(low.size() == 1);
  SoftShortages soft;
  const Duration grace(100);
  CHECK(soft.lasting(low, 0, grace).empty());
  CHECK(soft.lasting(low, 99, grace).empty());
  CHECK(soft.lasting(low, 100, grace).size() == 1);
  CHECK(soft.lasting({}, 101, grace).empty());
  CHECK(soft.lasting(low, 102, grace).empty());  // it begins anew
  CHECK(soft.lasting(low, 202, grace).size() == 1);
}

TEST_CASE("the victim uses more than it asked for, then has the lower priority, then the larger excess") {
  const auto pod = [](const char* name, std::int64_t priority, std::int64_t request, std::int64_t usage,
                      bool exempt) {
    EvictionCandidate out;
    out.uid = out.name = name;
    out.priority = priority;
    out.request = request;
    out.usage = usage;
    out.exempt = exempt;
    return out;
  };
  const auto first = [](const std::vector<EvictionCandidate>& pods) {
    const auto found = choose_victim(pods);
    return found ? pods[*found].name : std::string("nobody");
  };
  CHECK(first({pod("within", 0, 100, 90, false), pod("beyond", 1000, 10, 20, false)}) == "beyond");
  CHECK(first({pod("low", 0, 0, 20, false), pod("high", 1000, 0, 500, false)}) == "low");
  CHECK(first({pod("small", 0, 0, 20, false), pod("large", 0, 0, 500, false)}) == "large");
  CHECK(first({pod("static", 0, 0, 500, true)}) == "nobody");
  EvictionCandidate victim = pod("a", 0, 0, 200 << 20, false);
  victim.main_container = "main";
  victim.container_usage = 200 << 20;
  CHECK(eviction_message({Shortage::Kind::memory, 100 << 20, 20 << 20}, victim) ==
        "The node was low on resource: memory. Threshold quantity: 102400Ki, available: 20480Ki. Container "
        "main was "
        "using 204800Ki, request is 0Ki, has larger consumption of memory. ");
}

TEST_CASE("a rate needs two samples of one container, and a restarted one begins anew") {
  Statistics statistics;
  const auto sample = [](const char* id, std::int64_t at_s, std::uint64_t cpu_ms) {
    ContainerSample out{"uid", "shop", "web", "main", id, {{"app", "web"}}, {}};
    out.usage.wall_ns = at_s * 1'000'000'000;
    out.usage.cpu_ns = cpu_ms * 1'000'000;
    out.usage.memory_working_set_bytes = 4096;
    return out;
  };
  statistics.pass({sample("c0", 100, 0)});
  CHECK(statistics.pods("").empty());
  statistics.pass({sample("c0", 110, 2500)});
  REQUIRE(statistics.pods("shop").size() == 1);
  CHECK(statistics.pods("other").empty());
  CHECK(statistics.pods("")[0].containers[0].nanocores == 250'000'000);
  CHECK(
      to_json(metrics::pod_metrics(statistics.pods("")[0])) ==
      R"({"apiVersion":"metrics.k8s.io/v1beta1","kind":"PodMetrics","metadata":{"name":"web","namespace":"shop",)"
      R"("creationTimestamp":"1970-01-01T00:01:50Z","labels":{"app":"web"}},"timestamp":"1970-01-01T00:01:50Z",)"
      R"("window":"10s","containers":[{"name":"main","usage":{"cpu":"250000000n","memory":"4Ki"}}]})");
  statistics.pass({sample("c1", 120, 10)});
  CHECK(statistics.pods("").empty());
}

TEST_CASE("a gRPC health call reads the status of the answer and survives every cut of it") {
  const auto frame = [](char type, char flags, std::uint32_t stream, const std::string& payload) {
    std::string out;
    out += static_cast<char>(payload.size() >> 16);
    out += static_cast<char>(payload.size() >> 8);
    out += static_cast<char>(payload.size());
    out += type;
    out += flags;
    out += std::string("\0\0\0", 3) + static_cast<char>(stream);
    return out + payload;
  };
  const std::string serving = std::string("\0\0\0\0\2\x08\x01", 7);
  const std::string answer = frame(4, 0, 0, "") + frame(1, 4, 1, "fields") + frame(6, 0, 0, "12345678") +
                             frame(0, 0, 1, serving) + frame(1, 5, 1, "trailers");
  for (std::size_t cut = 0; cut <= answer.size(); ++cut) {
    GrpcHealthCall call("127.0.0.1:1", "");
    CHECK(call.request().starts_with("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    REQUIRE(call.feed(std::string_view(answer).substr(0, cut)));
    REQUIRE(call.feed(std::string_view(answer).substr(cut)));
    CHECK(call.done());
    CHECK(call.status() == 1);
  }
  GrpcHealthCall unknown("127.0.0.1:1", "shop");
  REQUIRE(unknown.feed(frame(1, 5, 1, "error in the trailers")));
  CHECK(unknown.done());
  CHECK_FALSE(unknown.status());
  GrpcHealthCall refused("127.0.0.1:1", "");
  CHECK_FALSE(refused.feed(frame(3, 0, 1, "1234")));
  GrpcHealthCall http1("127.0.0.1:1", "");
  CHECK_FALSE(http1.feed("HTTP/1.1 400 Bad Request\r\n\r\n"));
}

TEST_CASE(
    "a static pod has a name and a UID of its node and content; what is none is refused with the reason") {
  const std::string text =
      "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd}\nspec: {containers: [{name: c, image: i}]}\n";
  const auto pod = static_pod(text, "n1");
  REQUIRE_MESSAGE(pod, pod.error().to_string());
  CHECK(pod->name() == "etcd-n1");
  CHECK(pod->ns() == "default");
  CHECK(pod->uid().size() == 36);
  CHECK(pod->uid() == static_pod(text, "n1")->uid());
  CHECK(pod->uid() != static_pod(text, "n2")->uid());
  CHECK(pod->uid() != static_pod(text + "# changed\n", "n1")->uid());
  CHECK(string_at(tree(*pod), "/spec/restartPolicy") == "Always");
  CHECK(is_static(*pod));
  CHECK(is_mirror(mirror_of(*pod, "n", "node-uid")));
  CHECK(mirror_of(*pod, "n", "node-uid").uid().empty());
  for (const char* bad : {"", "kind: {", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n",
                          "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n",
                          "apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: [{name: c}]}\n"}) {
    INFO(bad);
    CHECK_FALSE(static_pod(bad, "n1"));
  }
}
