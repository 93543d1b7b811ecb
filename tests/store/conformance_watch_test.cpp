// What every StateStore's watches promise (spec/store.md section 3) and how leases end (section 4).
#include <atomic>
#include <thread>

#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

/// Reads until `count` events have come.
std::vector<WatchEvent> take(Watch& watch, std::size_t count) {
  std::vector<WatchEvent> events;
  while (events.size() < count) {
    auto batch = watch.next(kSoon);
    REQUIRE_MESSAGE(batch.has_value(), (watch.error() ? watch.error()->to_string() : "no event in time"));
    for (WatchEvent& event : batch->events) events.push_back(std::move(event));
  }
  return events;
}

STORE_TEST_CASE("a watch delivers later changes in order, with what they replaced") {
  if (fixture.remote) return;  // events arrive when they do: nothing to see at once
  put(*fixture.store, "k", "before");
  auto watch = fixture->watch({.range = KeyPrefix("k")});
  REQUIRE(watch.has_value());
  put(*fixture.store, "k", "1");
  put(*fixture.store, "other", "x");
  REQUIRE(fixture->remove(Key("k")).wait(kSoon).has_value());
  const auto events = take(*watch, 2);
  CHECK(events[0].type == WatchEvent::Type::put);
  CHECK(events[0].kv.value == Value("1"));
  CHECK(text(events[0].previous) == "before");
  CHECK(events[1].type == WatchEvent::Type::remove);
  CHECK(events[1].kv.mod_revision == 5);
  CHECK(text(events[1].previous) == "1");
  CHECK_FALSE(watch->poll().has_value());
  CHECK_FALSE(watch->error().has_value());
  CHECK(watch->progress() == 5);
}

STORE_TEST_CASE("a watch resumes after any revision that is kept") {
  for (int i = 0; i < 10; ++i) put(*fixture.store, "k" + std::to_string(i), "v");
  for (Revision after = 1; after < 11; ++after) {
    auto watch = fixture->watch({.range = KeyPrefix("k"), .after = after});
    REQUIRE(watch.has_value());
    const auto events = take(*watch, static_cast<std::size_t>(11 - after));
    CHECK(events.front().kv.mod_revision == after + 1);
    CHECK(events.back().kv.mod_revision == 11);
  }
}

STORE_TEST_CASE("a watch after a future revision delivers nothing old") {
  auto watch = fixture->watch({.range = KeyPrefix(""), .after = 3});
  REQUIRE(watch.has_value());
  for (int i = 0; i < 4; ++i) put(*fixture.store, "k", std::to_string(i));
  const auto events = take(*watch, 2);
  CHECK(events[0].kv.mod_revision == 4);
  CHECK(events[1].kv.mod_revision == 5);
}

STORE_TEST_CASE("a watch below the compacted revision ends at once with it") {
  for (int i = 0; i < 5; ++i) put(*fixture.store, "k", std::to_string(i));
  REQUIRE(fixture->compact(4).wait(kSoon).has_value());
  auto watch = fixture->watch({.range = Key("k"), .after = 3});
  REQUIRE(watch.has_value());
  CHECK_FALSE(watch->next(kSoon).has_value());
  REQUIRE(watch->error().has_value());
  CHECK(watch->error()->is(Error::compacted));
  REQUIRE(watch->error()->detail<RevisionDetail>() != nullptr);
  CHECK(watch->error()->detail<RevisionDetail>()->compacted == 4);
  auto kept = fixture->watch({.range = Key("k"), .after = 4});
  REQUIRE(kept.has_value());
  CHECK(take(*kept, 2).size() == 2);
}

STORE_TEST_CASE("a slow watch that compaction overtakes ends with compacted, a caught-up one goes on") {
  if (fixture.remote) return;  // events arrive when they do: nothing to see at once
  auto slow = fixture->watch({.range = Key("k")});
  auto idle = fixture->watch({.range = Key("idle")});
  for (int i = 0; i < 5; ++i) put(*fixture.store, "k", std::to_string(i));
  REQUIRE(fixture->compact(6).wait(kSoon).has_value());
  CHECK_FALSE(slow->next(kSoon).has_value());
  REQUIRE(slow->error().has_value());
  CHECK(slow->error()->is(Error::compacted));
  put(*fixture.store, "idle", "still here");
  CHECK(take(*idle, 1)[0].kv.value == Value("still here"));
}

STORE_TEST_CASE("one revision is never split over batches, and credit bounds a batch") {
  auto watch = fixture->watch({.range = KeyPrefix(""), .credit = Bytes{2000}});
  Txn txn;
  for (int i = 0; i < 30; ++i)
    txn.then.push_back(TxnOp{.range = Key("t" + std::to_string(i)), .value = std::string(100, 'x')});
  REQUIRE(fixture->txn(txn).wait(kSoon).has_value());
  for (int i = 0; i < 20; ++i) put(*fixture.store, "s", std::string(300, 'y'));
  auto first = watch->next(kSoon);
  REQUIRE(first.has_value());
  CHECK(first->events.size() == 30);
  CHECK(first->revision == 2);
  std::size_t rest = 0;
  Revision last = 2;
  while (rest < 20) {
    auto batch = watch->next(kSoon);
    REQUIRE(batch.has_value());
    CHECK(batch->events.size() < 10);
    for (const WatchEvent& event : batch->events) CHECK(event.kv.mod_revision == ++last);
    CHECK(batch->revision == last);
    CHECK(watch->progress() == last);
    rest += batch->events.size();
  }
}

STORE_TEST_CASE("filters drop puts or removals") {
  auto no_put = fixture->watch({.range = KeyPrefix(""), .no_put = true});
  auto no_remove = fixture->watch({.range = KeyPrefix(""), .no_remove = true, .want_previous = false});
  put(*fixture.store, "k", "1");
  put(*fixture.store, "k", "2");
  REQUIRE(fixture->remove(Key("k")).wait(kSoon).has_value());
  CHECK(take(*no_put, 1)[0].type == WatchEvent::Type::remove);
  const auto puts = take(*no_remove, 2);
  CHECK(puts[1].kv.value == Value("2"));
  CHECK_FALSE(puts[1].previous.has_value());
}

STORE_TEST_CASE("single keys, prefixes and odd ranges each get exactly their events") {
  if (fixture.remote) return;  // events arrive when they do: nothing to see at once
  struct Case {
    KeyRange range;
    std::size_t expected;
  };
  const std::vector<Case> cases{{Key("b"), 1},        {KeyPrefix("b"), 3},
                                {KeyPrefix("bb"), 1}, {{.begin = "ab", .end = "bb"}, 3},
                                {KeyPrefix(""), 6},   {{.begin = "ba", .to_the_end = true}, 3}};
  std::vector<Watch> watches;
  for (const Case& each : cases) watches.push_back(std::move(*fixture->watch({.range = each.range})));
  for (const char* key : {"a", "ab", "b", "ba", "bb", "c"}) put(*fixture.store, key, "v");
  for (std::size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(i);
    CHECK(take(watches[i], cases[i].expected).size() == cases[i].expected);
    CHECK_FALSE(watches[i].poll().has_value());
  }
}

STORE_TEST_CASE("notify calls once when something is there, and at once if it is already") {
  if (fixture.remote) return;  // events arrive when they do: nothing to see at once
  auto watch = fixture->watch({.range = Key("k")});
  std::atomic<int> calls{0};
  watch->notify([&] { ++calls; });
  CHECK(calls == 0);
  put(*fixture.store, "k", "1");
  REQUIRE(eventually([&] { return calls == 1; }));
  put(*fixture.store, "k", "2");
  CHECK(watch->poll()->events.size() == 2);
  CHECK(calls == 1);
  put(*fixture.store, "k", "3");
  watch->notify([&] { ++calls; });
  CHECK(calls == 2);
}

STORE_TEST_CASE("stop ends watches with cancelled and wakes their readers") {
  auto watch = fixture->watch({.range = Key("k")});
  std::thread reader([&] { CHECK_FALSE(watch->next(kSoon).has_value()); });
  fixture->stop();
  reader.join();
  REQUIRE(watch->error().has_value());
  CHECK(watch->error()->is(Error::cancelled));
}

STORE_TEST_CASE("a watch may outlive its store") {
  auto watch = fixture->watch({.range = Key("k")});
  fixture.store.reset();
  CHECK_FALSE(watch->next(kSoon).has_value());
  CHECK(watch->error().has_value());
}

STORE_TEST_CASE("watchers beside concurrent writers miss nothing and see everything once, in order") {
  constexpr int kWriters = 3, kEach = 300;
  auto watch = fixture->watch({.range = KeyPrefix("w")});
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < kEach; ++i) {
        CHECK(fixture->put("w" + std::to_string(w), std::to_string(i)).wait(kSoon).has_value());
      }
    });
  }
  const auto events = take(*watch, kWriters * kEach);
  for (std::thread& writer : writers) writer.join();
  for (std::size_t i = 0; i < events.size(); ++i)
    CHECK(events[i].kv.mod_revision == static_cast<Revision>(i) + 2);
}

STORE_TEST_CASE("revoking a lease removes all its keys in one revision") {
  auto lease = fixture->lease_grant(60s).wait(kSoon);
  REQUIRE(lease.has_value());
  auto watch = fixture->watch({.range = KeyPrefix("")});
  put(*fixture.store, "a", "1", {.lease = *lease});
  put(*fixture.store, "b", "1", {.lease = *lease});
  put(*fixture.store, "c", "1", {.lease = *lease});
  put(*fixture.store, "b", "2");  // a put without lease detaches
  auto info = fixture->lease_time_to_live(*lease, true).wait(kSoon);
  REQUIRE(info.has_value());
  CHECK(info->ttl == 60s);
  CHECK(info->remaining > 50s);
  CHECK(info->keys == std::vector<std::string>{"a", "c"});
  const Revision before = fixture->revision();
  REQUIRE(fixture->lease_revoke(*lease).wait(kSoon).has_value());
  CHECK(fixture->revision() == before + 1);
  CHECK(list(*fixture->range(KeyPrefix("")).wait(kSoon)) == "b=2");
  CHECK(take(*watch, 6).back().kv.mod_revision == before + 1);
  CHECK(fixture->lease_revoke(*lease).wait(kSoon).error().is(Error::not_found));
  CHECK(fixture->lease_keep_alive(*lease).wait(kSoon).error().is(Error::not_found));
  CHECK(fixture->lease_time_to_live(*lease).wait(kSoon).error().is(Error::not_found));
}

STORE_TEST_CASE("lease ids: chosen, refused while alive, out of range") {
  CHECK(*fixture->lease_grant(60s, 7).wait(kSoon) == 7);
  CHECK(fixture->lease_grant(60s, 7).wait(kSoon).error().is(Error::conflict));
  CHECK(fixture->lease_grant(0s).wait(kSoon).error().is(Error::invalid));
  CHECK(fixture->lease_grant(25h).wait(kSoon).error().is(Error::invalid));
  CHECK(fixture->lease_list().wait(kSoon)->size() == 1);
  REQUIRE(fixture->lease_revoke(7).wait(kSoon).has_value());
  CHECK(*fixture->lease_grant(60s, 7).wait(kSoon) == 7);
}

STORE_TEST_CASE("a lease that nobody keeps alive ends with its keys") {
  auto lease = fixture->lease_grant(4s).wait(kSoon);
  REQUIRE(lease.has_value());
  put(*fixture.store, "k", "v", {.lease = *lease});
  auto watch = fixture->watch({.range = Key("k")});
  const auto events = take(*watch, 1);
  CHECK(events[0].type == WatchEvent::Type::remove);
  // The event may come from another peer than the list.
  CHECK(test::eventually([&] { return fixture->lease_list().wait(kSoon)->empty(); }));
}

}  // namespace
}  // namespace orchestra::store::test
