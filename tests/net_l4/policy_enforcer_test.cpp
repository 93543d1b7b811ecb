// NetworkPolicies on a test host of its own: packets between real pods, not our own counters.
#include "orchestra/policy_enforcer.hpp"
#include "api/pod_attacher.hpp"
#include "tests/net_l4/net_lab.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {

struct Guarded {
  Engine engine;
  TempDir data;
  NetworkNamespace host = make_host();
  std::shared_ptr<PodNetwork> network;
  std::shared_ptr<PolicyEnforcer> enforcer;
  NetworkNamespace a = NetworkNamespace::create().value(), b = NetworkNamespace::create().value();

  explicit Guarded(const std::string& cluster_cidr6 = "") {
    PodNetworkOptions options;
    options.data_dir = data.path();
    options.instance = "0a1b2c3e";
    options.pod_cidr = "10.244.1.0/24";
    options.cluster_cidr = "10.244.0.0/16";
    options.cluster_cidr6 = cluster_cidr6;
    options.name_space = host;
    network = PodNetwork::open(engine, options).value();
    network->attacher()->attach({"uid-a", "shop", "a", a.fd()}).wait(60s).value();
    network->attacher()->attach({"uid-b", "shop", "b", b.fd()}).wait(60s).value();
    auto made = PolicyEnforcer::create(engine, {.node = "n1",
                                                .instance = "0a1b2c3e",
                                                .pod_cidr = "10.244.1.0/24",
                                                .cluster_cidr6 = cluster_cidr6,
                                                .name_space = host});
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    enforcer = *made;
  }
  ~Guarded() {
    CHECK(enforcer->teardown().wait(60s));
    CHECK(network->teardown().wait(60s));
    CHECK(ruleset(host).empty());
  }
  /// Pods a and b of namespace shop (b only if `with_b`), and these policies.
  PolicyApplyResult apply(const std::vector<std::string>& specs, bool with_b = true) {
    const auto pod = [](const std::string& name, const std::string& address) {
      return from_text(
          R"({"kind":"Pod","metadata":{"name":")" + name + R"(","namespace":"shop","labels":{"app":")" +
          name +
          R"("}},"spec":{"nodeName":"n1","containers":[{"name":"c","ports":[{"name":"http","containerPort":8080}]}]},)" +
          R"("status":{"phase":"Running","podIP":")" + address + R"("}})");
    };
    NetworkInputs inputs;
    inputs.namespaces = {{from_text(R"({"kind":"Namespace","metadata":{"name":"shop"}})")}, true};
    inputs.pods = {{pod("a", "10.244.1.2")}, true};
    if (with_b) inputs.pods.objects.push_back(pod("b", "10.244.1.3"));
    for (std::size_t i = 0; i < specs.size(); ++i) {
      inputs.network_policies.objects.push_back(
          from_text(R"({"kind":"NetworkPolicy","metadata":{"name":"p)" + std::to_string(i) +
                    R"(","namespace":"shop"},"spec":)" + specs[i] + "}"));
    }
    inputs.network_policies.synced = true;
    auto done = enforcer->apply(NetworkSnapshot::build(inputs)).wait(60s);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    return *done;
  }
};

const std::string kDeny = R"({"podSelector":{"matchLabels":{"app":"b"}}})";
const std::string kFromA = R"({"podSelector":{"matchLabels":{"app":"b"}},"ingress":[
    {"from":[{"podSelector":{"matchLabels":{"app":"a"}}}],"ports":[{"port":"http"}]}]})";
const std::string kUdpFromA = R"({"podSelector":{"matchLabels":{"app":"b"}},"ingress":[
    {"from":[{"podSelector":{"matchLabels":{"app":"a"}}}],"ports":[{"port":9000,"protocol":"UDP"}]}]})";

}  // namespace

TEST_CASE("a policy closes a pod, opens what it names, and explains and counts it") {
  NEEDS_ROOT("a policy closes a pod, opens what it names, and explains and counts it");
  Guarded node;
  TcpAnswerer web(node.b, "0.0.0.0", 8080, "web"), other(node.b, "0.0.0.0", 8081, "other");
  UdpAnswerer udp(node.b, "0.0.0.0", 8080, "udp");
  node.apply({});
  CHECK(ask_tcp(node.a, "10.244.1.3", 8081) == "other");
  const auto denied = node.apply({kDeny});
  CHECK(denied.rewritten);
  CHECK(denied.pods == 1);
  CHECK(ask_tcp(node.a, "10.244.1.3", 8080, 200) == "error: timeout");
  CHECK(ask_udp(node.a, "10.244.1.3", 8080, 200) == "error: timeout");
  CHECK(ask_tcp(node.host, "10.244.1.3", 8080) == "web");  // the pod's own node: probes
  CHECK(ask_tcp(node.b, "10.244.1.3", 8080) == "web");     // itself
  node.apply({kDeny, kFromA});
  CHECK(ask_tcp(node.a, "10.244.1.3", 8080) == "web");
  CHECK(ask_tcp(node.a, "10.244.1.3", 8081, 200) == "error: timeout");
  CHECK(ask_udp(node.a, "10.244.1.3", 8080, 200) == "error: timeout");
  CHECK(node.enforcer->explain({"10.244.1.2", "10.244.1.3", IpProtocol::tcp, 8080})
            ->why.find("ingress rule 1 of policy shop/p1 allows it") != std::string::npos);
  CHECK_FALSE(node.enforcer->explain({"10.244.1.2", "10.244.1.3", IpProtocol::tcp, 8081})->allowed);
  const auto counters = node.enforcer->counters().wait(60s);
  REQUIRE(counters.has_value());
  std::uint64_t packets = 0;
  for (const PolicyCounter& one : *counters) {
    if (one.policy.name == "p1" && one.direction == "ingress") packets += one.packets;
  }
  CHECK(packets == 1);
  node.apply({});
  CHECK(ask_tcp(node.a, "10.244.1.3", 8081) == "other");
}

TEST_CASE("ports of SCTP are opened apart from those of TCP, and what a change denies is cut") {
  NEEDS_ROOT("ports of SCTP are opened apart from those of TCP, and what a change denies is cut");
  Guarded node;
  TcpAnswerer web(node.b, "0.0.0.0", 3868, "web");
  SctpAnswerer peer(node.b, 3868, "peer"), other(node.b, 3869, "other");
  node.apply({});
  CHECK(ask_sctp(node.a, "10.244.1.3", 3869) == "other");
  CHECK(node.apply({kDeny}).connections_cut == 1);
  CHECK(ask_sctp(node.a, "10.244.1.3", 3868, 200) == "error: timeout");
  node.apply({kDeny, R"({"podSelector":{"matchLabels":{"app":"b"}},"ingress":[
      {"from":[{"podSelector":{}}],"ports":[{"port":3868,"protocol":"SCTP"}]}]})"});
  CHECK(ask_sctp(node.a, "10.244.1.3", 3868) == "peer");
  CHECK(ask_sctp(node.a, "10.244.1.3", 3869, 200) == "error: timeout");
  CHECK(ask_tcp(node.a, "10.244.1.3", 3868, 200) == "error: timeout");
  CHECK(node.enforcer->explain({"10.244.1.2", "10.244.1.3", IpProtocol::sctp, 3868})->allowed);
}

TEST_CASE("a pod that comes or goes is a few elements, and a pod nobody knows yet is closed") {
  NEEDS_ROOT("a pod that comes or goes is a few elements, and a pod nobody knows yet is closed");
  Guarded node;
  TcpAnswerer web(node.b, "0.0.0.0", 8080, "web");
  node.apply({kFromA}, false);
  CHECK(ask_tcp(node.a, "10.244.1.3", 8080, 200) == "error: timeout");  // b is not in the snapshot
  const auto came = node.apply({kFromA});
  CHECK(came.rewritten);  // its chain is new
  CHECK(ask_tcp(node.a, "10.244.1.3", 8080) == "web");
  const auto same = node.apply({kFromA});
  CHECK_FALSE(same.rewritten);
  CHECK(same.elements == 0);
}

TEST_CASE("a connection that a change denies is cut, and rules that somebody removed come back") {
  NEEDS_ROOT("a connection that a change denies is cut, and rules that somebody removed come back");
  Guarded node;
  UdpAnswerer udp(node.b, "0.0.0.0", 9000, "udp");
  node.apply({});
  UdpClient client(node.a, "10.244.1.3", 9000);
  CHECK(client.ask() == "udp");
  const auto denied = node.apply({kDeny});
  CHECK(denied.connections_cut >= 1);
  CHECK(client.ask(200) == "error: timeout");
  run_nft(node.host, "delete table ip orc_0a1b2c3e_np");
  const auto end = std::chrono::steady_clock::now() + 20s;
  // A socket of its own for each question: an answer that is on its way while the rules come back makes a
  // connection from b to a, which is allowed, and the same socket's questions would be replies of it.
  std::string answer;
  do {
    answer = ask_udp(node.a, "10.244.1.3", 9000, 200);
  } while (answer != "error: timeout" && std::chrono::steady_clock::now() < end);
  CHECK(answer == "error: timeout");
  CHECK(ruleset(node.host).find("orc_0a1b2c3e_np") != std::string::npos);
}

TEST_CASE("by IPv6 a pod may do what it may do by IPv4; blocks of addresses are about their own family") {
  NEEDS_ROOT("by IPv6 a pod may do what it may do by IPv4; blocks of addresses are about their own family");
  Guarded node("fd00:10:244::/96");
  const std::string b = "fd00:10:244::af4:103";
  TcpAnswerer web(node.b, "::", 8080, "web");
  node.apply({});
  CHECK(ask_tcp(node.a, b, 8080) == "web");
  node.apply({kDeny});
  CHECK(ask_tcp(node.a, b, 8080, 300) == "error: timeout");
  CHECK(ask_tcp(node.host, b, 8080) == "web");  // the pod's own node
  node.apply({kDeny, kFromA});
  CHECK(ask_tcp(node.a, b, 8080) == "web");
  CHECK(ask_tcp(node.a, "10.244.1.3", 8080) == "web");
  node.apply(
      {R"({"podSelector":{"matchLabels":{"app":"b"}},"ingress":[{"from":[{"ipBlock":{"cidr":"0.0.0.0/0"}}]}]})"});
  CHECK(ask_tcp(node.a, "10.244.1.3", 8080) == "web");
  CHECK(ask_tcp(node.a, b, 8080, 300) == "error: timeout");
  const auto from_block = [](const std::string& block) {
    return R"({"podSelector":{"matchLabels":{"app":"b"}},"ingress":[{"from":[{"ipBlock":)" + block + "}]}]}";
  };
  node.apply({from_block(R"({"cidr":"fd00:10:244::/96"})")});
  CHECK(ask_tcp(node.a, b, 8080) == "web");
  CHECK(ask_tcp(node.a, "10.244.1.3", 8080, 300) == "error: timeout");
  node.apply({from_block(R"({"cidr":"fd00:10:244::/96","except":["fd00:10:244::af4:102/128"]})")});
  CHECK(ask_tcp(node.a, b, 8080, 300) == "error: timeout");
  node.apply({kDeny}, false);  // b is not known yet: closed from birth
  CHECK(ask_tcp(node.a, b, 8080, 300) == "error: timeout");
}

TEST_CASE("a connection by IPv6 that a change denies is cut, too, and one that stays allowed is not") {
  NEEDS_ROOT("a connection by IPv6 that a change denies is cut, too, and one that stays allowed is not");
  Guarded node("fd00:10:244::/96");
  UdpAnswerer udp(node.b, "::", 9000, "udp");
  node.apply({});
  UdpClient client(node.a, "fd00:10:244::af4:103", 9000);
  CHECK(client.ask() == "udp");
  CHECK(node.apply({kDeny, kUdpFromA}).connections_cut == 0);
  CHECK(client.ask() == "udp");
  CHECK(node.apply({R"({"podSelector":{"matchLabels":{"app":"b"}},"ingress":[
      {"from":[{"ipBlock":{"cidr":"fd00:10:244::/96"}}]}]})"})
            .connections_cut == 0);
  CHECK(client.ask() == "udp");
  CHECK(node.apply({kDeny}).connections_cut >= 1);
  CHECK(client.ask(200) == "error: timeout");
}
