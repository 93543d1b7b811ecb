#pragma once
// The objects that every cluster has, made before the server is ready and again where they are missing.
#include "apiserver/client_in_process.hpp"
#include "apiserver/core.hpp"
#include "base/engine_manual.hpp"

namespace orchestra::apiserver {

struct BootstrapOptions {
  std::string service_cidr;
  std::string advertise_host;  ///< where `kubernetes` points to; empty: no endpoints
  int advertise_port = 0;
  std::string ca_pem = {};  ///< of client certificates, for extension servers
  /// The versions of all roles and bindings when they were found complete, twice: as long as these are what is
  /// there, nothing is compared. Null: always.
  std::shared_ptr<std::string> roles_seen = {};
};
/// The server's own client, and how its answers are waited for: also where time is virtual.
struct Asking {
  explicit Asking(const std::shared_ptr<ApiCore>& core)
      : engine(core->engine()), client(make_in_process_client(core, Identity::server())) {}
  template <class T>
  Result<T> operator()(Pending<T> answer) const {
    return wait_on(engine, std::move(answer), std::chrono::seconds(30));
  }
  Engine& engine;
  const Client client;
};
/// Priority levels and flow schemas of an empty cluster.
std::vector<json::value> flow_control_objects();
/// Default roles and bindings, and the sums of aggregated ones. Idempotent. Blocks. `seen`: as
/// BootstrapOptions::roles_seen.
Result<void> bootstrap_rbac(const std::shared_ptr<ApiCore>& core, std::string* seen = nullptr);
/// Idempotent. Blocks.
Result<void> bootstrap(const std::shared_ptr<ApiCore>& core, const BootstrapOptions& options);

}  // namespace orchestra::apiserver
