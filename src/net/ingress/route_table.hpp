#pragma once
// RouteTable: from the snapshot's Ingresses to "this host and path go to these endpoints". Pure.
//
// Compiled once per snapshot, then only read: host by hash (exact, then wildcard of one label, then any),
// path by hash (exact, then every prefix by segments, longest first). A rule that cannot be served is
// refused with a reason for its Ingress; the rest goes live. Nothing built from user text is ever parsed
// again.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "net/http/address.hpp"
#include "net/ingress/traffic.hpp"
#include "orchestra/network_snapshot.hpp"

namespace orchestra::ingress {

constexpr std::uint64_t kBodyBytesMax = 1 << 20;  ///< as ingress-nginx: 1 MiB unless annotated
constexpr char kController[] = "orchestra.dev/ingress";

struct Endpoint {
  std::string name;  ///< "10.244.1.5:8080": identity, also across tables
  http::SocketAddress address;
};

struct Backend {
  NamespacedName service;
  std::string port;
  std::vector<Endpoint> endpoints;
  std::string why_none;  ///< when there are none
};

struct Route {
  std::string host, path;  ///< as in the rule; "" for defaults
  IngressPathType type = IngressPathType::prefix;
  NamespacedName ingress;
  std::shared_ptr<const Backend> backend;
  std::shared_ptr<const Split> split;            ///< when somebody steers this route
  std::uint64_t body_bytes_max = kBodyBytesMax;  ///< 0: unlimited
};

struct Certificate {
  NamespacedName secret;
  std::string version;  ///< of the Secret
  std::string certificate_pem, key_pem;
};

class RouteTable {
 public:
  struct Options {
    std::string class_name = "orchestra";  ///< ours even where no IngressClass object says so
  };
  static std::shared_ptr<const RouteTable> compile(const NetworkSnapshot& snapshot, const Options& options,
                                                   const TrafficPlan& plan = {});

  /// `host` lower case without port, `path` normalized. Empty `route`: 404.
  const Route* match(std::string_view host, std::string_view path) const;
  /// The certificate of a host: exact, then wildcard; nullptr means the default one.
  std::shared_ptr<const Certificate> certificate(std::string_view host) const;
  /// One sentence: which rule, which Service, which endpoints, or why none.
  std::string explain(std::string_view host, std::string_view path) const;

  std::vector<std::shared_ptr<const Certificate>> certificates() const;
  const std::vector<std::shared_ptr<const Route>>& routes() const { return routes_; }
  /// Every Service port that a route may send to.
  const std::vector<std::shared_ptr<const Backend>>& backends() const { return backends_; }
  /// nullptr when no route sends there any more.
  std::shared_ptr<const Backend> backend(const NamespacedName& service, std::string_view port) const;
  /// Ingresses of our class: their status shows our addresses.
  const std::vector<NamespacedName>& ingresses() const { return ingresses_; }
  /// Rules and certificates that are not served; for Warning events.
  const std::vector<NetworkRejection>& rejected() const { return rejected_; }
  bool synced() const { return synced_; }

 private:
  friend class RouteCompiler;
  struct HostRoutes {
    std::unordered_map<std::string, const Route*> exact, prefix;  // prefixes without a final slash, "" is "/"
    const Route* otherwise = nullptr;
    const Route* find(std::string_view path) const;
  };
  const HostRoutes* find_host(std::string_view host) const;

  std::vector<std::shared_ptr<const Route>> routes_;
  std::vector<std::shared_ptr<const Backend>> backends_;
  std::unordered_map<std::string, HostRoutes> hosts_;      // "" is any host
  std::unordered_map<std::string, HostRoutes> wildcards_;  // by what follows "*."
  const Route* default_ = nullptr;
  std::unordered_map<std::string, std::shared_ptr<const Certificate>> certificates_, wildcard_certificates_;
  std::vector<NamespacedName> ingresses_;
  std::vector<NetworkRejection> rejected_;
  bool synced_ = false;
};

}  // namespace orchestra::ingress
