#pragma once
// Pod garbage collection: pods that nobody else will ever end. Pure but for one timer; see decide.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

struct PodGcOptions {
  std::size_t terminated_max = 12'500;            ///< more Succeeded and Failed pods: the oldest go
  Duration node_gone = std::chrono::seconds(40);  ///< a node may be re-created within this time
};
std::shared_ptr<const Reconciler> make_pod_gc_reconciler(PodGcOptions options = {});
}  // namespace orchestra::controllers
