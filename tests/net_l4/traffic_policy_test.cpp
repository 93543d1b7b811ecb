// internalTrafficPolicy and externalTrafficPolicy Local on two nodes, of which one has the endpoint: as pods
// of either, the nodes themselves and clients outside see it.
#include <linux/rtnetlink.h>

#include "api/pod_attacher.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/service_proxy.hpp"
#include "tests/net_l4/net_lab.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

constexpr const char* kDropped = "error: timeout";
constexpr int kSilenceMs = 300;  // how long a test waits for an answer that must not come

void send_by(const NetworkNamespace& where, const std::string& range, const std::string& gateway) {
  in_namespace(where, [&]() -> Result<void> {
    ORC_ASSIGN(RouteSocket routes, RouteSocket::open());
    Route route;
    route.destination = IpRange::parse(range).value();
    route.gateway = IpAddress::parse(gateway);
    route.protocol = RTPROT_STATIC;
    return routes.add_route(route);
  }).value();
}

/// One of two nodes: on one link with the other, and each with a link of its own to a client outside.
struct PolicyNode {
  std::string number;
  TempDir data;
  NetworkNamespace host = make_host(), pod = NetworkNamespace::create().value();
  std::shared_ptr<PodNetwork> network;
  std::shared_ptr<ServiceProxy> proxy;

  explicit PolicyNode(std::string number_in) : number(std::move(number_in)) {}
  std::string address() const { return "192.0.2." + number; }
  std::string outer_address() const { return "198.18." + number + ".1"; }
  std::string pod_cidr() const { return "10.244." + number + ".0/24"; }

  void open(Engine& engine) {
    PodNetworkOptions pods;
    pods.data_dir = data.path();
    pods.instance = "0a1b2c3" + number;
    pods.pod_cidr = pod_cidr();
    pods.cluster_cidr = "10.244.0.0/16";
    pods.service_cidr = "10.96.0.0/16";
    pods.node_address = address();
    pods.name_space = host;
    network = PodNetwork::open(engine, pods).value();
    network->attacher()->attach({"uid-" + number, "default", "p" + number, pod.fd()}).wait(60s).value();
    ServiceProxyOptions services;
    services.node = "n" + number;
    services.instance = pods.instance;
    services.cluster_cidr = pods.cluster_cidr;
    services.service_cidr = pods.service_cidr;
    services.node_gateway = network->node_address();
    services.name_space = host;
    services.mode = ServiceProxyOptions::Mode::nftables;
    proxy = ServiceProxy::create(engine, services).value();
  }
  void close() {
    CHECK(proxy->teardown().wait(60s));
    CHECK(network->teardown().wait(60s));
  }
};

struct PolicyLab {
  Engine engine;
  NetworkNamespace outside = make_host();
  PolicyNode one{"1"}, two{"2"};

  PolicyLab() {
    wire(one.host, "link", "192.0.2.1/24", two.host, "link", "192.0.2.2/24");
    for (PolicyNode* node : {&one, &two}) {
      wire(node->host, "up", node->outer_address() + "/24", outside, "to-" + node->number,
           "198.18." + node->number + ".9/24");
      send_by(node->host, "0.0.0.0/0", "198.18." + node->number + ".9");
      node->open(engine);
    }
    for (auto [node, other] : {std::pair(&one, &two), std::pair(&two, &one)}) {
      const PodNetworkPeer peer{"n" + other->number, other->address(), other->pod_cidr()};
      CHECK(node->network->set_peers({peer}).wait(60s).value().empty());
    }
  }
  ~PolicyLab() {
    one.close();
    two.close();
  }
  void apply(const Object& service, std::vector<Object> slices) {
    for (PolicyNode* node : {&one, &two}) {
      auto done = node->proxy->apply(make_snapshot({service}, slices)).wait(60s);
      REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    }
  }
};

}  // namespace

TEST_CASE("internalTrafficPolicy Local: a node's pods reach the endpoint of their node, or nobody") {
  NEEDS_ROOT("internalTrafficPolicy Local: a node's pods reach the endpoint of their node, or nobody");
  PolicyLab lab;
  TcpAnswerer a(lab.one.pod, "0.0.0.0", 8080, "a");
  const auto service = [](const char* policy) {
    return make_service("web", "10.96.0.10", {{}},
                        std::string(R"(,"internalTrafficPolicy":")") + policy + "\"");
  };
  const auto on_one = make_slice("web", {{.address = "10.244.1.2", .node = "n1"}}, 8080);
  lab.apply(service("Cluster"), {on_one});
  for (const auto* from : {&lab.one.pod, &lab.one.host, &lab.two.pod, &lab.two.host})
    CHECK(ask_tcp(*from, "10.96.0.10", 80) == "a");
  lab.apply(service("Local"), {on_one});
  CHECK(ask_tcp(lab.one.pod, "10.96.0.10", 80) == "a");
  CHECK(ask_tcp(lab.one.host, "10.96.0.10", 80) == "a");
  // Silence, not a reset: the policy says where, not whether.
  CHECK(ask_tcp(lab.two.pod, "10.96.0.10", 80, kSilenceMs) == kDropped);
  CHECK(ask_tcp(lab.two.host, "10.96.0.10", 80, kSilenceMs) == kDropped);
  // An endpoint of its own: only this one, and the other node's pods keep theirs.
  TcpAnswerer b(lab.two.pod, "0.0.0.0", 8080, "b");
  lab.apply(
      service("Local"),
      {make_slice("web", {{.address = "10.244.1.2", .node = "n1"}, {.address = "10.244.2.2", .node = "n2"}},
                  8080)});
  for (int i = 0; i < 10; ++i) {
    CHECK(ask_tcp(lab.one.pod, "10.96.0.10", 80) == "a");
    CHECK(ask_tcp(lab.two.pod, "10.96.0.10", 80) == "b");
  }
  lab.apply(service("Local"), {});  // nobody anywhere: refused
  CHECK(ask_tcp(lab.two.pod, "10.96.0.10", 80) == "error: ECONNREFUSED");
}

TEST_CASE(
    "externalTrafficPolicy Local holds clients outside to the node's endpoints, pods and nodes go "
    "everywhere") {
  NEEDS_ROOT(
      "externalTrafficPolicy Local holds clients outside to the node's endpoints, pods and nodes go "
      "everywhere");
  PolicyLab lab;
  send_by(lab.outside, "203.0.113.10/32", lab.two.outer_address());
  TcpAnswerer a(lab.one.pod, "0.0.0.0", 8080, "a");
  const std::string fields =
      R"(,"type":"LoadBalancer","externalIPs":["203.0.113.10"],"externalTrafficPolicy":"Local")";
  const auto service = make_service("web", "10.96.0.10", {{.node_port = 30080}}, fields);
  const auto on_one = make_slice("web", {{.address = "10.244.1.2", .node = "n1"}}, 8080);
  lab.apply(service, {on_one});
  // From outside: with its own address, and only where the endpoint is.
  CHECK(ask_tcp(lab.outside, "198.18.1.1", 30080) == "a");
  CHECK(a.last_client() == "198.18.1.9");
  CHECK(ask_tcp(lab.outside, "198.18.2.1", 30080, kSilenceMs) == kDropped);
  CHECK(ask_tcp(lab.outside, "203.0.113.10", 80, kSilenceMs) == kDropped);
  // A pod of the node without an endpoint, by each outside address of its own node; its address stays.
  for (const auto& [address, port] :
       {std::pair("192.0.2.2", 30080), {"198.18.2.1", 30080}, {"203.0.113.10", 80}}) {
    CAPTURE(address);
    CHECK(ask_tcp(lab.two.pod, address, port) == "a");
    CHECK(a.last_client() == "10.244.2.2");
    CHECK(ask_tcp(lab.two.host, address, port) == "a");
    CHECK(a.last_client() == "10.244.2.1");
  }
  // The endpoint itself, by its own node: hairpin.
  CHECK(ask_tcp(lab.one.pod, "203.0.113.10", 80) == "a");
  CHECK(ask_tcp(lab.one.pod, "192.0.2.1", 30080) == "a");
  CHECK(a.last_client() == "10.244.1.1");
  // The other node's address is outside for a pod: that node's policy counts.
  CHECK(ask_tcp(lab.two.pod, "192.0.2.1", 30080) == "a");
  CHECK(a.last_client() == "192.0.2.2");
  CHECK(ask_tcp(lab.one.pod, "192.0.2.2", 30080, kSilenceMs) == kDropped);
  // The cluster address is under no external policy.
  CHECK(ask_tcp(lab.two.pod, "10.96.0.10", 80) == "a");
  CHECK(lab.two.proxy->explain("nodeport:30080/tcp").value() ==
        "nodeport:30080/tcp is Service default/web port web\n"
        "dropped: externalTrafficPolicy: Local, and no usable endpoint is on this node\n"
        "  not 10.244.1.2:8080 on node n1: on node \"n1\" (externalTrafficPolicy: Local)\n"
        "from pods and this node, which no externalTrafficPolicy holds:\n"
        "  to  10.244.1.2:8080 on node n1\n");
  // With internalTrafficPolicy Local as well: that is about the cluster address.
  lab.apply(make_service("web", "10.96.0.10", {{.node_port = 30080}},
                         fields + R"(,"internalTrafficPolicy":"Local")"),
            {on_one});
  CHECK(ask_tcp(lab.two.pod, "10.96.0.10", 80, kSilenceMs) == kDropped);
  CHECK(ask_tcp(lab.two.pod, "203.0.113.10", 80) == "a");
  lab.apply(service, {});
  CHECK(ask_tcp(lab.two.pod, "203.0.113.10", 80) == "error: ECONNREFUSED");
}

TEST_CASE(
    "a pod's UDP flow by an outside address stays with its endpoint of another node while others come and "
    "go") {
  NEEDS_ROOT(
      "a pod's UDP flow by an outside address stays with its endpoint of another node while others come and "
      "go");
  PolicyLab lab;
  UdpAnswerer a(lab.one.pod, "0.0.0.0", 5353, "a"), b(lab.one.pod, "0.0.0.0", 5354, "b");
  const auto service = make_service("dns", "10.96.0.53", {{"dns", 53, 30053, "UDP"}},
                                    R"(,"type":"NodePort","externalTrafficPolicy":"Local")");
  const auto slice = [](int port) {
    return make_slice("dns", {{.address = "10.244.1.2", .node = "n1"}}, port, "dns", "UDP",
                      "dns-" + std::to_string(port));
  };
  lab.apply(service, {slice(5353)});
  UdpClient client(lab.two.pod, "192.0.2.2", 30053);
  CHECK(client.ask() == "a");
  for (int i = 0; i < 8; ++i) {
    lab.apply(service, i % 2 == 0 ? std::vector{slice(5353), slice(5354)} : std::vector{slice(5353)});
    CHECK(client.ask() == "a");
  }
  lab.apply(service, {slice(5354)});  // its endpoint is gone
  CHECK(client.ask() == "b");
}
