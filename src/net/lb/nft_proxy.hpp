#pragma once
// ServiceProxy by nftables: the shell around RulePlan.
#include <memory>

#include "orchestra/service_proxy.hpp"

namespace orchestra::net {
/// Fails with `unsupported` or `denied` where nftables cannot be used.
Result<std::shared_ptr<ServiceProxy>> make_nft_proxy(Engine& engine, ServiceProxyOptions options);
/// What a proxy of this instance left when its process was killed: the tables (also that of policies), or the
/// userspace proxy's route.
Result<void> remove_service_leftovers(const std::string& instance, const std::string& service_cidr,
                                      const NetworkNamespace& name_space);
}  // namespace orchestra::net
