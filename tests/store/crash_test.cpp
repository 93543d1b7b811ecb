// RaftStore on the disk that forgets: a crash at every operation, every byte flipped, failing syncs, a full
// disk. What was acknowledged is there, or the store says by name why not; it never guesses and never dies.
#include <map>

#include "base/engine_manual.hpp"
#include "orchestra/raft_store.hpp"
#include "sim/sim_disk.hpp"
#include "sim/sim_env.hpp"
#include "store/disk/log.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

/// One simulated machine: a store on it may be opened, used and crashed, all on this thread.
struct Machine {
  explicit Machine(std::uint64_t seed) : disk(seed), random(seed) { options.data_dir = "/s"; }
  sim::SimClock clock;
  sim::SimDisk disk;
  sim::SimRandom random;
  RaftStoreOptions options = [] {
    RaftStoreOptions defaults;
    defaults.limits = no_compaction();
    defaults.segment_bytes = Bytes{64u << 10};
    defaults.first_segment_bytes = Bytes{16u << 10};
    defaults.snapshot_log_bytes = Bytes{40u << 10};
    defaults.log_thread = false;
    return defaults;
  }();

  EngineOptions engine_options() {
    EngineOptions made;
    made.event_threads = 0;
    made.clock = &clock;
    made.random = &random;
    made.disk = &disk;
    return made;
  }
};

/// What a client of the store knows: what it wrote, and what was acknowledged.
struct Client {
  std::map<std::string, std::string> acknowledged;
  std::map<std::string, std::vector<std::string>> attempted;
  Revision last_revision = 0;

  void put(Engine& engine, StateStore& store, const std::string& key, const std::string& value) {
    attempted[key].push_back(value);
    auto pending = store.put(key, value);
    run_ready(engine);
    if (!pending.is_ready()) return;
    const auto result = pending.wait(0s);
    if (!result) return;
    acknowledged[key] = value;
    last_revision = result->revision;
  }
  /// Everything acknowledged is there, or a later attempt on the same key; nothing else is.
  std::string check(StateStore& store) const {
    if (store.revision() < last_revision) return "the revision went back";
    for (const auto& [key, value] : acknowledged) {
      const std::string found = get(store, key);
      const auto& tried = attempted.at(key);
      const auto first = std::find(tried.begin(), tried.end(), value);
      if (std::find(first, tried.end(), found) == tried.end()) return "lost " + key;
    }
    const auto all = store.range(KeyPrefix("")).wait(0s);
    for (const KeyValue& kv : all->items) {
      const auto tried = attempted.find(kv.key);
      if (tried == attempted.end()) return "invented " + kv.key;
      if (std::find(tried->second.begin(), tried->second.end(), kv.value.bytes()) == tried->second.end()) {
        return "invented a value of " + kv.key;
      }
    }
    return {};
  }
};

/// Enough for several segments, snapshots and a recycled file.
void run_script(Machine& machine, Client& client) {
  Engine engine(machine.engine_options());
  auto store = RaftStore::open(engine, machine.options);
  if (!store) return;
  for (int i = 0; i < 40; ++i) {
    client.put(engine, **store, "k" + std::to_string(i % 7),
               std::string(static_cast<std::size_t>(i % 5) * 2000, 'v') + std::to_string(i));
    if (machine.disk.crashed()) break;
  }
  (*store)->stop();
  run_ready(engine);
}

std::string reopen_and_check(Machine& machine, const Client& client, bool* refused = nullptr,
                             std::vector<std::string>* notes = nullptr) {
  Engine engine(machine.engine_options());
  auto store = RaftStore::open(engine, machine.options);
  if (!store) {
    if (refused != nullptr) *refused = true;
    return "refused: " + store.error().to_string();
  }
  if (notes != nullptr) *notes = (*store)->status().notes;
  std::string wrong = client.check(**store);
  if (wrong.empty()) {
    auto pending = (*store)->put("after", "x");
    run_ready(engine);
    if (!pending.is_ready() || !pending.wait(0s)) wrong = "cannot write";
  }
  (*store)->stop();
  run_ready(engine);
  return wrong;
}

TEST_CASE("a crash at every disk operation loses nothing acknowledged") {
  std::uint64_t operations = 0;
  {
    Machine machine(1);
    Client client;
    run_script(machine, client);
    operations = machine.disk.operations();
    REQUIRE(client.acknowledged.size() == 7);
    bool snapshot = false;
    for (const std::string& file : machine.disk.files())
      snapshot |= file.find("snapshot-") != std::string::npos;
    REQUIRE(snapshot);  // or the script would not cover them
  }
  REQUIRE(operations > 100);
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    for (std::uint64_t at = 1; at <= operations; ++at) {
      Machine machine(seed * 1'000'003 + at);
      Client client;
      machine.disk.crash_at(at);
      run_script(machine, client);
      machine.disk.restart();
      const std::string wrong = reopen_and_check(machine, client);
      CHECK_MESSAGE(wrong.empty(), "seed ", seed, ", operation ", at, ": ", wrong);
      if (!wrong.empty()) return;
    }
  }
}

TEST_CASE("a second crash during recovery loses nothing either") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Machine machine(seed);
    Client client;
    machine.disk.crash_at(20 + seed * 2);
    run_script(machine, client);
    machine.disk.restart();
    machine.disk.crash_at(1 + seed % 9);
    {
      Engine engine(machine.engine_options());
      auto store = RaftStore::open(engine, machine.options);
      if (store) (*store)->stop();
    }
    machine.disk.restart();
    const std::string wrong = reopen_and_check(machine, client);
    CHECK_MESSAGE(wrong.empty(), "seed ", seed, ": ", wrong);
  }
}

/// A small store, ended as `clean` says; then each byte of each file is flipped in turn.
void flip_every_byte(bool clean) {
  const auto prepare = [&](Machine& machine, Client& client) {
    machine.options.first_segment_bytes = Bytes{4096};
    Engine engine(machine.engine_options());
    auto store = RaftStore::open(engine, machine.options);
    REQUIRE(store.has_value());
    for (int i = 0; i < 6; ++i)
      client.put(engine, **store, "k" + std::to_string(i), "value " + std::to_string(i));
    if (!clean) machine.disk.crash_at(1);  // the record of the clean end is not written
    (*store)->stop();
    run_ready(engine);
    machine.disk.restart();
  };
  std::uint64_t size = 0;
  {
    Machine machine(7);
    Client client;
    prepare(machine, client);
    REQUIRE(machine.disk.files() == std::vector<std::string>{"/s/log-00000001.seg", "/s/newest"});
    size = machine.disk.file_size("/s/log-00000001.seg");
  }
  std::size_t refused_count = 0;
  std::size_t noted = 0;
  for (std::uint64_t offset = 0; offset < size; ++offset) {
    Machine machine(7);
    Client client;
    prepare(machine, client);
    machine.disk.flip("/s/log-00000001.seg", offset, static_cast<unsigned char>(1u << offset % 8));
    bool refused = false;
    std::vector<std::string> notes;
    const std::string wrong = reopen_and_check(machine, client, &refused, &notes);
    if (refused) {
      ++refused_count;
      CHECK_MESSAGE(wrong.find("damaged at offset") != std::string::npos, wrong);
    } else if (!wrong.empty()) {
      // Only the last write may be taken for torn, and then the store says so; after a clean end none may.
      CHECK_MESSAGE((!clean && !notes.empty()), "offset ", offset, ": ", wrong);
      ++noted;
    }
  }
  CHECK(refused_count > 500);
  if (clean) CHECK(noted == 0);
  for (std::uint64_t offset = 0; clean && offset < 35; ++offset) {
    Machine machine(7);
    Client client;
    prepare(machine, client);
    machine.disk.flip("/s/newest", offset, static_cast<unsigned char>(1u << offset % 8));
    CHECK(reopen_and_check(machine, client).empty());  // it says nothing, then
  }
}

TEST_CASE("every flipped byte of a cleanly closed log is refused or harmless") { flip_every_byte(true); }
TEST_CASE("every flipped byte of a log that a crash left is refused, harmless or reported") {
  flip_every_byte(false);
}

TEST_CASE("a spare file that a crash left with the header of the next segment is not used for that segment") {
  Machine machine(9);
  Client client;
  LogIdentity identity;
  {
    Engine engine(machine.engine_options());
    auto store = RaftStore::open(engine, machine.options);
    REQUIRE(store.has_value());
    client.put(engine, **store, "k", "v");
    (*store)->stop();
    run_ready(engine);
    identity = **LogFile::find_identity(machine.disk, machine.options.data_dir);
  }
  const std::string spare = machine.options.data_dir + "/spare.seg";
  {
    auto file = machine.disk.open(spare, Disk::Open::create_or_open);
    REQUIRE(file.has_value());
    REQUIRE((*file)->allocate(machine.options.segment_bytes.value).has_value());
    REQUIRE((*file)->write_at(0, encode_segment_header({identity, 2, 0xDEAD, false})).has_value());
    REQUIRE((*file)->sync().has_value());
  }
  CHECK(reopen_and_check(machine, client).empty());
  if (machine.disk.exists(spare)) {
    const auto left = decode_segment_header(machine.disk.contents(spare));
    CHECK((left.has_value() && !left->has_value()));
  }
}

TEST_CASE("every flipped byte of a snapshot is refused") {
  Machine machine(3);
  Client client;
  run_script(machine, client);
  std::string snapshot;
  for (const std::string& file : machine.disk.files()) {
    if (file.find("snapshot-") != std::string::npos) snapshot = file;
  }
  REQUIRE_FALSE(snapshot.empty());
  const std::uint64_t size = machine.disk.file_size(snapshot);
  for (std::uint64_t offset = 0; offset < size; offset += 1 + offset / 40) {
    machine.disk.flip(snapshot, offset, 0x10);
    Engine engine(machine.engine_options());
    auto store = RaftStore::open(engine, machine.options);
    CHECK_FALSE(store.has_value());
    if (!store)
      CHECK((store.error().is(Error::corrupt) || store.error().is(Error::unsupported) ||
             store.error().is(Error::invalid)));
    machine.disk.flip(snapshot, offset, 0x10);
  }
  CHECK(reopen_and_check(machine, client).empty());
}

TEST_CASE("a lost segment or snapshot file is refused by name") {
  Machine machine(5);
  Client client;
  run_script(machine, client);
  std::vector<std::string> segments;
  for (const std::string& file : machine.disk.files()) {
    if (file.find("/log-") != std::string::npos) segments.push_back(file);
  }
  std::sort(segments.begin(), segments.end());
  for (const std::string& file : machine.disk.files()) {
    if (file.find("spare") != std::string::npos || file.find("newest") != std::string::npos) continue;
    CAPTURE(file);
    REQUIRE(machine.disk.rename(file, file + ".away").has_value());
    bool refused = false;
    const std::string wrong = reopen_and_check(machine, client, &refused);
    CHECK(refused);
    REQUIRE(machine.disk.rename(file + ".away", file).has_value());
  }
}

TEST_CASE(
    "durability interval: what is older than the interval survives any crash, and none is refused after "
    "one") {
  std::size_t kept_all = 0, lost_some = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Machine machine(seed);
    machine.options.durability = RaftStoreOptions::Durability::interval;
    machine.options.sync_interval = 100ms;
    Client early, late;
    {
      Engine engine(machine.engine_options());
      auto store = RaftStore::open(engine, machine.options);
      REQUIRE(store.has_value());
      CHECK((*store)->status().durability == "interval");
      for (int i = 0; i < 12; ++i)
        early.put(engine, **store, "k" + std::to_string(i), std::string(3000, 'v') + std::to_string(i));
      machine.clock.advance(150ms);
      run_ready(engine);
      for (int i = 0; i < 12; ++i)
        late.put(engine, **store, "late" + std::to_string(i), std::string(3000, 'v'));
      REQUIRE(late.acknowledged.size() == 12);
      machine.disk.power_off();
      (*store)->stop();
      run_ready(engine);
    }
    machine.disk.restart();
    Engine engine(machine.engine_options());
    auto store = RaftStore::open(engine, machine.options);
    REQUIRE_MESSAGE(store.has_value(), store.error().to_string());
    for (const auto& [key, value] : early.acknowledged) CHECK(get(**store, key) == value);
    const bool all = (*store)->range(KeyPrefix("late")).wait(0s)->count == 12;
    kept_all += all ? 1 : 0;
    lost_some += all ? 0 : 1;
    (*store)->stop();
    run_ready(engine);
  }
  CHECK(kept_all > 0);
  CHECK(lost_some > 0);  // or it would be `sync`
}

TEST_CASE("a failed sync fails the store at once: nothing more is acknowledged") {
  Machine machine(11);
  Client client;
  {
    Engine engine(machine.engine_options());
    auto store = RaftStore::open(engine, machine.options);
    REQUIRE(store.has_value());
    client.put(engine, **store, "a", "1");
    machine.disk.fail_syncs(true);
    auto lost = (*store)->put("b", "1");
    run_ready(engine);
    REQUIRE(lost.is_ready());
    CHECK(lost.wait(0s).error().is(Error::unknown_outcome));
    machine.disk.fail_syncs(false);  // a second try would lie
    auto later = (*store)->put("c", "1");
    run_ready(engine);
    REQUIRE(later.is_ready());
    CHECK(later.wait(0s).error().is(Error::unavailable));
    CHECK((*store)->get("a").wait(0s).error().is(Error::unavailable));
    CHECK((*store)->status().role == "failed");
    (*store)->stop();
  }
  machine.disk.restart();
  client.attempted["b"] = {"1"};
  CHECK(reopen_and_check(machine, client).empty());
}

TEST_CASE("a full disk refuses puts with no_space, and serves again when there is room") {
  Machine machine(13);
  machine.options.snapshot_log_bytes = Bytes{1u << 30};
  machine.disk.set_capacity(100u << 10);
  Client client;
  Engine engine(machine.engine_options());
  auto store = RaftStore::open(engine, machine.options);
  REQUIRE(store.has_value());
  bool refused = false;
  for (int i = 0; i < 60 && !refused; ++i) {
    auto pending = (*store)->put("k" + std::to_string(i), std::string(2000, 'v'));
    run_ready(engine);
    refused = pending.is_ready() && !pending.wait(0s).has_value();
  }
  CHECK(refused);
  auto full = (*store)->put("more", "x");
  run_ready(engine);
  CHECK(full.wait(0s).error().is(Error::no_space));
  CHECK_FALSE((*store)->status().alarms.empty());
  auto removed = (*store)->remove(Key("k1"));
  run_ready(engine);
  CHECK(removed.wait(0s).has_value());
  machine.disk.set_capacity(0);
  bool again = false;
  for (int i = 0; i < 3 && !again; ++i) {
    auto pending = (*store)->put("more", "x");
    run_ready(engine);
    again = pending.is_ready() && pending.wait(0s).has_value();
  }
  CHECK(again);
  CHECK((*store)->status().alarms.empty());
  (*store)->stop();
}

}  // namespace
}  // namespace orchestra::store::test
