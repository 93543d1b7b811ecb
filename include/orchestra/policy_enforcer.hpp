#pragma once
// PolicyEnforcer: NetworkPolicies of a snapshot, enforced for the pods of one node by nftables.
//
// One table of its own per instance. Ingress of the receiving pod and egress of the sending pod must both
// allow; replies, the pod's own node and the pod to itself always pass. While there are policies, an
// address of the node's pod range that the snapshot does not know yet is closed: a pod is never open before
// its policies are there. When a change denies what was allowed, its tracked connections are cut. Rules
// that somebody else removes are written again. Any thread. Since 0.1.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/network_snapshot.hpp"
#include "orchestra/pending.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra {

struct PolicyEnforcerOptions {
  std::string node;      ///< whose pods are protected
  std::string instance;  ///< 8 hex digits: names our table
  std::string pod_cidr;  ///< this node's part of the pod range
  /// As PodNetworkOptions: what pods may do by IPv4 they may do by IPv6; blocks of addresses (ipBlock) are
  /// about packets of their own family. Since 0.2.
  std::string cluster_cidr6;
  bool ipv4 = true;  ///< as PodNetworkOptions: false: pods have IPv6 alone. Since 0.2.
  NetworkNamespace name_space;
};

/// A packet that opens a connection, as the pods see it.
struct PolicyFlow {
  std::string source, destination;  ///< addresses of one family
  IpProtocol protocol = IpProtocol::tcp;
  std::uint16_t port = 0;  ///< of the destination
};
struct PolicyVerdict {
  bool allowed = true;
  std::string why;  ///< one sentence: which policy and rule, or which absence
};

struct PolicyApplyResult {
  std::size_t policies = 0, pods = 0;  ///< in force, and of this node selected by one
  std::size_t elements = 0;            ///< set and map elements that were added or removed
  bool rewritten = false;              ///< the whole table, not only elements
  std::size_t connections_cut = 0;
  std::vector<NetworkRejection> rejected;
};

struct PolicyCounter {
  NamespacedName policy;
  std::string direction;                 ///< "ingress", "egress"
  std::uint64_t packets = 0, bytes = 0;  ///< that it allowed (first packets of connections)
};

class ORC_API PolicyEnforcer {
 public:
  virtual ~PolicyEnforcer() = default;
  /// `unsupported` or `denied` where nftables cannot be used. Blocks; not on event threads.
  static Result<std::shared_ptr<PolicyEnforcer>> create(Engine& engine, PolicyEnforcerOptions options);
  /// `unavailable` until pods, namespaces and policies are listed completely; the rules stay as they are.
  virtual Pending<PolicyApplyResult> apply(std::shared_ptr<const NetworkSnapshot> snapshot) = 0;
  /// By the snapshot that was applied last.
  virtual Result<PolicyVerdict> explain(const PolicyFlow& flow) const = 0;
  /// Since the table was last rewritten. Blocks; not on event threads.
  virtual Pending<std::vector<PolicyCounter>> counters() = 0;
  /// Removes the table. Twice is fine.
  virtual Pending<void> teardown() = 0;
};

}  // namespace orchestra
