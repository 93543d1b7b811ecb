// Recorded logs: read line by line, refused where they are wrong, and played again as a simulation.
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "sim/command.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

std::string node(const char* at, const char* type, const std::string& name, bool ready,
                 bool cordoned = false) {
  return std::string(R"({"at":)") + at + R"(,"type":")" + type +
         R"(","object":{"apiVersion":"v1","kind":"Node","metadata":{"name":")" + name +
         R"("},"spec":{"unschedulable":)" + (cordoned ? "true" : "false") +
         R"(},"status":{"allocatable":{"cpu":"4","memory":"8Gi","pods":"110"},"conditions":[{"type":"Ready","status":")" +
         (ready ? "True" : "Unknown") + R"("}]}}})" + "\n";
}
std::string web(const char* at, const char* type, int replicas) {
  return std::string(R"({"at":)") + at + R"(,"type":")" + type +
         R"(","object":{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default",)"
         R"("uid":"u1","resourceVersion":"9"},"spec":{"replicas":)" +
         std::to_string(replicas) +
         R"(,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":)"
         R"({"tolerations":[{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute",)"
         R"("tolerationSeconds":10}],"containers":[{"name":"main","image":"web"}]}}},"status":{"replicas":1}}})" +
         "\n";
}
std::string problem(const std::string& log) {
  SimScenario scenario;
  const auto imported = import_log(log, scenario);
  return imported ? "none" : imported.error().message();
}

}  // namespace

TEST_CASE("a log is played again: nodes die and come back, what users changed is changed") {
  SimScenario scenario;
  const std::string log =
      node("0", "added", "a", true) + node("0", "added", "b", true) + web("0", "added", 4) +
      node("60", "modified", "b", false) + node("240.5", "modified", "b", true) + web("300", "modified", 7) +
      node("400", "modified", "a", true, true) + node("420", "added", "c", true) + web("600", "removed", 7);
  REQUIRE(import_log(log, scenario));
  REQUIRE(scenario.nodes.size() == 3);
  CHECK(scenario.duration == 600s + 5min);
  SimExpectation expect;
  expect.kind = SimExpectation::Kind::recovered;
  expect.target = "default/web";
  for (const Duration from : {Duration(0), Duration(61s), Duration(301s)}) {
    expect.from = from;
    expect.within = 2min;
    scenario.expect.push_back(expect);
  }
  SimCluster cluster(scenario);
  const SimReport report = cluster.run();
  INFO(report.text());
  CHECK(report.passed());
  const std::string text = report.text();
  CHECK(text.find("node b loses its power") != std::string::npos);
  CHECK(text.find("00:05:00.000  Deployment default/web is applied") != std::string::npos);
  CHECK(text.find("node a is cordoned") != std::string::npos);
  CHECK(text.find("00:10:00.000  Deployment default/web is removed") != std::string::npos);
  CHECK(report.samples.back().pods == 0);
  CHECK(report.samples.back().nodes_ready == 3);
}

TEST_CASE("status and what the server adds is no change of a user's") {
  SimScenario scenario;
  REQUIRE(
      import_log(node("0", "added", "a", true) + web("0", "added", 4) + web("5", "modified", 4), scenario));
  CHECK(scenario.events.empty());
}

TEST_CASE("a wrong line is refused by its number") {
  CHECK(problem("\n{\"at\":1").find("line 2 of the log: ") == 0);
  CHECK(problem("[]").find("line 1 of the log: must be a JSON object") == 0);
  CHECK(problem(R"({"type":"added","object":{}})").find("\"at\" must be a number") != std::string::npos);
  CHECK(problem(R"({"at":-1,"type":"added","object":{}})").find("0 to 366 days") != std::string::npos);
  CHECK(problem(R"({"at":1,"type":"add","object":{}})").find("must be added, modified or removed") !=
        std::string::npos);
  CHECK(problem(R"({"at":1,"type":"added","object":{"apiVersion":"v1","kind":"Node"}})").find("no name") !=
        std::string::npos);
  CHECK(problem(node("5", "added", "a", true) + node("4", "added", "b", true)).find("earlier") !=
        std::string::npos);
}

TEST_CASE("a cluster that is recorded can be played again") {
  Engine engine;
  const auto store = MemoryStore::create(engine);
  ApiServer server(engine, store, {});
  REQUIRE(server.start());
  const Client client = server.client();
  const auto made = Object::from_yaml(
      "apiVersion: v1\nkind: Node\nmetadata: {name: a}\nstatus: {allocatable: {cpu: 2, memory: 4Gi, pods: "
      "10}, "
      "conditions: [{type: Ready, status: 'True'}]}\n");
  REQUIRE(client.create(*made).wait(10s));
  WriteOptions status;
  status.subresource = "status";
  REQUIRE(
      client.patch("v1", "nodes", "a", "", PatchType::merge, std::string(made->json()), status).wait(10s));
  REQUIRE(client
              .create(*Object::from_yaml(
                  "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\n"
                  "spec: {selector: {app: web}, ports: [{port: 80}]}\n"))
              .wait(10s));
  std::string log;
  REQUIRE(record_cluster(engine, client, 300ms, [&](const std::string& line) { log += line + "\n"; }));
  SimScenario scenario;
  REQUIRE(import_log(log, scenario));
  REQUIRE(scenario.nodes.size() == 1);
  CHECK(scenario.nodes[0].cpu == "2");
  REQUIRE(scenario.objects.size() == 1);
  CHECK(scenario.objects[0].find("kind: Service") != std::string::npos);
  // The same by lists.
  SimScenario listed;
  REQUIRE(import_cluster(client, listed));
  CHECK(listed.nodes.size() == 1);
  CHECK(listed.objects == scenario.objects);
  server.stop();
}
