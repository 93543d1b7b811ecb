// LeaderElection: one holder, take-over, and a fence that stops a deposed one.
#include "orchestra/leader_election.hpp"

#include <atomic>
#include <future>
#include <thread>

#include "base/engine_manual.hpp"
#include "sim/sim_env.hpp"
#include "tests/store/support.hpp"

namespace orchestra::store::test {
namespace {

LeaderElectionOptions campaign_as(const std::string& identity) {
  LeaderElectionOptions options;
  options.key = "/leader";
  options.identity = identity;
  options.ttl = 60s;  // nothing here waits for its end
  return options;
}

STORE_TEST_CASE("one of several leads; when it gives up, another takes over with a higher token") {
  LeaderElection a(fixture.engine, fixture.store, campaign_as("a"));
  REQUIRE(a.start().has_value());
  REQUIRE(eventually([&] { return a.leading(); }));
  CHECK(get(*fixture.store, "/leader") == "a");
  std::atomic<Revision> elected{0};
  auto options = campaign_as("b");
  options.on_elected = [&](Revision token) { elected = token; };
  LeaderElection b(fixture.engine, fixture.store, options);
  REQUIRE(b.start().has_value());
  const Revision first = *a.token();
  CHECK_FALSE(b.leading());
  a.stop();
  REQUIRE(eventually([&] { return b.leading() && elected != 0; }));
  CHECK(*b.token() > first);
  CHECK(elected == *b.token());
  CHECK(get(*fixture.store, "/leader") == "b");
}

STORE_TEST_CASE("who is stopped while it is told that it leads does not take the key again") {
  std::promise<void> told, go_on;
  auto options = campaign_as("a");
  options.on_elected = [&](Revision) {
    told.set_value();
    go_on.get_future().wait();
  };
  LeaderElection a(fixture.engine, fixture.store, options);
  std::thread starting([&] { (void)a.start(); });  // a store in memory elects within the call
  told.get_future().wait();
  std::thread stopping([&] { a.stop(); });
  const bool left = eventually([&] { return !a.leading(); });  // stop() waits for the callback now
  go_on.set_value();
  starting.join();
  stopping.join();
  REQUIRE(left);
  LeaderElection b(fixture.engine, fixture.store, campaign_as("b"));
  REQUIRE(b.start().has_value());
  REQUIRE(eventually([&] { return b.leading(); }));
  CHECK(get(*fixture.store, "/leader") == "b");
}

STORE_TEST_CASE("a write with the fence of a deposed holder fails") {
  LeaderElection a(fixture.engine, fixture.store, campaign_as("a"));
  REQUIRE(a.start().has_value());
  REQUIRE(eventually([&] { return a.leading(); }));
  const Revision old_token = *a.token();
  Txn write;
  write.compares = {LeaderElection::fence("/leader", old_token)};
  write.then = {TxnOp{.range = Key("guarded"), .value = "a"}};
  CHECK(fixture->txn(write).wait(kSoon)->succeeded);
  std::atomic<bool> lost{false};
  a.stop();
  auto options = campaign_as("b");
  LeaderElection b(fixture.engine, fixture.store, options);
  REQUIRE(b.start().has_value());
  REQUIRE(eventually([&] { return b.leading(); }));
  CHECK_FALSE(fixture->txn(write).wait(kSoon)->succeeded);
}

STORE_TEST_CASE("a holder whose key is removed loses, says so, and campaigns again") {
  std::atomic<int> elected{0};
  std::atomic<int> lost{0};
  auto options = campaign_as("a");
  options.on_elected = [&](Revision) { ++elected; };
  options.on_lost = [&](const Error&) { ++lost; };
  LeaderElection a(fixture.engine, fixture.store, options);
  REQUIRE(a.start().has_value());
  REQUIRE(eventually([&] { return elected == 1; }));
  REQUIRE(fixture->remove(Key("/leader")).wait(kSoon).has_value());
  REQUIRE(eventually([&] { return elected == 2; }));
  CHECK(lost == 1);
}

TEST_CASE("a holder that keeps its lease alive leads on, and by its own clock no longer than the lease") {
  sim::SimClock clock;
  sim::SimRandom random(1);
  EngineOptions options;
  options.event_threads = 0;
  options.clock = &clock;
  options.random = &random;
  Engine engine(options);
  auto store = MemoryStore::create(engine);
  auto five_seconds = campaign_as("a");
  five_seconds.ttl = 5s;
  LeaderElection a(engine, store, five_seconds);
  REQUIRE(a.start().has_value());
  run_ready(engine);
  REQUIRE(a.leading());
  const auto token = a.token();
  for (int i = 0; i < 30; ++i) {
    clock.advance(1s);
    run_ready(engine);
    CHECK(a.token() == token);
  }
  clock.advance(6s);  // as after SIGSTOP: nothing ran meanwhile
  CHECK_FALSE(a.leading());
  store->stop();
}

TEST_CASE("an election without key, identity or time is refused") {
  Engine engine;
  auto store = MemoryStore::create(engine);
  LeaderElection nameless(engine, store, {});
  CHECK(nameless.start().error().is(Error::invalid));
}

}  // namespace
}  // namespace orchestra::store::test
