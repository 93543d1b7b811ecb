// Objects of stored versions: shared while somebody may want them, and not longer.
#include "apiserver/object_cache.hpp"

#include "api/object_tree.hpp"
#include "apiserver/stored_object.hpp"
#include "base/json.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "sim/sim_env.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;
using apiserver::encode_stored;
using Cache = apiserver::ObjectCache;

namespace {
Value stored(const std::string& name) {
  return Value(encode_stored(parse_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":")" + name +
                                        R"(","uid":"u-)" + name + R"("}})")
                                 .value(),
                             {}));
}
}  // namespace

TEST_CASE("a version that somebody holds is found for as long, others are forgotten after a moment") {
  sim::SimClock clock;
  Cache cache(clock);
  const Value held_value = stored("held"), other_value = stored("other");
  const Object held = cache.get(held_value, 1).value();
  CHECK(cache.get(other_value, 2).value().name() == "other");
  CHECK(cache.find(other_value, 2));
  CHECK(cache.get(held_value, 1).value().data() == held.data());
  for (int i = 0; i < 3; ++i) {
    clock.advance(2s);
    CHECK_FALSE(cache.find(stored("absent"), 9));
  }
  CHECK_FALSE(cache.find(other_value, 2));
  CHECK(cache.get(held_value, 1).value().data() == held.data());
  CHECK_FALSE(cache.find(held_value, 2));
}

TEST_CASE("what is known of objects that nobody holds any more stays bounded") {
  sim::SimClock clock;
  Cache cache(clock);
  for (int round = 0; round < 50; ++round) {
    std::vector<Object> held;
    for (int i = 0; i < 100; ++i)
      held.push_back(cache.get(stored("pod-" + std::to_string(i)), round * 100 + i).value());
    for (int i = 0; i < 3; ++i) {
      clock.advance(2s);
      CHECK_FALSE(cache.find(stored("absent"), 1 << 20));
    }
  }
  CHECK(cache.known_count() <= 2 * Cache::kSweepMin + 200);
}

TEST_CASE("the object of a tree that was written is the one that its text would give") {
  sim::SimClock clock;
  for (
      const char* text :
      {R"({"kind":"Pod","metadata":{"name":"web","resourceVersion":"3","labels":{"a":"b"},"uid":"u1","managedFields":[{"manager":"m"}]},"spec":{"n":[1,-2,true,null,{"x":"y"}]},"apiVersion":"v1"})",
       R"({"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"half":0.5,"large":18446744073709551615}})",
       R"({"apiVersion":"v1","kind":"Pod","status":{"phase":"Running"}})"}) {
    CAPTURE(text);
    const json::value written = parse_json(text).value();
    const Value value(encode_stored(written, {}));
    const Object made = Cache(clock).get(value, 42, written).value();
    const Object parsed = Cache(clock).get(value, 42).value();
    CHECK(made.json() == parsed.json());
    CHECK(to_json(tree(made)) == parsed.json());
    CHECK(tree(made) == tree(parsed));
    CHECK(made.resource_version() == "42");
  }
}

TEST_CASE("a double that is whole is an integer to who reads the object, as its text says") {
  sim::SimClock clock;
  json::value written = json::object{{"apiVersion", "v1"},
                                     {"kind", "Pod"},
                                     {"metadata", json::object{{"name", "web"}}},
                                     {"spec", json::object{{"replicas", 3.0}, {"size", std::uint64_t{7}}}}};
  const Value value(encode_stored(written, {}));
  const Object made = Cache(clock).get(value, 1, written).value();
  CHECK(made.get_int("/spec/replicas") == 3);
  CHECK(made.get_int("/spec/size") == 7);
}

TEST_CASE("the answers of writes in this process are the objects that are read afterwards") {
  Engine engine;
  auto store = MemoryStore::create(engine);
  ApiServer server(engine, store, {});
  REQUIRE(server.start());
  const Client client = server.client();
  const auto same_as_read = [&](const Result<Object>& answered) {
    REQUIRE(answered);
    CHECK(to_json(tree(*answered)) == answered->json());
    const auto read = client.get("v1", "pods", "web", "default").wait(10s);
    REQUIRE(read);
    CHECK(read->json() == answered->json());
    // And what a reader gets who knows nothing of the tree.
    CHECK(Object::from_json(answered->json())->json() == answered->json());
  };
  const Object pod = Object::from_json(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"web",
      "namespace":"default"},"spec":{"containers":[{"name":"main","image":"web"}]}})")
                         .value();
  same_as_read(client.create(pod).wait(10s));
  WriteOptions status;
  status.subresource = "status";
  same_as_read(client
                   .patch("v1", "pods", "web", "default", PatchType::merge,
                          R"({"status":{"phase":"Running","unheard":1},"spec":{"hostNetwork":true}})", status)
                   .wait(10s));
  const Object running = client.get("v1", "pods", "web", "default").wait(10s).value();
  CHECK(running.get("/status/phase") == "Running");
  CHECK_FALSE(running.get("/status/unheard"));
  CHECK_FALSE(running.get("/spec/hostNetwork"));
  same_as_read(client
                   .patch("v1", "pods", "web", "default", PatchType::merge,
                          R"({"metadata":{"labels":{"a":"b"},"unheard":1}})", {})
                   .wait(10s));
  const Object labelled = client.get("v1", "pods", "web", "default").wait(10s).value();
  CHECK(labelled.labels().at("a") == "b");
  CHECK_FALSE(labelled.get("/metadata/unheard"));
  CHECK(labelled.get("/status/phase") == "Running");
  server.stop();
  store->stop();
}
