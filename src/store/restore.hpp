#pragma once
// Snapshot files outside a running store: looking at one, and making a store's folder from one.
#include <string>
#include <vector>

#include "orchestra/env.hpp"
#include "store/disk/snapshot.hpp"

namespace orchestra::store {

/// Reads and verifies the whole file.
Result<SnapshotSummary> verify_snapshot_file(Disk& disk, const std::string& file);

struct RestoreOptions {
  /// A snapshot, or the folder of a backup; with force_new_cluster also the folder of a stopped peer.
  std::string file;
  Revision to_revision = 0;  ///< of a backup: as it was then; 0: the last one
  std::string folder;        ///< of the store; must not exist or be empty
  /// Added to the revision, with everything below compacted, so that every watcher and cache lists again
  /// instead of missing changes; 0 = an exact copy, history and all.
  Revision bump = 1'000'000'000;
  /// "NAME=HOST:PORT" of the peers of the new cluster, and which of them this folder is for. The same file,
  /// list and bump on each of them make one cluster. None: a cluster of one.
  std::vector<std::string> initial_peers = {};
  std::string name = "a";
  /// `file` is the data folder of a peer whose majority is lost for good: all that it has counts, what only
  /// the others had is lost.
  bool force_new_cluster = false;
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
