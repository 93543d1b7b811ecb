// A bare API server for hands-on work with kubectl: `ORC_COMPAT_SERVE=FOLDER test_compat` writes
// FOLDER/admin.kubeconfig and serves until FOLDER/stop exists. Without the variable it does nothing.
#include <unistd.h>

#include <cstdio>

#include "fake_pods.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

TEST_CASE("a server for hands-on work starts when asked for") {
  const char* folder = std::getenv("ORC_COMPAT_SERVE");
  if (folder == nullptr) ORC_SKIP("server for hands-on work", "no test: ORC_COMPAT_SERVE=FOLDER starts it");
  Engine engine;
  ApiServer server(engine, MemoryStore::create(engine),
                   {.listen = "127.0.0.1:0", .insecure_http = "127.0.0.1:0", .data_directory = folder});
  REQUIRE(server.start());
  server.set_pod_streams(std::make_shared<test::FakePods>(engine));
  REQUIRE(server.write_kubeconfig(std::string(folder) + "/admin.kubeconfig"));
  std::printf("%s %s\n", server.address().c_str(), server.insecure_address().c_str());
  std::fflush(stdout);
  while (access((std::string(folder) + "/stop").c_str(), F_OK) != 0) usleep(100'000);
  server.stop();
}
