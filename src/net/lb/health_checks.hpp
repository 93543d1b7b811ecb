#pragma once
// What a load balancer asks a node: does it have endpoints of this Service?
//
// A Service of type LoadBalancer with externalTrafficPolicy Local has a healthCheckNodePort, and on that port
// of every node an HTTP server that says how many of its endpoints are ready there: 200, or 503 where there
// is none (kube-proxy, pkg/proxy/healthcheck/service_health.go). What to serve is a pure function of the
// snapshot; this class opens and closes the listeners, and takes their counts over at once.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "net/http/http_server.hpp"
#include "orchestra/network_snapshot.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra::net {

struct HealthCheck {
  NamespacedName service;
  std::string uid;
  std::size_t local_endpoints = 0;  ///< ready, on this node, each address once
};
/// By port; of two Services with one port (never of one API server) the first counts.
std::map<std::uint16_t, HealthCheck> wanted_health_checks(
    const NetworkSnapshot::Table<NetworkService>& services, std::string_view node);

struct HealthAnswer {
  int status = 503;
  HttpResponder::Headers headers;
  std::string body;
};
/// `proxy_healthy`: the rules of the last snapshot are in force.
HealthAnswer answer_health_check(const HealthCheck& check, bool proxy_healthy);

/// Used by one queue; the answers come from event threads.
class HealthChecks {
 public:
  HealthChecks(Engine& engine, std::string node, NetworkNamespace name_space);
  ~HealthChecks();
  /// Blocks. Adds ports that cannot be opened to `rejected`; they are tried again with the next snapshot.
  void apply(const NetworkSnapshot& snapshot, std::vector<NetworkRejection>& rejected);
  void set_proxy_healthy(bool healthy);
  void close();

 private:
  Result<std::shared_ptr<HttpServer>> listen(const std::string& host, std::uint16_t port);

  /// What the handlers share with this object, which may go before them.
  struct Shared {
    mutable std::mutex mutex;
    bool proxy_healthy = true;
    std::map<std::uint16_t, HealthCheck> checks;
  };

  Engine& engine_;
  const std::string node_;
  const NetworkNamespace name_space_;
  const std::shared_ptr<Shared> shared_;
  NetworkSnapshot::Table<NetworkService> applied_, checked_;  ///< the last snapshot's; those with a port
  std::map<std::uint16_t, std::vector<std::shared_ptr<HttpServer>>> servers_;
};

}  // namespace orchestra::net
