// Unmodified helm against our server: every helm of PATH and of the colon list ORCHESTRA_HELM installs,
// upgrades, rolls back and removes the chart of tests/compat/helm. Nothing is installed here; without a helm
// it is skipped by name.
#include <sys/wait.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "orchestra/api_server.hpp"
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
}  // namespace

TEST_CASE("helm installs, upgrades, rolls back and removes a chart") {
  const std::vector<std::string> helms = find_helms();
  if (helms.empty()) ORC_SKIP("helm", "no helm on PATH or in ORCHESTRA_HELM");
  for (const std::string& helm : helms) {
    const std::string version = shell("'" + helm + "' version --short").text;
    CAPTURE(version);
    test::TempDir folder;
    Engine engine;
    ApiServer server(engine, MemoryStore::create(engine),
                     {.listen = "127.0.0.1:0", .data_directory = folder.path()});
    REQUIRE(server.start());
    REQUIRE(server.write_kubeconfig(folder / "kubeconfig"));
    const Client client = server.client();
    const auto run = [&](const std::string& arguments) {
      return shell("HOME='" + folder.path() + "' KUBECONFIG='" + folder.path() + "/kubeconfig' timeout 60 '" +
                   helm + "' " + arguments);
    };
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
    server.stop();
  }
}
