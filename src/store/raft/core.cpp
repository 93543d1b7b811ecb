// RaftCore: roles, elections, proposals, what is ready. See also replication.cpp, reads.cpp, membership.cpp.
#include "store/raft/core.hpp"

#include <algorithm>

#include "store/planted.hpp"
#include "store/raft/codec.hpp"
#include "store/raft/quorum.hpp"

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
  stored_term_ = hard_.term;
  taken_ = stored_ = log_.last();
  handed_ = applied_ = start.snapshot_index;
  configurations_.push_back({start.snapshot_index, std::move(start.configuration)});
  for (Index index{log_.base().value + 1}; index <= log_.last(); ++index.value) {
    if (log_.at(index).type == EntryType::configuration) note_configuration(log_.at(index));
  }
  draw_election_timeout();
  promise();                     // what was promised before the restart still holds
  if (alone()) campaign(false);  // nobody else could win: no election wait
}

bool RaftCore::alone() const {
  const Configuration& now = configuration();
  return now.members.size() == 1 && now.members[0].voter && now.members[0].id == options_.self;
}

std::uint64_t RaftCore::random() {
  random_ += 0x9E3779B97F4A7C15ull;  // splitmix64 (Steele, Lea, Flood 2014)
  std::uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

void RaftCore::draw_election_timeout() {
  const unsigned span = options_.election_ticks_max - options_.election_ticks_min + 1;
  election_timeout_ = options_.election_ticks_min + static_cast<unsigned>(random() % span);
}

/// A learner, a removed peer and one that waits for its first configuration never campaign.
bool RaftCore::promotable() const { return configuration().votes(options_.self) && handed_ >= log_.base(); }

/// The log is what founding wrote, and this peer is who wrote it.
bool RaftCore::only_founded() const {
  const Member* self = configuration().find(options_.self);
  return log_.base().value == 0 && log_.last() == Index{1} && log_.last_term() == Term{1} &&
         self != nullptr && self->started;
}

void RaftCore::tick() {
  ++ticks_;
  ++elapsed_;
  if (role_ == Role::leader) return tick_leader();
  if (elapsed_ < election_timeout_ || !promotable() || ticks_ < promised_until_) return;
  campaign(!alone());
}

void RaftCore::tick_leader() {
  if (elapsed_ >= options_.heartbeat_ticks) {
    elapsed_ = 0;
    if (options_.lease_ns > 0 && !read_round_open_) begin_round();
    broadcast_heartbeat();
  }
  if (transfer_to_.value != 0 && ++transfer_elapsed_ >= options_.election_ticks_max) transfer_to_ = {};
  if (planted(Bug::no_check_quorum)) return;
  if (has_quorum(configuration(), [this](PeerId id) { return recently_heard(id); })) return;
  out_.lost_quorum = true;
  become_follower(hard_.term, {});
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
  read_round_open_ = false;
  lease_until_ns_ = 0;
  transfer_to_ = {};
  appends_due_ = commit_due_ = false;
  draw_election_timeout();
}

/// A pre-campaign asks whether a campaign could succeed, and changes no term.
void RaftCore::campaign(bool pre, bool transfer) {
  leader_ = {};
  elapsed_ = 0;
  draw_election_timeout();
  votes_.clear();
  role_ = pre ? Role::pre_candidate : Role::candidate;
  campaign_transfer_ = transfer;
  if (!pre) {
    ++hard_.term.value;
    hard_.vote = options_.self;
  }
  // The own real vote counts when it is stored.
  if (pre) votes_[options_.self] = true;
  Message ask;
  ask.type = pre ? MessageType::pre_vote : MessageType::vote;
  ask.term = pre ? Term{hard_.term.value + 1} : hard_.term;
  ask.index = log_.last();
  ask.log_term = log_.last_term();
  ask.transfer = transfer;
  for (const Member& member : configuration().members) {
    if (member.id == options_.self || !configuration().votes(member.id)) continue;
    ask.to = member.id;
    send(ask, !pre && !planted(Bug::ask_votes_unstored));
  }
  if (pre) count_votes_now();
}

void RaftCore::count_votes_now() {
  switch (count_votes(configuration(), votes_)) {
    case VoteCount::open:
      return;
    case VoteCount::lost:
      return become_follower(hard_.term, {});
    case VoteCount::won:
      if (role_ == Role::pre_candidate) return campaign(false);
      return become_leader();
  }
}

void RaftCore::become_leader() {
  ORC_ASSERT(role_ == Role::candidate);
  role_ = Role::leader;
  leader_ = options_.self;
  elapsed_ = 0;
  uncommitted_bytes_ = 0;
  read_round_ = 0;
  read_round_open_ = false;
  round_began_.clear();
  lease_until_ns_ = 0;
  lease_given_up_ = false;
  transfer_to_ = {};
  progress_.clear();
  // A founder must know for ever that it has led: until then it gives out the ids of its cluster by itself.
  hold_until_ = only_founded() ? Index{2} : Index{};
  configuration_changed();
  append_own(EntryType::empty, nullptr);
}

Result<ProposalId> RaftCore::propose(std::shared_ptr<const std::string> data) {
  if (role_ != Role::leader) {
    const std::string known =
        leader_.value != 0 ? "peer " + std::to_string(leader_.value) + " is" : "none is known";
    return Error(Error::not_leader, "store",
                 "this peer is not the leader (" + known + "); nothing was applied")
        .with_detail(leader_);
  }
  if (transfer_to_.value != 0) {
    return Error(Error::unavailable, "store",
                 "leadership is being handed to peer " + std::to_string(transfer_to_.value) +
                     "; nothing was applied, try again");
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

void RaftCore::send(Message message, bool after_sync) {
  message.from = options_.self;
  if (message.type != MessageType::pre_vote && message.type != MessageType::pre_vote_answer)
    message.term = hard_.term;
  (after_sync ? out_.messages_after_sync : out_.messages_now).push_back(std::move(message));
}

bool RaftCore::up_to_date(const Message& candidate) const {
  if (planted(Bug::vote_for_stale_log)) return true;
  if (candidate.log_term != log_.last_term()) return candidate.log_term > log_.last_term();
  return candidate.index >= log_.last();
}

void RaftCore::on_vote_request(const Message& message) {
  const bool pre = message.type == MessageType::pre_vote;
  const bool free_to_vote = pre ? message.term > hard_.term
                                : hard_.vote == message.from ||
                                      (hard_.vote.value == 0 && leader_.value == 0) ||
                                      planted(Bug::vote_twice);
  Message answer;
  answer.type = pre ? MessageType::pre_vote_answer : MessageType::vote_answer;
  answer.to = message.from;
  answer.reject = !(free_to_vote && up_to_date(message));
  answer.term = pre && !answer.reject ? message.term : hard_.term;
  if (!pre && !answer.reject) {
    hard_.vote = message.from;
    elapsed_ = 0;
  }
  send(std::move(answer), !planted(Bug::vote_before_sync));
}

void RaftCore::on_vote_answer(const Message& message) {
  const Role asked = message.type == MessageType::pre_vote_answer ? Role::pre_candidate : Role::candidate;
  if (role_ != asked) return;
  PeerId from = message.from;
  if (votes_.contains(from) && planted(Bug::count_votes_twice)) {
    for (const Member& member : configuration().members) {
      if (member.voter && !votes_.contains(member.id)) from = member.id;
    }
  }
  votes_[from] = !message.reject;
  count_votes_now();
}

/// A stale peer learns the term from any answer.
void RaftCore::refuse_stale(const Message& message) {
  const bool asks = message.type == MessageType::append || message.type == MessageType::heartbeat ||
                    message.type == MessageType::pre_vote || message.type == MessageType::vote ||
                    message.type == MessageType::snapshot;
  if (!asks) return;
  Message answer;
  answer.type =
      message.type == MessageType::pre_vote ? MessageType::pre_vote_answer : MessageType::append_answer;
  answer.to = message.from;
  answer.reject = true;
  answer.term = hard_.term;
  answer.index = log_.last();
  send(std::move(answer), true);
}

void RaftCore::step(const Message& message) {
  ORC_ASSERT(message.to == options_.self);
  const bool asks_vote = message.type == MessageType::pre_vote || message.type == MessageType::vote;
  // Promised to a leader, whatever was heard of other terms since; a transfer it has agreed to.
  if (asks_vote && !message.transfer && ticks_ < promised_until_) return;
  if (message.term > hard_.term) {
    // A leader was heard lately: whoever campaigns is cut off or mistaken, and must not disturb.
    const bool sticky = leader_.value != 0 && elapsed_ < options_.election_ticks_min;
    if (asks_vote && !message.transfer && (sticky || role_ == Role::leader)) return;
    const bool only_asked = message.type == MessageType::pre_vote ||
                            (message.type == MessageType::pre_vote_answer && !message.reject);
    if (!only_asked) {
      const bool leads = message.type == MessageType::append || message.type == MessageType::heartbeat ||
                         message.type == MessageType::snapshot;
      become_follower(message.term, leads ? message.from : PeerId{});
    }
  } else if (message.term < hard_.term && !planted(Bug::accept_stale_term)) {
    return refuse_stale(message);
  }
  step_same_term(message);
}

void RaftCore::step_same_term(const Message& message) {
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
      if (role_ != Role::leader && promotable()) campaign(false, true);
      return;
    case MessageType::read_index:
      if (role_ == Role::leader) add_read(message.context, message.from);
      return;
    case MessageType::read_index_answer:
      if (!message.reject) out_.reads.push_back({message.context, message.index});
      return;
    case MessageType::snapshot:
      return on_snapshot(message);
  }
}

void RaftCore::report_stored(const StoredReceipt& receipt) {
  stored_term_ = std::max(stored_term_, receipt.hard_term);
  const bool held = stored_ < hold_until_;
  // Of an older history: what was stored has been cut off since.
  if (receipt.entry_index.value != 0 && log_.term_at(receipt.entry_index) == receipt.entry_term) {
    stored_ = std::max(stored_, std::min(receipt.entry_index, log_.last()));
  }
  if (role_ == Role::candidate && receipt.hard_term == hard_.term && receipt.vote == options_.self &&
      !votes_.contains(options_.self)) {
    votes_[options_.self] = true;
    count_votes_now();
  }
  if (role_ == Role::leader) {
    appends_due_ |= held && stored_ >= hold_until_;
    const auto self = progress_.find(options_.self);
    if (self != progress_.end()) self->second.match = stored_;
    advance_commit();
  }
}

Ready RaftCore::take_ready() {
  if (role_ == Role::leader && appends_due_) send_appends(std::exchange(commit_due_, false));
  appends_due_ = false;
  Ready ready = std::exchange(out_, {});
  if (hard_.term != taken_hard_.term || hard_.vote != taken_hard_.vote) {
    // It may reach the disk without the entries of its batch: then what lies there at a later index is of a
    // deposed leader, and must not look committed.
    ready.hard_state = hard_;
    if (!planted(Bug::store_commit_early)) ready.hard_state->commit = std::min(hard_.commit, stored_);
  }
  if (ready.hard_state && planted(Bug::vote_not_stored)) ready.hard_state->vote = {};
  ready.entries.reserve(log_.last().value - std::min(taken_, log_.last()).value);
  for (Index index{taken_.value + 1}; index <= log_.last(); ++index.value)
    ready.entries.push_back(log_.at(index));
  taken_ = log_.last();
  taken_hard_ = hard_;
  ready.receipt = {hard_.term, hard_.vote, log_.last_term(), log_.last()};
  const Index until = std::min(hard_.commit, stored_);
  ready.committed.reserve(until.value - std::min(handed_, until).value);
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
