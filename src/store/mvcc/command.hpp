#pragma once
// The commands that change a store: what goes through the log and is applied in the same order by every
// peer. Each is complete in itself: ids are drawn and limits checked before it is proposed.
#include <chrono>
#include <variant>
#include <vector>

#include "orchestra/state_store.hpp"

namespace orchestra::store {

struct LeaseGrant {
  LeaseId id = 0;
  std::chrono::seconds ttl{};
};
/// Also how a lease expires: its keys go in the same revision.
struct LeaseRevoke {
  LeaseId id = 0;
};
/// What is left of leases, so that a change of leaders or a restart does not begin them anew.
struct LeaseCheckpoint {
  struct Left {
    LeaseId id = 0;
    std::chrono::milliseconds remaining{};  ///< 0: its full time to live again
  };
  std::vector<Left> leases;
};
struct Compact {
  Revision revision = 0;
};

struct SessionOpen {};
/// A mark at which each peer keeps the hash of its state; changes nothing.
struct StateCheck {
  std::uint64_t number = 0;
};
/// A txn that is applied once for its (session, sequence).
struct OnceTxn {
  std::uint64_t session = 0, sequence = 0;
  Txn txn;
};

/// Of txns within txns: encoding, checking and applying them recurse so deep.
constexpr std::size_t kTxnDepthMax = 8;
static_assert(kTxnDepthMax == StoreCapabilities{}.txn_depth_max);

/// Whether `is` holds for an operation other than a nested txn, in any branch at any depth.
template <class Is>
bool any_op(const Txn& txn, const Is& is) {
  for (const auto* ops : {&txn.then, &txn.otherwise}) {
    for (const TxnOp& op : *ops) {
      if (op.type != TxnOp::Type::txn ? is(op) : any_op(op.nested.front(), is)) return true;
    }
  }
  return false;
}
inline bool is_put(const TxnOp& op) { return op.type == TxnOp::Type::put; }

using Command =
    std::variant<Txn, LeaseGrant, LeaseRevoke, Compact, LeaseCheckpoint, SessionOpen, OnceTxn, StateCheck>;

/// The answer of applying a command; lease commands and compaction fill `revision` only, opening a session
/// gives its number as `removed` of the one operation.
using Outcome = Result<TxnResult>;

}  // namespace orchestra::store
