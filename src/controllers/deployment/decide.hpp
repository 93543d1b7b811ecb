#pragma once
// Deployment: moves from one ReplicaSet to the next. Pure; see decide.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_deployment_reconciler();
}  // namespace orchestra::controllers
