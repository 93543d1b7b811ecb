#include "net/podnet/routed_network.hpp"

#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>

#include "net/podnet/in_namespace.hpp"

namespace orchestra::net {
namespace {

/// The gateway every pod sees. Link-local, so it can be the same on all host veths of all nodes.
const IpAddress kPodGateway = IpAddress::v4(0xa9fe0101);  // 169.254.1.1
constexpr const char* kPodLink = "eth0";

/// The host side has the locally administered prefix ee:58, so the two ends differ.
std::string mac_of(const IpAddress& address, unsigned char first) {
  std::string mac(6, '\0');
  mac[0] = static_cast<char>(first);
  mac[1] = 0x58;
  for (std::size_t i = 0; i < 4; ++i) mac[2 + i] = static_cast<char>(address.bytes[i]);
  return mac;
}

}  // namespace

std::string pod_mac(const IpAddress& address) { return mac_of(address, 0x0a); }

RoutedNetwork::RoutedNetwork(Engine& engine, PodNetworkOptions options, RoutedRanges ranges, AddressPool pool,
                             MachineJournal journal, RouteSocket routes, RouteSocket removal_routes)
    : engine_(engine),
      options_(std::move(options)),
      ranges_(std::move(ranges)),
      gateway_(pool.node_address()),
      queue_(std::make_shared<SerialQueue>(engine)),
      pool_(std::move(pool)),
      journal_(std::move(journal)),
      routes_(std::move(routes)),
      removals_(std::make_shared<SerialQueue>(engine)),
      removal_routes_(std::move(removal_routes)) {}

RoutedNetwork::~RoutedNetwork() {
  if (timer_ != 0) engine_.cancel_timer(timer_);
}

std::vector<MachineChange> RoutedNetwork::machine_changes() const {
  std::lock_guard lock(mutex_);
  return journal_.changes();
}

Attachment RoutedNetwork::describe(const AddressPool::Lease& lease) const {
  Attachment out{lease.pod_uid, {}, pod_link_name(options_.instance, lease.address), mtu_, {}};
  if (options_.ipv4) out.addresses.push_back(lease.address.to_string());
  if (ranges_.cluster6) out.addresses.push_back(with_prefix(*ranges_.cluster6, lease.address).to_string());
  if (options_.ipv6_first) std::reverse(out.addresses.begin(), out.addresses.end());
  return out;
}

Pending<Attachment> RoutedNetwork::attach(AttachRequest request) {
  return queue_->run([self = shared_from_this(), request = std::move(request)]() -> Result<Attachment> {
    auto done = self->attach_now(request);
    if (done) return done;
    return done.error().with_context("network of pod " + request.ns + "/" + request.name);
  });
}

Result<Attachment> RoutedNetwork::attach_now(const AttachRequest& request) {
  if (torn_down_) return Error(Error::unavailable, "podnet", "the pod network was torn down");
  if (request.pod_uid.empty() || request.network_namespace == nullptr) {
    return Error(Error::invalid, "podnet", "attach needs the pod's uid and its network namespace");
  }
  std::vector<HostPort> host_ports = request.host_ports;
  for (HostPort& port : host_ports) {
    if (port.host_address.empty()) continue;
    const auto address = IpAddress::parse(port.host_address);
    if (!address || (address->is_v4() ? !options_.ipv4 : !ranges_.cluster6)) {
      return Error(Error::unsupported, "podnet",
                   "host port " + to_string(port) + ": its hostIP is " +
                       (!address           ? "no address"
                        : address->is_v4() ? "IPv4, and pods have IPv6 only"
                                           : "IPv6, and pods have IPv4 only"));
    }
    port.host_address = address->to_string();  // one text for each address: ports are compared by it
  }
  std::optional<AddressPool::Lease> lease;
  {
    std::lock_guard lock(mutex_);
    ORC_ASSIGN(lease, pool_.reserve(request.pod_uid, request.ns, request.name, wall_now()));
    ORC_ASSIGN(const bool changed, pool_.set_host_ports(request.pod_uid, host_ports));
    if (changed) unpublished_.insert(request.pod_uid);  // until then, whichever attach comes so far
    lease->host_ports = std::move(host_ports);
  }
  ORC_TRY(save_addresses());
  ORC_TRY(finish_removal(request.pod_uid));
  ORC_ASSIGN(const Link link, ensure_veth(request, lease->address));
  ORC_TRY(is_bridged() ? plug_in(link, request, lease->address) : configure_host_side(link, request));
  ORC_TRY(configure_inside(NetworkNamespace(request.network_namespace), lease->address));
  for (const Route& route : pod_routes(link, lease->address)) ORC_TRY(routes_.add_route(route));
  ORC_TRY(limit_rates(link, lease->address, request));
  if (!lease->host_ports.empty() || unpublished_.contains(request.pod_uid))
    ORC_TRY(publish_host_ports(*lease));
  return describe(*lease);
}

std::vector<Route> RoutedNetwork::pod_routes(const Link& link, const IpAddress& address) const {
  Route route;
  route.destination = {address, 32};
  route.scope = RT_SCOPE_LINK;
  route.link = is_bridged() ? gateway_link_ : link.index;
  route.source = gateway_;
  std::vector<Route> out;
  if (options_.ipv4) out.push_back(route);
  if (!ranges_.cluster6) return out;
  route.destination = with_prefix(*ranges_.cluster6, route.destination);
  route.scope = RT_SCOPE_UNIVERSE;
  route.source = with_prefix(*ranges_.cluster6, gateway_);
  out.push_back(route);
  return out;
}

/// The host end of the pod's pair, made anew unless its other end is in the pod already.
Result<Link> RoutedNetwork::ensure_veth(const AttachRequest& request, const IpAddress& address) {
  const std::string name = pod_link_name(options_.instance, address);
  const NetworkNamespace pod(request.network_namespace);
  ORC_ASSIGN(std::optional<Link> found, routes_.find_link(name));
  if (found) {
    ORC_ASSIGN(const bool wired, is_wired(pod, *found));
    if (wired) return *found;
    ORC_TRY(routes_.remove_link(found->index));
  }
  RouteSocket::NewVeth veth;
  veth.name = name;
  veth.peer_name = kPodLink;
  veth.peer_namespace = request.network_namespace->get();
  veth.mac = mac_of(address, 0xee);
  veth.peer_mac = pod_mac(address);
  veth.mtu = mtu_;
  ORC_TRY(routes_.add_veth(veth));
  ORC_ASSIGN(found, routes_.find_link(name));
  if (!found)
    return Error(Error::conflict, "podnet", "link " + name + " was removed by somebody else at once");
  return *found;
}

Result<bool> RoutedNetwork::is_wired(const NetworkNamespace& pod, const Link& host_link) {
  return in_namespace_get<bool>(pod, [&]() -> Result<bool> {
    ORC_ASSIGN(RouteSocket inside, RouteSocket::open());
    ORC_ASSIGN(const std::optional<Link> end, inside.find_link(kPodLink));
    return end && end->kind == "veth" && end->peer_index == host_link.index;
  });
}

Result<void> RoutedNetwork::configure_host_side(const Link& link, const AttachRequest& request) {
  ORC_TRY(in_namespace(options_.name_space, [&]() -> Result<void> { return set_pod_side_sysctls(link); }));
  ORC_TRY(routes_.set_link(link.index, request.pod_uid, true));
  if (ranges_.cluster6) ORC_TRY(routes_.add_address(link.index, *IpAddress::parse(kPodGateway6), 64));
  if (!options_.ipv4) return {};
  return routes_.add_address(link.index, kPodGateway, 32);
}

/// Of the link where pods are.
Result<void> RoutedNetwork::set_pod_side_sysctls(const Link& link) {
  const std::string v4 = "net/ipv4/conf/" + link.name + "/";
  ORC_TRY(write_sysctl(v4 + "rp_filter", "1"));  // a pod cannot forge its source address
  ORC_TRY(write_sysctl(v4 + "send_redirects", "0"));
  ORC_TRY(write_sysctl(v4 + "proxy_arp", "0"));
  ORC_TRY(write_sysctl(v4 + "forwarding", "1"));
  if (ranges_.cluster6) return configure_host_side6(link);
  // No IPv6 on our side: a pod must not be able to advertise itself as the node's router.
  return write_sysctl("net/ipv6/conf/" + link.name + "/disable_ipv6", "1");
}

/// What a pod advertises is not listened to, and the link has no other address than the gateway's.
Result<void> RoutedNetwork::configure_host_side6(const Link& link) {
  const std::string v6 = "net/ipv6/conf/" + link.name + "/";
  for (const char* name : {"accept_ra", "accept_redirects", "autoconf", "proxy_ndp", "disable_ipv6"})
    ORC_TRY(write_sysctl(v6 + name, "0"));
  ORC_TRY(write_sysctl(v6 + "addr_gen_mode", "1"));
  return write_sysctl(v6 + "forwarding", "1");
}

/// In the pod's namespace. No duplicate detection: an address is given to one pod, and waiting costs a
/// second.
Result<void> RoutedNetwork::configure_inside6(RouteSocket& inside, const Link& link,
                                              const IpAddress& address) {
  const std::string v6 = std::string("net/ipv6/conf/") + kPodLink + "/";
  for (const char* name : {"accept_ra", "accept_dad", "autoconf", "disable_ipv6"})
    ORC_TRY(write_sysctl(v6 + name, "0"));
  // The ports of a bridge know the link-local address that is made of the hardware address.
  if (is_bridged()) ORC_TRY(write_sysctl(v6 + "addr_gen_mode", "0"));
  const IpAddress own = with_prefix(*ranges_.cluster6, address);
  ORC_TRY(inside.add_address(link.index, own,
                             is_bridged() ? with_prefix(*ranges_.cluster6, ranges_.pods).prefix : 128));
  ORC_TRY(inside.set_link(link.index, std::nullopt, true));
  Route all;
  all.destination = {*IpAddress::parse("::"), 0};
  all.link = link.index;
  all.gateway = IpAddress::parse(kPodGateway6);
  all.source = own;
  return inside.add_route(all);
}

Result<void> RoutedNetwork::configure_inside(const NetworkNamespace& pod, const IpAddress& address) {
  return in_namespace(pod, [&]() -> Result<void> {
    ORC_ASSIGN(RouteSocket inside, RouteSocket::open());
    ORC_ASSIGN(const std::optional<Link> loopback, inside.find_link("lo"));
    if (loopback && !loopback->up) ORC_TRY(inside.set_link(loopback->index, std::nullopt, true));
    ORC_ASSIGN(const std::optional<Link> link, inside.find_link(kPodLink));
    if (!link) return Error(Error::conflict, "podnet", "eth0 went away while it was set up");
    if (!options_.ipv4) return configure_inside6(inside, *link, address);
    ORC_TRY(inside.add_address(link->index, address, is_bridged() ? ranges_.pods.prefix : 32));
    ORC_TRY(inside.set_link(link->index, std::nullopt, true));
    if (!is_bridged()) {
      Route gateway;
      gateway.destination = {kPodGateway, 32};
      gateway.scope = RT_SCOPE_LINK;
      gateway.link = link->index;
      gateway.source = address;
      ORC_TRY(inside.add_route(gateway));
    }
    Route all;
    all.link = link->index;
    all.gateway = is_bridged() ? gateway_ : kPodGateway;
    all.source = address;
    ORC_TRY(inside.add_route(all));
    if (!ranges_.cluster6) return {};
    return configure_inside6(inside, *link, address);
  });
}

Pending<void> RoutedNetwork::detach(std::string pod_uid) {
  return queue_->run(
      [self = shared_from_this(), pod_uid = std::move(pod_uid)] { return self->detach_now(pod_uid); });
}

/// Works without the pod's namespace, twice, and when the lease was lost: the alias is the identity.
Result<void> RoutedNetwork::detach_now(const std::string& pod_uid) {
  if (torn_down_) return {};
  std::optional<AddressPool::Lease> lease;
  {
    std::lock_guard lock(mutex_);
    if (const auto* found = pool_.find(pod_uid)) lease = *found;
  }
  // While ports of the machine lead to the address, nobody else may get it.
  if (lease && (!lease->host_ports.empty() || unpublished_.contains(pod_uid))) {
    auto written = write_host_ports(pod_uid);
    // Where nftables does not work, there is no table of ours either.
    if (!written && !written.error().is(Error::unsupported))
      return written.error().with_context("host ports of pod " + lease->ns + "/" + lease->name);
    unpublished_.insert(pod_uid);  // the lease is still there, and stays if the rest fails
    cut_udp_flows(*lease, false);
  }
  ORC_ASSIGN(const std::vector<Link> links, links_of(pod_uid));
  if (lease && is_bridged()) {
    ORC_TRY(close_port(pod_link_name(options_.instance, lease->address)));
    for (Route route : pod_routes({}, lease->address)) ORC_TRY(routes_.remove_route(route));
  }
  for (const auto& link : links) {
    if (lease) {
      for (Route route : pod_routes(link, lease->address)) {
        route.source.reset();  // whatever it says
        ORC_TRY(routes_.remove_route(route));
      }
    }
    remove_in_background(pod_uid, link);
  }
  if (!lease) return {};
  {
    std::lock_guard lock(mutex_);
    pool_.release(pod_uid, wall_now());
  }
  unpublished_.erase(pod_uid);
  return save_addresses();
}

/// The pod's links on the host, its pair's end first: by its address when there is a lease, else by alias.
Result<std::vector<Link>> RoutedNetwork::links_of(const std::string& pod_uid) {
  std::string name;
  {
    std::lock_guard lock(mutex_);
    if (const auto* lease = pool_.find(pod_uid)) name = pod_link_name(options_.instance, lease->address);
  }
  std::vector<Link> out;
  if (!name.empty()) {
    for (const std::string& one : {name, rate_link_of(name)}) {
      ORC_ASSIGN(const std::optional<Link> link, routes_.find_link(one));
      if (link) out.push_back(*link);
    }
    return out;
  }
  ORC_ASSIGN(const std::vector<Link> links, routes_.links());
  for (const auto& link : links) {
    if (is_pod_link(options_.instance, link.name) && link.alias == pod_uid) out.push_back(link);
  }
  return out;
}

/// Should we be killed before: a link without a lease and without a route is removed at the next open().
void RoutedNetwork::remove_in_background(const std::string& pod_uid, const Link& link) {
  {
    std::lock_guard lock(leaving_mutex_);
    leaving_.emplace(pod_uid, link.index);
  }
  auto queued = removals_->run([self = shared_from_this(), pod_uid, index = link.index]() -> Result<void> {
    auto removed = self->removal_routes_.remove_link(index);
    if (!removed) {
      self->engine_.log(LogLevel::warning, "podnet", "a link could not be removed",
                        {{"pod", pod_uid}, {"error", removed.error().to_string()}});
    }
    std::lock_guard lock(self->leaving_mutex_);
    std::erase_if(self->leaving_, [&](const auto& entry) { return entry.second == index; });
    return {};
  });
  if (queued.is_ready()) {  // refused: the queue is full or the engine stops
    (void)routes_.remove_link(link.index);
    std::lock_guard lock(leaving_mutex_);
    std::erase_if(leaving_, [&](const auto& entry) { return entry.second == link.index; });
  }
}

/// A pod that comes back must not meet its old eth0.
Result<void> RoutedNetwork::finish_removal(const std::string& pod_uid) {
  std::vector<int> links;
  {
    std::lock_guard lock(leaving_mutex_);
    const auto [first, last] = leaving_.equal_range(pod_uid);
    for (auto entry = first; entry != last; ++entry) links.push_back(entry->second);
  }
  for (const int link : links) ORC_TRY(routes_.remove_link(link));
  return {};
}

Result<std::vector<Attachment>> RoutedNetwork::list() {
  std::lock_guard lock(mutex_);
  std::vector<Attachment> out;
  for (const auto& lease : pool_.leases()) out.push_back(describe(lease));
  return out;
}

Pending<std::size_t> RoutedNetwork::reconcile(std::set<std::string> live_pod_uids) {
  return queue_->run([self = shared_from_this(), live = std::move(live_pod_uids)]() -> Result<std::size_t> {
    std::vector<AddressPool::Lease> leases;
    {
      std::lock_guard lock(self->mutex_);
      leases = self->pool_.leases();
    }
    std::size_t removed = 0;
    for (const auto& lease : leases) {
      if (live.contains(lease.pod_uid)) continue;
      ORC_TRY(self->detach_now(lease.pod_uid));
      ++removed;
    }
    return removed;
  });
}

Pending<void> RoutedNetwork::teardown() {
  return queue_->run([self = shared_from_this()]() -> Result<void> {
    if (self->torn_down_) return {};
    std::lock_guard lock(self->mutex_);
    ORC_TRY(remove_instance(self->journal_, self->routes_, self->options_.name_space));
    self->torn_down_ = true;
    return {};
  });
}

}  // namespace orchestra::net
