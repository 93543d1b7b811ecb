// RaftCore: members, leadership transfer, snapshots for those who fell behind, flow control, reads of
// followers. One test per rule of sections 3.10, 4 and 5 of the Raft dissertation.
#include "store/raft/codec.hpp"
#include "store/raft/quorum.hpp"
#include "tests/store/raft_peers.hpp"

namespace orchestra::store::test {
namespace {

using Type = MemberChange::Type;

TEST_CASE("joint majorities by brute force over all clusters of up to five peers") {
  // Each peer is in the old half, the new half, both or none, and has voted or not.
  for (unsigned code = 0; code < 4u * 4 * 4 * 4 * 4; ++code) {
    Configuration joint;
    joint.joint = true;
    unsigned rest = code;
    for (std::uint64_t id = 1; id <= 5; ++id, rest /= 4) {
      joint.members.push_back({PeerId{id}, "", "", (rest & 1) != 0, (rest & 2) != 0});
    }
    for (unsigned yes = 0; yes < 32; ++yes) {
      unsigned now = 0, now_yes = 0, before = 0, before_yes = 0;
      std::map<PeerId, bool> votes;
      for (const Member& member : joint.members) {
        const bool granted = (yes >> (member.id.value - 1) & 1) != 0;
        votes[member.id] = granted;
        now += member.voter;
        now_yes += member.voter && granted;
        before += member.was_voter;
        before_yes += member.was_voter && granted;
      }
      const bool both = now_yes > now / 2 && before_yes > before / 2;
      REQUIRE(has_quorum(joint, [&](PeerId id) { return votes[id]; }) == both);
      REQUIRE((count_votes(joint, votes) == VoteCount::won) == both);
    }
  }
}

TEST_CASE("a learner receives everything and decides nothing") {
  Peers peers(1, 1);
  const PeerId leader = peers.wait_for_leader();
  for (int i = 0; i < 5; ++i) CHECK(peers.propose(leader, std::to_string(i)));
  peers.run(2);
  peers.add_machine(PeerId{2});
  REQUIRE(peers.change(leader, Type::add_learner, PeerId{2}).has_value());
  peers.run(10);
  CHECK(peers.applied(PeerId{2}) == peers.applied(leader));
  peers.cut_off.insert(PeerId{2});
  CHECK(peers.propose(leader, "alone"));
  peers.run(3);
  CHECK(peers.applied(leader, "alone"));
  peers.run(100);  // a learner never campaigns, and its silence deposes nobody
  CHECK(peers.core(leader).role() == Role::leader);
  CHECK(peers.core(PeerId{2}).term() == peers.core(leader).term());
}

TEST_CASE("all who have stored entries are marked as having begun, though nothing more is written") {
  for (int round = 0; round < 20; ++round) {
    Peers peers(3, 1 + static_cast<std::uint64_t>(round));
    const PeerId leader = peers.wait_for_leader();
    // Slow enough that its first answer comes while the mark of the other one is under way.
    const PeerId slow = peers.other_than(leader);
    peers.slow_disks.insert(slow);
    peers.run(1 + round % 5);
    peers.slow_disks.erase(slow);
    peers.run(30);
    REQUIRE(peers.leader() == leader);
    for (const Member& member : peers.core(leader).configuration().members) CHECK(member.started);
  }
}

TEST_CASE("one peer grows to three by learners and promotion, and shrinks again, while it serves") {
  Peers peers(1, 2);
  PeerId leader = peers.wait_for_leader();
  for (const std::uint64_t id : {2u, 3u}) {
    peers.add_machine(PeerId{id});
    REQUIRE(peers.change(leader, Type::add_learner, PeerId{id}).has_value());
    peers.run(10);
    CHECK(peers.propose(leader, "before " + std::to_string(id)));
    peers.run(5);
    auto promoted = peers.change(leader, Type::promote, PeerId{id});
    REQUIRE_MESSAGE(promoted.has_value(), (promoted ? "" : promoted.error().to_string()));
    peers.run(10);
    CHECK_FALSE(peers.core(leader).configuration().joint);
    CHECK(peers.core(leader).configuration().votes(PeerId{id}));
  }
  CHECK(peers.propose(leader, "three"));
  peers.run(3);
  for (const PeerId id : peers.ids()) CHECK(peers.applied(id, "three"));
  // Three peers live through the loss of one.
  peers.crash(leader);
  const PeerId next = peers.wait_for_leader();
  CHECK(next != leader);
  peers.restart(leader);
  peers.run(20);
  REQUIRE(peers.change(next, Type::remove, leader).has_value());
  peers.run(10);
  CHECK(peers.core(next).configuration().find(leader) == nullptr);
  CHECK(peers.propose(next, "two"));
  peers.run(3);
  CHECK(peers.applied(next, "two"));
}

TEST_CASE("one change at a time, and none before the leader has committed an entry of its term") {
  Peers peers(3, 3);
  PeerId leader = peers.wait_for_leader();
  peers.run(5);
  for (const PeerId id : peers.ids()) {
    if (id != leader) peers.cut_off.insert(id);
  }
  REQUIRE(peers.change(leader, Type::add_learner, PeerId{9}).has_value());
  auto second = peers.change(leader, Type::add_learner, PeerId{8});
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().is(Error::busy));
  peers.cut_off.clear();
  peers.run(20);
  // A new leader whose first entry cannot be committed changes nothing.
  leader = peers.wait_for_leader();
  peers.filter = [](const Message& message) { return message.type != MessageType::append_answer; };
  peers.crash(leader);
  std::optional<PeerId> fresh;
  for (int i = 0; i < 100 && !fresh; ++i) {
    peers.run(1);
    fresh = peers.leader();
  }
  REQUIRE(fresh.has_value());
  auto early = peers.change(*fresh, Type::add_learner, PeerId{7});
  REQUIRE_FALSE(early.has_value());
  CHECK(early.error().is(Error::unavailable));
}

TEST_CASE("a bad change names the peer and the reason, and appends nothing") {
  Peers peers(3, 4);
  const PeerId leader = peers.wait_for_leader();
  peers.run(5);
  const Index before = peers.core(leader).last_index();
  const auto code = [](const auto& result) { return result ? Error::Code{} : result.error().code(); };
  CHECK(code(peers.change(leader, Type::remove, PeerId{77})) == Error::not_found);
  CHECK(code(peers.change(leader, Type::promote, PeerId{77})) == Error::not_found);
  CHECK(code(peers.change(leader, Type::promote, PeerId{1})) == Error::conflict);
  CHECK(code(peers.change(leader, Type::add_voter, PeerId{2})) == Error::already_exists);
  CHECK(code(peers.core(leader).change_membership({Type::add_learner, {PeerId{9}, "p1", "elsewhere:1"}})) ==
        Error::already_exists);
  CHECK(code(peers.change(peers.other_than(leader), Type::remove, PeerId{1})) == Error::not_leader);
  CHECK(peers.core(leader).last_index() == before);
}

TEST_CASE("an id is given to a disk once, by an entry that needs a majority without that disk") {
  Peers peers(3, 31);
  const PeerId leader = peers.wait_for_leader();
  peers.run(5);
  REQUIRE(peers.change(leader, Type::add_voter, PeerId{4}).has_value());
  peers.run(10);
  for (const PeerId id : peers.ids()) {
    if (id != leader) peers.cut_off.insert(id);
  }
  REQUIRE(peers.change(leader, Type::start, PeerId{4}).has_value());
  const Index mark = peers.core(leader).last_index();
  peers.run(3);
  CHECK(peers.core(leader).commit() < mark);
  peers.cut_off.clear();
  peers.run(20);
  const PeerId leads = peers.wait_for_leader();
  CHECK(peers.core(leads).commit() >= mark);
  for (const PeerId id : peers.ids()) CHECK(peers.core(id).configuration().find(PeerId{4})->started);
  auto again = peers.change(leads, Type::start, PeerId{4});
  REQUIRE_FALSE(again.has_value());
  CHECK(again.error().is(Error::already_exists));
}

TEST_CASE("a peer that was never started is needed for no majority, also by force") {
  Peers peers(1, 32);
  const PeerId leader = peers.wait_for_leader();
  const Index before = peers.core(leader).last_index();
  auto forced = peers.change(leader, Type::add_voter, PeerId{2}, true);
  REQUIRE_FALSE(forced.has_value());
  CHECK(forced.error().message().find("learner") != std::string::npos);
  CHECK(peers.core(leader).last_index() == before);
  REQUIRE(peers.change(leader, Type::add_learner, PeerId{2}).has_value());
  peers.run(3);
  auto early = peers.change(leader, Type::promote, PeerId{2}, true);
  REQUIRE_FALSE(early.has_value());
  CHECK(early.error().is(Error::unavailable));
  CHECK(early.error().message().find("never been started") != std::string::npos);
  peers.add_machine(PeerId{2});
  peers.run(10);
  CHECK(peers.change(leader, Type::promote, PeerId{2}).has_value());
}

/// The founder of three, elected by what this test answers in the others' names.
struct Founder {
  RaftCore core;
  std::vector<Entry> log;
  StoredReceipt unstored;
  explicit Founder(std::vector<Entry> entries, HardState state)
      : core({.self = PeerId{1}}, RaftStart{state, {}, {}, {}, entries}), log(std::move(entries)) {}
  static std::vector<Entry> founded() {
    Configuration three = voters_of({PeerId{1}, PeerId{2}, PeerId{3}});
    for (Member& member : three.members) member.started = member.id == PeerId{1};
    return {{Term{1}, Index{1}, EntryType::configuration,
             std::make_shared<const std::string>(encode_configuration(three))}};
  }
  /// Appends that left; `syncs`: all that it wanted to store is stored.
  std::size_t go(bool syncs) {
    std::size_t appends = 0;
    if (syncs) core.report_stored(unstored);
    for (int i = 0; i < 200; ++i) {
      core.tick();
      Ready ready = core.take_ready();
      const bool votes = core.role() != Role::leader;
      if (ready.must_store()) unstored = ready.receipt;
      if (ready.must_store() && (syncs || votes)) core.report_stored(ready.receipt);
      for (auto* list : {&ready.messages_now, &ready.messages_after_sync}) {
        for (const Message& message : *list) {
          appends += message.type == MessageType::append;
          Message answer;
          answer.from = message.to;
          answer.to = PeerId{1};
          answer.term = message.term;
          answer.type = message.type == MessageType::pre_vote    ? MessageType::pre_vote_answer
                        : message.type == MessageType::vote      ? MessageType::vote_answer
                        : message.type == MessageType::heartbeat ? MessageType::heartbeat_answer
                                                                 : MessageType::snapshot;
          if (answer.type != MessageType::snapshot) core.step(answer);
        }
      }
    }
    return appends;
  }
};

TEST_CASE("a founder knows for ever that it has led: no append leaves before it has stored its first entry") {
  Founder founder(Founder::founded(), {Term{1}, {}, {}});
  CHECK(founder.core.founding());
  CHECK(founder.go(false) == 0);
  REQUIRE(founder.core.role() == Role::leader);
  CHECK_FALSE(founder.core.founding());
  CHECK(founder.go(true) > 0);
  // What a crash leaves then says so; one that comes before it leaves a founder that has told nobody
  // anything.
  std::vector<Entry> led = Founder::founded();
  led.push_back({Term{2}, Index{2}, EntryType::empty, nullptr});
  CHECK_FALSE(Founder(led, {Term{2}, PeerId{1}, {}}).core.founding());
  CHECK(Founder(Founder::founded(), {Term{2}, PeerId{1}, {}}).core.founding());
}

TEST_CASE("a follower that has nothing but the founding entry is not the founder") {
  auto entries = Founder::founded();
  const RaftCore follower({.self = PeerId{2}}, RaftStart{{Term{2}, {}, {}}, {}, {}, {}, entries});
  CHECK_FALSE(follower.founding());
}

TEST_CASE("a change that would lose the quorum among those who answer is refused unless forced") {
  Peers peers(3, 5);
  const PeerId leader = peers.wait_for_leader();
  peers.run(5);
  const PeerId gone = peers.other_than(leader);
  const PeerId there = peers.third(leader, gone);
  peers.crash(gone);
  peers.run(20);
  auto refused = peers.change(leader, Type::remove, there);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().is(Error::unavailable));
  CHECK(refused.error().message().find("p" + std::to_string(gone.value)) != std::string::npos);
  CHECK(peers.change(leader, Type::remove, gone).has_value());  // the dead one may go
  peers.run(10);
  CHECK(peers.core(leader).configuration().members.size() == 2);
}

TEST_CASE("a leader that removes itself steps down when that is committed, and its cluster goes on") {
  Peers peers(3, 6);
  const PeerId leader = peers.wait_for_leader();
  peers.run(5);
  REQUIRE(peers.change(leader, Type::remove, leader).has_value());
  peers.run(3);
  CHECK(peers.core(leader).role() != Role::leader);
  peers.run(10);
  const PeerId next = *peers.leader();
  CHECK(next != leader);
  CHECK(peers.core(next).configuration().find(leader) == nullptr);
  const Term term = peers.core(next).term();
  peers.run(100);  // the removed one does not disturb
  CHECK(peers.core(next).role() == Role::leader);
  CHECK(peers.core(next).term() == term);
  CHECK(peers.propose(next, "on"));
  peers.run(3);
  CHECK(peers.applied(next, "on"));
}

TEST_CASE("a configuration that is cut off with its entry does not count any more") {
  Peers peers(3, 7);
  const PeerId old_leader = peers.wait_for_leader();
  peers.run(5);
  peers.cut_off.insert(old_leader);
  REQUIRE(peers.change(old_leader, Type::add_learner, PeerId{9}).has_value());
  CHECK(peers.core(old_leader).configuration().find(PeerId{9}) != nullptr);
  const PeerId next = peers.wait_for_leader();
  CHECK(peers.propose(next, "other"));
  peers.run(3);
  peers.cut_off.clear();
  peers.run(20);
  CHECK(peers.applied(old_leader, "other"));
  CHECK(peers.core(old_leader).configuration().find(PeerId{9}) == nullptr);
}

TEST_CASE("the configuration survives compaction of the log that held it, and a restart") {
  Peers peers(3, 8);
  PeerId leader = peers.wait_for_leader();
  peers.run(5);
  peers.add_machine(PeerId{4});
  REQUIRE(peers.change(leader, Type::add_voter, PeerId{4}).has_value());
  peers.run(20);
  for (int i = 0; i < 30; ++i) {
    CHECK(peers.propose(leader, std::to_string(i)));
    peers.run(1);
  }
  for (const PeerId id : peers.ids()) {
    peers.compact(id);
    peers.crash(id);
  }
  for (const PeerId id : peers.ids()) peers.restart(id);
  leader = peers.wait_for_leader();
  CHECK(peers.core(leader).configuration().votes(PeerId{4}));
  CHECK(peers.propose(leader, "after"));
  peers.run(20);
  for (const PeerId id : peers.ids()) CHECK(peers.applied(id, "after"));
}

TEST_CASE("a follower whose entries are gone from the leader's log gets a snapshot and goes on") {
  Peers peers(3, 9);
  const PeerId leader = peers.wait_for_leader();
  const PeerId away = peers.other_than(leader);
  peers.cut_off.insert(away);
  for (int i = 0; i < 40; ++i) {
    CHECK(peers.propose(leader, std::to_string(i)));
    peers.run(1);
  }
  CHECK(peers.core(leader).base_index().value > 20);
  peers.cut_off.clear();
  peers.run(20);
  CHECK(peers.snapshots_taken_in(away) >= 1);
  CHECK(peers.applied(away) == peers.applied(leader));
  CHECK(peers.propose(leader, "next"));
  peers.run(3);
  CHECK(peers.applied(away, "next"));
  peers.crash(away);
  peers.restart(away);
  peers.run(20);
  CHECK(peers.applied(away) == peers.applied(leader));
}

TEST_CASE("a leader that does not know how far a follower is asks it before it sends a snapshot") {
  Peers peers(3, 33);
  const PeerId old_leader = peers.wait_for_leader();
  for (int i = 0; i < 40; ++i) {
    CHECK(peers.propose(old_leader, std::to_string(i)));
    peers.run(1);
  }
  const PeerId leader = peers.other_than(old_leader), follower = peers.third(old_leader, leader);
  peers.run(5);
  REQUIRE(peers.core(leader).base_index().value > 20);
  REQUIRE(peers.core(old_leader).transfer_leadership(leader).has_value());
  peers.filter = [&](const Message& message) {
    return message.from != follower || message.type != MessageType::append_answer;
  };
  peers.settle();
  REQUIRE(peers.core(leader).role() == Role::leader);
  peers.core(leader).report_unreachable(follower);
  peers.run(5);
  CHECK(peers.core(leader).progress()[follower].state == std::string("probe"));
  peers.filter = {};
  CHECK(peers.propose(leader, "on"));
  peers.run(10);
  CHECK(peers.applied(follower, "on"));
  CHECK(peers.snapshots_taken_in(follower) == 0);
}

TEST_CASE("leadership is handed over at once, without losing a write, and a dead target costs one timeout") {
  Peers peers(3, 10);
  const PeerId leader = peers.wait_for_leader();
  peers.run(5);
  const PeerId heir = peers.other_than(leader);
  CHECK(peers.propose(leader, "before"));
  REQUIRE(peers.core(leader).transfer_leadership(heir).has_value());
  CHECK_FALSE(peers.propose(leader, "during"));
  peers.settle();
  CHECK(peers.core(heir).role() == Role::leader);
  CHECK(peers.propose(heir, "after"));
  peers.run(3);
  CHECK(peers.applied(leader, "before"));
  CHECK(peers.applied(leader, "after"));
  // Target cannot be reached: serving resumes after one election timeout.
  peers.filter = [](const Message& message) { return message.type != MessageType::timeout_now; };
  REQUIRE(peers.core(heir).transfer_leadership(leader).has_value());
  CHECK(peers.core(heir).transfer_leadership(leader).error().is(Error::busy));
  peers.run(10);
  CHECK(peers.core(heir).role() == Role::leader);
  CHECK(peers.propose(heir, "again"));
  CHECK(peers.core(heir).transfer_leadership(PeerId{77}).error().is(Error::invalid));
}

TEST_CASE("a follower reads through its leader, and reads that come together share one round") {
  Peers peers(3, 11);
  const PeerId leader = peers.wait_for_leader();
  const PeerId follower = peers.other_than(leader);
  REQUIRE(peers.core(follower).read_index(5).has_value());
  peers.settle();
  auto reads = peers.take_reads(follower);
  REQUIRE(reads.size() == 1);
  CHECK(reads[0].context == 5);
  CHECK(reads[0].index == peers.core(leader).commit());
  int beats = 0;
  peers.filter = [&](const Message& message) {
    beats += message.type == MessageType::heartbeat;
    return true;
  };
  for (std::uint64_t i = 0; i < 1000; ++i) REQUIRE(peers.core(leader).read_index(i).has_value());
  peers.settle();
  CHECK(peers.take_reads(leader).size() == 1000);
  CHECK(beats <= 4);  // two rounds to two peers
}

TEST_CASE("a slow peer holds no more in flight than its window") {
  Peers peers(3, 12);
  peers.options.inflight_messages_max = 4;
  peers.options.append_bytes_max = 10;
  for (const PeerId id : peers.ids()) {
    peers.crash(id);
    peers.restart(id);
  }
  const PeerId leader = peers.wait_for_leader();
  peers.run(3);
  std::map<PeerId, int> unanswered;
  peers.filter = [&](const Message& message) {
    if (message.type == MessageType::append && !message.entries.empty()) ++unanswered[message.to];
    return message.type != MessageType::append_answer;
  };
  for (int i = 0; i < 100; ++i) {
    CHECK(peers.propose(leader, "0123456789"));
    peers.settle();
  }
  for (const auto& [peer, count] : unanswered) CHECK(count <= 4);
}

TEST_CASE("a follower that hears its peers but not the leader causes no election for a hundred timeouts") {
  Peers peers(3, 13);
  const PeerId leader = peers.wait_for_leader();
  const PeerId deaf = peers.other_than(leader);
  peers.cut_one_way.insert({leader, deaf});
  const Term term = peers.core(leader).term();
  peers.run(700);
  CHECK(peers.core(leader).role() == Role::leader);
  CHECK(peers.core(leader).term() == term);
  CHECK(peers.propose(leader, "still"));
  peers.run(3);
  CHECK(peers.applied(leader, "still"));
}

TEST_CASE("a reset connection to the leader starts an early pre-vote, which a living leader survives") {
  Peers peers(3, 14);
  PeerId leader = peers.wait_for_leader();
  peers.run(5);
  const Term term = peers.core(leader).term();
  const PeerId follower = peers.other_than(leader);
  peers.core(follower).report_reset(leader);
  peers.run(6);
  CHECK(peers.core(leader).role() == Role::leader);
  CHECK(peers.core(leader).term() == term);
  // The leader is really gone: both notice, and need no election timeout.
  peers.crash(leader);
  for (const PeerId id : peers.ids()) {
    if (id != leader) peers.core(id).report_reset(leader);
  }
  peers.run(6);
  CHECK(peers.leader().has_value());
}

TEST_CASE("a term that was voted in is remembered over a crash: nobody gets a second vote") {
  Peers peers(3, 15);
  const PeerId leader = peers.wait_for_leader();
  const Term term = peers.core(leader).term();
  for (const PeerId id : peers.ids()) {
    CHECK(peers.hard(id).term == term);
    peers.crash(id);
    peers.restart(id);
    Message ask;
    ask.type = MessageType::vote;
    ask.from = peers.third(id, peers.hard(id).vote);
    ask.to = id;
    ask.term = term;
    ask.log_term = Term{99};
    ask.index = Index{99};
    if (peers.hard(id).vote.value == 0) continue;
    peers.core(id).step(ask);
    const Ready ready = peers.core(id).take_ready();
    bool granted = false;
    for (const Message& message : ready.messages_after_sync)
      granted |= message.type == MessageType::vote_answer && !message.reject;
    CHECK_FALSE(granted);
  }
}

TEST_CASE("messages and configurations survive their encoding, and damage is an error") {
  Message message;
  message.type = MessageType::snapshot;
  message.from = PeerId{7};
  message.to = PeerId{8};
  message.term = Term{300};
  message.index = Index{1u << 20};
  message.log_term = Term{299};
  message.reject = message.transfer = true;
  message.configuration = voters_of({PeerId{7}, PeerId{8}});
  message.configuration->joint = true;
  message.entries.push_back({Term{299}, Index{(1u << 20) + 1}, EntryType::command,
                             std::make_shared<const std::string>(std::string("x\0y", 3))});
  const std::string bytes = encode_message(message);
  auto back = decode_message(bytes);
  REQUIRE(back.has_value());
  CHECK(encode_message(*back) == bytes);
  CHECK(back->configuration == message.configuration);
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) CHECK_FALSE(decode_message(bytes.substr(0, cut)));
}

/// Faults and membership changes together.
void run_member_chaos(std::uint64_t seed) {
  CAPTURE(seed);
  Peers peers(3, seed);
  sim::SimRandom& random = peers.random();
  peers.faults.lose_percent = static_cast<unsigned>(random.below(20));
  peers.faults.double_percent = static_cast<unsigned>(random.below(30));
  peers.faults.reorder = random.below(2) == 0;
  std::uint64_t next_id = 4;
  for (int round = 0; round < 150; ++round) {
    peers.run(1 + static_cast<int>(random.below(4)));
    const PeerId someone = peers.ids()[random.below(peers.ids().size())];
    switch (random.below(9)) {
      case 0:
        peers.cut_off.insert(someone);
        break;
      case 1:
        peers.cut_off.clear();
        break;
      case 2:
        if (!peers.down(someone)) peers.crash(someone);
        break;
      case 3:
        if (!peers.down(someone)) peers.compact(someone);
        break;
      case 4:
        for (const PeerId peer : peers.ids()) {
          if (peers.down(peer)) peers.restart(peer);
        }
        break;
      default:
        break;
    }
    const auto leader = peers.leader();
    if (!leader) continue;
    peers.propose(*leader, std::to_string(round));
    switch (random.below(6)) {
      case 0:
        if (peers.ids().size() < 8 && peers.change(*leader, Type::add_learner, PeerId{next_id}))
          peers.add_machine(PeerId{next_id++});
        break;
      case 1:
        (void)peers.change(*leader, Type::promote, someone);
        break;
      case 2:
        (void)peers.change(*leader, Type::remove, someone);
        break;
      case 3:
        (void)peers.core(*leader).transfer_leadership(someone);
        break;
      default:
        break;
    }
  }
  peers.faults = {};
  peers.cut_off.clear();
  for (const PeerId peer : peers.ids()) {
    if (peers.down(peer)) peers.restart(peer);
  }
  const PeerId leader = peers.wait_for_leader();
  peers.run(30);
  CHECK(peers.propose(leader, "the last"));
  peers.run(30);
  for (const Member& member : peers.core(leader).configuration().members) {
    CHECK(peers.applied(member.id, "the last"));
    CHECK(peers.applied(member.id) == peers.applied(leader));
  }
}

TEST_CASE("150 seeds of faults with members coming, going and being promoted, and leaders handed over") {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) run_member_chaos(seed);
}

}  // namespace
}  // namespace orchestra::store::test
