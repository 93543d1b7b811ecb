#pragma once
// HttpProxy: brings HTTP from outside to pods, by the Ingress objects of a NetworkSnapshot.
//
// HTTP/1.1 and HTTPS with certificates by server name, streaming both ways, WebSocket and other upgrades.
// Requests go to the Services' endpoints directly. Routes, endpoints and certificates change in place:
// publish() closes no connection and loses no request. A refused connection, or an idle one that its server
// closed, is tried at another endpoint where that can do no harm. Since 0.1.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/network_snapshot.hpp"
#include "orchestra/request_hold.hpp"
#include "orchestra/result.hpp"
#include "orchestra/traffic_router.hpp"

namespace orchestra {

struct HttpProxyOptions {
  std::vector<std::string> listen = {"127.0.0.1:8080"};  ///< port 0 takes a free one
  std::vector<std::string> listen_tls = {};
  std::size_t workers = 2;
  std::string class_name = "orchestra";  ///< ours, also where no IngressClass object exists
  /// Peers whose X-Forwarded-* fields are believed and extended, as addresses.
  std::vector<std::string> trusted_proxies = {};
  /// What Ingress status shows; empty: the addresses of the listeners.
  std::vector<std::string> status_addresses = {};
  std::size_t connections_max = 65536;
  std::size_t connections_per_client_max = 1024;
  std::size_t header_bytes_max = 64 << 10;  ///< 431
  Duration header_deadline = std::chrono::seconds(10);
  Duration idle_deadline = std::chrono::seconds(75);
  Duration connect_deadline = std::chrono::seconds(5);
  Duration response_deadline = std::chrono::seconds(60);  ///< until the head of the answer: 504
  Duration stream_idle_deadline = std::chrono::minutes(5);
  /// Asked about Services without endpoints; none: their requests get 503 at once.
  std::shared_ptr<RequestHold> hold = {};
  std::size_t held_per_service_max = 500;             ///< per worker; more get 503
  Duration hold_deadline = std::chrono::seconds(60);  ///< then 503
  Duration tunnel_idle_deadline = std::chrono::hours(1);
};

struct HttpProxyStats {
  std::uint64_t connections = 0, requests = 0;
  std::uint64_t retries = 0;            ///< requests sent to another endpoint or once more
  std::uint64_t not_routed = 0;         ///< 404
  std::uint64_t upstream_failures = 0;  ///< 502, 503, 504 of our own
};

/// What status.loadBalancer.ingress of an Ingress should show.
struct IngressStatus {
  NamespacedName ingress;
  std::vector<std::string> addresses;  ///< IP addresses
};

/// Any thread. Ends with stop() or its last reference; the engine must outlive it.
class ORC_API HttpProxy {
 public:
  virtual ~HttpProxy() = default;
  /// Listens at once; answers 503 until the first complete snapshot. `busy` names the holder of a port.
  static Result<std::shared_ptr<HttpProxy>> create(Engine& engine, HttpProxyOptions options);
  /// Requests that come after this see the new routes; running ones end as they began.
  virtual void publish(std::shared_ptr<const NetworkSnapshot> snapshot) = 0;
  virtual std::vector<std::string> addresses() const = 0;      ///< of `listen`, with the real ports
  virtual std::vector<std::string> tls_addresses() const = 0;  ///< of `listen_tls`
  /// Which rule takes this request, which Service, which endpoints; or why none.
  virtual std::string explain(const std::string& host, const std::string& path) const = 0;
  /// Steers shares of requests among Services; in force within 10 ms. Lives as long as the proxy.
  virtual TrafficRouter& traffic() = 0;
  /// The Ingresses of our class in the last snapshot. Clear the status of others that show our addresses.
  virtual std::vector<IngressStatus> statuses() const = 0;
  /// Rules and certificates that are not served, for Warning events.
  virtual std::vector<NetworkRejection> rejected() const = 0;
  virtual HttpProxyStats stats() const = 0;
  /// Stops accepting, lets running requests end within `grace`, then cuts. Idempotent.
  virtual void stop(Duration grace) = 0;
};

}  // namespace orchestra
