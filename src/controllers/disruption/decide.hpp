#pragma once
// PodDisruptionBudget status: how many pods may be evicted now. Pure; see decide.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_disruption_reconciler();
}  // namespace orchestra::controllers
