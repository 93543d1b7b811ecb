// RaftCore: replication from leader to followers, the commit index, reads.
#include <algorithm>

#include "store/raft/core.hpp"
#include "store/raft/majority.hpp"

namespace orchestra::store {

void RaftCore::broadcast_append() {
  for (const auto& [peer, progress] : progress_) {
    if (peer != options_.self) send_append(peer);
  }
}

void RaftCore::send_append(PeerId peer) {
  Progress& progress = progress_[peer];
  if (progress.probing && progress.waiting) return;
  const Index before{progress.next.value - 1};
  if (before < log_.base()) return;  // needs a snapshot: comes with the transport
  Message append;
  append.type = MessageType::append;
  append.to = peer;
  append.index = before;
  append.log_term = log_.term_at(before);
  append.commit = hard_.commit;
  append.entries = log_.slice(progress.next, log_.last(), options_.append_bytes_max);
  if (progress.probing) {
    progress.waiting = true;
  } else if (!append.entries.empty()) {
    progress.next = Index{append.entries.back().index.value + 1};
  }
  send(std::move(append), false);
}

void RaftCore::broadcast_heartbeat() {
  for (auto& [peer, progress] : progress_) {
    if (peer == options_.self) continue;
    progress.waiting = false;  // a probe that got lost is repeated
    Message beat;
    beat.type = MessageType::heartbeat;
    beat.to = peer;
    beat.commit = std::min(hard_.commit, progress.match);
    beat.context = read_round_;
    send(std::move(beat), false);
  }
}

void RaftCore::on_append(const Message& message) {
  ORC_ASSERT(role_ != Role::leader);  // one leader per term
  if (role_ != Role::follower || leader_ != message.from) become_follower(message.term, message.from);
  elapsed_ = 0;
  Message answer;
  answer.type = MessageType::append_answer;
  answer.to = message.from;
  const bool known = message.index <= log_.base() || log_.term_at(message.index) == message.log_term;
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
      if (log_.term_at(entry.index) == entry.term) continue;
      ORC_ASSERT(entry.index > hard_.commit);  // what is committed never changes
      log_.truncate(entry.index);
      taken_ = std::min(taken_, log_.last());
      stored_ = std::min(stored_, log_.last());
    }
    log_.append(entry);
  }
  const Index last_new{message.index.value + message.entries.size()};
  hard_.commit = std::max(hard_.commit, std::min(message.commit, last_new));
  answer.index = last_new;
  send(std::move(answer), true);
}

void RaftCore::on_append_answer(const Message& message) {
  if (role_ != Role::leader) return;
  const auto found = progress_.find(message.from);
  if (found == progress_.end()) return;
  Progress& progress = found->second;
  progress.active = true;
  progress.waiting = false;
  if (message.reject) {
    // Go back to where the logs may agree; a late answer about what matched long ago is ignored.
    if (message.index < progress.match) return;
    Index next{message.index.value + 1};
    while (next.value > log_.base().value + 1 && message.hint_term.value != 0 &&
           log_.term_at({next.value - 1}) > message.hint_term) {
      --next.value;
    }
    progress.next = std::max(Index{progress.match.value + 1}, std::min(next, Index{log_.last().value + 1}));
    progress.probing = true;
    return send_append(message.from);
  }
  if (message.index > progress.match) progress.match = message.index;
  progress.next = std::max(progress.next, Index{progress.match.value + 1});
  progress.probing = false;
  advance_commit();
  if (progress.next <= log_.last()) send_append(message.from);
}

void RaftCore::on_heartbeat(const Message& message) {
  ORC_ASSERT(role_ != Role::leader);
  if (role_ != Role::follower || leader_ != message.from) become_follower(message.term, message.from);
  elapsed_ = 0;
  hard_.commit = std::max(hard_.commit, std::min(message.commit, log_.last()));
  Message answer;
  answer.type = MessageType::heartbeat_answer;
  answer.to = message.from;
  answer.context = message.context;
  send(std::move(answer), true);
}

void RaftCore::on_heartbeat_answer(const Message& message) {
  if (role_ != Role::leader) return;
  const auto found = progress_.find(message.from);
  if (found == progress_.end()) return;
  Progress& progress = found->second;
  progress.active = true;
  progress.confirmed_round = std::max(progress.confirmed_round, message.context);
  confirm_reads();
  if (progress.match < log_.last()) {
    // Something was lost on the way: probe again from what is known to match.
    progress.probing = true;
    progress.next = Index{progress.match.value + 1};
    send_append(message.from);
  }
}

/// Counting replicas decides for entries of the own term only (section 3.6.2); older ones follow.
void RaftCore::advance_commit() {
  std::vector<Index> stored;
  for (const auto& [peer, progress] : progress_) stored.push_back(progress.match);
  const Index agreed = majority_index(stored);
  if (agreed <= hard_.commit || log_.term_at(agreed) != hard_.term) return;
  hard_.commit = agreed;
  if (!alone()) broadcast_append();
  for (const std::uint64_t context : std::exchange(early_reads_, {})) (void)read_index(context);
}

Result<void> RaftCore::read_index(std::uint64_t context) {
  if (role_ != Role::leader) {
    return Error(Error::not_leader, "store", "this peer is not the leader").with_detail(leader_);
  }
  if (!serving()) {
    early_reads_.push_back(context);
    return {};
  }
  if (alone()) {
    out_.reads.push_back({context, hard_.commit});
    return {};
  }
  pending_reads_.push_back({context, hard_.commit, ++read_round_});
  broadcast_heartbeat();
  return {};
}

void RaftCore::confirm_reads() {
  std::vector<Index> rounds;
  for (const auto& [peer, progress] : progress_) {
    rounds.push_back(Index{peer == options_.self ? read_round_ : progress.confirmed_round});
  }
  const std::uint64_t confirmed = majority_index(rounds).value;
  while (!pending_reads_.empty() && pending_reads_.front().round <= confirmed) {
    out_.reads.push_back({pending_reads_.front().context, pending_reads_.front().index});
    pending_reads_.erase(pending_reads_.begin());
  }
}

}  // namespace orchestra::store
