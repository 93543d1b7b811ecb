// What a pod of the routed network may ask for besides an address: ports of the machine, and limits of rate.
#include <algorithm>

#include "net/lb/conntrack.hpp"
#include "net/podnet/host_ports.hpp"
#include "net/podnet/routed_network.hpp"

namespace orchestra::net {

Result<void> RoutedNetwork::write_host_ports(const std::string& without) {
  std::vector<AddressPool::Lease> leases;
  {
    std::lock_guard lock(mutex_);
    leases = pool_.leases();
  }
  std::erase_if(leases, [&](const auto& lease) { return lease.pod_uid == without; });
  ORC_ASSIGN(auto session, NftSession::open(options_.name_space));
  const std::string table = nft_table_name(options_.instance, "_hp");
  std::string text = options_.ipv4 ? host_port_table_text(table, gateway_, leases) : "";
  if (ranges_.cluster6) text += host_port_table_text(table, gateway_, leases, ranges_.cluster6);
  ORC_TRY(session->run(text));
  unpublished_.clear();
  return {};
}

Result<void> RoutedNetwork::publish_host_ports(const AddressPool::Lease& lease) {
  auto written = write_host_ports();
  if (!written) return written.error().with_context("host ports");
  cut_udp_flows(lease, true);
  return {};
}

void RoutedNetwork::cut_udp_flows(const AddressPool::Lease& lease, bool published) {
  const auto is_stale = [&](const TrackedFlow& flow) {
    return std::any_of(lease.host_ports.begin(), lease.host_ports.end(), [&](const HostPort& port) {
      if (port.protocol != IpProtocol::udp || flow.protocol != IpProtocol::udp) return false;
      if (flow.front_port != port.host_port) return false;
      if (published) return flow.server == flow.front;  // from before: not translated
      const bool of_pod = flow.server.is_v4() ? flow.server == lease.address
                                              : flow.server == with_prefix(*ranges_.cluster6, lease.address);
      return of_pod && flow.server_port == port.pod_port;
    });
  };
  for (const int family : {4, 6}) {
    if (family == 6 && !ranges_.cluster6) continue;
    auto cleaner = ConntrackCleaner::open(options_.name_space, family);
    auto removed = cleaner ? cleaner->remove_if(is_stale) : Result<std::size_t>(cleaner.error());
    if (removed) continue;
    engine_.log(LogLevel::warning, "podnet", "stale UDP flows of host ports were not cut",
                {{"error", removed.error().to_string()}});
  }
}

/// To the pod: a queue on the host's end of its pair. From the pod: what arrives there is sent through an
/// `ifb` link with a queue of its own, since only what leaves a link can be held back.
Result<void> RoutedNetwork::limit_rates(const Link& link, const IpAddress& address,
                                        const AttachRequest& request) {
  if (request.ingress_bits != 0) {
    auto limited = routes_.set_rate(link.index, request.ingress_bits);
    if (!limited) return limited.error().with_context("ingress bandwidth");
  }
  if (request.egress_bits == 0) return {};
  const std::string name = rate_link_of(pod_link_name(options_.instance, address));
  const auto limit = [&]() -> Result<void> {
    ORC_ASSIGN(std::optional<Link> hold, routes_.find_link(name));
    if (!hold) {
      ORC_TRY(routes_.add_rate_link(name, mtu_));
      ORC_ASSIGN(hold, routes_.find_link(name));
    }
    if (!hold)
      return Error(Error::conflict, "podnet", "link " + name + " was removed by somebody else at once");
    ORC_TRY(routes_.set_link(hold->index, request.pod_uid, true));
    ORC_TRY(routes_.set_rate(hold->index, request.egress_bits));
    return routes_.redirect_arrivals(link.index, hold->index);
  };
  auto limited = limit();
  if (!limited) return limited.error().with_context("egress bandwidth");
  return {};
}

}  // namespace orchestra::net
