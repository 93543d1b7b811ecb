// Our schemas against the models of two client libraries: tests/compat/schema. Each of them was generated
// from upstream's OpenAPI of another level, and each difference stands in a list with its reason.
#include <sys/wait.h>

#include <cstdio>
#include <fstream>

#include "base/http_client.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
namespace fs = std::filesystem;

namespace {
const std::string kFolder = ORCHESTRA_SOURCE_DIR "/tests/compat/schema/";

int run(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/// Our OpenAPI v2 document in `folder`.
void write_document(const test::TempDir& folder) {
  Engine engine;
  ApiServer server(engine, MemoryStore::create(engine),
                   {.insecure_http = "127.0.0.1:0", .data_directory = folder.path()});
  REQUIRE(server.start());
  HttpRequest request;
  request.url = "http://" + server.insecure_address() + "/openapi/v2";
  request.headers = {{"Accept", "application/json"}};
  auto answer = make_http_client(engine)->send(std::move(request)).wait(std::chrono::seconds(30));
  REQUIRE(answer);
  REQUIRE(answer->status == 200);
  std::ofstream(folder / "v2.json") << answer->body;
  server.stop();
}

void compare(const test::TempDir& folder, const std::string& known) {
  const std::string command = "python3 '" + kFolder + "compare.py' '" + folder.path() + "/v2.json' '" +
                              folder.path() + "/models.json' '" + kFolder + known + "' > '" + folder.path() +
                              "/differences' 2>&1";
  const int code = run(command);
  std::ifstream file(folder / "differences");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  CHECK_MESSAGE(code == 0, text);
  CHECK(text.find(" models, ") != std::string::npos);
}
}  // namespace

TEST_CASE("every field that the Python client knows is ours, of the same type") {
  if (run("/usr/bin/python3 -c 'import kubernetes' >/dev/null 2>&1") != 0)
    ORC_SKIP("schemas against python3-kubernetes", "/usr/bin/python3 has no module kubernetes");
  test::TempDir folder;
  write_document(folder);
  REQUIRE(run("/usr/bin/python3 -W ignore '" + kFolder + "python_models.py' > '" + folder.path() +
              "/models.json'") == 0);
  compare(folder, "python_known.txt");
}

TEST_CASE("every field that the JavaScript client knows is ours, of the same type") {
  const char* given = std::getenv("ORCHESTRA_NODE_MODULES");
  const fs::path modules =
      given != nullptr ? fs::path(given) : fs::path(ORCHESTRA_SOURCE_DIR "/tests/compat/node/node_modules");
  if (run("node --version >/dev/null 2>&1") != 0 || !fs::exists(modules / "@kubernetes/client-node"))
    ORC_SKIP("schemas against @kubernetes/client-node", "no node, or it is not in " + modules.string());
  test::TempDir folder;
  write_document(folder);
  fs::create_symlink(modules, folder / "node_modules");
  fs::copy_file(kFolder + "node_models.mjs", folder / "node_models.mjs");
  REQUIRE(run("cd '" + folder.path() + "' && node node_models.mjs > models.json") == 0);
  compare(folder, "node_known.txt");
}

TEST_CASE(
    "every field that npm's kubernetes-types knows is ours, of the same type, and optional where it is "
    "there") {
  const char* given = std::getenv("ORCHESTRA_NODE_MODULES");
  const fs::path modules =
      given != nullptr ? fs::path(given) : fs::path(ORCHESTRA_SOURCE_DIR "/tests/compat/node/node_modules");
  if (!fs::exists(modules / "kubernetes-types"))
    ORC_SKIP("schemas against kubernetes-types", "it is not in " + modules.string());
  test::TempDir folder;
  write_document(folder);
  REQUIRE(run("python3 '" + kFolder + "types_models.py' '" + (modules / "kubernetes-types").string() +
              "' > '" + folder.path() + "/models.json'") == 0);
  compare(folder, "types_known.txt");
}
