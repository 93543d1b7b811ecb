// Debian's python3-kubernetes with /usr/bin/python3 (another python3 on PATH does not see Debian's modules):
// tests/compat/python/client.py against our server.
#include <sys/wait.h>

#include <cstdio>

#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/compat/fake_pods.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

TEST_CASE("the Python client of Debian works against our server") {
  if (std::system("/usr/bin/python3 -c 'import kubernetes' >/dev/null 2>&1") != 0)
    ORC_SKIP("python client", "/usr/bin/python3 has no module kubernetes (Debian: python3-kubernetes)");
  test::TempDir folder;
  Engine engine;
  ApiServer server(engine, MemoryStore::create(engine),
                   {.listen = "127.0.0.1:0", .data_directory = folder.path()});
  REQUIRE(server.start());
  server.set_pod_streams(std::make_shared<test::FakePods>(engine));
  REQUIRE(server.write_kubeconfig(folder / "admin.kubeconfig"));
  const std::string command =
      "KUBECONFIG='" + folder.path() +
      "/admin.kubeconfig' timeout 60 /usr/bin/python3 -W ignore '" ORCHESTRA_SOURCE_DIR
      "/tests/compat/python/client.py' 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  char buffer[4096];
  while (const std::size_t count = fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, count);
  const int status = pclose(pipe);
  INFO(text);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(text.find("delete collection") != std::string::npos);
  server.stop();
}
