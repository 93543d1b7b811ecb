#pragma once
// Backups that grow: a snapshot of the whole store, then the changes since, file by file, in one folder; and
// a store made from them as it was at any revision in between.
//
//   cluster                             whose changes these are: cluster id and epoch
//   full-REVISION.snap                  a snapshot (docs/formats/store.md)
//   changes-AFTER-UPTO.orcb             every change of the revisions AFTER+1 .. UPTO
//
// The changes are what a watch tells, revision by revision, so that any store can be backed up from any place
// that reaches it, and they are applied again by the code that applied them first. A file counts once it has
// its name: it is written as .part, synced and renamed. Values are as the store holds them, sealed ones
// sealed.
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/env.hpp"
#include "orchestra/state_store.hpp"
#include "store/disk/segment.hpp"
#include "store/mvcc/state.hpp"

namespace orchestra::store {

struct BackupOptions {
  bool full = false;  ///< begin with a new snapshot
  Duration follow{};  ///< go on until told to stop, a file each so often; 0: what is there now
  std::function<bool()> stopped = {};  ///< asked about each second
};
struct BackupSummary {
  Revision full = 0;  ///< of a snapshot that was made now; 0: none
  Revision after = 0, upto = 0;
  std::uint64_t changes = 0, bytes = 0;
};
/// `invalid`: the folder is of another store; `compacted`: changes since the last time are gone, a full
/// backup is needed. Blocks.
Result<BackupSummary> back_up(StateStore& store, Disk& disk, const std::string& folder,
                              const BackupOptions& options);

/// Whether `folder` holds a backup.
bool is_backup(Disk& disk, const std::string& folder);
/// The store as of `revision` (0: the last one) into `state`. `corrupt` names file and offset.
Result<void> read_backup(Disk& disk, const std::string& folder, Revision revision, MvccState& state,
                         LogIdentity& identity);

/// One revision of a changes file, without its length and checksum (fuzzed).
struct ArchivedRevision {
  struct Change {
    std::string key;
    std::optional<Value> value;  ///< none: removed
    LeaseId lease = 0;
    std::chrono::seconds ttl{};  ///< of the lease
  };
  Revision revision = 0;
  std::vector<Change> changes;
};
std::string encode_archived(const ArchivedRevision& archived);
Result<ArchivedRevision> decode_archived(std::string_view bytes);

}  // namespace orchestra::store
