// What a node promises to its pods: sums, admission, and what a resize may do. By table.
#include "node/allocation.hpp"

#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::node;

namespace {
json::value pod_of(const std::string& spec) { return *parse_json(R"({"spec":)" + spec + "}"); }
}  // namespace

TEST_CASE("a pod's requests are those of its containers, or of the largest moment of its start") {
  struct Row {
    const char* spec;
    std::int64_t cpu_milli, memory_bytes;
  };
  for (
      const Row& row :
      {Row{R"({"containers":[{"name":"a"}]})", 0, 0},
       Row{R"({"containers":[{"name":"a","resources":{"requests":{"cpu":"100m","memory":"1Ki"}}},
                              {"name":"b","resources":{"requests":{"cpu":"1"}}}]})",
           1100, 1024},
       Row{R"({"initContainers":[{"name":"i","resources":{"requests":{"cpu":"2"}}}],
               "containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}]})",
           2000, 0},
       // A sidecar stays beside what comes after it.
       Row{R"({"initContainers":[{"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"1"}}},
                                  {"name":"i","resources":{"requests":{"cpu":"2"}}}],
               "containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}]})",
           3000, 0},
       Row{R"({"overhead":{"cpu":"50m","memory":"10"},"containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}]})",
           150, 10}}) {
    CAPTURE(row.spec);
    const Requests found = requests_of(pod_of(row.spec));
    CHECK(found.cpu_milli == row.cpu_milli);
    CHECK(found.memory_bytes == row.memory_bytes);
  }
}

TEST_CASE("the ledger never gives more than there is, and takes back what was released") {
  Allocations all;
  all.set_capacity({2000, 1000}, 3);
  CHECK_FALSE(all.claim("a", {1500, 0}));
  const auto cpu = all.claim("b", {600, 0});
  REQUIRE(cpu);
  CHECK(cpu->reason() == "OutOfcpu");
  CHECK(cpu->text() == "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000");
  CHECK_FALSE(cpu->never);
  CHECK_FALSE(all.claim("b", {500, 0}));
  // A resize replaces what the pod had; a refused one leaves it.
  CHECK_FALSE(all.claim("a", {1400, 0}));
  CHECK(all.claim("a", {1600, 0}));
  CHECK_FALSE(all.claim("b", {600, 1000}));
  const auto memory = all.claim("c", {0, 1});
  REQUIRE(memory);
  CHECK(memory->reason() == "OutOfmemory");
  const auto never = all.claim("a", {2001, 0});
  REQUIRE(never);
  CHECK(never->never);
  CHECK(never->capacity_text() == "Node didn't have enough capacity: cpu, requested: 2001, capacity: 2000");
  // Who asks for nothing is counted as a pod alone.
  CHECK_FALSE(all.claim("c", {}));
  const auto pods = all.claim("d", {});
  REQUIRE(pods);
  CHECK(pods->reason() == "OutOfpods");
  all.release("a");
  CHECK_FALSE(all.claim("d", {1400, 0}));
}

TEST_CASE("resources of containers are taken out and put back, and a policy says what restarts") {
  const json::value pod =
      pod_of(R"({"containers":[{"name":"a","resources":{"limits":{"cpu":"1"}}},{"name":"b"}]})");
  const json::object resources = resources_by_container(pod);
  CHECK(to_json(resources) == R"({"a":{"limits":{"cpu":"1"}},"b":{}})");
  json::object other = resources;
  other["b"] = json::object{{"limits", json::object{{"cpu", "2"}}}};
  CHECK(resources_by_container(with_resources(pod, other)) == other);

  const json::value container = *parse_json(
      R"({"resizePolicy":[{"resourceName":"cpu","restartPolicy":"NotRequired"},
                          {"resourceName":"memory","restartPolicy":"RestartContainer"}]})");
  const json::value before = *parse_json(R"({"limits":{"cpu":"1","memory":"1"}})");
  CHECK_FALSE(resize_restarts(container, before, *parse_json(R"({"limits":{"cpu":"2","memory":"1"}})")));
  CHECK(resize_restarts(container, before, *parse_json(R"({"limits":{"cpu":"1","memory":"2"}})")));
  CHECK_FALSE(resize_restarts(json::object(), before, *parse_json(R"({"limits":{"memory":"2"}})")));
}
