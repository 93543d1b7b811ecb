// The C ABI as a C program uses it: nothing here includes a C++ header of the library. Handles are owned by
// small guards so that a failed check frees what was made, children before the engine.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "api/status.hpp"
#include "base/fd.hpp"
#include "base/json.hpp"
#include "bindings/c/handles.hpp"
#include "orchestra/orchestra.h"
#include "orchestra/retry_after.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/test.hpp"

using orchestra::test::TempDir;

namespace {
constexpr std::int64_t kPatience = 30'000;  // ms; only a failing test waits that long

template <class T, void (*Free)(T*)>
struct Freed {
  void operator()(T* handle) const { Free(handle); }
};
template <class T, void (*Free)(T*)>
using Owned = std::unique_ptr<T, Freed<T, Free>>;
using EngineHandle = Owned<orc_engine, orc_engine_free>;
using StoreHandle = Owned<orc_store, orc_store_free>;
using ServerHandle = Owned<orc_api_server, orc_api_server_free>;
using ClientHandle = Owned<orc_client, orc_client_free>;
using WatchHandle = Owned<orc_watch, orc_watch_free>;
using StoreWatchHandle = Owned<orc_store_watch, orc_store_watch_free>;
using ErrorHandle = Owned<orc_error, orc_error_free>;

EngineHandle new_engine() {
  orc_engine* engine = nullptr;
  REQUIRE(orc_engine_new(nullptr, &engine, nullptr) == ORC_OK);
  return EngineHandle(engine);
}
StoreHandle memory_store(const EngineHandle& engine) {
  orc_store* store = nullptr;
  REQUIRE(orc_store_memory(engine.get(), &store, nullptr) == ORC_OK);
  return StoreHandle(store);
}
orc_code put(const StoreHandle& store, const std::string& key, const std::string& value,
             std::int64_t expected = -1, std::int64_t* revision = nullptr) {
  return orc_store_put(store.get(), key.data(), key.size(), value.data(), value.size(), expected, kPatience,
                       revision, nullptr);
}
std::string taken(orc_bytes& bytes) {
  std::string text(bytes.data, bytes.size);
  CHECK(bytes.data[bytes.size] == '\0');
  orc_bytes_free(&bytes);
  CHECK(bytes.data == nullptr);
  return text;
}
bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }
bool readable(int fd, int timeout_ms) {
  pollfd one{fd, POLLIN, 0};
  return poll(&one, 1, timeout_ms) == 1;
}

/// An API server without sockets over a memory store.
struct Served {
  EngineHandle engine = new_engine();
  StoreHandle store = memory_store(engine);
  ServerHandle server;
  ClientHandle client;
  Served() {
    orc_api_server* made = nullptr;
    REQUIRE(orc_api_server_new(engine.get(), store.get(), nullptr, &made, nullptr) == ORC_OK);
    server.reset(made);
    REQUIRE(orc_api_server_start(made, nullptr) == ORC_OK);
    orc_client* connected = nullptr;
    REQUIRE(orc_api_server_client(made, &connected, nullptr) == ORC_OK);
    client.reset(connected);
  }
};
orc_request config_maps(const char* verb, const char* name = nullptr, const char* body = nullptr) {
  orc_request request{};
  request.size = sizeof request;
  request.verb = verb;
  request.api_version = "v1";
  request.resource = "configmaps";
  request.ns = "default";
  request.name = name;
  request.body = body;
  request.body_size = body != nullptr ? std::strlen(body) : 0;
  return request;
}
struct Answer {
  orc_code code = ORC_OK;
  std::string body, message, status;
  int http = 0;
};
Answer send(const ClientHandle& client, const orc_request& request) {
  Answer answer;
  orc_bytes body{};
  orc_error* raw = nullptr;
  answer.code = orc_client_request(client.get(), &request, &body, &raw);
  const ErrorHandle error(raw);
  CHECK((answer.code == ORC_OK) == (raw == nullptr));
  if (answer.code == ORC_OK) {
    answer.body = taken(body);
  } else {
    CHECK(orc_error_code(raw) == answer.code);
    answer.message = orc_error_message(raw);
    answer.http = orc_error_http_code(raw);
    answer.status = orc_error_status_json(raw);
  }
  return answer;
}
constexpr const char* kSettings =
    R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","labels":{"app":"web"}},"data":{"a":"1"}})";
}  // namespace

TEST_CASE("the version and every code have a name") {
  CHECK(std::string(orc_version()) == "0.1.0");
  CHECK(std::string(orc_code_name(ORC_OK)) == "ok");
  CHECK(std::string(orc_code_name(ORC_EINVAL)) == "invalid");
  CHECK(std::string(orc_code_name(ORC_EUNKNOWNOUTCOME)) == "unknown_outcome");
  CHECK(std::string(orc_code_name(ORC_EINTERNAL)) == "internal");
}

TEST_CASE("a value is put, read with its revision, refused on conflict, and removed") {
  const EngineHandle engine = new_engine();
  const StoreHandle store = memory_store(engine);
  std::int64_t first = 0, second = 0, seen = 0;
  REQUIRE(put(store, "/a", std::string("one\0two", 7), 0, &first) == ORC_OK);
  orc_bytes value{};
  REQUIRE(orc_store_get(store.get(), "/a", 2, kPatience, &value, &seen, nullptr) == ORC_OK);
  CHECK(taken(value) == std::string("one\0two", 7));
  CHECK(seen == first);
  CHECK(put(store, "/a", "again", 0) == ORC_ECONFLICT);
  CHECK(put(store, "/a", "again", first, &second) == ORC_OK);
  CHECK(second > first);
  std::uint64_t removed = 0;
  CHECK(orc_store_remove(store.get(), "/a", 2, kPatience, &removed, nullptr) == ORC_OK);
  CHECK(removed == 1);
  orc_error* raw = nullptr;
  CHECK(orc_store_get(store.get(), "/a", 2, kPatience, &value, nullptr, &raw) == ORC_ENOTFOUND);
  const ErrorHandle error(raw);
  CHECK(contains(orc_error_message(raw), "/a"));
  CHECK(orc_error_http_code(raw) == 0);
  CHECK(std::string(orc_error_status_json(raw)).empty());
}

TEST_CASE("a range lists a prefix in order, at most limit keys, and ends when the caller says so") {
  const EngineHandle engine = new_engine();
  const StoreHandle store = memory_store(engine);
  for (const char* key : {"/p/c", "/p/a", "/q/x", "/p/b"}) REQUIRE(put(store, key, "v") == ORC_OK);
  struct Seen {
    std::vector<std::string> keys;
    std::size_t stop_after = 100;
  };
  const auto each = [](void* user, const void* key, std::size_t size, const void*, std::size_t,
                       std::int64_t) {
    auto* seen = static_cast<Seen*>(user);
    seen->keys.emplace_back(static_cast<const char*>(key), size);
    return seen->keys.size() >= seen->stop_after ? 1 : 0;
  };
  Seen all, two, one{{}, 1};
  REQUIRE(orc_store_range(store.get(), "/p/", 3, 0, kPatience, each, &all, nullptr) == ORC_OK);
  CHECK(all.keys == std::vector<std::string>{"/p/a", "/p/b", "/p/c"});
  REQUIRE(orc_store_range(store.get(), "/p/", 3, 2, kPatience, each, &two, nullptr) == ORC_OK);
  CHECK(two.keys.size() == 2);
  REQUIRE(orc_store_range(store.get(), "/p/", 3, 0, kPatience, each, &one, nullptr) == ORC_OK);
  CHECK(one.keys.size() == 1);
}

TEST_CASE("a watch of the store tells changes in order, and its eventfd when there are some") {
  const EngineHandle engine = new_engine();
  const StoreHandle store = memory_store(engine);
  orc_store_watch* raw = nullptr;
  REQUIRE(orc_store_watch_new(store.get(), "/w/", 3, 0, &raw, nullptr) == ORC_OK);
  const StoreWatchHandle watch(raw);
  std::string seen;
  const auto note = [](void* user, const orc_store_event* event) {
    *static_cast<std::string*>(user) +=
        (event->removed != 0 ? "-" : "+") +
        std::string(static_cast<const char*>(event->key), event->key_size) + "=" +
        std::string(static_cast<const char*>(event->value), event->value_size) + " ";
  };
  orc_error* error = nullptr;
  CHECK(orc_store_watch_next(raw, 0, note, &seen, &error) == ORC_EDEADLINEEXCEEDED);
  CHECK(error == nullptr);
  CHECK_FALSE(readable(orc_store_watch_fd(raw), 0));
  REQUIRE(put(store, "/w/a", "1") == ORC_OK);
  REQUIRE(put(store, "/other", "1") == ORC_OK);
  REQUIRE(orc_store_remove(store.get(), "/w/a", 4, kPatience, nullptr, nullptr) == ORC_OK);
  while (seen != "+/w/a=1 -/w/a= ") {
    REQUIRE(readable(orc_store_watch_fd(raw), kPatience));
    const orc_code code = orc_store_watch_next(raw, 0, note, &seen, nullptr);
    REQUIRE((code == ORC_OK || code == ORC_EDEADLINEEXCEEDED));
  }
}

TEST_CASE("a store on disk keeps its keys, and a second owner of the folder is told who has it") {
  const TempDir folder;
  const EngineHandle engine = new_engine();
  orc_store* raw = nullptr;
  REQUIRE(orc_store_open(engine.get(), folder.path().c_str(), &raw, nullptr) == ORC_OK);
  StoreHandle store(raw);
  REQUIRE(put(store, "/kept", "yes") == ORC_OK);
  orc_store* second = nullptr;
  orc_error* error = nullptr;
  CHECK(orc_store_open(engine.get(), folder.path().c_str(), &second, &error) == ORC_EBUSY);
  const ErrorHandle busy(error);
  CHECK(contains(orc_error_message(error), std::to_string(getpid()).c_str()));
  CHECK(second == nullptr);
  store.reset();
  REQUIRE(orc_store_open(engine.get(), folder.path().c_str(), &raw, nullptr) == ORC_OK);
  store.reset(raw);
  orc_bytes value{};
  REQUIRE(orc_store_get(raw, "/kept", 5, kPatience, &value, nullptr, nullptr) == ORC_OK);
  CHECK(taken(value) == "yes");
}

TEST_CASE("an object is created, read, listed by label, patched, updated and deleted without a socket") {
  const Served api;
  const Answer made = send(api.client, config_maps("create", nullptr, kSettings));
  REQUIRE_MESSAGE(made.code == ORC_OK, made.message);
  CHECK(contains(made.body, R"("uid":)"));
  CHECK(contains(send(api.client, config_maps("get", "settings")).body, R"("a":"1")"));
  orc_request list = config_maps("list");
  list.query = "labelSelector=app%3Dweb&limit=5";
  CHECK(contains(send(api.client, list).body, R"("settings")"));
  list.query = "labelSelector=app%3Ddb";
  CHECK_FALSE(contains(send(api.client, list).body, R"("settings")"));
  orc_request patch = config_maps("patch", "settings", R"({"data":{"b":"2"}})");
  patch.content_type = "application/merge-patch+json";
  const Answer patched = send(api.client, patch);
  CHECK(contains(patched.body, R"("b":"2")"));
  CHECK(contains(patched.body, R"("a":"1")"));
  orc_request update = config_maps("update", nullptr, kSettings);
  update.api_version = update.resource = update.ns = nullptr;  // all from the body
  CHECK_FALSE(contains(send(api.client, update).body, R"("b":"2")"));
  CHECK(send(api.client, config_maps("delete", "settings")).code == ORC_OK);
  CHECK(send(api.client, config_maps("get", "settings")).code == ORC_ENOTFOUND);
}

TEST_CASE("a transaction, with a lease whose end takes its keys along") {
  const EngineHandle engine = new_engine();
  const StoreHandle store = memory_store(engine);
  int64_t lease = 0;
  REQUIRE(orc_store_lease_grant(store.get(), 3600, kPatience, &lease, nullptr) == ORC_OK);
  const auto txn = [&](const std::string& text, orc_error** error = nullptr) {
    orc_bytes out{};
    return orc_store_txn(store.get(), text.c_str(), kPatience, &out, error) == ORC_OK ? taken(out) : "";
  };
  const std::string guarded = "if missing \"a key\"\nput \"a key\" one lease=" + std::to_string(lease) +
                              "\nput b two\nelse\nget \"a key\"\n";
  CHECK(contains(txn(guarded), "\"succeeded\":true"));
  const std::string second = txn(guarded);
  CHECK(contains(second, "\"succeeded\":false"));
  CHECK(contains(second, "\"key\":\"YSBrZXk=\""));
  CHECK(contains(txn("txn\nif missing b\nput c one\nelse\nget b\nend\n"),
                 "\"ops\":[{\"succeeded\":false,\"ops\":[{\"op\":\"get\""));
  REQUIRE(orc_store_lease_keep_alive(store.get(), lease, kPatience, nullptr) == ORC_OK);
  REQUIRE(orc_store_lease_revoke(store.get(), lease, kPatience, nullptr) == ORC_OK);
  orc_bytes value{};
  CHECK(orc_store_get(store.get(), "a key", 5, kPatience, &value, nullptr, nullptr) == ORC_ENOTFOUND);
  CHECK(orc_store_get(store.get(), "b", 1, kPatience, &value, nullptr, nullptr) == ORC_OK);
  orc_bytes_free(&value);
  CHECK(orc_store_lease_keep_alive(store.get(), lease, kPatience, nullptr) == ORC_ENOTFOUND);
  orc_error* raw = nullptr;
  CHECK(txn("put a\n", &raw).empty());
  const ErrorHandle error(raw);
  CHECK(orc_error_code(raw) == ORC_EINVAL);
  CHECK(contains(orc_error_message(raw), "line 1"));
}

TEST_CASE("an error says when to try again, where that is known") {
  using orchestra::Error;
  const auto after = [](const Error& error) {
    orc_error* made = nullptr;
    const orc_code code = orchestra::c::fail(error, &made);
    CHECK(code == orc_error_code(made));
    const ErrorHandle held(made);
    return orc_error_retry_after_ms(made);
  };
  CHECK(after(Error(Error::overloaded, "store", "later")
                  .with_detail(orchestra::RetryAfter{orchestra::Duration(1'500'001)})) == 2);
  CHECK(after(orchestra::api::too_many_requests("later", 1)) == 1000);
  CHECK(after(Error(Error::overloaded, "store", "later")) == 0);
  CHECK(orc_error_retry_after_ms(nullptr) == 0);
}

TEST_CASE("the page of metrics, as text and as OpenMetrics, and who has none") {
  const Served served;
  orc_bytes page{};
  REQUIRE(orc_api_server_metrics(served.server.get(), nullptr, &page, nullptr) == ORC_OK);
  CHECK(contains(taken(page), "orchestra_store_revision "));
  REQUIRE(orc_api_server_metrics(served.server.get(), "application/openmetrics-text", &page, nullptr) ==
          ORC_OK);
  CHECK(taken(page).ends_with("# EOF\n"));
  CHECK(orc_api_server_metrics(nullptr, nullptr, &page, nullptr) == ORC_EINVAL);
  CHECK(orc_cluster_metrics(nullptr, nullptr, &page, nullptr) == ORC_EINVAL);
}

TEST_CASE("API errors carry code, HTTP status and the Status object") {
  const Served api;
  const Answer missing = send(api.client, config_maps("get", "nothing"));
  CHECK(missing.code == ORC_ENOTFOUND);
  CHECK(missing.http == 404);
  CHECK(contains(missing.status, R"("reason":"NotFound")"));
  CHECK(contains(missing.message, "nothing"));
  REQUIRE(send(api.client, config_maps("create", nullptr, kSettings)).code == ORC_OK);
  const Answer twice = send(api.client, config_maps("create", nullptr, kSettings));
  CHECK(twice.code == ORC_EALREADYEXISTS);
  CHECK(twice.http == 409);
  const Answer stale = send(
      api.client,
      config_maps(
          "update", "settings",
          R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"default","resourceVersion":"1"}})"));
  CHECK(stale.code == ORC_ECONFLICT);
  CHECK(stale.http == 409);
  const Answer refused = send(
      api.client, config_maps("create", nullptr,
                              R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"Not A Name"}})"));
  CHECK(refused.code == ORC_EINVAL);
  CHECK(refused.http == 422);
  CHECK(contains(refused.status, R"("field":"metadata.name")"));
}

TEST_CASE("a manifest is applied, and applied again as a patch, with and without namespaces") {
  const Served api;
  const std::string manifest = std::string(kSettings) +
                               "\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n"
                               "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other, namespace: shop}\n";
  for (int round = 0; round < 2; ++round) {
    std::size_t applied = 0;
    orc_error* raw = nullptr;
    const orc_code code = orc_client_apply_manifest(api.client.get(), manifest.data(), manifest.size(),
                                                    kPatience, &applied, &raw);
    const ErrorHandle error(raw);
    REQUIRE_MESSAGE(code == ORC_OK, orc_error_message(raw));
    CHECK(applied == 3);
  }
  std::size_t applied = 9;
  const std::string bad = "kind: [";
  CHECK(orc_client_apply_manifest(api.client.get(), bad.data(), bad.size(), 0, &applied, nullptr) ==
        ORC_EINVAL);
}

TEST_CASE("a watch of the API starts with what exists, then tells changes through its eventfd") {
  const Served api;
  REQUIRE(send(api.client, config_maps("create", nullptr, kSettings)).code == ORC_OK);
  orc_request request = config_maps(nullptr);
  orc_watch* raw = nullptr;
  REQUIRE(orc_client_watch(api.client.get(), &request, &raw, nullptr) == ORC_OK);
  const WatchHandle watch(raw);
  std::string seen;
  const auto read_until = [&](const char* part) {
    while (!contains(seen, part)) {
      REQUIRE(readable(orc_watch_fd(raw), kPatience));
      orc_bytes events{};
      orc_error* error = nullptr;
      const orc_code code = orc_watch_next(raw, 0, &events, &error);
      REQUIRE(error == nullptr);
      if (code == ORC_OK) seen += taken(events);
    }
  };
  read_until("ADDED");
  CHECK(contains(seen, R"("settings")"));
  REQUIRE(send(api.client, config_maps("delete", "settings")).code == ORC_OK);
  read_until("DELETED");
}

namespace {
/// A key of the host in C: its bytes are turned, and it may be away.
struct Vault {
  int wrapped = 0, opened = 0;
  bool away = false;
  static void turn(const void* in, size_t size, void* out) {
    for (size_t i = 0; i < size; ++i)
      static_cast<char*>(out)[i] = static_cast<char>(static_cast<const char*>(in)[i] ^ 0x5A);
  }
  static orc_code encrypt(void* context, const void* plain, size_t plain_size, void* wrapped,
                          size_t* wrapped_size, char key_id[257], char*) {
    ++static_cast<Vault*>(context)->wrapped;
    if (*wrapped_size < plain_size) return ORC_ETOOLARGE;
    turn(plain, plain_size, wrapped);
    *wrapped_size = plain_size;
    std::strcpy(key_id, "vault-1");
    return ORC_OK;
  }
  static orc_code decrypt(void* context, const void* wrapped, size_t wrapped_size, const char* key_id,
                          void* plain, size_t* plain_size, char why[256]) {
    auto* vault = static_cast<Vault*>(context);
    ++vault->opened;
    if (vault->away || std::strcmp(key_id, "vault-1") != 0) {
      std::strcpy(why, "the vault is sealed");
      return ORC_EUNAVAILABLE;
    }
    turn(wrapped, wrapped_size, plain);
    *plain_size = wrapped_size;
    return ORC_OK;
  }
};
}  // namespace

TEST_CASE(
    "a key of the host seals Secrets: a plug-in in C wraps it, unwraps it, and is believed when it cannot") {
  const TempDir folder;
  const std::string config = folder / "enc.yaml";
  FILE* file = fopen(config.c_str(), "w");
  fputs(
      "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: "
      "[secrets]\n"
      "  providers:\n  - kms: {apiVersion: v2, name: vault}\n",
      file);
  fclose(file);
  const std::string options = "{\"encryption_config\":\"" + config + "\"}";
  const EngineHandle engine = new_engine();
  const StoreHandle store = memory_store(engine);
  Vault vault;
  orc_kms_plugin plugin{sizeof(orc_kms_plugin), &vault, Vault::encrypt, Vault::decrypt};
  const auto start = [&](ServerHandle& server, orc_error** error) {
    orc_api_server* made = nullptr;
    REQUIRE(orc_api_server_new(engine.get(), store.get(), options.c_str(), &made, nullptr) == ORC_OK);
    server.reset(made);
    CHECK(orc_api_server_add_kms(made, "vault", &plugin, nullptr) == ORC_OK);
    CHECK(orc_api_server_add_kms(made, "vault", &plugin, nullptr) == ORC_EALREADYEXISTS);
    return orc_api_server_start(made, error);
  };
  const auto secret = [&](const ServerHandle& server, const char* verb, const char* body) {
    orc_client* connected = nullptr;
    REQUIRE(orc_api_server_client(server.get(), &connected, nullptr) == ORC_OK);
    const ClientHandle client(connected);
    orc_request request = config_maps(verb, body == nullptr ? "s" : nullptr, body);
    request.resource = "secrets";
    return send(client, request);
  };
  {
    ServerHandle server;
    REQUIRE(start(server, nullptr) == ORC_OK);
    CHECK(orc_api_server_add_kms(server.get(), "late", &plugin, nullptr) == ORC_EINVAL);
    CHECK(
        secret(
            server, "create",
            R"({"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"password":"hunter22"}})")
            .code == ORC_OK);
    CHECK(vault.wrapped == 1);
  }
  orc_bytes stored{};
  const std::string key = "/orchestra/objects/core/secrets/default/s";
  REQUIRE(orc_store_get(store.get(), key.data(), key.size(), kPatience, &stored, nullptr, nullptr) == ORC_OK);
  CHECK_FALSE(contains(taken(stored), "aHVudGVyMjI="));
  {
    ServerHandle again;
    REQUIRE(start(again, nullptr) == ORC_OK);
    CHECK(contains(secret(again, "get", nullptr).body, "aHVudGVyMjI="));
    CHECK(vault.opened >= 1);
  }
  vault.away = true;
  ServerHandle last;
  REQUIRE(start(last, nullptr) == ORC_OK);
  const Answer answer = secret(last, "get", nullptr);
  CHECK(answer.http == 500);
  CHECK(contains(answer.message, "the vault is sealed"));
  plugin.decrypt = nullptr;
  CHECK(orc_api_server_add_kms(last.get(), "other", &plugin, nullptr) == ORC_EINVAL);
}

TEST_CASE("options that do not exist, or are of another type, are named in the answer") {
  const EngineHandle engine = new_engine();
  const auto refusal = [&](const char* options) {
    orc_cluster* cluster = nullptr;
    orc_error* raw = nullptr;
    CHECK(orc_cluster_new(engine.get(), options, &cluster, &raw) == ORC_EINVAL);
    CHECK(cluster == nullptr);
    const ErrorHandle error(raw);
    return std::string(orc_error_message(raw));
  };
  CHECK(contains(refusal(R"({"datadir": "/tmp/x"})"), "\"datadir\" does not exist; there are data_dir"));
  CHECK(contains(refusal(R"({"preload": "images"})"), "\"preload\" must be an array of strings"));
  CHECK(contains(refusal(R"({"node": "no"})"), "\"node\" must be a boolean"));
  CHECK(contains(refusal("[]"), "must be a JSON object"));
  CHECK_FALSE(refusal("{").empty());
}

TEST_CASE(
    "missing arguments, wrong sizes and calls before their time are ORC_EINVAL, with and without error") {
  const EngineHandle engine = new_engine();
  orc_error* raw = nullptr;
  CHECK(orc_engine_new(nullptr, nullptr, &raw) == ORC_EINVAL);
  const ErrorHandle error(raw);
  CHECK(contains(orc_error_message(raw), "out"));
  orc_engine_options options{};  // size 0
  orc_engine* other = nullptr;
  CHECK(orc_engine_new(&options, &other, nullptr) == ORC_EINVAL);
  CHECK(orc_store_memory(nullptr, nullptr, nullptr) == ORC_EINVAL);
  CHECK(orc_store_open(engine.get(), "", nullptr, nullptr) == ORC_EINVAL);
  CHECK(orc_store_put(nullptr, "k", 1, "v", 1, -1, 0, nullptr, nullptr) == ORC_EINVAL);
  CHECK(orc_store_get(nullptr, "k", 1, 0, nullptr, nullptr, nullptr) == ORC_EINVAL);
  CHECK(orc_store_watch_next(nullptr, 0, nullptr, nullptr, nullptr) == ORC_EINVAL);
  CHECK(orc_cluster_start(nullptr, nullptr) == ORC_EINVAL);
  CHECK(orc_cluster_down(nullptr, 0, nullptr) == ORC_EINVAL);
  CHECK(orc_node_start(nullptr, nullptr) == ORC_EINVAL);
  CHECK(orc_watch_next(nullptr, 0, nullptr, nullptr) == ORC_EINVAL);
  CHECK(orc_watch_fd(nullptr) == -1);
  CHECK(orc_error_code(nullptr) == ORC_OK);
  orc_cluster_stop(nullptr);
  orc_cluster_free(nullptr);
  orc_store_free(nullptr);
  orc_error_free(nullptr);
  orc_bytes_free(nullptr);

  const StoreHandle store = memory_store(engine);
  orc_api_server* server = nullptr;
  REQUIRE(orc_api_server_new(engine.get(), store.get(), "", &server, nullptr) == ORC_OK);
  const ServerHandle owned(server);
  orc_client* client = nullptr;
  CHECK(orc_api_server_client(server, &client, nullptr) == ORC_EINVAL);  // not started
  CHECK(client == nullptr);

  const Served api;
  orc_request request = config_maps("get", "x");
  request.size = sizeof request - 1;
  CHECK(send(api.client, request).code == ORC_EINVAL);
  request = config_maps(nullptr, "x");  // no verb
  CHECK(send(api.client, request).code == ORC_EINVAL);
  request = config_maps("get", "x");
  CHECK(orc_client_request(api.client.get(), &request, nullptr, nullptr) == ORC_EINVAL);
}

namespace {
using DnsHandle = Owned<orc_dns, orc_dns_free>;
using LbHandle = Owned<orc_lb, orc_lb_free>;

/// A callback that waits inside until it is let go.
struct HeldAnswer {
  std::mutex mutex;
  std::condition_variable changed;
  bool entered = false, may_leave = false, left = false;

  static int answer(void* user, const char*, const char*, orc_dns_reply*) {
    auto& self = *static_cast<HeldAnswer*>(user);
    std::unique_lock lock(self.mutex);
    self.entered = true;
    self.changed.notify_all();
    self.changed.wait(lock, [&] { return self.may_leave; });
    self.left = true;
    return 3;
  }
};
}  // namespace

TEST_CASE(
    "a question may be with its callback when orc_dns_free returns, and not when orc_engine_free does") {
  HeldAnswer held;
  EngineHandle engine = new_engine();
  orc_dns* dns = nullptr;
  REQUIRE(orc_dns_new(engine.get(), R"({"listen": ["127.0.0.1:0"]})", &dns, nullptr) == ORC_OK);
  DnsHandle owned(dns);
  REQUIRE(orc_dns_zone_callback(dns, "host.example", &HeldAnswer::answer, &held, nullptr) == ORC_OK);
  orc_bytes address{};
  REQUIRE(orc_dns_address(dns, 0, &address, nullptr) == ORC_OK);
  const std::string text = taken(address);
  const orchestra::Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(text.substr(text.find(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string packet("\0\1\0\0\0\1\0\0\0\0\0\0\1a\4host\7example\0\0\1\0\1", 32);
  REQUIRE(::sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to) >
          0);
  {
    std::unique_lock lock(held.mutex);
    held.changed.wait(lock, [&] { return held.entered; });
  }
  owned.reset();  // does not wait for it
  CHECK_FALSE(held.left);
  std::thread let_go([&] {
    std::lock_guard lock(held.mutex);
    held.may_leave = true;
    held.changed.notify_all();
  });
  engine.reset();
  CHECK(held.left);
  let_go.join();
}

TEST_CASE("Services that several threads apply end as the last revision has them") {
  constexpr int kThreads = 4, kTimes = 20;
  const EngineHandle engine = new_engine();
  orc_lb* lb = nullptr;
  REQUIRE(orc_lb_new(engine.get(), R"({"mode": "userspace", "loopback_ranges": ["127.0.0.0/8"]})", &lb,
                     nullptr) == ORC_OK);
  const LbHandle owned(lb);
  const std::string target = "127.0.0.1:" + std::to_string(orchestra::test::free_port());
  std::mutex mutex;
  std::map<std::int64_t, std::string> endpoints;  // by revision
  const auto apply = [&](int number) {
    const std::string port = std::to_string(10000 + number);
    const std::string objects =
        R"([{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","uid":"u"},"spec":{
        "clusterIP":"127.0.0.1","ports":[{"name":"http","port":)" +
        target.substr(target.find(':') + 1) +
        R"(,"protocol":"TCP"}]}},{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
        "metadata":{"name":"web-1","namespace":"shop","labels":{"kubernetes.io/service-name":"web"}},"ports":[{"name":"http",
        "protocol":"TCP","port":)" +
        port + R"(}],"endpoints":[{"addresses":["127.0.0.2"]}]}])";
    orc_bytes result{};
    REQUIRE(orc_lb_apply(lb, objects.data(), objects.size(), kPatience, &result, nullptr) == ORC_OK);
    const auto said = orchestra::parse_json(taken(result)).value();
    std::lock_guard lock(mutex);
    endpoints[orchestra::int_at(said, "/revision")] = "127.0.0.2:" + port;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < kTimes; ++n) apply(i * kTimes + n);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(endpoints.size() == kThreads * kTimes);
  CHECK(endpoints.rbegin()->first == kThreads * kTimes);
  orc_bytes explained{};
  REQUIRE(orc_lb_explain(lb, (target + "/tcp").c_str(), &explained, nullptr) == ORC_OK);
  CHECK(contains(taken(explained), endpoints.rbegin()->second.c_str()));
  CHECK(orc_lb_teardown(lb, kPatience, nullptr) == ORC_OK);
}
