// Opening and removing the routed pod network: what the machine gets besides the pods' own links.
//
// Order of making: journal -> covers (`unreachable` routes) -> gateway link -> sysctls -> masquerade ->
// adoption of links. Order of removing: the reverse, the covers last, the journal after them. Each step can
// be repeated, so a start after kill -9 goes through the same list.
#include <linux/rtnetlink.h>

#include <algorithm>
#include <charconv>

#include "base/fd.hpp"
#include "net/lb/nft_proxy.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/routed_network.hpp"

namespace orchestra {
namespace net {
namespace {

constexpr std::size_t kAddressJournalBytesMax = 16 << 20;
constexpr int kRangeTriesMax = 64;

Route cover_of(const IpRange& range) {
  Route route;
  route.destination = range;
  route.type = RTN_UNREACHABLE;
  route.metric = kLastMetric;
  return route;
}

Result<RoutedRanges> parse_ranges(const PodNetworkOptions& options) {
  RoutedRanges ranges;
  ORC_ASSIGN(ranges.pods, IpRange::parse(options.pod_cidr));
  ORC_ASSIGN(ranges.cluster,
             IpRange::parse(options.cluster_cidr.empty() ? options.pod_cidr : options.cluster_cidr));
  if (!ranges.cluster.contains(ranges.pods.base) || ranges.cluster.prefix > ranges.pods.prefix) {
    return Error(
        Error::invalid, "podnet",
        "the node's pod range " + options.pod_cidr + " is not part of the cluster's " + options.cluster_cidr);
  }
  if (ranges.pods.prefix < 16) {
    return Error(Error::invalid, "podnet",
                 "the node's pod range " + options.pod_cidr + " is larger than a /16");
  }
  ORC_ASSIGN(ranges.cluster6, parse_cluster6(options.cluster_cidr6));
  if ((options.ipv6_first || !options.ipv4) && !ranges.cluster6)
    return Error(Error::invalid, "podnet", "IPv6 as the first or only family needs a range of IPv6 for pods");
  if (!options.ipv4 && (!options.ipv6_first || !options.service_cidr.empty()))
    return Error(Error::invalid, "podnet",
                 "where pods have IPv6 alone it is their first family, and Services have no IPv4");
  if (!options.service_cidr6.empty()) {
    ORC_ASSIGN(const IpRange services6, IpRange::parse(options.service_cidr6));
    if (services6.base.is_v4() || !ranges.cluster6 || services6.overlaps(*ranges.cluster6)) {
      return Error(Error::invalid, "podnet",
                   "the IPv6 range of Services " + options.service_cidr6 +
                       " must be IPv6, with pods of IPv6 that it does not overlap (" + options.cluster_cidr6 +
                       ")");
    }
    ranges.services6 = services6;
  }
  if (options.service_cidr.empty()) return ranges;
  ORC_ASSIGN(const IpRange services, IpRange::parse(options.service_cidr));
  if (services.overlaps(ranges.cluster)) {
    return Error(
        Error::invalid, "podnet",
        "--service-cidr " + options.service_cidr + " overlaps --pod-cidr " + ranges.cluster.to_string());
  }
  ranges.services = services;
  return ranges;
}

Result<void> check_range(const char* option, const IpRange& range, const std::vector<Route>& routes,
                         const std::vector<Link>& links, const std::string& own_instance) {
  const auto overlap = find_overlap(range, routes, links, own_instance);
  if (!overlap) return {};
  return Error(Error::conflict, "podnet",
               std::string(option) + " " + range.to_string() + " overlaps the machine's route " + *overlap +
                   "; choose another range with " + option);
}

int underlay_mtu(const std::vector<Route>& routes, const std::vector<Link>& links) {
  for (const auto& route : routes) {
    if (route.destination.prefix != 0 || route.table != RT_TABLE_MAIN) continue;
    for (const auto& link : links) {
      if (link.index == route.link && link.mtu > 0) return link.mtu;
    }
  }
  return 1500;
}

}  // namespace

Result<void> add_covers(RouteSocket& routes, const std::vector<IpRange>& ranges) {
  for (auto range = ranges.begin(); range != ranges.end(); ++range) {
    auto covered = routes.add_route(cover_of(*range), RouteSocket::IfExists::refuse);
    if (covered) continue;
    for (auto made = ranges.begin(); made != range; ++made) (void)routes.remove_route(cover_of(*made));
    return covered;
  }
  return {};
}

Result<void> RoutedNetwork::start() {
  if (is_bridged()) ORC_TRY(check_bridge_module());
  const bool fresh = journal_.empty();
  ORC_TRY(claim_ranges());
  auto made = make_machine_parts();
  if (!made && fresh)
    (void)remove_instance(journal_, routes_, options_.name_space);  // its error tells nothing new
  if (made && is_bridged()) watch_bridge();
  return made;
}

Result<void> RoutedNetwork::make_machine_parts() {
  ORC_TRY(make_gateway_link());
  ORC_TRY(in_namespace(options_.name_space, [&] { return set_machine_sysctls(); }));
  if (options_.masquerade && options_.ipv4) {
    auto done = set_masquerade();
    if (!done) {
      engine_.log(LogLevel::warning, "podnet", "pods reach cluster addresses only: no masquerade",
                  {{"error", done.error().to_string()}});
    }
  }
  if (ranges_.cluster6) ORC_TRY(set_rules6());
  ORC_TRY(load_addresses());
  ORC_TRY(adopt_links());
  follow_mtu();  // a process before this one may have been killed while it did so
  if (is_bridged()) {
    ORC_TRY(write_guard());
    ORC_TRY(plug_in_all());
  }
  // Also without such ports: a process before this one may have been killed before it removed the last.
  auto written = write_host_ports();
  if (written) return {};
  if (has_host_ports()) return written.error().with_context("host ports");
  engine_.log(LogLevel::info, "podnet", "no ports of the machine can be given to pods",
              {{"error", written.error().to_string()}});
  return {};
}

bool RoutedNetwork::has_host_ports() const {
  std::lock_guard lock(mutex_);
  const auto leases = pool_.leases();
  return std::any_of(leases.begin(), leases.end(), [](const auto& one) { return !one.host_ports.empty(); });
}

Result<void> RoutedNetwork::claim_ranges() {
  const bool resumed = !journal_.empty();
  const MachineState wanted{options_.instance,
                            ranges_.pods.to_string(),
                            ranges_.cluster.to_string(),
                            ranges_.services ? ranges_.services->to_string() : "",
                            ranges_.cluster6 ? ranges_.cluster6->to_string() : "",
                            ranges_.services6 ? ranges_.services6->to_string() : "",
                            is_bridged() ? "bridge" : "",
                            !options_.ipv4        ? "IPv6"
                            : options_.ipv6_first ? "IPv6,IPv4"
                                                  : ""};
  if (resumed && !(journal_.state() == wanted)) {
    return Error(Error::conflict, "podnet",
                 options_.data_dir + " belongs to instance " + journal_.state().instance + " with pods in " +
                     journal_.state().pod_cidr + " and Services in " + journal_.state().service_cidr +
                     ", attached in mode " + (journal_.state().mode.empty() ? "routed" : "bridge") +
                     "; `orchestra down` removes it");
  }
  ORC_ASSIGN(const std::vector<Link> links, routes_.links());
  ORC_ASSIGN(const std::vector<Route> routes, routes_.routes());
  const std::string own = resumed ? options_.instance : "";
  if (options_.ipv4) ORC_TRY(check_range("--pod-cidr", ranges_.cluster, routes, links, own));
  if (ranges_.services) ORC_TRY(check_range("--service-cidr", *ranges_.services, routes, links, own));
  underlay_mtu_ = underlay_mtu(routes, links);
  const bool tunnel = std::any_of(links.begin(), links.end(), [&](const Link& link) {
    return link.name == tunnel_link_name(options_.instance);
  });
  if (ranges_.cluster6) {
    ORC_ASSIGN(const std::vector<Route> routes6, routes_.routes(6));
    ORC_TRY(check_range("--pod-cidr", with_prefix(*ranges_.cluster6, ranges_.cluster), routes6, links, own));
    if (ranges_.services6) ORC_TRY(check_range("--service-cidr", *ranges_.services6, routes6, links, own));
  }
  mtu_ = tunnel ? tunnel_mtu() : options_.mtu > 0 ? options_.mtu : underlay_mtu_;
  ORC_TRY(journal_.record(wanted));
  std::vector<IpRange> covers;
  if (options_.ipv4) covers.push_back(ranges_.cluster);
  if (ranges_.cluster6) covers.push_back(with_prefix(*ranges_.cluster6, ranges_.cluster));
  if (ranges_.services) covers.push_back(*ranges_.services);
  if (ranges_.services6) covers.push_back(*ranges_.services6);
  if (resumed) {
    for (const IpRange& range : covers) ORC_TRY(routes_.add_route(cover_of(range)));
    return {};
  }
  auto covered = add_covers(routes_, covers);
  // Somebody was faster between the check and the claim: what is there is not ours to remove later.
  if (!covered) (void)journal_.remove();
  return covered;
}

/// The link without a wire (see add_sink) with the node's address among the pods; the Service range is routed
/// to it, because connect() of the node's own programs looks for a route before any nftables hook sees the
/// packet.
Result<void> RoutedNetwork::make_gateway_link() {
  const std::string name = gateway_link_name(options_.instance);
  ORC_ASSIGN(std::optional<Link> link, routes_.find_link(name));
  if (is_bridged()) {
    ORC_TRY(make_bridge());
    ORC_ASSIGN(link, routes_.find_link(name));
  } else if (!link) {
    ORC_TRY(routes_.add_sink(name, mtu_));
    ORC_ASSIGN(link, routes_.find_link(name));
  }
  if (!link)
    return Error(Error::conflict, "podnet", "link " + name + " was removed by somebody else at once");
  gateway_link_ = link->index;
  ORC_TRY(routes_.set_link(gateway_link_, "orchestra node gateway", true));
  if (options_.ipv4) ORC_TRY(routes_.add_address(gateway_link_, gateway_, 32));
  if (ranges_.cluster6)
    ORC_TRY(routes_.add_address(gateway_link_, with_prefix(*ranges_.cluster6, gateway_), 128));
  if (ranges_.cluster6 && is_bridged())
    ORC_TRY(routes_.add_address(gateway_link_, *IpAddress::parse(kPodGateway6), 64));
  if (ranges_.services6) {
    Route services;
    services.destination = *ranges_.services6;
    services.link = gateway_link_;
    services.source = with_prefix(*ranges_.cluster6, gateway_);
    ORC_TRY(routes_.add_route(services));
  }
  if (!ranges_.services) return {};
  Route services;
  services.destination = *ranges_.services;
  services.scope = RT_SCOPE_LINK;
  services.link = gateway_link_;
  services.source = gateway_;
  return routes_.add_route(services);
}

Result<void> RoutedNetwork::set_machine_sysctls() {
  if (!options_.ipv4) return set_sysctls6();
  ORC_TRY(journal_.set_sysctl("net/ipv4/ip_forward", "1"));
  // Redirects are sent when `all` OR the link says so; a pod that reaches itself through a Service leaves
  // by the link it came in on, which is what a redirect is about.
  ORC_TRY(journal_.set_sysctl("net/ipv4/conf/all/send_redirects", "0"));
  return ranges_.cluster6 ? set_sysctls6() : Result<void>();
}

/// A machine that forwards does not listen to routers any more, unless it is told to: where it has its way
/// out from one, it goes on.
Result<void> RoutedNetwork::set_sysctls6() {
  ORC_ASSIGN(const std::vector<Link> links, routes_.links());
  ORC_ASSIGN(const std::vector<Route> routes, routes_.routes(6));
  for (const Route& route : routes) {
    if (route.destination.prefix != 0 || route.protocol != RTPROT_RA) continue;
    for (const Link& link : links) {
      if (link.index == route.link)
        ORC_TRY(journal_.set_sysctl("net/ipv6/conf/" + link.name + "/accept_ra", "2"));
    }
  }
  return journal_.set_sysctl("net/ipv6/conf/all/forwarding", "1");
}

/// There is no rp_filter for IPv6: a pod that forges its source is stopped by a rule. Without it, no IPv6.
Result<void> RoutedNetwork::set_rules6() {
  const std::string table = "table ip6 " + nft_table_name(options_.instance, "_out");
  const std::string from_pods = "  iifname \"orc" + options_.instance + "*\" ";
  std::string cluster = with_prefix(*ranges_.cluster6, ranges_.cluster).to_string();
  if (ranges_.services6) cluster += ", " + ranges_.services6->to_string();
  std::string text = table + "\ndelete " + table + "\n" + table + " {\n chain pre {\n";
  text += "  type filter hook prerouting priority raw; policy accept;\n";
  text += from_pods + "ip6 saddr fe80::/10 accept\n";
  text += from_pods + "fib saddr . iif oif missing drop\n }\n chain post {\n";
  text += "  type nat hook postrouting priority srcnat; policy accept;\n";
  if (options_.masquerade) {
    text += "  ip6 saddr != " + with_prefix(*ranges_.cluster6, ranges_.pods).to_string() + " return\n";
    text += "  ip6 daddr { fe80::/10, ff00::/8, " + cluster + " } return\n  masquerade fully-random\n";
  }
  text += " }\n}\n";
  ORC_ASSIGN(auto session, NftSession::open(options_.name_space));
  auto done = session->run(text);
  if (!done) return done.error().with_context("IPv6 of pods");
  return {};
}

Result<void> RoutedNetwork::set_masquerade() {
  const std::string table = "table ip " + nft_table_name(options_.instance, "_out");
  std::string text = table + "\ndelete " + table + "\n" + table + " {\n chain post {\n";
  text += "  type nat hook postrouting priority srcnat; policy accept;\n";
  text += "  ip saddr != " + ranges_.pods.to_string() + " return\n";
  std::vector<std::string> direct{ranges_.cluster.to_string(), "169.254.0.0/16"};
  if (ranges_.services) direct.push_back(ranges_.services->to_string());
  for (const auto& range : options_.non_masquerade) {
    ORC_ASSIGN(const IpRange parsed, IpRange::parse(range));
    direct.push_back(parsed.to_string());
  }
  for (const auto& range : direct) text += "  ip daddr " + range + " return\n";
  text += "  masquerade fully-random\n }\n}\n";
  ORC_ASSIGN(auto session, NftSession::open(options_.name_space));
  return session->run(text);
}

Result<void> RoutedNetwork::load_addresses() {
  auto text = read_file(options_.data_dir + "/addresses.json", kAddressJournalBytesMax);
  if (!text && text.error().is(Error::not_found)) return {};
  if (!text) return text.error();
  std::lock_guard lock(mutex_);
  auto loaded = pool_.load(*text, wall_now());
  if (loaded) return loaded;
  // The links know their addresses: the journal can be rebuilt from them.
  engine_.log(LogLevel::warning, "podnet", "the address journal is rebuilt from the links",
              {{"error", loaded.error().to_string()}});
  ORC_ASSIGN(pool_, AddressPool::create(ranges_.pods, options_.address_cooldown.count()));
  return {};
}

Result<void> RoutedNetwork::save_addresses() {
  std::string text;
  {
    std::lock_guard lock(mutex_);
    text = pool_.journal();
  }
  // Not synced: after a power failure no pod is left that could own an address.
  return replace_file(options_.data_dir + "/addresses.json", text, 0600, false);
}

/// The pod's address, of which the name has the last two bytes.
std::optional<IpAddress> RoutedNetwork::address_of_link(const std::string& link) const {
  std::uint32_t low = 0;
  const char* digits = link.data() + link.size() - 4;
  const auto [end, error] = std::from_chars(digits, digits + 4, low, 16);
  const auto address = IpAddress::v4((ranges_.pods.base.v4_number() & 0xffff0000u) | low);
  if (error != std::errc() || end != digits + 4 || pod_link_name(options_.instance, address) != link)
    return {};
  return address;
}

/// Links with an alias belong to pods and stay; their leases are made again when the journal lost them.
/// A link without an alias is an attach that was cut off: removed.
Result<void> RoutedNetwork::adopt_links() {
  ORC_ASSIGN(const std::vector<Link> links, routes_.links());
  ORC_ASSIGN(const std::vector<Route> routes, routes_.routes(options_.ipv4 ? 4 : 6));
  const int whole = options_.ipv4 ? 32 : 128;  // the route of one pod
  for (const auto& link : links) {
    if (!is_pod_link(options_.instance, link.name)) continue;
    bool keep = false;
    {
      std::lock_guard lock(mutex_);
      const auto* lease = link.alias.empty() ? nullptr : pool_.find(link.alias);
      const std::string name = lease == nullptr ? "" : pod_link_name(options_.instance, lease->address);
      keep = lease != nullptr && (name == link.name || rate_link_of(name) == link.name);
      if (lease == nullptr && !link.alias.empty() && is_bridged()) {
        const auto address = address_of_link(link.name);  // routes lead to the bridge
        keep = address && pool_.adopt(link.alias, *address);
      } else if (lease == nullptr && !link.alias.empty()) {
        for (const auto& route : routes) {
          if (keep || route.link != link.index || route.destination.prefix != whole) continue;
          if (route.protocol != kRouteProtocol) continue;
          keep = pool_.adopt(link.alias, number_of(route.destination.base));
        }
      }
    }
    if (keep) continue;
    engine_.log(LogLevel::info, "podnet", "removing a leftover link",
                {{"link", link.name}, {"pod", link.alias}});
    ORC_TRY(routes_.remove_link(link.index));
  }
  return save_addresses();
}

Result<void> remove_instance(MachineJournal& journal, RouteSocket& routes,
                             const NetworkNamespace& name_space) {
  if (journal.empty()) return {};
  const MachineState state = journal.state();
  ORC_ASSIGN(const std::vector<Link> links, routes.links());
  for (const auto& link : links) {
    if (is_pod_link(state.instance, link.name)) ORC_TRY(routes.remove_link(link.index));
  }
  std::string tables;
  for (const char* suffix : {"_out", "_hp"}) {
    const std::string table = "table ip " + nft_table_name(state.instance, suffix) + "\n";
    tables += table + "delete " + table;
  }
  if (!state.cluster_cidr6.empty()) {
    for (const char* suffix : {"_out", "_hp"}) {
      const std::string table = "table ip6 " + nft_table_name(state.instance, suffix) + "\n";
      tables += table + "delete " + table;
    }
  }
  if (state.mode == "bridge") {
    const std::string table = "table bridge " + nft_table_name(state.instance, "_br") + "\n";
    tables += table + "delete " + table;
  }
  if (auto session = NftSession::open(name_space)) {
    auto removed = (*session)->run(tables);
    // Where nftables does not work, there is no table of ours either.
    if (!removed && !removed.error().is(Error::unsupported)) return removed;
  }
  for (const auto& link : links) {
    if (link.name == gateway_link_name(state.instance) || link.name == tunnel_link_name(state.instance))
      ORC_TRY(routes.remove_link(link.index));
  }
  if (!state.cluster_cidr.empty()) {
    ORC_ASSIGN(const IpRange cluster, IpRange::parse(state.cluster_cidr));
    ORC_ASSIGN(const std::vector<Route> all, routes.routes());
    for (const Route& route : all) {
      if (is_peer_route(route, cluster)) ORC_TRY(routes.remove_route(route));
    }
  }
  ORC_ASSIGN(const std::optional<IpRange> cluster6, parse_cluster6(state.cluster_cidr6));
  if (cluster6) {
    ORC_ASSIGN(const std::vector<Route> all, routes.routes(6));
    for (const Route& route : all) {
      if (is_peer_route(route, *cluster6)) ORC_TRY(routes.remove_route(route));
    }
  }
  ORC_TRY(in_namespace(name_space, [&] { return journal.restore_sysctls(); }));
  if (cluster6) {
    ORC_ASSIGN(const IpRange cluster, IpRange::parse(state.cluster_cidr));
    ORC_TRY(routes.remove_route(cover_of(with_prefix(*cluster6, cluster))));
  }
  for (const auto& text : {state.cluster_cidr, state.service_cidr, state.service_cidr6}) {
    if (text.empty()) continue;
    ORC_ASSIGN(const IpRange range, IpRange::parse(text));
    ORC_TRY(routes.remove_route(cover_of(range)));
  }
  return journal.remove();
}

}  // namespace net

Result<std::shared_ptr<PodNetwork>> PodNetwork::open(Engine& engine, PodNetworkOptions options) {
  using namespace net;
  ORC_TRY(check_instance(options.instance));
  ORC_ASSIGN(RoutedRanges ranges, parse_ranges(options));
  ORC_ASSIGN(AddressPool pool, AddressPool::create(ranges.pods, options.address_cooldown.count()));
  ORC_ASSIGN(MachineJournal journal, MachineJournal::open(options.data_dir));
  ORC_ASSIGN(RouteSocket routes,
             in_namespace_get<RouteSocket>(options.name_space, [] { return RouteSocket::open(); }));
  ORC_ASSIGN(RouteSocket removal_routes,
             in_namespace_get<RouteSocket>(options.name_space, [] { return RouteSocket::open(); }));
  auto network =
      std::make_shared<RoutedNetwork>(engine, std::move(options), std::move(ranges), std::move(pool),
                                      std::move(journal), std::move(routes), std::move(removal_routes));
  auto started = network->start();
  if (!started) return started.error();
  return std::shared_ptr<PodNetwork>(std::move(network));
}

Result<std::string> PodNetwork::find_free_range(const std::string& wanted,
                                                const NetworkNamespace& name_space) {
  using namespace net;
  ORC_ASSIGN(IpRange range, IpRange::parse(wanted));
  if (!range.base.is_v4() || range.prefix < 8) {
    return Error(Error::invalid, "podnet", "range " + wanted + " must be IPv4, /8 or smaller");
  }
  ORC_ASSIGN(RouteSocket routes,
             in_namespace_get<RouteSocket>(name_space, [] { return RouteSocket::open(); }));
  ORC_ASSIGN(const std::vector<Link> links, routes.links());
  ORC_ASSIGN(const std::vector<Route> known, routes.routes());
  const std::uint32_t step = std::uint32_t{1} << (32 - range.prefix);
  for (int attempt = 0; attempt < kRangeTriesMax; ++attempt) {
    if (!find_overlap(range, known, links, "")) return range.to_string();
    range.base = IpAddress::v4(range.base.v4_number() + step);
  }
  return Error(Error::resource_exhausted, "podnet",
               "the machine routes " + wanted + " and the " + std::to_string(kRangeTriesMax - 1) +
                   " ranges behind it; give a free one with --pod-cidr or --service-cidr");
}

Result<void> PodNetwork::remove_leftovers(const std::string& data_dir, const NetworkNamespace& name_space) {
  using namespace net;
  ORC_ASSIGN(MachineJournal journal, MachineJournal::open(data_dir));
  if (journal.empty()) return {};
  ORC_ASSIGN(RouteSocket routes,
             in_namespace_get<RouteSocket>(name_space, [] { return RouteSocket::open(); }));
  // The Services' part first: while rules are gone the covers still hold.
  ORC_TRY(remove_service_leftovers(journal.state().instance, journal.state().service_cidr, name_space));
  return remove_instance(journal, routes, name_space);
}

}  // namespace orchestra
