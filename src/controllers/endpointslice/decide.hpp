#pragma once
// EndpointSlices and Endpoints of Services with a selector. Pure; see decide.cpp, endpoints.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
inline constexpr std::size_t kEndpointsPerSlice = 100;
inline constexpr std::size_t kEndpointsMax = 1000;  ///< of an Endpoints object; more are cut
std::shared_ptr<const Reconciler> make_endpoint_slice_reconciler();
std::shared_ptr<const Reconciler> make_endpoints_reconciler();
}  // namespace orchestra::controllers
