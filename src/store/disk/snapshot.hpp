#pragma once
// A snapshot as bytes: the whole state in key order, in checked blocks (docs/formats/store.md).
//
// The same form serves the store's own snapshots, `store snapshot save` and restore. Blocks of about 64 KiB
// each carry a CRC32C; the trailer carries counts, revisions, the state hash and the SHA-256 of all before
// it. Blocks may be compressed (zstd), each by itself. Writing streams from an immutable tree and never holds
// more than a block; reading checks every byte before the result counts. Pure: bytes come and go through
// functions.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "store/disk/segment.hpp"
#include "store/mvcc/state.hpp"
#include "store/raft/types.hpp"

namespace orchestra::store {

struct SnapshotMeta {
  LogIdentity identity;
  Index index;  ///< the last log entry it contains
  Term term;
  Revision revision = 1;
  Revision compacted = 0;
  Configuration configuration;  ///< as of the index; no members: of a store of one peer
  Sessions sessions;
};

/// What is written: immutable copies, taken under the store's mutex.
struct SnapshotImage {
  SnapshotMeta meta;
  std::uint64_t hash = 0;
  Tree tree;
  struct Lease {
    LeaseId id = 0;
    std::chrono::seconds ttl{};
    std::chrono::milliseconds checkpoint{};  ///< LeaseState::checkpoint
  };
  std::vector<Lease> leases;
  std::vector<Change> changes;  ///< the kept history, oldest first
  int zstd_level = 0;           ///< 0: not compressed
};

struct SnapshotSummary {
  SnapshotMeta meta;
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;
  std::string sha256;  ///< of the file without its trailer, in hex
};

using SnapshotSink = std::function<Result<void>(std::string_view)>;
/// Answers `size` bytes, or fewer at the end of the file.
using SnapshotSource = std::function<Result<std::string>(std::size_t size)>;

Result<SnapshotSummary> write_snapshot(const SnapshotImage& image, const SnapshotSink& sink);
/// Verifies everything; with `state` (empty) also loads it. `corrupt` names the offset.
Result<SnapshotSummary> read_snapshot(const SnapshotSource& source, MvccState* state);

}  // namespace orchestra::store
