// ServiceProxy in userspace: which addresses to listen on, and what changes with a snapshot.
//
// A Service port with endpoints has a listener on each of its addresses; one without has none, so the
// kernel itself answers with a reset. Changed endpoints go to the running listener. A listener that goes
// leaves its established TCP connections alone.
#include "net/lb/userspace_proxy.hpp"

#include <linux/rtnetlink.h>

#include <map>
#include <mutex>
#include <tuple>

#include "base/engine_impl.hpp"
#include "net/lb/explain.hpp"
#include "net/lb/health_checks.hpp"
#include "net/lb/userspace_relay.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "net/serial_queue.hpp"

namespace orchestra::net {
namespace {

constexpr Duration kCloseDeadline = std::chrono::seconds(1);

struct Front {
  IpProtocol protocol = IpProtocol::tcp;
  std::uint32_t address = 0;  ///< 0: a node port, on every address
  std::uint16_t port = 0;
  friend auto operator<=>(const Front&, const Front&) = default;
};
struct Wanted {
  RelayTargets targets;
  const NetworkService* service = nullptr;
};

NetworkRejection reject(const NetworkService& service, std::string reason, std::string message) {
  return {"Service", service.ns, service.name, service.uid, std::move(reason), std::move(message)};
}

RelayTargets targets_of(const NetworkService& service, const NetworkServicePort& port, std::string_view node,
                        TrafficOrigin origin, std::string_view zone) {
  RelayTargets out;
  const auto wish = service.annotations.find("orchestra.dev/load-balance");
  out.round_robin = wish != service.annotations.end() && wish->second == "round_robin";
  if (service.affinity_client_ip) out.affinity_seconds = service.affinity_seconds;
  for (const auto& endpoint : usable_endpoints(service, port, node, origin, zone).chosen) {
    const auto address = IpAddress::parse(endpoint.address);
    if (address && address->is_v4()) out.list.push_back({address->v4_number(), endpoint.port});
  }
  return out;
}

/// Pure: every listener the snapshot asks for.
std::map<Front, Wanted> wanted_fronts(const NetworkSnapshot& snapshot, std::string_view node,
                                      std::vector<NetworkRejection>& rejected) {
  std::map<Front, Wanted> out;
  const std::string_view zone = snapshot.zone_of(node);
  for (const auto& [name, service] : snapshot.services) {
    for (const auto& port : service->ports) {
      if (port.protocol == IpProtocol::sctp) {
        rejected.push_back(reject(*service, "UnsupportedProtocol",
                                  "port \"" + port.name + "\" is SCTP, which is served by nftables only; " +
                                      "this node relays TCP and UDP"));
        continue;
      }
      auto inside = targets_of(*service, port, node, TrafficOrigin::internal, zone);
      if (!inside.list.empty()) {
        for (const auto& text : service->cluster_ips) {
          const auto address = IpAddress::parse(text);
          if (!address || !address->is_v4()) continue;
          out[{port.protocol, address->v4_number(), port.port}] = {inside, service.get()};
        }
      }
      auto outside = targets_of(*service, port, node, TrafficOrigin::external, zone);
      if (port.node_port != 0 && !outside.list.empty()) {
        out[{port.protocol, 0, port.node_port}] = {std::move(outside), service.get()};
      }
    }
  }
  return out;
}

class UserspaceProxy final : public ServiceProxy, public std::enable_shared_from_this<UserspaceProxy> {
 public:
  UserspaceProxy(Engine& engine, ServiceProxyOptions options)
      : options_(std::move(options)),
        queue_(std::make_shared<SerialQueue>(engine)),
        shared_(std::make_shared<RelayShared>(event_context(engine), engine.random(), engine.clock())),
        health_(engine, options_.node, options_.name_space) {
    shared_->name_space = options_.name_space;
    shared_->connections_max = options_.connections_max;
    shared_->udp_flows_max = options_.udp_flows_max;
  }
  ~UserspaceProxy() override {
    for (auto& [front, listener] : listeners_) listener.relay->close();
  }

  Result<void> start() {
    if (!options_.local_route) return {};
    return change_local_route(true);
  }

  Pending<ApplyResult> apply(std::shared_ptr<const NetworkSnapshot> snapshot) override {
    if (!snapshot->synced.services || !snapshot->synced.endpoint_slices) {
      return Error(Error::unavailable, "net",
                   "Services and EndpointSlices are not listed completely yet; listeners stay as they are");
    }
    return queue_->run(
        [self = shared_from_this(), snapshot = std::move(snapshot)] { return self->apply_now(snapshot); });
  }

  Result<std::string> explain(std::string_view target) override {
    std::lock_guard lock(mutex_);
    if (!applied_) return Error(Error::unavailable, "net", "no snapshot was applied yet");
    return explain_target(*applied_, options_.node, target);
  }

  const char* mode() const override { return "userspace"; }

  ServiceProxyStats stats() const override {
    std::lock_guard lock(mutex_);
    ServiceProxyStats out;
    out.syncs = syncs_;
    out.connections = shared_->connections;
    out.connections_refused = shared_->connections_refused;
    out.connect_failures = shared_->connect_failures;
    out.connections_open = shared_->connections_open;
    out.udp_flows = shared_->udp_flows;
    return out;
  }

  Pending<void> teardown() override {
    return queue_->run([self = shared_from_this()]() -> Result<void> {
      self->torn_down_ = true;
      self->health_.close();
      for (auto& [front, listener] : self->listeners_) listener.relay->close();
      self->listeners_.clear();
      if (self->options_.local_route) return self->change_local_route(false);
      return {};
    });
  }

 private:
  struct Listener {
    std::shared_ptr<Relay> relay;
    RelayTargets targets;
  };

  Result<ApplyResult> apply_now(const std::shared_ptr<const NetworkSnapshot>& snapshot) {
    if (torn_down_) return Error(Error::unavailable, "net", "the service proxy was torn down");
    ApplyResult result;
    auto wanted = wanted_fronts(*snapshot, options_.node, result.rejected);
    for (auto listener = listeners_.begin(); listener != listeners_.end();) {
      if (wanted.contains(listener->first)) {
        ++listener;
        continue;
      }
      // Waited for, so that the answer of apply() means that the address refuses.
      (void)listener->second.relay->stop_listening().wait(kCloseDeadline);
      listener = listeners_.erase(listener);
      ++result.changes;
    }
    for (auto& [front, want] : wanted) {
      const auto known = listeners_.find(front);
      if (known != listeners_.end()) {
        if (known->second.targets == want.targets) continue;
        known->second.relay->set_targets(want.targets);
        known->second.targets = want.targets;
        ++result.changes;
        continue;
      }
      auto relay = front.protocol == IpProtocol::tcp
                       ? start_tcp_relay(shared_, front.address, front.port, want.targets)
                       : start_udp_relay(shared_, front.address, front.port, want.targets);
      if (!relay) {
        result.rejected.push_back(reject(*want.service, "ListenFailed", relay.error().to_string()));
        continue;
      }
      listeners_[front] = {std::move(relay).value(), want.targets};
      ++result.changes;
    }
    health_.apply(*snapshot, result.rejected);
    result.revision = snapshot->revision;
    result.services = listeners_.size();
    std::lock_guard lock(mutex_);
    applied_ = snapshot;
    ++syncs_;
    return result;
  }

  /// Every address of the Service range becomes one of this machine, so that listeners get its packets.
  Result<void> change_local_route(bool add) {
    ORC_ASSIGN(const IpRange range, IpRange::parse(options_.service_cidr));
    return in_namespace(options_.name_space, [&]() -> Result<void> {
      ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
      ORC_ASSIGN(const auto loopback, routes.find_link("lo"));
      Route route;
      route.destination = range;
      route.type = RTN_LOCAL;
      route.scope = RT_SCOPE_HOST;
      route.table = RT_TABLE_LOCAL;
      route.link = loopback ? loopback->index : 1;
      return add ? routes.add_route(route) : routes.remove_route(route);
    });
  }

  const ServiceProxyOptions options_;
  std::shared_ptr<SerialQueue> queue_;
  std::shared_ptr<RelayShared> shared_;
  // Used in the queue only:
  std::map<Front, Listener> listeners_;
  HealthChecks health_;
  bool torn_down_ = false;
  mutable std::mutex mutex_;
  std::shared_ptr<const NetworkSnapshot> applied_;
  std::uint64_t syncs_ = 0;
};

}  // namespace

Result<std::shared_ptr<ServiceProxy>> make_userspace_proxy(Engine& engine, ServiceProxyOptions options) {
  if (options.service_cidr.empty() && !options.service_cidr6.empty()) {
    return Error(Error::unsupported, "net",
                 "Services of IPv6 alone need nftables: the userspace relay knows IPv4 only");
  }
  auto proxy = std::make_shared<UserspaceProxy>(engine, std::move(options));
  ORC_TRY(proxy->start());
  return std::shared_ptr<ServiceProxy>(std::move(proxy));
}

}  // namespace orchestra::net
