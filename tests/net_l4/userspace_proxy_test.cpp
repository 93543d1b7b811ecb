// The userspace proxy, unprivileged on 127.96.0.0/16, and with root on a host without nftables rules.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <set>
#include <thread>

#include "api/pod_attacher.hpp"
#include "base/http_client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/service_proxy.hpp"
#include "tests/net_l4/net_lab.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

/// Pods are answerers on 127.128.x.y of this machine; free ports are found by binding port 0.
struct ProcessNode {
  Engine engine;
  std::shared_ptr<ServiceProxy> proxy;
  NetworkNamespace here;
  std::string service_ip = "127.96.77.10";
  int service_port = 0;

  ProcessNode(std::size_t connections_max = 65536) {
    ServiceProxyOptions options;
    options.node = "n1";
    options.instance = "0a1b2c3d";
    options.cluster_cidr = "127.128.0.0/12";
    options.service_cidr = "127.96.0.0/16";
    options.mode = ServiceProxyOptions::Mode::userspace;
    options.connections_max = connections_max;
    proxy = ServiceProxy::create(engine, options).value();
    TcpAnswerer finder(here, service_ip, 0, "");
    service_port = finder.port();
  }
  ~ProcessNode() { CHECK(proxy->teardown().wait(60s)); }

  ApplyResult apply(std::vector<Object> slices, const std::string& annotations = "{}",
                    const char* protocol = "TCP") {
    auto service = make_service("web", service_ip, {{"web", service_port, 0, protocol}}, "", annotations);
    auto done = proxy->apply(make_snapshot({service}, std::move(slices), {"127.128.0.0/12"})).wait(60s);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    return *done;
  }
  std::string ask() { return ask_tcp(here, service_ip, service_port); }
};

const std::string kRoundRobin = R"({"orchestra.dev/load-balance":"round_robin"})";

Object slice_to(const std::string& name, const std::string& address, int port, const char* protocol = "TCP") {
  return make_slice("web", {{address}}, port, "web", protocol, name);
}

}  // namespace

TEST_CASE("the userspace proxy spreads connections, in turn when asked") {
  ProcessNode node;
  TcpAnswerer a(node.here, "127.128.77.2", 0, "a"), b(node.here, "127.128.77.3", 0, "b");
  const auto slices =
      std::vector<Object>{slice_to("s1", "127.128.77.2", a.port()), slice_to("s2", "127.128.77.3", b.port())};
  CHECK(node.ask() == "error: ECONNREFUSED");
  CHECK(node.apply(slices, kRoundRobin).services == 1);
  std::map<std::string, int> counts;
  for (int i = 0; i < 10; ++i) ++counts[node.ask()];
  CHECK(counts == std::map<std::string, int>{{"a", 5}, {"b", 5}});
  node.apply(slices);
  std::set<std::string> seen;
  for (int i = 0; i < 40; ++i) seen.insert(node.ask());
  CHECK(seen == std::set<std::string>{"a", "b"});
  node.apply({slices[1]});
  for (int i = 0; i < 5; ++i) CHECK(node.ask() == "b");
  node.apply({});
  CHECK(node.ask() == "error: ECONNREFUSED");
}

TEST_CASE("an endpoint that refuses is skipped, and when all refuse the client is reset") {
  ProcessNode node;
  TcpAnswerer a(node.here, "127.128.77.2", 0, "a");
  int closed_port = 0;
  {
    TcpAnswerer gone(node.here, "127.128.77.3", 0, "");
    closed_port = gone.port();
  }
  node.apply({slice_to("s1", "127.128.77.2", a.port()), slice_to("s2", "127.128.77.3", closed_port)},
             kRoundRobin);
  for (int i = 0; i < 10; ++i) CHECK(node.ask() == "a");
  CHECK(node.proxy->stats().connect_failures == 5);
  node.apply({slice_to("s2", "127.128.77.3", closed_port)});
  CHECK(node.ask() == "error: ECONNRESET");
}

TEST_CASE("large data passes both ways and half-close is carried over") {
  ProcessNode node;
  // The endpoint reads until the client says it is done, then sends everything back.
  Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  ::inet_pton(AF_INET, "127.128.77.2", &name.sin_addr);
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  socklen_t size = sizeof name;
  REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
  std::thread server([&] {
    Fd connection(::accept(listener.get(), nullptr, nullptr));
    const std::string all = read_all(connection);
    (void)write_all(connection.get(), all + all);
  });
  node.apply({slice_to("s1", "127.128.77.2", ntohs(name.sin_port))});
  Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in service{};
  service.sin_family = AF_INET;
  service.sin_port = htons(static_cast<std::uint16_t>(node.service_port));
  ::inet_pton(AF_INET, node.service_ip.c_str(), &service.sin_addr);
  REQUIRE(::connect(client.get(), reinterpret_cast<sockaddr*>(&service), sizeof service) == 0);
  std::string sent(3 << 20, 'x');
  for (std::size_t i = 0; i < sent.size(); i += 4099) sent[i] = static_cast<char>('a' + i % 26);
  REQUIRE(write_all(client.get(), sent));
  REQUIRE(::shutdown(client.get(), SHUT_WR) == 0);
  const std::string got = read_all(client);
  server.join();
  CHECK(got.size() == 2 * sent.size());
  CHECK((got == sent + sent));
}

TEST_CASE("connections above the bound are refused and counted") {
  ProcessNode node(0);
  TcpAnswerer a(node.here, "127.128.77.2", 0, "a");
  node.apply({slice_to("s1", "127.128.77.2", a.port())});
  CHECK(node.ask() == "error: ECONNRESET");
  CHECK(node.proxy->stats().connections_refused == 1);
}

TEST_CASE("UDP answers come from the Service's address") {
  ProcessNode node;
  UdpAnswerer a(node.here, "127.128.77.2", 0, "udp a");
  node.apply({slice_to("s1", "127.128.77.2", a.port(), "UDP")}, "{}", "UDP");
  CHECK(ask_udp(node.here, node.service_ip, node.service_port) ==
        "udp a");  // a connected socket: others are dropped
  CHECK(node.proxy->stats().udp_flows == 1);
}

TEST_CASE("an address that is taken is reported for its Service and the others are served") {
  ProcessNode node;
  TcpAnswerer a(node.here, "127.128.77.2", 0, "a");
  TcpAnswerer in_the_way(node.here, node.service_ip, node.service_port, "squatter");
  const auto result = node.apply({slice_to("s1", "127.128.77.2", a.port())});
  REQUIRE(result.rejected.size() == 1);
  CHECK(result.rejected.front().name == "web");
  CHECK(result.rejected.front().reason == "ListenFailed");
  CHECK(result.rejected.front().message.find("EADDRINUSE") != std::string::npos);
}

TEST_CASE("a port of SCTP, which the relay cannot carry, is reported and the others are served") {
  ProcessNode node;
  TcpAnswerer a(node.here, "127.128.77.2", 0, "a");
  const auto service = make_service("web", node.service_ip,
                                    {{"web", node.service_port}, {"peer", node.service_port, 0, "SCTP"}});
  const auto done =
      node.proxy
          ->apply(make_snapshot({service}, {slice_to("s1", "127.128.77.2", a.port())}, {"127.128.0.0/12"}))
          .wait(60s);
  REQUIRE(done);
  REQUIRE(done->rejected.size() == 1);
  CHECK(done->rejected.front().reason == "UnsupportedProtocol");
  CHECK(done->rejected.front().message.find("port \"peer\" is SCTP") != std::string::npos);
  CHECK(node.ask() == "a");
}

TEST_CASE("pods of level process have addresses of their own that survive a restart") {
  Engine engine;
  TempDir data;
  auto network = make_process_pod_network(engine, {data.path(), 258}).value();
  CHECK(network->node_address() == "127.129.2.1");
  CHECK(network->dns_address() == "127.129.2.1");
  CHECK(network->attach({"uid-a", "d", "a", nullptr}).wait(60s).value().addresses.front() == "127.129.2.2");
  CHECK(network->attach({"uid-b", "d", "b", nullptr}).wait(60s).value().addresses.front() == "127.129.2.3");
  CHECK(network->attach({"uid-a", "d", "a", nullptr}).wait(60s).value().addresses.front() == "127.129.2.2");
  network->detach("uid-a").wait(60s).value();
  network.reset();
  network = make_process_pod_network(engine, {data.path(), 258}).value();
  CHECK(network->list().value().size() == 1);
  CHECK(network->attach({"uid-c", "d", "c", nullptr}).wait(60s).value().addresses.front() == "127.129.2.4");
  CHECK_FALSE(make_process_pod_network(engine, {data.path(), 4096}));
}

TEST_CASE("at level process a dialer reaches the pod's own address and nothing else") {
  Engine engine;
  TempDir data;
  auto network = make_process_pod_network(engine, {data.path(), 77}).value();
  network->attach({"uid-a", "d", "a", nullptr}).wait(60s).value();
  TcpAnswerer a({}, "127.128.77.2", 0, "a"), host({}, "127.0.0.1", 0, "host");
  auto dialer = make_process_pod_dialer(engine, network);
  auto connected = dialer->dial("uid-a", "127.0.0.1", a.port(), 2s).wait(60s);
  REQUIRE(connected);
  CHECK(read_all(**connected) == "a");
  CHECK_FALSE(dialer->dial("uid-a", "127.0.0.1", host.port(), 2s).wait(60s));
  CHECK(dialer->dial("uid-a", "127.0.0.2", host.port(), 2s).wait(60s).error().is(Error::denied));
}

TEST_CASE("without nftables pods reach Services through the relay on the node") {
  if (!can_make_namespaces())
    ORC_SKIP("without nftables pods reach Services through the relay on the node", "needs root");
  Engine engine;
  TempDir data;
  auto host = make_host();
  const auto before = machine_state(host);
  PodNetworkOptions options;
  options.data_dir = data.path();
  options.instance = "0a1b2c3d";
  options.pod_cidr = "10.244.1.0/24";
  options.service_cidr = "10.96.0.0/16";
  options.name_space = host;
  options.masquerade = false;
  auto network = PodNetwork::open(engine, options).value();
  auto pod = NetworkNamespace::create().value();
  network->attacher()->attach({"uid-a", "d", "a", pod.fd()}).wait(60s).value();
  ServiceProxyOptions proxy_options;
  proxy_options.node = "n1";
  proxy_options.service_cidr = "10.96.0.0/16";
  proxy_options.name_space = host;
  proxy_options.mode = ServiceProxyOptions::Mode::userspace;
  proxy_options.local_route = true;
  auto proxy = ServiceProxy::create(engine, proxy_options).value();
  TcpAnswerer a(pod, "0.0.0.0", 8080, "a");
  UdpAnswerer dns(pod, "0.0.0.0", 5353, "udp a");
  auto done = proxy
                  ->apply(make_snapshot({make_service("web", "10.96.0.10", {{}, {"dns", 53, 0, "UDP"}})},
                                        {make_slice("web", {{"10.244.1.2"}}, 8080),
                                         make_slice("web", {{"10.244.1.2"}}, 5353, "dns", "UDP", "web-2")}))
                  .wait(60s)
                  .value();
  CHECK(done.rejected.empty());
  CHECK(ask_tcp(pod, "10.96.0.10", 80) == "a");
  CHECK(ask_tcp(host, "10.96.0.10", 80) == "a");
  CHECK(ask_udp(pod, "10.96.0.10", 53) == "udp a");
  CHECK(ask_tcp(pod, "10.96.0.10", 81) == "error: ECONNREFUSED");
  CHECK(ask_tcp(pod, "10.96.0.11", 80) == "error: ECONNREFUSED");
  proxy->teardown().wait(60s).value();
  network->teardown().wait(60s).value();
  CHECK(machine_state(host) == before);
}
