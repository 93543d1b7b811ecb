// Both attachment modes with both values of the sysctl that others switch, and what is mode bridge's alone:
// one link for all pods of the node, ports that let nobody speak for others, what somebody takes away.
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "api/pod_attacher.hpp"
#include "net/podnet/bridge_guard.hpp"
#include "net/podnet/dual_stack.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/machine_journal.hpp"
#include "net/podnet/routed_network.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/policy_enforcer.hpp"
#include "orchestra/service_proxy.hpp"
#include "tests/net_l4/net_lab.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

using Mode = PodNetworkOptions::Mode;
constexpr int kSilenceMs = 300;  // how long a test waits for an answer that must not come
constexpr const char* kSysctl4 = "net/bridge/bridge-nf-call-iptables";
constexpr const char* kSysctl6 = "net/bridge/bridge-nf-call-ip6tables";

#define NEEDS_BRIDGE(name) \
  NEEDS_ROOT(name);        \
  if (!has_bridge_module()) ORC_SKIP(name, "the kernel's module br_netfilter is not there")

std::string six(const std::string& four) {
  return with_prefix(IpRange::parse("fd00:10:244::/96").value(), *IpAddress::parse(four)).to_string();
}

/// A node with two pods, a machine outside, and Services.
struct ModeLab {
  Engine engine;
  TempDir data;
  NetworkNamespace host = make_host(), outside = make_host();
  NetworkNamespace a = NetworkNamespace::create().value(), b = NetworkNamespace::create().value();
  Mode mode;
  std::shared_ptr<PodNetwork> network;
  std::shared_ptr<ServiceProxy> proxy;

  explicit ModeLab(Mode mode_in = Mode::bridge, const char* filter = "0") : mode(mode_in) {
    wire(host, "uplink", "192.0.2.1/24", outside, "eth0", "192.0.2.2/24");
    wire(host, "uplink6", "2001:db8::1/64", outside, "eth6", "2001:db8::2/64");
    if (has_bridge_module()) {
      set_sysctl_in(host, kSysctl4, filter);
      set_sysctl_in(host, kSysctl6, filter);
    }
    open();
    CHECK(attach("uid-a", a).addresses.front() == "10.244.1.2");
    CHECK(attach("uid-b", b).addresses.front() == "10.244.1.3");
  }
  PodNetworkOptions options() const {
    PodNetworkOptions out;
    out.data_dir = data.path();
    out.instance = "0a1b2c3d";
    out.pod_cidr = "10.244.1.0/24";
    out.cluster_cidr = "10.244.0.0/16";
    out.cluster_cidr6 = "fd00:10:244::/96";
    out.service_cidr = "10.96.0.0/16";
    out.service_cidr6 = "fd00:10:96::/112";
    out.mode = mode;
    out.name_space = host;
    return out;
  }
  void open() {
    auto opened = PodNetwork::open(engine, options());
    REQUIRE_MESSAGE(opened, (opened ? "" : opened.error().to_string()));
    network = *opened;
  }
  Attachment attach(const std::string& uid, const NetworkNamespace& pod, std::vector<HostPort> ports = {}) {
    AttachRequest request{uid, "default", uid, pod.fd()};
    request.host_ports = std::move(ports);
    auto attached = network->attacher()->attach(request).wait(60s);
    REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
    return *attached;
  }
  void serve(std::vector<Object> services, std::vector<Object> slices) {
    if (!proxy) {
      ServiceProxyOptions services_options;
      services_options.node = "n1";
      services_options.instance = "0a1b2c3d";
      services_options.cluster_cidr = "10.244.0.0/16";
      services_options.cluster_cidr6 = "fd00:10:244::/96";
      services_options.service_cidr = "10.96.0.0/16";
      services_options.service_cidr6 = "fd00:10:96::/112";
      services_options.node_gateway = network->node_address();
      services_options.node_gateway6 = six("10.244.1.1");
      services_options.name_space = host;
      services_options.mode = ServiceProxyOptions::Mode::nftables;
      proxy = ServiceProxy::create(engine, services_options).value();
    }
    auto done = proxy->apply(make_snapshot(std::move(services), std::move(slices))).wait(60s);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
  }
  void close() {
    if (proxy) CHECK(proxy->teardown().wait(60s));
    CHECK(network->teardown().wait(60s));
    CHECK(ruleset(host) == "");
  }
  Result<void> look() {
    return std::dynamic_pointer_cast<RoutedNetwork>(network)->look_at_bridge().wait(60s);
  }
};

Link link_in(const NetworkNamespace& where, const std::string& name) {
  return in_namespace_get<Link>(where,
                                [&]() -> Result<Link> {
                                  ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
                                  ORC_ASSIGN(const auto link, routes.find_link(name));
                                  return link.value_or(Link{});
                                })
      .value();
}

/// One of the two addresses answers by the Service, whichever family.
void check_services(ModeLab& lab) {
  TcpAnswerer in_a(lab.a, "::", 8080, "a"), in_b(lab.b, "::", 8080, "b");
  UdpAnswerer names(lab.b, "0.0.0.0", 53, "names");
  const auto service = make_service("web", "10.96.0.10", {{"web", 80, 30080}, {"names", 53, 0, "UDP"}},
                                    R"(,"clusterIPs":["10.96.0.10","fd00:10:96::a"])");
  for (const std::string& from : {std::string("10.244.1.3"), six("10.244.1.3")}) {
    const bool is_six = from.find(':') != std::string::npos;
    CAPTURE(from);
    CHECK(ask_tcp(lab.a, from, 8080) == "b");  // direct
    CHECK(in_b.last_client() == (is_six ? six("10.244.1.2") : "::ffff:10.244.1.2"));
    CHECK(ask_tcp(lab.host, from, 8080) == "b");
    const std::string front = is_six ? "fd00:10:96::a" : "10.96.0.10";
    const std::string node = is_six ? "2001:db8::1" : "192.0.2.1";
    const auto slices = [&](const std::string& pod) {
      return std::vector<Object>{make_slice("web", {{pod}}, 8080, "web", "TCP", "web-1"),
                                 make_slice("web", {{pod}}, 53, "names", "UDP", "web-2")};
    };
    lab.serve({service}, slices(from));
    CHECK(ask_tcp(lab.a, front, 80) == "b");  // to another pod of the node
    CHECK(in_b.last_client() == (is_six ? six("10.244.1.2") : "::ffff:10.244.1.2"));
    CHECK(ask_tcp(lab.b, front, 80) == "b");  // to itself
    CHECK(ask_tcp(lab.host, front, 80) == "b");
    CHECK(ask_tcp(lab.outside, node, 30080) == "b");  // by the node's port
    if (!is_six) CHECK(ask_udp(lab.a, front, 53) == "names");
    lab.serve({service}, slices(is_six ? six("10.244.1.2") : "10.244.1.2"));
    CHECK(ask_tcp(lab.a, front, 80) == "a");
    lab.serve({service}, {});
    CHECK(ask_tcp(lab.a, front, 80) == "error: ECONNREFUSED");
  }
}

void check_matrix(Mode mode, const char* filter) {
  CAPTURE(filter);
  ModeLab lab(mode, filter);
  check_services(lab);
  // Outside sees the node's address.
  TcpAnswerer outside(lab.outside, "::", 80, "outside");
  CHECK(ask_tcp(lab.a, "2001:db8::2", 80) == "outside");
  CHECK(outside.last_client() == "2001:db8::1");
  if (has_bridge_module()) CHECK(sysctl_in(lab.host, kSysctl4) == filter);  // it stays as it was
  lab.close();
}

}  // namespace

TEST_CASE("mode routed: pods, Services, itself, node ports, whatever bridge-nf-call-iptables says") {
  NEEDS_ROOT("mode routed: pods, Services, itself, node ports, whatever bridge-nf-call-iptables says");
  for (const char* filter : {"0", "1"}) check_matrix(Mode::routed, filter);
}

TEST_CASE("mode bridge: pods, Services, itself, node ports, whatever bridge-nf-call-iptables says") {
  NEEDS_BRIDGE("mode bridge: pods, Services, itself, node ports, whatever bridge-nf-call-iptables says");
  for (const char* filter : {"0", "1"}) check_matrix(Mode::bridge, filter);
}

TEST_CASE("mode bridge without br_netfilter is refused with the remedy, before anything is made") {
  NEEDS_ROOT("mode bridge without br_netfilter is refused with the remedy, before anything is made");
  if (has_bridge_module())
    ORC_SKIP("mode bridge without br_netfilter is refused with the remedy, before anything is made",
             "this kernel has br_netfilter");
  Engine engine;
  TempDir data;
  auto host = make_host();
  const auto before = machine_state(host);
  PodNetworkOptions options;
  options.data_dir = data.path();
  options.instance = "0a1b2c3d";
  options.pod_cidr = "10.244.1.0/24";
  options.mode = Mode::bridge;
  options.name_space = host;
  const auto refused = PodNetwork::open(engine, options);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().is(Error::unsupported));
  CHECK(refused.error().message().find("modprobe br_netfilter") != std::string::npos);
  CHECK(machine_state(host) == before);
}

TEST_CASE("what the ports of the bridge let through, as rules") {
  const std::string text =
      bridge_guard_text("orc_0a1b2c3d_br", "0a1b2c3d",
                        {{"orc0a1b2c3d0102", pod_mac(*IpAddress::parse("10.244.1.2")),
                          *IpAddress::parse("10.244.1.2"), *IpAddress::parse("fd00:10:244::af4:102")}});
  for (const char* part :
       {"ether saddr != 0a:58:0a:f4:01:02 drop",
        "arp saddr ether 0a:58:0a:f4:01:02 arp saddr ip 10.244.1.2 accept",
        "ip6 saddr { ::, fe80::858:aff:fef4:102, fd00:10:244::af4:102 } accept",
        "from { \"orc0a1b2c3d0102\" : goto p_orc0a1b2c3d0102 }", "iifname \"orc0a1b2c3d*\" drop"})
    CHECK_MESSAGE(text.find(part) != std::string::npos, part);
}

TEST_CASE("mode bridge: pods of a node share a link: a broadcast of one arrives at the other") {
  NEEDS_BRIDGE("mode bridge: pods of a node share a link: a broadcast of one arrives at the other");
  ModeLab lab;
  const auto socket_in = [](const NetworkNamespace& where) {
    return in_namespace_get<std::shared_ptr<Fd>>(
               where,
               []() -> Result<std::shared_ptr<Fd>> {
                 return std::make_shared<Fd>(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
               })
        .value();
  };
  const auto receiver = socket_in(lab.b), sender = socket_in(lab.a);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(4000);
  REQUIRE(::bind(receiver->get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
  const int on = 1;
  ::setsockopt(sender->get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
  const timeval deadline{20, 0};
  ::setsockopt(receiver->get(), SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
  name.sin_addr.s_addr = htonl(0x0af401ff);  // 10.244.1.255
  REQUIRE(::sendto(sender->get(), "all", 3, 0, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 3);
  char bytes[8] = {};
  CHECK(::recv(receiver->get(), bytes, sizeof bytes, 0) == 3);
  CHECK(std::string(bytes) == "all");
  lab.close();
}

TEST_CASE("mode bridge: a pod cannot speak for others, neither by address nor by what it says who has one") {
  NEEDS_BRIDGE(
      "mode bridge: a pod cannot speak for others, neither by address nor by what it says who has one");
  ModeLab lab;
  auto c = NetworkNamespace::create().value();
  lab.attach("uid-c", c);  // 10.244.1.4
  TcpAnswerer in_b(lab.b, "::", 8080, "b"), false_b(c, "::", 8080, "forged"),
      node(lab.host, "::", 80, "node");
  CHECK(ask_tcp(lab.a, "10.244.1.3", 8080) == "b");
  CHECK(ask_tcp(c, "10.244.1.3", 8080) == "b");
  const auto take = [&](const std::string& address, int prefix) {
    in_namespace(c, [&]() -> Result<void> {
      ORC_ASSIGN(RouteSocket inside, RouteSocket::open());
      return inside.add_address((*inside.find_link("eth0"))->index, *IpAddress::parse(address), prefix);
    }).value();
  };
  // Addresses of a pod, of the gateway, and one that nobody has: c would answer for each.
  for (const char* address : {"10.244.1.3", "10.244.1.1", "10.244.1.99"}) take(address, 24);
  for (const std::string& address : {six("10.244.1.3"), six("10.244.1.99"), std::string("fe80::1")})
    take(address, 120);
  auto fresh = NetworkNamespace::create().value();  // one that has asked for nobody yet
  lab.attach("uid-d", fresh);
  for (const NetworkNamespace* from : {&fresh, &lab.host}) {
    CHECK(ask_tcp(*from, "10.244.1.3", 8080) == "b");
    CHECK(ask_tcp(*from, six("10.244.1.3"), 8080) == "b");
    CHECK(ask_tcp(*from, "10.244.1.99", 8080, kSilenceMs).starts_with("error: "));
    CHECK(ask_tcp(*from, six("10.244.1.99"), 8080, kSilenceMs).starts_with("error: "));
  }
  CHECK(ask_tcp(fresh, "10.244.1.1", 80) == "node");
  CHECK(ask_tcp(fresh, "2001:db8::1", 80) == "node");     // by fe80::1
  CHECK(ask_tcp(lab.a, "10.244.1.4", 8080) == "forged");  // its own address is its own
  // Frames with another hardware address do not pass.
  in_namespace(c, []() -> Result<void> {
    ORC_ASSIGN(RouteSocket inside, RouteSocket::open());
    ORC_ASSIGN(const auto link, inside.find_link("eth0"));
    return inside.set_mac(link->index, pod_mac(*IpAddress::parse("10.244.1.3")));
  }).value();
  CHECK(ask_tcp(c, "10.244.1.2", 8080, kSilenceMs) == "error: timeout");
  CHECK(ask_tcp(lab.a, "10.244.1.3", 8080) == "b");
  lab.close();
}

TEST_CASE("mode bridge: a pod that goes is cut off at once; attach and detach may be repeated") {
  NEEDS_BRIDGE("mode bridge: a pod that goes is cut off at once; attach and detach may be repeated");
  ModeLab lab;
  const auto again = lab.attach("uid-a", lab.a);
  CHECK(again.addresses == std::vector<std::string>{"10.244.1.2", six("10.244.1.2")});
  CHECK(link_in(lab.host, "orc-0a1b2c3d").mac == pod_mac(*IpAddress::parse("10.244.1.1")));
  TcpAnswerer in_a(lab.a, "::", 8080, "a"), in_b(lab.b, "::", 8080, "b");
  CHECK(ask_tcp(lab.b, "10.244.1.2", 8080) == "a");
  lab.network->attacher()->detach("uid-a").wait(60s).value();
  lab.network->attacher()->detach("uid-a").wait(60s).value();
  CHECK(ask_tcp(lab.host, "10.244.1.2", 8080) == "error: EHOSTUNREACH");
  CHECK(ask_tcp(lab.b, "10.244.1.2", 8080, kSilenceMs).starts_with("error: "));
  CHECK(ruleset(lab.host).find("p_orc0a1b2c3d0102") == std::string::npos);
  CHECK(lab.attach("uid-a", lab.a).addresses.front() == "10.244.1.4");  // the old one cools down
  CHECK(ask_tcp(lab.b, "10.244.1.4", 8080) == "a");
  lab.close();
}

TEST_CASE("mode bridge: host ports, and policies that hold between pods of one node") {
  NEEDS_BRIDGE("mode bridge: host ports, and policies that hold between pods of one node");
  ModeLab lab;
  TcpAnswerer in_b(lab.b, "::", 8080, "b");
  auto c = NetworkNamespace::create().value();
  lab.attach("uid-c", c, {{IpProtocol::tcp, "", 8888, 80}});
  TcpAnswerer web(c, "::", 80, "web");
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 8888) == "web");
  CHECK(web.last_client() == "::ffff:192.0.2.2");
  CHECK(ask_tcp(lab.host, "127.0.0.1", 8888) == "web");
  CHECK(ask_tcp(lab.a, "192.0.2.1", 8888) == "web");
  CHECK(ask_tcp(c, "192.0.2.1", 8888) == "web");  // itself
  CHECK(ask_tcp(lab.outside, "2001:db8::1", 8888) == "web");
  auto enforcer = PolicyEnforcer::create(lab.engine, {.node = "n1",
                                                      .instance = "0a1b2c3d",
                                                      .pod_cidr = "10.244.1.0/24",
                                                      .cluster_cidr6 = "fd00:10:244::/96",
                                                      .name_space = lab.host})
                      .value();
  const auto pod = [](const std::string& name, const std::string& address) {
    return from_text(
        R"({"kind":"Pod","metadata":{"name":")" + name + R"(","namespace":"shop","labels":{"app":")" + name +
        R"("}},"spec":{"nodeName":"n1"},"status":{"phase":"Running","podIP":")" + address + R"("}})");
  };
  NetworkInputs inputs;
  inputs.namespaces = {{from_text(R"({"kind":"Namespace","metadata":{"name":"shop"}})")}, true};
  inputs.pods = {{pod("a", "10.244.1.2"), pod("b", "10.244.1.3"), pod("c", "10.244.1.4")}, true};
  inputs.network_policies = {
      {from_text(R"({"kind":"NetworkPolicy","metadata":{"name":"p","namespace":"shop"},)"
                 R"("spec":{"podSelector":{"matchLabels":{"app":"b"}},"ingress":[)"
                 R"({"from":[{"podSelector":{"matchLabels":{"app":"a"}}}]}]}})")},
      true};
  enforcer->apply(NetworkSnapshot::build(inputs)).wait(60s).value();
  for (const std::string& address : {std::string("10.244.1.3"), six("10.244.1.3")}) {
    CHECK(ask_tcp(lab.a, address, 8080) == "b");
    CHECK(ask_tcp(c, address, 8080, kSilenceMs) == "error: timeout");
    CHECK(ask_tcp(lab.host, address, 8080) == "b");
  }
  enforcer->teardown().wait(60s).value();
  CHECK(ask_tcp(c, "10.244.1.3", 8080) == "b");
  lab.close();
}

TEST_CASE("mode bridge: what somebody takes away is made again, and what cannot be is told with the remedy") {
  NEEDS_BRIDGE(
      "mode bridge: what somebody takes away is made again, and what cannot be is told with the remedy");
  ModeLab lab;
  TcpAnswerer in_b(lab.b, "::", 8080, "b");
  lab.serve({make_service("web", "10.96.0.10", {{}})}, {make_slice("web", {{"10.244.1.3"}}, 8080)});
  lab.look().value();
  CHECK(lab.network->trouble().empty());
  const std::string rules = ruleset(lab.host);
  SUBCASE("its own switch") {
    in_namespace(lab.host, []() -> Result<void> {
      ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
      return routes.set_bridge_filter((*routes.find_link("orc-0a1b2c3d"))->index, false);
    }).value();
    CHECK(ask_tcp(lab.a, "10.96.0.10", 80, kSilenceMs) == "error: timeout");  // what it is there for
  }
  SUBCASE("the rules of its ports") { run_nft(lab.host, "delete table bridge orc_0a1b2c3d_br"); }
  SUBCASE("one rule") { run_nft(lab.host, "flush chain bridge orc_0a1b2c3d_br p_orc0a1b2c3d0102"); }
  SUBCASE("the bridge") {
    in_namespace(lab.host, []() -> Result<void> {
      ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
      return routes.remove_link((*routes.find_link("orc-0a1b2c3d"))->index);
    }).value();
  }
  SUBCASE("and while nobody runs") {
    lab.proxy.reset();
    lab.network.reset();
    run_nft(lab.host, "delete table bridge orc_0a1b2c3d_br");
    lab.open();
  }
  lab.look().value();
  CHECK(lab.network->trouble().empty());
  CHECK(ask_tcp(lab.a, "10.244.1.3", 8080) == "b");
  CHECK(ask_tcp(lab.a, "10.96.0.10", 80) == "b");
  CHECK(ask_tcp(lab.host, six("10.244.1.3"), 8080) == "b");
  CHECK(ruleset(lab.host).find("table bridge") != std::string::npos);
  CHECK(ruleset(lab.host).size() == rules.size());
  if (!lab.proxy) lab.serve({}, {});
  lab.close();
}

TEST_CASE("mode bridge: the next process takes over pods and their addresses, also without its journal") {
  NEEDS_BRIDGE("mode bridge: the next process takes over pods and their addresses, also without its journal");
  ModeLab lab;
  const auto before_mode = lab.mode;
  TcpAnswerer in_b(lab.b, "::", 8080, "b");
  lab.network.reset();
  CHECK(ask_tcp(lab.a, "10.244.1.3", 8080) == "b");  // nobody runs: the kernel goes on
  SUBCASE("with it") {}
  SUBCASE("without it") { std::filesystem::remove(lab.data / "addresses.json"); }
  SUBCASE("not in another mode") {
    lab.mode = Mode::routed;
    const auto refused = PodNetwork::open(lab.engine, lab.options());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().is(Error::conflict));
    CHECK(refused.error().message().find("attached in mode bridge") != std::string::npos);
    lab.mode = before_mode;
  }
  lab.open();
  CHECK(lab.network->attacher()->list().value().size() == 2);
  CHECK(lab.attach("uid-a", lab.a).addresses.front() == "10.244.1.2");
  CHECK(ask_tcp(lab.a, "10.244.1.3", 8080) == "b");
  CHECK(lab.network->reconcile({"uid-a"}).wait(60s).value() == 1);
  CHECK(ask_tcp(lab.a, "10.244.1.3", 8080, kSilenceMs).starts_with("error: "));
  SUBCASE("and takes it off the machine") {}
  lab.close();
}

TEST_CASE("mode bridge: nothing is left of it, neither by its owner nor after a crash") {
  NEEDS_BRIDGE("mode bridge: nothing is left of it, neither by its owner nor after a crash");
  ModeLab lab;
  const auto bridge_sysctl = sysctl_in(lab.host, kSysctl4);
  SUBCASE("by its owner") { lab.network->teardown().wait(60s).value(); }
  SUBCASE("after a crash") {
    lab.network.reset();
    PodNetwork::remove_leftovers(lab.data.path(), lab.host).value();
  }
  CHECK(ruleset(lab.host) == "");
  for (const std::string& line : machine_state(lab.host))
    CHECK_MESSAGE(line.find("orc") == std::string::npos, line);
  CHECK(sysctl_in(lab.host, kSysctl4) == bridge_sysctl);
}
