#pragma once
// MemoryStore: a StateStore without a log, for tests and for hosts whose state may go with the process.
//
// The very MVCC tree, watches and leases of RaftStore; a write is applied on the calling thread before
// the call returns. Since 0.1.
#include <memory>

#include "orchestra/state_store.hpp"

namespace orchestra {

struct StoreLimits {
  Duration history_age =
      std::chrono::minutes(5);          ///< kept for watches and old reads; 0 = compact by hand only
  Bytes history_bytes_max{256u << 20};  ///< compacts earlier when the history grows past this
  Bytes state_bytes_max{};              ///< puts past this answer no_space; 0 = half of the memory
  Duration snapshot_age_max = std::chrono::minutes(5);
  std::size_t watchers_max = 100'000;
  std::size_t leases_max = 1'000'000;
};

struct MemoryStoreOptions {
  StoreLimits limits = {};
};

class ORC_API MemoryStore {
 public:
  /// The engine must outlive the store.
  static std::shared_ptr<StateStore> create(Engine& engine, MemoryStoreOptions options = {});
};

}  // namespace orchestra
