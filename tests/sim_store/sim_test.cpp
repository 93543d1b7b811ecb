// Whole stores in the simulator: seeds of faults, and the checkers themselves against known-bad histories.
// SIM_SEEDS=N runs N seeds (tests/sim/run), SIM_SEED=S that one with its trace.
#include <cstdlib>

#include "sim/sim_peers.hpp"
#include "sim/store_sim.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::sim;
using namespace std::chrono_literals;

namespace {

using Type = Operation::Type;
using Outcome = Operation::Outcome;

Operation op(Type type, const std::string& value, std::int64_t called, std::int64_t returned,
             Outcome outcome = Outcome::done) {
  Operation made;
  made.type = type;
  made.key = "k";
  made.value = value;
  made.called = called;
  made.returned = returned;
  made.outcome = outcome;
  return made;
}
Operation cas(const std::string& expected, const std::string& value, std::int64_t called,
              std::int64_t returned, Outcome outcome) {
  Operation made = op(Type::compare_and_write, value, called, returned, outcome);
  made.expected = expected;
  return made;
}

StoreSimReport all_seeds;

void run_seed(std::uint64_t seed, bool lease_reads = false) {
  StoreSimOptions options;
  options.seed = seed;
  options.peers = 0;
  options.lease_reads = lease_reads;
  options.trace = std::getenv("SIM_SEED") != nullptr;
  const StoreSimReport report = run_store_sim(options);
  for (const auto field : {&StoreSimReport::replaced, &StoreSimReport::turned_away, &StoreSimReport::told,
                           &StoreSimReport::stood_still})
    all_seeds.*field += report.*field;
  if (options.trace) {
    for (const std::string& line : report.trace) MESSAGE(line);
  }
  CHECK_MESSAGE(report.violation.empty(), "seed ", seed, ": ", report.violation, "; replay: SIM_SEED=", seed,
                " build/release/bin/test_sim_store -tc='", (lease_reads ? "leases" : "seeds"), "*'");
}

}  // namespace

TEST_CASE("the checker accepts what is linearizable") {
  CHECK(check_linearizable({}).empty());
  CHECK(check_linearizable({op(Type::write, "a", 0, 10), op(Type::read, "a", 5, 6), op(Type::read, "", 1, 9)})
            .empty());
  // Concurrent writes in either order.
  CHECK(check_linearizable(
            {op(Type::write, "a", 0, 10), op(Type::write, "b", 0, 10), op(Type::read, "a", 11, 12)})
            .empty());
  // An unknown write that shows up late, and one that never does.
  CHECK(check_linearizable({op(Type::write, "a", 0, 1), op(Type::write, "b", 2, 3, Outcome::unknown),
                            op(Type::read, "a", 10, 11), op(Type::read, "b", 20, 21)})
            .empty());
  CHECK(check_linearizable({op(Type::write, "a", 0, 1), op(Type::write, "b", 2, 3, Outcome::unknown),
                            op(Type::read, "a", 10, 11)})
            .empty());
  CHECK(check_linearizable({op(Type::write, "a", 0, 1), cas("a", "b", 2, 3, Outcome::done),
                            cas("a", "c", 4, 5, Outcome::failed_compare), op(Type::remove, "", 6, 7),
                            op(Type::read, "", 8, 9)})
            .empty());
}

TEST_CASE("the checker refuses known-bad histories") {
  // A stale read; a lost write; a read from the future; a value that nobody wrote.
  CHECK_FALSE(
      check_linearizable({op(Type::write, "a", 0, 1), op(Type::write, "b", 2, 3), op(Type::read, "a", 4, 5)})
          .empty());
  CHECK_FALSE(check_linearizable({op(Type::write, "a", 0, 1), op(Type::read, "", 2, 3)}).empty());
  CHECK_FALSE(check_linearizable({op(Type::read, "a", 0, 1), op(Type::write, "a", 2, 3)}).empty());
  CHECK_FALSE(check_linearizable({op(Type::read, "x", 0, 1)}).empty());
  // Two reads in the wrong order around one write.
  CHECK_FALSE(check_linearizable({op(Type::write, "a", 0, 1), op(Type::write, "b", 2, 10),
                                  op(Type::read, "b", 3, 4), op(Type::read, "a", 5, 6)})
                  .empty());
  // Both of two conditional writes on one state succeed.
  CHECK_FALSE(check_linearizable({op(Type::write, "a", 0, 1), cas("a", "b", 2, 10, Outcome::done),
                                  cas("a", "c", 2, 10, Outcome::done)})
                  .empty());
  // A conditional write fails although its condition held all the time.
  CHECK_FALSE(
      check_linearizable({op(Type::write, "a", 0, 1), cas("a", "b", 2, 3, Outcome::failed_compare)}).empty());
  // An unknown write that took effect, went away and came back.
  CHECK_FALSE(
      check_linearizable({op(Type::write, "a", 0, 1), op(Type::write, "b", 2, 3, Outcome::unknown),
                          op(Type::read, "b", 4, 5), op(Type::read, "a", 6, 7), op(Type::read, "b", 8, 9)})
          .empty());
}

TEST_CASE("revisions that go back or are taken twice are seen") {
  Operation first = op(Type::write, "a", 0, 1);
  first.revision = 7;
  Operation second = op(Type::write, "b", 2, 3);
  second.revision = 6;
  CHECK_FALSE(check_revisions({first, second}).empty());
  second.revision = 8;
  CHECK(check_revisions({first, second}).empty());
  second.called = 0;
  second.revision = 7;
  CHECK_FALSE(check_revisions({first, second}).empty());
}

TEST_CASE("one seed gives one run, byte by byte, another seed another") {
  StoreSimOptions options;
  options.seed = 42;
  options.chaos = 8s;
  options.heal = 8s;
  const StoreSimReport first = run_store_sim(options);
  const StoreSimReport again = run_store_sim(options);
  CHECK(first.trace_hash == again.trace_hash);
  CHECK(first.events == again.events);
  CHECK(first.acknowledged > 10);
  options.seed = 43;
  CHECK(run_store_sim(options).trace_hash != first.trace_hash);
}

TEST_CASE("a lease that ends while leadership is handed over is ended by who leads then, if at all") {
  Simulator simulator(5, {});
  SimPeer a, b, c;
  a.name = "a", b.name = "b", c.name = "c";
  const std::vector<SimPeer*> peers{&a, &b, &c};
  found_peers(simulator, peers);
  for (SimPeer* peer : peers) REQUIRE(open_peer(simulator, *peer, options_of_peer(*peer)).has_value());
  const auto settled = [&](SimPeer& at, auto pending) {
    at.host->dirty = true;
    for (int i = 0; i < 100 && !pending.is_ready(); ++i) simulator.run_for(10ms);
    return pending.wait(Duration{});
  };
  simulator.run_for(3s);
  REQUIRE(leader_of(peers) == &a);
  const auto lease = settled(a, a.store->lease_grant(2s, 0));
  REQUIRE(lease.has_value());
  REQUIRE(settled(a, a.store->put("held", "x", {.lease = *lease})).has_value());
  simulator.run_for(1700ms);
  // The heir does not hear of it before the lease has ended on the leader's clock.
  b.host->paused = true;
  auto handed = a.store->transfer_leadership(b.identity.identity.peer);
  a.host->dirty = true;
  simulator.run_for(400ms);
  b.host->paused = false;
  b.host->dirty = true;
  for (int i = 0; i < 100 && leader_of(peers) != &b; ++i) simulator.run_for(10ms);
  REQUIRE(leader_of(peers) == &b);
  REQUIRE(settled(b, b.store->lease_keep_alive(*lease)).has_value());
  simulator.run_for(1s);
  CHECK(settled(b, b.store->get("held", {}))->kv.has_value());
  simulator.run_for(5s);
  CHECK_FALSE(settled(b, b.store->get("held", {}))->kv.has_value());
  for (SimPeer* peer : peers) close_peer(simulator, *peer);
}

TEST_CASE("a command that a member's release does not know is refused until that member is of this release") {
  Simulator simulator(6, {});
  SimPeer a, b, c;
  a.name = "a", b.name = "b", c.name = "c";
  const std::vector<SimPeer*> peers{&a, &b, &c};
  found_peers(simulator, peers);
  c.identity.commands_known = 8;
  for (SimPeer* peer : peers) REQUIRE(open_peer(simulator, *peer, options_of_peer(*peer)).has_value());
  const auto settled = [&](SimPeer& at, auto pending) {
    at.host->dirty = true;
    for (int i = 0; i < 100 && !pending.is_ready(); ++i) simulator.run_for(10ms);
    return pending.wait(Duration{});
  };
  const auto nested = [] {
    Txn inner, outer;
    TxnOp put, within;
    put.range = Key("k");
    put.value = "v";
    inner.then.push_back(put);
    within.type = TxnOp::Type::txn;
    within.nested.push_back(inner);
    outer.then.push_back(within);
    return outer;
  };
  simulator.run_for(3s);
  REQUIRE(leader_of(peers) == &a);
  for (SimPeer* at : {&a, &b}) {  // on the leader, and forwarded to it
    const auto refused = settled(*at, at->store->txn(nested()));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().is(Error::unsupported));
    CHECK(refused.error().message().find("member \"c\"") != std::string::npos);
  }
  CHECK(settled(b, b.store->put("plain", "x", {})).has_value());
  CHECK_FALSE(settled(a, a.store->get("k", {}))->kv.has_value());
  close_peer(simulator, c);
  c.identity.commands_known = 0;
  REQUIRE(open_peer(simulator, c, options_of_peer(c)).has_value());
  simulator.run_for(5s);
  CHECK(settled(b, b.store->txn(nested())).has_value());
  simulator.run_for(1s);
  CHECK_FALSE(c.store->failed());
  CHECK(settled(c, c.store->get("k", {}))->kv.has_value());
  for (SimPeer* peer : peers) close_peer(simulator, *peer);
}

TEST_CASE("the rarer faults do happen: damage at a start, replaced disks, doubled messages, upgrades") {
  StoreSimReport all;
  const auto happened = [&] {
    return all.damaged > 3 && all.replaced > 3 && all.doubled > 3 && all.upgraded > 3 && all.held_back > 3;
  };
  for (std::uint64_t seed = 1001; seed <= 1060 && !happened(); ++seed) {
    StoreSimOptions options;
    options.seed = seed;
    options.peers = 3;
    options.chaos = 10s;
    const StoreSimReport report = run_store_sim(options);
    CHECK_MESSAGE(report.violation.empty(), "seed ", seed, ": ", report.violation);
    all.damaged += report.damaged;
    all.replaced += report.replaced;
    all.doubled += report.doubled;
    all.upgraded += report.upgraded;
    all.held_back += report.held_back;
  }
  CHECK(happened());
}

TEST_CASE("seeds of crashes, cuts, pauses, failing disks, wrong clocks and changes of members") {
  if (const char* one = std::getenv("SIM_SEED")) return run_seed(std::strtoull(one, nullptr, 10));
  const char* many = std::getenv("SIM_SEEDS");
  const std::uint64_t count = many != nullptr ? std::strtoull(many, nullptr, 10) : 40;
  const char* from = std::getenv("SIM_FROM");
  const std::uint64_t first = from != nullptr ? std::strtoull(from, nullptr, 10) : 1;
  for (std::uint64_t seed = first; seed < first + count; ++seed) run_seed(seed);
  MESSAGE(all_seeds.replaced, " disks replaced; of empty ones ", all_seeds.told, " were told who they are, ",
          all_seeds.turned_away, " turned away; ", all_seeds.stood_still, " clusters stood still");
}

TEST_CASE("leases for reads: the same faults, with clocks that differ by as much as is allowed") {
  if (const char* one = std::getenv("SIM_SEED")) return run_seed(std::strtoull(one, nullptr, 10), true);
  const char* many = std::getenv("SIM_SEEDS");
  const std::uint64_t count = many != nullptr ? std::strtoull(many, nullptr, 10) : 20;
  const char* from = std::getenv("SIM_FROM");
  const std::uint64_t first = from != nullptr ? std::strtoull(from, nullptr, 10) : 1;
  for (std::uint64_t seed = first; seed < first + count; ++seed) run_seed(seed, true);
}
