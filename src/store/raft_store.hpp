#pragma once
// The shell around RaftCore and LogFile: who calls what, on which thread.
//
//   caller          encode, core.propose                              (raft_mutex_)
//   log thread      write + sync everything that arrived meanwhile, core.report_stored
//   event thread    apply what is committed, publish, wake, answer    (one at a time)
//   worker          stream a snapshot file from an immutable image
//
// Lock order: raft_mutex_ before the Core's mutex; neither is held while a callback runs.
#include <atomic>
#include <condition_variable>
#include <thread>

#include "orchestra/raft_store.hpp"
#include "store/disk/log.hpp"
#include "store/disk/snapshot.hpp"
#include "store/local_store.hpp"
#include "store/raft/core.hpp"

namespace orchestra::store {

class RaftStoreImpl final : public LocalStore {
 public:
  RaftStoreImpl(Engine& engine, RaftStoreOptions options);
  ~RaftStoreImpl() override;
  /// Recovers, becomes leader, starts the threads.
  Result<void> start();

  std::string cluster_id() const override;
  StoreStatus status() const override;
  void stop() override;

 private:
  struct Proposal {
    Command command;
    Answer answer;
  };
  enum class Applying : std::uint8_t { idle, scheduled, running };

  // raft_store_open.cpp: before any other thread exists
  Result<void> load_newest_snapshot(const RecoveredLog& recovered);
  Result<void> load_snapshot_file(const SnapshotMarker& marker);
  Result<void> remove_other_snapshots(std::optional<SnapshotMarker> keep);
  Result<void> become_leader_alone();

  // raft_store.cpp
  void propose(Command command, Answer answer) override;
  std::optional<Error> read_refusal() const override;
  LogIdentity identity() const override { return identity_; }
  std::optional<Error> refuse_locked(const Command& command);
  void collect_locked();
  void wake_log_locked();
  void log_loop();
  void drain_log();
  bool store_next(std::unique_lock<std::mutex>& lock);
  void after_store(const LogBatch& batch);
  void note_sync(std::int64_t nanoseconds);
  void fail(const Error& error);
  void schedule_apply_locked();
  void run_apply();
  bool apply_some();
  Result<Command> take_command(const Entry& entry, Answer& answer);

  // raft_store_snapshot.cpp
  void maybe_snapshot_locked();
  void take_snapshot(SnapshotImage image, std::uint64_t log_bytes);
  std::string snapshot_path(const SnapshotMarker& marker) const;

  const RaftStoreOptions options_;
  Disk& disk_;
  std::shared_ptr<void> folder_lock_;
  LogIdentity identity_;
  std::unique_ptr<LogFile> log_;  ///< start(), then the log thread only

  mutable std::mutex raft_mutex_;
  std::condition_variable log_wake_;
  std::condition_variable quiet_;
  std::optional<RaftCore> core_raft_;
  std::map<ProposalId, Proposal> proposals_;
  LogBatch batch_;  ///< what the log thread takes next; bounded by uncommitted_bytes_max
  StoredReceipt receipt_;
  std::deque<Entry> committed_;  ///< for the applier; proposals stop at kApplyBacklogMax
  std::uint64_t committed_bytes_ = 0;
  Applying applying_ = Applying::idle;
  std::thread::id applier_;
  bool log_scheduled_ = false;  ///< log_thread = false: a drain is queued or runs
  bool log_done_ = false;
  bool stopping_ = false;
  bool snapshot_running_ = false;
  bool low_space_ = false;
  std::int64_t space_checked_ns_ = 0;
  std::optional<Error> failed_;
  std::atomic<bool> has_failed_{false};
  std::vector<std::string> notes_;
  std::uint64_t log_bytes_ = 0;
  std::uint64_t log_bytes_at_snapshot_ = 0;
  std::deque<std::int64_t> sync_ns_;  ///< the last kSyncSamplesMax
  std::thread log_thread_;
};

}  // namespace orchestra::store
