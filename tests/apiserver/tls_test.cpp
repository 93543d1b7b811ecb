// compile: alone (the library of HTTP/2 and OpenSSL together)
// The API server's port: HTTP/2 beside HTTP/1.1, and a certificate that is renewed while it serves.
#include <openssl/x509.h>

#include <fstream>

#include "base/json.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/h2_client.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;
using test::H2Client;
using test::TlsSocket;

namespace {
struct Port {
  test::TempDir folder;
  Engine engine;
  ApiServer server;
  explicit Port(ApiServerOptions options = {})
      : server(engine, MemoryStore::create(engine), with(std::move(options), folder.path())) {
    const auto started = server.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
  }
  ~Port() { server.stop(); }
  static ApiServerOptions with(ApiServerOptions options, const std::string& folder) {
    options.listen = "127.0.0.1:0";
    options.data_directory = folder;
    return options;
  }
  H2Client::Headers as_admin() const {
    std::ifstream file(folder / "pki/admin.token");
    std::string token;
    std::getline(file, token);
    REQUIRE_FALSE(token.empty());
    return {{"authorization", "Bearer " + token}, {"content-type", "application/json"}};
  }
};

std::string config_map(const std::string& name) {
  return R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")" + name + R"("}})";
}
constexpr const char* kConfigMaps = "/api/v1/namespaces/default/configmaps";

std::string serial_of(const TlsSocket& socket) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(SSL_get0_peer_certificate(socket.ssl()));
  return std::string(reinterpret_cast<const char*>(serial->data), static_cast<std::size_t>(serial->length));
}
}  // namespace

TEST_CASE("one event reaches a thousand watches that share one HTTP/2 connection") {
  Port port;
  const auto admin = port.as_admin();
  H2Client client(port.server.address());
  CHECK(client.send("GET", "/version").status == 200);
  CHECK(client.send("GET", kConfigMaps).status == 403);
  std::vector<std::int32_t> watches;
  for (int i = 0; i < 1000; ++i)
    watches.push_back(client.request(
        "GET", std::string(kConfigMaps) + "?watch=1&fieldSelector=metadata.name%3Dnews", "", admin));
  REQUIRE(client.run_until([&] {
    return std::all_of(watches.begin(), watches.end(),
                       [&](auto id) { return client.answers[id].status == 200; });
  }));
  CHECK(client.send("POST", kConfigMaps, config_map("news"), admin).status == 201);
  CHECK(client.run_until([&] {
    return std::all_of(watches.begin(), watches.end(), [&](auto id) {
      return client.answers[id].body.find("\"ADDED\"") != std::string::npos;
    });
  }));
  // Half of them end; the others go on, and so do requests.
  for (int i = 0; i < 500; ++i) client.cancel(watches[static_cast<std::size_t>(i)]);
  CHECK(client.send("DELETE", std::string(kConfigMaps) + "/news", "", admin).status == 200);
  CHECK(client.run_until([&] {
    return std::all_of(watches.begin() + 500, watches.end(), [&](auto id) {
      return client.answers[id].body.find("\"DELETED\"") != std::string::npos;
    });
  }));
  port.server.stop();
  CHECK(client.run_until([&] {
    return std::all_of(watches.begin() + 500, watches.end(),
                       [&](auto id) { return client.answers[id].ended; });
  }));
  CHECK(client.answers[watches[999]].error == 0);  // ended in order, not cut off
  CHECK(client.goaways.front() == 0);
}

TEST_CASE("what HTTP/2 cannot carry is refused with words: commands in pods are upgrades") {
  Port port;
  H2Client client(port.server.address());
  const auto admin = port.as_admin();
  const std::string pod =
      R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}})";
  REQUIRE(client.send("POST", "/api/v1/namespaces/default/pods", pod, admin).status == 201);
  const auto answer =
      client.send("POST", "/api/v1/namespaces/default/pods/p/exec?command=ls&stdout=1", "", admin);
  CHECK(answer.status >= 400);
  CHECK(parse_json(answer.body));
}

TEST_CASE("the serving certificate is renewed before it ends, and open connections go on") {
  Port port(ApiServerOptions{.certificate_life = 3s});  // renewed after two
  TlsSocket before(port.server.address(), "");
  REQUIRE(before.connected());
  const std::string first = serial_of(before);
  std::string now = first;
  for (int i = 0; i < 100000 && now == first; ++i) now = serial_of(TlsSocket(port.server.address(), ""));
  CHECK(now != first);
  before.send("GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  CHECK(before.read_all().starts_with("HTTP/1.1 200 OK"));
}
