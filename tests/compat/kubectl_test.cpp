// Unmodified kubectl against our server: scenario files in tests/compat/kubectl/*.txt, run with every
// kubectl found (PATH, then the colon list ORCHESTRA_KUBECTL).
//
// A file is a comment that says what it shows, then commands and what they print (both outputs together):
//
//     $ kubectl get pods
//     No resources found in default namespace.
//     ! bind p n1              something that a node agent would do, through the in-process client
//     $ kubectl exec p -- exit 3
//     command terminated with exit code 3
//     [exit 3]
//
// `$>=1.25 kubectl ...` is for these versions only. Ages, uids, times, ports and the like are replaced by
// words in capitals. ORC_COMPAT_UPDATE=1 writes what was printed into the files, for review as a diff.
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <regex>
#include <sstream>

#include "fake_pods.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

struct Kubectl {
  std::string path;
  int minor = 0;
};

struct Output {
  std::string text;
  int exit = 0;
};
Output run_shell(const std::string& command) {
  Output out;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (const std::size_t count = fread(buffer, 1, sizeof buffer, pipe)) out.text.append(buffer, count);
  const int status = pclose(pipe);
  out.exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return out;
}

std::vector<Kubectl> find_kubectls() {
  std::vector<std::string> paths;
  const Output found = run_shell("command -v kubectl 2>/dev/null");
  if (found.exit == 0) paths.push_back(found.text.substr(0, found.text.find('\n')));
  if (const char* more = std::getenv("ORCHESTRA_KUBECTL")) {
    std::stringstream list(more);
    for (std::string path; std::getline(list, path, ':');) {
      if (!path.empty()) paths.push_back(path);
    }
  }
  std::vector<Kubectl> out;
  for (const std::string& path : paths) {
    const Output version = run_shell("'" + path + "' version --client 2>/dev/null");
    std::smatch match;
    if (std::regex_search(version.text, match, std::regex("v1\\.(\\d+)\\.")))
      out.push_back({path, std::stoi(match[1])});
  }
  return out;
}

std::string normalise(std::string text, const std::string& folder, const std::string& address) {
  const auto replace_all = [&](const std::string& from, const std::string& to) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
      text.replace(at, from.size(), to);
    }
  };
  replace_all(folder, "FOLDER");
  if (!address.empty()) replace_all(address, "ADDRESS");
  static const std::vector<std::pair<std::regex, std::string>> kRules = {
      {std::regex("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"},
      {std::regex("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ"), "TIME"},
      {std::regex("(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \\d\\d \\w{3} \\d{4} \\d\\d:\\d\\d:\\d\\d [+-]\\d{4}"),
       "TIME"},
      {std::regex("resourceVersion: \"\\d+\""), "resourceVersion: \"RV\""},
      {std::regex("10\\.96\\.(?!0\\.1\\b)\\d+\\.\\d+ *"), "CLUSTERIP "},
      {std::regex("(:)3[0-2]\\d{3}(/TCP)"), "$1NODEPORT$2"},
      {std::regex("([ :])(\\d+m)?\\d+s( ago)?(?= |\\n|$)"), "$1AGE"},
      {std::regex("127\\.0\\.0\\.1:\\d+"), "ADDRESS"},
      {std::regex("\"resourceVersion\":\"\\d+\""), "\"resourceVersion\":\"RV\""},
      {std::regex("current: \\d+"), "current: RV"},
      {std::regex("kube-api-access-[a-z0-9]{5}"), "kube-api-access-RANDOM"},
      {std::regex("-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\\\\n]*-----END CERTIFICATE-----"),
       "CERTIFICATE"},
      {std::regex("(IPv4 +)\\d+"), "$1PORT"},
      {std::regex(" +\\n"), "\n"},
      // Columns are as wide as their widest cell, and cells were replaced.
      {std::regex("(\\S) {2,}"), "$1  "},
      {std::regex("[IW]\\d{4} [^\\n]*\\n"), ""},
      {std::regex("\x1b\\[[0-9;]*m"), ""},
      {std::regex("(^|\\n)warning: "), "$1Warning: "},
      {std::regex(" annotate\\n"), " annotated\n"},  // kubectl 1.27
      // kubectl 1.33 and later say more.
      {std::regex("(deleted) from \\S+ namespace\\n"), "$1\n"},
      {std::regex("( is not valid for pod \\S+) out of: [^\\n]*"), "$1"},
      {std::regex("error: no objects passed to scale (\\S+ \\S+ not found)"),
       "Error from server (NotFound): $1"},
  };
  for (const auto& [rule, word] : kRules) text = std::regex_replace(text, rule, word);
  return text;
}

struct Step {
  std::string line;  ///< as written
  char kind = ' ';   ///< '$' command, '!' agent, '#' comment
  std::string command;
  int minor_min = 0, minor_max = 999;
  std::string expected;
};

std::vector<Step> read_scenario(const fs::path& path) {
  std::vector<Step> steps;
  std::ifstream file(path);
  static const std::regex kCommand("\\$(>=1\\.(\\d+)|<1\\.(\\d+))? (.*)");
  for (std::string line; std::getline(file, line);) {
    std::smatch match;
    if (std::regex_match(line, match, kCommand)) {
      Step step{line, '$', match[4]};
      if (match[2].matched) step.minor_min = std::stoi(match[2]);
      if (match[3].matched) step.minor_max = std::stoi(match[3]) - 1;
      steps.push_back(step);
    } else if (line.starts_with("! ")) {
      steps.push_back({line, '!', line.substr(2)});
    } else if (line.starts_with("# ") || steps.empty()) {
      steps.push_back({line, '#', ""});
    } else {
      steps.back().expected += line + "\n";
    }
  }
  return steps;
}

/// A ReplicaSet as the Deployment's controller would keep it for a revision of the template.
void keep_revision(const Client& client, const std::string& name, const std::string& revision) {
  const Object deployment = client.get("apps/v1", "deployments", name, "default").wait(30s).value();
  const std::string object =
      R"({"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":")" + name + "-" + revision +
      R"(","namespace":"default","labels":)" + deployment.get("/spec/template/metadata/labels").value() +
      R"(,"annotations":{"deployment.kubernetes.io/revision":")" + revision +
      R"("},"ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":")" + name +
      R"(","uid":")" + deployment.uid() + R"(","controller":true}]},"spec":{"replicas":0,"selector":)" +
      deployment.get("/spec/selector").value() + R"(,"template":)" +
      deployment.get("/spec/template").value() + "}}";
  Object kept = Object::from_json(object).value();
  const auto cause = deployment.annotations().find("kubernetes.io/change-cause");
  if (cause != deployment.annotations().end())
    kept =
        kept.with("/metadata/annotations/kubernetes.io~1change-cause", "\"" + cause->second + "\"").value();
  const auto made = client.create(kept).wait(30s);
  REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
  REQUIRE(
      client
          .patch("apps/v1", "deployments", name, "default", PatchType::merge,
                 R"({"metadata":{"annotations":{"deployment.kubernetes.io/revision":")" + revision + "\"}}}")
          .wait(30s));
}

/// What every node and every running pod use, from now on.
void measure(ApiServer& server, const std::string& cpu, const std::string& memory) {
  const std::string usage = R"({"cpu":")" + cpu + R"(","memory":")" + memory + "\"}";
  const auto metrics = [client = server.client(), usage](
                           const std::string& kind, const std::string& resource,
                           const std::string& ns) -> Result<std::vector<Object>> {
    std::vector<Object> out;
    ORC_ASSIGN(const ObjectList found, client.list("v1", resource, {.ns = ns}).wait(30s));
    for (const Object& one : found.items) {
      if (kind == "PodMetrics" && one.get("/status/phase") != "Running") continue;
      const std::string labels = one.labels().empty() ? "{}" : one.get("/metadata/labels").value();
      ORC_ASSIGN(
          Object object,
          Object::from_json(
              R"({"apiVersion":"metrics.k8s.io/v1beta1","kind":")" + kind + R"(","metadata":{"name":")" +
              one.name() + (one.ns().empty() ? "" : R"(","namespace":")" + one.ns()) + R"(","labels":)" +
              labels + R"(},"timestamp":"2026-01-02T03:04:05Z","window":"15s",)" +
              (kind == "NodeMetrics" ? R"("usage":)" + usage
                                     : R"("containers":[{"name":"main","usage":)" + usage + "}]") +
              "}"));
      out.push_back(std::move(object));
    }
    return out;
  };
  server.set_computed("metrics.k8s.io", "nodes", [metrics](const std::string&, const std::string&) {
    return metrics("NodeMetrics", "nodes", "");
  });
  server.set_computed("metrics.k8s.io", "pods", [metrics](const std::string& ns, const std::string&) {
    return metrics("PodMetrics", "pods", ns);
  });
}

/// What a node agent or a controller would do.
void act(ApiServer& server, const std::string& text) {
  const Client client = server.client();
  std::stringstream words(text);
  std::string verb;
  std::string pod;
  std::string value;
  words >> verb >> pod >> value;
  if (verb == "bind") {
    ApiRequest request{
        .verb = "create", .resource = "pods", .subresource = "binding", .ns = "default", .name = pod};
    request.body = R"({"apiVersion":"v1","kind":"Binding","metadata":{"name":")" + pod +
                   R"("},"target":{"kind":"Node","name":")" + value + "\"}}";
    REQUIRE(client.request(request).wait(30s));
  } else if (verb == "phase") {
    const std::string ready = value == "Running" ? "True" : "False";
    const std::string body = R"({"status":{"phase":")" + value +
                             R"(","conditions":[{"type":"Ready","status":")" + ready + R"("}]}})";
    WriteOptions options;
    options.subresource = "status";
    REQUIRE(client.patch("v1", "pods", pod, "default", PatchType::merge, body, options).wait(30s));
  } else if (verb == "available") {
    // A Deployment whose pods all run, as its controller would say.
    const Object object = client.get("apps/v1", "deployments", pod, "default").wait(30s).value();
    const std::string n = std::to_string(object.get_int("/spec/replicas").value_or(1));
    const std::string body =
        R"({"status":{"observedGeneration":)" + std::to_string(object.generation()) + R"(,"replicas":)" + n +
        R"(,"updatedReplicas":)" + n + R"(,"readyReplicas":)" + n + R"(,"availableReplicas":)" + n +
        R"(,"conditions":[{"type":"Available","status":"True"},{"type":"Progressing","status":"True","reason":"NewReplicaSetAvailable"}]}})";
    WriteOptions options;
    options.subresource = "status";
    REQUIRE(
        client.patch("apps/v1", "deployments", pod, "default", PatchType::merge, body, options).wait(30s));
  } else if (verb == "revision") {
    keep_revision(client, pod, value);
  } else if (verb == "measure") {
    measure(server, pod, value);
  } else {
    FAIL("unknown action: " << text);
  }
}

/// `environment`: shell text in front of every command.
void run_scenario(const fs::path& path, const Kubectl& kubectl, const std::string& environment = "") {
  test::TempDir folder;
  fs::create_directories(folder / "bin");
  fs::create_symlink(kubectl.path, folder / "bin/kubectl");
  fs::create_symlink(ORCHESTRA_SOURCE_DIR "/tests/compat/kubectl/data", folder / "data");
  Engine engine;
  ApiServer server(engine, MemoryStore::create(engine),
                   {.listen = "127.0.0.1:0", .data_directory = folder.path()});
  const auto started = server.start();
  REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
  server.set_pod_streams(std::make_shared<test::FakePods>(engine));
  REQUIRE(server.write_kubeconfig(folder / "admin.kubeconfig"));
  const std::string prefix = "cd '" + folder.path() + "' && export PATH='" + folder.path() +
                             "/bin':$PATH HOME='" + folder.path() + "' KUBECONFIG='" + folder.path() +
                             "/admin.kubeconfig' DATA='" + folder.path() + "/data'; " + environment +
                             " exec 2>&1 </dev/null; ";
  const bool update = std::getenv("ORC_COMPAT_UPDATE") != nullptr && environment.empty();
  std::string rewritten;
  for (const Step& step : read_scenario(path)) {
    std::string printed = step.expected;
    if (step.kind == '!') act(server, step.command);
    if (step.kind == '$' && kubectl.minor >= step.minor_min && kubectl.minor <= step.minor_max) {
      const Output output = run_shell(prefix + "timeout 90 sh -c '" +
                                      std::regex_replace(step.command, std::regex("'"), "'\\''") + "'");
      printed = normalise(output.text, folder.path(), server.address());
      if (!printed.empty() && printed.back() != '\n') printed += '\n';
      if (output.exit != 0) printed += "[exit " + std::to_string(output.exit) + "]\n";
      if (!update) {
        INFO("kubectl 1." << kubectl.minor << ", " << path.filename().string() << ": " << step.line);
        CHECK(printed == step.expected);
      }
    }
    rewritten += step.line + "\n" + printed;
  }
  if (update) std::ofstream(path) << rewritten;
  server.stop();
}
}  // namespace

TEST_CASE("kubectl does what its scenario files say") {
  const std::vector<Kubectl> kubectls = find_kubectls();
  if (kubectls.empty()) ORC_SKIP("kubectl scenarios", "no kubectl on PATH or in ORCHESTRA_KUBECTL");
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(ORCHESTRA_SOURCE_DIR "/tests/compat/kubectl")) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  const char* only = std::getenv("ORC_COMPAT_ONLY");
  for (const Kubectl& kubectl : kubectls) {
    for (const fs::path& file : files) {
      if (only != nullptr && file.filename().string().find(only) == std::string::npos) continue;
      run_scenario(file, kubectl);
    }
  }
}

TEST_CASE("kubectl does the same over HTTP/1.1 where connections matter") {
  const std::vector<Kubectl> kubectls = find_kubectls();
  if (kubectls.empty()) ORC_SKIP("kubectl over HTTP/1.1", "no kubectl on PATH or in ORCHESTRA_KUBECTL");
  for (const char* file : {"forward.txt", "pods.txt", "watch.txt"}) {
    run_scenario(fs::path(ORCHESTRA_SOURCE_DIR "/tests/compat/kubectl") / file, kubectls.front(),
                 "export DISABLE_HTTP2=true;");
  }
}

TEST_CASE("kubectl speaks HTTP/2 with the server, unless it is told not to") {
  const std::vector<Kubectl> kubectls = find_kubectls();
  if (kubectls.empty()) ORC_SKIP("kubectl over HTTP/2", "no kubectl on PATH or in ORCHESTRA_KUBECTL");
  test::TempDir folder;
  Engine engine;
  ApiServer server(engine, MemoryStore::create(engine),
                   {.listen = "127.0.0.1:0", .data_directory = folder.path()});
  REQUIRE(server.start());
  REQUIRE(server.write_kubeconfig(folder / "admin.kubeconfig"));
  const std::string command = "GODEBUG=http2debug=1 '" + kubectls.front().path + "' --kubeconfig '" +
                              folder.path() + "/admin.kubeconfig' get namespaces 2>&1";
  const std::string seen = run_shell(command).text;
  CHECK(seen.find("http2: Transport") != std::string::npos);
  CHECK(seen.find("kube-system") != std::string::npos);
  const std::string plain = run_shell("DISABLE_HTTP2=true " + command).text;
  CHECK(plain.find("http2: Transport") == std::string::npos);
  CHECK(plain.find("kube-system") != std::string::npos);
  server.stop();
}
