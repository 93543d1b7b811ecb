#pragma once
// Endpoints made by hand, as EndpointSlices. Pure; see decide.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_endpoint_slice_mirroring();
}  // namespace orchestra::controllers
