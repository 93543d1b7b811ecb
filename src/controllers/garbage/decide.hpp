#pragma once
// Garbage collector: objects whose owners are gone. Pure; see decide.cpp.
#include <memory>
#include <vector>

#include "controllers/common/catalog.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_garbage_collector(std::vector<KnownResource> catalog);
}  // namespace orchestra::controllers
