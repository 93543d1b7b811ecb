// compile: alone (the library of HTTP/2 and OpenSSL together)
// The API server's port: HTTP/2 beside HTTP/1.1, and a certificate that is renewed while it serves.
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <filesystem>
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
  REQUIRE(client.run_until([&] { return !client.goaways.empty(); }));
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

TEST_CASE("the port serves TLS from 1.2 on, with keys on P-256") {
  Port port;
  const auto spoken = [&](int version) {
    test::RawSocket socket(port.server.address());
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                    SSL_CTX_free);
    SSL_CTX_set_min_proto_version(context.get(), version);
    SSL_CTX_set_max_proto_version(context.get(), version);
    SSL_CTX_set_security_level(context.get(), 0);  // else this side would refuse by itself
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
    SSL_set_fd(ssl.get(), socket.get());
    return SSL_connect(ssl.get()) == 1 ? std::string(SSL_get_version(ssl.get())) : std::string("refused");
  };
  CHECK(spoken(TLS1_VERSION) == "refused");
  CHECK(spoken(TLS1_1_VERSION) == "refused");
  CHECK(spoken(TLS1_2_VERSION) == "TLSv1.2");
  CHECK(spoken(TLS1_3_VERSION) == "TLSv1.3");

  const auto curve_of = [](EVP_PKEY* key) {
    char name[64] = {};
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) EVP_PKEY_get_group_name(key, name, sizeof name, nullptr);
    return std::string(name);
  };
  TlsSocket socket(port.server.address(), "");
  REQUIRE(socket.connected());
  CHECK(curve_of(X509_get0_pubkey(SSL_get0_peer_certificate(socket.ssl()))) == "prime256v1");
  // The authority's as well, and every key that lies in the folder.
  int keys = 0;
  for (const auto& entry : std::filesystem::directory_iterator(port.folder / "pki")) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> file(BIO_new_file(entry.path().c_str(), "r"), BIO_free);
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
        PEM_read_bio_PrivateKey(file.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
    if (key == nullptr) continue;
    ++keys;
    CHECK_MESSAGE(curve_of(key.get()) == "prime256v1", entry.path().string());
  }
  CHECK(keys >= 2);
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
