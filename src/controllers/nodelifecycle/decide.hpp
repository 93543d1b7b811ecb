#pragma once
// Nodes that stop answering, and the pods that leave tainted nodes. Pure; see decide.cpp, eviction.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

struct NodeLifecycleOptions {
  Duration grace = std::chrono::seconds(50);              ///< since the last sign of life
  Duration startup_grace = std::chrono::seconds(60);      ///< of a node that has never given one
  Duration eviction_interval = std::chrono::seconds(10);  ///< between two nodes that get NoExecute (0.1/s)
  /// When this controller began to listen: a silence before that was ours. Else every restart of a cluster
  /// would find all its nodes dead.
  std::int64_t listening_since_wall_ns = 0;
};

std::shared_ptr<const Reconciler> make_node_lifecycle_reconciler(NodeLifecycleOptions options = {});
std::shared_ptr<const Reconciler> make_taint_eviction_reconciler();
}  // namespace orchestra::controllers
