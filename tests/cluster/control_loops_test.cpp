// Controllers and scheduler run where the election says, and nowhere else.
#include "cluster/control_loops.hpp"

#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

TEST_CASE("of two control loops over one store one runs, and the other takes over when it stops") {
  Engine engine;
  auto store = MemoryStore::create(engine);
  ApiServer server(engine, store, {});
  REQUIRE(server.start());
  const Client client = server.client();
  const auto make = [&](const std::string& name) {
    cluster::ControlLoopsOptions options;
    options.elect = true;
    options.identity = name;
    options.ttl = 2s;
    return std::make_shared<cluster::ControlLoops>(engine, client, store, options);
  };
  auto first = make("a");
  REQUIRE(first->start());
  REQUIRE(first->wait_running(true, 60s));
  auto second = make("b");
  REQUIRE(second->start());
  CHECK_FALSE(second->wait_running(true, 300ms));

  // What the first decides is done, under its token.
  const auto settings = Object::from_yaml(
      "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: rc, namespace: default}\nspec:\n  "
      "replicas: 2\n"
      "  selector: {a: b}\n  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, "
      "image: i}]}\n");
  REQUIRE(client.create(*settings).wait(60s));
  const auto pods = [&] { return client.list("v1", "pods").wait(60s).value().items.size(); };
  auto watch = client.watch("v1", "pods", {});
  REQUIRE(watch);
  for (int i = 0; i < 300 && pods() != 2; ++i) (void)watch->next(200ms);
  CHECK(pods() == 2);

  first->stop();
  CHECK_FALSE(first->running());
  REQUIRE(second->wait_running(true, 60s));
  REQUIRE(client
              .patch("v1", "replicationcontrollers", "rc", "default", PatchType::merge,
                     R"({"spec":{"replicas":4}})")
              .wait(60s));
  for (int i = 0; i < 300 && pods() != 4; ++i) (void)watch->next(200ms);
  CHECK(pods() == 4);
  second->stop();
  server.stop();
}

TEST_CASE("a deposed leader's write fails in its transaction") {
  Engine engine;
  auto store = MemoryStore::create(engine);
  ApiServer server(engine, store, {});
  REQUIRE(server.start());
  LeaderElection election(engine, store, {.key = cluster::kControlKey, .identity = "a", .ttl = 5s});
  REQUIRE(election.start());
  for (int i = 0; i < 200 && !election.leading(); ++i) {
    Promise<void> timer;
    engine.after(50ms, [timer] { timer.set({}); });
    (void)timer.pending().wait(60s);
  }
  REQUIRE(election.leading());
  WriteOptions options;
  options.fence = std::string(cluster::kControlKey) + "=" + std::to_string(*election.token());
  const auto map = [](const char* name) {
    return *Object::from_yaml(
        std::string("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: default, name: ") + name + "}\n");
  };
  CHECK(server.client().create(map("while-leading"), options).wait(60s));
  election.stop();
  CHECK_FALSE(server.client().create(map("deposed"), options).wait(60s));
  server.stop();
}
