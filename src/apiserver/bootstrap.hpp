#pragma once
// The objects that every cluster has, made before the server is ready and again where they are missing.
#include "apiserver/core.hpp"

namespace orchestra::apiserver {

struct BootstrapOptions {
  std::string service_cidr;
  std::string advertise_host;  ///< where `kubernetes` points to; empty: no endpoints
  int advertise_port = 0;
  std::string ca_pem = {};  ///< of client certificates, for extension servers
};
/// Priority levels and flow schemas of an empty cluster.
std::vector<json::value> flow_control_objects();
/// Default roles and bindings, and the sums of aggregated ones. Idempotent. Blocks.
Result<void> bootstrap_rbac(const std::shared_ptr<ApiCore>& core);
/// Idempotent. Blocks.
Result<void> bootstrap(const std::shared_ptr<ApiCore>& core, const BootstrapOptions& options);

}  // namespace orchestra::apiserver
