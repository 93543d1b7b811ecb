#pragma once
// A workload restarts when its configuration changes. Pure; see decide.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_config_rollout();
}  // namespace orchestra::controllers
