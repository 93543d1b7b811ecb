// Unmodified helm against our server: every helm of PATH and of the colon list ORCHESTRA_HELM installs,
// upgrades, rolls back and removes the charts of tests/compat/helm and helm_hooks. Nothing is installed here;
// without a helm it is skipped by name.
#include <sys/wait.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include "orchestra/api_server.hpp"
#include "orchestra/controllers.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
struct Ran {
  std::string text;
  int exit = 0;
};
Ran shell(const std::string& command) {
  Ran out;
  FILE* pipe = popen((command + " 2>&1 </dev/null").c_str(), "r");
  char buffer[4096];
  while (const std::size_t count = fread(buffer, 1, sizeof buffer, pipe)) out.text.append(buffer, count);
  const int status = pclose(pipe);
  out.exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return out;
}
std::vector<std::string> find_helms() {
  std::vector<std::string> out;
  const Ran found = shell("command -v helm");
  if (found.exit == 0) out.push_back(found.text.substr(0, found.text.find('\n')));
  if (const char* more = std::getenv("ORCHESTRA_HELM")) {
    std::stringstream list(more);
    for (std::string path; std::getline(list, path, ':');) {
      if (!path.empty()) out.push_back(path);
    }
  }
  return out;
}

/// A server, and one helm that talks to it from a home of its own.
struct HelmHost {
  explicit HelmHost(std::string program) : helm(std::move(program)) {
    REQUIRE(server.start());
    REQUIRE(server.write_kubeconfig(folder / "kubeconfig"));
    client = server.client();
  }
  Ran run(const std::string& arguments) const {
    return shell("HOME='" + folder.path() + "' KUBECONFIG='" + folder.path() + "/kubeconfig' timeout 60 '" +
                 helm + "' " + arguments);
  }
  const std::string helm;
  test::TempDir folder;
  Engine engine;
  ApiServer server{
      engine, MemoryStore::create(engine), {.listen = "127.0.0.1:0", .data_directory = folder.path()}};
  Client client;
};
}  // namespace

TEST_CASE("helm installs, upgrades, rolls back and removes a chart") {
  const std::vector<std::string> helms = find_helms();
  if (helms.empty()) ORC_SKIP("helm", "no helm on PATH or in ORCHESTRA_HELM");
  for (const std::string& helm : helms) {
    const std::string version = shell("'" + helm + "' version --short").text;
    CAPTURE(version);
    HelmHost host(helm);
    const Client& client = host.client;
    const auto run = [&](const std::string& arguments) { return host.run(arguments); };
    const std::string chart = " '" ORCHESTRA_SOURCE_DIR "/tests/compat/helm'";
    const auto replicas = [&] {
      auto object = client.get("apps/v1", "deployments", "web", "shop").wait(30s);
      return object ? object->get_int("/spec/replicas").value_or(-1) : -2;
    };
    const Ran installed = run("install web" + chart + " --namespace shop --create-namespace");
    CHECK_MESSAGE(installed.exit == 0, installed.text);
    CHECK(replicas() == 2);
    CHECK(
        client.get("example.com/v1", "widgets", "first", "shop").wait(30s));  // of the chart's own definition
    const Ran again = run("install web" + chart + " --namespace shop");
    CHECK(again.exit != 0);
    CHECK_MESSAGE(again.text.find("in use") != std::string::npos, again.text);
    const Ran upgraded = run("upgrade web" + chart + " --namespace shop --set replicas=5");
    CHECK_MESSAGE(upgraded.exit == 0, upgraded.text);
    CHECK(replicas() == 5);
    const Ran listed = run("list --namespace shop");
    CHECK_MESSAGE(listed.text.find("deployed") != std::string::npos, listed.text);
    const Ran history = run("history web --namespace shop");
    CHECK_MESSAGE(history.text.find("superseded") != std::string::npos, history.text);
    const Ran rolled = run("rollback web 1 --namespace shop");
    CHECK_MESSAGE(rolled.exit == 0, rolled.text);
    CHECK(replicas() == 2);
    const Ran values = run("get manifest web --namespace shop");
    CHECK_MESSAGE(values.text.find("kind: Deployment") != std::string::npos, values.text);
    const Ran removed = run("uninstall web --namespace shop");
    CHECK_MESSAGE(removed.exit == 0, removed.text);
    CHECK(replicas() == -2);
    CHECK(client.list("v1", "secrets", {.ns = "shop", .labels = "owner=helm"}).wait(30s)->items.empty());
    host.server.stop();
  }
}

namespace {
/// What runs in the pods: those of jobs and tests end well at once, the others are ready.
class Pods {
 public:
  explicit Pods(Client client) : client_(std::move(client)), thread_([this] { run(); }) {}
  ~Pods() {
    over_ = true;
    thread_.join();
  }

 private:
  void run() {
    auto watch = client_.watch("v1", "pods", {});
    while (!over_ && watch) {
      if (auto pods = client_.list("v1", "pods").wait(30s)) {
        for (const Object& pod : pods->items) tend(pod);
      }
      (void)watch->next(200ms);
    }
  }
  void tend(const Object& pod) {
    if (pod.deleting()) {
      (void)client_.remove("v1", "pods", pod.name(), pod.ns(), {.grace_period_seconds = 0}).wait(30s);
      return;
    }
    if (pod.get("/status/phase") != "Pending") return;
    const bool ends = pod.get("/spec/restartPolicy") == "Never";
    const std::string body = R"({"status":{"phase":")" + std::string(ends ? "Succeeded" : "Running") +
                             R"(","conditions":[{"type":"Ready","status":")" + (ends ? "False" : "True") +
                             "\"}]}}";
    WriteOptions options;
    options.subresource = "status";
    (void)client_.patch("v1", "pods", pod.name(), pod.ns(), PatchType::merge, body, options).wait(30s);
  }
  Client client_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};
}  // namespace

TEST_CASE("helm waits, runs hooks and tests, looks up, keeps what was edited beside it, keeps history") {
  const std::vector<std::string> helms = find_helms();
  if (helms.empty()) ORC_SKIP("helm hooks", "no helm on PATH or in ORCHESTRA_HELM");
  for (const std::string& helm : helms) {
    const std::string version = shell("'" + helm + "' version --short").text;
    CAPTURE(version);
    HelmHost host(helm);
    const Client& client = host.client;
    Controllers controllers(host.engine, client, {.local_volume_root = host.folder / "volumes"});
    REQUIRE(controllers.start());
    auto pods = std::make_unique<Pods>(client);
    const auto run = [&](const std::string& arguments) {
      const Ran ran = host.run(arguments + " --namespace default");
      CHECK_MESSAGE(ran.exit == 0, arguments << ": " << ran.text);
      return ran.text;
    };
    const auto has = [](const std::string& text, const char* part) {
      return text.find(part) != std::string::npos;
    };
    const auto config = [&](const std::string& name, const char* pointer) {
      auto object = client.get("v1", "configmaps", name, "default").wait(30s);
      return object ? object->get(pointer).value_or("none") : object.error().to_string();
    };
    const std::string chart = " '" ORCHESTRA_SOURCE_DIR "/tests/compat/helm_hooks' --wait --timeout 50s";

    // Dry runs look up what is there.
    const std::string rendered = run("install web" + chart + " --dry-run=server");
    CHECK_MESSAGE(has(rendered, "certificates: \"1\""), rendered);
    CHECK_FALSE(client.get("v1", "configmaps", "web", "default").wait(30s));

    // The Job of the hook has ended before anything else is made; the Deployment is available at the end.
    run("install web" + chart);
    const auto job = client.get("batch/v1", "jobs", "web-prepare", "default").wait(30s);
    REQUIRE(job);
    CHECK(job->get_int("/status/succeeded") == 1);
    CHECK(client.get("apps/v1", "deployments", "web", "default")
              .wait(30s)
              ->get_int("/status/availableReplicas") == 1);
    CHECK(config("web", "/data/certificates") == "1");
    CHECK(config("web-once", "/data").find("not found") != std::string::npos);  // hook-succeeded
    CHECK_MESSAGE(has(run("test web --timeout 50s"), "Succeeded"), version);
    CHECK_MESSAGE(has(run("get hooks web"), "web-prepare"), version);
    CHECK_MESSAGE(has(run("get manifest web"), "kind: Deployment"), version);

    // What somebody else has added stays; what the chart says wins.
    REQUIRE(
        client
            .patch(
                "apps/v1", "deployments", "web", "default", PatchType::strategic,
                R"({"metadata":{"annotations":{"edited":"yes"}},"spec":{"template":{"spec":{"containers":[)"
                R"({"name":"main","image":"web:edited"},{"name":"side","image":"side:v1"}]}}}})")
            .wait(30s));
    // helm 4 applies on the server, where the image has another owner now: that is a conflict, and said.
    const bool applies = version.starts_with("v4");
    run("upgrade web" + chart + " --set colour=blue" + (applies ? " --force-conflicts" : ""));
    const Object upgraded = client.get("apps/v1", "deployments", "web", "default").wait(30s).value();
    CHECK(upgraded.annotations().at("edited") == "yes");
    CHECK(upgraded.get("/spec/template/spec/containers/1/name") == "side");
    CHECK(upgraded.get("/spec/template/spec/containers/0/env/0/value") == "blue");
    CHECK(upgraded.get("/spec/template/spec/containers/0/image") == "web:v1");
    CHECK(has(run("get values web"), "colour: blue"));
    CHECK(has(run("status web"), "STATUS: deployed"));

    // Uninstalled with its history, it comes back by a rollback; what asked to be kept was never gone.
    const std::string removed = run("uninstall web --keep-history --wait --timeout 50s");
    CHECK_MESSAGE(has(removed, "web-kept"), removed);
    CHECK_FALSE(client.get("apps/v1", "deployments", "web", "default").wait(30s));
    CHECK(client.get("v1", "configmaps", "web-kept", "default").wait(30s));
    CHECK(has(run("history web"), "uninstalled"));
    run("rollback web 1 --wait --timeout 50s");
    CHECK(config("web", "/data/colour") == "red");
    run("uninstall web --wait --timeout 50s");
    CHECK(client.list("v1", "secrets", {.ns = "default", .labels = "owner=helm"}).wait(30s)->items.empty());
    pods.reset();
    controllers.stop();
    host.server.stop();
  }
}
