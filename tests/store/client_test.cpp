// StoreClient and StoreServer: what happens when servers come and go; the conformance suite runs on them too.
#include "orchestra/store_client.hpp"
#include "store/transport/client_wire.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

struct Served {
  orchestra::test::TempDir folder;
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine, {.limits = no_compaction()});
  std::string address = free_addresses(engine, 1)[0];
  std::unique_ptr<StoreServer> server;
  ~Served() {
    server.reset();
    store->stop();
  }
  void serve() {
    server = std::make_unique<StoreServer>(engine, store, StoreServer::Options{.listen = address});
    REQUIRE(eventually([&] { return server->start().has_value(); }));
  }
  std::shared_ptr<StateStore> client(std::vector<std::string> endpoints = {}, Duration deadline = 20s) {
    if (endpoints.empty()) endpoints = {address};
    auto made = StoreClient::connect(engine, {.endpoints = std::move(endpoints), .call_deadline = deadline});
    REQUIRE(made.has_value());
    return *made;
  }
};

TEST_CASE("a watch goes on without a gap when its server ends and another one comes") {
  Served served;
  served.serve();
  auto client = served.client();
  put(*client, "k", "0");
  auto watch = client->watch({.range = KeyPrefix(""), .after = 1});
  REQUIRE(watch.has_value());
  std::vector<std::string> seen;
  const auto read_until = [&](std::size_t count) {
    return eventually([&] {
      while (auto batch = watch->next(10ms)) {
        for (const WatchEvent& event : batch->events) seen.emplace_back(event.kv.value.bytes());
      }
      return seen.size() >= count;
    });
  };
  REQUIRE(read_until(1));
  served.server.reset();
  for (int i = 1; i <= 50; ++i) put(*served.store, "k", std::to_string(i));
  served.serve();
  REQUIRE(read_until(51));
  for (std::size_t i = 0; i < seen.size(); ++i) CHECK(seen[i] == std::to_string(i));
  client->stop();
}

TEST_CASE("without a server a write is certainly not applied, and a read waits for one until its deadline") {
  Served served;
  auto client = served.client({}, 300ms);
  auto written = client->put("k", "v").wait(kSoon);
  REQUIRE_FALSE(written.has_value());
  CHECK(written.error().is(Error::unavailable));
  auto patient = served.client({"127.0.0.1:1", served.address});
  auto reading = patient->get("k");
  served.serve();
  CHECK(reading.wait(kSoon).has_value());
  client->stop();
  patient->stop();
}

TEST_CASE("a listener for the network must be asked for") {
  Engine engine;
  auto store = MemoryStore::create(engine);
  StoreServer server(engine, store, {.listen = "0.0.0.0:0"});
  auto refused = server.start();
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::denied));
  store->stop();
}

TEST_CASE("ranges larger than one answer arrive whole, from one state") {
  Served served;
  served.serve();
  for (int i = 0; i < 25'000; ++i)
    (void)served.store->put("k" + std::to_string(100'000 + i), "v").wait(kSoon);
  auto client = served.client();
  auto all = client->range(KeyPrefix("k")).wait(kSoon);
  REQUIRE(all.has_value());
  CHECK(all->items.size() == 25'000);
  CHECK(all->count == 25'000);
  auto some = client->range(KeyPrefix("k"), {.limit = 15'000, .descending = true}).wait(kSoon);
  REQUIRE(some.has_value());
  CHECK(some->items.size() == 15'000);
  CHECK(some->items.back().key == "k110000");
  CHECK(some->more);
  client->stop();
}

TEST_CASE(
    "writes of clients take turns: one with thousands under way does not make another one wait for all of "
    "them") {
  orchestra::test::TempDir folder;
  Engine engine, near;
  RaftStoreOptions options;
  options.data_dir = folder.path();
  auto store = RaftStore::open(engine, options);
  REQUIRE(store.has_value());
  StoreServer server(engine, *store, {.listen = "127.0.0.1:0"});
  REQUIRE(server.start().has_value());
  auto busy = *StoreClient::connect(near, {.endpoints = {server.address()}, .call_deadline = 60s});
  auto other = *StoreClient::connect(near, {.endpoints = {server.address()}, .call_deadline = 60s});
  put(*busy, "first", "x");
  put(*other, "first", "x");
  constexpr int kMany = 40'000;
  std::vector<Pending<WriteResult>> all;
  for (int i = 0; i < kMany; ++i) all.push_back(busy->put("k" + std::to_string(i % 100), "v"));
  const auto mine = other->put("mine", "v").wait(kSoon);
  REQUIRE(mine.has_value());
  CHECK(mine->revision < 3 + kMany - 5000);
  for (auto& each : all) REQUIRE(each.wait(kSoon).has_value());
  CHECK((*store)->revision() == 3 + kMany + 1);
  busy->stop();
  other->stop();
  server.stop();
}

}  // namespace
}  // namespace orchestra::store::test
