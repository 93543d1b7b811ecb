// Host ports and limits of rate: with real packets between a pod, its node and a machine outside.
#include <sys/socket.h>

#include "api/pod_attacher.hpp"
#include "net/lb/nft_transaction.hpp"
#include "net/podnet/host_ports.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/machine_addresses.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"
#include "tests/net_l4/net_lab.hpp"
#include "tests/support/free_port.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

struct ExtrasLab {
  Engine engine;
  TempDir data;
  NetworkNamespace host = make_host(), outside = make_host();
  ExtrasLab() { wire(host, "uplink", "192.0.2.1/24", outside, "eth0", "192.0.2.2/24"); }
  std::shared_ptr<PodNetwork> open(const std::string& cluster_cidr6 = "",
                                   PodNetworkOptions::Mode mode = PodNetworkOptions::Mode::routed) {
    PodNetworkOptions options;
    options.mode = mode;
    options.cluster_cidr6 = cluster_cidr6;
    options.data_dir = data.path();
    options.instance = "0a1b2c3d";
    options.pod_cidr = "10.244.1.0/24";
    options.cluster_cidr = "10.244.0.0/16";
    options.name_space = host;
    auto network = PodNetwork::open(engine, options);
    REQUIRE_MESSAGE(network, (network ? "" : network.error().to_string()));
    return *network;
  }
};

AttachRequest request(const std::string& uid, const NetworkNamespace& pod, std::vector<HostPort> ports = {}) {
  AttachRequest out{uid, "default", "pod-" + uid, pod.fd()};
  out.host_ports = std::move(ports);
  return out;
}

bool has_link(const NetworkNamespace& where, const std::string& part) {
  for (const std::string& line : machine_state(where)) {
    if (line.find(part) != std::string::npos) return true;
  }
  return false;
}

/// A server in `to` that sends, or takes, `bytes` on one connection from `from`; answers the nanoseconds.
std::int64_t transfer(const NetworkNamespace& from, const NetworkNamespace& to, const std::string& address,
                      std::size_t bytes) {
  TcpAnswerer server(to, address, 0, std::string(bytes, 'x'));
  const std::int64_t begin = real_clock().now().steady_ns;
  CHECK(ask_tcp(from, address, server.port(), 30'000).size() == bytes);
  return real_clock().now().steady_ns - begin;
}

}  // namespace

TEST_CASE("a host port leads to its pod from outside, from the node, from 127.0.0.1 and from pods") {
  NEEDS_ROOT("a host port leads to its pod from outside, from the node, from 127.0.0.1 and from pods");
  ExtrasLab lab;
  auto network = lab.open();
  auto pod = NetworkNamespace::create().value(), other = NetworkNamespace::create().value();
  const std::vector<HostPort> ports{{IpProtocol::tcp, "", 8080, 80}, {IpProtocol::udp, "", 5353, 53}};
  auto attached = network->attacher()->attach(request("uid-a", pod, ports)).wait(60s);
  REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
  network->attacher()->attach(request("uid-b", other)).wait(60s).value();
  TcpAnswerer web(pod, "0.0.0.0", 80, "web");
  UdpAnswerer names(pod, "0.0.0.0", 53, "names");
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 8080) == "web");
  CHECK(web.last_client() == "192.0.2.2");  // who asks stays visible
  CHECK(ask_tcp(lab.host, "192.0.2.1", 8080) == "web");
  CHECK(ask_tcp(lab.host, "127.0.0.1", 8080) == "web");
  CHECK(web.last_client() == "10.244.1.1");
  CHECK(ask_tcp(other, "192.0.2.1", 8080) == "web");
  CHECK(web.last_client() == "10.244.1.3");
  CHECK(ask_tcp(pod, "192.0.2.1", 8080) == "web");  // itself, by the machine's address
  CHECK(web.connections() == 5);
  CHECK(ask_udp(lab.outside, "192.0.2.1", 5353) == "names");
  CHECK(ask_udp(lab.host, "127.0.0.1", 5353) == "names");
  CHECK(ask_tcp(pod, "127.0.0.1", 80) == "web");  // a pod's own loopback is not the node's
  CHECK(ask_tcp(other, "127.0.0.1", 8080) == "error: ECONNREFUSED");
  CHECK(sysctl_in(lab.host, "net/ipv4/conf/all/route_localnet") == "0");
  UdpClient fixed(lab.outside, "192.0.2.1", 5353);
  CHECK(fixed.ask() == "names");
  network->attacher()->detach("uid-a").wait(60s).value();
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 8080, 500) == "error: ECONNREFUSED");
  CHECK(ask_tcp(lab.host, "127.0.0.1", 8080) == "error: ECONNREFUSED");
  UdpAnswerer node(lab.host, "0.0.0.0", 5353, "node");
  CHECK(fixed.ask() == "node");  // the flow to the pod was cut, its client has one port all along
  network->teardown().wait(60s).value();
  CHECK(ruleset(lab.host) == "");
}

TEST_CASE("a host port on one address of the machine is on that one only") {
  NEEDS_ROOT("a host port on one address of the machine is on that one only");
  ExtrasLab lab;
  auto network = lab.open();
  auto pod = NetworkNamespace::create().value(), other = NetworkNamespace::create().value();
  network->attacher()->attach(request("a", pod, {{IpProtocol::tcp, "192.0.2.1", 80, 80}})).wait(60s).value();
  network->attacher()
      ->attach(request("b", other, {{IpProtocol::tcp, "127.0.0.1", 80, 80}}))
      .wait(60s)
      .value();
  TcpAnswerer a(pod, "0.0.0.0", 80, "a"), b(other, "0.0.0.0", 80, "b");
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 80) == "a");
  CHECK(ask_tcp(lab.host, "127.0.0.1", 80) == "b");
  CHECK(ask_tcp(lab.host, "10.244.1.1", 80) == "error: ECONNREFUSED");
  const auto six =
      network->attacher()
          ->attach(request("c", NetworkNamespace::create().value(), {{IpProtocol::tcp, "::1", 81, 80}}))
          .wait(60s);
  REQUIRE_FALSE(six);
  CHECK(six.error().is(Error::unsupported));
  network->teardown().wait(60s).value();
}

TEST_CASE(
    "a host port leads to its pod by IPv6, too, also from ::1, and on one address of IPv6 only where it says "
    "so") {
  NEEDS_ROOT(
      "a host port leads to its pod by IPv6, too, also from ::1, and on one address of IPv6 only where it "
      "says so");
  ExtrasLab lab;
  wire(lab.host, "uplink6", "2001:db8::1/64", lab.outside, "eth6", "2001:db8::2/64");
  auto network = lab.open("fd00:10:244::/96");
  auto pod = NetworkNamespace::create().value(), other = NetworkNamespace::create().value();
  const std::vector<HostPort> ports{{IpProtocol::tcp, "", 8080, 80},
                                    {IpProtocol::udp, "", 5353, 53},
                                    {IpProtocol::tcp, "2001:DB8:0::1", 8081, 80},
                                    {IpProtocol::tcp, "192.0.2.1", 8082, 80}};
  auto attached = network->attacher()->attach(request("uid-a", pod, ports)).wait(60s);
  REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
  network->attacher()->attach(request("uid-b", other)).wait(60s).value();
  TcpAnswerer web(pod, "::", 80, "web");
  UdpAnswerer names(pod, "::", 53, "names");
  CHECK(ask_tcp(lab.outside, "2001:db8::1", 8080) == "web");
  CHECK(web.last_client() == "2001:db8::2");
  CHECK(ask_tcp(lab.host, "2001:db8::1", 8080) == "web");
  CHECK(ask_tcp(lab.host, "::1", 8080) == "web");
  CHECK(web.last_client() == "fd00:10:244::af4:101");
  CHECK(ask_tcp(other, "2001:db8::1", 8080) == "web");
  CHECK(ask_tcp(pod, "2001:db8::1", 8080) == "web");  // itself
  CHECK(ask_udp(lab.outside, "2001:db8::1", 5353) == "names");
  CHECK(ask_udp(lab.host, "::1", 5353) == "names");
  CHECK(ask_tcp(lab.host, "127.0.0.1", 8080) == "web");
  CHECK(ask_tcp(lab.outside, "2001:db8::1", 8081) == "web");
  CHECK(ask_tcp(lab.host, "::1", 8081) == "error: ECONNREFUSED");
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 8081) == "error: ECONNREFUSED");
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 8082) == "web");
  CHECK(ask_tcp(lab.outside, "2001:db8::1", 8082) == "error: ECONNREFUSED");
  // One address, whatever its text.
  CHECK_FALSE(network->attacher()
                  ->attach(request("uid-b", other, {{IpProtocol::tcp, "2001:db8::1", 8081, 80}}))
                  .wait(60s));
  UdpClient fixed(lab.outside, "2001:db8::1", 5353);
  CHECK(fixed.ask() == "names");
  network->attacher()->detach("uid-a").wait(60s).value();
  CHECK(ask_tcp(lab.host, "::1", 8080) == "error: ECONNREFUSED");
  UdpAnswerer node(lab.host, "::", 5353, "node");
  CHECK(fixed.ask() == "node");
  network->attacher()->attach(request("uid-b", other, ports)).wait(60s).value();
  network->teardown().wait(60s).value();
  CHECK(ruleset(lab.host) == "");
}

TEST_CASE("host ports are those of a new process too, and no two pods get one") {
  NEEDS_ROOT("host ports are those of a new process too, and no two pods get one");
  ExtrasLab lab;
  auto pod = NetworkNamespace::create().value(), other = NetworkNamespace::create().value();
  const std::vector<HostPort> ports{{IpProtocol::tcp, "", 8080, 80}};
  TcpAnswerer web(pod, "0.0.0.0", 80, "web");
  lab.open()->attacher()->attach(request("uid-a", pod, ports)).wait(60s).value();
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 8080) == "web");  // nobody of ours runs
  run_nft(lab.host, "flush ruleset");
  auto network = lab.open();
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 8080) == "web");
  const auto second = network->attacher()->attach(request("uid-b", other, ports)).wait(60s);
  REQUIRE_FALSE(second);
  CHECK(second.error().is(Error::conflict));
  CHECK(second.error().to_string().find("port 8080/TCP of this machine leads to pod default/pod-uid-a") !=
        std::string::npos);
  network->attacher()->attach(request("uid-a", pod)).wait(60s).value();  // asks for none any more
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 8080, 500) == "error: ECONNREFUSED");
  network->attacher()->attach(request("uid-b", other, ports)).wait(60s).value();
  network->teardown().wait(60s).value();
  CHECK(ruleset(lab.host) == "");
}

TEST_CASE(
    "a pod keeps its address until no port of the machine leads there, and ports it gave up are closed") {
  NEEDS_ROOT(
      "a pod keeps its address until no port of the machine leads there, and ports it gave up are closed");
  ExtrasLab lab;
  auto network = lab.open();
  auto pod = NetworkNamespace::create().value();
  network->attacher()->attach(request("uid-a", pod, {{IpProtocol::tcp, "", 8080, 80}})).wait(60s).value();
  TcpAnswerer web(pod, "0.0.0.0", 80, "web");
  const auto lock_table = [&] {  // a table with an owner: nobody else can write it while the session is open
    auto session = NftSession::open(lab.host).value();
    session->run("delete table ip orc_0a1b2c3d_hp\nadd table ip orc_0a1b2c3d_hp { flags owner; }").value();
    return session;
  };
  SUBCASE("at the pod's end") {
    auto owner = lock_table();
    const auto refused = network->attacher()->detach("uid-a").wait(60s);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().to_string().find("host ports of pod default/pod-uid-a") != std::string::npos);
    CHECK(network->attacher()->list().value().size() == 1);
    owner.reset();
  }
  SUBCASE("when it asks for none any more") {
    auto owner = lock_table();
    CHECK_FALSE(network->attacher()->attach(request("uid-a", pod)).wait(60s));
    owner.reset();
    network->attacher()->attach(request("uid-a", pod, {{IpProtocol::tcp, "", 8080, 80}})).wait(60s).value();
    CHECK(ask_tcp(lab.outside, "192.0.2.1", 8080) == "web");
    // The same once more, with a table that says the old thing.
    const std::string before = ruleset(lab.host);
    owner = lock_table();
    CHECK_FALSE(network->attacher()->attach(request("uid-a", pod)).wait(60s));
    owner.reset();
    run_nft(lab.host, before.substr(before.find("table ip orc_0a1b2c3d_hp")));
    network->attacher()->attach(request("uid-a", pod)).wait(60s).value();
    CHECK(ask_tcp(lab.outside, "192.0.2.1", 8080, 500) == "error: ECONNREFUSED");
  }
  network->attacher()->detach("uid-a").wait(60s).value();
  CHECK(network->attacher()->list().value().empty());
  CHECK(ask_tcp(lab.outside, "192.0.2.1", 8080, 500) == "error: ECONNREFUSED");
  network->teardown().wait(60s).value();
}

TEST_CASE("what a pod sends and gets is held back to the rates it was given") {
  NEEDS_ROOT("what a pod sends and gets is held back to the rates it was given");
  ExtrasLab lab;
  auto mode = PodNetworkOptions::Mode::routed;
  SUBCASE("routed") {}
  SUBCASE("on a bridge") {
    mode = PodNetworkOptions::Mode::bridge;
    if (!has_bridge_module())
      ORC_SKIP("what a pod sends and gets is held back to the rates it was given, on a bridge",
               "the kernel's module br_netfilter is not there");
  }
  auto network = lab.open("", mode);
  auto pod = NetworkNamespace::create().value(), other = NetworkNamespace::create().value();
  AttachRequest limited = request("uid-a", pod);
  limited.ingress_bits = 16'000'000;  // 2 MB/s
  limited.egress_bits = 8'000'000;    // 1 MB/s
  auto attached = network->attacher()->attach(limited).wait(60s);
  REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
  network->attacher()->attach(limited).wait(60s).value();  // once more, as after a crash
  network->attacher()->attach(request("uid-b", other)).wait(60s).value();
  CHECK(has_link(lab.host, "orb0a1b2c3d0102"));
  // What fits the bucket comes at once, the rest at the rate: never faster than this, however fast the
  // machine.
  constexpr std::size_t kBytes = 1'000'000;
  CHECK(transfer(other, pod, "10.244.1.2", kBytes) > 800'000'000);  // the pod sends
  CHECK(transfer(pod, other, "10.244.1.3", kBytes) > 400'000'000);  // the pod gets
  network->attacher()->detach("uid-a").wait(60s).value();
  const auto deadline = real_clock().now().steady_ns + 60'000'000'000;
  while (has_link(lab.host, "0a1b2c3d0102") && real_clock().now().steady_ns < deadline) {
  }
  CHECK_FALSE(has_link(lab.host, "0a1b2c3d0102"));
  limited.pod_uid = "uid-c";
  auto third = NetworkNamespace::create().value();
  limited.network_namespace = third.fd();
  network->attacher()->attach(limited).wait(60s).value();
  network->teardown().wait(60s).value();
  CHECK_FALSE(has_link(lab.host, "0a1b2c3d"));
}

TEST_CASE("at level process a relay carries a host port, unless the program listens there itself") {
  Engine engine;
  TempDir data;
  auto network = make_process_pod_network(engine, {.data_dir = data.path(), .node_index = 3999}).value();
  const std::string address = "127.143.159.2";
  TcpAnswerer web(NetworkNamespace::current(), address, 0, "web");
  UdpAnswerer names(NetworkNamespace::current(), address, 0, "names");
  const int unused = free_port();
  const auto number = [](int port) { return static_cast<std::uint16_t>(port); };
  AttachRequest wish{"uid-a", "default", "a", nullptr};
  wish.host_ports = {{IpProtocol::tcp, "127.0.0.1", number(unused), number(web.port())},
                     {IpProtocol::udp, "127.0.0.1", number(unused), number(names.port())},
                     {IpProtocol::tcp, "127.0.0.1", number(web.port()), number(web.port())}};
  wish.egress_bits = 1'000'000;
  const auto attached = network->attach(wish).wait(60s);
  REQUIRE_MESSAGE(attached, (attached ? "" : attached.error().to_string()));
  CHECK(attached->addresses == std::vector<std::string>{address});
  CHECK(attached->warnings.size() == 1);
  CHECK(ask_tcp(NetworkNamespace::current(), "127.0.0.1", unused) == "web");
  CHECK(ask_udp(NetworkNamespace::current(), "127.0.0.1", unused) == "names");
  CHECK(ask_tcp(NetworkNamespace::current(), "127.0.0.1", web.port()) == "error: ECONNREFUSED");
  network->detach("uid-a").wait(60s).value();
  const auto deadline = real_clock().now().steady_ns + 60'000'000'000;
  while (ask_tcp(NetworkNamespace::current(), "127.0.0.1", unused) == "web") {
    REQUIRE(real_clock().now().steady_ns < deadline);
  }
}

TEST_CASE("at level process a port that is taken gives back the others of its pod") {
  Engine engine;
  TempDir data;
  auto network = make_process_pod_network(engine, {.data_dir = data.path(), .node_index = 3998}).value();
  TcpAnswerer taken(NetworkNamespace::current(), "127.0.0.1", 0, "somebody");
  const int unused = free_port();
  AttachRequest wish{"uid-a", "default", "a", nullptr};
  wish.host_ports = {{IpProtocol::tcp, "127.0.0.1", static_cast<std::uint16_t>(unused), 80},
                     {IpProtocol::tcp, "127.0.0.1", static_cast<std::uint16_t>(taken.port()), 81}};
  const auto refused = network->attach(wish).wait(60s);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().to_string().find("host port 127.0.0.1:" + std::to_string(taken.port()) + "/TCP") !=
        std::string::npos);
  // Another pod may have the free one: nobody listens there any more, once the listener is closed.
  wish.pod_uid = "uid-b";
  wish.host_ports.pop_back();
  CHECK_FALSE(network->attach(wish).wait(60s));  // by the leases it is the first pod's until that is detached
  const auto deadline = real_clock().now().steady_ns + 60'000'000'000;
  while (ask_tcp(NetworkNamespace::current(), "127.0.0.1", unused) != "error: ECONNREFUSED") {
    REQUIRE(real_clock().now().steady_ns < deadline);
  }
}

TEST_CASE("an address that several links have is one address of the machine") {
  NEEDS_ROOT("an address that several links have is one address of the machine");
  auto host = make_host(), other = make_host();
  wire(host, "one", "192.0.2.1/24", other, "one", "192.0.2.2/24");
  wire(host, "two", "192.0.2.1/24", other, "two", "192.0.2.3/24");
  in_namespace(host, []() -> Result<void> {
    CHECK(machine_addresses() == std::vector<std::uint32_t>{0x7f000001u, 0xc0000201u});
    return {};
  }).value();
}
