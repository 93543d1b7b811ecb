// RaftCore: replication from leader to followers, flow control, the commit index.
//
// Appends batch themselves: while a few are under way to a peer, new entries wait and leave together with
// the next answer. So one write travels at once, and many travel as few messages, without any timer.
#include <algorithm>

#include "store/planted.hpp"
#include "store/raft/core.hpp"
#include "store/raft/quorum.hpp"

namespace orchestra::store {
namespace {
constexpr std::size_t kEagerMessages = 2;  ///< under way at once while there is little to send
constexpr unsigned kStalledBeatsMax = 3;   ///< heartbeats answered without progress: something was lost
}  // namespace

void RaftCore::append_own(EntryType type, std::shared_ptr<const std::string> data) {
  log_.append({hard_.term, Index{log_.last().value + 1}, type, std::move(data)});
  if (type == EntryType::configuration) note_configuration(log_.at(log_.last()));
  appends_due_ = true;
}

void RaftCore::send_appends(bool even_if_empty) {
  for (auto& [peer, progress] : progress_) {
    if (peer != options_.self) send_append(peer, progress, even_if_empty);
  }
}

bool RaftCore::window_open(const Progress& progress) const {
  if (progress.inflight.size() >= options_.inflight_messages_max) return false;
  if (progress.inflight_bytes >= options_.inflight_bytes_max) return false;
  if (progress.inflight.size() < kEagerMessages) return true;
  // More than a message's worth waits: use the window.
  const std::uint64_t waiting = log_.last().value + 1 - progress.next.value;
  const std::size_t mean = log_.bytes() / std::max<std::uint64_t>(1, log_.last().value - log_.base().value);
  return waiting * (mean + 32) >= options_.append_bytes_max;
}

void RaftCore::reset_flow(Progress& progress) {
  progress.flow = Flow::probe;
  progress.waiting = false;
  // Whether it needs a snapshot it says itself: one that knows more committed than this leader refuses ours.
  progress.next = Index{std::max(progress.match, log_.base()).value + 1};
  progress.inflight.clear();
  progress.inflight_bytes = 0;
  progress.stalled_beats = 0;
}

void RaftCore::send_append(PeerId peer, Progress& progress, bool even_if_empty) {
  if (stored_ < hold_until_) return;
  if (progress.flow == Flow::snapshot || (progress.flow == Flow::probe && progress.waiting)) return;
  const Index before{progress.next.value - 1};
  if (before < log_.base()) {
    if (!recently_heard(peer)) return;
    progress.flow = Flow::snapshot;
    progress.snapshot_index = {};
    out_.snapshots_wanted.push_back(peer);
    return;
  }
  do {
    const bool open = progress.flow == Flow::probe || window_open(progress);
    Message append;
    append.type = MessageType::append;
    append.to = peer;
    append.index = Index{progress.next.value - 1};
    append.log_term = log_.term_at(append.index);
    append.commit = hard_.commit;
    if (open) append.entries = log_.slice(progress.next, log_.last(), options_.append_bytes_max);
    if (append.entries.empty() && !even_if_empty) return;
    even_if_empty = false;
    if (progress.flow == Flow::probe) {
      progress.waiting = true;
    } else if (!append.entries.empty()) {
      std::size_t bytes = 0;
      for (const Entry& entry : append.entries) bytes += entry.bytes().size();
      progress.next = Index{append.entries.back().index.value + 1};
      progress.inflight.emplace_back(append.entries.back().index, bytes);
      progress.inflight_bytes += bytes;
    }
    send(std::move(append), false);
  } while (progress.flow == Flow::replicate && progress.next <= log_.last() && window_open(progress));
}

void RaftCore::broadcast_heartbeat() {
  for (auto& [peer, progress] : progress_) {
    if (peer == options_.self) continue;
    Message beat;
    beat.type = MessageType::heartbeat;
    beat.to = peer;
    beat.commit = std::min(hard_.commit, progress.match);
    beat.context = read_round_;
    send(std::move(beat), false);
  }
}

void RaftCore::on_append(const Message& message) {
  ORC_ASSERT(role_ != Role::leader || planted(Bug::vote_twice));  // one leader per term
  if (role_ != Role::follower || leader_ != message.from) become_follower(message.term, message.from);
  elapsed_ = 0;
  Message answer;
  answer.type = MessageType::append_answer;
  answer.to = message.from;
  const bool known = message.index <= log_.base() || log_.term_at(message.index) == message.log_term ||
                     (planted(Bug::skip_log_check) && message.index <= log_.last());
  if (message.index > log_.last() || !known) {
    // The hint: the first index of the conflicting term, or the end of this log.
    const Index hint =
        message.index > log_.last() ? log_.last() : Index{log_.first_of_term(message.index).value - 1};
    answer.reject = true;
    answer.index = hint;
    answer.hint_term = log_.term_at(hint);
    return send(std::move(answer), true);
  }
  for (const Entry& entry : message.entries) {
    if (entry.index <= log_.base()) continue;
    if (entry.index <= log_.last()) {
      if (log_.term_at(entry.index) == entry.term || planted(Bug::keep_conflicts)) continue;
      ORC_ASSERT(entry.index > hard_.commit);  // what is committed never changes
      log_.truncate(entry.index);
      forget_configurations(entry.index);
      taken_ = std::min(taken_, log_.last());
      stored_ = std::min(stored_, log_.last());
    }
    log_.append(entry);
    if (entry.type == EntryType::configuration) note_configuration(entry);
  }
  const Index last_new{message.index.value + message.entries.size()};
  hard_.commit = std::max(
      hard_.commit, std::min(message.commit, planted(Bug::commit_beyond_match) ? log_.last() : last_new));
  answer.index = last_new;
  send(std::move(answer), !planted(Bug::acknowledge_before_sync));
}

void RaftCore::on_append_answer(const Message& message) {
  if (role_ != Role::leader) return;
  const auto found = progress_.find(message.from);
  if (found == progress_.end()) return;
  Progress& progress = found->second;
  progress.heard = ticks_;
  if (message.reject) {
    // Go back to where the logs may agree; a late answer about what matched long ago is ignored.
    if (message.index < progress.match || progress.flow == Flow::snapshot) return;
    Index next{message.index.value + 1};
    while (next.value > log_.base().value + 1 && message.hint_term.value != 0 &&
           log_.term_at({next.value - 1}) > message.hint_term) {
      --next.value;
    }
    reset_flow(progress);
    progress.next = std::max(Index{progress.match.value + 1}, std::min(next, Index{log_.last().value + 1}));
    return send_append(message.from, progress, true);
  }
  progress.waiting = false;
  if (message.index > progress.match) {
    progress.match = std::min(message.index, log_.last());
    progress.stalled_beats = 0;
  }
  while (!progress.inflight.empty() && progress.inflight.front().first <= progress.match) {
    progress.inflight_bytes -= progress.inflight.front().second;
    progress.inflight.pop_front();
  }
  if (progress.flow == Flow::snapshot) {
    if (progress.match < log_.base()) return;
    reset_flow(progress);
  }
  progress.next = std::max(progress.next, Index{progress.match.value + 1});
  progress.flow = Flow::replicate;
  advance_commit();  // may end a change of members: the peer, or this leader, may be gone
  const auto still = progress_.find(message.from);
  if (role_ != Role::leader || still == progress_.end()) return;
  if (still->second.next <= log_.last()) send_append(message.from, still->second, false);
  maybe_send_timeout_now(message.from, still->second);
  mark_started();
}

void RaftCore::on_heartbeat(const Message& message) {
  ORC_ASSERT(role_ != Role::leader || planted(Bug::vote_twice));
  if (role_ != Role::follower || leader_ != message.from) become_follower(message.term, message.from);
  elapsed_ = 0;
  promise();
  hard_.commit = std::max(hard_.commit, std::min(message.commit, log_.last()));
  Message answer;
  answer.type = MessageType::heartbeat_answer;
  answer.to = message.from;
  answer.context = message.context;
  answer.promise = options_.lease_ns > 0;
  // It says nothing about entries, so it waits for no sync but that of the term.
  send(std::move(answer), stored_term_ != hard_.term);
}

void RaftCore::on_heartbeat_answer(const Message& message) {
  if (role_ != Role::leader) return;
  const auto found = progress_.find(message.from);
  if (found == progress_.end()) return;
  Progress& progress = found->second;
  progress.heard = ticks_;
  progress.confirmed_round = std::max(progress.confirmed_round, message.context);
  if (message.promise) progress.promised_round = std::max(progress.promised_round, message.context);
  renew_lease();
  confirm_reads();
  if (progress.flow == Flow::snapshot && progress.snapshot_index.value != 0 &&
      ++progress.stalled_beats >= kStalledBeatsMax)
    reset_flow(progress);  // what arrived there was lost again
  mark_started();          // when its entry was stored another mark may have been on its way
  if (progress.match >= log_.last() || progress.flow == Flow::snapshot) return;
  if (progress.flow == Flow::replicate && !progress.inflight.empty()) {
    if (++progress.stalled_beats < kStalledBeatsMax) return;
    reset_flow(progress);  // something was lost on the way: probe again from what is known to match
  }
  progress.waiting = false;  // a probe that got lost is repeated
  send_append(message.from, progress, true);
}

void RaftCore::report_unreachable(PeerId peer) {
  const auto found = progress_.find(peer);
  if (role_ != Role::leader || found == progress_.end() || peer == options_.self) return;
  if (found->second.flow == Flow::replicate) reset_flow(found->second);
}

void RaftCore::report_reset(PeerId peer) {
  if (role_ != Role::follower || leader_ != peer || !promotable()) return;
  leader_ = {};
  // One or a few ticks later, so that not all followers campaign at once.
  const unsigned wait = 1 + static_cast<unsigned>(random() % 4);
  elapsed_ = std::max(elapsed_, election_timeout_ - std::min(wait, election_timeout_));
}

void RaftCore::report_snapshot(PeerId peer, Index index, bool arrived) {
  const auto found = progress_.find(peer);
  if (role_ != Role::leader || found == progress_.end()) return;
  Progress& progress = found->second;
  if (progress.flow != Flow::snapshot) return;
  if (arrived) {
    // It counts once the peer acknowledges it as it does entries: after its sync.
    progress.snapshot_index = index;
    progress.stalled_beats = 0;
    return;
  }
  reset_flow(progress);
  progress.waiting = true;  // until it answers a heartbeat
}

/// The file is with the owner, verified; from here on the log begins behind it.
void RaftCore::on_snapshot(const Message& message) {
  if (role_ != Role::follower || leader_ != message.from) become_follower(message.term, message.from);
  elapsed_ = 0;
  Message answer;
  answer.type = MessageType::append_answer;
  answer.to = message.from;
  if (message.index <= hard_.commit) {
    answer.index = hard_.commit;
    return send(std::move(answer), true);
  }
  if (log_.term_at(message.index) == message.log_term) {
    hard_.commit = message.index;  // all of it is here: no need to throw the log away
  } else {
    ORC_ASSERT(message.configuration.has_value());
    log_.reset(message.index, message.log_term);
    configurations_.clear();
    configurations_.push_back({message.index, *message.configuration});
    ++configuration_changes_;
    hard_.commit = handed_ = taken_ = message.index;
    stored_ = {};
    out_.snapshot = SnapshotPoint{message.index, message.log_term};
  }
  answer.index = message.index;
  send(std::move(answer), true);
}

/// Counting replicas decides for entries of the own term only (section 3.6.2); older ones follow.
void RaftCore::advance_commit() {
  const Index agreed = agreed_index(configuration(), [this](PeerId id) {
    const auto found = progress_.find(id);
    if (found == progress_.end()) return Index{};
    if (id == options_.self && planted(Bug::count_own_log_unstored)) return log_.last();
    return found->second.match;
  });
  if (agreed <= hard_.commit) return;
  if (log_.term_at(agreed) != hard_.term && !planted(Bug::commit_old_term)) return;
  hard_.commit = agreed;
  appends_due_ = commit_due_ = true;
  for (const auto& [context, from] : std::exchange(early_reads_, {})) add_read(context, from);
  leave_joint();
}

void RaftCore::report_applied(Index index) {
  ORC_ASSERT(index <= handed_);
  applied_ = std::max(applied_, index);
  trim_log();
}

/// Alone, nobody will ask for old entries; with peers some are kept for those who are a little slow.
void RaftCore::trim_log() {
  Index keep_after = std::min(applied_, stored_);
  if (!alone()) {
    const std::uint64_t kept = keep_after.value - std::min(keep_after, log_.base()).value;
    if (kept <= options_.keep_entries || log_.bytes() <= options_.keep_bytes) return;
    keep_after.value -= options_.keep_entries;
  }
  if (keep_after <= log_.base()) return;
  log_.trim(keep_after);
  while (configurations_.size() > 1 && configurations_[1].index <= log_.base()) configurations_.pop_front();
}

}  // namespace orchestra::store
