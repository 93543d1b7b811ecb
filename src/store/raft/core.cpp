// RaftCore: roles, elections, proposals, what is ready. Replication and reads are in replication.cpp.
#include "store/raft/core.hpp"

#include <algorithm>

namespace orchestra::store {

const char* to_string(Role role) {
  switch (role) {
    case Role::follower:
      return "follower";
    case Role::pre_candidate:
      return "pre-candidate";
    case Role::candidate:
      return "candidate";
    case Role::leader:
      return "leader";
  }
  return "?";
}

RaftCore::RaftCore(RaftOptions options, RaftStart start)
    : options_(std::move(options)),
      log_(start.snapshot_index, start.snapshot_term, std::move(start.entries)),
      hard_(start.hard_state),
      random_(options_.seed ^ (options_.self.value * 0x9E3779B97F4A7C15ull)) {
  ORC_ASSERT(options_.election_ticks_min > options_.heartbeat_ticks);
  ORC_ASSERT(options_.election_ticks_max >= options_.election_ticks_min);
  // The stored commit index is advisory: never beyond the log, never before the snapshot.
  hard_.commit = std::clamp(hard_.commit, start.snapshot_index, log_.last());
  taken_hard_ = hard_;
  taken_ = stored_ = log_.last();
  handed_ = applied_ = start.snapshot_index;
  draw_election_timeout();
  if (alone()) campaign(false);  // nobody else could win: no election wait
}

void RaftCore::draw_election_timeout() {
  random_ += 0x9E3779B97F4A7C15ull;  // splitmix64 (Steele, Lea, Flood 2014)
  std::uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  const unsigned span = options_.election_ticks_max - options_.election_ticks_min + 1;
  election_timeout_ = options_.election_ticks_min + static_cast<unsigned>((z ^ (z >> 31)) % span);
}

void RaftCore::tick() {
  ++elapsed_;
  if (role_ == Role::leader) return tick_leader();
  if (elapsed_ < election_timeout_) return;
  if (std::find(options_.voters.begin(), options_.voters.end(), options_.self) == options_.voters.end())
    return;
  campaign(!alone());
}

void RaftCore::tick_leader() {
  if (elapsed_ >= options_.heartbeat_ticks) {
    elapsed_ = 0;
    if (!alone()) broadcast_heartbeat();
  }
  if (++quorum_elapsed_ < options_.election_ticks_min) return;
  quorum_elapsed_ = 0;
  std::size_t active = 0;
  for (auto& [peer, progress] : progress_) {
    if (peer == options_.self || std::exchange(progress.active, false)) ++active;
  }
  if (active < majority()) become_follower(hard_.term, {});
}

void RaftCore::become_follower(Term term, PeerId leader) {
  ORC_ASSERT(term >= hard_.term);
  if (term > hard_.term) {
    hard_.term = term;
    hard_.vote = {};
  }
  role_ = Role::follower;
  leader_ = leader;
  elapsed_ = 0;
  votes_.clear();
  progress_.clear();
  pending_reads_.clear();
  early_reads_.clear();
  draw_election_timeout();
}

/// A pre-campaign asks whether a campaign could succeed, and changes no term.
void RaftCore::campaign(bool pre) {
  leader_ = {};
  elapsed_ = 0;
  draw_election_timeout();
  votes_.clear();
  role_ = pre ? Role::pre_candidate : Role::candidate;
  if (!pre) {
    ++hard_.term.value;
    hard_.vote = options_.self;
  }
  if (pre) votes_[options_.self] = true;  // the own real vote counts when it is stored
  Message ask;
  ask.type = pre ? MessageType::pre_vote : MessageType::vote;
  ask.term = pre ? Term{hard_.term.value + 1} : hard_.term;
  ask.index = log_.last();
  ask.log_term = log_.last_term();
  for (const PeerId peer : options_.voters) {
    if (peer == options_.self) continue;
    ask.to = peer;
    send(ask, true);
  }
}

void RaftCore::count_votes() {
  std::size_t yes = 0;
  std::size_t no = 0;
  for (const auto& [peer, granted] : votes_) ++(granted ? yes : no);
  if (yes >= majority()) {
    if (role_ == Role::pre_candidate) return campaign(false);
    return become_leader();
  }
  if (no >= majority()) become_follower(hard_.term, {});
}

void RaftCore::become_leader() {
  ORC_ASSERT(role_ == Role::candidate);
  role_ = Role::leader;
  leader_ = options_.self;
  elapsed_ = quorum_elapsed_ = 0;
  uncommitted_bytes_ = 0;
  read_round_ = 0;
  progress_.clear();
  for (const PeerId peer : options_.voters) progress_[peer].next = Index{log_.last().value + 1};
  progress_[options_.self].match = stored_;
  append_own(EntryType::empty, nullptr);
}

void RaftCore::append_own(EntryType type, std::shared_ptr<const std::string> data) {
  log_.append({hard_.term, Index{log_.last().value + 1}, type, std::move(data)});
  broadcast_append();
}

Result<ProposalId> RaftCore::propose(std::shared_ptr<const std::string> data) {
  if (role_ != Role::leader) {
    const std::string known =
        leader_.value != 0 ? "peer " + std::to_string(leader_.value) + " is" : "none is known";
    return Error(Error::not_leader, "store",
                 "this peer is not the leader (" + known + "); nothing was applied")
        .with_detail(leader_);
  }
  const std::size_t size = data ? data->size() : 0;
  if (uncommitted_bytes_ > 0 && uncommitted_bytes_ + size > options_.uncommitted_bytes_max) {
    return Error(Error::overloaded, "store",
                 std::to_string(uncommitted_bytes_) + " bytes of writes are not committed yet (limit " +
                     std::to_string(options_.uncommitted_bytes_max) + "); try again later");
  }
  uncommitted_bytes_ += size;
  append_own(EntryType::command, std::move(data));
  return ProposalId{hard_.term, log_.last()};
}

Result<void> RaftCore::change_membership(std::vector<PeerId>) {
  return Error(Error::unsupported, "store",
               "changing the members of a store is not possible in this release");
}
Result<void> RaftCore::transfer_leadership(PeerId to) {
  if (role_ == Role::leader && to == options_.self) return {};
  return Error(Error::unsupported, "store", "handing over leadership is not possible in this release");
}

void RaftCore::send(Message message, bool after_sync) {
  message.from = options_.self;
  if (message.type != MessageType::pre_vote && message.type != MessageType::pre_vote_answer)
    message.term = hard_.term;
  (after_sync ? out_.messages_after_sync : out_.messages_now).push_back(std::move(message));
}

bool RaftCore::up_to_date(const Message& candidate) const {
  if (candidate.log_term != log_.last_term()) return candidate.log_term > log_.last_term();
  return candidate.index >= log_.last();
}

void RaftCore::on_vote_request(const Message& message) {
  const bool pre = message.type == MessageType::pre_vote;
  const bool free_to_vote = pre ? message.term > hard_.term
                                : hard_.vote == message.from || (hard_.vote.value == 0 && leader_.value == 0);
  Message answer;
  answer.type = pre ? MessageType::pre_vote_answer : MessageType::vote_answer;
  answer.to = message.from;
  answer.reject = !(free_to_vote && up_to_date(message));
  answer.term = pre && !answer.reject ? message.term : hard_.term;
  if (!pre && !answer.reject) {
    hard_.vote = message.from;
    elapsed_ = 0;
  }
  send(std::move(answer), true);
}

void RaftCore::on_vote_answer(const Message& message) {
  const Role asked = message.type == MessageType::pre_vote_answer ? Role::pre_candidate : Role::candidate;
  if (role_ != asked) return;
  votes_[message.from] = !message.reject;
  count_votes();
}

void RaftCore::step(const Message& message) {
  ORC_ASSERT(message.to == options_.self);
  const bool asks_vote = message.type == MessageType::pre_vote || message.type == MessageType::vote;
  if (message.term > hard_.term) {
    // A leader was heard lately: whoever campaigns is cut off or mistaken, and must not disturb.
    const bool sticky = leader_.value != 0 && elapsed_ < options_.election_ticks_min;
    if (asks_vote && (sticky || role_ == Role::leader)) return;
    const bool only_asked = message.type == MessageType::pre_vote ||
                            (message.type == MessageType::pre_vote_answer && !message.reject);
    if (!only_asked) {
      const bool leads = message.type == MessageType::append || message.type == MessageType::heartbeat;
      become_follower(message.term, leads ? message.from : PeerId{});
    }
  } else if (message.term < hard_.term) {
    // A stale peer learns the term from any answer.
    if (message.type == MessageType::append || message.type == MessageType::heartbeat || asks_vote) {
      Message answer;
      answer.type =
          message.type == MessageType::pre_vote ? MessageType::pre_vote_answer : MessageType::append_answer;
      answer.to = message.from;
      answer.reject = true;
      answer.term = hard_.term;
      answer.index = log_.last();
      send(std::move(answer), true);
    }
    return;
  }
  switch (message.type) {
    case MessageType::pre_vote:
    case MessageType::vote:
      return on_vote_request(message);
    case MessageType::pre_vote_answer:
    case MessageType::vote_answer:
      return on_vote_answer(message);
    case MessageType::append:
      return on_append(message);
    case MessageType::append_answer:
      return on_append_answer(message);
    case MessageType::heartbeat:
      return on_heartbeat(message);
    case MessageType::heartbeat_answer:
      return on_heartbeat_answer(message);
    case MessageType::timeout_now:
      return;  // leadership transfer: not in this release
  }
}

void RaftCore::report_stored(const StoredReceipt& receipt) {
  // Of an older history: what was stored has been cut off since.
  if (receipt.entry_index.value != 0 && log_.term_at(receipt.entry_index) == receipt.entry_term) {
    stored_ = std::max(stored_, receipt.entry_index);
  }
  if (role_ == Role::candidate && receipt.hard_term == hard_.term && receipt.vote == options_.self &&
      !votes_.contains(options_.self)) {
    votes_[options_.self] = true;
    count_votes();
  }
  if (role_ == Role::leader) {
    progress_[options_.self].match = stored_;
    advance_commit();
  }
}

void RaftCore::report_applied(Index index) {
  ORC_ASSERT(index <= handed_);
  applied_ = std::max(applied_, index);
  // Alone, nobody will ask for old entries; with peers they stay until a snapshot covers them.
  if (alone()) log_.trim(applied_);
}

Ready RaftCore::take_ready() {
  Ready ready = std::exchange(out_, {});
  if (hard_.term != taken_hard_.term || hard_.vote != taken_hard_.vote) ready.hard_state = hard_;
  for (Index index{taken_.value + 1}; index <= log_.last(); ++index.value)
    ready.entries.push_back(log_.at(index));
  taken_ = log_.last();
  taken_hard_ = hard_;
  ready.receipt = {hard_.term, hard_.vote, log_.last_term(), log_.last()};
  const Index until = std::min(hard_.commit, stored_);
  for (Index index{handed_.value + 1}; index <= until; ++index.value) {
    ready.committed.push_back(log_.at(index));
    if (role_ == Role::leader) {
      uncommitted_bytes_ -= std::min(uncommitted_bytes_, ready.committed.back().bytes().size());
    }
  }
  handed_ = std::max(handed_, until);
  return ready;
}

}  // namespace orchestra::store
