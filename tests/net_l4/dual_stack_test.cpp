// Pods with addresses of both families: on one node, outside, between nodes that share only IPv4, and the end
// of it.
#include <linux/rtnetlink.h>

#include <algorithm>
#include <map>
#include <set>

#include "api/pod_attacher.hpp"
#include "net/podnet/dual_stack.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"
#include "orchestra/policy_enforcer.hpp"
#include "orchestra/service_proxy.hpp"
#include "tests/net_l4/net_lab.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

std::string six(int node, int last) {
  return with_prefix(IpRange::parse("fd00:10:244::/96").value(),
                     IpAddress::v4(0x0af40000u + static_cast<std::uint32_t>(node) * 256 +
                                   static_cast<std::uint32_t>(last)))
      .to_string();
}

/// Nodes 1 and 2 on one wire of IPv4; node 1 has a machine outside, too, which knows both families.
struct DualLab {
  Engine engine;
  std::map<int, NetworkNamespace> hosts;
  std::map<int, TempDir> data;
  NetworkNamespace outside = make_host();
  DualLab() {
    for (const int node : {1, 2}) hosts[node] = make_host();
    wire(hosts[1], "eth0", "192.0.2.1/24", hosts[2], "eth0", "192.0.2.2/24");
    wire(hosts[1], "uplink", "2001:db8::1/64", outside, "eth0", "2001:db8::2/64");
  }
  std::shared_ptr<PodNetwork> open(int node, const std::string& service_cidr6 = "") {
    PodNetworkOptions options;
    if (!service_cidr6.empty()) options.service_cidr = "10.96.0.0/16";
    options.service_cidr6 = service_cidr6;
    options.data_dir = data[node].path();
    options.instance = "0a1b2c3" + std::to_string(node);
    options.pod_cidr = "10.244." + std::to_string(node) + ".0/24";
    options.cluster_cidr = "10.244.0.0/16";
    options.cluster_cidr6 = "fd00:10:244::/96";
    options.name_space = hosts[node];
    auto network = PodNetwork::open(engine, options);
    REQUIRE_MESSAGE(network, (network ? "" : network.error().to_string()));
    return *network;
  }
  Attachment attach(PodNetwork& network, const NetworkNamespace& pod, const std::string& uid) {
    auto attached = network.attacher()->attach({uid, "default", uid, pod.fd()}).wait(60s);
    REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
    return *attached;
  }
};

/// IPv6 routes that somebody made, as text.
std::vector<std::string> routes6(const NetworkNamespace& where) {
  std::vector<std::string> out;
  auto socket = in_namespace_get<RouteSocket>(where, [] { return RouteSocket::open(); }).value();
  for (const Route& route : socket.routes(6).value()) {
    if (route.protocol == kRouteProtocol) out.push_back(route.destination.to_string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

TEST_CASE("an IPv6 address is the cluster's range and the IPv4 address in its last 32 bits") {
  const IpRange six_range = IpRange::parse("fd00:10:244::/96").value();
  CHECK(with_prefix(six_range, *IpAddress::parse("10.244.1.5")).to_string() == "fd00:10:244::af4:105");
  CHECK(with_prefix(six_range, IpRange::parse("10.244.1.0/24").value()).to_string() ==
        "fd00:10:244::af4:100/120");
  CHECK(parse_cluster6("").value() == std::nullopt);
  for (const char* bad : {"10.0.0.0/8", "fd00::/97", "fd00::/8", "fd00::1/64", "x"})
    CHECK_FALSE(parse_cluster6(bad));
}

TEST_CASE(
    "pods of one node and the node reach one another by both families, and a forged source does not pass") {
  NEEDS_ROOT(
      "pods of one node and the node reach one another by both families, and a forged source does not pass");
  DualLab lab;
  auto network = lab.open(1);
  auto pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();
  CHECK(lab.attach(*network, pod_a, "a").addresses == std::vector<std::string>{"10.244.1.2", six(1, 2)});
  lab.attach(*network, pod_b, "b");
  lab.attach(*network, pod_b, "b");  // again, as after a crash
  TcpAnswerer in_b(pod_b, "::", 8080, "b here");
  CHECK(ask_tcp(pod_a, six(1, 3), 8080) == "b here");
  CHECK(in_b.last_client() == six(1, 2));
  CHECK(ask_tcp(pod_a, "10.244.1.3", 8080) == "b here");
  CHECK(ask_tcp(lab.hosts[1], six(1, 3), 8080) == "b here");
  CHECK(in_b.last_client() == six(1, 1));
  TcpAnswerer on_node(lab.hosts[1], six(1, 1), 5353, "node here");
  CHECK(ask_tcp(pod_a, six(1, 1), 5353) == "node here");
  CHECK(ask_tcp(pod_a, six(1, 77), 80).starts_with("error: E"));  // nobody has it: told at once
  in_namespace(pod_a, []() -> Result<void> {
    ORC_ASSIGN(RouteSocket inside, RouteSocket::open());
    const int link = (*inside.find_link("eth0"))->index;
    ORC_TRY(inside.add_address(link, *IpAddress::parse(six(1, 9)), 128));
    Route forged;
    forged.destination = {*IpAddress::parse("::"), 0};
    forged.link = link;
    forged.gateway = IpAddress::parse("fe80::1");
    forged.source = IpAddress::parse(six(1, 9));
    return inside.add_route(forged);
  }).value();
  CHECK(ask_tcp(pod_a, six(1, 3), 8080, 300) == "error: timeout");
  network->teardown().wait(60s).value();
}

TEST_CASE("what leaves the cluster by IPv6 has the node's address; detach and teardown leave nothing") {
  NEEDS_ROOT("what leaves the cluster by IPv6 has the node's address; detach and teardown leave nothing");
  DualLab lab;
  const auto before = machine_state(lab.hosts[1]);
  const std::string forwarding = sysctl_in(lab.hosts[1], "net/ipv6/conf/all/forwarding");
  auto network = lab.open(1);
  auto pod = NetworkNamespace::create().value();
  lab.attach(*network, pod, "a");
  TcpAnswerer server(lab.outside, "2001:db8::2", 80, "outside");
  CHECK(ask_tcp(pod, "2001:db8::2", 80) == "outside");
  CHECK(server.last_client() == "2001:db8::1");
  CHECK(routes6(lab.hosts[1]) == std::vector<std::string>{"fd00:10:244::af4:0/112", six(1, 2) + "/128"});
  network->attacher()->detach("a").wait(60s).value();
  CHECK(routes6(lab.hosts[1]) == std::vector<std::string>{"fd00:10:244::af4:0/112"});
  SUBCASE("by its owner") { network->teardown().wait(60s).value(); }
  SUBCASE("after a crash") {
    network.reset();
    PodNetwork::remove_leftovers(lab.data[1].path(), lab.hosts[1]).value();
  }
  CHECK(routes6(lab.hosts[1]).empty());
  CHECK(ruleset(lab.hosts[1]) == "");
  CHECK(machine_state(lab.hosts[1]) == before);
  CHECK(sysctl_in(lab.hosts[1], "net/ipv6/conf/all/forwarding") == forwarding);
}

TEST_CASE("pods of nodes that share only IPv4 reach each other by IPv6 through the tunnel") {
  NEEDS_ROOT("pods of nodes that share only IPv4 reach each other by IPv6 through the tunnel");
  DualLab lab;
  auto one = lab.open(1), two = lab.open(2);
  const PodNetworkPeer first{"one", "192.0.2.1", "10.244.1.0/24"},
      second{"two", "192.0.2.2", "10.244.2.0/24"};
  CHECK(one->set_peers({second}).wait(60s).value().empty());
  CHECK(two->set_peers({first}).wait(60s).value().empty());
  CHECK(two->set_peers({first}).wait(60s).value().empty());
  auto pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();
  lab.attach(*one, pod_a, "a");
  lab.attach(*two, pod_b, "b");
  const std::string much(1'000'000, 'x');
  TcpAnswerer in_b(pod_b, "::", 80, much), in_a(pod_a, "::", 80, much);
  CHECK(ask_tcp(pod_a, six(2, 2), 80, 10'000) == much);
  CHECK(in_b.last_client() == six(1, 2));
  CHECK(ask_tcp(pod_b, six(1, 2), 80, 10'000) == much);
  CHECK(ask_tcp(lab.hosts[1], six(2, 2), 80, 10'000) == much);
  CHECK(in_b.last_client() == six(1, 1));
  CHECK(ask_tcp(pod_a, "10.244.2.2", 80, 10'000) == much);  // by a plain route
  CHECK(one->set_peers({}).wait(60s).value().empty());
  CHECK(ask_tcp(pod_a, six(2, 2), 80, 500).starts_with("error: "));
  CHECK(routes6(lab.hosts[1]) == std::vector<std::string>{"fd00:10:244::af4:0/112", six(1, 2) + "/128"});
  one->teardown().wait(60s).value();
  two->teardown().wait(60s).value();
}

TEST_CASE("ranges of IPv6 for Services that do not fit are refused before anything is made") {
  Engine engine;
  TempDir data;
  PodNetworkOptions network;
  network.data_dir = data.path();
  network.instance = "0a1b2c3d";
  network.pod_cidr = "10.244.1.0/24";
  network.service_cidr = "10.96.0.0/16";
  for (const auto& [pods, services] : {std::pair("", "fd00:10:96::/112"),
                                       {"fd00::/64", "10.97.0.0/16"},
                                       {"fd00::/64", "fd00::1:0/112"},
                                       {"fd00::/64", "x"}}) {
    network.cluster_cidr6 = pods;
    network.service_cidr6 = services;
    const auto refused = PodNetwork::open(engine, network);
    REQUIRE_FALSE_MESSAGE(refused, services);
    CHECK(refused.error().is(Error::invalid));
  }
  ServiceProxyOptions proxy;
  proxy.instance = "0a1b2c3d";
  proxy.cluster_cidr = "10.244.0.0/16";
  proxy.service_cidr = "10.96.0.0/16";
  proxy.node_gateway = "10.244.1.1";
  proxy.service_cidr6 = "fd00:10:96::/112";
  proxy.mode = ServiceProxyOptions::Mode::nftables;
  for (const auto& [pods, gateway] :
       {std::pair("", "fd00::1"), {"fd00::/64", ""}, {"fd00::/64", "10.244.1.1"}}) {
    proxy.cluster_cidr6 = pods;
    proxy.node_gateway6 = gateway;
    const auto refused = ServiceProxy::create(engine, proxy);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().is(Error::invalid));
  }
}

TEST_CASE("Services of both families lead pods, their node and the outside to endpoints of the same family") {
  NEEDS_ROOT(
      "Services of both families lead pods, their node and the outside to endpoints of the same family");
  DualLab lab;
  const auto before = machine_state(lab.hosts[1]);
  auto network = lab.open(1, "fd00:10:96::/112");
  auto pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();
  lab.attach(*network, pod_a, "a");
  lab.attach(*network, pod_b, "b");
  ServiceProxyOptions options;
  options.node = "n1";
  options.instance = "0a1b2c31";
  options.cluster_cidr = "10.244.0.0/16";
  options.service_cidr = "10.96.0.0/16";
  options.node_gateway = network->node_address();
  options.cluster_cidr6 = "fd00:10:244::/96";
  options.service_cidr6 = "fd00:10:96::/112";
  options.node_gateway6 = six(1, 1);
  options.name_space = lab.hosts[1];
  options.mode = ServiceProxyOptions::Mode::nftables;
  auto proxy = ServiceProxy::create(lab.engine, options).value();
  const auto apply = [&](std::vector<Object> services, std::vector<Object> slices) {
    auto done = proxy->apply(make_snapshot(std::move(services), std::move(slices))).wait(60s);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    CHECK(done->rejected.empty());
  };
  const auto service = [](const std::string& more = "") {
    return make_service("web", "10.96.0.10",
                        {{"web", 80, 30080}, {"names", 53, 0, "UDP"}, {"peer", 3868, 0, "SCTP"}},
                        R"(,"clusterIPs":["10.96.0.10","fd00:10:96::a"])" + more);
  };
  const auto slices = [](const std::vector<TestEndpoint>& six_endpoints) {
    return std::vector<Object>{make_slice("web", {{"10.244.1.2"}}, 8080),
                               make_slice("web", six_endpoints, 8080, "web", "TCP", "web-6"),
                               make_slice("web", six_endpoints, 5353, "names", "UDP", "web-udp-6"),
                               make_slice("web", six_endpoints, 3868, "peer", "SCTP", "web-sctp-6")};
  };
  TcpAnswerer in_a(pod_a, "::", 8080, "a"), in_b(pod_b, "::", 8080, "b");
  UdpAnswerer names_a(pod_a, "::", 5353, "a"), names_b(pod_b, "::", 5353, "b");
  apply({service()}, slices({{six(1, 2)}, {six(1, 3)}}));
  std::set<std::string> by_pod, by_node;
  for (int i = 0; i < 40; ++i) {
    by_pod.insert(ask_tcp(pod_a, "fd00:10:96::a", 80));  // itself too: hairpin
    by_node.insert(ask_tcp(lab.hosts[1], "fd00:10:96::a", 80));
  }
  CHECK(by_pod == std::set<std::string>{"a", "b"});
  CHECK(by_node == std::set<std::string>{"a", "b"});
  CHECK(ask_tcp(pod_b, "10.96.0.10", 80) == "a");
  CHECK(ask_udp(pod_a, "fd00:10:96::a", 53).size() == 1);
  SctpAnswerer peer_a(pod_a, 3868, "a"), peer_b(pod_b, 3868, "b");
  CHECK(ask_sctp(pod_a, "fd00:10:96::a", 3868).size() == 1);
  CHECK(ask_sctp(lab.hosts[1], "fd00:10:96::a", 3868).size() == 1);
  CHECK(ask_tcp(lab.outside, "2001:db8::1", 30080).size() == 1);  // the node's port
  CHECK(ask_tcp(pod_a, "fd00:10:96::a", 81).starts_with("error: E"));
  CHECK(ask_tcp(pod_a, "fd00:10:96::77", 80, 300).starts_with("error: "));
  CHECK(proxy->explain("[fd00:10:96::a]:80/tcp").value().find(six(1, 3)) != std::string::npos);
  CHECK(proxy->explain("10.96.0.10:80/tcp").value().find(six(1, 3)) == std::string::npos);
  // A client with a fixed port follows the endpoints.
  apply({service()}, slices({{six(1, 2)}}));
  UdpClient fixed(pod_b, "fd00:10:96::a", 53);
  CHECK(fixed.ask() == "a");
  apply({service()}, slices({{six(1, 3)}}));
  CHECK(fixed.ask() == "b");
  CHECK(ask_tcp(pod_a, "fd00:10:96::a", 80) == "b");
  apply({service(R"(,"sessionAffinity":"ClientIP")")}, slices({{six(1, 2)}, {six(1, 3)}}));
  const std::string first = ask_tcp(pod_a, "fd00:10:96::a", 80);
  for (int i = 0; i < 10; ++i) CHECK(ask_tcp(pod_a, "fd00:10:96::a", 80) == first);
  apply({service()}, slices({}));
  CHECK(ask_tcp(pod_a, "fd00:10:96::a", 80) == "error: ECONNREFUSED");
  CHECK(ask_tcp(lab.hosts[1], "fd00:10:96::a", 80) == "error: ECONNREFUSED");
  run_nft(lab.hosts[1], "delete table ip6 orc_0a1b2c31");
  const auto deadline = real_clock().now().steady_ns + 60'000'000'000;
  while (ruleset(lab.hosts[1]).find("table ip6 orc_0a1b2c31 ") == std::string::npos) {
    REQUIRE(real_clock().now().steady_ns < deadline);  // somebody's change is noticed
  }
  SUBCASE("by its owners") {
    proxy->teardown().wait(60s).value();
    network->teardown().wait(60s).value();
  }
  SUBCASE("after a crash") {
    proxy.reset();
    network.reset();
    PodNetwork::remove_leftovers(lab.data[1].path(), lab.hosts[1]).value();
  }
  CHECK(ruleset(lab.hosts[1]) == "");
  CHECK(routes6(lab.hosts[1]).empty());
  CHECK(machine_state(lab.hosts[1]) == before);
}

namespace {

/// Pods of one node with IPv6 as their first family, or as their only one.
struct SixLab {
  Engine engine;
  TempDir data;
  NetworkNamespace host = make_host(), outside = make_host();
  NetworkNamespace a = NetworkNamespace::create().value(), b = NetworkNamespace::create().value();
  const bool ipv4;
  std::shared_ptr<PodNetwork> network;

  explicit SixLab(bool with_ipv4) : ipv4(with_ipv4) {
    wire(host, "uplink", "192.0.2.1/24", outside, "eth0", "192.0.2.2/24");
    wire(host, "uplink6", "2001:db8::1/64", outside, "eth6", "2001:db8::2/64");
    network = open().value();
  }
  PodNetworkOptions options() const {
    PodNetworkOptions out;
    out.data_dir = data.path();
    out.instance = "0a1b2c31";
    out.pod_cidr = "10.244.1.0/24";
    out.cluster_cidr = "10.244.0.0/16";
    out.cluster_cidr6 = "fd00:10:244::/96";
    if (ipv4) out.service_cidr = "10.96.0.0/16";
    out.service_cidr6 = "fd00:10:96::/112";
    out.ipv6_first = true;
    out.ipv4 = ipv4;
    out.name_space = host;
    return out;
  }
  Result<std::shared_ptr<PodNetwork>> open() { return PodNetwork::open(engine, options()); }
  std::vector<std::string> attach(const std::string& uid, const NetworkNamespace& pod,
                                  std::vector<HostPort> ports = {}) {
    AttachRequest request{uid, "default", uid, pod.fd()};
    request.host_ports = std::move(ports);
    auto attached = network->attacher()->attach(request).wait(60s);
    REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
    return attached->addresses;
  }
};

}  // namespace

TEST_CASE("where IPv6 comes first it is the pod's first address and the node's, for names, too") {
  NEEDS_ROOT("where IPv6 comes first it is the pod's first address and the node's, for names, too");
  SixLab lab(true);
  CHECK(lab.attach("a", lab.a) == std::vector<std::string>{six(1, 2), "10.244.1.2"});
  lab.attach("b", lab.b);
  CHECK(lab.network->node_address() == six(1, 1));
  CHECK(lab.network->attacher()->dns_address() == six(1, 1));
  TcpAnswerer in_b(lab.b, "::", 80, "b");
  CHECK(ask_tcp(lab.a, six(1, 3), 80) == "b");
  CHECK(ask_tcp(lab.a, "10.244.1.3", 80) == "b");
  lab.network.reset();
  auto options = lab.options();
  options.ipv6_first = false;
  const auto refused = PodNetwork::open(lab.engine, options);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().is(Error::conflict));
  lab.network = lab.open().value();
  CHECK(lab.attach("a", lab.a) == std::vector<std::string>{six(1, 2), "10.244.1.2"});
  lab.network->teardown().wait(60s).value();
}

TEST_CASE("pods of IPv6 alone: each other, their node, outside, host ports; nothing of IPv4 is made") {
  NEEDS_ROOT("pods of IPv6 alone: each other, their node, outside, host ports; nothing of IPv4 is made");
  SixLab lab(false);
  lab.network->teardown().wait(60s).value();
  const auto before = machine_state(lab.host);
  set_sysctl_in(lab.host, "net/ipv4/ip_forward", "0");
  lab.network = lab.open().value();
  CHECK(lab.attach("a", lab.a) == std::vector<std::string>{six(1, 2)});
  CHECK(lab.attach("b", lab.b, {{IpProtocol::tcp, "", 8080, 80}}) == std::vector<std::string>{six(1, 3)});
  CHECK(lab.network->node_address() == six(1, 1));
  for (const std::string& line : machine_state(lab.host))
    CHECK_MESSAGE(line.find("10.244.") == std::string::npos, line);
  CHECK(ruleset(lab.host).find("table ip orc") == std::string::npos);
  CHECK(sysctl_in(lab.host, "net/ipv4/ip_forward") == "0");
  TcpAnswerer in_b(lab.b, "::", 80, "b"), on_node(lab.host, six(1, 1), 5353, "node");
  CHECK(ask_tcp(lab.a, six(1, 3), 80) == "b");
  CHECK(ask_tcp(lab.host, six(1, 3), 80) == "b");
  CHECK(in_b.last_client() == six(1, 1));
  CHECK(ask_tcp(lab.a, six(1, 1), 5353) == "node");
  CHECK(ask_tcp(lab.outside, "2001:db8::1", 8080) == "b");
  CHECK(ask_tcp(lab.host, "::1", 8080) == "b");
  TcpAnswerer server(lab.outside, "2001:db8::2", 80, "outside");
  CHECK(ask_tcp(lab.a, "2001:db8::2", 80) == "outside");
  CHECK(server.last_client() == "2001:db8::1");
  CHECK(ask_tcp(lab.a, "192.0.2.2", 80).starts_with("error: E"));  // no way there
  auto asked = lab.network->attacher()
                   ->attach({"c",
                             "default",
                             "c",
                             NetworkNamespace::create().value().fd(),
                             {{IpProtocol::tcp, "192.0.2.1", 81, 80}}})
                   .wait(60s);
  REQUIRE_FALSE(asked);
  CHECK(asked.error().message().find("pods have IPv6 only") != std::string::npos);
  // The next process, which has lost the journal of addresses.
  lab.network.reset();
  std::filesystem::remove(lab.data / "addresses.json");
  lab.network = lab.open().value();
  CHECK(lab.network->attacher()->list().value().size() == 2);
  CHECK(ask_tcp(lab.a, six(1, 3), 80) == "b");
  lab.network->attacher()->detach("b").wait(60s).value();
  CHECK(ask_tcp(lab.a, six(1, 3), 80, 300).starts_with("error: "));
  SUBCASE("by its owner") { lab.network->teardown().wait(60s).value(); }
  SUBCASE("after a crash") {
    lab.network.reset();
    PodNetwork::remove_leftovers(lab.data.path(), lab.host).value();
  }
  CHECK(machine_state(lab.host) == before);
  CHECK(routes6(lab.host).empty());
  CHECK(ruleset(lab.host) == "");
}

TEST_CASE("Services and policies of a cluster that has IPv6 alone") {
  NEEDS_ROOT("Services and policies of a cluster that has IPv6 alone");
  SixLab lab(false);
  lab.attach("a", lab.a);
  lab.attach("b", lab.b);
  ServiceProxyOptions options;
  options.node = "n1";
  options.instance = "0a1b2c31";
  options.cluster_cidr6 = "fd00:10:244::/96";
  options.service_cidr6 = "fd00:10:96::/112";
  options.node_gateway6 = lab.network->node_address();
  options.name_space = lab.host;
  options.mode = ServiceProxyOptions::Mode::nftables;
  auto proxy = ServiceProxy::create(lab.engine, options).value();
  const auto slice = make_slice("web", {{six(1, 3)}}, 8080);
  auto done = proxy
                  ->apply(make_snapshot({make_service("web", "fd00:10:96::a", {{"web", 80, 30080}}),
                                         make_service("old", "10.96.0.9", {{}})},
                                        {slice}))
                  .wait(60s)
                  .value();
  REQUIRE(done.rejected.size() == 1);
  CHECK(done.rejected.front().message ==
        "address 10.96.0.9 is not IPv6; it is not served by the kernel's rules");
  TcpAnswerer in_b(lab.b, "::", 8080, "b");
  CHECK(ask_tcp(lab.a, "fd00:10:96::a", 80) == "b");
  CHECK(in_b.last_client() == six(1, 2));
  CHECK(ask_tcp(lab.b, "fd00:10:96::a", 80) == "b");  // itself
  CHECK(ask_tcp(lab.host, "fd00:10:96::a", 80) == "b");
  CHECK(ask_tcp(lab.outside, "2001:db8::1", 30080) == "b");
  options.mode = ServiceProxyOptions::Mode::userspace;
  const auto relay = ServiceProxy::create(lab.engine, options);
  REQUIRE_FALSE(relay);
  CHECK(relay.error().is(Error::unsupported));

  auto enforcer = PolicyEnforcer::create(lab.engine, {.node = "n1",
                                                      .instance = "0a1b2c31",
                                                      .pod_cidr = "10.244.1.0/24",
                                                      .cluster_cidr6 = "fd00:10:244::/96",
                                                      .ipv4 = false,
                                                      .name_space = lab.host})
                      .value();
  const auto pod = [](const std::string& name, const std::string& address) {
    return from_text(R"({"kind":"Pod","metadata":{"name":")" + name +
                     R"(","namespace":"shop","labels":{"app":")" + name +
                     R"("}},"spec":{"nodeName":"n1"},"status":{"phase":"Running","podIP":")" + address +
                     R"(","podIPs":[{"ip":")" + address + R"("}]}})");
  };
  const auto apply = [&](const std::string& from) {
    NetworkInputs inputs;
    inputs.namespaces = {{from_text(R"({"kind":"Namespace","metadata":{"name":"shop"}})")}, true};
    inputs.pods = {{pod("a", six(1, 2)), pod("b", six(1, 3))}, true};
    inputs.network_policies = {
        {from_text(R"({"kind":"NetworkPolicy","metadata":{"name":"p","namespace":"shop"},)"
                   R"("spec":{"podSelector":{"matchLabels":{"app":"b"}},"ingress":[)" +
                   from + "]}}")},
        true};
    enforcer->apply(NetworkSnapshot::build(inputs)).wait(60s).value();
  };
  apply(R"({"from":[{"podSelector":{"matchLabels":{"app":"x"}}}]})");
  CHECK(ask_tcp(lab.a, six(1, 3), 8080, 300) == "error: timeout");
  CHECK(ask_tcp(lab.a, "fd00:10:96::a", 80, 300) == "error: timeout");
  CHECK(ask_tcp(lab.host, six(1, 3), 8080) == "b");
  apply(R"({"from":[{"podSelector":{"matchLabels":{"app":"a"}}}]})");
  CHECK(ask_tcp(lab.a, six(1, 3), 8080) == "b");
  CHECK(ruleset(lab.host).find("table ip orc") == std::string::npos);
  enforcer->teardown().wait(60s).value();
  proxy->teardown().wait(60s).value();
  lab.network->teardown().wait(60s).value();
  CHECK(ruleset(lab.host) == "");
}

TEST_CASE("nodes whose pods have IPv6 alone reach each other's by the tunnel") {
  NEEDS_ROOT("nodes whose pods have IPv6 alone reach each other's by the tunnel");
  DualLab lab;
  std::map<int, std::shared_ptr<PodNetwork>> nodes;
  std::map<int, NetworkNamespace> pods;
  for (const int node : {1, 2}) {
    PodNetworkOptions options;
    options.data_dir = lab.data[node].path();
    options.instance = "0a1b2c3" + std::to_string(node);
    options.pod_cidr = "10.244." + std::to_string(node) + ".0/24";
    options.cluster_cidr = "10.244.0.0/16";
    options.cluster_cidr6 = "fd00:10:244::/96";
    options.ipv6_first = true;
    options.ipv4 = false;
    options.name_space = lab.hosts[node];
    nodes[node] = PodNetwork::open(lab.engine, options).value();
    const int other = 3 - node;
    const std::string n = std::to_string(other);
    CHECK(nodes[node]
              ->set_peers({{"n" + n, "192.0.2." + n, "10.244." + n + ".0/24"}})
              .wait(60s)
              .value()
              .empty());
    pods[node] = NetworkNamespace::create().value();
    lab.attach(*nodes[node], pods[node], "p");
  }
  TcpAnswerer far(pods[2], "::", 80, "far");
  CHECK(ask_tcp(pods[1], six(2, 2), 80) == "far");
  CHECK(far.last_client() == six(1, 2));
  CHECK(nodes[1]->set_peers({}).wait(60s).value().empty());
  CHECK(ask_tcp(pods[1], six(2, 2), 80, 300).starts_with("error: "));
  for (auto& [node, network] : nodes) network->teardown().wait(60s).value();
}
