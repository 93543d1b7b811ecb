#pragma once
// RaftCore: consensus as a pure state machine (Ongaro 2014). It never sends, writes, waits or reads a
// clock: calls change it, take_ready() says what must happen, and the owner reports what did happen.
//
// Storage is asynchronous: a peer's acknowledgement - the leader's own and that of a cluster of one too -
// counts only after report_stored(). Rules kept: election restriction, commit by counting only in the own
// term (section 3.6), an empty entry at the start of a term, pre-vote with leader stickiness (9.6, 4.2.3),
// check-quorum (6.2), conflict hints by term (3.5), reads by ReadIndex (6.4).
// Not here yet: membership changes, leadership transfer, sending snapshots to slow peers; they answer
// `unsupported`.
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
  std::vector<PeerId> voters;
  unsigned heartbeat_ticks = 1;
  unsigned election_ticks_min = 5;  ///< drawn anew each time from [min, max]
  unsigned election_ticks_max = 9;
  std::size_t append_bytes_max = 1u << 20;
  std::size_t uncommitted_bytes_max = 64u << 20;
  std::uint64_t seed = 0;
};

/// What was on disk at start.
struct RaftStart {
  HardState hard_state;
  Index snapshot_index;
  Term snapshot_term;
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

struct Ready {
  std::optional<HardState> hard_state;       ///< write first
  std::vector<Entry> entries;                ///< write second; one sync for both
  StoredReceipt receipt;                     ///< for report_stored() after that sync
  std::vector<Message> messages_now;         ///< may leave before the sync
  std::vector<Message> messages_after_sync;  ///< must not
  std::vector<Entry> committed;              ///< apply in this order, exactly once
  std::vector<ReadState> reads;
  bool must_store() const { return hard_state.has_value() || !entries.empty(); }
  bool empty() const {
    return !must_store() && messages_now.empty() && messages_after_sync.empty() && committed.empty() &&
           reads.empty();
  }
};

/// Where a proposal went; the entry that comes out committed there is it, if the term is the same.
struct ProposalId {
  Term term;
  Index index;
  friend auto operator<=>(const ProposalId&, const ProposalId&) = default;
};

class RaftCore {
 public:
  RaftCore(RaftOptions options, RaftStart start);

  void tick();
  void step(const Message& message);
  /// `not_leader` with the leader's id as PeerId detail; `overloaded` past uncommitted_bytes_max.
  Result<ProposalId> propose(std::shared_ptr<const std::string> data);
  /// A ReadState with this context follows once leadership is confirmed.
  Result<void> read_index(std::uint64_t context);
  Result<void> change_membership(std::vector<PeerId> voters);
  Result<void> transfer_leadership(PeerId to);
  void report_stored(const StoredReceipt& receipt);
  /// Applied (and, alone, no longer needed in memory).
  void report_applied(Index index);
  Ready take_ready();

  Role role() const { return role_; }
  Term term() const { return hard_.term; }
  PeerId leader() const { return leader_; }
  Index commit() const { return hard_.commit; }
  Index last_index() const { return log_.last(); }
  Index applied() const { return applied_; }
  bool alone() const { return options_.voters.size() == 1 && options_.voters[0] == options_.self; }
  /// Leader, and an entry of the own term is committed: reads and writes can be served.
  bool serving() const { return role_ == Role::leader && log_.term_at(hard_.commit) == hard_.term; }

 private:
  struct Progress {
    Index match;
    Index next;
    bool active = false;   ///< heard from since the last quorum check
    bool probing = true;   ///< one append at a time until the first that fits
    bool waiting = false;  ///< a probe is on its way
    std::uint64_t confirmed_round = 0;
  };
  struct PendingRead {
    std::uint64_t context;
    Index index;
    std::uint64_t round;
  };

  void become_follower(Term term, PeerId leader);
  void campaign(bool pre);
  void become_leader();
  void count_votes();
  std::size_t majority() const { return options_.voters.size() / 2 + 1; }
  void draw_election_timeout();
  void tick_leader();
  void send(Message message, bool after_sync);
  void send_append(PeerId peer);
  void broadcast_append();
  void broadcast_heartbeat();
  void on_vote_request(const Message& message);
  void on_vote_answer(const Message& message);
  void on_append(const Message& message);
  void on_append_answer(const Message& message);
  void on_heartbeat(const Message& message);
  void on_heartbeat_answer(const Message& message);
  void append_own(EntryType type, std::shared_ptr<const std::string> data);
  void advance_commit();
  void confirm_reads();
  bool up_to_date(const Message& candidate) const;

  const RaftOptions options_;
  LogView log_;
  HardState hard_;
  HardState taken_hard_;
  Index taken_;   ///< entries up to here went out by take_ready
  Index stored_;  ///< of the own log, reported
  Index handed_;  ///< committed entries up to here went out
  Index applied_;
  Role role_ = Role::follower;
  PeerId leader_;
  unsigned elapsed_ = 0;
  unsigned quorum_elapsed_ = 0;
  unsigned election_timeout_ = 0;
  std::uint64_t random_;
  std::map<PeerId, bool> votes_;
  std::map<PeerId, Progress> progress_;
  std::uint64_t read_round_ = 0;
  std::vector<PendingRead> pending_reads_;
  std::vector<std::uint64_t> early_reads_;  ///< until an entry of this term is committed
  std::size_t uncommitted_bytes_ = 0;
  Ready out_;
};

}  // namespace orchestra::store
