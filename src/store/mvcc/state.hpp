#pragma once
// The state machine: tree, history, leases and revisions; a pure function of (state, command).
//
// Peers that apply the same commands hold the same state, so nothing here reads a clock, draws a number,
// knows a local limit or iterates in hash order. Semantics are etcd's (api/mvccpb, server/etcdserver/apply):
// an empty store is at revision 1; a command that changes something takes one revision; one that fails or
// changes nothing takes none.
// One owner calls it, one call at a time; trees it hands out may be read by any thread.
#include <map>
#include <set>
#include <string>
#include <vector>

#include "store/mvcc/command.hpp"
#include "store/mvcc/history.hpp"
#include "store/mvcc/sessions.hpp"
#include "store/mvcc/tree.hpp"

namespace orchestra::store {

struct LeaseState {
  std::chrono::seconds ttl{};
  std::chrono::milliseconds checkpoint{};  ///< what was left when that was last recorded; 0: all of it
  std::set<std::string, std::less<>> keys;
  /// How long it lives when somebody new has to end it.
  std::chrono::milliseconds remaining() const {
    return checkpoint.count() == 0 ? std::chrono::milliseconds(ttl) : checkpoint;
  }
};

class MvccState {
 public:
  Outcome apply(Command command);

  Revision revision() const { return revision_; }
  Revision compacted() const { return compacted_; }
  const Tree& tree() const { return tree_; }
  const History& history() const { return history_; }
  const std::map<LeaseId, LeaseState>& leases() const { return leases_; }
  const Sessions& sessions() const { return sessions_; }
  /// Bytes of all current records.
  std::uint64_t bytes() const { return bytes_; }
  /// Equal on peers with equal content: the sum of a hash of each current record.
  std::uint64_t hash() const { return hash_; }

  /// Of everything that peers must agree on; looks at each lease.
  std::uint64_t fingerprint() const;

  /// The tree as of a revision between compacted() and revision(); 0 = newest. `compacted` or `future` else.
  Result<OldTree> tree_at(Revision revision) const;

  /// Loading a snapshot into an empty state: records in key order, then finish_records; leases; kept changes
  /// in order; finish_load.
  void load_record(RecordRef record);
  void finish_records() { tree_ = Tree::from_sorted(std::exchange(loading_, {})); }
  void load_lease(LeaseId id, std::chrono::seconds ttl, std::chrono::milliseconds checkpoint);
  void load_sessions(Sessions sessions) { sessions_ = std::move(sessions); }
  void load_change(Change change) { history_.append(std::move(change)); }
  void finish_load(Revision revision, Revision compacted);

  // What another store decided (EtcdStore's mirror); leases are its own matter. ----
  /// One change; version 0: a removal. Revisions never go back.
  void follow(const KeyValue& change);
  /// All changes up to `revision` were given.
  void follow_to(Revision revision);
  /// Exactly these records at `revision`, without history.
  void follow_from(std::vector<RecordRef> records, Revision revision);

 private:
  struct Written {
    Revision revision;  ///< that the running command takes, if it changes something
    bool any = false;
  };
  Outcome apply_txn(Txn txn);
  Outcome apply_grant(const LeaseGrant& grant);
  Outcome apply_revoke(const LeaseRevoke& revoke);
  Outcome apply_compact(const Compact& compact);
  Outcome apply_once(OnceTxn once);
  Outcome apply_checkpoint(const LeaseCheckpoint& checkpoint);
  bool holds(const Compare& compare) const;
  void decide(const Txn& txn, TxnResult& result) const;
  Result<void> check_ops(const Txn& txn, const TxnResult& result) const;
  void run_ops(Txn& txn, Written& written, TxnResult& result);
  void put(TxnOp& op, Written& written, TxnResult::OpResult& result);
  void remove(const KeyRange& range, bool want_previous, Written& written, TxnResult::OpResult& result);
  void erase_key(const std::string& key, Written& written, RecordRef* previous);
  void finish(const Written& written);
  void detach(LeaseId lease, std::string_view key);

  Tree tree_;
  std::vector<RecordRef> loading_;
  History history_;
  std::map<LeaseId, LeaseState> leases_;
  Sessions sessions_;
  Revision revision_ = 1;
  Revision compacted_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t hash_ = 0;
};

/// The items of a range in one tree; `revision` goes into the result as it is.
RangeResult read_range(const Tree& tree, const KeyRange& range, const RangeOptions& options,
                       Revision revision);

Error compacted_error(Revision asked, Revision compacted, Revision current);
Error future_error(Revision asked, Revision compacted, Revision current);

/// A txn's form that needs no state: key sizes, double puts, targets. `invalid` or `too_large`.
Result<void> check_txn(const Txn& txn, const StoreCapabilities& limits);
/// Each operation holds as many txns as its type says, and none lies deeper than `depth_max` (the outermost
/// txn: 1). Before it nothing may look into a txn of a caller.
Result<void> check_nesting(const Txn& txn, std::size_t depth_max);
Result<void> check_key(std::string_view key, const StoreCapabilities& limits);
Result<void> check_range(const KeyRange& range, const StoreCapabilities& limits);

}  // namespace orchestra::store
