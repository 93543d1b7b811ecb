#pragma once
// Snapshot files outside a running store: looking at one, and making a store's folder from one.
#include <string>

#include "orchestra/env.hpp"
#include "store/disk/snapshot.hpp"

namespace orchestra::store {

/// Reads and verifies the whole file.
Result<SnapshotSummary> verify_snapshot_file(Disk& disk, const std::string& file);

struct RestoreOptions {
  std::string file;
  std::string folder;  ///< of the store; must not exist or be empty
  /// Added to the revision, with everything below compacted, so that every watcher and cache lists again
  /// instead of missing changes; 0 = an exact copy, history and all.
  Revision bump = 1'000'000'000;
};
/// Verifies everything before it touches the target, builds `FOLDER.tmp` and renames it. The new store has a
/// new cluster id and the next epoch.
Result<SnapshotSummary> restore_snapshot(Disk& disk, Random& random, const RestoreOptions& options);

/// A snapshot's bytes in order from a file.
SnapshotSource snapshot_source(DiskFile& file);
/// Writes `image` to `path` by way of a temporary file, synced and renamed.
Result<SnapshotSummary> write_snapshot_to(Disk& disk, const std::string& path, const SnapshotImage& image);
/// "snapshot-INDEX-TERM.snap"
std::string snapshot_file_name(Index index, Term term);

}  // namespace orchestra::store
