#pragma once
// The shell around RaftCore, LogFile and PeerNet: who calls what, on which thread.
//
//   caller          encode, core.propose (or ask the leader to)       (raft_mutex_)
//   log thread      write + sync everything that arrived meanwhile, core.report_stored, send what waited for
//   it event threads   messages of peers, ticks; apply what is committed, publish, wake, answer (one at a
//   time) worker          stream a snapshot file from an immutable image; send and receive snapshots
//
// Lock order: raft_mutex_, then PeerNet's or the Core's mutex; none is held while a callback runs.
#include <atomic>
#include <condition_variable>
#include <set>
#include <thread>

#include "orchestra/raft_store.hpp"
#include "store/disk/log.hpp"
#include "store/disk/snapshot.hpp"
#include "store/local_store.hpp"
#include "store/raft/core.hpp"
#include "store/transport/peer_net.hpp"

namespace orchestra::store {

/// What the simulator gives a peer, and what it wants to see of it. No production store has one.
struct SimulatedPeer {
  LogIdentity identity;                 ///< who a fresh peer is: it need not ask
  Term enrolled;                        ///< Place::term of it
  std::optional<Configuration> founds;  ///< the cluster that it founds
  std::size_t append_bytes_max = 0;     ///< of one message; 0: as in production
  std::uint8_t commands_known = 0;  ///< of an earlier release: the last type of its commands; 0: of this one
  /// How long the disk takes for the next batch. Empty: no time.
  std::function<Duration()> log_delay = {};
  /// See LogOptions::on_append.
  std::function<void(const LogBatch&, bool stored)> on_append = {};
};

/// The file `repair` of a peer that fetches everything anew (raft_store_repair.cpp).
struct RepairMark {
  std::string step;
  LogIdentity identity;  ///< of the damaged files; while it joins: the new one
};
std::string encode_repair_mark(const RepairMark& mark);
std::optional<RepairMark> decode_repair_mark(std::string_view text);

class RaftStoreImpl final : public LocalStore, public StoreMembers {
 public:
  RaftStoreImpl(Engine& engine, RaftStoreOptions options, std::optional<SimulatedPeer> given = {});
  ~RaftStoreImpl() override;
  /// Recovers and starts the threads; alone, becomes leader first.
  Result<void> start();

  std::string cluster_id() const override;
  StoreStatus status() const override;
  void stop() override;

  Pending<std::vector<StoreMember>> members() override;
  Pending<std::uint64_t> add_member(std::string name, std::string address, bool learner, bool force) override;
  Pending<void> promote_member(std::uint64_t id) override;
  Pending<void> remove_member(std::uint64_t id, bool force) override;
  Pending<void> update_member(std::uint64_t id, std::string address) override;
  Pending<void> transfer_leadership(std::uint64_t id) override;

  /// For checkers: the state's hash with the log index that it belongs to.
  std::pair<Index, std::uint64_t> state_hash() const;
  /// What the core knows (simulator, tests).
  struct RaftView {
    Role role{};
    Term term;
    Index commit, last, applied;
    PeerId leader;
    Configuration configuration;
  };
  RaftView raft_view() const;
  /// Looks at the core itself, without copying it.
  template <class Look>
  void inspect(Look look) const {
    std::lock_guard lock(raft_mutex_);
    if (core_raft_) look(*core_raft_);
  }
  bool failed() const { return has_failed_.load(std::memory_order_acquire); }
  /// A new peer asks who it is (its transport does; in simulations the simulator).
  void enrol_peer(const Hello& hello, const PeerHandlers::TellPlace& tell);

 private:
  using Done = std::function<void(std::optional<Error>)>;
  struct Proposal {
    std::optional<Command> command;  ///< spares decoding it again
    Answer answer;                   ///< empty: nobody here waits for it
    std::int64_t at_ns = 0;
  };
  struct Submission {
    std::shared_ptr<const std::string> bytes;
    Proposal proposal;
  };
  enum class Applying : std::uint8_t { idle, scheduled, running };
  struct Arrived {  ///< a snapshot from a peer
    SnapshotPoint point;
    MvccState state;
  };
  class Receiver;

  // raft_store_open.cpp: before any other thread exists
  Result<Command> decode(std::string_view bytes) const;
  Result<void> open_log(RecoveredLog& recovered);
  Result<void> find_identity(RecoveredLog& recovered);
  Result<Place> ask_place();
  Result<Place> ask_peers(const Hello& hello, const std::vector<std::string>& addresses,
                          const std::function<bool(const Error&)>& may_pass);
  Result<void> take_place(const Place& place, RecoveredLog& recovered);
  Result<void> found_cluster(Configuration configuration, RecoveredLog& recovered);
  Result<Configuration> base_configuration(const RecoveredLog& recovered) const;
  Result<void> load_newest_snapshot(const RecoveredLog& recovered);
  Result<void> load_snapshot_file(const SnapshotMarker& marker);
  Result<void> remove_other_snapshots(std::optional<SnapshotMarker> keep);
  Result<void> remove_older_snapshots(const SnapshotMarker& keep);
  Result<void> become_leader_alone();
  RaftOptions raft_options() const;
  Result<void> start_peers();

  // raft_store.cpp
  void propose(Command&& command, Answer answer) override {
    propose_to(std::move(command), std::move(answer), true);
  }
  void propose_as_leader(Command&& command, Answer answer) override {
    propose_to(std::move(command), std::move(answer), false);
  }
  void propose_to(Command&& command, Answer answer, bool any_leader);
  std::optional<Error> read_refusal() const override;
  LogIdentity identity() const override { return identity_; }
  std::optional<Error> refuse_locked(const Command* command);
  Error overloaded_locked(const Error& error) const;
  std::optional<Error> submit_locked(Submission& submission);
  void add_proposal_locked(const ProposalId& id, Proposal proposal);
  void collect_locked();
  void collect_soon_locked();
  void take_install_locked(const SnapshotPoint& point);
  void wake_log_locked();
  void wait_for_work(std::unique_lock<std::mutex>& lock);
  void log_loop();
  void drain_log();
  struct Storing {  ///< one batch on its way to the disk, and what waits for it
    LogBatch batch;
    std::vector<Message> messages;
    StoredReceipt receipt;
    bool sync = false;  ///< durability `interval`: what was written before, too
  };
  Storing take_batch_locked();
  bool store(std::unique_lock<std::mutex>& lock, Storing storing);
  bool store_next(std::unique_lock<std::mutex>& lock) { return store(lock, take_batch_locked()); }
  bool nothing_to_store_locked() const {
    return batch_.empty() && after_sync_.empty() && !sync_due_ && !collect_due_;
  }
  void arm_sync_locked();
  void store_delayed();
  void send_after_sync(std::vector<Message>& messages);
  void after_store(const LogBatch& batch);
  void note_sync(std::int64_t nanoseconds);
  void fail(const Error& error);
  void answer_later(Answer answer, Error error);
  std::int64_t steady_now() const { return engine_.clock().now().steady_ns; }

  // raft_store_apply.cpp
  void schedule_apply_locked();
  void post_apply();
  void run_apply();
  void run_apply_inline();
  bool apply_some();
  struct Told {
    std::vector<Answer> answers;
    std::vector<Outcome> outcomes;
  };
  bool post_answers(Told& told);
  void keep_memory_locked(Told&& told);
  void tell_answers();
  bool apply_install();
  void take_proposals_locked(const Entry& entry, Proposal& taken);
  void release_reads_locked(Index applied);

  // raft_store_peers.cpp
  bool leads() const override { return leads_.load(std::memory_order_acquire); }
  bool reads_need_round() const override { return net_ != nullptr; }
  bool records_leases() const override { return true; }
  void when_current(Done done) override;
  Pending<void> remote_keep_alive(LeaseId id) override;
  Pending<LeaseInfo> remote_time_to_live(LeaseId id, bool want_keys) override;
  Pending<std::vector<LeaseInfo>> remote_lease_list() override;
  void on_tick();
  void arm_tick();
  void look_after_locked();
  void note_role_locked();
  void flush_waiting_locked();
  std::optional<Error> refuse_unknown_locked(std::string_view command) const;
  bool forward_locked(Submission& submission);
  void on_forwarded(std::uint64_t sequence, const Result<std::string>& answer);
  void start_round_locked();
  void tell_time_locked() {
    if (options_.lease_reads) core_raft_->set_now(steady_now());
  }
  void on_read_locked(const ReadState& read);
  void on_request(PeerId from, RequestKind kind, const std::string& body, const PeerHandlers::Reply& reply);
  void on_propose_request(const std::string& body, const PeerHandlers::Reply& reply);
  Pending<std::string> ask_leader(RequestKind kind, std::string body);
  Pending<std::uint64_t> change(MemberChange change);
  void change_here(const MemberChange& change, const PeerHandlers::Reply& reply, std::int64_t until = 0);
  std::vector<StoreMember> members_here() const;
  Result<void> admit_peer(const Hello& hello) const;
  Result<Place> enrol_here(const MemberChange& wanted);
  Result<Place> place_locked(const Member& member, std::uint64_t nonce);
  void hand_over();
  PeerHandlers peer_handlers();

  // raft_store_scrub.cpp
  std::vector<std::string> complete_files() const;
  void scrub_later(Duration wait, std::vector<std::string> left);
  void scrub(std::vector<std::string> left);
  void note_rot(const std::string& file, const Error& error);
  void forget_rot_locked();
  void compare_states_locked(std::int64_t now);
  void ask_states(std::uint64_t number);
  void ask_state_locked(std::uint64_t number, PeerId peer);
  void on_state(std::uint64_t number, PeerId peer, const Result<std::string>& answer);
  void judge_states_locked();
  Error diverged_error(const std::string& hashes) const;
  void fail_diverged(const Error& error);
  void on_diverged(const std::string& body, const PeerHandlers::Reply& reply);
  void on_state_request(const std::string& body, const PeerHandlers::Reply& reply) const;

  // raft_store_repair.cpp
  Result<void> open_or_repair(RecoveredLog& recovered);
  Result<void> repair(const LogIdentity& old, const Error& cause, RecoveredLog& recovered);
  Result<void> move_files_aside();
  std::vector<std::string> other_addresses() const;
  bool may_repair() const;
  Result<void> write_repair_mark(const char* step, const LogIdentity& identity);
  Result<std::optional<RepairMark>> read_repair_mark() const;
  void end_repair();
  void rejoin_locked(std::int64_t now);
  Result<Place> replace_peer(const Hello& hello);

  // raft_store_snapshot.cpp
  void maybe_snapshot_locked();
  void begin_snapshot_locked();
  void take_snapshot(SnapshotImage image, std::uint64_t log_grown);
  std::string snapshot_path(const SnapshotMarker& marker) const;
  void send_snapshots_locked();
  void send_snapshot_now(PeerId to, SnapshotMarker marker, Message message);
  void snapshot_sent(PeerId to, Index index, const Result<void>& result);
  Result<std::shared_ptr<SnapshotReceiver>> receive_snapshot(const Hello& hello);
  Result<void> install_snapshot(const std::string& file, Message message);

  const RaftStoreOptions options_;
  const std::optional<SimulatedPeer> given_;
  Disk& disk_;
  std::shared_ptr<void> folder_lock_;
  LogIdentity identity_;
  std::unique_ptr<LogFile> log_;    ///< start(), then the log thread only
  std::shared_ptr<Transport> tls_;  ///< between peers; none: not encrypted
  std::shared_ptr<PeerNet> net_;    ///< set by start(), constant then; none: alone for good

  mutable std::mutex raft_mutex_;
  std::condition_variable log_wake_;
  std::condition_variable quiet_;
  std::optional<RaftCore> core_raft_;
  std::deque<std::pair<ProposalId, Proposal>> proposals_;  ///< by index, then term
  std::map<std::uint64_t, Proposal> forwarded_;            ///< asked of the leader, its place not known yet
  std::deque<Submission> waiting_;                         ///< until a leader is known
  std::vector<std::pair<Index, PeerHandlers::Reply>> change_waiters_;
  struct WaitingChange {
    MemberChange change;
    PeerHandlers::Reply reply;
    std::int64_t until_ns = 0;
  };
  std::vector<WaitingChange> waiting_changes_;  ///< until the change before is done
  std::uint64_t next_sequence_ = 1;
  LogBatch batch_;  ///< what the log thread takes next; bounded by uncommitted_bytes_max
  std::vector<Message> after_sync_;
  StoredReceipt receipt_;
  std::deque<Entry> committed_;  ///< for the applier; proposals stop at kApplyBacklogMax
  std::uint64_t committed_bytes_ = 0;
  Index dequeued_;                       ///< entries up to here went to the applier
  std::shared_ptr<Arrived> arriving_;    ///< offered to the core
  std::shared_ptr<Arrived> installing_;  ///< taken by it, to be applied before committed_
  Applying applying_ = Applying::idle;
  std::thread::id applier_;
  std::vector<Command> applying_commands_;
  bool may_apply_inline_ = false, apply_inline_ = false;  ///< log thread, see run_apply_inline()
  std::deque<Told> to_tell_;       ///< answers of large batches; at most kTellBatchesMax
  std::vector<Told> told_before_;  ///< empty ones, whose memory the next batches use
  bool telling_ = false;
  std::thread::id teller_;
  bool sync_armed_ = false, sync_due_ = false;  ///< durability `interval`
  bool log_scheduled_ = false;                  ///< log_thread = false: a drain is queued or runs
  bool storing_ = false;
  std::int64_t storing_since_ns_ = 0;
  bool collect_due_ = false;            ///< the log thread collects when it takes its next batch
  std::atomic<bool> log_woken_{false};  ///< while it spins: there is work
  bool log_spins_ = false;
  int spins_worth_ = 0;             ///< how often work came soon lately; above 0: spin before sleeping
  std::optional<Storing> delayed_;  ///< a simulated disk has not finished with it
  bool log_done_ = false;
  bool stopping_ = false;
  bool snapshot_running_ = false;
  std::optional<SnapshotMarker> newest_snapshot_;  ///< with its record synced
  Configuration snapshot_configuration_;           ///< as of it
  Index recording_;  ///< of the newest snapshot whose record was given to the log
  std::map<Index, Configuration> marker_configurations_;  ///< as of snapshots whose record is on its way
  std::vector<PeerId> snapshots_wanted_;
  bool low_space_ = false;
  std::optional<Error> failed_;
  std::atomic<bool> has_failed_{false};
  std::atomic<bool> leads_{false};
  std::uint64_t configuration_seen_ = ~std::uint64_t{0};
  std::vector<std::string> notes_;
  std::uint64_t log_bytes_ = 0;
  std::uint64_t log_grown_ =
      0;  ///< bytes written; trimming the log takes nothing from it, as from log_bytes_
  std::uint64_t log_grown_at_snapshot_ = 0;
  std::deque<std::int64_t> sync_ns_;  ///< the last kSyncSamplesMax
  struct Enrolled {
    std::uint64_t nonce = 0;
    ProposalId mark;  ///< the entry that says so; none: told by the founder
  };
  std::map<PeerId, Enrolled> enrolled_;  ///< which attempt gets the id
  std::uint64_t leader_changes_ = 0;
  PeerId leader_seen_;

  bool rejoining_ = false;  ///< repaired: asks to be a voter again
  std::int64_t rejoin_asked_ns_ = 0;
  static constexpr std::size_t kRotMax = 16;
  std::map<std::string, std::string> rot_;  ///< by file ("": the states), what was found, for status()
  bool snapshot_due_ = false;               ///< whatever the log's size: it replaces a damaged file
  Engine::TimerId scrub_timer_ = 0;
  struct Compare {
    std::uint64_t number = 0;
    Configuration configuration;
    std::map<PeerId, std::uint64_t> hashes;
    std::int64_t until_ns = 0;
  };
  std::optional<Compare> compare_;  ///< the last one
  std::int64_t compare_at_ns_ = 0;
  std::uint64_t compares_ = 0;

  struct Read {
    Done done;
    std::int64_t until_ns;
  };
  std::vector<Read> reads_gathering_;  ///< for the next round
  std::vector<Read> reads_round_;      ///< of the round under way
  std::uint64_t read_context_ = 0;     ///< 0: none is under way
  std::uint64_t next_context_ = 1;     ///< begins by chance: the leader may still answer who was here before
  std::int64_t read_asked_ns_ = 0;
  std::multimap<Index, Read> reads_applying_;
  Engine::TimerId tick_timer_ = 0;
  std::int64_t looked_ns_ = 0;
  std::thread log_thread_;
};

}  // namespace orchestra::store
