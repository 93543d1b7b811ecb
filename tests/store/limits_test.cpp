// Bounds and times: automatic compaction, full state, expired snapshots, lease clocks - on a virtual clock.
#include "base/engine_manual.hpp"
#include "orchestra/raft_store.hpp"
#include "sim/sim_disk.hpp"
#include "sim/sim_env.hpp"
#include "store/lease_clock.hpp"
#include "store/transport/client_wire.hpp"
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

TEST_CASE("a durable store goes on with what was left of a lease when that was last recorded") {
  Virtual world;
  RaftStoreOptions options;
  options.data_dir = "/s";
  options.limits = no_compaction();
  options.log_thread = false;
  world.store = *RaftStore::open(world.engine, options);
  const auto reopen = [&] {
    world.store->stop();
    world.store = *RaftStore::open(world.engine, options);
  };
  auto granted = world.store->lease_grant(10s);
  run_ready(world.engine);
  const LeaseId lease = *granted.wait(0s);
  world.put("k", "v", {.lease = lease});
  world.run_for(4s);  // not recorded yet: all of it again
  reopen();
  CHECK(world.store->lease_time_to_live(lease).wait(0s)->remaining == 10s);
  world.run_for(8s);  // recorded after 5 s
  reopen();
  CHECK(world.store->lease_time_to_live(lease).wait(0s)->remaining.count() <= 6);
  CHECK(world.store->lease_time_to_live(lease).wait(0s)->remaining.count() >= 5);
  world.run_for(4s);
  CHECK(get(*world.store, "k") == "v");
  // Kept alive: the record goes before the answer comes, and all of it counts from here.
  auto kept = world.store->lease_keep_alive(lease);
  run_ready(world.engine);
  REQUIRE(kept.is_ready());
  CHECK(kept.wait(0s).has_value());
  reopen();
  CHECK(world.store->lease_time_to_live(lease).wait(0s)->remaining == 10s);
  world.run_for(9s);
  CHECK(get(*world.store, "k") == "v");
  world.run_for(2s);
  CHECK(get(*world.store, "k") == "(none)");
}

TEST_CASE("a lease whose end is under way, or whose rest is, is told apart until it is set again") {
  LeaseClock clock;
  clock.set(7, 0, 100, 50);
  CHECK(*clock.next() == 50);
  auto due = clock.take_due(50, 10, 9);
  REQUIRE(due.record.size() == 1);
  CHECK(due.record[0].left_ns == 50);
  CHECK(clock.recorded(7));
  CHECK_FALSE(clock.ending(7));
  clock.set(7, 60, 100, 50);
  CHECK_FALSE(clock.recorded(7));
  due = clock.take_due(200, 10, 9);
  REQUIRE(due.expired.size() == 1);
  CHECK(clock.ending(7));
  CHECK(clock.take_due(205, 10, 9).expired.empty());
  CHECK(clock.take_due(210, 10, 9).expired.size() == 1);
}

TEST_CASE("the rests of leases are in snapshots, too") {
  Virtual world;
  RaftStoreOptions options;
  options.data_dir = "/s";
  options.limits = no_compaction();
  options.log_thread = false;
  options.segment_bytes = options.first_segment_bytes = Bytes{64u << 10};
  options.snapshot_log_bytes = Bytes{32u << 10};
  world.store = *RaftStore::open(world.engine, options);
  auto granted = world.store->lease_grant(100s);
  run_ready(world.engine);
  world.run_for(55s);
  for (int i = 0; i < 200; ++i) world.put("k", std::string(1000, 'v'));
  world.store->stop();
  world.store = *RaftStore::open(world.engine, options);
  bool snapshot = false;
  for (const std::string& file : world.disk.files()) snapshot |= file.find("/s/snapshot-") == 0;
  CHECK(snapshot);
  CHECK(world.store->lease_time_to_live(*granted.wait(0s)).wait(0s)->remaining.count() <= 51);
}

TEST_CASE("scrubbing finds rot in complete files and says file and offset, while the store goes on") {
  Virtual world;
  RaftStoreOptions options;
  options.data_dir = "/s";
  options.limits = no_compaction();
  options.log_thread = false;
  options.segment_bytes = options.first_segment_bytes = Bytes{64u << 10};
  options.scrub_every = 60s;
  world.store = *RaftStore::open(world.engine, options);
  for (int i = 0; i < 200; ++i) world.put("k" + std::to_string(i), std::string(1000, 'v'));
  world.run_for(70s);
  CHECK(world.store->status().alarms.empty());
  world.disk.flip("/s/log-00000002.seg", 5000, 0x10);
  world.run_for(70s);
  const auto alarms = world.store->status().alarms;
  // It is said, and mended: a snapshot of what is in memory has taken the file's place.
  CHECK(alarms.empty());
  const auto notes = world.store->status().notes;
  REQUIRE(notes.size() == 1);
  CHECK(notes[0].find("mended: /s/log-00000002.seg is damaged at offset") != std::string::npos);
  world.put("k", "goes on");
  // The same with the snapshot itself.
  for (const std::string& file : world.disk.files()) {
    if (file.find("/snapshot-") != std::string::npos) world.disk.flip(file, 3000, 0x10);
  }
  world.run_for(70s);
  CHECK(world.store->status().alarms.empty());
  CHECK(world.store->status().notes.size() == 2);
  world.store->stop();
  run_ready(world.engine);
  world.store = *RaftStore::open(world.engine, options);
  CHECK(get(*world.store, "k") == "goes on");
  CHECK(get(*world.store, "k199") == std::string(1000, 'v'));
}

TEST_CASE("a write past the bound of what waits for the disk is refused and told when to try again") {
  Virtual world;
  RaftStoreOptions options;
  options.data_dir = "/s";
  options.limits = no_compaction();
  options.log_thread = false;
  world.store = *RaftStore::open(world.engine, options);
  const std::string value(3u << 20, 'v');
  std::vector<Pending<WriteResult>> waiting;
  for (int i = 0; i < 21; ++i) waiting.push_back(world.store->put("k", value));  // 63 of 64 MiB
  auto refused = world.store->put("k", value);
  REQUIRE(refused.is_ready());
  const Error error = refused.wait(0s).error();
  REQUIRE(error.is(Error::overloaded));
  REQUIRE(error.detail<RetryAfter>() != nullptr);
  CHECK(error.detail<RetryAfter>()->after >= 10ms);
  CHECK(error.detail<RetryAfter>()->after <= 2s);
  const Error far = decode_error(encode_error(error));
  REQUIRE(far.detail<RetryAfter>() != nullptr);
  CHECK(far.detail<RetryAfter>()->after == error.detail<RetryAfter>()->after);
  run_ready(world.engine);
  for (auto& each : waiting) CHECK(each.wait(0s).has_value());
  world.put("k", "goes on");
}

TEST_CASE(
    "a snapshot is taken each time the log has grown by its bound, and not with each batch after that") {
  Virtual world;
  RaftStoreOptions options;
  options.data_dir = "/s";
  options.limits = no_compaction();
  options.log_thread = false;
  options.segment_bytes = options.first_segment_bytes = Bytes{1u << 20};
  options.snapshot_log_bytes = Bytes{100'000};
  world.store = *RaftStore::open(world.engine, options);
  std::set<std::string> seen;
  for (int i = 0; i < 500; ++i) {  // half a segment, which stays open all the time
    world.put("k", std::string(1000, 'v'));
    for (const std::string& file : world.disk.files()) {
      if (file.find("/snapshot-") != std::string::npos) seen.insert(file);
    }
  }
  CHECK(seen.size() >= 3);
  CHECK(seen.size() <= 6);
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
