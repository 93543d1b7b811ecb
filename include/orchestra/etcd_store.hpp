#pragma once
// EtcdStore: an existing etcd cluster (3.4 or later) as a StateStore.
//
// Writes are etcd transactions; their conditions are decided by etcd. The keys under `prefix` are mirrored
// in this process by one watch: lists, watches and old revisions are served from the mirror without a round
// trip, a linearizable list asks etcd for its revision and waits until the mirror has it. A write is
// answered when the mirror shows it. A write that etcd may have seen but did not answer is
// `unknown_outcome` and is never sent again; one that certainly did not reach it is `unavailable`. Since 0.2.
#include <memory>
#include <string>
#include <vector>

#include "orchestra/memory_store.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra {

struct EtcdStoreOptions {
  /// "http://10.0.0.1:2379", "https://..", "unix:/path/socket": members of one cluster, tried in this order.
  std::vector<std::string> endpoints;
  /// What is mirrored; empty: everything. Watches outside of it are `unsupported`, other calls go to etcd.
  std::string prefix = {};
  std::string ca_pem = {};           ///< who signed the servers' certificates; empty: the system's bundle
  std::string certificate_pem = {};  ///< of this client
  std::string key_pem = {};
  std::string username = {};  ///< empty: no authentication
  std::string password = {};
  Duration call_deadline = std::chrono::seconds(5);  ///< of each call, over all endpoints
  /// Compact etcd to the revision of so long ago, by one of all clients that have this option (they agree by
  /// a compare-and-put on `compact_rev_key`, as kube-apiservers do); 0 = never.
  Duration compact_age = Duration::zero();
  /// Take a prefix that holds data of a Kubernetes cluster.
  bool adopt = false;
  StoreLimits limits = {};  ///< of the mirror's history; state_bytes_max is etcd's own matter
};

class ORC_API EtcdStore {
 public:
  /// Finds out what the endpoints are, reads the prefix and follows it; blocks for the time that takes.
  /// `unavailable`: nobody answers; `unsupported`: no etcd, too old, its JSON gateway is off; `conflict`: data
  /// of Kubernetes under the prefix and no `adopt`. The engine must outlive the store.
  static Result<std::shared_ptr<StateStore>> open(Engine& engine, EtcdStoreOptions options);
};

}  // namespace orchestra
