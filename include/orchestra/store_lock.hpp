#pragma once
// StoreLock: at most one holder of a name among all who ask for it, on any StateStore.
//
//   StoreLock lock(engine, store, {.name = "/locks/reindex", .identity = "node-7"});
//   auto token = lock.lock().wait(30s);
//   if (token) { Txn write; write.compares = {*lock.fence()}; ...; lock.unlock().wait(5s); }
//
// It is a LeaderElection that is held for a while: the holder's key lives on a lease that is kept alive; when
// the holder dies or is cut off, the lease ends and somebody else gets the lock. A holder that was paused may
// believe for a moment that it still has it: a lock protects only what checks the fencing token, the create
// revision of the holder's key. Who waits is not served in any order. Since 0.2.
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "orchestra/state_store.hpp"

namespace orchestra {

struct StoreLockOptions {
  std::string name;      ///< the key, e.g. "/locks/reindex"
  std::string identity;  ///< its value while this one holds it
  std::chrono::seconds ttl{15};
  Duration retry = std::chrono::seconds(1);  ///< after an error of the store
  /// The lock was lost without unlock(): its lease ended or the key was removed. On an engine thread; must
  /// not block.
  std::function<void(const Error& why)> on_lost = {};
};

class ORC_API StoreLock {
 public:
  StoreLock(Engine& engine, std::shared_ptr<StateStore> store, StoreLockOptions options);
  /// Gives the lock up, without waiting for it.
  ~StoreLock();
  StoreLock(const StoreLock&) = delete;
  StoreLock& operator=(const StoreLock&) = delete;

  /// Waits until it is free, and answers the fencing token. Cancelled: this one waits no more. `busy`: it is
  /// held or waited for by this object already; `invalid`: no name or identity, or a ttl below 1 s. Any
  /// thread.
  Pending<Revision> lock();
  /// The same, but `busy` with the holder's KeyValue as its detail where another has it.
  Pending<Revision> try_lock();
  /// Answers once the key is gone; at once where it is not held. After an error it goes with its lease.
  Pending<void> unlock();

  /// While it is held, by the own clock; none otherwise.
  std::optional<Revision> token() const;
  /// To be put into the compares of a transaction: holds while the lock is held with this token.
  std::optional<Compare> fence() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
