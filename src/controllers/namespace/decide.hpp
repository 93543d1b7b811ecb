#pragma once
// Namespace: a terminating one is emptied, then let go. Pure; see decide.cpp.
#include <memory>
#include <vector>

#include "controllers/common/catalog.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_namespace_reconciler(std::vector<KnownResource> catalog);
}  // namespace orchestra::controllers
