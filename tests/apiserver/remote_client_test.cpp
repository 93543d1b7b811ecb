// RemoteClient from the files of a pod and from kubeconfigs with a tokenFile; apply and remove_collection of
// Client, in process and over HTTPS.
#include "orchestra/remote_client.hpp"

#include <atomic>
#include <fstream>

#include "orchestra/api_server.hpp"
#include "orchestra/env.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
/// The real time, and what a test adds to it.
struct LaterClock final : Clock {
  std::atomic<std::int64_t> later_ns{0};
  Now now() override {
    const Now real = real_clock().now();
    return {real.wall_ns + later_ns, real.steady_ns + later_ns};
  }
};

/// A server that believes one token, whatever that is at the time.
struct TokenServer {
  test::TempDir folder;
  LaterClock clock;
  Engine engine{{.clock = &clock}};
  std::mutex mutex;
  std::string believed = "first";
  Engine server_engine;
  ApiServer server{server_engine,
                   MemoryStore::create(server_engine),
                   {.listen = "127.0.0.1:0",
                    .data_directory = folder.path(),
                    .authenticate_token = [this](const std::string& token) { return who(token); }}};

  TokenServer() {
    const auto started = server.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
    write("ca.crt", server.ca_pem());
    write("token", "first\n");
  }
  ~TokenServer() { server.stop(); }
  std::optional<AuthenticatedUser> who(const std::string& token) {
    std::lock_guard lock(mutex);
    if (token != believed) return std::nullopt;
    return AuthenticatedUser{.name = "system:serviceaccount:default:web", .groups = {"system:masters"}};
  }
  void believe(const std::string& token) {
    std::lock_guard lock(mutex);
    believed = token;
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(folder / name) << text; }
  static std::string lists(const Client& client) {
    const auto list = client.list("v1", "namespaces").wait(30s);
    return list ? "yes" : to_string(list.error().code());
  }
};

/// The variables of a pod, for the length of a scope.
struct PodEnvironment {
  explicit PodEnvironment(const std::string& address) {
    const std::size_t colon = address.rfind(':');
    setenv("KUBERNETES_SERVICE_HOST", address.substr(0, colon).c_str(), 1);
    setenv("KUBERNETES_SERVICE_PORT", address.substr(colon + 1).c_str(), 1);
  }
  ~PodEnvironment() {
    unsetenv("KUBERNETES_SERVICE_HOST");
    unsetenv("KUBERNETES_SERVICE_PORT");
  }
};

Object settings(const std::string& data, const std::string& name = "settings") {
  return Object::from_json(R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")" + name +
                           R"(","labels":{"app":"web"}},"data":)" + data + "}")
      .value();
}
}  // namespace

TEST_CASE("a client in a pod takes authority and token from its files, and reads a token that was renewed") {
  TokenServer served;
  const auto nowhere = RemoteClient::in_cluster(served.engine, served.folder.path());
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().is(Error::not_found));
  const PodEnvironment pod(served.server.address());
  CHECK_FALSE(RemoteClient::in_cluster(served.engine, served.folder / "none"));
  const auto client = RemoteClient::in_cluster(served.engine, served.folder.path());
  REQUIRE_MESSAGE(client, (client ? "" : client.error().to_string()));
  CHECK(served.lists(*client) == "yes");

  // The server refuses the old one: the file is read for the next request, not before.
  served.write("token", "second");
  served.believe("second");
  CHECK(served.lists(*client) == "unauthenticated");
  CHECK(served.lists(*client) == "yes");

  // A file that is gone or empty leaves the token that there was.
  served.clock.later_ns += 61'000'000'000;
  served.write("token", "");
  CHECK(served.lists(*client) == "yes");

  // Each minute it is read again, without a refusal.
  served.write("token", "third");
  served.believe("third");
  served.clock.later_ns += 61'000'000'000;
  CHECK(served.lists(*client) == "yes");

  // A foreign authority is not believed, whatever the token.
  TokenServer other;
  served.write("ca.crt", other.server.ca_pem());
  const auto deceived = RemoteClient::in_cluster(served.engine, served.folder.path());
  REQUIRE(deceived);
  CHECK(served.lists(*deceived) != "yes");
}

TEST_CASE("tokenFile of a kubeconfig is beside it, gives way to token at first, and is read again") {
  TokenServer served;
  served.write("config",
               "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
               "clusters: [{name: k, cluster: {server: 'https://" +
                   served.server.address() +
                   "', certificate-authority: ca.crt}}]\n"
                   "users: [{name: u, user: {tokenFile: token}}]\n");
  const auto client = RemoteClient::from_kubeconfig(served.engine, served.folder / "config");
  REQUIRE_MESSAGE(client, (client ? "" : client.error().to_string()));
  CHECK(served.lists(*client) == "yes");
  served.write("token", "second");
  served.believe("second");
  CHECK(served.lists(*client) == "unauthenticated");
  CHECK(served.lists(*client) == "yes");

  const auto both = read_kubeconfig(
      "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
      "clusters: [{name: k, cluster: {server: 'https://h:1'}}]\n"
      "users: [{name: u, user: {token: given, tokenFile: none}}]\n",
      "", "/folder");
  REQUIRE_MESSAGE(both, (both ? "" : both.error().to_string()));
  CHECK(both->token == "given");
  CHECK(both->token_file == "/folder/none");
  CHECK_FALSE(
      read_kubeconfig("current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
                      "clusters: [{name: k, cluster: {server: 'https://h:1'}}]\n"
                      "users: [{name: u, user: {tokenFile: /nonexistent}}]\n"));
}

TEST_CASE("Client::apply owns fields, meets conflicts and takes them by force, in process and over HTTPS") {
  TokenServer served;
  const PodEnvironment pod(served.server.address());
  for (const Client& client :
       {served.server.client(), RemoteClient::in_cluster(served.engine, served.folder.path()).value()}) {
    const auto made = client.apply(settings(R"({"a":"1","b":"1"})"), {.field_manager = "me"}).wait(30s);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    CHECK(made->ns() == "default");
    // The same again writes nothing.
    const auto again = client.apply(settings(R"({"a":"1","b":"1"})"), {.field_manager = "me"}).wait(30s);
    REQUIRE(again);
    CHECK(again->resource_version() == made->resource_version());
    // What is not named any more goes; what another owns is a conflict.
    const auto less = client.apply(settings(R"({"a":"1"})"), {.field_manager = "me"}).wait(30s);
    REQUIRE(less);
    CHECK(less->get("/data") == R"({"a":"1"})");
    const auto conflict = client.apply(settings(R"({"a":"2"})"), {.field_manager = "other"}).wait(30s);
    REQUIRE_FALSE(conflict);
    CHECK(conflict.error().is(Error::conflict));
    CHECK(conflict.error().detail<Status>()->message.find("conflict with \"me\": .data.a") !=
          std::string::npos);
    const auto dry =
        client.apply(settings(R"({"a":"2"})"), {.field_manager = "other", .dry_run = true, .force = true})
            .wait(30s);
    REQUIRE(dry);
    CHECK(dry->get("/data/a") == "2");
    CHECK(client.get("v1", "configmaps", "settings", "default").wait(30s)->get("/data/a") == "1");
    const auto forced =
        client.apply(settings(R"({"a":"2"})"), {.field_manager = "other", .force = true}).wait(30s);
    REQUIRE(forced);
    CHECK(forced->get("/data/a") == "2");
    CHECK_FALSE(client.apply(settings("{}"), {}).wait(30s));  // without a manager
    CHECK(client.remove("v1", "configmaps", "settings", "default").wait(30s));
  }
}

TEST_CASE(
    "Client::remove_collection removes what the selector names, in one namespace, and says what it cannot") {
  TokenServer served;
  const PodEnvironment pod(served.server.address());
  for (const Client& client :
       {served.server.client(), RemoteClient::in_cluster(served.engine, served.folder.path()).value()}) {
    for (const char* name : {"a", "b"}) REQUIRE(client.create(settings("{}", name)).wait(30s));
    const Object other = settings("{}", "c").with("/metadata/labels/app", "\"db\"").value();
    const Object away = settings("{}", "a").with("/metadata/namespace", "\"kube-public\"").value();
    REQUIRE(client.create(other).wait(30s));
    REQUIRE(client.create(away).wait(30s));
    const auto names = [&](const std::string& ns) {
      std::string out;
      const ObjectList all = client.list("v1", "configmaps", {.ns = ns}).wait(30s).value();
      for (const Object& one : all.items) {
        if (one.name() != "kube-root-ca.crt") out += one.name();
      }
      return out;
    };
    CHECK_FALSE(
        client.remove_collection("v1", "configmaps", {.ns = "default", .labels = "app in ("}).wait(30s));
    CHECK(names("default") == "abc");
    const auto removed =
        client.remove_collection("v1", "configmaps", {.ns = "default", .labels = "app=web"}).wait(30s);
    REQUIRE_MESSAGE(removed, (removed ? "" : removed.error().to_string()));
    CHECK(names("default") == "c");
    CHECK(names("kube-public") == "a");
    // Orphan is kept to: a finalizer holds the object until somebody has let its dependents go.
    REQUIRE(client
                .remove_collection("v1", "configmaps", {.ns = "default", .fields = "metadata.name=c"},
                                   {.propagation = "Orphan"})
                .wait(30s));
    const auto held = client.get("v1", "configmaps", "c", "default").wait(30s);
    REQUIRE(held);
    CHECK(held->deleting());
    CHECK(held->finalizers() == std::vector<std::string>{"orphan"});
    REQUIRE(client
                .patch("v1", "configmaps", "c", "default", PatchType::merge,
                       R"({"metadata":{"finalizers":null}})")
                .wait(30s));
    CHECK(client.remove("v1", "configmaps", "a", "kube-public").wait(30s));
    CHECK(names("default").empty());
  }
}
