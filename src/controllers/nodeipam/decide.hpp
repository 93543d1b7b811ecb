#pragma once
// Node IPAM (kubernetes/pkg/controller/nodeipam): each Node gets a range of its own for its pods. Pure.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

/// Where pods have IPv6 alone: what numbers them, in the form of the IPv4 range that they do not have.
inline constexpr const char* kNumbersAlone = "10.244.0.0/16";

struct NodeIpamOptions {
  /// "10.244.0.0/16", or with a range of IPv6, a /96 or larger, before or behind a comma: a node's part of
  /// that is made of its IPv4 one (net/podnet/dual_stack.hpp). A range of IPv6 alone: made of one of
  /// kNumbersAlone. Empty: pods need no ranges, nothing is done.
  std::string cluster_cidr = {};
  int node_prefix = 24;  ///< of each node's range; a smaller cluster range goes to one node as a whole
};
std::shared_ptr<const Reconciler> make_node_ipam_reconciler(NodeIpamOptions options);

}  // namespace orchestra::controllers
