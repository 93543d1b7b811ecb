// The end of a server lets go of its store: whoever ends a server and drops the store finds its folder free.
#include <future>

#include "orchestra/api_server.hpp"
#include "orchestra/raft_store.hpp"
#include "tests/apiserver/held_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
Pending<Object> make_config_map(const Client& client, const std::string& name) {
  return client.create(
      Object::from_json(
          R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"default","name":")" + name +
          "\"}}")
          .value());
}
}  // namespace

TEST_CASE("the end of a server waits for the calls that still hold its store") {
  Engine engine;
  auto store = std::make_shared<orchestra::test::HeldStore>(engine);
  auto server = std::make_unique<ApiServer>(engine, store);
  REQUIRE(server->start());
  store->hold();
  auto made = [&] { return make_config_map(server->client(), "a"); }();
  REQUIRE(store->wait_held(1));
  auto ended = std::async(std::launch::async, [&] { server.reset(); });
  CHECK(ended.wait_for(200ms) == std::future_status::timeout);
  store->release();
  ended.get();
  CHECK(made.wait(30s));
  CHECK(store.use_count() == 1);
  store->stop();
}

TEST_CASE("a server that ends does not wait for the host's own clients, which go on") {
  Engine engine;
  auto store = std::make_shared<orchestra::test::HeldStore>(engine);
  std::optional<Client> client;
  {
    ApiServer server(engine, store);
    REQUIRE(server.start());
    client = server.client();
  }
  CHECK(make_config_map(*client, "a").wait(30s));
  client.reset();
  store->stop();
}

TEST_CASE("the folder of a store is free once server and store are gone, whatever was under way") {
  orchestra::test::TempDir folder;
  for (int round = 0; round < 40; ++round) {
    CAPTURE(round);
    Engine engine;
    RaftStoreOptions options;
    options.data_dir = folder / "s";
    auto store = RaftStore::open(engine, options);
    REQUIRE_MESSAGE(store.has_value(), (store ? "" : store.error().to_string()));
    ApiServer server(engine, std::move(*store));  // its only owner
    REQUIRE(server.start());
    const std::string name = "m" + std::to_string(round);
    (void)make_config_map(server.client(), name).wait(30s);
    for (int i = 0; i < 8; ++i) (void)make_config_map(server.client(), name + "-" + std::to_string(i));
  }
}
