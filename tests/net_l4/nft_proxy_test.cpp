// Services by nftables on a test host of its own.
#include <linux/rtnetlink.h>

#include <set>

#include "api/pod_attacher.hpp"
#include "net/lb/conntrack.hpp"
#include "net/podnet/in_namespace.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/service_proxy.hpp"
#include "tests/net_l4/net_lab.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

/// A node with two pods, both serving on 8080, and a service proxy.
struct Node {
  Engine engine;
  TempDir data;
  NetworkNamespace host = make_host();
  std::shared_ptr<PodNetwork> network;
  std::shared_ptr<ServiceProxy> proxy;
  NetworkNamespace pod_a = NetworkNamespace::create().value(), pod_b = NetworkNamespace::create().value();

  Node() {
    PodNetworkOptions options;
    options.data_dir = data.path();
    options.instance = "0a1b2c3d";
    options.pod_cidr = "10.244.1.0/24";
    options.cluster_cidr = "10.244.0.0/16";
    options.service_cidr = "10.96.0.0/16";
    options.name_space = host;
    network = PodNetwork::open(engine, options).value();
    network->attacher()->attach({"uid-a", "default", "a", pod_a.fd()}).wait(60s).value();
    network->attacher()->attach({"uid-b", "default", "b", pod_b.fd()}).wait(60s).value();
    make_proxy();
  }
  ~Node() {
    if (proxy) CHECK(proxy->teardown().wait(60s));
    CHECK(network->teardown().wait(60s));
    CHECK(ruleset(host).empty());
  }
  void make_proxy() {
    ServiceProxyOptions options;
    options.node = "n1";
    options.instance = "0a1b2c3d";
    options.cluster_cidr = "10.244.0.0/16";
    options.service_cidr = "10.96.0.0/16";
    options.node_gateway = network->node_address();
    options.name_space = host;
    options.mode = ServiceProxyOptions::Mode::nftables;
    auto made = ServiceProxy::create(engine, options);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    proxy = *made;
  }
  ApplyResult apply(std::vector<Object> services, std::vector<Object> slices) {
    auto done = proxy->apply(make_snapshot(std::move(services), std::move(slices))).wait(60s);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    return *done;
  }
};

const std::string kRoundRobin = R"({"orchestra.dev/load-balance":"round_robin"})";

}  // namespace

TEST_CASE("a Service reaches its pods from pods and from the node, and every pod gets its share") {
  NEEDS_ROOT("a Service reaches its pods from pods and from the node, and every pod gets its share");
  Node node;
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a"), b(node.pod_b, "0.0.0.0", 8080, "b");
  const auto result = node.apply({make_service("web", "10.96.0.10", {{}})},
                                 {make_slice("web", {{"10.244.1.2"}, {"10.244.1.3"}}, 8080)});
  CHECK(result.full);
  CHECK(result.services == 1);
  std::set<std::string> from_pod, from_node;
  for (int i = 0; i < 40; ++i) {
    from_pod.insert(ask_tcp(node.pod_a, "10.96.0.10", 80));  // includes the pod to itself: hairpin
    from_node.insert(ask_tcp(node.host, "10.96.0.10", 80));
  }
  CHECK(from_pod == std::set<std::string>{"a", "b"});
  CHECK(from_node == std::set<std::string>{"a", "b"});
}

TEST_CASE("a pod reaches itself through its own Service") {
  NEEDS_ROOT("a pod reaches itself through its own Service");
  Node node;
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a");
  node.apply({make_service("web", "10.96.0.10", {{}})}, {make_slice("web", {{"10.244.1.2"}}, 8080)});
  for (const char* value : {"0", "1"}) {
    // Mode routed does not care about this switch, which other programs flip. Absent: nothing to flip.
    if (auto present = std::filesystem::exists("/proc/sys/net/bridge/bridge-nf-call-iptables"); present) {
      set_sysctl_in(node.host, "net/bridge/bridge-nf-call-iptables", value);
    }
    CHECK(ask_tcp(node.pod_a, "10.96.0.10", 80) == "a");
    CHECK(a.last_client() == "10.244.1.1");
    CHECK(ask_tcp(node.pod_b, "10.96.0.10", 80) == "a");
    CHECK(a.last_client() == "10.244.1.3");  // others keep their own address
  }
}

TEST_CASE("round robin is exact, and stays so when endpoints come and go") {
  NEEDS_ROOT("round robin is exact, and stays so when endpoints come and go");
  Node node;
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a"), b(node.pod_b, "0.0.0.0", 8080, "b");
  TcpAnswerer b2(node.pod_b, "0.0.0.0", 8081, "B");
  const auto service = make_service("web", "10.96.0.10", {{}}, "", kRoundRobin);
  const auto ask_many = [&](int times) {
    std::map<std::string, int> counts;
    for (int i = 0; i < times; ++i) ++counts[ask_tcp(node.pod_b, "10.96.0.10", 80)];
    return counts;
  };
  node.apply({service}, {make_slice("web", {{"10.244.1.2"}, {"10.244.1.3"}}, 8080)});
  CHECK(ask_many(10) == std::map<std::string, int>{{"a", 5}, {"b", 5}});
  node.apply({service}, {make_slice("web", {{"10.244.1.2"}, {"10.244.1.3"}}, 8080),
                         make_slice("web", {{"10.244.1.3"}}, 8081, "web", "TCP", "web-2")});
  CHECK(ask_many(9) == std::map<std::string, int>{{"a", 3}, {"b", 3}, {"B", 3}});
  node.apply({service}, {make_slice("web", {{"10.244.1.3"}}, 8081, "web", "TCP", "web-2")});
  CHECK(ask_many(3) == std::map<std::string, int>{{"B", 3}});
  CHECK_FALSE(node.apply({}, {}).full);
  CHECK(ask_tcp(node.pod_b, "10.96.0.10", 80, 300) == "error: timeout");
}

TEST_CASE("a Service without endpoints refuses at once, and unknown ports and addresses never leave") {
  NEEDS_ROOT("a Service without endpoints refuses at once, and unknown ports and addresses never leave");
  Node node;
  auto outside = make_host();
  wire(node.host, "uplink", "192.0.2.1/24", outside, "eth0", "192.0.2.2/24");
  Capture uplink(outside, "eth0");
  node.apply({make_service("web", "10.96.0.10", {{"web", 80, 30080}, {"dns", 53, 30053, "UDP"}})}, {});
  for (const auto* from : {&node.pod_a, &node.host}) {
    CHECK(ask_tcp(*from, "10.96.0.10", 80) == "error: ECONNREFUSED");
    // The node's own sender hears of the refusal from send() itself, a pod by ICMP.
    CHECK(ask_udp(*from, "10.96.0.10", 53) == (from == &node.host ? "error: EPERM" : "error: ECONNREFUSED"));
    CHECK(ask_tcp(*from, "10.96.0.10", 81) == "error: ECONNREFUSED");  // a port it does not have
    CHECK(ask_tcp(*from, "10.96.0.99", 80, 200) == "error: timeout");  // nobody's address
  }
  CHECK(ask_tcp(outside, "192.0.2.1", 30080) == "error: ECONNREFUSED");
  CHECK(ask_udp(outside, "192.0.2.1", 30053) == "error: ECONNREFUSED");
  const int answers = uplink.ipv4_frames();
  run_nft(node.host, "flush ruleset");
  ask_tcp(node.pod_a, "10.96.0.10", 80, 200);
  ask_tcp(node.host, "10.96.0.10", 80, 200);
  ask_tcp(node.pod_a, "10.96.0.99", 80, 200);
  ask_tcp(node.pod_a, "10.244.1.77", 80, 200);
  CHECK(uplink.ipv4_frames() == answers);
}

TEST_CASE("UDP Services work, and a node port is served to the outside") {
  NEEDS_ROOT("UDP Services work, and a node port is served to the outside");
  Node node;
  auto outside = make_host();
  wire(node.host, "uplink", "192.0.2.1/24", outside, "eth0", "192.0.2.2/24");
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a");
  UdpAnswerer dns(node.pod_b, "0.0.0.0", 5353, "udp b");
  node.apply({make_service("web", "10.96.0.10", {{"web", 80, 30080}, {"dns", 53, 30053, "UDP"}},
                           R"(,"type":"NodePort")")},
             {make_slice("web", {{"10.244.1.2"}}, 8080),
              make_slice("web", {{"10.244.1.3"}}, 5353, "dns", "UDP", "web-2")});
  CHECK(ask_udp(node.pod_a, "10.96.0.10", 53) == "udp b");
  CHECK(ask_udp(node.host, "10.96.0.10", 53) == "udp b");
  CHECK(ask_tcp(outside, "192.0.2.1", 30080) == "a");
  CHECK(a.last_client() == "10.244.1.1");
  CHECK(ask_udp(outside, "192.0.2.1", 30053) == "udp b");
  CHECK(ask_tcp(node.host, "192.0.2.1", 30080) == "a");
  CHECK(ask_tcp(node.pod_b, "192.0.2.1", 30080) == "a");
  CHECK(ask_tcp(node.host, "127.0.0.1", 30080) == "error: ECONNREFUSED");  // never on loopback
}

TEST_CASE("SCTP Services lead associations to their pods and the answers back") {
  NEEDS_ROOT("SCTP Services lead associations to their pods and the answers back");
  Node node;
  auto outside = make_host();
  wire(node.host, "uplink", "192.0.2.1/24", outside, "eth0", "192.0.2.2/24");
  SctpAnswerer a(node.pod_a, 3868, "a"), b(node.pod_b, 3868, "b");
  const auto service = [](const std::string& more = "", const std::string& annotations = "{}") {
    return make_service("diameter", "10.96.0.10", {{"peer", 3868, 30868, "SCTP"}, {"peer", 3868}},
                        R"(,"type":"NodePort")" + more, annotations);
  };
  const auto to = [](std::vector<TestEndpoint> ends) {
    return make_slice("diameter", std::move(ends), 3868, "peer", "SCTP");
  };
  CHECK(node.apply({service()}, {to({{"10.244.1.2"}, {"10.244.1.3"}})}).rejected.empty());
  std::set<std::string> by_pod, by_node;
  for (int i = 0; i < 40; ++i) {
    by_pod.insert(ask_sctp(node.pod_a, "10.96.0.10", 3868));  // itself too: hairpin
    by_node.insert(ask_sctp(node.host, "10.96.0.10", 3868));
  }
  CHECK(by_pod == std::set<std::string>{"a", "b"});
  CHECK(by_node == std::set<std::string>{"a", "b"});
  CHECK(ask_sctp(node.host, "10.96.0.10", 3869) == "error: EPERM");        // no such port
  CHECK(ask_tcp(node.host, "10.96.0.10", 3868) == "error: ECONNREFUSED");  // of TCP there are no endpoints
  CHECK(node.proxy->explain("10.96.0.10:3868/sctp").value().find("10.244.1.3") != std::string::npos);
  CHECK(node.proxy->explain("10.96.0.10:3868/tcp").value().find("10.244.1.3") == std::string::npos);

  node.apply({service()}, {to({{"10.244.1.3"}})});
  CHECK(ask_sctp(outside, "192.0.2.1", 30868) == "b");
  CHECK(b.last_client() == "10.244.1.1");
  node.apply({service(R"(,"externalTrafficPolicy":"Local")")}, {to({{"10.244.1.3"}})});
  CHECK(ask_sctp(outside, "192.0.2.1", 30868) == "b");
  CHECK(b.last_client() == "192.0.2.2");
  node.apply({service("", kRoundRobin)}, {to({{"10.244.1.2"}, {"10.244.1.3"}})});
  CHECK(ask_sctp(node.host, "10.96.0.10", 3868) != ask_sctp(node.host, "10.96.0.10", 3868));
  node.apply({service(R"(,"sessionAffinity":"ClientIP")")}, {to({{"10.244.1.2"}, {"10.244.1.3"}})});
  const std::string first = ask_sctp(node.host, "10.96.0.10", 3868);
  for (int i = 0; i < 10; ++i) CHECK(ask_sctp(node.host, "10.96.0.10", 3868) == first);
  node.apply({service()}, {});
  CHECK(ask_sctp(node.host, "10.96.0.10", 3868) == "error: EPERM");
  CHECK(ask_sctp(node.pod_a, "10.96.0.10", 3868) == "error: ECONNREFUSED");
}

TEST_CASE("a new process takes the table over, and only real changes are written") {
  NEEDS_ROOT("a new process takes the table over, and only real changes are written");
  Node node;
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a"), b(node.pod_b, "0.0.0.0", 8080, "b");
  const auto web = make_service("web", "10.96.0.10", {{}}, "", "{}", "1");
  const auto api = make_service("api", "10.96.0.11", {{}}, "", "{}", "2");
  const auto to_a = make_slice("web", {{"10.244.1.2"}}, 8080, "web", "TCP", "", "3");
  const auto api_to_a = make_slice("api", {{"10.244.1.2"}}, 8080, "web", "TCP", "", "4");
  const auto api_to_b = make_slice("api", {{"10.244.1.3"}}, 8080, "web", "TCP", "", "5");
  node.apply({web, api}, {to_a, api_to_a});
  node.proxy.reset();  // the process is gone, the rules serve on
  CHECK(ask_tcp(node.pod_b, "10.96.0.10", 80) == "a");
  node.make_proxy();
  auto unsynced = node.proxy->apply(NetworkSnapshot::build(NetworkInputs{})).wait(60s);
  REQUIRE_FALSE(unsynced);
  CHECK(unsynced.error().is(Error::unavailable));
  CHECK(ask_tcp(node.pod_b, "10.96.0.10", 80) ==
        "a");  // an empty list that is not complete withdraws nothing
  auto first = make_snapshot({web, api}, {to_a, api_to_a});
  CHECK(node.proxy->apply(first).wait(60s).value().full);
  auto same = make_snapshot({web, api}, {to_a, api_to_a});
  CHECK(node.proxy->apply(same).wait(60s).value().changes == 0);
  auto moved = make_snapshot({web, api}, {to_a, api_to_b});
  const auto result = node.proxy->apply(moved).wait(60s).value();
  CHECK_FALSE(result.full);
  CHECK(result.changes == 3);  // e0 of api removed and added, a's hairpin stays (web), b's is new
  CHECK(ask_tcp(node.pod_a, "10.96.0.11", 80) == "b");
  CHECK(ask_tcp(node.pod_b, "10.96.0.10", 80) == "a");
}

TEST_CASE("rules that somebody flushed come back by themselves") {
  NEEDS_ROOT("rules that somebody flushed come back by themselves");
  Node node;
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a");
  node.apply({make_service("web", "10.96.0.10", {{}})}, {make_slice("web", {{"10.244.1.2"}}, 8080)});
  SUBCASE("flush ruleset") { run_nft(node.host, "flush ruleset"); }
  SUBCASE("flush table") { run_nft(node.host, "flush table ip orc_0a1b2c3d"); }
  std::string answer;
  for (int i = 0; i < 100 && answer != "a"; ++i) answer = ask_tcp(node.pod_b, "10.96.0.10", 80, 100);
  CHECK(answer == "a");
  CHECK(node.proxy->stats().foreign_changes == 1);
}

TEST_CASE("explain names the Service, its endpoints, and why others are not used") {
  NEEDS_ROOT("explain names the Service, its endpoints, and why others are not used");
  Node node;
  node.apply({make_service("web", "10.96.0.10", {{"web", 80, 30080}})},
             {make_slice("web", {{"10.244.1.2"}, {"10.244.1.3", false, false}}, 8080)});
  CHECK(node.proxy->explain("10.96.0.10:80/tcp").value() ==
        "10.96.0.10:80/tcp is Service default/web port web\n  to  10.244.1.2:8080 on node n1\n"
        "  not 10.244.1.3:8080 on node n1: not ready\n");
  CHECK(node.proxy->explain("nodeport:30080/tcp").value().find("default/web") != std::string::npos);
  CHECK(node.proxy->explain("10.96.0.10:81/tcp").value().find("no such port") != std::string::npos);
  CHECK_FALSE(node.proxy->explain("nonsense"));
}

TEST_CASE("a UDP client with a fixed port follows the Service's endpoints") {
  NEEDS_ROOT("a UDP client with a fixed port follows the Service's endpoints");
  Node node;
  UdpAnswerer a(node.pod_a, "0.0.0.0", 5353, "a"), b(node.pod_b, "0.0.0.0", 5353, "b");
  const auto service = make_service("dns", "10.96.0.53", {{"dns", 53, 0, "UDP"}});
  const auto to = [](const char* address) { return make_slice("dns", {{address}}, 5353, "dns", "UDP"); };
  UdpClient client(node.host, "10.96.0.53", 53);
  node.apply({service}, {});
  CHECK(client.ask(200) != "a");
  node.apply({service}, {to("10.244.1.2")});  // none to some: not blackholed for ever
  CHECK(client.ask() == "a");
  node.apply({service}, {to("10.244.1.3")});  // the endpoint is gone
  CHECK(client.ask() == "b");
  node.proxy.reset();
  node.make_proxy();
  node.apply({service}, {make_slice("dns", {{"10.244.1.2"}, {"10.244.1.3"}}, 5353, "dns", "UDP")});
  for (int i = 0; i < 10; ++i)
    CHECK(client.ask() == "b");  // a flow of a serving endpoint stays, also at a restart
  node.apply({service}, {});     // lost the last one
  CHECK(client.ask(200) != "b");
  node.apply({service}, {to("10.244.1.3")});
  CHECK(client.ask() == "b");
  node.apply({}, {});  // the Service is deleted
  CHECK(client.ask(200) != "b");
}

TEST_CASE("a table of connections that fills up is told once, and again when it was well meanwhile") {
  net::ConntrackAlarm alarm;
  CHECK(alarm.look({0, 0}).empty());
  CHECK(alarm.look({79, 100}).empty());
  CHECK(alarm.look({80, 100}).find("80 of 100 entries") != std::string::npos);
  CHECK(alarm.look({99, 100}).empty());
  CHECK(alarm.look({75, 100}).empty());
  CHECK(alarm.look({80, 100}).empty());
  CHECK(alarm.look({69, 100}).empty());
  CHECK_FALSE(alarm.look({100, 100}).empty());
}

TEST_CASE("what the kernel tracks is counted in the node's namespace") {
  NEEDS_ROOT("what the kernel tracks is counted in the node's namespace");
  Node node;
  UdpAnswerer a(node.pod_a, "0.0.0.0", 5353, "a");
  node.apply({make_service("dns", "10.96.0.53", {{"dns", 53, 0, "UDP"}})},
             {make_slice("dns", {{"10.244.1.2"}}, 5353, "dns", "UDP")});
  const auto before = net::conntrack_use(node.host).value();
  CHECK(before.limit > 0);
  for (int i = 0; i < 5; ++i) CHECK(ask_udp(node.pod_b, "10.96.0.53", 53) == "a");
  CHECK(net::conntrack_use(node.host)->entries >= before.entries + 5);
}

TEST_CASE("leftovers of a killed process go without opening anything") {
  NEEDS_ROOT("leftovers of a killed process go without opening anything");
  Engine engine;
  TempDir data;
  auto host = make_host();
  const auto before = machine_state(host);
  {
    PodNetworkOptions network;
    network.data_dir = data.path();
    network.instance = "0a1b2c3d";
    network.pod_cidr = "10.244.1.0/24";
    network.service_cidr = "10.96.0.0/16";
    network.name_space = host;
    auto pods = PodNetwork::open(engine, network).value();
    ServiceProxyOptions options;
    options.instance = "0a1b2c3d";
    options.cluster_cidr = "10.244.1.0/24";
    options.service_cidr = "10.96.0.0/16";
    options.node_gateway = pods->node_address();
    options.name_space = host;
    options.local_route = true;
    SUBCASE("by nftables") { options.mode = ServiceProxyOptions::Mode::nftables; }
    SUBCASE("in userspace") { options.mode = ServiceProxyOptions::Mode::userspace; }
    auto proxy = ServiceProxy::create(engine, options).value();
    auto applied = proxy->apply(make_snapshot({make_service("web", "10.96.0.10", {{}})}, {})).wait(60s);
    REQUIRE(applied);
  }
  CHECK(machine_state(host) != before);
  REQUIRE(PodNetwork::remove_leftovers(data.path(), host));
  CHECK(machine_state(host) == before);
  CHECK(ruleset(host).empty());
}

TEST_CASE("with session affinity a client keeps its endpoint, until the endpoint goes") {
  NEEDS_ROOT("with session affinity a client keeps its endpoint, until the endpoint goes");
  Node node;
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a"), b(node.pod_b, "0.0.0.0", 8080, "b");
  const auto service = make_service(
      "web", "10.96.0.10", {{}},
      R"(,"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}})");
  node.apply({service}, {make_slice("web", {{"10.244.1.2"}, {"10.244.1.3"}}, 8080, "web", "TCP", "", "1")});
  std::string now = ask_tcp(node.host, "10.96.0.10", 80);
  for (int i = 0; i < 20; ++i) CHECK(ask_tcp(node.host, "10.96.0.10", 80) == now);
  // Each of the two goes and comes back once: it has no clients of before then, whichever rule stands first.
  for (const int round : {0, 1}) {
    const bool was_a = now == "a";
    const auto revision = [&](int k) { return std::to_string(2 + 2 * round + k); };
    node.apply({service}, {make_slice("web", {{was_a ? "10.244.1.3" : "10.244.1.2"}}, 8080, "web", "TCP", "",
                                      revision(0))});
    now = was_a ? "b" : "a";
    CHECK(ask_tcp(node.host, "10.96.0.10", 80) == now);
    node.apply({service},
               {make_slice("web", {{"10.244.1.2"}, {"10.244.1.3"}}, 8080, "web", "TCP", "", revision(1))});
    for (int i = 0; i < 20; ++i) CHECK(ask_tcp(node.host, "10.96.0.10", 80) == now);  // kept, not drawn anew
  }
  node.apply({}, {});
  node.apply({service}, {make_slice("web", {{"10.244.1.2"}}, 8080, "web", "TCP", "", "6")});
  CHECK(ask_tcp(node.host, "10.96.0.10", 80) == "a");
}

TEST_CASE("session affinity outlives the program, a flushed table, and changes of the endpoints") {
  NEEDS_ROOT("session affinity outlives the program, a flushed table, and changes of the endpoints");
  Node node;
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a"), b(node.pod_b, "0.0.0.0", 8080, "b"),
      b2(node.pod_b, "0.0.0.0", 8081, "b2");
  const auto service = make_service(
      "web", "10.96.0.10", {{.node_port = 30080}},
      R"(,"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}})");
  const auto both = make_slice("web", {{"10.244.1.2"}, {"10.244.1.3"}}, 8080);
  const auto one_more = make_slice("web", {{"10.244.1.3"}}, 8081, "web", "TCP", "web-2");
  const auto answers = [&] {
    std::vector<std::string> out;
    for (const auto* from : {&node.host, &node.pod_a, &node.pod_b})
      out.push_back(ask_tcp(*from, "10.96.0.10", 80));
    out.push_back(ask_tcp(node.host, node.network->node_address(), 30080));
    return out;
  };
  node.apply({service}, {both});
  const auto given = answers();
  for (const std::string& one : given) CHECK((one == "a" || one == "b"));
  const auto restart = [&](std::vector<Object> slices) {
    node.proxy.reset();  // the program is gone, the rules serve on
    node.make_proxy();
    CHECK(node.apply({service}, std::move(slices)).full);
  };
  for (int i = 0; i < 5; ++i) {
    restart({both});
    CHECK(answers() == given);
  }
  restart({both, one_more});  // an endpoint came meanwhile
  CHECK(answers() == given);
  node.apply({service}, {both});  // and goes
  CHECK(answers() == given);
  run_nft(node.host, "flush table ip orc_0a1b2c3d");
  for (int i = 0; i < 100 && node.proxy->stats().full_syncs < 2; ++i)
    ask_tcp(node.pod_b, "10.96.0.99", 80, 100);
  REQUIRE(node.proxy->stats().full_syncs == 2);
  CHECK(answers() == given);
  // An endpoint that went meanwhile has no clients when it comes back.
  restart({make_slice("web", {{"10.244.1.3"}}, 8080)});
  const std::vector<std::string> all_b(4, "b");
  CHECK(answers() == all_b);
  node.apply({service}, {both});
  restart({both});
  CHECK(answers() == all_b);
}

TEST_CASE("the address of a load balancer answers only the ranges that the Service names") {
  NEEDS_ROOT("the address of a load balancer answers only the ranges that the Service names");
  Node node;
  const NetworkNamespace outside = make_host();
  wire(node.host, "up0", "192.0.2.1/24", outside, "up1", "192.0.2.2/24");
  net::in_namespace(outside, []() -> Result<void> {
    ORC_ASSIGN(net::RouteSocket routes, net::RouteSocket::open());
    net::Route route;
    route.destination = net::IpRange::parse("203.0.113.10/32").value();
    route.gateway = net::IpAddress::parse("192.0.2.1");
    route.protocol = RTPROT_STATIC;
    return routes.add_route(route);
  }).value();
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a"), b(node.pod_b, "0.0.0.0", 8080, "b");
  const auto service = [](const std::string& ranges, const std::string& more = "") {
    return make_service("web", "10.96.0.10", {{.node_port = 30080}},
                        R"(,"type":"LoadBalancer","loadBalancerSourceRanges":[)" + ranges + "]" + more +
                            R"(},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.10"}]})");
  };
  const auto to_a = make_slice("web", {{"10.244.1.2"}}, 8080),
             to_both = make_slice("web", {{"10.244.1.2"}, {"10.244.1.3"}}, 8080);
  const auto from_outside = [&](int milliseconds = kPatienceMs) {
    return ask_tcp(outside, "203.0.113.10", 80, milliseconds);
  };
  node.apply({service("")}, {to_a});
  CHECK(from_outside() == "a");
  for (const char* more : {"", R"(,"externalTrafficPolicy":"Local")", R"(,"sessionAffinity":"ClientIP")"}) {
    CAPTURE(more);
    node.apply({service(R"("192.0.2.8/29")", more)}, {to_a});
    CHECK(from_outside(300) == "error: timeout");
    CHECK(ask_tcp(node.pod_b, "203.0.113.10", 80, 300) == "error: timeout");  // pods as well
    // The other addresses are for everybody.
    CHECK(ask_tcp(outside, "192.0.2.1", 30080) == "a");
    CHECK(ask_tcp(node.pod_b, "10.96.0.10", 80) == "a");
    node.apply({service(R"("192.0.2.0/30","10.244.1.3/32")", more)}, {to_a});
    CHECK(from_outside() == "a");
    CHECK(ask_tcp(node.pod_b, "203.0.113.10", 80) == "a");
    CHECK(ask_tcp(node.pod_a, "203.0.113.10", 80, 300) == "error: timeout");
    // Endpoints come and go behind it.
    node.apply({service(R"("192.0.2.0/30")", more)}, {to_both});
    std::set<std::string> seen;
    for (int i = 0; i < 30; ++i) seen.insert(from_outside());
    CHECK(seen.size() == (std::string(more).find("ClientIP") == std::string::npos ? 2 : 1));
    CHECK_FALSE(node.apply({service(R"("192.0.2.0/30")", more)}, {to_a}).full);
    CHECK(from_outside() == "a");
  }
  CHECK(node.proxy->explain("203.0.113.10:80/tcp")
            .value()
            .find("only from 192.0.2.0/30 (loadBalancerSourceRanges)\n") != std::string::npos);
  node.apply({service("")}, {to_a});
  CHECK(from_outside() == "a");
}

TEST_CASE("with externalTrafficPolicy Local a pod sees the client's own address, else the node's") {
  NEEDS_ROOT("with externalTrafficPolicy Local a pod sees the client's own address, else the node's");
  Node node;
  const NetworkNamespace outside = make_host();
  wire(node.host, "up0", "192.0.2.1/24", outside, "up1", "192.0.2.2/24");
  TcpAnswerer a(node.pod_a, "0.0.0.0", 8080, "a");
  const auto service = [](const char* policy) {
    return make_service("web", "10.96.0.10", {{.node_port = 30080}},
                        std::string(R"(,"type":"NodePort","externalTrafficPolicy":")") + policy + "\"");
  };
  node.apply({service("Cluster")}, {make_slice("web", {{"10.244.1.2"}}, 8080)});
  CHECK(ask_tcp(outside, "192.0.2.1", 30080) == "a");
  CHECK(a.last_client() == "10.244.1.1");
  node.apply({service("Local")}, {make_slice("web", {{"10.244.1.2"}}, 8080)});
  CHECK(ask_tcp(outside, "192.0.2.1", 30080) == "a");
  CHECK(a.last_client() == "192.0.2.2");
}
