// The checks of store_audit.hpp.
#include "sim/store_audit.hpp"

#include <algorithm>

#include "store/raft/codec.hpp"
#include "store/raft/quorum.hpp"
#include "store/transport/peer_wire.hpp"

namespace orchestra::sim {
namespace {

using store::Configuration;
using store::FrameKind;
using store::Member;
using store::Message;
using store::MessageType;
using store::RaftCore;
using store::Role;

/// Slowest clock of a simulation, election timeout, and some for the messages that were under way.
constexpr std::int64_t kSilenceMax = 3'000'000'000;
constexpr std::size_t kMessageAt = 17;  ///< kind and cluster id come first

std::string shown(store::Index index) { return std::to_string(index.value); }
std::string shown(store::Term term) { return std::to_string(term.value); }

bool same_voters(const Configuration& a, bool Member::*half_a, const Configuration& b, bool Member::*half_b) {
  const auto within = [](const Configuration& x, bool Member::*half_x, const Configuration& y,
                         bool Member::*half_y) {
    return std::all_of(x.members.begin(), x.members.end(), [&](const Member& member) {
      const Member* other = y.find(member.id);
      return !(member.*half_x) || (other != nullptr && other->*half_y);
    });
  };
  return within(a, half_a, b, half_b) && within(b, half_b, a, half_a);
}

}  // namespace

void StoreAudit::violated(PeerId peer, const std::string& what) const {
  violated_("peer " + std::to_string(peer.value) + " " + what);
}

bool StoreAudit::holds(PeerId peer, Index index, Term term) const {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return false;
  const auto& terms = found->second.disk.terms;
  return index.value <= terms.size() && (terms[index.value - 1] == term || terms[index.value - 1].value == 0);
}

void StoreAudit::on_append(PeerId peer, const store::LogBatch& batch, bool stored) {
  if (peers_[peer].lost) return;
  OnDisk& disk = peers_[peer].disk;
  if (!stored) {
    // It may reach the disk without the entries of its batch.
    if (batch.hard_state && !batch.entries.empty() && batch.hard_state->commit >= batch.entries.front().index)
      violated(peer,
               "stores that entry " + shown(batch.hard_state->commit) + " is committed together with it");
    disk.writing = batch;
    return;
  }
  disk.writing.reset();
  if (batch.hard_state) {
    if (batch.hard_state->term < disk.term)
      violated(peer, "went back from term " + shown(disk.term) + " to " + shown(batch.hard_state->term));
    if (batch.hard_state->term == disk.term && disk.vote.value != 0 && batch.hard_state->vote != disk.vote)
      violated(peer, "changed its vote of term " + shown(disk.term));
    disk.term = batch.hard_state->term;
    disk.vote = batch.hard_state->vote;
  }
  const bool replaces =
      batch.snapshot && batch.install && !holds(peer, batch.snapshot->index, batch.snapshot->term);
  if (replaces) disk.terms.assign(batch.snapshot->index.value, Term{});
  for (const store::Entry& entry : batch.entries) {
    if (entry.index.value > disk.terms.size() + 1 && !peers_[peer].opening) {
      violated(peer, "left a gap in its log before entry " + shown(entry.index));
      return;
    }
    disk.terms.resize(entry.index.value - 1);
    disk.terms.push_back(entry.term);
  }
}

void StoreAudit::on_frame(std::string_view frame, bool arrived, std::int64_t now_ns) {
  if (frame.size() <= kMessageAt || frame[0] != static_cast<char>(FrameKind::message)) return;
  const auto type = static_cast<MessageType>(frame[kMessageAt]);
  const bool answers = type == MessageType::append_answer || type == MessageType::heartbeat_answer;
  const bool promises =
      type == MessageType::vote || type == MessageType::vote_answer || type == MessageType::append_answer;
  if (arrived ? !answers : !promises) return;
  const auto message = store::decode_message(frame.substr(kMessageAt));
  if (!message) return violated_("a peer sent a malformed message");
  if (arrived) {
    peers_[message->to].heard_ns[message->from] = now_ns;
    return;
  }
  const PeerId from = message->from;
  if (peers_[from].lost) return;
  const OnDisk& disk = peers_[from].disk;
  if (disk.term > message->term) return;  // what it said in an older term binds it no more
  if (type == MessageType::append_answer) {
    if (message->reject) return;
    if (disk.term < message->term || message->index.value > disk.terms.size())
      violated(from, "acknowledged entry " + shown(message->index) + " of term " + shown(message->term) +
                         ", which is not on its disk");
    return;
  }
  if (message->reject) return;
  const PeerId vote = type == MessageType::vote ? from : message->to;
  if (disk.term != message->term || disk.vote != vote)
    violated(from, "gave a vote in term " + shown(message->term) + " that is not on its disk");
}

void StoreAudit::opened(PeerId peer, const RaftCore& core) {
  Peer& known = peers_[peer];
  const OnDisk& disk = known.disk;
  known.looked = known.counted = {};
  known.leads = {};
  known.opening = false;
  known.changes = ~std::uint64_t{0};
  known.heard_ns.clear();
  if (known.lost) return;
  if (core.term() < disk.term ||
      (core.term() == disk.term && disk.vote.value != 0 && core.vote() != disk.vote))
    violated(peer, "came back without the vote of term " + shown(disk.term) + " that it had stored");
  // A batch that was being written may be there or not, and then replaces what it overwrote.
  Index certain{disk.terms.size()};
  if (disk.writing && !disk.writing->entries.empty())
    certain = std::min(certain, Index{disk.writing->entries.front().index.value - 1});
  if (disk.writing && disk.writing->snapshot) certain = std::min(certain, disk.writing->snapshot->index);
  if (core.last_index() < certain)
    return violated(peer, "came back with " + shown(core.last_index()) + " entries of " + shown(certain) +
                              " that it had stored");
  for (Index index{core.base_index().value + 1}; index <= certain; ++index.value) {
    if (!holds(peer, index, core.term_at(index)))
      return violated(peer, "came back with another entry " + shown(index));
  }
  // From here on what is there counts.
  OnDisk now;
  now.term = core.term();
  now.vote = core.vote();
  now.terms.assign(core.base_index().value, Term{});
  for (Index index{core.base_index().value + 1}; index <= core.last_index(); ++index.value)
    now.terms.push_back(core.term_at(index));
  known.disk = std::move(now);
}

void StoreAudit::look(PeerId peer, const RaftCore& core, std::int64_t now_ns) {
  Peer& known = peers_[peer];
  if (known.changes != core.configuration_changes()) {
    known.changes = core.configuration_changes();
    known.members_ns = now_ns;
    check_members(peer, core);
  }
  if (core.commit() > known.looked) {
    Index index{std::max(known.looked.value, core.base_index().value) + 1};
    for (; index <= core.commit(); ++index.value) {
      if (committed_.size() < index.value) {
        committed_.resize(index.value);
        committed_seen_.resize(index.value);
      }
      Term& agreed = committed_[index.value - 1];
      const Term here = core.term_at(index);
      if (agreed.value == 0) {
        agreed = here;
        committed_seen_[index.value - 1] = core.term();
      }
      if (agreed != here)
        violated(peer, "committed entry " + shown(index) + " of term " + shown(here) +
                           ", where that of term " + shown(agreed) + " was committed");
    }
    known.looked = core.commit();
  }
  if (core.role() == Role::leader) {
    check_leader(peer, known, core, now_ns);
  } else {
    known.leads = {};
  }
}

void StoreAudit::check_leader(PeerId peer, Peer& known, const RaftCore& core, std::int64_t now_ns) {
  if (known.leads != core.term()) {
    known.leads = core.term();
    known.led_ns = now_ns;
    known.counted = {};
    const auto voted = [&](PeerId id) {
      const OnDisk& disk = peers_[id].disk;  // in a later term: what it had said is not there any more
      return disk.term > core.term() || (disk.term == core.term() && disk.vote == peer);
    };
    if (!store::has_quorum(core.configuration(), voted))
      violated(peer, "leads term " + shown(core.term()) + " without the votes of a majority");
    // Of what was committed before its term: one that slept may win an election that others have left behind.
    Index last{committed_.size()};
    while (last.value > 0 && (committed_[last.value - 1].value == 0 ||  // nobody looked at it
                              committed_seen_[last.value - 1] >= core.term()))
      --last.value;
    if (core.last_index() < last || (last > core.base_index() && committed_[last.value - 1].value != 0 &&
                                     core.term_at(last) != committed_[last.value - 1]))
      violated(peer, "leads term " + shown(core.term()) + " without the committed entry " + shown(last));
  }
  if (core.commit() > known.counted && core.serving()) {
    const auto stored = [&](const Configuration& configuration) {
      return store::has_quorum(configuration,
                               [&](PeerId id) { return holds(id, core.commit(), core.term()); });
    };
    // The latest members in the log counted; those as of the entry counted before they came.
    if (!stored(core.configuration()) && !stored(core.configuration_at(core.commit())))
      violated(peer, "committed entry " + shown(core.commit()) + ", which is not on the disks of a majority");
    known.counted = core.commit();
  } else if (core.commit() > known.counted) {
    // Only what it knew before it led, or what it learned then, may be of an older term.
    if (known.counted.value != 0)
      violated(peer, "committed entry " + shown(core.commit()) + " of an older term by counting");
    known.counted = core.commit();
  }
  const std::int64_t since = std::max({known.led_ns, known.awake_ns, known.members_ns});
  if (now_ns - since <= kSilenceMax) return;
  const bool hears = store::has_quorum(core.configuration(), [&](PeerId id) {
    const auto heard = known.heard_ns.find(id);
    return id == peer || (heard != known.heard_ns.end() && now_ns - heard->second <= kSilenceMax);
  });
  if (!hears) violated(peer, "leads on although it has heard no majority for 3 s");
}

void StoreAudit::check_members(PeerId peer, const RaftCore& core) {
  const auto& all = core.configurations();
  for (std::size_t i = 1; i < all.size(); ++i) {
    const Configuration& before = all[i - 1].what;
    const Configuration& after = all[i].what;
    if (before.members.empty()) continue;  // the first entry founds the cluster
    const auto half = after.joint ? &Member::was_voter : &Member::voter;
    if (before.joint && after.joint) return violated(peer, "has two joint configurations in a row");
    if (!same_voters(before, &Member::voter, after, half))
      return violated(peer, "changed voters in one step at entry " + shown(all[i].index));
  }
  if (!core.serving()) return;
  const auto open =
      std::count_if(all.begin(), all.end(), [&](const auto& placed) { return placed.index > core.commit(); });
  if (open > 1) violated(peer, "began a second change of members before the first was committed");
}

}  // namespace orchestra::sim
