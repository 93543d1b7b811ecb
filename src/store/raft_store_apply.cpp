// RaftStore: applying what is committed, in order, one round at a time on an event thread.
#include <algorithm>

#include "base/engine_impl.hpp"
#include "orchestra/env.hpp"
#include "store/mvcc/command_codec.hpp"
#include "store/planted.hpp"
#include "store/raft_store.hpp"

namespace orchestra::store {
namespace {
constexpr std::size_t kApplyBatch = 1024;
constexpr std::size_t kInlineMax = 4;
constexpr std::size_t kTellApart = 32;  ///< answers that are worth a thread of their own
constexpr std::size_t kTellBatchesMax =
    8;  ///< that wait for it; then the applier does it, and is slowed down
constexpr std::size_t kToldKept = 2;

/// Leaves only the memory.
template <class Answers>
void tell(Answers& told) {
  for (std::size_t i = 0; i < told.answers.size(); ++i) {
    if (told.answers[i]) told.answers[i](std::move(told.outcomes[i]));
  }
  told.answers.clear();
  told.outcomes.clear();
}
}  // namespace

void RaftStoreImpl::schedule_apply_locked() {
  if (applying_ != Applying::idle) return;
  applying_ = Applying::scheduled;
  if (may_apply_inline_ && committed_.size() <= kInlineMax) {
    apply_inline_ = true;
    return;
  }
  post_apply();
}

void RaftStoreImpl::post_apply() {
  engine_.post([weak = weak_from_this()] {
    if (auto self = weak.lock()) static_cast<RaftStoreImpl&>(*self).run_apply();
  });
}

void RaftStoreImpl::run_apply() {
  {
    std::lock_guard lock(raft_mutex_);
    if (applying_ != Applying::scheduled) return;  // stop() did it
    applying_ = Applying::running;
    applier_ = std::this_thread::get_id();
  }
  while (apply_some()) {
  }
}

/// On the log thread when nothing else waits for it, or on the event thread that heard of the majority: a
/// lone writer is spared a change of threads. One round; whatever has come meanwhile goes to an event thread.
void RaftStoreImpl::run_apply_inline() {
  const EventThreadScope scope;
  {
    std::lock_guard lock(raft_mutex_);
    if (applying_ != Applying::scheduled) return;
    applying_ = Applying::running;
    applier_ = std::this_thread::get_id();
  }
  if (!apply_some()) return;  // nothing was left: it is idle already
  std::lock_guard lock(raft_mutex_);
  applier_ = {};
  if (committed_.empty() && !installing_) {
    applying_ = Applying::idle;
    quiet_.notify_all();
    return;
  }
  applying_ = Applying::scheduled;
  post_apply();
}

/// The proposal that this entry is, if it came from here; those that it shows to be lost are told so: another
/// entry took their place, so they were certainly not applied.
void RaftStoreImpl::take_proposals_locked(const Entry& entry, Proposal& taken) {
  while (!proposals_.empty() && proposals_.begin()->first.index <= entry.index) {
    auto& [id, proposal] = proposals_.front();
    if (id.index == entry.index && (id.term == entry.term || planted(Bug::reply_by_index))) {
      taken = std::move(proposal);
    } else {
      answer_later(
          std::move(proposal.answer),
          Error(Error::unavailable, "store",
                "a new leader was elected before this was stored by a majority; nothing was applied"));
    }
    proposals_.pop_front();
  }
}

/// A snapshot that came from a peer takes the place of the state.
bool RaftStoreImpl::apply_install() {
  std::shared_ptr<Arrived> arrived;
  {
    std::lock_guard lock(raft_mutex_);
    arrived = std::exchange(installing_, nullptr);
    if (!arrived || failed_) return false;
    dequeued_ = std::max(dequeued_, arrived->point.index);
    while (!proposals_.empty() && proposals_.begin()->first.index <= arrived->point.index) {
      answer_later(std::move(proposals_.begin()->second.answer),
                   Error(Error::unknown_outcome, "store",
                         "this peer fell behind and took a snapshot that may or may not contain this write"));
      proposals_.pop_front();
    }
  }
  if (!planted(Bug::install_keeps_state))
    install(std::move(arrived->state), {arrived->point.term, arrived->point.index});
  std::lock_guard lock(raft_mutex_);
  core_raft_->report_applied(arrived->point.index);
  release_reads_locked(arrived->point.index);
  return true;
}

/// One round; false when there is nothing left.
bool RaftStoreImpl::apply_some() {
  if (net_ && apply_install()) return true;
  std::vector<Command>& commands = applying_commands_;  // the applier's; its memory is used again
  commands.clear();
  Told told;
  std::vector<Answer>& answers = told.answers;
  ProposalId last{};
  std::optional<Error> unreadable;
  {
    std::lock_guard lock(raft_mutex_);
    if (installing_) return true;
    if (committed_.empty() || failed_) {
      applying_ = Applying::idle;
      applier_ = {};
      quiet_.notify_all();
      return false;
    }
    if (!told_before_.empty()) {
      told = std::move(told_before_.back());
      told_before_.pop_back();
    }
    commands.reserve(std::min(committed_.size(), kApplyBatch));
    answers.reserve(std::min(committed_.size(), kApplyBatch));
    while (!committed_.empty() && commands.size() < kApplyBatch && !unreadable) {
      const Entry& entry = committed_.front();
      Proposal proposal;
      take_proposals_locked(entry, proposal);
      if (entry.type == EntryType::command) {
        if (proposal.command) {
          commands.push_back(std::move(*proposal.command));
        } else if (auto command = decode(entry.bytes())) {
          commands.push_back(std::move(*command));
        } else {
          unreadable = command.error();
          break;
        }
        answers.push_back(std::move(proposal.answer));
      }
      last = {entry.term, entry.index};
      dequeued_ = entry.index;
      committed_bytes_ -= entry.bytes().size();
      committed_.pop_front();
    }
  }
  if (last.index.value != 0) {
    told.outcomes = apply(commands, last, std::move(told.outcomes));
    commands.clear();
    if (!post_answers(told)) tell(told);
    std::lock_guard lock(raft_mutex_);
    keep_memory_locked(std::move(told));
    core_raft_->report_applied(last.index);
    if (net_) release_reads_locked(last.index);
    maybe_snapshot_locked();
  }
  if (unreadable) fail(*unreadable);
  return true;
}

/// What answers cost, and the next writes that come from them, goes on beside the applying of the next batch.
/// False: they are few, or too many wait already.
bool RaftStoreImpl::post_answers(Told& told) {
  if (!options_.log_thread || told.answers.size() < kTellApart) return false;
  std::lock_guard lock(raft_mutex_);
  if (to_tell_.size() >= kTellBatchesMax) return false;
  to_tell_.push_back(std::move(told));
  if (to_tell_.size() > 1 || telling_) return true;
  engine_.post([weak = weak_from_this()] {
    if (auto self = weak.lock()) static_cast<RaftStoreImpl&>(*self).tell_answers();
  });
  return true;
}

void RaftStoreImpl::keep_memory_locked(Told&& told) {
  if (told.answers.capacity() != 0 && told_before_.size() < kToldKept)
    told_before_.push_back(std::move(told));
}

/// One thread at a time, in order.
void RaftStoreImpl::tell_answers() {
  std::unique_lock lock(raft_mutex_);
  if (telling_) return;
  telling_ = true;
  teller_ = std::this_thread::get_id();
  while (!to_tell_.empty()) {
    Told told = std::move(to_tell_.front());
    to_tell_.pop_front();
    lock.unlock();
    tell(told);
    lock.lock();
    keep_memory_locked(std::move(told));
  }
  telling_ = false;
  teller_ = {};
  quiet_.notify_all();
}

/// Reads that waited for this index, and changes of members that are settled by it.
void RaftStoreImpl::release_reads_locked(Index applied) {
  while (!reads_applying_.empty() && reads_applying_.begin()->first <= applied) {
    engine_.post([done = std::move(reads_applying_.begin()->second.done)] { done(std::nullopt); });
    reads_applying_.erase(reads_applying_.begin());
  }
  if (change_waiters_.empty() || core_raft_->configuration().joint) return;
  std::erase_if(change_waiters_, [&](auto& waiter) {
    if (waiter.first > applied) return false;
    engine_.post([reply = std::move(waiter.second)] { reply(std::string()); });
    return true;
  });
}

}  // namespace orchestra::store
