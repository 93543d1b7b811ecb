#pragma once
// ServiceProxy: every Service's stable address leads to its pods.
//
// Where nftables works the kernel does it: one table per instance, one atomic transaction per change, and
// the rules keep serving when this process is gone. Elsewhere (and at isolation level process, where
// Services live in 127.96.0.0/16) a userspace relay listens on the Services' own addresses. Which
// endpoints are used is one pure function, and explain() tells why the others are not.
// Thread safe. apply() calls are done in order; the newest snapshot wins. Since 0.1.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/network_snapshot.hpp"
#include "orchestra/pending.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra {

struct ExcludedEndpoint {
  NetworkEndpoint endpoint;
  std::string reason;  ///< "not ready", "terminating", "on another node (internalTrafficPolicy: Local)", ...
};
/// What a Service port leads to, and why.
struct EndpointChoice {
  std::vector<NetworkEndpoint> chosen;
  std::vector<ExcludedEndpoint> excluded;
  bool drop = false;      ///< nothing chosen only because of a Local policy: silence instead of a reset
  std::string why_none;   ///< set when nothing was chosen
  bool not_ours = false;  ///< headless, ExternalName, or another proxy's: no rules at all
};
/// To the cluster address; from outside to an outside address (node port, external or load balancer's
/// address); or to an outside address from a pod or this node, which is as if it went out and came back
/// through a load balancer: no policy holds it to this node.
enum class TrafficOrigin : std::uint8_t { internal, external, near };
/// Pure. Ready endpoints; if none is ready, those that still serve while they terminate; else none. Where
/// every ready endpoint is hinted and some are for this node, or else for its `zone`, only those are used,
/// unless a Local policy has chosen already.
ORC_API EndpointChoice usable_endpoints(const NetworkService& service, const NetworkServicePort& port,
                                        std::string_view node, TrafficOrigin origin = TrafficOrigin::internal,
                                        std::string_view zone = {});

struct ServiceProxyOptions {
  std::string node;
  std::string instance;      ///< 8 hex digits: names our table
  std::string cluster_cidr;  ///< all pods
  std::string service_cidr;  ///< empty: Services have IPv6 alone (by nftables only, with service_cidr6)
  std::string node_gateway;  ///< PodNetwork::node_address(): source of hairpin and outside traffic
  /// The same of IPv6; no service_cidr6: Services are served by IPv4 only. By nftables only. Since 0.2.
  std::string cluster_cidr6, service_cidr6, node_gateway6;
  NetworkNamespace name_space;
  enum class Mode : std::uint8_t { automatic, nftables, userspace };
  Mode mode = Mode::automatic;
  /// Userspace: also make the `local` route for the service range (root without nftables). Off at level
  /// process, where the range lies in 127/8.
  bool local_route = false;
  std::size_t connections_max = 65536;  ///< userspace TCP; more are refused and counted
  std::size_t udp_flows_max = 65536;
};

struct ApplyResult {
  std::int64_t revision = 0;               ///< of the snapshot that is now in force
  std::size_t services = 0;                ///< Service ports with rules
  std::size_t changes = 0;                 ///< kernel elements or listeners added and removed
  bool full = false;                       ///< everything was written anew
  std::vector<NetworkRejection> rejected;  ///< what could not be done, per Service
};

struct ServiceProxyStats {
  std::uint64_t syncs = 0, full_syncs = 0, foreign_changes = 0;
  std::uint64_t connections = 0, connections_refused = 0, connect_failures = 0, udp_flows = 0;
  std::size_t connections_open = 0;
  /// By nftables: what the kernel tracks, and may; 0 where that is not known. Since 0.2.
  std::uint64_t tracked = 0, tracked_max = 0;
};

class ORC_API ServiceProxy {
 public:
  /// Chooses the mode and takes over what an earlier process of the same instance left. Blocks; not on
  /// event threads.
  static Result<std::shared_ptr<ServiceProxy>> create(Engine& engine, ServiceProxyOptions options);
  virtual ~ServiceProxy() = default;

  /// Makes the snapshot true. While Services or slices are not synced the kernel keeps what it has and the
  /// answer is `unavailable`.
  virtual Pending<ApplyResult> apply(std::shared_ptr<const NetworkSnapshot> snapshot) = 0;
  /// "10.96.0.1:80/tcp", "[fd00::1]:80/tcp" (or "nodeport:30080/tcp"): the Service, the chosen endpoints, why
  /// the others are not.
  virtual Result<std::string> explain(std::string_view target) = 0;
  virtual const char* mode() const = 0;  ///< "nftables" or "userspace"
  virtual ServiceProxyStats stats() const = 0;
  /// Removes every rule, route and listener of this instance. Twice is fine.
  virtual Pending<void> teardown() = 0;
};

}  // namespace orchestra
