#pragma once
// ServiceProxy by nftables: the shell around RulePlan.
#include <memory>

#include "orchestra/service_proxy.hpp"

namespace orchestra::net {
/// Fails with `unsupported` or `denied` where nftables cannot be used.
Result<std::shared_ptr<ServiceProxy>> make_nft_proxy(Engine& engine, ServiceProxyOptions options);
}  // namespace orchestra::net
