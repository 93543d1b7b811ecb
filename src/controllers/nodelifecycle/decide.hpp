#pragma once
// Nodes that stop answering, and the pods that leave tainted nodes. Pure; see decide.cpp, eviction.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

struct NodeLifecycleOptions {
  Duration grace = std::chrono::seconds(50);              ///< since a sign of life was last seen
  Duration startup_grace = std::chrono::seconds(60);      ///< of a node that never posted its status
  Duration eviction_interval = std::chrono::seconds(10);  ///< between two nodes that get NoExecute (0.1/s)
};

std::shared_ptr<const Reconciler> make_node_lifecycle_reconciler(NodeLifecycleOptions options = {});
std::shared_ptr<const Reconciler> make_taint_eviction_reconciler();
}  // namespace orchestra::controllers
