// The store in a host: opened and closed many times, destroyed with work in flight, nothing left behind.
#include <atomic>
#include <filesystem>
#include <thread>

#include "orchestra/raft_store.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

std::size_t entries_of(const char* folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

TEST_CASE("two stores live in one process, and a hundred lives leave no thread and no descriptor") {
  orchestra::test::TempDir folder;
  Engine engine;
  const auto open = [&](const char* name) {
    RaftStoreOptions options;
    options.data_dir = folder / name;
    options.first_segment_bytes = Bytes{64u << 10};
    // One that was dropped without stop() closes when its last task has ended.
    std::shared_ptr<StateStore> store;
    REQUIRE(eventually([&] {
      auto opened = RaftStore::open(engine, options);
      if (opened) store = *opened;
      return opened.has_value() || !opened.error().is(Error::busy);
    }));
    REQUIRE(store != nullptr);
    return store;
  };
  auto other = open("other");
  put(*other, "a", "1");
  const std::size_t descriptors = entries_of("/proc/self/fd");
  const std::size_t threads = entries_of("/proc/self/task");
  for (int i = 0; i < 100; ++i) {
    auto store = open("again");
    CHECK(put(*store, "k", std::to_string(i)).revision == i + 2);
    if (i % 2 == 0) store->stop();
  }
  CHECK(eventually([&] { return entries_of("/proc/self/fd") == descriptors; }));
  CHECK(eventually([&] { return entries_of("/proc/self/task") <= threads; }));
  CHECK(get(*other, "a") == "1");
}

STORE_TEST_CASE("a store may go while calls, watches and snapshots are in flight: each gets an answer") {
  std::vector<Pending<WriteResult>> writes;
  for (int i = 0; i < 200; ++i)
    writes.push_back(fixture->put("k" + std::to_string(i), std::string(1000, 'v')));
  auto watch = fixture->watch({.range = KeyPrefix("")});
  auto waiting = fixture->wait_revision(1'000'000, 60s);
  auto view = fixture->snapshot().wait(kSoon);
  std::atomic<bool> saved{false};
  fixture->save_snapshot([](std::string_view) { return Result<void>(); }).on_ready([&](Result<Revision>) {
    saved = true;
  });
  fixture.store->stop();
  fixture.store.reset();
  for (auto& write : writes) {
    const auto result = write.wait(kSoon);
    if (!result) CHECK(result.error().is(Error::unknown_outcome));
  }
  CHECK(waiting.wait(kSoon).error().is(Error::unavailable));
  CHECK(eventually([&] { return saved.load(); }));
  REQUIRE(view.has_value());
  if (!fixture.remote) CHECK(view->try_range(KeyPrefix("")).has_value());  // a view of a server goes with it
  while (watch->next(kSoon)) {
  }
  CHECK(watch->error()->is(Error::cancelled));
}

STORE_TEST_CASE("a watch may be cancelled from its own callback, and cancelling waits for a running one") {
  std::optional<Watch> own(std::move(*fixture->watch({.range = Key("k")})));
  std::atomic<bool> called{false};
  own->notify([&] {
    own->cancel();
    called = true;
  });
  put(*fixture.store, "k", "1");
  REQUIRE(eventually([&] { return called.load(); }));

  auto other = fixture->watch({.range = Key("k")});
  std::atomic<bool> running{false};
  std::atomic<bool> finish{false};
  std::atomic<bool> finished{false};
  other->notify([&] {
    running = true;
    while (!finish) std::this_thread::yield();
    finished = true;
  });
  std::thread writer([&] { put(*fixture.store, "k", "2"); });
  REQUIRE(eventually([&] { return running.load(); }));
  std::thread releaser([&] { finish = true; });
  other->cancel();
  CHECK(finished);
  releaser.join();
  writer.join();
}

}  // namespace
}  // namespace orchestra::store::test
