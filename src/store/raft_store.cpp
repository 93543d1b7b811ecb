// RaftStore at work: proposing, the log thread, applying, failing, stopping (raft_store.hpp).
#include "store/raft_store.hpp"

#include <algorithm>

#include "orchestra/env.hpp"
#include "store/mvcc/command_codec.hpp"

namespace orchestra::store {
namespace {

constexpr std::size_t kApplyBatch = 1024;
constexpr std::uint64_t kApplyBacklogMax = 64u << 20;  ///< bytes committed and not applied
constexpr std::size_t kSyncSamplesMax = 512;
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kSlowSync = 100'000'000;

bool has_put(const Command& command) {
  const auto* txn = std::get_if<Txn>(&command);
  if (txn == nullptr) return std::holds_alternative<LeaseGrant>(command);
  const auto is_put = [](const TxnOp& op) { return op.type == TxnOp::Type::put; };
  return std::any_of(txn->then.begin(), txn->then.end(), is_put) ||
         std::any_of(txn->otherwise.begin(), txn->otherwise.end(), is_put);
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

std::optional<Error> RaftStoreImpl::refuse_locked(const Command& command) {
  if (failed_) return failed_;
  if (stopping_) return Error(Error::unavailable, "store", "the store has been stopped; nothing was applied");
  if (committed_bytes_ > kApplyBacklogMax) {
    return Error(Error::overloaded, "store",
                 std::to_string(committed_bytes_) + " bytes of writes wait to be applied (limit " +
                     std::to_string(kApplyBacklogMax) + "); try again later");
  }
  if (low_space_ && has_put(command)) {
    // Ask the log thread to look again, so that the alarm goes when space is back.
    wake_log_locked();
    return Error(Error::no_space, "store",
                 "the disk under " + options_.data_dir + " has no room for the next log segment of " +
                     std::to_string(options_.segment_bytes.value) +
                     " bytes; free some (removing and compacting still work)");
  }
  return std::nullopt;
}

void RaftStoreImpl::propose(Command command, Answer answer) {
  auto bytes = std::make_shared<const std::string>(encode_command(command));
  std::optional<Error> refused;
  {
    std::lock_guard lock(raft_mutex_);
    refused = refuse_locked(command);
    if (!refused) {
      auto id = core_raft_->propose(std::move(bytes));
      if (id) {
        proposals_.emplace(*id, Proposal{std::move(command), std::move(answer)});
        collect_locked();
        return;
      }
      refused = id.error();
    }
  }
  answer(std::move(*refused));
}

/// Moves what the core wants done to those who do it.
void RaftStoreImpl::collect_locked() {
  Ready ready = core_raft_->take_ready();
  if (ready.must_store()) {
    if (ready.hard_state) batch_.hard_state = ready.hard_state;
    for (Entry& entry : ready.entries) batch_.entries.push_back(std::move(entry));
    receipt_ = ready.receipt;
    wake_log_locked();
  }
  if (!ready.committed.empty()) {
    for (Entry& entry : ready.committed) {
      committed_bytes_ += entry.bytes().size();
      committed_.push_back(std::move(entry));
    }
    schedule_apply_locked();
  }
}

// ---- the log

void RaftStoreImpl::wake_log_locked() {
  if (options_.log_thread) {
    log_wake_.notify_one();
    return;
  }
  if (std::exchange(log_scheduled_, true)) return;
  engine_.post([weak = weak_from_this()] {
    if (auto self = weak.lock()) static_cast<RaftStoreImpl&>(*self).drain_log();
  });
}

void RaftStoreImpl::log_loop() {
  std::unique_lock lock(raft_mutex_);
  while (!failed_) {
    if (batch_.empty() && stopping_) break;
    if (batch_.empty() && !low_space_)
      log_wake_.wait(lock, [this] { return !batch_.empty() || stopping_ || low_space_; });
    if (batch_.empty() && low_space_) log_wake_.wait_for(lock, std::chrono::seconds(1));
    if (!store_next(lock)) break;
  }
  log_done_ = true;
  quiet_.notify_all();
}

void RaftStoreImpl::drain_log() {
  std::unique_lock lock(raft_mutex_);
  log_scheduled_ = false;
  if (low_space_ && batch_.empty() && !failed_) (void)store_next(lock);  // look for space again
  while (!failed_ && !batch_.empty() && store_next(lock)) {
  }
}

/// Stores one batch, with the lock released meanwhile. False: the store failed.
bool RaftStoreImpl::store_next(std::unique_lock<std::mutex>& lock) {
  LogBatch batch = std::exchange(batch_, {});
  const StoredReceipt receipt = receipt_;
  const bool retry_space = low_space_;
  lock.unlock();
  const std::int64_t before = engine_.clock().now().steady_ns;
  Result<void> stored;
  if (!batch.empty()) stored = log_->append(batch);
  const std::int64_t took = engine_.clock().now().steady_ns - before;
  if (!stored && stored.error().is(Error::no_space)) {
    // Nothing was written. The entries stay first in line; the alarm refuses further puts.
    lock.lock();
    low_space_ = true;
    for (Entry& entry : batch_.entries) batch.entries.push_back(std::move(entry));
    if (batch_.hard_state) batch.hard_state = batch_.hard_state;
    if (batch_.snapshot) batch.snapshot = batch_.snapshot;
    batch_ = std::move(batch);
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
    return false;
  }
  if (batch.snapshot) after_store(batch);
  Result<void> reserved;
  if (retry_space || log_->needs_reserve()) reserved = log_->reserve();
  lock.lock();
  low_space_ = !reserved && reserved.error().is(Error::no_space);
  log_bytes_ = log_->bytes();
  if (batch.empty()) return true;
  note_sync(took);
  if (!batch.entries.empty() || batch.hard_state) {
    core_raft_->report_stored(receipt);
    collect_locked();
  }
  return true;
}

/// A snapshot is on disk and in the log: what it covers may go. Failing here costs space, not data.
void RaftStoreImpl::after_store(const LogBatch& batch) {
  auto trimmed = log_->trim(batch.snapshot->index);
  if (trimmed) trimmed = remove_other_snapshots(batch.snapshot);
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
  std::map<ProposalId, Proposal> lost;
  {
    std::lock_guard lock(raft_mutex_);
    if (failed_) return;
    failed_ = Error(Error::unavailable, "store",
                    "the store in " + options_.data_dir + " has failed and must be opened again")
                  .because(cause);
    has_failed_.store(true, std::memory_order_release);
    lost.swap(proposals_);
  }
  engine_.log(LogLevel::error, "store", "the store has failed: " + cause.to_string());
  const Error unknown =
      Error(Error::unknown_outcome, "store",
            "the store failed while it wrote this; it may or may not be there after a restart")
          .because(cause);
  for (auto& [id, proposal] : lost) proposal.answer(unknown);
}

// ---- applying

void RaftStoreImpl::schedule_apply_locked() {
  if (applying_ != Applying::idle) return;
  applying_ = Applying::scheduled;
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

Result<Command> RaftStoreImpl::take_command(const Entry& entry, Answer& answer) {
  const auto found = proposals_.find({entry.term, entry.index});
  if (found == proposals_.end()) return decode_command(entry.bytes());
  Command command = std::move(found->second.command);
  answer = std::move(found->second.answer);
  proposals_.erase(found);
  return command;
}

/// One round; false when there is nothing left.
bool RaftStoreImpl::apply_some() {
  std::vector<Command> commands;
  std::vector<Answer> answers;
  ProposalId last{};
  std::optional<Error> unreadable;
  {
    std::lock_guard lock(raft_mutex_);
    if (committed_.empty() || failed_) {
      applying_ = Applying::idle;
      applier_ = {};
      quiet_.notify_all();
      return false;
    }
    while (!committed_.empty() && commands.size() < kApplyBatch && !unreadable) {
      const Entry& entry = committed_.front();
      if (entry.type == EntryType::command) {
        Answer answer;
        auto command = take_command(entry, answer);
        if (!command) {
          unreadable = command.error();
          break;
        }
        commands.push_back(std::move(*command));
        answers.push_back(std::move(answer));
      }
      last = {entry.term, entry.index};
      committed_bytes_ -= entry.bytes().size();
      committed_.pop_front();
    }
  }
  if (last.index.value != 0) {
    auto outcomes = apply(std::move(commands), last);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (answers[i]) answers[i](std::move(outcomes[i]));
    }
    std::lock_guard lock(raft_mutex_);
    core_raft_->report_applied(last.index);
    maybe_snapshot_locked();
  }
  if (unreadable) fail(*unreadable);
  return true;
}

// ---- the end

void RaftStoreImpl::stop() {
  {
    std::unique_lock lock(raft_mutex_);
    if (std::exchange(stopping_, true)) return;
    log_wake_.notify_all();
  }
  LocalStore::stop();
  if (log_thread_.joinable()) log_thread_.join();
  if (!options_.log_thread && core_raft_) drain_log();
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
    quiet_.wait(lock, [this] { return !snapshot_running_; });
  }
  std::map<ProposalId, Proposal> left;
  {
    std::lock_guard lock(raft_mutex_);
    left.swap(proposals_);
    if (!failed_ && log_ && core_raft_) {
      LogBatch last;
      last.close = true;
      (void)log_->append(last);  // without it the next start only knows less about its last write
    }
    log_.reset();
    folder_lock_.reset();
  }
  for (auto& [id, proposal] : left) {
    proposal.answer(Error(Error::unknown_outcome, "store", "the store was stopped while it wrote this"));
  }
}

StoreStatus RaftStoreImpl::status() const {
  StoreStatus status = LocalStore::status();
  status.kind = "raft";
  status.durability = options_.durability == RaftStoreOptions::Durability::sync ? "sync" : "none";
  std::lock_guard lock(raft_mutex_);
  status.role = failed_ ? "failed" : to_string(core_raft_->role());
  status.term = core_raft_->term().value;
  status.log_index = core_raft_->last_index().value;
  status.applied_index = core_raft_->applied().value;
  status.log_bytes = Bytes{log_bytes_};
  status.notes = notes_;
  if (failed_) status.alarms.push_back(failed_->to_string());
  if (low_space_) status.alarms.push_back("no space for the next log segment under " + options_.data_dir);
  std::vector<std::int64_t> sorted(sync_ns_.begin(), sync_ns_.end());
  std::sort(sorted.begin(), sorted.end());
  if (!sorted.empty()) {
    status.sync_p50_us = static_cast<double>(sorted[sorted.size() / 2]) / 1000.0;
    status.sync_p99_us = static_cast<double>(sorted[sorted.size() * 99 / 100]) / 1000.0;
  }
  return status;
}

}  // namespace orchestra::store
