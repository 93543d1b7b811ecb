// PodNetwork, mode bridge: the pods of a node on one link.
//
// The bridge takes the place of the gateway link; each pod's pair has its host end as a port of it, and the
// pod an address with the prefix of the node's range. What is on another node, outside, or a Service goes by
// the gateway as in mode routed. The trap: an answer from one pod to another is switched, so a connection
// whose destination was translated (a Service's) hangs unless switched frames pass the tables of IPv4 and
// IPv6, too. The namespace's sysctl bridge-nf-call-iptables, which others switch on and off, says so for all
// bridges; ours says so for itself (IFLA_BR_NF_CALL_IPTABLES, which the kernel asks beside the sysctl), so
// nothing of the machine is changed and nobody's switch matters. Both need the module br_netfilter.
// Each 10 s everything of the bridge is looked at and made again where somebody took it away.
#include <algorithm>

#include "net/lb/nft_netlink.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/routed_network.hpp"

namespace orchestra::net {
namespace {

using namespace std::chrono_literals;
constexpr Duration kLookPeriod = 10s;
constexpr const char* kModuleSysctl = "net/bridge/bridge-nf-call-iptables";

}  // namespace

/// The module's sysctl is there whatever it says.
Result<void> RoutedNetwork::check_bridge_module() const {
  return in_namespace(options_.name_space, []() -> Result<void> {
    if (read_sysctl(kModuleSysctl)) return {};
    return Error(Error::unsupported, "podnet",
                 "mode bridge needs the kernel's module br_netfilter (there is no /proc/sys/net/bridge): "
                 "connections between pods of one node by a Service would hang; `modprobe br_netfilter`, or "
                 "take mode routed");
  });
}

Result<void> RoutedNetwork::make_bridge() {
  const std::string name = gateway_link_name(options_.instance);
  ORC_ASSIGN(std::optional<Link> link, routes_.find_link(name));
  if (!link) {
    ORC_TRY(routes_.add_bridge(name, pod_mac(gateway_), mtu_));
    ORC_ASSIGN(link, routes_.find_link(name));
    if (!link)
      return Error(Error::conflict, "podnet", "link " + name + " was removed by somebody else at once");
  }
  if (!link->filters4 || !link->filters6) ORC_TRY(routes_.set_bridge_filter(link->index));
  ORC_TRY(in_namespace(options_.name_space, [&]() -> Result<void> { return set_pod_side_sysctls(*link); }));
  return {};
}

BridgePort RoutedNetwork::port_of(const IpAddress& address) const {
  BridgePort out{pod_link_name(options_.instance, address), pod_mac(address), address, {}};
  if (ranges_.cluster6) out.address6 = with_prefix(*ranges_.cluster6, address);
  return out;
}

/// In place of configure_host_side(): what the pod may send is said before its link is up.
Result<void> RoutedNetwork::plug_in(const Link& link, const AttachRequest& request,
                                    const IpAddress& address) {
  ORC_TRY(open_port(port_of(address)));
  ORC_TRY(in_namespace(options_.name_space, [&]() -> Result<void> {
    return write_sysctl("net/ipv6/conf/" + link.name + "/disable_ipv6", "1");  // a port has no addresses
  }));
  ORC_TRY(routes_.set_bridge_port(link.index, gateway_link_));
  return routes_.set_link(link.index, request.pod_uid, true);
}

Result<void> RoutedNetwork::open_port(const BridgePort& port) {
  if (open_ports_.contains(port.link)) return {};
  ORC_ASSIGN(auto session, NftSession::open(options_.name_space));
  ORC_TRY(session->run(open_port_text(nft_table_name(options_.instance, "_br"), port)));
  open_ports_.insert(port.link);
  return remember_guard();
}

/// The pod is cut off; its link may go later.
Result<void> RoutedNetwork::close_port(const std::string& link) {
  if (!open_ports_.contains(link)) return {};
  open_ports_.erase(link);
  ORC_ASSIGN(auto session, NftSession::open(options_.name_space));
  auto closed = session->run(close_port_text(nft_table_name(options_.instance, "_br"), link));
  if (!closed) return write_guard();  // somebody changed the table: all of it anew
  return remember_guard();
}

/// The whole table, of the pods that are there; what it says stays in force until it is replaced.
Result<void> RoutedNetwork::write_guard() {
  std::vector<AddressPool::Lease> leases;
  {
    std::lock_guard lock(mutex_);
    leases = pool_.leases();
  }
  ORC_ASSIGN(const std::vector<Link> links, routes_.links());
  std::vector<BridgePort> ports;
  for (const auto& lease : leases) {
    BridgePort port = port_of(lease.address);
    const bool there = std::any_of(links.begin(), links.end(), [&](const Link& link) {
      return link.name == port.link && !link.alias.empty();
    });
    if (there) ports.push_back(std::move(port));
  }
  const std::string table = nft_table_name(options_.instance, "_br");
  ORC_ASSIGN(auto session, NftSession::open(options_.name_space));
  auto written = session->run(bridge_guard_text(table, options_.instance, ports));
  if (!written) return written.error().with_context("what pods may send on the bridge");
  open_ports_.clear();
  for (const BridgePort& port : ports) open_ports_.insert(port.link);
  return remember_guard();
}

Result<void> RoutedNetwork::remember_guard() {
  ORC_ASSIGN(NftElements rules, NftElements::open(options_.name_space));
  ORC_ASSIGN(guard_generation_, rules.generation());
  ORC_ASSIGN(auto session, NftSession::open(options_.name_space));
  ORC_ASSIGN(guard_text_, session->list("list table bridge " + nft_table_name(options_.instance, "_br")));
  return {};
}

Result<bool> RoutedNetwork::is_guard_whole() {
  ORC_ASSIGN(NftElements rules, NftElements::open(options_.name_space));
  ORC_ASSIGN(const std::uint32_t generation, rules.generation());
  if (generation == guard_generation_) return true;
  ORC_ASSIGN(auto session, NftSession::open(options_.name_space));
  const auto text = session->list("list table bridge " + nft_table_name(options_.instance, "_br"));
  if (!text || *text != guard_text_) return false;
  guard_generation_ = generation;
  return true;
}

/// The pods' links are ports of the bridge that is there now, each with its route.
Result<std::size_t> RoutedNetwork::plug_in_all() {
  std::vector<AddressPool::Lease> leases;
  {
    std::lock_guard lock(mutex_);
    leases = pool_.leases();
  }
  ORC_ASSIGN(const std::vector<Link> links, routes_.links());
  std::size_t mended = 0;
  for (const auto& lease : leases) {
    const std::string name = pod_link_name(options_.instance, lease.address);
    const auto link =
        std::find_if(links.begin(), links.end(), [&](const Link& one) { return one.name == name; });
    if (link == links.end() || link->alias.empty() || link->master == gateway_link_) continue;
    ORC_TRY(routes_.set_bridge_port(link->index, gateway_link_));
    for (const Route& route : pod_routes(*link, lease.address)) ORC_TRY(routes_.add_route(route));
    ++mended;
  }
  return mended;
}

/// What somebody took away is made again.
Result<void> RoutedNetwork::keep_bridge() {
  ORC_TRY(check_bridge_module());
  ORC_ASSIGN(const std::optional<Link> link, routes_.find_link(gateway_link_name(options_.instance)));
  std::string changed;
  if (!link || link->index != gateway_link_ || !link->up) {
    changed = "the bridge";
    ORC_TRY(make_gateway_link());
  } else if (!link->filters4 || !link->filters6) {
    changed = "its option nf_call_iptables";
    ORC_TRY(routes_.set_bridge_filter(link->index));
  }
  ORC_ASSIGN(const std::size_t ports, plug_in_all());
  if (ports > 0) changed += (changed.empty() ? "" : ", ") + std::to_string(ports) + " ports";
  ORC_ASSIGN(const bool whole, is_guard_whole());
  if (!whole) {
    changed += changed.empty() ? "its rules" : ", its rules";
    ORC_TRY(write_guard());
  }
  if (!changed.empty()) {
    engine_.log(LogLevel::warning, "podnet", "the pods' bridge was changed by somebody else and is made anew",
                {{"link", gateway_link_name(options_.instance)}, {"what", changed}});
  }
  return {};
}

Pending<void> RoutedNetwork::look_at_bridge() {
  return queue_->run([self = shared_from_this()]() -> Result<void> {
    if (self->torn_down_) return {};
    auto kept = self->keep_bridge();
    std::lock_guard lock(self->mutex_);
    self->trouble_ = kept ? "" : kept.error().message();
    return kept;
  });
}

void RoutedNetwork::watch_bridge() {
  std::weak_ptr<RoutedNetwork> weak = weak_from_this();
  std::lock_guard lock(mutex_);
  timer_ = engine_.after(kLookPeriod, [weak] {
    auto self = weak.lock();
    if (!self || self->torn_down_) return;
    (void)self->look_at_bridge();  // what it finds is in trouble()
    self->watch_bridge();
  });
}

std::string RoutedNetwork::trouble() const {
  std::lock_guard lock(mutex_);
  return trouble_;
}

}  // namespace orchestra::net
