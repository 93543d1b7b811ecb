// RaftStore on a real disk: what was acknowledged is there after every kind of end.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "orchestra/raft_store.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

RaftStoreOptions options_for(const std::string& folder) {
  RaftStoreOptions options;
  options.data_dir = folder;
  options.limits = no_compaction();
  options.segment_bytes = Bytes{1u << 20};
  options.first_segment_bytes = Bytes{1u << 20};
  return options;
}
std::shared_ptr<StateStore> open(Engine& engine, const RaftStoreOptions& options) {
  auto store = RaftStore::open(engine, options);
  REQUIRE_MESSAGE(store.has_value(), (store ? "" : store.error().to_string()));
  return *store;
}

TEST_CASE("a store opened again has everything: keys, revisions, history, leases, identity") {
  orchestra::test::TempDir folder;
  Engine engine;
  const auto options = options_for(folder / "s");
  std::string cluster;
  {
    auto store = open(engine, options);
    cluster = store->cluster_id();
    put(*store, "a", "1");
    put(*store, "a", "2");
    REQUIRE(store->lease_grant(1h, 5).wait(kSoon).has_value());
    put(*store, "leased", "x", {.lease = 5});
    REQUIRE(store->remove(Key("leased")).wait(kSoon).has_value());
    put(*store, "leased", "y", {.lease = 5});
    REQUIRE(store->compact(2).wait(kSoon).has_value());
    store->stop();
  }
  auto store = open(engine, options);
  CHECK(store->cluster_id() == cluster);
  CHECK(store->revision() == 6);
  CHECK(store->compacted_revision() == 2);
  CHECK(get(*store, "a") == "2");
  CHECK(get(*store, "a", 2) == "1");
  CHECK(get(*store, "leased", 5) == "(none)");
  CHECK(store->lease_time_to_live(5, true).wait(kSoon)->keys == std::vector<std::string>{"leased"});
  auto watch = store->watch({.range = KeyPrefix(""), .after = 2});
  REQUIRE(watch.has_value());
  CHECK(watch->next(kSoon)->events.size() == 4);
  CHECK(store->status().notes.empty());
  CHECK(put(*store, "b", "1").revision == 7);
}

TEST_CASE("a second opener is refused with the pid of the first") {
  orchestra::test::TempDir folder;
  Engine engine;
  auto store = open(engine, options_for(folder / "s"));
  auto second = RaftStore::open(engine, options_for(folder / "s"));
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().is(Error::busy));
  CHECK(second.error().message().find(std::to_string(getpid())) != std::string::npos);
}

TEST_CASE("dropping the last handle closes the store there and then, whatever still runs inside") {
  orchestra::test::TempDir folder;
  Engine engine;
  for (int round = 0; round < 200; ++round) {
    auto store = open(engine, options_for(folder / "s"));  // fails with `busy` if the one before still lives
    auto acknowledged = store->put("k", std::to_string(round)).wait(kSoon);
    REQUIRE(acknowledged.has_value());
    (void)store->put("k", "in flight");
    store.reset();
  }
}

TEST_CASE("a list of peers that cannot be right is refused by name") {
  orchestra::test::TempDir folder;
  Engine engine;
  auto options = options_for(folder / "s");
  options.name = "c";
  options.initial_peers = {"a=127.0.0.1:1", "b=127.0.0.1:2"};
  CHECK(RaftStore::open(engine, options).error().is(Error::invalid));
  options.initial_peers = {"c 127.0.0.1:1"};
  CHECK(RaftStore::open(engine, options).error().is(Error::invalid));
  options.initial_peers = {};
  options.join = {"127.0.0.1:1"};
  CHECK(RaftStore::open(engine, options).error().is(Error::invalid));
}

TEST_CASE("snapshots bound the log, and state and history come back from them") {
  orchestra::test::TempDir folder;
  Engine engine;
  auto options = options_for(folder / "s");
  options.snapshot_log_bytes = Bytes{256u << 10};
  {
    auto store = open(engine, options);
    const std::string value(2000, 'v');
    for (int i = 0; i < 4000; ++i) {
      if (i == 3000) REQUIRE(store->compact(2500).wait(kSoon).has_value());
      put(*store, "k" + std::to_string(i % 50), value + std::to_string(i));
    }
    CHECK(eventually([&] { return store->status().log_bytes.value < (4u << 20); }));
    store->stop();
  }
  auto store = open(engine, options);
  CHECK(store->revision() == 4001);
  CHECK(store->compacted_revision() == 2500);
  for (const int i : {3999, 3990, 3951}) {
    CHECK(get(*store, "k" + std::to_string(i % 50)) == std::string(2000, 'v') + std::to_string(i));
  }
  CHECK(get(*store, "k3", 2600) == std::string(2000, 'v') + "2553");
  CHECK(store->get("k3", {.revision = 2400}).wait(kSoon).error().is(Error::compacted));
  std::size_t segments = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "s")) {
    if (entry.path().extension() == ".seg") ++segments;
  }
  CHECK(segments <= 6);  // of more than nine without snapshots
}

/// Opens the store in a child that puts without end and writes each acknowledged number to a pipe.
pid_t start_writer(const RaftStoreOptions& options, int acknowledged, int from) {
  const pid_t child = fork();
  if (child != 0) return child;
  Engine engine;
  auto store = RaftStore::open(engine, options);
  if (!store) _exit(3);
  std::vector<std::thread> writers;
  for (int w = 0; w < 3; ++w) {
    writers.emplace_back([&, w] {
      for (int i = from;; ++i) {
        const std::string key = "w" + std::to_string(w) + "/" + std::to_string(i);
        if (!(*store)->put(key, std::string(300, 'x')).wait(kSoon)) _exit(4);
        const std::string line = key + "\n";
        if (write(acknowledged, line.data(), line.size()) < 0) _exit(5);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  _exit(0);
}

TEST_CASE("kill -9 under load loses no acknowledged write") {
  orchestra::test::TempDir folder;
  auto options = options_for(folder / "s");
  options.snapshot_log_bytes = Bytes{128u << 10};
  std::string acknowledged;
  for (int round = 0; round < 5; ++round) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    const pid_t child = start_writer(options, ends[1], round * 100000);
    REQUIRE(child > 0);
    close(ends[1]);
    char buffer[4096];
    const std::size_t enough = acknowledged.size() + 6000 + 2500 * static_cast<std::size_t>(round);
    ssize_t got = 0;
    bool killed = false;
    while ((got = read(ends[0], buffer, sizeof buffer)) > 0) {
      acknowledged.append(buffer, static_cast<std::size_t>(got));
      if (acknowledged.size() > enough && !killed) {
        killed = true;
        kill(child, SIGKILL);
      }
    }
    close(ends[0]);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(killed);
    CHECK(WIFSIGNALED(status));
    if (acknowledged.back() != '\n') acknowledged.resize(acknowledged.rfind('\n') + 1);
  }
  Engine engine;
  auto store = open(engine, options);
  std::size_t missing = 0;
  std::size_t count = 0;
  for (std::size_t at = 0; at < acknowledged.size(); ++count) {
    const std::size_t end = acknowledged.find('\n', at);
    if (!store->get(acknowledged.substr(at, end - at)).wait(kSoon)->kv) ++missing;
    at = end + 1;
  }
  CHECK(count > 1000);
  CHECK(missing == 0);
}

TEST_CASE("save_snapshot streams a consistent image") {
  orchestra::test::TempDir folder;
  Engine engine;
  auto store = open(engine, options_for(folder / "s"));
  for (int i = 0; i < 500; ++i) put(*store, "k" + std::to_string(i), std::string(500, 'v'));
  std::string file;
  auto saved = store
                   ->save_snapshot([&](std::string_view bytes) -> Result<void> {
                     file.append(bytes);
                     return {};
                   })
                   .wait(kSoon);
  REQUIRE(saved.has_value());
  CHECK(*saved == 501);
  CHECK(file.size() > 250000);
}

}  // namespace
}  // namespace orchestra::store::test
