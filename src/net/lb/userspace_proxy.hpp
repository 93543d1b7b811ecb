#pragma once
// ServiceProxy without kernel rules: listeners on the Services' own addresses and a relay.
#include <memory>

#include "orchestra/service_proxy.hpp"

namespace orchestra::net {
Result<std::shared_ptr<ServiceProxy>> make_userspace_proxy(Engine& engine, ServiceProxyOptions options);
}  // namespace orchestra::net
