// RaftCore, pure: peers over a network that loses, doubles, delays and cuts, with crashes. After each step:
// one leader per term, equal logs up to what is committed, nothing committed is ever lost.
#include "tests/store/raft_peers.hpp"

#include "store/raft/quorum.hpp"

namespace orchestra::store::test {
namespace {

TEST_CASE("majority_index is what more than half have reached") {
  // By brute force over all clusters of up to 5 peers with indexes 0..3.
  for (std::size_t peers = 1; peers <= 5; ++peers) {
    std::vector<Index> reached(peers);
    const std::size_t cases = static_cast<std::size_t>(1) << (2 * peers);
    for (std::size_t code = 0; code < cases; ++code) {
      for (std::size_t i = 0; i < peers; ++i) reached[i] = Index{code >> (2 * i) & 3};
      std::uint64_t best = 0;
      for (std::uint64_t index = 0; index <= 3; ++index) {
        const auto have =
            std::count_if(reached.begin(), reached.end(), [&](Index at) { return at.value >= index; });
        if (static_cast<std::size_t>(have) > peers / 2) best = index;
      }
      REQUIRE(majority_index(reached).value == best);
    }
  }
}

TEST_CASE("a single voter campaigns at once, and commits only what it has stored") {
  RaftOptions options;
  options.self = PeerId{1};
  RaftCore core(options, {{}, {}, {}, voters_of({PeerId{1}}), {}});
  CHECK(core.role() == Role::candidate);
  Ready ready = core.take_ready();
  REQUIRE(ready.hard_state.has_value());
  CHECK(ready.hard_state->vote == PeerId{1});
  core.report_stored(ready.receipt);
  CHECK(core.role() == Role::leader);
  CHECK_FALSE(core.serving());
  ready = core.take_ready();
  CHECK(ready.entries.size() == 1);
  CHECK(ready.committed.empty());
  core.report_stored(ready.receipt);
  CHECK(core.serving());
  CHECK(core.take_ready().committed.size() == 1);
  REQUIRE(core.propose(std::make_shared<const std::string>("x")).has_value());
  ready = core.take_ready();
  CHECK(ready.committed.empty());
  CHECK(core.take_ready().empty());
  core.report_stored(ready.receipt);
  CHECK(core.take_ready().committed.size() == 1);
}

TEST_CASE("the commit index that goes to disk covers only entries that are there already") {
  // A follower with an entry of a deposed leader learns another one in its place and that it is committed,
  // all at once. The hard state may survive a crash without the entry: the old one must not look committed
  // then.
  RaftOptions options;
  options.self = PeerId{2};
  const std::vector<Entry> old{{Term{1}, Index{1}}, {Term{1}, Index{2}}, {Term{1}, Index{3}}};
  RaftCore core(options,
                {HardState{Term{1}, {}, {}}, {}, {}, voters_of({PeerId{1}, PeerId{2}, PeerId{3}}), old});
  Message append;
  append.type = MessageType::append;
  append.from = PeerId{3};
  append.to = PeerId{2};
  append.term = Term{2};
  append.index = Index{2};
  append.log_term = Term{1};
  append.commit = Index{3};
  append.entries = {{Term{2}, Index{3}}};
  core.step(append);
  CHECK(core.commit() == Index{3});
  const Ready ready = core.take_ready();
  REQUIRE(ready.hard_state.has_value());
  CHECK(ready.hard_state->commit == Index{2});
  RaftCore again(options, {*ready.hard_state, {}, {}, voters_of({PeerId{1}, PeerId{2}, PeerId{3}}), old});
  CHECK(again.commit() == Index{2});
}

// A shell that writes in order cannot make this visible in a cluster: whoever leads has reported its vote as
// stored, and with it everything older. A shell with several writes under way could.
TEST_CASE("a report of a sync from before a truncation tells nothing about the entries that came instead") {
  RaftOptions options;
  options.self = PeerId{1};
  RaftStart start;
  for (const std::uint64_t id : {1, 2, 3})
    start.configuration.members.push_back({PeerId{id}, "p" + std::to_string(id), "", true});
  RaftCore core(options, start);
  const auto append = [&](std::uint64_t term, std::uint64_t from, std::uint64_t count, std::uint64_t commit) {
    Message message;
    message.type = MessageType::append;
    message.from = PeerId{term == 1 ? 2u : 3u};
    message.to = PeerId{1};
    message.term = Term{term};
    message.commit = Index{commit};
    for (std::uint64_t i = 0; i < count; ++i)
      message.entries.push_back({Term{term}, Index{from + i}, EntryType::command, nullptr});
    core.step(message);
    return core.take_ready();
  };
  const Ready first = append(1, 1, 3, 0);
  const Ready second = append(2, 1, 2, 2);  // the new leader's take the place of all three
  CHECK(second.committed.empty());
  core.report_stored(first.receipt);
  CHECK(core.take_ready().committed.empty());
  core.report_stored(second.receipt);
  CHECK(core.take_ready().committed.size() == 2);
}

TEST_CASE("the stored commit index never exceeds the log after recovery") {
  RaftOptions options;
  options.self = PeerId{1};
  RaftCore core(options, {HardState{Term{3}, {}, Index{99}},
                          {},
                          {},
                          voters_of({PeerId{1}, PeerId{2}, PeerId{3}}),
                          {Entry{Term{1}, Index{1}}}});
  CHECK(core.commit() == Index{1});
}

TEST_CASE("three peers elect one leader, replicate and apply in one order") {
  Peers peers(3, 1);
  const PeerId leader = peers.wait_for_leader();
  for (int i = 0; i < 20; ++i) CHECK(peers.propose(leader, std::to_string(i)));
  peers.run(3);
  for (const PeerId peer : peers.ids()) CHECK(peers.applied(peer) == peers.applied(leader));
  CHECK(peers.applied(leader).size() == 20);
}

TEST_CASE("a leader cut off from its majority commits nothing more, steps down, and catches up later") {
  Peers peers(3, 7);
  const PeerId old_leader = peers.wait_for_leader();
  peers.cut_off.insert(old_leader);
  peers.propose(old_leader, "lost");
  peers.run(30);
  CHECK_FALSE(peers.applied(old_leader, "lost"));
  CHECK(peers.core(old_leader).role() != Role::leader);
  const PeerId next = *peers.leader();
  CHECK(next != old_leader);
  CHECK(peers.propose(next, "kept"));
  peers.run(3);
  peers.cut_off.clear();
  peers.run(30);
  CHECK(peers.applied(old_leader, "kept"));
  CHECK_FALSE(peers.applied(old_leader, "lost"));
}

TEST_CASE("a peer that was away does not disturb the leader when it comes back") {
  Peers peers(3, 3);
  const PeerId leader = peers.wait_for_leader();
  const PeerId away = leader == PeerId{1} ? PeerId{2} : PeerId{1};
  peers.cut_off.insert(away);
  peers.run(100);
  const Term term = peers.core(leader).term();
  CHECK(peers.core(away).term() == term);  // pre-vote: no term is burned alone
  peers.cut_off.clear();
  peers.run(30);
  CHECK(peers.core(leader).role() == Role::leader);
  CHECK(peers.core(leader).term() == term);
}

TEST_CASE("an acknowledgement counts only after the follower's sync") {
  Peers peers(3, 5);
  const PeerId leader = peers.wait_for_leader();
  for (const PeerId peer : peers.ids()) {
    if (peer != leader) peers.slow_disks.insert(peer);
  }
  CHECK(peers.propose(leader, "x"));
  peers.run(2);
  CHECK_FALSE(peers.applied(leader, "x"));
  peers.slow_disks.clear();
  peers.run(2);
  CHECK(peers.applied(leader, "x"));
}

TEST_CASE("a leader with a slow disk of its own may commit by the others, and not count itself") {
  Peers peers(3, 6);
  const PeerId leader = peers.wait_for_leader();
  peers.slow_disks.insert(leader);
  CHECK(peers.propose(leader, "x"));
  peers.run(2);
  const PeerId other = leader == PeerId{1} ? PeerId{2} : PeerId{1};
  CHECK(peers.applied(other, "x"));
  CHECK_FALSE(peers.applied(leader, "x"));  // applies what it has stored itself
}

TEST_CASE("reads wait for a heartbeat round, and a deposed leader confirms none") {
  Peers peers(3, 8);
  const PeerId leader = peers.wait_for_leader();
  REQUIRE(peers.core(leader).read_index(17).has_value());
  peers.settle();
  const auto reads = peers.take_reads(leader);
  REQUIRE(reads.size() == 1);
  CHECK(reads[0].context == 17);
  CHECK(reads[0].index == peers.core(leader).commit());
  peers.cut_off.insert(leader);
  REQUIRE(peers.core(leader).read_index(18).has_value());
  peers.run(20);
  CHECK(peers.take_reads(leader).empty());
  const PeerId follower = leader == PeerId{1} ? PeerId{2} : PeerId{1};
  if (peers.leader() != follower) CHECK(peers.core(follower).read_index(1).error().is(Error::not_leader));
}

TEST_CASE("proposals are refused by a follower, and past the bound of uncommitted bytes") {
  Peers peers(3, 9);
  const PeerId leader = peers.wait_for_leader();
  const PeerId follower = leader == PeerId{1} ? PeerId{2} : PeerId{1};
  auto refused = peers.core(follower).propose(std::make_shared<const std::string>("x"));
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::not_leader));
  REQUIRE(refused.error().detail<PeerId>() != nullptr);
  CHECK(*refused.error().detail<PeerId>() == leader);
  peers.cut_off.insert(leader);
  const std::string big(1u << 20, 'x');
  std::size_t taken = 0;
  while (peers.propose(leader, big)) ++taken;
  CHECK(taken == 64);
  CHECK(peers.core(leader).propose(std::make_shared<const std::string>(big)).error().is(Error::overloaded));
}

/// Faults of all kinds for a while, then quiet: progress, and everything acknowledged is everywhere.
void run_chaos(std::uint64_t seed) {
  CAPTURE(seed);
  const std::size_t count = seed % 3 == 0 ? 5 : 3;
  Peers peers(count, seed);
  sim::SimRandom& random = peers.random();
  peers.faults.lose_percent = static_cast<unsigned>(random.below(30));
  peers.faults.double_percent = static_cast<unsigned>(random.below(50));
  peers.faults.reorder = random.below(2) == 0;
  std::size_t proposed = 0;
  for (int round = 0; round < 150; ++round) {
    peers.run(1 + static_cast<int>(random.below(4)));
    const PeerId someone = peers.ids()[random.below(count)];
    switch (random.below(8)) {
      case 0:
        peers.cut_off.insert(someone);
        break;
      case 1:
      case 2:
        peers.cut_off.clear();
        break;
      case 3:
        if (!peers.down(someone)) peers.crash(someone);
        break;
      case 4:
        peers.slow_disks.insert(someone);
        break;
      case 5:
        peers.slow_disks.clear();
        break;
      default:
        for (const PeerId peer : peers.ids()) {
          if (peers.down(peer)) peers.restart(peer);
        }
    }
    if (const auto leader = peers.leader(); leader && peers.propose(*leader, std::to_string(proposed)))
      ++proposed;
  }
  peers.faults = {};
  peers.cut_off.clear();
  peers.slow_disks.clear();
  for (const PeerId peer : peers.ids()) {
    if (peers.down(peer)) peers.restart(peer);
  }
  const PeerId leader = peers.wait_for_leader();
  CHECK(peers.propose(leader, "the last"));
  peers.run(20);
  for (const PeerId peer : peers.ids()) {
    CHECK(peers.applied(peer, "the last"));
    CHECK(peers.applied(peer) == peers.applied(leader));
  }
}

TEST_CASE("150 seeds of lost, doubled and reordered messages, cuts, crashes and slow disks") {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) run_chaos(seed);
}

}  // namespace
}  // namespace orchestra::store::test
