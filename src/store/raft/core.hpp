#pragma once
// RaftCore: consensus as a pure state machine (Ongaro 2014). It never sends, writes, waits or reads a
// clock: calls change it, take_ready() says what must happen, and the owner reports what did happen.
//
// Storage is asynchronous: a peer's acknowledgement - the leader's own and that of a cluster of one too -
// counts only after report_stored(). Rules kept: election restriction, commit by counting only in the own
// term (section 3.6), an empty entry at the start of a term, pre-vote with leader stickiness (9.6, 4.2.3),
// check-quorum (6.2), conflict hints by term (3.5), reads by ReadIndex with shared rounds (6.4), leadership
// transfer (3.10), joint consensus (4.3) with learners, snapshots for those who fell behind (5), and where it
// is asked for, reads under a lease of the leader (6.4.1; reads.cpp). A configuration counts from the moment
// it is in the log, and goes with the entry when that is cut off. An id is given to
// one disk only, which an entry of the log says first (membership.cpp): who lost its disk comes back as
// somebody else.
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "orchestra/result.hpp"
#include "store/raft/log_view.hpp"
#include "store/raft/types.hpp"

namespace orchestra::store {

enum class Role : std::uint8_t { follower, pre_candidate, candidate, leader };
const char* to_string(Role role);

struct RaftOptions {
  PeerId self;
  unsigned heartbeat_ticks = 1;
  unsigned election_ticks_min = 5;  ///< drawn anew each time from [min, max]
  unsigned election_ticks_max = 9;
  std::size_t append_bytes_max = 1u << 20;
  std::size_t inflight_messages_max = 512;  ///< appends per peer that wait for their answer
  std::size_t inflight_bytes_max = 64u << 20;
  std::size_t uncommitted_bytes_max = 64u << 20;
  std::size_t keep_entries = 10'000;     ///< kept for slow followers, ...
  std::size_t keep_bytes = 64u << 20;    ///< ... or this many bytes, whichever is more
  std::uint64_t promote_lag_max = 1000;  ///< entries that a learner may lack when it becomes a voter
  /// Each peer that answers a heartbeat votes for nobody else for election_ticks_min; so long, by the
  /// leader's clock and less what clocks may differ, the leader answers reads unasked. 0: it always asks.
  std::int64_t lease_ns = 0;
  std::uint64_t seed = 0;
};

/// What was on disk at start.
struct RaftStart {
  HardState hard_state;
  Index snapshot_index;
  Term snapshot_term;
  Configuration configuration;  ///< as of the snapshot index
  std::vector<Entry> entries;
};

/// What a batch of writes makes durable; handed back by report_stored() after the sync.
struct StoredReceipt {
  Term hard_term;
  PeerId vote;
  Term entry_term;
  Index entry_index;
};

struct ReadState {
  std::uint64_t context = 0;
  Index index;  ///< serve the read once this is applied
};

/// The log up to here is replaced by a snapshot that the owner holds.
struct SnapshotPoint {
  Index index;
  Term term;
};

struct Ready {
  std::optional<HardState> hard_state;       ///< write first
  std::optional<SnapshotPoint> snapshot;     ///< write second: then older entries do not count any more
  std::vector<Entry> entries;                ///< write third; one sync for all
  StoredReceipt receipt;                     ///< for report_stored() after that sync
  std::vector<Message> messages_now;         ///< may leave before the sync
  std::vector<Message> messages_after_sync;  ///< must not, nor before any earlier sync is done
  std::vector<Entry> committed;              ///< apply in this order, exactly once (after the snapshot)
  std::vector<ReadState> reads;
  std::vector<PeerId> snapshots_wanted;  ///< send one, then report_snapshot()
  bool lost_quorum = false;              ///< no longer leader because no majority answers
  bool must_store() const { return hard_state.has_value() || snapshot.has_value() || !entries.empty(); }
  bool empty() const {
    return !must_store() && messages_now.empty() && messages_after_sync.empty() && committed.empty() &&
           reads.empty() && snapshots_wanted.empty() && !lost_quorum;
  }
};

/// Where a proposal went; the entry that comes out committed there is it, if the term is the same.
struct ProposalId {
  Term term;
  Index index;
  friend auto operator<=>(const ProposalId&, const ProposalId&) = default;
  friend bool operator==(const ProposalId&, const ProposalId&) = default;
};

struct MemberChange {
  /// start: its id goes to a disk now.
  enum class Type : std::uint8_t { add_learner, add_voter, promote, remove, update, start };
  Type type{};
  Member member;            ///< promote, remove, start: the id alone counts
  bool force = false;       ///< also when those connected now would be no majority afterwards
  std::uint64_t nonce = 0;  ///< start: the owner's, of the attempt that asks for it
};

/// What the leader knows of another peer.
struct PeerProgress {
  Index match;
  bool active = false;
  const char* state = "";
};

class RaftCore {
 public:
  RaftCore(RaftOptions options, RaftStart start);

  /// The owner's clock (one that goes on while the machine sleeps), before each call below: for leases only.
  void set_now(std::int64_t now_ns) { now_ns_ = std::max(now_ns_, now_ns); }
  void tick();
  void step(const Message& message);
  /// `not_leader` with the leader's id as PeerId detail; `overloaded` past uncommitted_bytes_max.
  Result<ProposalId> propose(std::shared_ptr<const std::string> data);
  /// A ReadState with this context follows once leadership is confirmed; a follower asks its leader. It may
  /// never come (leader lost): ask again.
  Result<void> read_index(std::uint64_t context);
  /// An error says why, and then nothing was appended.
  Result<ProposalId> change_membership(const MemberChange& change);
  Result<void> transfer_leadership(PeerId to);
  void report_stored(const StoredReceipt& receipt);
  void report_applied(Index index);
  /// The peer's connection broke: what is under way to it may be lost.
  void report_unreachable(PeerId peer);
  /// The connection from `peer` was reset; if it is the leader, a pre-vote may begin early (safe).
  void report_reset(PeerId peer);
  void report_snapshot(PeerId peer, Index index, bool arrived);
  Ready take_ready();

  Role role() const { return role_; }
  Term term() const { return hard_.term; }
  PeerId vote() const { return hard_.vote; }
  PeerId leader() const { return leader_; }
  Index commit() const { return hard_.commit; }
  Index last_index() const { return log_.last(); }
  Index base_index() const { return log_.base(); }
  Term term_at(Index index) const { return log_.term_at(index); }
  Index applied() const { return applied_; }
  const Configuration& configuration() const { return configurations_.back().what; }
  /// Counts every change of configuration(), forth or back.
  std::uint64_t configuration_changes() const { return configuration_changes_; }
  /// As of an applied index that is not below the base.
  const Configuration& configuration_at(Index index) const;
  struct PlacedConfiguration {
    Index index;
    Configuration what;
  };
  /// All that are not behind the log's base, by index; the first is as of the base or later.
  const std::deque<PlacedConfiguration>& configurations() const { return configurations_; }
  std::map<PeerId, PeerProgress> progress() const;
  bool transferring() const { return transfer_to_.value != 0; }
  /// The only member, and a voter.
  bool alone() const;
  /// The founder, as long as nobody else can have an entry of its cluster.
  bool founding() const { return role_ != Role::leader && only_founded(); }
  /// Leader, and an entry of the own term is committed: reads and writes can be served.
  bool serving() const { return role_ == Role::leader && log_.term_at(hard_.commit) == hard_.term; }
  /// Nobody else can have been elected until now.
  bool lease_held() const {
    return role_ == Role::leader && !lease_given_up_ && lease_configuration_ == configuration_changes_ &&
           now_ns_ < lease_until_ns_;
  }

 private:
  enum class Flow : std::uint8_t { probe, replicate, snapshot };
  struct Progress {
    Index match;
    Index next;
    Flow flow = Flow::probe;
    bool waiting = false;     ///< a probe is on its way
    std::uint64_t heard = 0;  ///< tick of the last answer; 0: never
    std::uint64_t confirmed_round = 0;
    std::uint64_t promised_round = 0;                    ///< the last that it answered with a promise
    std::deque<std::pair<Index, std::size_t>> inflight;  ///< last index and bytes of each append
    std::size_t inflight_bytes = 0;
    unsigned stalled_beats = 0;
    Index snapshot_index;
  };
  struct PendingRead {
    std::uint64_t context;
    PeerId from;
    Index index;
    std::uint64_t round;
  };
  // core.cpp
  void become_follower(Term term, PeerId leader);
  void campaign(bool pre, bool transfer = false);
  void become_leader();
  void count_votes_now();
  bool promotable() const;
  bool only_founded() const;
  void draw_election_timeout();
  void tick_leader();
  std::uint64_t random();
  void send(Message message, bool after_sync);
  void on_vote_request(const Message& message);
  void on_vote_answer(const Message& message);
  void step_same_term(const Message& message);
  void refuse_stale(const Message& message);
  bool up_to_date(const Message& candidate) const;

  // replication.cpp
  void append_own(EntryType type, std::shared_ptr<const std::string> data);
  void send_append(PeerId peer, Progress& progress, bool even_if_empty);
  void send_appends(bool even_if_empty);
  bool window_open(const Progress& progress) const;
  void reset_flow(Progress& progress);
  void broadcast_heartbeat();
  void on_append(const Message& message);
  void on_append_answer(const Message& message);
  void on_heartbeat(const Message& message);
  void on_heartbeat_answer(const Message& message);
  void on_snapshot(const Message& message);
  void advance_commit();
  void trim_log();

  // reads.cpp
  void add_read(std::uint64_t context, PeerId from);
  void start_read_round();
  void begin_round();
  void renew_lease();
  void promise();
  void confirm_reads();
  void answer_read(std::uint64_t context, PeerId to, Index index);

  // membership.cpp
  void note_configuration(const Entry& entry);
  void forget_configurations(Index from);
  void configuration_changed();
  void leave_joint();
  void mark_started();
  Result<Configuration> changed(const MemberChange& change) const;
  Result<void> check_connected(const Configuration& next) const;
  Result<void> check_started(const Configuration& next) const;
  bool recently_heard(PeerId peer) const;
  void append_configuration(const Configuration& next);
  void maybe_send_timeout_now(PeerId peer, const Progress& progress);

  const RaftOptions options_;
  LogView log_;
  HardState hard_;
  HardState taken_hard_;
  std::uint64_t configuration_changes_ = 0;
  std::deque<PlacedConfiguration> configurations_;  ///< the first is as of the log's base or later
  Index taken_;                                     ///< entries up to here went out by take_ready
  Index stored_;                                    ///< of the own log, reported
  Term stored_term_;                                ///< the hard state's, reported
  Index hold_until_;                                ///< leader: no append leaves before this is stored
  Index handed_;                                    ///< committed entries up to here went out
  Index applied_;
  Role role_ = Role::follower;
  PeerId leader_;
  std::uint64_t ticks_ = 1;
  unsigned elapsed_ = 0;
  unsigned election_timeout_ = 0;
  std::uint64_t random_;
  std::map<PeerId, bool> votes_;
  bool campaign_transfer_ = false;
  std::map<PeerId, Progress> progress_;
  std::uint64_t read_round_ = 0;
  bool read_round_open_ = false;
  std::int64_t now_ns_ = 0;
  std::int64_t lease_until_ns_ = 0;
  std::uint64_t lease_configuration_ = 0;
  bool lease_given_up_ = false;                                     ///< for this term: leadership was offered
  std::deque<std::pair<std::uint64_t, std::int64_t>> round_began_;  ///< those not confirmed yet
  std::uint64_t promised_until_ = 0;                                ///< tick; no vote and no campaign before
  std::deque<PendingRead> pending_reads_;
  std::vector<std::pair<std::uint64_t, PeerId>> early_reads_;  ///< until an own entry is committed
  PeerId transfer_to_;
  unsigned transfer_elapsed_ = 0;
  std::size_t uncommitted_bytes_ = 0;
  bool appends_due_ = false;  ///< new entries or a new commit index have not been sent yet
  bool commit_due_ = false;
  Ready out_;
};

}  // namespace orchestra::store
