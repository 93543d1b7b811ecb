#pragma once
// Moving a store's content into another one: `orchestra store migrate FROM TO`.
//
// A snapshot is written in the order of the revisions at which its keys last changed, in transactions that
// both sides can take, then both sides are read again and compared. Revisions cannot be carried over: the
// new store counts its own, and its cluster id tells every client that its old resourceVersions are of
// another life. Keys with a lease get one of the same length there.
// FROM may be written to meanwhile if the move follows it: after the copy comes what a watch tells, revision
// by revision, until FROM was quiet for a while, which is when its writers have been switched over. Then FROM
// is read once more and must be what TO is.
#include <functional>
#include <string>

#include "orchestra/state_store.hpp"

namespace orchestra::store {

struct MigrateSummary {
  Revision from_revision = 0, to_revision = 0;
  std::uint64_t keys = 0, bytes = 0, leases = 0, txns = 0;
  std::uint64_t followed = 0;  ///< changes that came meanwhile
  std::string sha256;          ///< of all keys and values in key order, equal on both sides
};

struct MigrateOptions {
  Duration quiet{};                    ///< follow FROM until it was not written to for so long; 0: do not
  std::function<bool()> stopped = {};  ///< gives up (`cancelled`) when it says so
};

/// `conflict`: TO is not empty, or FROM was written to meanwhile and is not followed; `corrupt`: the copy
/// differs. Blocks.
Result<MigrateSummary> migrate(StateStore& from, StateStore& to, const MigrateOptions& options = {});

}  // namespace orchestra::store
