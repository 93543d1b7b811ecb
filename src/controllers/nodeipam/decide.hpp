#pragma once
// Node IPAM (kubernetes/pkg/controller/nodeipam): each Node gets a range of its own for its pods. Pure.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

struct NodeIpamOptions {
  /// "10.244.0.0/16", or with a range of IPv6, a /96 or larger, behind a comma: a node's part of that is made
  /// of its IPv4 one (net/podnet/dual_stack.hpp). Empty: pods need no ranges, nothing is done.
  std::string cluster_cidr = {};
  int node_prefix = 24;  ///< of each node's range; a smaller cluster range goes to one node as a whole
};
std::shared_ptr<const Reconciler> make_node_ipam_reconciler(NodeIpamOptions options);

}  // namespace orchestra::controllers
