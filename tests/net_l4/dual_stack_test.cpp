// Pods with addresses of both families: on one node, outside, between nodes that share only IPv4, and the end
// of it.
#include <linux/rtnetlink.h>

#include <algorithm>
#include <map>

#include "api/pod_attacher.hpp"
#include "net/podnet/dual_stack.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"
#include "tests/net_l4/net_lab.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

#define NEEDS_ROOT(name) \
  if (!can_make_namespaces()) ORC_SKIP(name, "needs root: network namespaces cannot be made")

std::string six(int node, int last) {
  return with_prefix(IpRange::parse("fd00:10:244::/96").value(),
                     IpAddress::v4(0x0af40000u + static_cast<std::uint32_t>(node) * 256 +
                                   static_cast<std::uint32_t>(last)))
      .to_string();
}

/// Nodes 1 and 2 on one wire of IPv4; node 1 has a machine outside, too, which knows both families.
struct Lab {
  Engine engine;
  std::map<int, NetworkNamespace> hosts;
  std::map<int, TempDir> data;
  NetworkNamespace outside = make_host();
  Lab() {
    for (const int node : {1, 2}) hosts[node] = make_host();
    wire(hosts[1], "eth0", "192.0.2.1/24", hosts[2], "eth0", "192.0.2.2/24");
    wire(hosts[1], "uplink", "2001:db8::1/64", outside, "eth0", "2001:db8::2/64");
  }
  std::shared_ptr<PodNetwork> open(int node) {
    PodNetworkOptions options;
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
  Lab lab;
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
  Lab lab;
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
  Lab lab;
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
