// RaftStore at work: proposing, the log thread, failing, stopping (raft_store.hpp). Applying is in
// raft_store_apply.cpp, everything about other peers in raft_store_peers.cpp.
#include "store/raft_store.hpp"

#include <algorithm>

#include "orchestra/env.hpp"
#include "orchestra/retry_after.hpp"
#include "store/mvcc/command_codec.hpp"
#include "store/planted.hpp"

namespace orchestra::store {
namespace {

constexpr std::uint64_t kApplyBacklogMax = 64u << 20;  ///< bytes committed and not applied
constexpr std::size_t kWaitingMax = 4096;              ///< writes that wait for a leader
constexpr std::size_t kSyncSamplesMax = 512;
constexpr std::int64_t kSlowSync = 100'000'000;
constexpr std::int64_t kCollectLater = 1'000'000;  ///< a batch that takes longer is waited for no more
constexpr std::int64_t kSpin = 50'000;             ///< how long the log thread looks around before it sleeps
constexpr std::int64_t kSoon = 100'000;            ///< work that comes within this is worth it
constexpr int kSpinsWorthMax = 8;
constexpr std::int64_t kRetryAfterMin = 10'000'000, kRetryAfterMax = 2'000'000'000;

bool has_put(const Command& command) {
  const auto* txn = std::get_if<Txn>(&command);
  return txn != nullptr ? any_op(*txn, is_put) : std::holds_alternative<LeaseGrant>(command);
}

}  // namespace

RaftStoreImpl::~RaftStoreImpl() { RaftStoreImpl::stop(); }

std::string RaftStoreImpl::cluster_id() const {
  return to_uuid(identity_.cluster) + "." + std::to_string(identity_.epoch);
}

std::optional<Error> RaftStoreImpl::read_refusal() const {
  if (!has_failed_.load(std::memory_order_acquire)) return std::nullopt;
  std::lock_guard lock(raft_mutex_);
  return failed_;
}

// ---- proposing

/// What waits goes with the next batches of the log: a few times what the last one took.
Error RaftStoreImpl::overloaded_locked(const Error& error) const {
  if (!error.is(Error::overloaded)) return error;
  const std::int64_t sync = sync_ns_.empty() ? 0 : sync_ns_.back();
  return Error(error).with_detail(
      RetryAfter{Duration(std::clamp<std::int64_t>(4 * sync, kRetryAfterMin, kRetryAfterMax))});
}

std::optional<Error> RaftStoreImpl::refuse_locked(const Command* command) {
  if (failed_) return failed_;
  if (stopping_) return Error(Error::unavailable, "store", "the store has been stopped; nothing was applied");
  if (committed_bytes_ > kApplyBacklogMax) {
    return overloaded_locked(Error(Error::overloaded, "store",
                                   std::to_string(committed_bytes_) +
                                       " bytes of writes wait to be applied (limit " +
                                       std::to_string(kApplyBacklogMax) + "); try again later"));
  }
  if (low_space_ && command != nullptr && has_put(*command)) {
    // Ask the log thread to look again, so that the alarm goes when space is back.
    wake_log_locked();
    return Error(Error::no_space, "store",
                 "the disk under " + options_.data_dir + " has no room for the next log segment of " +
                     std::to_string(options_.segment_bytes.value) +
                     " bytes; free some (removing and compacting still work)");
  }
  return std::nullopt;
}

/// `any_leader`: it may be forwarded. What this peer decided as the leader is not for another one to do.
void RaftStoreImpl::propose_to(Command&& command, Answer answer, bool any_leader) {
  Submission submission;
  submission.bytes = std::make_shared<const std::string>(encode_command(command));
  std::optional<Error> refused;
  {
    std::lock_guard lock(raft_mutex_);
    refused = refuse_locked(&command);
    if (!refused && !any_leader && (core_raft_->role() != Role::leader || core_raft_->transferring()))
      refused = Error(Error::unavailable, "store", "leadership has just changed; nothing was applied");
    if (!refused) {
      submission.proposal.command.emplace(std::move(command));
      submission.proposal.answer = std::move(answer);
      submission.proposal.at_ns = net_ ? steady_now() : 0;
      refused = submit_locked(submission);
      if (refused) answer = std::move(submission.proposal.answer);
    }
  }
  if (refused) answer(std::move(*refused));
}

/// To the own core, to the leader, or into the line of those who wait for one. Refused: it stays as it was.
std::optional<Error> RaftStoreImpl::submit_locked(Submission& submission) {
  if (core_raft_->role() == Role::leader && !core_raft_->transferring()) {
    if (auto refused = refuse_unknown_locked(*submission.bytes)) return refused;
    auto id = core_raft_->propose(submission.bytes);
    if (!id) return overloaded_locked(id.error());
    add_proposal_locked(*id, std::move(submission.proposal));
    collect_soon_locked();
    return std::nullopt;
  }
  const PeerId leader = core_raft_->leader();
  if (leader.value != 0 && leader.value != identity_.peer && net_ && net_->connected(leader)) {
    if (forward_locked(submission)) return std::nullopt;
    return Error(Error::unavailable, "store", "the leader cannot be reached; nothing was applied");
  }
  if (waiting_.size() >= kWaitingMax) {
    return Error(Error::unavailable, "store",
                 "no leader is known and " + std::to_string(kWaitingMax) +
                     " writes wait for one already; nothing was applied");
  }
  waiting_.push_back(std::move(submission));
  return std::nullopt;
}

/// An answer that must not come while locks are held.
void RaftStoreImpl::answer_later(Answer answer, Error error) {
  if (!answer) return;
  engine_.post([answer = std::move(answer), error = std::move(error)] { answer(error); });
}

/// In the order of their places: nearly always the last one.
void RaftStoreImpl::add_proposal_locked(const ProposalId& id, Proposal proposal) {
  const auto before = [](const ProposalId& a, const ProposalId& b) {
    return a.index != b.index ? a.index < b.index : a.term < b.term;
  };
  auto at = proposals_.end();
  while (at != proposals_.begin() && before(id, std::prev(at)->first)) --at;
  proposals_.emplace(at, id, std::move(proposal));
}

/// While a batch is on its way to the disk the next one gathers, and the core is asked once for all of it.
/// Peers hear of it then too, but need not wait for a disk that is slow.
void RaftStoreImpl::collect_soon_locked() {
  collect_due_ =
      storing_ && options_.log_thread && (!net_ || steady_now() - storing_since_ns_ < kCollectLater);
  if (!collect_due_) collect_locked();
}

/// Moves what the core wants done to those who do it.
void RaftStoreImpl::collect_locked() {
  collect_due_ = false;
  Ready ready = core_raft_->take_ready();
  if (net_) {
    for (const Message& message : ready.messages_now) net_->send(message);
    if (core_raft_->configuration_changes() != configuration_seen_) {
      configuration_seen_ = core_raft_->configuration_changes();
      net_->set_members(core_raft_->configuration().members);
    }
  }
  if (ready.snapshot) take_install_locked(*ready.snapshot);
  if (ready.must_store()) {
    if (ready.hard_state) batch_.hard_state = ready.hard_state;
    if (batch_.entries.empty()) {
      batch_.entries = std::move(ready.entries);
    } else {
      for (Entry& entry : ready.entries) batch_.entries.push_back(std::move(entry));
    }
    receipt_ = ready.receipt;
  }
  for (Message& message : ready.messages_after_sync) after_sync_.push_back(std::move(message));
  if (!after_sync_.empty() && batch_.empty() && !storing_) {
    send_after_sync(after_sync_);
  } else if (!batch_.empty()) {
    wake_log_locked();
  }
  if (!ready.committed.empty()) {
    for (Entry& entry : ready.committed) {
      committed_bytes_ += entry.bytes().size();
      committed_.push_back(std::move(entry));
    }
    schedule_apply_locked();
  }
  if (!net_) return;
  for (const ReadState& read : ready.reads) on_read_locked(read);
  for (const PeerId peer : ready.snapshots_wanted) snapshots_wanted_.push_back(peer);
  if (!snapshots_wanted_.empty()) send_snapshots_locked();
  if (ready.lost_quorum) {
    for (auto& [id, proposal] : std::exchange(proposals_, {})) {
      answer_later(std::move(proposal.answer),
                   Error(Error::unknown_outcome, "store",
                         "this peer lost its majority while it wrote this; it may or may not be done later"));
    }
  }
  note_role_locked();
}

void RaftStoreImpl::send_after_sync(std::vector<Message>& messages) {
  if (net_) {
    for (const Message& message : messages) net_->send(message);
  }
  messages.clear();
}

// ---- the log

void RaftStoreImpl::wake_log_locked() {
  if (options_.log_thread) {
    if (log_spins_) {
      log_woken_.store(true, std::memory_order_release);
    } else {
      log_wake_.notify_one();
    }
    return;
  }
  if (std::exchange(log_scheduled_, true)) return;
  engine_.post([weak = weak_from_this()] {
    if (auto self = weak.lock()) static_cast<RaftStoreImpl&>(*self).drain_log();
  });
}

/// Until there is something to do. Where one write follows the other, it looks around for a moment before it
/// sleeps: to be woken takes half as long as a fast disk needs for a sync.
void RaftStoreImpl::wait_for_work(std::unique_lock<std::mutex>& lock) {
  const auto work = [this] { return !nothing_to_store_locked() || stopping_ || low_space_; };
  if (work()) return;
  const std::int64_t began = steady_now();
  if (spins_worth_ > 0) {
    log_spins_ = true;
    log_woken_.store(false, std::memory_order_relaxed);
    lock.unlock();
    while (!log_woken_.load(std::memory_order_acquire) && steady_now() - began < kSpin)
      std::this_thread::yield();
    lock.lock();
    log_spins_ = false;
  }
  log_wake_.wait(lock, work);
  const bool soon = steady_now() - began < kSoon;
  spins_worth_ = std::clamp(spins_worth_ + (soon ? 1 : -2), -2, kSpinsWorthMax);
}

void RaftStoreImpl::log_loop() {
  std::unique_lock lock(raft_mutex_);
  const auto work = [this] { return !nothing_to_store_locked(); };
  while (!failed_) {
    if (!work() && stopping_) break;
    wait_for_work(lock);
    if (!work() && low_space_) log_wake_.wait_for(lock, std::chrono::seconds(1));
    if (!store_next(lock)) break;
    if (std::exchange(apply_inline_, false)) {
      lock.unlock();
      run_apply_inline();
      lock.lock();
    }
  }
  log_done_ = true;
  quiet_.notify_all();
}

void RaftStoreImpl::drain_log() {
  std::unique_lock lock(raft_mutex_);
  log_scheduled_ = false;
  if (delayed_) return;                                                  // it looks again when it is done
  if (low_space_ && batch_.empty() && !failed_) (void)store_next(lock);  // look for space again
  while (!failed_ && !nothing_to_store_locked()) {
    const Duration delay = given_ && given_->log_delay && !stopping_ ? given_->log_delay() : Duration{};
    if (delay > Duration{}) {
      delayed_ = take_batch_locked();
      engine_.after(delay, [weak = weak_from_this()] {
        if (auto self = weak.lock()) static_cast<RaftStoreImpl&>(*self).store_delayed();
      });
      return;
    }
    if (!store_next(lock)) return;
  }
}

/// The simulated disk is ready for what it was given.
void RaftStoreImpl::store_delayed() {
  {
    std::unique_lock lock(raft_mutex_);
    if (!delayed_ || failed_) return;
    if (!store(lock, *std::exchange(delayed_, std::nullopt))) return;
  }
  drain_log();
}

RaftStoreImpl::Storing RaftStoreImpl::take_batch_locked() {
  if (collect_due_) collect_locked();
  storing_ = true;
  storing_since_ns_ = steady_now();
  if (batch_.snapshot) recording_ = batch_.snapshot->index;
  return {std::exchange(batch_, {}), std::exchange(after_sync_, {}), receipt_,
          std::exchange(sync_due_, false)};
}

/// Durability `interval`: what is written now is synced so much later, together with what follows until then.
void RaftStoreImpl::arm_sync_locked() {
  if (!log_->dirty() || std::exchange(sync_armed_, true)) return;
  engine_.after(options_.sync_interval, [weak = weak_from_this()] {
    auto self = std::static_pointer_cast<RaftStoreImpl>(weak.lock());
    if (!self) return;
    std::lock_guard lock(self->raft_mutex_);
    self->sync_armed_ = false;
    if (self->failed_ || self->stopping_) return;
    self->sync_due_ = true;
    self->wake_log_locked();
  });
}

/// Stores one batch, with the lock released meanwhile. False: the store failed.
bool RaftStoreImpl::store(std::unique_lock<std::mutex>& lock, Storing storing) {
  auto& [batch, messages, receipt, sync] = storing;
  const bool retry_space = low_space_;
  lock.unlock();
  const std::int64_t before = steady_now();
  Result<void> stored;
  const std::uint64_t written_before = log_->written();
  if (!batch.empty()) stored = log_->append(batch);
  if (stored && sync) stored = log_->sync();
  const std::int64_t took = steady_now() - before;
  if (!stored && stored.error().is(Error::no_space)) {
    // Nothing was written. The entries stay first in line; the alarm refuses further puts.
    lock.lock();
    storing_ = false;
    low_space_ = true;
    if (batch_.install) batch.entries.clear();
    for (Entry& entry : batch_.entries) batch.entries.push_back(std::move(entry));
    if (batch_.hard_state) batch.hard_state = batch_.hard_state;
    if (batch_.snapshot) {
      batch.snapshot = batch_.snapshot;
      batch.install = batch_.install;
    }
    batch_ = std::move(batch);
    for (Message& message : after_sync_) messages.push_back(std::move(message));
    after_sync_ = std::move(messages);
    if (!options_.log_thread && !stopping_) return false;  // the next proposal asks again
    if (!stopping_) log_wake_.wait_for(lock, std::chrono::seconds(1));
    if (!stopping_) return true;
    lock.unlock();
    fail(stored.error());
    lock.lock();
    return false;
  }
  if (!stored) {
    fail(stored.error());
    lock.lock();
    storing_ = false;
    return false;
  }
  if (batch.snapshot) after_store(batch);
  Result<void> reserved;
  if (retry_space || log_->needs_reserve()) reserved = log_->reserve();
  lock.lock();
  storing_ = false;
  low_space_ = !reserved && reserved.error().is(Error::no_space);
  log_bytes_ = log_->bytes();
  log_grown_ += log_->written() - written_before;
  if (batch.install) log_grown_at_snapshot_ = log_grown_;
  send_after_sync(messages);
  arm_sync_locked();
  if (batch.empty()) return true;
  note_sync(took);
  if (batch.snapshot) {
    newest_snapshot_ = batch.snapshot;
    snapshot_configuration_ = marker_configurations_[batch.snapshot->index];
    marker_configurations_.erase(marker_configurations_.begin(),
                                 marker_configurations_.upper_bound(batch.snapshot->index));
    forget_rot_locked();
  }
  if (net_ && (!batch.entries.empty() || batch.install)) net_->set_fresh(false);
  if (!batch.entries.empty() || batch.hard_state || batch.install) {
    core_raft_->report_stored(planted(Bug::receipt_of_later) ? receipt_ : receipt);
    may_apply_inline_ = options_.log_thread && batch_.empty() && !collect_due_;
    collect_locked();
    may_apply_inline_ = false;
  }
  if (batch.snapshot && !snapshots_wanted_.empty()) send_snapshots_locked();
  return true;
}

/// A snapshot is on disk and in the log: what it covers may go. Failing here costs space, not data.
void RaftStoreImpl::after_store(const LogBatch& batch) {
  const std::uint64_t too_much = planted(Bug::trim_too_much) ? 1000 : 0;
  auto trimmed = log_->trim(Index{batch.snapshot->index.value + too_much});
  if (trimmed) trimmed = remove_older_snapshots(*batch.snapshot);
  if (!trimmed)
    engine_.log(LogLevel::warning, "store", "old log segments stay: " + trimmed.error().to_string());
}

void RaftStoreImpl::note_sync(std::int64_t nanoseconds) {
  sync_ns_.push_back(nanoseconds);
  if (sync_ns_.size() > kSyncSamplesMax) sync_ns_.pop_front();
  if (nanoseconds > kSlowSync) {
    engine_.log(LogLevel::warning, "store",
                "a log sync took " + std::to_string(nanoseconds / 1'000'000) + " ms");
  }
}

/// For good: the kernel may have dropped what it could not write, so no second try can be believed.
void RaftStoreImpl::fail(const Error& cause) {
  std::vector<Answer> lost;
  std::vector<Read> reads;
  {
    std::lock_guard lock(raft_mutex_);
    if (failed_) return;
    failed_ = Error(Error::unavailable, "store",
                    "the store in " + options_.data_dir + " has failed and must be opened again")
                  .because(cause);
    has_failed_.store(true, std::memory_order_release);
    leads_.store(false, std::memory_order_release);
    for (auto& [id, proposal] : std::exchange(proposals_, {})) lost.push_back(std::move(proposal.answer));
    for (auto& [id, proposal] : std::exchange(forwarded_, {})) lost.push_back(std::move(proposal.answer));
    for (Submission& each : std::exchange(waiting_, {})) lost.push_back(std::move(each.proposal.answer));
    for (auto* list : {&reads_gathering_, &reads_round_}) {
      for (Read& read : *list) reads.push_back(std::move(read));
      list->clear();
    }
    for (auto& [index, read] : std::exchange(reads_applying_, {})) reads.push_back(std::move(read));
  }
  engine_.log(LogLevel::error, "store", "the store has failed: " + cause.to_string());
  const Error unknown =
      Error(Error::unknown_outcome, "store",
            "the store failed while it wrote this; it may or may not be there after a restart")
          .because(cause);
  for (const Answer& answer : lost) {
    if (answer) answer(unknown);
  }
  for (const Read& read : reads) read.done(failed_);
}

// ---- the end

void RaftStoreImpl::stop() {
  if (log_thread_.get_id() == std::this_thread::get_id()) {
    // Called from an answer on the log thread, which cannot wait for itself.
    (void)engine_.post_blocking([self = shared_from_this()] { self->stop(); });
    return;
  }
  if (net_ && options_.log_thread) hand_over();
  {
    std::unique_lock lock(raft_mutex_);
    if (std::exchange(stopping_, true)) return;
    log_wake_.notify_all();
    if (tick_timer_ != 0) engine_.cancel_timer(tick_timer_);
    if (scrub_timer_ != 0) engine_.cancel_timer(scrub_timer_);
  }
  LocalStore::stop();
  if (net_) net_->stop();
  if (log_thread_.joinable()) log_thread_.join();
  if (!options_.log_thread && core_raft_) {
    store_delayed();
    drain_log();
  }
  {
    std::unique_lock lock(raft_mutex_);
    if (applying_ != Applying::running) {
      applying_ = Applying::scheduled;
      lock.unlock();
      run_apply();
      lock.lock();
    } else if (applier_ != std::this_thread::get_id()) {
      quiet_.wait(lock, [this] { return applying_ == Applying::idle; });
    }
    if (!telling_) {
      lock.unlock();
      tell_answers();
      lock.lock();
    } else if (teller_ != std::this_thread::get_id()) {
      quiet_.wait(lock, [this] { return !telling_; });
    }
    quiet_.wait(lock, [this] { return !snapshot_running_; });
  }
  std::vector<Answer> left;
  std::vector<Answer> never;
  std::vector<Read> reads;
  std::vector<std::pair<Index, PeerHandlers::Reply>> changes;
  {
    std::lock_guard lock(raft_mutex_);
    for (auto& [id, proposal] : std::exchange(proposals_, {})) left.push_back(std::move(proposal.answer));
    for (auto& [id, proposal] : std::exchange(forwarded_, {})) left.push_back(std::move(proposal.answer));
    for (Submission& each : std::exchange(waiting_, {})) never.push_back(std::move(each.proposal.answer));
    changes.swap(change_waiters_);
    for (auto* list : {&reads_gathering_, &reads_round_}) {
      for (Read& read : *list) reads.push_back(std::move(read));
      list->clear();
    }
    for (auto& [index, read] : std::exchange(reads_applying_, {})) reads.push_back(std::move(read));
    if (!failed_ && log_ && core_raft_) {
      LogBatch last;
      last.close = true;
      (void)log_->append(last);  // without it the next start only knows less about its last write
      (void)log_->sync();
    }
    log_.reset();
    folder_lock_.reset();
  }
  const Error unknown(Error::unknown_outcome, "store", "the store was stopped while it wrote this");
  const Error stopped(Error::unavailable, "store", "the store has been stopped; nothing was applied");
  for (const Answer& answer : left) {
    if (answer) answer(unknown);
  }
  for (const Answer& answer : never) {
    if (answer) answer(stopped);
  }
  for (const auto& [index, reply] : changes) reply(unknown);
  for (const Read& read : reads) read.done(stopped);
}

StoreStatus RaftStoreImpl::status() const {
  StoreStatus status = LocalStore::status();
  status.kind = "raft";
  using Durability = RaftStoreOptions::Durability;
  status.durability = options_.durability == Durability::sync   ? "sync"
                      : options_.durability == Durability::none ? "none"
                                                                : "interval";
  std::lock_guard lock(raft_mutex_);
  if (!core_raft_) return status;
  status.role = to_string(core_raft_->role());
  if (core_raft_->role() == Role::follower && !core_raft_->configuration().votes(PeerId{identity_.peer}))
    status.role = "learner";
  if (failed_) status.role = "failed";
  status.term = core_raft_->term().value;
  status.log_index = core_raft_->last_index().value;
  status.applied_index = core_raft_->applied().value;
  status.log_bytes = Bytes{log_bytes_};
  status.notes = notes_;
  if (failed_) status.alarms.push_back(failed_->to_string());
  for (const auto& [file, rot] : rot_) status.alarms.push_back(rot);
  if (low_space_) status.alarms.push_back("no space for the next log segment under " + options_.data_dir);
  if (net_) {
    if (core_raft_->leader().value == 0) status.alarms.push_back("no leader is known");
    for (const LinkInfo& link : net_->links()) {
      if (!link.connected && core_raft_->configuration().find(link.id) != nullptr && !link.trouble.empty())
        status.alarms.push_back("peer " + std::to_string(link.id.value) +
                                " is not connected: " + link.trouble);
    }
  }
  std::vector<std::int64_t> sorted(sync_ns_.begin(), sync_ns_.end());
  std::sort(sorted.begin(), sorted.end());
  if (!sorted.empty()) {
    status.sync_p50_us = static_cast<double>(sorted[sorted.size() / 2]) / 1000.0;
    status.sync_p99_us = static_cast<double>(sorted[sorted.size() * 99 / 100]) / 1000.0;
  }
  return status;
}

RaftStoreImpl::RaftView RaftStoreImpl::raft_view() const {
  std::lock_guard lock(raft_mutex_);
  const RaftCore& core = *core_raft_;
  return {core.role(),    core.term(),   core.commit(),       core.last_index(),
          core.applied(), core.leader(), core.configuration()};
}

std::pair<Index, std::uint64_t> RaftStoreImpl::state_hash() const {
  std::lock_guard lock(core_->mutex);
  return {core_->applied.index, core_->state.hash()};
}

}  // namespace orchestra::store
