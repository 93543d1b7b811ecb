// orc_stream_* in C, over pods that are not there (tests/compat/fake_pods.hpp): in process and over HTTPS.
#include <poll.h>

#include <cstring>

#include "bindings/c/handles.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/compat/fake_pods.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
constexpr std::int64_t kStreamPatience = 30'000;

struct StreamHandle {
  orc_stream* stream = nullptr;
  orc_code code = ORC_OK;
  std::string why;
  StreamHandle(orc_client* client, const char* verb, const char* pod, const char* options) {
    orc_request request{};
    request.size = sizeof request;
    request.verb = verb;
    request.ns = "default";
    request.name = pod;
    request.body = options;
    request.body_size = std::strlen(options);
    orc_error* error = nullptr;
    code = orc_client_stream(client, &request, &stream, &error);
    if (error != nullptr) why = orc_error_message(error);
    orc_error_free(error);
  }
  StreamHandle(const StreamHandle&) = delete;
  ~StreamHandle() { orc_stream_free(stream); }
  /// "out|err|exit 3"
  std::string run() const {
    std::string out, err;
    while (true) {
      int channel = 0, exit_code = 0;
      orc_bytes bytes{};
      if (orc_stream_next(stream, kStreamPatience, &channel, &exit_code, &bytes, nullptr) != ORC_OK)
        return "FAILED";
      if (channel == ORC_STREAM_OUT) out.append(bytes.data, bytes.size);
      if (channel == ORC_STREAM_ERR) err.append(bytes.data, bytes.size);
      orc_bytes_free(&bytes);
      if (channel == ORC_STREAM_END) return out + "|" + err + "|exit " + std::to_string(exit_code);
    }
  }
};

struct Pods {
  test::TempDir folder;
  Engine engine;
  ApiServer server{engine, MemoryStore::create(engine),
                   ApiServerOptions{.listen = "127.0.0.1:0", .data_directory = folder.path()}};
  std::vector<orc_client*> clients;
  Pods() {
    REQUIRE(server.start());
    server.set_pod_streams(std::make_shared<test::FakePods>(engine));
    REQUIRE(server.write_kubeconfig(folder / "kubeconfig"));
    clients.push_back(new orc_client{server.client()});
    REQUIRE(server.client()
                .create(Object::from_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"web",
                  "namespace":"default"},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}})")
                            .value())
                .wait(30s));
    // The engine of C is the one of this test.
    orc_engine borrowed{std::unique_ptr<Engine>(&engine)};
    orc_client* remote = nullptr;
    const orc_code code =
        orc_client_connect(&borrowed, (folder / "kubeconfig").c_str(), nullptr, &remote, nullptr);
    (void)borrowed.engine.release();
    REQUIRE(code == ORC_OK);
    clients.push_back(remote);
  }
  ~Pods() {
    for (orc_client* client : clients) orc_client_free(client);
    server.stop();
  }
};
}  // namespace

TEST_CASE("C reads logs, runs commands and talks to ports, in process and over HTTPS") {
  Pods pods;
  for (orc_client* client : pods.clients) {
    CHECK(StreamHandle(client, "log", "web", R"({"tailLines":1,"timestamps":false})").run() ==
          "third line\n||exit 0");
    CHECK(StreamHandle(client, "exec", "web", R"({"command":["echo","a","b"],"stdout":true})").run() ==
          "a b\n||exit 0");
    CHECK(StreamHandle(client, "exec", "web", R"({"command":["exit","3"],"stdout":true,"stderr":true})")
              .run() == "|leaving with 3\n|exit 3");
    CHECK(StreamHandle(client, "attach", "web", R"({"stdout":true})").run() == "attached\n||exit 0");

    const StreamHandle cat(client, "exec", "web", R"({"command":["cat"],"stdin":true,"stdout":true})");
    REQUIRE(cat.code == ORC_OK);
    CHECK(orc_stream_write(cat.stream, "hello", 5, kStreamPatience, nullptr) == ORC_OK);
    pollfd ready{orc_stream_fd(cat.stream), POLLIN, 0};
    CHECK(poll(&ready, 1, static_cast<int>(kStreamPatience)) == 1);
    CHECK(orc_stream_close_write(cat.stream, nullptr) == ORC_OK);
    CHECK(cat.run() == "hello||exit 0");
    CHECK(cat.run() == "||exit 0");  // the end stays

    const StreamHandle size(client, "exec", "web",
                            R"({"command":["size"],"stdin":true,"stdout":true,"tty":true})");
    CHECK(orc_stream_resize(size.stream, 80, 24, nullptr) == ORC_OK);
    CHECK(size.run() == "80x24\n||exit 0");

    const StreamHandle port(client, "portforward", "web", R"({"ports":[80]})");
    REQUIRE(port.code == ORC_OK);
    CHECK(orc_stream_write(port.stream, "x", 1, kStreamPatience, nullptr) == ORC_OK);
    int channel = 0;
    orc_bytes bytes{};
    REQUIRE(orc_stream_next(port.stream, kStreamPatience, &channel, nullptr, &bytes, nullptr) == ORC_OK);
    CHECK(std::string(bytes.data, bytes.size) == "echo: x");
    orc_bytes_free(&bytes);
    CHECK(orc_stream_next(port.stream, 0, &channel, nullptr, &bytes, nullptr) == ORC_EDEADLINEEXCEEDED);
  }
}

TEST_CASE("C is told what is wrong with a stream") {
  Pods pods;
  for (orc_client* client : pods.clients) {
    const StreamHandle none(client, "exec", "none", R"({"command":["echo"],"stdout":true})");
    CHECK(none.code == ORC_ENOTFOUND);
    CHECK(none.why.find("pods \"none\" not found") != std::string::npos);
    CHECK(StreamHandle(client, "exec", "web", R"({"command":[{}],"stdout":true})").code == ORC_EINVAL);
    CHECK(StreamHandle(client, "exec", "web", "[]").code == ORC_EINVAL);
    CHECK(StreamHandle(client, "dance", "web", "{}").why.find("verb must be") != std::string::npos);
    CHECK(StreamHandle(client, "portforward", "web", R"({"ports":[0]})").why.find("not in 1-65535") !=
          std::string::npos);
    CHECK(StreamHandle(client, "portforward", "web", "{}").why.find("ports") != std::string::npos);
    const StreamHandle log(client, "log", "web", "{}");
    REQUIRE(log.code == ORC_OK);
    CHECK(orc_stream_write(log.stream, "x", 1, 0, nullptr) == ORC_EUNSUPPORTED);
    CHECK(orc_stream_resize(log.stream, 1, 1, nullptr) == ORC_EUNSUPPORTED);
  }
  orc_error* error = nullptr;
  orc_engine borrowed{std::unique_ptr<Engine>(&pods.engine)};
  orc_client* client = nullptr;
  CHECK(orc_client_connect(&borrowed, "/nonexistent", nullptr, &client, &error) == ORC_ENOTFOUND);
  CHECK(std::string(orc_error_message(error)).find("/nonexistent") != std::string::npos);
  orc_error_free(error);
  (void)borrowed.engine.release();
  CHECK(orc_stream_next(nullptr, 0, nullptr, nullptr, nullptr, nullptr) == ORC_EINVAL);
  orc_stream_free(nullptr);
}
