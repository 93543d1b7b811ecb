// EtcdStore against a real etcd that is killed, stopped, replaced and locked (spec/store.md section 9). What
// every StateStore promises is in the conformance suite, which runs on it as well.
#include "orchestra/etcd_store.hpp"

#include <thread>

#include "base/http_client.hpp"
#include "net/http/http_server.hpp"
#include "store/etcd/etcd_store.hpp"
#include "tests/store/etcd_server.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

#define NEEDS_ETCD(name) \
  if (!have_etcd()) ORC_SKIP(name, kNoEtcd)

std::shared_ptr<StateStore> open_or_fail(Engine& engine, EtcdStoreOptions options) {
  auto opened = EtcdStore::open(engine, std::move(options));
  REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : opened.error().to_string()));
  return *opened;
}
EtcdStoreOptions at(const EtcdServer& server, std::string prefix = {}) {
  EtcdStoreOptions options;
  options.endpoints = {server.url()};
  options.prefix = std::move(prefix);
  return options;
}
Error refusal(Engine& engine, EtcdStoreOptions options) {
  auto opened = EtcdStore::open(engine, std::move(options));
  REQUIRE_FALSE(opened.has_value());
  return opened.error();
}
bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// An HTTP server that answers every path with one text.
std::shared_ptr<HttpServer> serve(Engine& engine, int status, const std::string& body) {
  return *HttpServer::start(engine, {.listen = "127.0.0.1:0"},
                            [=](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
                              responder->respond(status, {}, body);
                            });
}

TEST_CASE("the conformance suite runs on a real etcd where one is installed") {
  NEEDS_ETCD("conformance on EtcdStore");
  CHECK(implementations().back().name == "EtcdStore");
}

TEST_CASE("a wrong server is told by URL, finding and remedy") {
  Engine engine;
  const auto open = [&](const std::string& url) {
    return refusal(engine, {.endpoints = {url}, .call_deadline = 2s});
  };
  CHECK(open("unix:/nowhere/etcd").is(Error::unavailable));
  CHECK(says(open("unix:/nowhere/etcd").message(), "is it running"));
  auto web = serve(engine, 404, "not here");
  const Error not_etcd = open("http://" + web->address());
  CHECK(not_etcd.is(Error::unsupported));
  CHECK(says(not_etcd.message(), "http://" + web->address() + " answers HTTP but is no etcd"));
  auto old = serve(engine, 200, R"({"etcdserver":"3.3.27","etcdcluster":"3.3.0"})");
  CHECK(says(open("http://" + old->address()).message(), "is etcd 3.3.27; 3.4 or later is needed"));
  auto plain = serve(engine, 400, "Client sent an HTTP request to an HTTPS server.\n");
  CHECK(says(open("http://" + plain->address()).message(), "wants TLS; write https://"));
  CHECK(says(open("https://" + web->address()).message(), "does not speak TLS"));
  CHECK(refusal(engine, {}).is(Error::invalid));
  for (const auto& server : {web, old, plain}) server->stop(0s);
}

TEST_CASE("an etcd without its JSON gateway is told by name") {
  NEEDS_ETCD("etcd without gateway");
  EtcdServer server({"--enable-grpc-gateway=false"});
  Engine engine;
  const Error error = refusal(engine, at(server));
  CHECK(error.is(Error::unsupported));
  CHECK(says(error.message(), "--enable-grpc-gateway"));
}

TEST_CASE("kill -9 of etcd: what was not sent is unavailable, and everything goes on when it is back") {
  NEEDS_ETCD("kill -9 of etcd");
  EtcdServer server;
  Engine engine;
  auto store = open_or_fail(engine, at(server));
  auto watch = store->watch({.range = KeyPrefix("k")});
  put(*store, "k", "before");
  server.kill();
  auto refused = store->put("k", "never").wait(kSoon);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::unavailable));
  CHECK(store->get("k").wait(kSoon).error().is(Error::unavailable));
  CHECK(get(*store, "k", store->revision()) == "before");  // of the mirror
  server.start();
  REQUIRE(eventually([&] { return store->put("k", "after").wait(kSoon).has_value(); }));
  std::string seen;
  while (!says(seen, "after")) {
    auto batch = watch->next(kSoon);
    REQUIRE(batch.has_value());
    for (const WatchEvent& event : batch->events) seen += std::string(event.kv.value.bytes()) + " ";
  }
  CHECK(seen == "before after ");
  store->stop();
}

TEST_CASE("a stopped etcd (SIGSTOP) leaves a write of unknown outcome") {
  NEEDS_ETCD("SIGSTOP of etcd");
  EtcdServer server;
  Engine engine;
  EtcdStoreOptions options = at(server);
  options.call_deadline = 2s;
  auto store = open_or_fail(engine, options);
  put(*store, "k", "1");
  server.pause();
  auto hung = store->put("k", "2").wait(kSoon);
  REQUIRE_FALSE(hung.has_value());
  CHECK(hung.error().is(Error::unknown_outcome));
  auto read = store->get("k").wait(kSoon);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().is(Error::deadline_exceeded));
  server.go_on();
  REQUIRE(eventually([&] { return store->get("k").wait(kSoon).has_value(); }));
  const std::string now = get(*store, "k");
  CHECK((now == "1" || now == "2"));  // etcd drops it if it sees in time that the client is gone
  store->stop();
}

TEST_CASE("writes under kill -9 of etcd: every acknowledged one is there, none is applied twice") {
  NEEDS_ETCD("writes under kill -9 of etcd");
  EtcdServer server;
  Engine engine;
  EtcdStoreOptions options = at(server);
  options.call_deadline = 1s;
  auto store = open_or_fail(engine, options);
  std::atomic<bool> stop{false};
  std::int64_t acknowledged = 0, unknown = 0, refused = 0;
  std::thread writer([&] {
    while (!stop) {
      auto result = store->put("counter", "x").wait(kSoon);
      if (result) {
        ++acknowledged;
      } else if (result.error().is(Error::unknown_outcome)) {
        ++unknown;
      } else {
        REQUIRE(result.error().is(Error::unavailable));
        ++refused;
        std::this_thread::yield();
      }
    }
  });
  for (int round = 0; round < 3; ++round) {
    const Revision from = store->revision();
    REQUIRE(eventually([&] { return store->revision() > from + 20; }));
    server.kill();
    server.start();
  }
  const Revision from = store->revision();
  REQUIRE(eventually([&] { return store->revision() > from + 20; }));
  stop = true;
  writer.join();
  auto now = store->get("counter").wait(kSoon);
  REQUIRE(now.has_value());
  CHECK(now->kv->version >= acknowledged);
  CHECK(now->kv->version <= acknowledged + unknown);
  CHECK(refused > 0);
  store->stop();
}

TEST_CASE("an event with a value of 1 MiB arrives whole, and in the order of its neighbours") {
  NEEDS_ETCD("1 MiB event");
  EtcdServer server;
  Engine engine;
  auto store = open_or_fail(engine, at(server));
  auto watch = store->watch({.range = KeyPrefix("")});
  const std::string big(1 << 20, 'b');
  put(*store, "a", "1");
  put(*store, "b", big);
  put(*store, "b", big + "2");
  put(*store, "c", "3");
  std::vector<std::size_t> sizes;
  while (sizes.size() < 4) {
    auto batch = watch->next(kSoon);
    REQUIRE(batch.has_value());
    for (const WatchEvent& event : batch->events) sizes.push_back(event.kv.value.size());
  }
  CHECK(sizes == std::vector<std::size_t>{1, big.size(), big.size() + 1, 1});
  store->stop();
}

TEST_CASE("many changes behind: a feed that comes late reads whole revisions in order") {
  NEEDS_ETCD("late feed");
  EtcdServer server;
  Engine engine;
  auto writer = open_or_fail(engine, at(server));
  for (int i = 0; i < 20; ++i) {
    Txn txn;
    for (int k = 0; k < 100; ++k)
      txn.then.push_back(TxnOp{.range = Key("k" + std::to_string(k)), .value = std::string(5000, 'x')});
    REQUIRE(writer->txn(txn).wait(kSoon).has_value());
  }
  const Revision end = writer->revision();
  writer->stop();
  auto late = open_or_fail(engine, at(server));
  CHECK(late->revision() == end);
  auto watch = late->watch({.range = KeyPrefix("k"), .after = 1, .credit = Bytes{1}});
  for (Revision at = 2; at <= end; ++at) {
    auto batch = watch->next(kSoon);
    REQUIRE(batch.has_value());
    CHECK(batch->events.size() == 100);
    CHECK(batch->revision == at);
  }
  late->stop();
}

TEST_CASE("without a WebSocket the mirror follows by a chunked stream") {
  NEEDS_ETCD("chunked stream");
  struct NoSocket : HttpClient {
    explicit NoSocket(Engine& engine) : real(make_http_client(engine)) {}
    Pending<HttpResponse> send(HttpRequest request) override { return real->send(std::move(request)); }
    std::shared_ptr<HttpClient> real;
  };
  EtcdServer server;
  Engine engine;
  auto opened = etcd::open_etcd_store(engine, std::make_shared<NoSocket>(engine), at(server));
  REQUIRE(opened.has_value());
  auto store = *opened;
  auto watch = store->watch({.range = KeyPrefix("")});
  for (int i = 0; i < 20; ++i) put(*store, "k", std::to_string(i));
  put(*store, "big", std::string(1 << 20, 'x'));
  std::size_t seen = 0;
  while (seen < 21) {
    auto batch = watch->next(kSoon);
    REQUIRE(batch.has_value());
    seen += batch->events.size();
  }
  std::string notes;
  for (const std::string& note : store->status().notes) notes += note + "\n";
  CHECK(says(notes, "chunked stream"));
  server.kill();
  server.start();
  REQUIRE(eventually([&] { return store->put("k", "again").wait(kSoon).has_value(); }));
  CHECK(get(*store, "k", store->revision()) == "again");
  store->stop();
}

TEST_CASE("a mirror of one prefix: lists stay linearizable while others write elsewhere") {
  NEEDS_ETCD("mirror of a prefix");
  EtcdServer server;
  server.put("/app/a", "1");
  server.put("/other", "x");
  Engine engine;
  auto store = open_or_fail(engine, at(server, "/app/"));
  CHECK(list(*store->range(KeyPrefix("/app/")).wait(kSoon)) == "/app/a=1");
  for (int i = 0; i < 5; ++i) {
    server.put("/app/b", std::to_string(i));
    server.put("/other", std::to_string(i));  // moves the revision on, without an event for the mirror
    auto result = store->range(KeyPrefix("/app/")).wait(kSoon);
    REQUIRE(result.has_value());
    CHECK(list(*result) == "/app/a=1 /app/b=" + std::to_string(i));
  }
  REQUIRE(store->remove(Key("/app/b")).wait(kSoon).has_value());
  server.put("/other", "y");
  auto snapshot = store->snapshot().wait(kSoon);
  REQUIRE_MESSAGE(snapshot.has_value(), (snapshot ? "" : snapshot.error().to_string()));
  CHECK(snapshot->range(KeyPrefix("/app/")).size() == 1);
  // What is not mirrored is read through; a watch there is refused by name.
  CHECK(get(*store, "/other") == "y");
  CHECK(list(*store->range(KeyPrefix("/o")).wait(kSoon)) == "/other=y");
  put(*store, "/other", "z");
  CHECK(store->range(KeyPrefix("")).wait(kSoon)->count == 2);
  auto outside = store->watch({.range = KeyPrefix("/o")});
  REQUIRE_FALSE(outside.has_value());
  CHECK(outside.error().is(Error::unsupported));
  store->stop();
}

TEST_CASE("data of a Kubernetes cluster under the prefix must be adopted") {
  NEEDS_ETCD("adopt");
  EtcdServer server;
  server.put("/registry/pods/a", std::string("k8s\0\n\x0c", 6));
  Engine engine;
  const Error error = refusal(engine, at(server, "/registry/"));
  CHECK(error.is(Error::conflict));
  CHECK(says(error.message(), "--etcd-adopt"));
  EtcdStoreOptions adopting = at(server, "/registry/");
  adopting.adopt = true;
  open_or_fail(engine, adopting)->stop();
}

TEST_CASE("an emptied etcd in the old one's place ends all watches with compacted and raises an alarm") {
  NEEDS_ETCD("emptied etcd");
  EtcdServer server;
  Engine engine;
  auto store = open_or_fail(engine, at(server));
  for (int i = 0; i < 10; ++i) put(*store, "k", std::to_string(i));
  auto watch = store->watch({.range = Key("k")});
  const std::string id = store->cluster_id();
  server.wipe();
  REQUIRE(eventually([&] {
    (void)store->get("k").wait(kSoon);
    return !store->status().alarms.empty();
  }));
  while (watch->next(kSoon)) {
  }
  REQUIRE(watch->error().has_value());
  CHECK(watch->error()->is(Error::compacted));
  REQUIRE(eventually([&] { return store->put("new", "1").wait(kSoon).has_value(); }));
  REQUIRE(eventually([&] { return store->revision() < 10; }));
  CHECK(store->range(KeyPrefix("")).wait(kSoon)->count == 1);
  CHECK(store->cluster_id() != id);
  store->stop();
}

TEST_CASE("user and password: a token that etcd forgot is renewed") {
  NEEDS_ETCD("user and password");
  EtcdServer server;
  for (const auto& [path, body] : {std::pair("/v3/auth/user/add", R"({"name":"root","password":"secret"})"),
                                   {"/v3/auth/role/add", R"({"name":"root"})"},
                                   {"/v3/auth/user/grant", R"({"user":"root","role":"root"})"},
                                   {"/v3/auth/enable", "{}"}}) {
    REQUIRE(says(server.post(path, body), "header"));
  }
  Engine engine;
  CHECK(refusal(engine, at(server)).is(Error::unauthenticated));
  EtcdStoreOptions options = at(server);
  options.username = "root";
  options.password = "wrong";
  CHECK(refusal(engine, options).is(Error::unauthenticated));
  options.password = "secret";
  auto store = open_or_fail(engine, options);
  put(*store, "k", "1");
  server.kill();
  server.start();  // simple tokens live in memory
  REQUIRE(eventually([&] { return store->put("k", "2").wait(kSoon).has_value(); }));
  CHECK(get(*store, "k", store->revision()) == "2");
  store->stop();
}

TEST_CASE("a dead endpoint in the list is passed over, and status names it") {
  NEEDS_ETCD("dead endpoint");
  EtcdServer server;
  Engine engine;
  EtcdStoreOptions options = at(server);
  options.endpoints = {"unix:/nowhere/etcd", server.url()};
  auto store = open_or_fail(engine, options);
  put(*store, "k", "1");
  CHECK(get(*store, "k") == "1");
  std::string notes;
  for (const std::string& note : store->status().notes) notes += note + "\n";
  CHECK(says(notes, "endpoint unix:/nowhere/etcd is down"));
  CHECK(says(notes, "endpoint " + server.url() + " is up"));
  store->stop();
}

TEST_CASE("of several clients one compacts, at the revision of one round ago") {
  NEEDS_ETCD("compaction by compare-and-put");
  EtcdServer server;
  Engine engine;
  EtcdStoreOptions options = at(server);
  options.compact_age = 50ms;
  auto one = open_or_fail(engine, options);
  auto two = open_or_fail(engine, options);
  for (int i = 0; i < 20; ++i) put(*one, "k", std::to_string(i));
  const auto compacted = [](StateStore& store) {
    for (const std::string& note : store.status().notes) {
      if (note.find("compacted etcd") != std::string::npos) return true;
    }
    return false;
  };
  REQUIRE(eventually([&] { return compacted(*one) || compacted(*two); }));
  REQUIRE(eventually(
      [&] { return says(server.post("/v3/kv/range", R"({"key":"aw==","revision":"2"})"), "compacted"); }));
  CHECK(get(*one, "k") == "19");
  one->stop();
  two->stop();
}

TEST_CASE("a saved snapshot of an etcd opens as a RaftStore with the same revisions") {
  NEEDS_ETCD("snapshot of etcd");
  EtcdServer server;
  Engine engine;
  auto store = open_or_fail(engine, at(server));
  for (int i = 0; i < 30; ++i) put(*store, "k" + std::to_string(i % 7), std::to_string(i));
  std::string bytes;
  auto saved = store
                   ->save_snapshot([&](std::string_view more) -> Result<void> {
                     bytes += more;
                     return {};
                   })
                   .wait(kSoon);
  REQUIRE_MESSAGE(saved.has_value(), (saved ? "" : saved.error().to_string()));
  MvccState state;
  std::size_t at = 0;
  auto read = read_snapshot(
      [&](std::size_t size) -> Result<std::string> {
        std::string part = bytes.substr(at, size);
        at += part.size();
        return part;
      },
      &state);
  REQUIRE_MESSAGE(read.has_value(), (read ? "" : read.error().to_string()));
  CHECK(state.revision() == store->revision());
  CHECK(state.tree().size() == 7);
  CHECK(state.tree().find("k1")->version == 5);
  store->stop();
}

}  // namespace
}  // namespace orchestra::store::test
