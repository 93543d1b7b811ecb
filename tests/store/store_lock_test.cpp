// StoreLock: one holder, those who wait or will not, and a lock that is lost.
#include "orchestra/store_lock.hpp"

#include <atomic>

#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

StoreLockOptions lock_as(const std::string& identity) {
  StoreLockOptions options;
  options.name = "/locks/reindex";
  options.identity = identity;
  options.ttl = 60s;  // nothing here waits for its end
  return options;
}

STORE_TEST_CASE("a lock has one holder; who waits gets it when it is given up, with a higher token") {
  StoreLock a(fixture.engine, fixture.store, lock_as("a"));
  StoreLock b(fixture.engine, fixture.store, lock_as("b"));
  const auto first = a.lock().wait(kSoon);
  REQUIRE(first.has_value());
  CHECK(a.token() == *first);
  CHECK(get(*fixture.store, "/locks/reindex") == "a");
  CHECK(a.lock().wait(kSoon).error().is(Error::busy));
  auto waiting = b.lock();
  CHECK(waiting.wait(20ms).error().is(Error::deadline_exceeded));
  CHECK_FALSE(b.token().has_value());
  REQUIRE(a.unlock().wait(kSoon).has_value());
  CHECK_FALSE(a.token().has_value());
  const auto second = waiting.wait(kSoon);
  REQUIRE(second.has_value());
  CHECK(*second > *first);
  REQUIRE(b.unlock().wait(kSoon).has_value());
  CHECK(get(*fixture.store, "/locks/reindex") == "(none)");
  CHECK(a.lock().wait(kSoon).has_value());
}

STORE_TEST_CASE("who will not wait hears who holds the lock") {
  StoreLock a(fixture.engine, fixture.store, lock_as("a"));
  StoreLock b(fixture.engine, fixture.store, lock_as("b"));
  REQUIRE(a.try_lock().wait(kSoon).has_value());
  const auto refused = b.try_lock().wait(kSoon);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::busy));
  const auto* holder = refused.error().detail<KeyValue>();
  REQUIRE(holder != nullptr);
  CHECK(holder->value.bytes() == "a");
  REQUIRE(a.unlock().wait(kSoon).has_value());
  CHECK(b.try_lock().wait(kSoon).has_value());
}

STORE_TEST_CASE("who waits no more does not get the lock later") {
  StoreLock a(fixture.engine, fixture.store, lock_as("a"));
  StoreLock b(fixture.engine, fixture.store, lock_as("b"));
  REQUIRE(a.lock().wait(kSoon).has_value());
  auto waiting = b.lock();
  waiting.cancel();
  CHECK(waiting.wait(kSoon).error().is(Error::cancelled));
  REQUIRE(a.unlock().wait(kSoon).has_value());
  CHECK(get(*fixture.store, "/locks/reindex") == "(none)");
  CHECK(b.lock().wait(kSoon).has_value());  // it may ask again
}

STORE_TEST_CASE("a lock that is lost says so, is not taken again, and its fence fails") {
  std::atomic<int> lost{0};
  auto options = lock_as("a");
  options.on_lost = [&](const Error&) { ++lost; };
  StoreLock a(fixture.engine, fixture.store, options);
  REQUIRE(a.lock().wait(kSoon).has_value());
  Txn write;
  write.compares = {*a.fence()};
  write.then = {TxnOp{.range = Key("guarded"), .value = "a"}};
  CHECK(fixture->txn(write).wait(kSoon)->succeeded);
  REQUIRE(fixture->remove(Key("/locks/reindex")).wait(kSoon).has_value());
  REQUIRE(eventually([&] { return lost == 1; }));
  CHECK_FALSE(a.fence().has_value());
  CHECK_FALSE(fixture->txn(write).wait(kSoon)->succeeded);
  StoreLock b(fixture.engine, fixture.store, lock_as("b"));
  CHECK(b.lock().wait(kSoon).has_value());
  CHECK(lost == 1);
}

TEST_CASE("a lock without name, identity or time is refused") {
  Engine engine;
  auto store = MemoryStore::create(engine);
  StoreLock nameless(engine, store, {});
  CHECK(nameless.lock().wait(kSoon).error().is(Error::invalid));
  CHECK(nameless.unlock().wait(kSoon).has_value());
}

}  // namespace
}  // namespace orchestra::store::test
