// `orchestra sim`: the examples, what is written, and what is answered to a wrong command line.
#include <cstdlib>

#include "base/fd.hpp"
#include "sim/command.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {

const std::string kExamples = std::string(ORCHESTRA_SOURCE_DIR) + "/examples/simulate/";

struct Answer {
  int code = 0;
  std::string out, err;
};
std::string all_of(std::FILE* file) {
  std::string text;
  std::rewind(file);
  char bytes[4096];
  for (std::size_t got; (got = std::fread(bytes, 1, sizeof bytes, file)) > 0;) text.append(bytes, got);
  std::fclose(file);
  return text;
}
Answer run(const std::vector<std::string>& args) {
  std::FILE* out = std::tmpfile();
  std::FILE* err = std::tmpfile();
  REQUIRE((out != nullptr && err != nullptr));
  Answer answer;
  answer.code = run_sim_command(args, out, err);
  answer.out = all_of(out);
  answer.err = all_of(err);
  return answer;
}

}  // namespace

TEST_CASE("the example of a lost node holds what it expects, and writes its four reports") {
  char folder[] = "/tmp/orc-sim-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const Answer answer = run({kExamples + "one-node-lost.yaml", "--out", folder});
  INFO(answer.out << answer.err);
  CHECK(answer.code == 0);
  CHECK(answer.out.find("\npassed\n") != std::string::npos);
  const std::string base = std::string(folder) + "/report.";
  CHECK(read_file(base + "txt", 1 << 20).value() == answer.out);
  CHECK(read_file(base + "csv", 1 << 20)->rfind("seconds,nodes_ready", 0) == 0);
  CHECK(read_file(base + "json", 4 << 20)->find("\"passed\": true") != std::string::npos);
  const std::string svg = read_file(base + "svg", 4 << 20).value();
  CHECK(svg.rfind("<svg ", 0) == 0);
  CHECK(svg.find("requests per second") != std::string::npos);
  (void)remove_tree(folder);
}

TEST_CASE("of the events of a failing simulation those are named without which it would hold") {
  char folder[] = "/tmp/orc-sim-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::string file = std::string(folder) + "/day.yaml";
  REQUIRE(write_file(file, R"(seed: 3
duration: 8m
nodes: [{name: m, count: 3, cpu: 4}]
objects: |
  apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: default}
  spec:
    replicas: 3
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec: {containers: [{name: main, image: web, resources: {requests: {cpu: "3"}}}]}
events:
- {at: 90s, cordon: m-0, for: 1m}
- {at: 2m, slow_probes: m-1, for: 10s}
- {at: 3m, kill_node: m-1, for: 1m}
- {at: 4m, registry_down: true, for: 20s}
- {at: 5m, restart_node: m-2}
expect:
- {available: default/web, at_least: 2, from: 1m}
- {available: default/web, at_least: 3, from: 1m, until: 4m}
)",
                     0644));
  const Answer answer = run({file, "--shrink"});
  INFO(answer.out << answer.err);
  CHECK(answer.code == 1);
  CHECK(answer.err.find("1 of 5 events are needed") != std::string::npos);
  CHECK(answer.err.find("needed: " + file + " line 17") != std::string::npos);
  CHECK(answer.out.find("node m-1 loses its power") != std::string::npos);
  CHECK(answer.out.find("m-0 is cordoned") == std::string::npos);
  (void)remove_tree(folder);
}

TEST_CASE("the example of a whole day holds what it expects") {
  if (std::getenv("ORCHESTRA_LONG") == nullptr) {
    MESSAGE("a day is simulated with ORCHESTRA_LONG=1 only");
    return;
  }
  const Answer answer = run({kExamples + "node-loss-day.yaml"});
  INFO(answer.out << answer.err);
  CHECK(answer.code == 0);
}

TEST_CASE("an expectation that does not hold is exit status 1, with the seed that shows it again") {
  const Answer answer = run({kExamples + "one-node-lost.yaml", "--for", "2m30s", "--seed", "5"});
  CHECK(answer.code == 1);
  CHECK(answer.err.find("--seed 5") != std::string::npos);
  CHECK(answer.out.find("not judged") != std::string::npos);
}

TEST_CASE("a wrong command line is exit status 2, a missing file 3, and both are named") {
  CHECK(run({}).code == 2);
  CHECK(run({"--help"}).code == 0);
  CHECK(run({"--nodse", "3"}).err.find("unknown flag --nodse") != std::string::npos);
  CHECK(run({"a.yaml", "b.yaml"}).code == 2);
  CHECK(run({kExamples + "one-node-lost.yaml", "--report", "pdf"}).err.find("must be text, csv") !=
        std::string::npos);
  CHECK(run({kExamples + "one-node-lost.yaml", "--seed", "x"}).code == 2);
  CHECK(run({kExamples + "one-node-lost.yaml", "--for", "soon"}).code == 2);
  const Answer missing = run({kExamples + "no-such.yaml"});
  CHECK(missing.code == 3);
  CHECK(missing.err.find("no-such.yaml") != std::string::npos);
  CHECK(run({"export"}).err.find("--kubeconfig") != std::string::npos);
}

TEST_CASE("nodes and manifests from the command line are a simulation, too") {
  const Answer answer =
      run({"--nodes", "4", "--manifests", kExamples + "shop.yaml", "--for", "3m", "--report", "csv"});
  INFO(answer.err);
  CHECK(answer.code == 0);
  CHECK(answer.out.find("\n180.000,4,4,") != std::string::npos);
}

TEST_CASE("sim explain stops the clock and says where pods that wait would go, and what would help") {
  char folder[] = "/tmp/orc-sim-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::string file = std::string(folder) + "/full.yaml";
  REQUIRE(write_file(file, R"(
duration: 5m
nodes: [{count: 2, cpu: 2, memory: 4Gi}]
objects: |
  apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web, namespace: default}
  spec:
    replicas: 3
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec: {containers: [{name: main, image: web, resources: {requests: {cpu: 1500m}}}]}
events:
- {at: 3m, scale: {of: default/web, to: 2}}
)",
                     0644));
  const Answer full = run({"explain", file, "--at", "1m"});
  INFO(full.out << full.err);
  CHECK(full.code == 1);
  CHECK(full.out.find("1 pods wait for a node or lost it: 0 would have one, 1 none") != std::string::npos);
  CHECK(full.out.find("0/2 nodes are available: 2 Insufficient cpu.") != std::string::npos);
  const std::string name =
      full.out.substr(full.out.find("default/web-"), full.out.find(": 0/2") - full.out.find("default/web-"));
  const Answer rows = run({"explain", file, name, "--at", "1m"});
  INFO(rows.out << rows.err);
  CHECK(rows.code == 1);
  CHECK(rows.out.find("node-1                           no   Insufficient cpu (NodeResourcesFit)") !=
        std::string::npos);
  CHECK(run({"explain", file, "--at", "1m", "--add", "node-0=1"}).code == 0);
  CHECK(run({"explain", file, "--at", "4m"}).out.rfind("0 pods wait", 0) == 0);
  CHECK(run({"explain", file, "--at", "4m", "--without", "node-0"}).code == 1);
  CHECK(run({"explain", file, "--at", "6m"}).err.find("after the end") != std::string::npos);
  CHECK(run({"explain", file, "default/nobody"}).code == 3);
  CHECK(run({"explain"}).code == 2);
  (void)remove_tree(folder);
}
