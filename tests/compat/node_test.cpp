// The JavaScript client @kubernetes/client-node: tests/compat/node/client.mjs against our server. Its modules
// come from tests/compat/node/node_modules (`npm ci` there) or ORCHESTRA_NODE_MODULES; nothing is installed
// here.
#include <sys/wait.h>

#include <cstdio>

#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/compat/fake_pods.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
namespace fs = std::filesystem;

TEST_CASE("the JavaScript client works against our server") {
  const char* given = std::getenv("ORCHESTRA_NODE_MODULES");
  const fs::path source = ORCHESTRA_SOURCE_DIR "/tests/compat/node";
  const fs::path modules = given != nullptr ? fs::path(given) : source / "node_modules";
  if (std::system(
          "node -e 'process.exit(process.versions.node.split(\".\")[0] >= 20 ? 0 : 1)' >/dev/null 2>&1") != 0)
    ORC_SKIP("JavaScript client", "no node of version 20 or later on PATH");
  if (!fs::exists(modules / "@kubernetes/client-node"))
    ORC_SKIP("JavaScript client", "@kubernetes/client-node is not in " + modules.string() +
                                      "; run npm ci in " + source.string() +
                                      " or set ORCHESTRA_NODE_MODULES");
  test::TempDir folder;
  fs::create_symlink(modules, folder / "node_modules");
  fs::copy_file(source / "client.mjs", folder / "client.mjs");
  Engine engine;
  ApiServer server(engine, MemoryStore::create(engine),
                   {.listen = "127.0.0.1:0", .data_directory = folder.path()});
  REQUIRE(server.start());
  server.set_pod_streams(std::make_shared<test::FakePods>(engine));
  REQUIRE(server.write_kubeconfig(folder / "admin.kubeconfig"));
  const std::string command =
      "cd '" + folder.path() + "' && KUBECONFIG=admin.kubeconfig timeout 60 node client.mjs 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  char buffer[4096];
  while (const std::size_t count = fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, count);
  const int status = pclose(pipe);
  INFO(text.substr(0, 4000));
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(text.find("delete collection") != std::string::npos);
  server.stop();
}
