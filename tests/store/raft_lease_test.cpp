// Reads under a lease of the leader (src/store/raft/reads.cpp): at once while nobody else can be elected, by
// a round otherwise.
#include "tests/store/raft_peers.hpp"

namespace orchestra::store::test {
namespace {

constexpr std::int64_t kTick = 25'000'000;

/// Peers whose clocks go on by one tick each time.
struct LeasePeers {
  explicit LeasePeers(std::uint64_t seed, bool all = true) : peers(3, seed) {
    peers.options.heartbeat_ticks = 4;
    peers.options.election_ticks_min = 20;
    peers.options.election_ticks_max = 36;
    for (const PeerId peer : peers.ids()) {
      peers.options.lease_ns = all || peer == PeerId{1} ? kTick * 19 : 0;
      restart(peer);
    }
    for (int i = 0; i < 300 && !leader(); ++i) advance(1);
    REQUIRE(leader());
  }
  void restart(PeerId peer) {
    peers.crash(peer);
    peers.restart(peer);
    peers.core(peer).set_now(now);
  }
  std::optional<PeerId> leader() {
    const auto found = peers.leader();
    return found && peers.core(*found).serving() ? found : std::nullopt;
  }
  void advance(int ticks) {
    for (int i = 0; i < ticks; ++i) {
      now += kTick;
      for (const PeerId peer : peers.ids()) {
        if (!peers.down(peer)) peers.core(peer).set_now(now);
      }
      peers.run(1);
    }
  }
  /// Whether it is answered with no message delivered.
  bool reads_alone(PeerId peer) {
    const auto before = peers.cut_off;
    peers.cut_off.insert(peer);
    const auto asked = peers.core(peer).read_index(7);  // fails where it has stepped down
    peers.settle();
    peers.cut_off = before;
    return asked && !peers.take_reads(peer).empty();
  }
  Peers peers;
  std::int64_t now = 1'000'000'000;
};

TEST_CASE("a leader with a lease answers reads alone, and no longer than nobody else can be elected") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    LeasePeers lease(seed);
    const PeerId old = *lease.leader();
    lease.advance(8);  // two rounds
    CHECK(lease.reads_alone(old));
    lease.peers.cut_off.insert(old);
    int held = 0;
    for (int i = 0; i < 100; ++i) {
      const bool other = std::any_of(lease.peers.ids().begin(), lease.peers.ids().end(), [&](PeerId peer) {
        return peer != old && lease.peers.core(peer).role() == Role::leader;
      });
      const bool still = lease.peers.core(old).lease_held();
      REQUIRE_FALSE((other && still));
      held += still ? 1 : 0;
      lease.advance(1);
    }
    CHECK(held > 10);  // of 19 ticks, less what had passed since the last round
    CHECK_FALSE(lease.reads_alone(old));
  }
}

TEST_CASE("without leases a leader answers no read alone") {
  Peers peers(3, 1);
  const PeerId leader = peers.wait_for_leader();
  peers.run(20);
  peers.cut_off.insert(leader);
  REQUIRE(peers.core(leader).read_index(7).has_value());
  peers.settle();
  CHECK(peers.take_reads(leader).empty());
}

TEST_CASE("peers that make no promise give no lease") {
  LeasePeers lease(3, false);  // only the first peer is asked to
  lease.advance(20);
  CHECK_FALSE(lease.reads_alone(*lease.leader()));
}

TEST_CASE("a promise outlives a restart of who gave it, and what it hears of other terms") {
  LeasePeers lease(5);
  const PeerId old = *lease.leader();
  lease.advance(8);
  const PeerId voter = lease.peers.other_than(old), rival = lease.peers.third(old, voter);
  const Term term = lease.peers.core(old).term();
  Message ask;
  ask.type = MessageType::vote;
  ask.from = rival;
  ask.to = voter;
  ask.term = Term{term.value + 1};
  ask.index = Index{1000};
  ask.log_term = term;
  lease.peers.cut_off.insert(old);
  for (const bool again : {false, true}) {
    CAPTURE(again);
    if (again) lease.restart(voter);
    lease.peers.deliver_to(ask);
    CHECK(lease.peers.core(voter).term() == term);
    CHECK(lease.peers.core(voter).vote() != rival);
  }
  // A late refusal of a higher term makes it forget the leader, and not the promise.
  Message refusal;
  refusal.type = MessageType::pre_vote_answer;
  refusal.from = rival;
  refusal.to = voter;
  refusal.term = Term{term.value + 1};
  refusal.reject = true;
  lease.peers.deliver_to(refusal);
  ask.term = Term{term.value + 2};
  lease.peers.deliver_to(ask);
  CHECK(lease.peers.core(voter).vote() != rival);
}

TEST_CASE("who offers its leadership gives up its lease for the rest of the term") {
  LeasePeers lease(7);
  const PeerId leader = *lease.leader();
  lease.advance(8);
  const PeerId other = lease.peers.other_than(leader);
  lease.peers.filter = [](const Message& message) { return message.type != MessageType::timeout_now; };
  REQUIRE(lease.peers.core(leader).transfer_leadership(other).has_value());
  CHECK_FALSE(lease.peers.core(leader).lease_held());
  lease.advance(60);  // the transfer has failed, and it leads on
  REQUIRE(lease.peers.core(leader).role() == Role::leader);
  CHECK_FALSE(lease.reads_alone(leader));
}

}  // namespace
}  // namespace orchestra::store::test
