#pragma once
// StatefulSet: pods with an identity and storage of their own, in order. Pure; see decide.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_stateful_set_reconciler();
}  // namespace orchestra::controllers
