#pragma once
// DaemonSet: one pod on each node that fits. Pure; see decide.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_daemon_set_reconciler();
}  // namespace orchestra::controllers
