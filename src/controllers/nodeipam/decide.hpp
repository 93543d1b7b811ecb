#pragma once
// Node IPAM (kubernetes/pkg/controller/nodeipam): each Node gets a range of its own for its pods. Pure.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

struct NodeIpamOptions {
  std::string cluster_cidr = {};  ///< "10.244.0.0/16"; empty: pods need no ranges, nothing is done
  int node_prefix = 24;  ///< of each node's range; a smaller cluster range goes to one node as a whole
};
std::shared_ptr<const Reconciler> make_node_ipam_reconciler(NodeIpamOptions options);

}  // namespace orchestra::controllers
