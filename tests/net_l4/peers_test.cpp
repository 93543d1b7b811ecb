// Pods of several nodes: on one link by plain routes, behind a router by a tunnel. Each node is a namespace
// with a pod network of its own; the router knows nothing of pods.
#include <linux/rtnetlink.h>

#include <algorithm>
#include <map>

#include "api/pod_attacher.hpp"
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

/// A route of the machine itself, with the protocol of an administrator's.
void add_route(const NetworkNamespace& where, const std::string& range, const std::string& gateway) {
  in_namespace(where, [&]() -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    Route route;
    route.destination = IpRange::parse(range).value();
    route.gateway = IpAddress::parse(gateway);
    route.protocol = RTPROT_STATIC;
    return routes.add_route(route);
  }).value();
}

std::size_t count_lines(const NetworkNamespace& where, const std::string& part) {
  const auto lines = machine_state(where);
  return static_cast<std::size_t>(std::count_if(lines.begin(), lines.end(), [&](const std::string& line) {
    return line.find(part) != std::string::npos;
  }));
}

/// near and far-side machines: a - b share a link; c is behind a router.
struct PeersLab {
  Engine engine;
  std::map<char, NetworkNamespace> hosts;
  std::map<char, std::shared_ptr<PodNetwork>> networks;
  std::map<char, NetworkNamespace> pods;
  std::map<char, TempDir> data;
  NetworkNamespace router = make_host();

  PeersLab() {
    for (const char name : {'a', 'b', 'c'}) hosts[name] = make_host();
    wire(hosts['a'], "to-b", "192.0.2.1/24", hosts['b'], "eth0", "192.0.2.2/24");
    wire(hosts['a'], "uplink", "198.51.100.1/24", router, "to-a", "198.51.100.254/24");
    wire(hosts['c'], "uplink", "203.0.113.1/24", router, "to-c", "203.0.113.254/24");
    set_sysctl_in(router, "net/ipv4/ip_forward", "1");
    add_route(hosts['a'], "0.0.0.0/0", "198.51.100.254");
    add_route(hosts['b'], "0.0.0.0/0", "192.0.2.1");
    add_route(hosts['c'], "0.0.0.0/0", "203.0.113.254");
    add_route(router, "192.0.2.0/24", "198.51.100.1");
    for (const char name : {'a', 'b', 'c'}) open(name);
  }
  static std::string number(char name) { return std::to_string(name - 'a' + 1); }
  void open(char name, PodNetworkOptions options = {}) {
    options.data_dir = data[name].path();
    options.instance = "0a1b2c3" + number(name);
    options.pod_cidr = "10.244." + number(name) + ".0/24";
    options.cluster_cidr = "10.244.0.0/16";
    if (options.node_address.empty()) options.node_address = peer(name).address;
    options.name_space = hosts[name];
    auto network = PodNetwork::open(engine, options);
    REQUIRE_MESSAGE(network, (network ? "" : network.error().to_string()));
    networks[name] = *network;
  }
  Attachment attach(char name) {
    pods[name] = NetworkNamespace::create().value();
    const AttachRequest request{std::string("uid-") + name, "default", std::string(1, name), pods[name].fd()};
    auto attached = networks[name]->attacher()->attach(request).wait(60s);
    REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
    return *attached;
  }
  static PodNetworkPeer peer(char name) {
    const std::string address = name == 'a' ? "192.0.2.1" : name == 'b' ? "192.0.2.2" : "203.0.113.1";
    return {std::string(1, name), address, "10.244." + number(name) + ".0/24"};
  }
  std::vector<std::string> set_peers(char name, std::vector<char> others, bool complete = true) {
    std::vector<PodNetworkPeer> peers;
    for (const char other : others) peers.push_back(peer(other));
    return networks[name]->set_peers(peers, complete).wait(60s).value();
  }
  std::optional<Link> tunnel(char name) {
    auto routes = in_namespace_get<RouteSocket>(hosts[name], [] { return RouteSocket::open(); }).value();
    return routes.find_link("orv-0a1b2c3" + number(name)).value();
  }
  /// Of neighbours and forwarding entries together.
  std::size_t tunnel_entries(char name) {
    auto routes = in_namespace_get<RouteSocket>(hosts[name], [] { return RouteSocket::open(); }).value();
    const auto link = tunnel(name);
    if (!link) return 0;
    return routes.neighbours(link->index, RouteSocket::Table::neighbours).value().size() +
           routes.neighbours(link->index, RouteSocket::Table::forwarding).value().size();
  }
  ~PeersLab() {
    for (auto& [name, network] : networks) network->teardown().wait(60s).value();
  }
};

}  // namespace

TEST_CASE("pods reach pods of nodes on the same link by routes, of others by a tunnel") {
  NEEDS_ROOT("pods reach pods of nodes on the same link by routes, of others by a tunnel");
  PeersLab lab;
  CHECK(lab.attach('b').mtu == 1500);
  CHECK(lab.set_peers('a', {'b', 'c'}).empty());
  CHECK(lab.set_peers('b', {'a', 'c'}).empty());
  CHECK(lab.set_peers('c', {'a', 'b'}).empty());
  CHECK(lab.attach('a').mtu == 1450);
  CHECK(lab.attach('c').mtu == 1450);
  CHECK(count_lines(lab.hosts['a'], "10.244.2.0/24 via 192.0.2.2") == 1);
  CHECK(count_lines(lab.hosts['a'], "10.244.3.0/24 via 10.244.3.1") == 1);
  // More than fits one packet, both ways, between each two; b's pod is from before the tunnel and has MTU
  // 1500.
  const std::string much(1'000'000, 'x');
  Capture on_link(lab.hosts['b'], "eth0"), at_router(lab.router, "to-c");
  for (const char to : {'a', 'b', 'c'}) {
    const std::string address = "10.244." + PeersLab::number(to) + ".2";
    TcpAnswerer server(lab.pods[to], "0.0.0.0", 80, much);
    for (const char from : {'a', 'b', 'c'}) {
      if (from == to) continue;
      CHECK_MESSAGE(ask_tcp(lab.pods[from], address, 80, 10'000) == much, "from ", from, " to ", to);
      CHECK(server.last_client() == "10.244." + PeersLab::number(from) + ".2");
      // The node itself too, with its address among the pods.
      CHECK_MESSAGE(ask_tcp(lab.hosts[from], address, 80, 10'000) == much, "node ", from, " to ", to);
      CHECK(server.last_client() == "10.244." + PeersLab::number(from) + ".1");
    }
  }
  CHECK(on_link.ipv4_frames() > 0);
  CHECK(at_router.ipv4_frames() > 0);
}

TEST_CASE("a node that is not named any more leaves nothing, and without far nodes the tunnel goes") {
  NEEDS_ROOT("a node that is not named any more leaves nothing, and without far nodes the tunnel goes");
  PeersLab lab;
  lab.set_peers('c', {'a', 'b'});
  const auto tunnel_entries = [&](RouteSocket::Table table) {
    return in_namespace_get<std::size_t>(lab.hosts['c'],
                                         [&]() -> Result<std::size_t> {
                                           ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
                                           ORC_ASSIGN(const auto link, routes.find_link("orv-0a1b2c33"));
                                           if (!link) return std::size_t{99};
                                           ORC_ASSIGN(const auto found,
                                                      routes.neighbours(link->index, table));
                                           return found.size();
                                         })
        .value();
  };
  CHECK(tunnel_entries(RouteSocket::Table::neighbours) == 2);
  CHECK(tunnel_entries(RouteSocket::Table::forwarding) == 2);
  lab.set_peers('c', {'a', 'b'});
  CHECK(tunnel_entries(RouteSocket::Table::forwarding) == 2);
  lab.networks['c'].reset();
  lab.open('c');  // a new process finds what the last one made
  CHECK(lab.attach('c').mtu == 1450);
  lab.set_peers('c', {'b'});
  CHECK(tunnel_entries(RouteSocket::Table::neighbours) == 1);
  CHECK(tunnel_entries(RouteSocket::Table::forwarding) == 1);
  CHECK(count_lines(lab.hosts['c'], "10.244.1.0/24") == 0);
  lab.set_peers('c', {});
  CHECK(count_lines(lab.hosts['c'], "orv-") == 0);
  CHECK(count_lines(lab.hosts['c'], "10.244.2.0/24") == 0);
  lab.set_peers('c', {'a'});
  lab.networks['c']->teardown().wait(60s).value();
  CHECK(count_lines(lab.hosts['c'], "orv-") == 0);
}

TEST_CASE(
    "a node that is named keeps its way while it cannot be planned for, and an incomplete list takes "
    "nothing") {
  NEEDS_ROOT(
      "a node that is named keeps its way while it cannot be planned for, and an incomplete list takes "
      "nothing");
  PeersLab lab;
  REQUIRE(lab.set_peers('c', {'a', 'b'}).empty());
  const auto made = machine_state(lab.hosts['c']);
  CHECK(lab.tunnel_entries('c') == 4);
  const auto is_as_made = [&] {
    return machine_state(lab.hosts['c']) == made && lab.tunnel_entries('c') == 4;
  };
  const std::string default_route = "0.0.0.0/0";
  in_namespace(lab.hosts['c'], [&]() -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    Route route;
    route.destination = IpRange::parse(default_route).value();
    route.protocol = RTPROT_STATIC;
    return routes.remove_route(route);
  }).value();
  const auto problems = lab.set_peers('c', {'a', 'b'});
  REQUIRE(problems.size() == 2);
  CHECK(problems[0].find("node a: its address 192.0.2.1 cannot be reached") == 0);
  CHECK(count_lines(lab.hosts['c'], "10.244.1.0/24 via 10.244.1.1") == 1);
  CHECK(lab.tunnel_entries('c') == 4);
  add_route(lab.hosts['c'], default_route, "203.0.113.254");
  CHECK(lab.set_peers('c', {'a', 'b'}).empty());
  CHECK(is_as_made());
  // Its Node has no address (any more, or yet).
  CHECK(lab.networks['c']
            ->set_peers({{"a", "", "10.244.1.0/24"}, PeersLab::peer('b')})
            .wait(60s)
            .value()
            .empty());
  CHECK(is_as_made());
  CHECK(lab.set_peers('c', {'b'}, false).empty());
  CHECK(lab.set_peers('c', {}, false).empty());
  CHECK(is_as_made());
  CHECK(lab.set_peers('c', {'b'}).empty());
  CHECK(lab.tunnel_entries('c') == 2);
  CHECK(count_lines(lab.hosts['c'], "10.244.1.0/24") == 0);
}

TEST_CASE("a tunnel of other options, or of an address that the machine had, is made anew with its sysctls") {
  NEEDS_ROOT(
      "a tunnel of other options, or of an address that the machine had, is made anew with its sysctls");
  PeersLab lab;
  REQUIRE(lab.set_peers('c', {'a'}).empty());
  const auto first = lab.tunnel('c');
  REQUIRE(first);
  CHECK(first->tunnel_local == IpAddress::parse("203.0.113.1"));
  set_sysctl_in(lab.hosts['c'], "net/ipv4/conf/orv-0a1b2c33/send_redirects", "1");
  REQUIRE(lab.set_peers('c', {'a'}).empty());
  CHECK(lab.tunnel('c')->index == first->index);
  CHECK(sysctl_in(lab.hosts['c'], "net/ipv4/conf/orv-0a1b2c33/send_redirects") == "0");
  PodNetworkOptions options;
  SUBCASE("another network") { options.tunnel_vni = 7; }
  SUBCASE("another port") { options.tunnel_port = 4789; }
  SUBCASE("another address") { options.node_address = "203.0.113.9"; }
  lab.networks['c'].reset();
  lab.open('c', options);
  REQUIRE(lab.set_peers('c', {'a'}).empty());
  const auto second = lab.tunnel('c');
  REQUIRE(second);
  CHECK(second->index != first->index);
  CHECK(second->vni == options.tunnel_vni);
  CHECK(second->tunnel_port == options.tunnel_port);
  CHECK(second->tunnel_local ==
        IpAddress::parse(options.node_address.empty() ? "203.0.113.1" : options.node_address));
  CHECK(lab.tunnel_entries('c') == 2);
  CHECK(count_lines(lab.hosts['c'], "10.244.1.0/24 via 10.244.1.1") == 1);
}

TEST_CASE("a foreign tunnel, a foreign route and a node without a way are named, and others go on") {
  NEEDS_ROOT("a foreign tunnel, a foreign route and a node without a way are named, and others go on");
  PeersLab lab;
  in_namespace(lab.hosts['a'], []() -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    RouteSocket::NewTunnel foreign;
    foreign.name = "flannel.1";
    foreign.mac = std::string("\x0a\x01\x02\x03\x04\x05", 6);
    return routes.add_tunnel(foreign);
  }).value();
  auto problems = lab.set_peers('a', {'b', 'c'});
  REQUIRE(problems.size() == 1);
  CHECK(problems[0] ==
        "node c: tunnel with VNI 1 and UDP port 8472 is device flannel.1 of somebody else already");
  CHECK(count_lines(lab.hosts['a'], "10.244.2.0/24 via 192.0.2.2") == 1);
  add_route(lab.hosts['b'], "10.244.1.0/24", "192.0.2.1");
  problems = lab.set_peers('b', {'a'});
  REQUIRE(problems.size() == 1);
  CHECK(problems[0] == "node a: this machine has a foreign route for 10.244.1.0/24, which stays");
  problems = lab.networks['b']
                 ->set_peers({{"x", "192.0.2.2", "10.244.9.0/24"}, {"y", "?", "10.244.9.0/24"}})
                 .wait(60s)
                 .value();
  REQUIRE(problems.size() == 2);
  CHECK(problems[0] == "node x: its address 192.0.2.2 is one of this machine");
  CHECK(problems[1] == "node y: pods 10.244.9.0/24 at ? are no IPv4 range and address");
}

TEST_CASE("pods that run follow the MTU: smaller when the first tunnel comes, as before when the last goes") {
  NEEDS_ROOT(
      "pods that run follow the MTU: smaller when the first tunnel comes, as before when the last goes");
  PeersLab lab;
  PodNetworkOptions options;
  options.namespace_of = [&](const std::string& uid) -> Result<std::shared_ptr<Fd>> {
    if (uid == "uid-c") return lab.pods['c'].fd();
    return Error(Error::not_found, "test", "no pod " + uid);
  };
  lab.networks['c'].reset();
  lab.open('c', options);
  CHECK(lab.attach('c').mtu == 1500);
  CHECK(lab.attach('a').mtu == 1500);
  const auto mtu_of = [](const NetworkNamespace& where, const std::string& link) {
    auto routes = in_namespace_get<RouteSocket>(where, [] { return RouteSocket::open(); }).value();
    return routes.find_link(link).value().value_or(Link{}).mtu;
  };
  const auto ends = [&] {
    return std::pair(mtu_of(lab.pods['c'], "eth0"), mtu_of(lab.hosts['c'], "orc0a1b2c330302"));
  };
  CHECK(ends() == std::pair(1500, 1500));
  CHECK(lab.set_peers('c', {'a'}).empty());
  CHECK(lab.set_peers('a', {'c'}).empty());
  CHECK(ends() == std::pair(1450, 1450));
  CHECK(mtu_of(lab.pods['a'], "eth0") == 1500);  // nobody knows its namespace: it is told by "too large"
  const std::string much(1'000'000, 'x');
  TcpAnswerer server(lab.pods['c'], "0.0.0.0", 80, much);
  CHECK(ask_tcp(lab.pods['a'], "10.244.3.2", 80, 10'000) == much);
  // Killed before it came so far.
  lab.networks['c'].reset();
  for (const auto& [where, link] : {std::pair(lab.pods['c'], "eth0"), {lab.hosts['c'], "orc0a1b2c330302"}}) {
    auto routes = in_namespace_get<RouteSocket>(where, [] { return RouteSocket::open(); }).value();
    routes.set_mtu(routes.find_link(link).value()->index, 1500).value();
  }
  lab.open('c', options);
  CHECK(ends() == std::pair(1450, 1450));
  CHECK(lab.set_peers('c', {}).empty());
  CHECK(ends() == std::pair(1500, 1500));
}
