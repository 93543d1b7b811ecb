#pragma once
// RaftStore: a StateStore whose writes are on disk before they are answered.
//
// One peer in this release: every write goes through the Raft core and a checksummed log, is synced
// together with all that arrived during the sync before it, and then applied and answered. kill -9 at any
// time loses no acknowledged write. Several peers come with the same interface and files. Since 0.1.
#include <memory>
#include <string>
#include <vector>

#include "orchestra/memory_store.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra {

struct RaftStoreOptions {
  std::string data_dir;    ///< made (0700) if absent; one process at a time, by a lock on DIR/LOCK
  std::string name = "a";  ///< of this peer, for people
  /// More than one peer is `unsupported` in this release.
  std::vector<std::string> initial_peers = {};
  enum class Durability : std::uint8_t { sync, none };
  Durability durability = Durability::sync;  ///< none: a crash of the machine may lose writes (tests)
  StoreLimits limits = {};
  Bytes segment_bytes{64u << 20};
  Bytes first_segment_bytes{4u << 20};
  /// A snapshot is taken when the log since the last one passes this and half the state, or 512 MiB.
  Bytes snapshot_log_bytes{64u << 20};
  /// False: the log is written by the engine's workers instead of a thread of its own (simulator).
  bool log_thread = true;
};

class ORC_API RaftStore {
 public:
  /// Reads what is there and is ready to write when it returns; blocks for the time that takes.
  /// `busy` names the process that holds the folder; `corrupt` names file and offset and changes nothing.
  /// Once a write or sync of the log fails, the store answers `unavailable` for good (`unknown_outcome`
  /// for what was being written): open it again. The engine must outlive the store. stop(), or dropping
  /// the last copy of what open() returned, closes it and frees the folder before it returns.
  static Result<std::shared_ptr<StateStore>> open(Engine& engine, RaftStoreOptions options);
};

}  // namespace orchestra
