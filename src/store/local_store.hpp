#pragma once
// LocalStore: everything of a StateStore that does not depend on how a command becomes final.
//
// MemoryStore applies a command at once, RaftStore when the log has it; both keep the same state machine
// behind one mutex, publish an immutable root, and serve reads, snapshots, watches, leases and waiting for
// revisions from here. Newest reads take the published root (a lock held for one pointer copy).
//
// A published root shares its nodes with the state, so the next batch must copy each node it touches. While
// nobody reads, nothing is published: the first read after a pause publishes what is there (it waits for the
// batch that is being applied, if there is one), and from then on each batch does, as long as reads come.
#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "orchestra/memory_store.hpp"
#include "orchestra/raft_store.hpp"
#include "orchestra/state_store.hpp"
#include "store/disk/snapshot.hpp"
#include "store/lease_clock.hpp"
#include "store/mvcc/state.hpp"
#include "store/raft/core.hpp"
#include "store/watch_hub.hpp"

namespace orchestra::store {

/// What readers see: immutable.
struct Root {
  Tree tree;
  Revision revision = 1;
  Revision compacted = 0;
};

/// The shared part; watches hold it, so they may outlive the store.
struct Core {
  std::mutex mutex;  ///< guards state, hub, leases, waiters, old_trees
  MvccState state;
  WatchHub hub;
  LeaseClock leases;
  std::pair<std::uint64_t, std::uint64_t> mark;  ///< the last StateCheck and the fingerprint there
  ProposalId applied;                            ///< the log entry up to which `state` is
  std::atomic<bool> stopped{false};              ///< written under the mutex

  struct Waiter {
    Promise<void> promise;
    Engine::TimerId timer = 0;
  };
  std::map<std::pair<Revision, std::uint64_t>, Waiter> waiters;
  std::uint64_t next_waiter = 0;

  /// Trees of old revisions that were built lately: a paged list asks for the same one again.
  static constexpr std::size_t kOldTreesMax = 8;
  std::deque<std::shared_ptr<const Root>> old_trees;

  // Of `state`, for those who need no root; written under the mutex.
  std::atomic<Revision> revision{1}, compacted{0};
  std::atomic<std::uint64_t> state_bytes{0};

  /// The newest one. Not with the mutex held.
  std::shared_ptr<const Root> root() {
    read_.store(true, std::memory_order_relaxed);
    {
      std::lock_guard lock(root_mutex_);
      if (root_) return root_;
    }
    std::lock_guard lock(mutex);
    return publish_locked();
  }
  /// `state` has changed.
  void changed_locked();
  /// Now, whether somebody reads or not.
  std::shared_ptr<const Root> publish_locked();

 private:
  std::atomic<bool> read_{false};  ///< somebody took a root since the last change
  std::mutex root_mutex_;          ///< held for one pointer copy
  std::shared_ptr<const Root> root_ =
      std::make_shared<Root>();  ///< null: not published since the last change
};

class LocalStore : public StateStore, public StoreSessions, public std::enable_shared_from_this<LocalStore> {
 public:
  ~LocalStore() override;
  Pending<GetResult> get(std::string key, GetOptions options) override;
  Pending<RangeResult> range(KeyRange range, RangeOptions options) override;
  Pending<Snapshot> snapshot(Revision revision, Consistency consistency) override;
  Pending<WriteResult> put(std::string key, Value value, PutOptions options) override;
  Pending<WriteResult> remove(KeyRange range, RemoveOptions options) override;
  Pending<TxnResult> txn(Txn txn) override;
  Result<Watch> watch(WatchOptions options) override;
  Pending<LeaseId> lease_grant(std::chrono::seconds ttl, LeaseId id) override;
  Pending<void> lease_keep_alive(LeaseId id) override;
  Pending<void> lease_revoke(LeaseId id) override;
  Pending<LeaseInfo> lease_time_to_live(LeaseId id, bool want_keys) override;
  Pending<std::vector<LeaseInfo>> lease_list() override;
  Pending<void> compact(Revision revision) override;
  Revision revision() const override { return core_->revision.load(std::memory_order_acquire); }
  Revision compacted_revision() const override { return core_->compacted.load(std::memory_order_acquire); }
  Pending<void> wait_revision(Revision revision, Duration deadline) override;
  StoreStatus status() const override;
  StoreCapabilities capabilities() const override {
    StoreCapabilities all;
    all.exactly_once = true;
    return all;
  }
  Pending<std::string> session_open() override;
  Pending<Revision> save_snapshot(std::function<Result<void>(std::string_view)> sink) override;
  void stop() override;

 protected:
  using Answer = std::function<void(Outcome)>;
  LocalStore(Engine& engine, StoreLimits limits);

  /// Makes `command` final and calls `answer` once, from any thread, with no lock of ours held.
  virtual void propose(Command&& command, Answer answer) = 0;
  /// What only the leader may decide, by its own clock: refused when this peer is none any more.
  virtual void propose_as_leader(Command&& command, Answer answer) {
    propose(std::move(command), std::move(answer));
  }
  /// Why reads cannot be served now, if so (the store failed).
  virtual std::optional<Error> read_refusal() const { return std::nullopt; }
  /// Whether this peer expires leases and compacts by age: with several, the leader does.
  virtual bool leads() const { return true; }
  /// Linearizable reads and leases must ask others first; when_current() then calls `done` once this peer's
  /// state is at least as new as anything acknowledged before the call.
  virtual bool reads_need_round() const { return false; }
  virtual void when_current(std::function<void(std::optional<Error>)> done) { done(std::nullopt); }
  /// Of the leader, when this peer is not.
  virtual Pending<void> remote_keep_alive(LeaseId id);
  virtual Pending<LeaseInfo> remote_time_to_live(LeaseId id, bool want_keys);
  virtual Pending<std::vector<LeaseInfo>> remote_lease_list();
  /// Whether somebody else, or this store after a restart, goes on with the leases: their rests are recorded.
  virtual bool records_leases() const { return false; }
  /// Each lease has what was last recorded of its time: this peer becomes the one that ends them. Then, once
  /// leads() says so: arm_lease_timer().
  void restart_leases();
  void arm_lease_timer();
  /// Replaces everything by a state that a peer sent; watches go on where they were, or end `compacted`.
  void install(MvccState state, ProposalId last);

  /// Who this store is, in snapshots.
  virtual LogIdentity identity() const = 0;

  /// Applies in order, publishes, wakes watches and waiters, then returns the outcomes. One caller at a
  /// time. `last` is the log entry up to which the state then is.
  std::vector<Outcome> apply(std::span<Command> commands, ProposalId last = {},
                             std::vector<Outcome> memory = {});
  // For a store whose changes are decided elsewhere and only followed here (local_follow.cpp). ----
  /// Whole revisions in order, all later than revision(); publishes, wakes, as apply() does.
  void follow(const std::vector<KeyValue>& changes);
  /// No change up to `revision` is missing.
  void follow_to(Revision revision);
  void follow_compaction(Revision revision);
  /// Begins anew with these records: all watches end with `compacted`.
  void follow_from(std::vector<RecordRef> records, Revision revision);

  /// The state as it is now, without history; then, at leisure, the history that belongs to it.
  SnapshotImage capture() const;
  void add_history(SnapshotImage& image) const;
  /// The state's fingerprint at this StateCheck; none: it is not the last one applied here.
  std::optional<std::uint64_t> state_mark(std::uint64_t number) const;
  /// Starts lease expiry and automatic compaction; call once the state is loaded.
  void start_timers();

  Engine& engine_;
  const StoreLimits limits_;
  const std::shared_ptr<Core> core_ = std::make_shared<Core>();

 private:
  Result<std::shared_ptr<const Root>> root_at(Revision revision) const;
  Result<GetResult> get_here(const std::string& key, const GetOptions& options) const;
  Result<RangeResult> range_here(const KeyRange& range, const RangeOptions& options) const;
  Result<Snapshot> snapshot_here(Revision revision) const;
  Result<bool> keep_alive_here(LeaseId id, bool record_gone);
  void keep_alive_recorded(LeaseId id, const Promise<void>& promise);
  void start_leases_locked();
  void start_lease_locked(LeaseId id, std::chrono::seconds ttl, std::chrono::milliseconds left);
  Result<LeaseInfo> time_to_live_here(LeaseId id, bool want_keys) const;
  template <class T>
  Pending<T> when_current_then(std::function<Result<T>()> read);
  std::optional<Error> refusal() const;
  std::optional<Error> admit(const Txn& txn) const;
  struct RequestId {
    std::uint64_t session = 0, sequence = 0;
  };
  void run_txn(Txn&& txn, Answer answer, std::optional<RequestId> once = {});
  Pending<WriteResult> run_conditional(Txn&& txn, std::optional<RequestId> once = {});
  Pending<void> propose_void(Command&& command);
  void announce(WatchHub::Wake wake);
  LeaseInfo lease_info_locked(LeaseId id, const LeaseState& lease, bool want_keys) const;
  void expire_leases();
  void schedule_compaction();
  void compact_by_age();
  void compact_by_size();
  std::int64_t steady_now() const;

  struct Sample {
    std::int64_t steady_ns;
    Revision revision;
  };
  std::mutex timer_mutex_;
  Engine::TimerId lease_timer_ = 0;
  std::int64_t lease_timer_at_ = 0;
  Engine::TimerId compact_timer_ = 0;
  std::deque<Sample> samples_;  ///< at most kSamplesMax
  bool size_compaction_running_ = false;
  std::uint64_t state_bytes_max_ = 0;
};

/// Why the compares of `txn` did not hold, with the key-value that is there now as its detail.
Error conflict_error(const std::string& key, const Txn& txn, const RangeResult& now);

/// "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
std::string to_uuid(const std::array<char, 16>& bytes);

/// The machine's memory, or the cgroup's limit where it is lower.
std::uint64_t memory_bytes();

}  // namespace orchestra::store
