#pragma once
// The commands that change a store: what goes through the log and is applied in the same order by every
// peer. Each is complete in itself: ids are drawn and limits checked before it is proposed.
#include <chrono>
#include <variant>

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
struct Compact {
  Revision revision = 0;
};

using Command = std::variant<Txn, LeaseGrant, LeaseRevoke, Compact>;

/// The answer of applying a command; lease commands and compaction fill `revision` only.
using Outcome = Result<TxnResult>;

}  // namespace orchestra::store
