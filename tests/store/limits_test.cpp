// Bounds and times: automatic compaction, full state, expired snapshots, lease clocks - on a virtual clock.
#include "base/engine_manual.hpp"
#include "orchestra/raft_store.hpp"
#include "sim/sim_disk.hpp"
#include "sim/sim_env.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

struct Virtual {
  sim::SimClock clock;
  sim::SimDisk disk{1};
  sim::SimRandom random{1};
  Engine engine{[this] {
    EngineOptions options;
    options.event_threads = 0;
    options.clock = &clock;
    options.random = &random;
    options.disk = &disk;
    return options;
  }()};
  std::shared_ptr<StateStore> store;
  ~Virtual() {
    if (store) store->stop();
    run_ready(engine);
  }
  void run_for(Duration time) {
    constexpr Duration kStep = std::chrono::milliseconds(100);
    for (Duration passed{}; passed < time; passed += kStep) {
      clock.advance(kStep);
      run_ready(engine);
    }
  }
  void put(const std::string& key, std::string value, PutOptions options = {}) {
    auto pending = store->put(key, std::move(value), options);
    run_ready(engine);
    REQUIRE(pending.is_ready());
    REQUIRE(pending.wait(0s).has_value());
  }
};

TEST_CASE("history is kept for its age and then compacted, a little later at most") {
  Virtual world;
  StoreLimits limits;
  limits.history_age = 60s;
  world.store = MemoryStore::create(world.engine, {.limits = limits});
  for (int i = 0; i < 10; ++i) world.put("k", std::to_string(i));
  world.run_for(50s);
  CHECK(world.store->compacted_revision() == 0);
  CHECK(world.store->get("k", {.revision = 3}).wait(0s).has_value());
  world.run_for(30s);
  CHECK(world.store->compacted_revision() == 11);
  CHECK(world.store->get("k", {.revision = 3}).wait(0s).error().is(Error::compacted));
  CHECK(get(*world.store, "k") == "9");
}

TEST_CASE("history that outgrows its bytes loses its older half") {
  Virtual world;
  StoreLimits limits;
  limits.history_age = 1h;
  limits.history_bytes_max = Bytes{200u << 10};
  world.store = MemoryStore::create(world.engine, {.limits = limits});
  for (int i = 0; i < 1000; ++i) {
    world.put("k", std::string(1000, 'v'));
    CHECK(world.store->status().ring_bytes.value < (220u << 10));
  }
  CHECK(world.store->compacted_revision() > 700);
}

TEST_CASE("a full state refuses puts with no_space, and removals make room") {
  Virtual world;
  StoreLimits limits = no_compaction();
  limits.state_bytes_max = Bytes{10'000};
  world.store = MemoryStore::create(world.engine, {.limits = limits});
  for (int i = 0; i < 9; ++i) world.put("k" + std::to_string(i), std::string(1000, 'v'));
  CHECK(world.store->status().alarms.size() == 1);
  world.put("k9", std::string(1000, 'v'));
  CHECK(world.store->put("more", "x").wait(0s).error().is(Error::no_space));
  CHECK(world.store->remove(KeyPrefix("k")).wait(0s).has_value());
  CHECK(world.store->put("more", "x").wait(0s).has_value());
}

TEST_CASE("a snapshot expires after its time, by name") {
  Virtual world;
  world.store = MemoryStore::create(world.engine, {.limits = no_compaction()});
  world.put("k", "v");
  auto view = world.store->snapshot().wait(0s);
  REQUIRE(view.has_value());
  world.clock.advance(299s);
  CHECK(view->try_range(KeyPrefix("")).has_value());
  world.clock.advance(2s);
  CHECK(view->try_range(KeyPrefix("")).error().is(Error::expired));
  CHECK(view->range(KeyPrefix("")).empty());
}

TEST_CASE("leases live by the steady clock: kept alive they stay, wall clock steps do not count") {
  Virtual world;
  world.store = MemoryStore::create(world.engine, {.limits = no_compaction()});
  const LeaseId lease = *world.store->lease_grant(10s).wait(0s);
  world.put("k", "v", {.lease = lease});
  world.clock.step_wall(48h);
  for (int i = 0; i < 5; ++i) {
    world.run_for(9s);
    REQUIRE(world.store->lease_keep_alive(lease).wait(0s).has_value());
  }
  CHECK(world.store->lease_time_to_live(lease).wait(0s)->remaining == 10s);
  world.run_for(9s);
  CHECK(get(*world.store, "k") == "v");
  world.run_for(2s);
  CHECK(get(*world.store, "k") == "(none)");
  CHECK(world.store->lease_keep_alive(lease).wait(0s).error().is(Error::not_found));
}

TEST_CASE("many leases that end together end in order of their deadlines, all of them") {
  Virtual world;
  world.store = MemoryStore::create(world.engine, {.limits = no_compaction()});
  for (int i = 0; i < 2500; ++i) {
    const LeaseId lease = *world.store->lease_grant(std::chrono::seconds(5 + i % 3)).wait(0s);
    world.put("k" + std::to_string(i), "v", {.lease = lease});
  }
  world.run_for(6s);
  CHECK(world.store->range(KeyPrefix("")).wait(0s)->count == 1666 - 833);
  world.run_for(5s);
  CHECK(world.store->range(KeyPrefix("")).wait(0s)->count == 0);
  CHECK(world.store->lease_list().wait(0s)->empty());
}

TEST_CASE("a durable store gives each lease its full time again when it opens, and then ends it") {
  Virtual world;
  RaftStoreOptions options;
  options.data_dir = "/s";
  options.limits = no_compaction();
  options.log_thread = false;
  world.store = *RaftStore::open(world.engine, options);
  auto granted = world.store->lease_grant(10s);
  run_ready(world.engine);
  const LeaseId lease = *granted.wait(0s);
  world.put("k", "v", {.lease = lease});
  world.run_for(8s);
  world.store->stop();
  world.store = *RaftStore::open(world.engine, options);
  world.run_for(8s);
  CHECK(get(*world.store, "k") == "v");
  world.run_for(4s);
  CHECK(get(*world.store, "k") == "(none)");
}

TEST_CASE("watchers are bounded") {
  Virtual world;
  StoreLimits limits = no_compaction();
  limits.watchers_max = 3;
  world.store = MemoryStore::create(world.engine, {.limits = limits});
  std::vector<Watch> open;
  for (int i = 0; i < 3; ++i) open.push_back(std::move(*world.store->watch({.range = Key("k")})));
  CHECK(world.store->watch({.range = Key("k")}).error().is(Error::resource_exhausted));
  open.pop_back();
  CHECK(world.store->watch({.range = Key("k")}).has_value());
}

}  // namespace
}  // namespace orchestra::store::test
