// How the pods of other nodes are reached: one route per node.
//
// Decided for each node by itself. Where the kernel sends to the node's address without a gateway, both share
// a link and the route is a plain one by that address. Else the way is a tunnel (VXLAN, RFC 7348): the route
// goes by the other node's own pod address, which is said to be on the tunnel's link, one permanent neighbour
// tells its hardware address there, and one forwarding entry the machine that has it. The hardware address is
// made of the pod address on both sides, so nothing has to be published or learnt. Everything of a node goes
// when the node is not named any more, never because it does not answer, and never while it is named but
// cannot be planned for (no way to its address just now, its address not known yet). Foreign routes for a
// node's range are reported and stay. Ours are told by their protocol, so what an earlier process made is
// found.
#include <linux/rtnetlink.h>

#include <algorithm>
#include <map>
#include <set>

#include "net/podnet/in_namespace.hpp"
#include "net/podnet/routed_network.hpp"

namespace orchestra::net {
namespace {

/// What IPv4, UDP, VXLAN and the inner Ethernet head take of a packet.
constexpr int kTunnelBytes = 50;
constexpr int kMtuMin = 576;

/// Of a node's end of the tunnel.
std::string tunnel_mac(const IpAddress& node) {
  std::string mac{0x0a, 0x59};
  for (std::size_t i = 0; i < 4; ++i) mac += static_cast<char>(node.bytes[i]);
  return mac;
}

}  // namespace

struct RoutedNetwork::PeerPlan {
  std::string name;
  std::vector<Route> routes;            ///< of each family
  std::optional<IpAddress> tunnel_end;  ///< the machine's address; nothing: no route goes by the tunnel
};

/// What is neither planned nor unplanned goes, if the plans are of all nodes.
struct RoutedNetwork::PeerPlans {
  std::vector<PeerPlan> plans;
  std::vector<IpRange> unplanned;  ///< IPv4 ranges of nodes that are named and could not be planned for
  bool complete = true;            ///< these are all nodes
};

Pending<std::vector<std::string>> RoutedNetwork::set_peers(std::vector<PodNetworkPeer> peers, bool complete) {
  return queue_->run([self = shared_from_this(), peers = std::move(peers), complete] {
    return self->set_peers_now(peers, complete);
  });
}

/// An error says why the node's pods cannot be reached.
Result<RoutedNetwork::PeerPlan> RoutedNetwork::plan_peer(const PodNetworkPeer& peer) {
  const auto refuse = [](std::string why) { return Error(Error::invalid, "podnet", std::move(why)); };
  const auto range = IpRange::parse(peer.pod_cidr);
  const auto address = IpAddress::parse(peer.address);
  if (!range || !address || !range->base.is_v4() || !address->is_v4())
    return refuse("pods " + peer.pod_cidr + " at " + peer.address + " are no IPv4 range and address");
  if (!ranges_.cluster.contains(range->base) || range->overlaps(ranges_.pods)) {
    return refuse("its range " + peer.pod_cidr + " is not in the cluster's " + ranges_.cluster.to_string() +
                  ", or is that of this node");
  }
  auto way = routes_.lookup(*address);
  if (!way)
    return refuse("its address " + peer.address + " cannot be reached (" + way.error().message() + ")");
  if (way->type != RTN_UNICAST) return refuse("its address " + peer.address + " is one of this machine");
  const auto pool = AddressPool::create(*range, 0);
  if (!pool) return pool.error();
  PeerPlan plan{peer.name, {}, std::nullopt};
  Route route;
  route.destination = *range;
  route.source = gateway_;  // others know this node's pods, and its gateway among them
  route.onlink = way->gateway.has_value();
  route.gateway = route.onlink ? pool->node_address() : *address;
  if (options_.ipv4) plan.routes.push_back(route);
  if (ranges_.cluster6) {  // machines are known by their IPv4 addresses: IPv6 goes by the tunnel
    route.destination = with_prefix(*ranges_.cluster6, *range);
    route.source = with_prefix(*ranges_.cluster6, gateway_);
    route.onlink = true;
    route.gateway = with_prefix(*ranges_.cluster6, pool->node_address());
    plan.routes.push_back(route);
  }
  if (plan.routes.back().onlink) plan.tunnel_end = *address;
  return plan;
}

RouteSocket::NewTunnel RoutedNetwork::wanted_tunnel() const {
  RouteSocket::NewTunnel tunnel;
  tunnel.name = tunnel_link_name(options_.instance);
  tunnel.mac = tunnel_mac(gateway_);
  tunnel.vni = options_.tunnel_vni;
  tunnel.port = options_.tunnel_port;
  if (const auto own = IpAddress::parse(options_.node_address); own && own->is_v4()) tunnel.local = own;
  tunnel.mtu = tunnel_mtu();
  return tunnel;
}

Result<Link> RoutedNetwork::make_tunnel(const RouteSocket::NewTunnel& tunnel) {
  auto made = routes_.add_tunnel(tunnel);
  if (!made) {
    ORC_ASSIGN(const std::vector<Link> links, routes_.links());
    for (const Link& link : links) {
      if (link.kind != "vxlan" || link.vni != tunnel.vni || link.tunnel_port != tunnel.port) continue;
      return Error(Error::conflict, "podnet",
                   "tunnel with VNI " + std::to_string(tunnel.vni) + " and UDP port " +
                       std::to_string(tunnel.port) + " is device " + link.name + " of somebody else already");
    }
    return made.error();
  }
  ORC_ASSIGN(const std::optional<Link> found, routes_.find_link(tunnel.name));
  if (found) return *found;
  return Error(Error::conflict, "podnet", "link " + tunnel.name + " was removed by somebody else at once");
}

/// The tunnel's device, made when the first node needs it. What the kernel fixes when a device is made cannot
/// be changed: one that is of other options, or of another address of the machine, is made anew.
Result<Link> RoutedNetwork::ensure_tunnel() {
  const RouteSocket::NewTunnel tunnel = wanted_tunnel();
  ORC_ASSIGN(std::optional<Link> found, routes_.find_link(tunnel.name));
  const bool other =
      found && (found->kind != "vxlan" || found->vni != tunnel.vni || found->tunnel_port != tunnel.port ||
                found->tunnel_local != tunnel.local || found->mac != tunnel.mac);
  if (other) {
    engine_.log(LogLevel::info, "podnet", "the tunnel is made anew with other options",
                {{"link", tunnel.name}});
    ORC_TRY(routes_.remove_link(found->index));
    found.reset();
  }
  if (!found) {
    ORC_ASSIGN(found, make_tunnel(tunnel));
  }
  // Also of one that was found: whoever made it may have been killed before this.
  ORC_TRY(in_namespace(options_.name_space, [&]() -> Result<void> {
    // Whatever the machine's defaults are: only pods of other nodes are behind it.
    ORC_TRY(write_sysctl("net/ipv4/conf/" + tunnel.name + "/forwarding", "1"));
    ORC_TRY(write_sysctl("net/ipv4/conf/" + tunnel.name + "/send_redirects", "0"));
    if (ranges_.cluster6) return configure_host_side6(*found);
    return write_sysctl("net/ipv6/conf/" + tunnel.name + "/disable_ipv6", "1");
  }));
  if (found->mtu != tunnel.mtu) ORC_TRY(routes_.set_mtu(found->index, tunnel.mtu));
  ORC_TRY(routes_.set_link(found->index, "orchestra tunnel", true));
  mtu_ = tunnel.mtu;  // of pods that come from now on, and of those that run: follow_mtu()
  return *found;
}

int RoutedNetwork::tunnel_mtu() const {
  const int fits = std::max(underlay_mtu_ - kTunnelBytes, kMtuMin);
  return options_.mtu > 0 ? std::min(options_.mtu, fits) : fits;
}

/// The tunnel knows these ends and no others; without any it goes. Ends are told apart by their hardware
/// address, which is made of the node's range.
Result<void> RoutedNetwork::set_tunnel_ends(const PeerPlans& peers) {
  std::vector<Neighbour> hosts, machines;
  for (const PeerPlan& plan : peers.plans) {
    if (!plan.tunnel_end) continue;
    const auto numbers = numbers_of(plan.routes.front().destination);
    const auto pool = AddressPool::create(*numbers, 0);
    if (!pool) return pool.error();
    const std::string mac = tunnel_mac(pool->node_address());
    for (const Route& route : plan.routes) {
      if (route.onlink) hosts.push_back({*route.gateway, mac});
    }
    machines.push_back({*plan.tunnel_end, mac});
  }
  std::set<std::string> kept;
  for (const IpRange& range : peers.unplanned) {
    if (const auto pool = AddressPool::create(range, 0)) kept.insert(tunnel_mac(pool->node_address()));
  }
  ORC_ASSIGN(const std::optional<Link> tunnel, routes_.find_link(tunnel_link_name(options_.instance)));
  if (!tunnel) return {};
  std::size_t left = 0;
  const auto set = [&](RouteSocket::Table table, const std::vector<Neighbour>& wanted) -> Result<void> {
    ORC_ASSIGN(const std::vector<Neighbour> known, routes_.neighbours(tunnel->index, table));
    for (const Neighbour& one : known) {
      if (std::find(wanted.begin(), wanted.end(), one) != wanted.end()) continue;
      // Kept, unless something wanted takes its place.
      const bool replaced = std::any_of(wanted.begin(), wanted.end(), [&](const Neighbour& other) {
        return other.mac == one.mac || other.address == one.address;
      });
      if (!replaced && (!peers.complete || kept.contains(one.mac))) {
        ++left;
      } else {
        ORC_TRY(routes_.remove_neighbour(tunnel->index, table, one));
      }
    }
    for (const Neighbour& one : wanted) {
      if (std::find(known.begin(), known.end(), one) == known.end())
        ORC_TRY(routes_.set_neighbour(tunnel->index, table, one));
    }
    return {};
  };
  ORC_TRY(set(RouteSocket::Table::forwarding, machines));
  ORC_TRY(set(RouteSocket::Table::neighbours, hosts));
  if (left > 0 || !hosts.empty()) return {};
  mtu_ = options_.mtu > 0 ? options_.mtu : underlay_mtu_;
  return routes_.remove_link(tunnel->index);
}

/// The neighbours are known before a route leads to them.
Result<void> RoutedNetwork::set_peer_routes(const PeerPlans& peers, int family,
                                            std::vector<std::string>& problems) {
  ORC_ASSIGN(const std::vector<Route> routes, routes_.routes(family));
  std::map<std::string, std::pair<const PeerPlan*, const Route*>> wanted;  // by destination
  for (const PeerPlan& plan : peers.plans) {
    for (const Route& route : plan.routes) {
      if (route.destination.base.family == family) wanted[route.destination.to_string()] = {&plan, &route};
    }
  }
  std::set<std::string> kept;
  for (const IpRange& range : peers.unplanned)
    kept.insert((family == 4 ? range : with_prefix(*ranges_.cluster6, range)).to_string());
  for (const Route& route : routes) {
    const auto found = wanted.find(route.destination.to_string());
    if (is_peer_route(route, family == 4 ? ranges_.cluster : *ranges_.cluster6)) {
      if (found == wanted.end()) {
        if (peers.complete && !kept.contains(route.destination.to_string()))
          ORC_TRY(routes_.remove_route(route));
      } else if (*route.gateway == *found->second.second->gateway &&
                 (found->second.second->link == 0 || found->second.second->link == route.link)) {
        wanted.erase(found);  // as it should be
      }
    } else if (found != wanted.end() && route.table == RT_TABLE_MAIN) {
      problems.push_back("node " + found->second.first->name + ": this machine has a foreign route for " +
                         found->first + ", which stays");
      wanted.erase(found);
    }
  }
  for (const auto& [range, entry] : wanted) {
    auto made = routes_.add_route(*entry.second);
    if (made) continue;
    problems.push_back("node " + entry.first->name + ": no route to its pods " + range + " by " +
                       entry.second->gateway->to_string() + " (" + made.error().message() + ")");
  }
  return {};
}

RoutedNetwork::PeerPlans RoutedNetwork::plan_peers(const std::vector<PodNetworkPeer>& peers,
                                                   std::vector<std::string>& problems) {
  PeerPlans out;
  for (const PodNetworkPeer& peer : peers) {
    const auto range = IpRange::parse(peer.pod_cidr);
    if (range && range->base.is_v4() && peer.address.empty()) {
      out.unplanned.push_back(*range);  // not known completely yet
      continue;
    }
    auto plan = plan_peer(peer);
    if (plan && plan->tunnel_end) {
      const auto tunnel = ensure_tunnel();
      for (Route& route : plan->routes) {
        if (tunnel && route.onlink) route.link = tunnel->index;
      }
      if (!tunnel) plan = tunnel.error();
    }
    if (plan) {
      out.plans.push_back(std::move(*plan));
      continue;
    }
    problems.push_back("node " + peer.name + ": " + plan.error().message());
    if (range && range->base.is_v4()) out.unplanned.push_back(*range);
  }
  return out;
}

/// Both ends of a pod's pair, its own first: it must not send what the host's end would not take.
Result<void> RoutedNetwork::set_pod_mtu(const AddressPool::Lease& lease) {
  const std::string name = pod_link_name(options_.instance, lease.address);
  ORC_ASSIGN(const std::optional<Link> link, routes_.find_link(name));
  if (!link || link->mtu == mtu_) return {};
  ORC_ASSIGN(auto pod, options_.namespace_of(lease.pod_uid));
  ORC_TRY(in_namespace(NetworkNamespace(pod), [&]() -> Result<void> {
    ORC_ASSIGN(RouteSocket inside, RouteSocket::open());
    ORC_ASSIGN(const std::optional<Link> end, inside.find_link("eth0"));
    if (!end || end->peer_index != link->index)
      return Error(Error::not_found, "podnet", "the pod's eth0 is not the other end of " + name);
    return inside.set_mtu(end->index, mtu_);
  }));
  ORC_TRY(routes_.set_mtu(link->index, mtu_));
  ORC_ASSIGN(const std::optional<Link> hold, routes_.find_link(rate_link_of(name)));
  return hold ? routes_.set_mtu(hold->index, mtu_) : Result<void>();
}

/// A pod whose MTU could not be changed is told by "fragmentation needed".
void RoutedNetwork::follow_mtu() {
  if (!options_.namespace_of) return;
  std::vector<AddressPool::Lease> leases;
  {
    std::lock_guard lock(mutex_);
    leases = pool_.leases();
  }
  for (const auto& lease : leases) {
    auto done = set_pod_mtu(lease);
    if (done) continue;
    engine_.log(LogLevel::warning, "podnet", "a pod that runs keeps its MTU",
                {{"pod", lease.ns + "/" + lease.name}, {"error", done.error().to_string()}});
  }
}

Result<std::vector<std::string>> RoutedNetwork::set_peers_now(const std::vector<PodNetworkPeer>& peers,
                                                              bool complete) {
  std::vector<std::string> problems;
  if (torn_down_) return problems;
  const int mtu_before = mtu_;
  PeerPlans plans = plan_peers(peers, problems);
  plans.complete = complete;
  ORC_TRY(set_tunnel_ends(plans));
  if (mtu_ != mtu_before) follow_mtu();
  if (options_.ipv4) ORC_TRY(set_peer_routes(plans, 4, problems));
  if (ranges_.cluster6) ORC_TRY(set_peer_routes(plans, 6, problems));
  return problems;
}

}  // namespace orchestra::net
