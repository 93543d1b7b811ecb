// The compiled policy program against the plain meaning of the policies, and the meaning row by row.
#include <random>

#include "net/policy/program.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;

namespace {

const IpRange kLocal = IpRange::parse("10.244.1.0/24").value();

Object pod(const std::string& ns, const std::string& name, const std::string& labels,
           const std::string& address, const std::string& node, const std::string& ports = "",
           const std::string& more = "", const std::string& phase = "Running") {
  return from_text(R"({"kind":"Pod","metadata":{"name":")" + name + R"(","namespace":")" + ns +
                   R"(","labels":)" + labels + R"(},"spec":{"nodeName":")" + node + "\"" + more +
                   R"(,"containers":[{"name":"c","ports":[)" + ports + R"(]}]},"status":{"phase":")" + phase +
                   R"(","podIP":")" + address + R"("}})");
}
Object space(const std::string& name, const std::string& labels) {
  return from_text(R"({"kind":"Namespace","metadata":{"name":")" + name + R"(","labels":)" + labels + "}}");
}
Object policy(const std::string& ns, const std::string& name, const std::string& spec) {
  return from_text(R"({"kind":"NetworkPolicy","metadata":{"name":")" + name + R"(","namespace":")" + ns +
                   R"("},"spec":)" + spec + "}");
}

/// Namespace shop: web (two, one elsewhere) and db; namespace ops: probe.
std::shared_ptr<const NetworkSnapshot> shop(std::vector<Object> policies) {
  NetworkInputs inputs;
  inputs.namespaces = {{space("shop", R"({"team":"shop"})"), space("ops", R"({"team":"ops"})")}, true};
  inputs.pods = {
      {pod("shop", "web", R"({"app":"web"})", "10.244.1.2", "n1", R"({"name":"http","containerPort":8080})"),
       pod("shop", "web2", R"({"app":"web"})", "10.244.2.2", "n2", R"({"name":"http","containerPort":9090})"),
       pod("shop", "db", R"({"app":"db"})", "10.244.1.3", "n1"),
       pod("ops", "probe", R"({"app":"probe"})", "10.244.1.4", "n1"),
       pod("shop", "done", R"({"app":"web"})", "10.244.1.5", "n1", "", "", "Succeeded"),
       pod("shop", "host", R"({"app":"web"})", "10.0.0.1", "n1", "", R"(,"hostNetwork":true)")},
      true};
  inputs.network_policies = {std::move(policies), true};
  return NetworkSnapshot::build(inputs);
}

bool open(const NetworkSnapshot& snapshot, const std::string& from, const std::string& to, int port,
          IpProtocol protocol = IpProtocol::tcp) {
  const PolicySet set = PolicySet::read(snapshot);
  const auto number = static_cast<std::uint16_t>(port);
  const bool meant = evaluate(set, snapshot, {from, to, protocol, number}).allowed;
  // Each end is enforced by its own node.
  bool done = true;
  for (const auto& [node, range] : {std::pair{"n1", "10.244.1.0/24"}, {"n2", "10.244.2.0/24"}}) {
    done = done && PolicyProgram::compile(set, snapshot, node)
                       .accept(IpAddress::parse(from)->v4_number(), IpAddress::parse(to)->v4_number(),
                               protocol, number, IpRange::parse(range).value());
  }
  CHECK(meant == done);
  return meant;
}

const std::string kWeb = "10.244.1.2", kWeb2 = "10.244.2.2", kDb = "10.244.1.3", kProbe = "10.244.1.4",
                  kOutside = "192.0.2.7";

}  // namespace

TEST_CASE("without a policy everything passes; one that selects a pod closes only its directions") {
  CHECK(open(*shop({}), kProbe, kDb, 5432));
  const auto deny = shop({policy("shop", "deny", R"({"podSelector":{"matchLabels":{"app":"db"}}})")});
  CHECK_FALSE(open(*deny, kWeb, kDb, 5432));
  CHECK_FALSE(open(*deny, kOutside, kDb, 5432));
  CHECK(open(*deny, kDb, kWeb, 80));     // egress stays open: no egress rules, no policyTypes
  CHECK(open(*deny, kDb, kDb, 5432));    // a pod reaches itself
  CHECK(open(*deny, kWeb, kProbe, 80));  // not selected
}

TEST_CASE("rules are ORed, peers and ports of one rule are ANDed, selectors of one peer are ANDed") {
  const auto snapshot = shop({policy("shop", "db", R"({"podSelector":{"matchLabels":{"app":"db"}},"ingress":[
    {"from":[{"podSelector":{"matchLabels":{"app":"web"}}}],"ports":[{"port":5432}]},
    {"from":[{"namespaceSelector":{"matchLabels":{"team":"ops"}},"podSelector":{"matchLabels":{"app":"probe"}}}]},
    {"from":[{"ipBlock":{"cidr":"192.0.2.0/24","except":["192.0.2.128/25"]}}],"ports":[{"port":1000,"endPort":2000}]}]})")});
  CHECK(open(*snapshot, kWeb, kDb, 5432));
  CHECK(open(*snapshot, kWeb2, kDb, 5432));
  CHECK_FALSE(open(*snapshot, kWeb, kDb, 5433));
  CHECK_FALSE(open(*snapshot, kWeb, kDb, 5432, IpProtocol::udp));
  CHECK(open(*snapshot, kProbe, kDb, 1));
  CHECK(open(*snapshot, kOutside, kDb, 1000));
  CHECK(open(*snapshot, kOutside, kDb, 2000));
  CHECK_FALSE(open(*snapshot, kOutside, kDb, 2001));
  CHECK_FALSE(open(*snapshot, "192.0.2.200", kDb, 1500));
  CHECK_FALSE(open(*snapshot, "10.244.1.5", kDb, 5432));  // a finished pod is nobody, its address unknown
}

TEST_CASE("a port by name is the receiving pod's own, in both directions") {
  const auto in = shop({policy("shop", "web", R"({"podSelector":{"matchLabels":{"app":"web"}},
      "ingress":[{"ports":[{"port":"http"}]}]})")});
  CHECK(open(*in, kDb, kWeb, 8080));
  CHECK_FALSE(open(*in, kDb, kWeb, 9090));
  CHECK(open(*in, kDb, kWeb2, 9090));
  const auto out =
      shop({policy("shop", "db", R"({"podSelector":{"matchLabels":{"app":"db"}},"policyTypes":["Egress"],
      "egress":[{"to":[{"podSelector":{}}],"ports":[{"port":"http"}]}]})")});
  CHECK(open(*out, kDb, kWeb, 8080));
  CHECK(open(*out, kDb, kWeb2, 9090));
  CHECK_FALSE(open(*out, kDb, kWeb, 80));
  CHECK(open(*out, kWeb, kDb, 80));
}

TEST_CASE("egress of the sender and ingress of the receiver must both allow") {
  const std::string all_out = R"({"podSelector":{},"policyTypes":["Egress"],"egress":[{}]})";
  const std::string none_out = R"({"podSelector":{"matchLabels":{"app":"web"}},"policyTypes":["Egress"]})";
  const std::string none_in =
      R"({"podSelector":{"matchLabels":{"app":"db"}},"policyTypes":["Ingress"],"ingress":[]})";
  CHECK(open(*shop({policy("shop", "a", all_out)}), kWeb, kDb, 1));
  CHECK_FALSE(open(*shop({policy("shop", "a", none_out)}), kWeb, kDb, 1));
  CHECK(open(*shop({policy("shop", "a", none_out), policy("shop", "b", all_out)}), kWeb, kDb, 1));
  CHECK_FALSE(open(*shop({policy("shop", "a", all_out), policy("shop", "b", none_in)}), kWeb, kDb, 1));
  CHECK_FALSE(open(*shop({policy("shop", "a", none_out)}), kWeb, kOutside, 443));
}

TEST_CASE("an address of the node that no pod is known for is closed as soon as there are policies") {
  const std::string unknown = "10.244.1.77";
  const auto quiet = shop({});
  const auto strict = shop({policy("ops", "x", R"({"podSelector":{}})")});
  const auto accepts = [&](const NetworkSnapshot& snapshot, const std::string& from, const std::string& to) {
    return PolicyProgram::compile(PolicySet::read(snapshot), snapshot, "n1")
        .accept(IpAddress::parse(from)->v4_number(), IpAddress::parse(to)->v4_number(), IpProtocol::tcp, 80,
                kLocal);
  };
  CHECK(accepts(*quiet, unknown, kWeb));
  CHECK_FALSE(accepts(*strict, unknown, kWeb));
  CHECK_FALSE(accepts(*strict, kWeb, unknown));
}

TEST_CASE("what cannot be read allows nothing and is named") {
  std::vector<NetworkRejection> rejected;
  const Policy read =
      parse_policy(policy("shop", "p", R"({"podSelector":{"matchExpressions":[{"key":"a","operator":"Near"}]},
    "ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/99"}}]},{"ports":[{"port":9,"endPort":3}]},{"ports":[{"protocol":"ICMP"}]},{}]})"),
                   rejected);
  CHECK(read.pods.empty());  // every pod
  CHECK(read.ingress_rules.size() == 1);
  REQUIRE(rejected.size() == 4);
  CHECK(rejected[0].reason == "InvalidSelector");
  CHECK(rejected[1].message.find("spec/ingress[0] allows nothing") == 0);
  CHECK(rejected[2].message ==
        "spec/ingress[1] allows nothing: ports 9-3 do not lie in order between 1 and 65535");
  CHECK(rejected[3].message == "spec/ingress[2] allows nothing: protocol \"ICMP\" is not TCP, UDP or SCTP");
}

TEST_CASE("the verdict names the policy and the rule, or their absence") {
  const auto snapshot = shop({policy("shop", "db", R"({"podSelector":{"matchLabels":{"app":"db"}},
      "ingress":[{"ports":[{"port":1}]},{"from":[{"podSelector":{"matchLabels":{"app":"web"}}}]}]})")});
  const PolicySet set = PolicySet::read(*snapshot);
  CHECK(evaluate(set, *snapshot, {kWeb, kDb, IpProtocol::tcp, 5432}).why ==
        "no policy limits the egress of pod shop/web; ingress rule 2 of policy shop/db allows it");
  CHECK(evaluate(set, *snapshot, {kProbe, kDb, IpProtocol::tcp, 5432}).why ==
        "no ingress rule of the policies of pod shop/db (shop/db) allows it");
  CHECK(evaluate(set, *snapshot, {kOutside, "192.0.2.8", IpProtocol::tcp, 1}).why == "neither end is a pod");
}

namespace {
/// Random policies over a handful of labels, ports and blocks, so that rules often meet.
class Randomly {
 public:
  explicit Randomly(std::uint64_t seed) : engine_(seed) {}
  int below(int n) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(n)); }
  bool coin() { return below(2) == 0; }
  std::string labels() {
    return R"({"a":")" + std::to_string(below(3)) + R"(","b":")" + std::to_string(below(2)) + R"("})";
  }
  std::string selector() {
    switch (below(4)) {
      case 0:
        return "{}";
      case 1:
        return R"({"matchLabels":{"a":")" + std::to_string(below(3)) + R"("}})";
      case 2:
        return R"({"matchExpressions":[{"key":"b","operator":"NotIn","values":[")" +
               std::to_string(below(2)) + R"("]}]})";
      default:
        return R"({"matchExpressions":[{"key":"c","operator":"DoesNotExist"}]})";
    }
  }
  std::string peer() {
    switch (below(4)) {
      case 0:
        return R"({"podSelector":)" + selector() + "}";
      case 1:
        return R"({"namespaceSelector":)" + selector() + "}";
      case 2:
        return R"({"namespaceSelector":)" + selector() + R"(,"podSelector":)" + selector() + "}";
      default:
        return R"({"ipBlock":{"cidr":"10.244.0.0/16","except":["10.244.)" + std::to_string(1 + below(2)) +
               R"(.0/29"]}})";
    }
  }
  std::string port() {
    const int which = below(5);
    const std::string protocol = which < 2    ? R"("protocol":"UDP",)"
                                 : which == 2 ? R"("protocol":"SCTP",)"
                                              : "";
    switch (below(4)) {
      case 0:
        return "{" + protocol + R"("port":"http"})";
      case 1:
        return "{" + protocol + R"("port":80})";
      case 2:
        return "{" + protocol + R"("port":80,"endPort":8080})";
      default:
        return protocol.empty() ? "{}" : "{" + protocol.substr(0, protocol.size() - 1) + "}";
    }
  }
  std::string list(const std::string& name, std::string (Randomly::*item)()) {
    std::string out;
    for (int i = below(3); i > 0; --i) out += (out.empty() ? "" : ",") + (this->*item)();
    return out.empty() ? "" : "\"" + name + "\":[" + out + "]";
  }
  std::string rules(const std::string& peers) {
    std::string out;
    for (int i = below(3); i > 0; --i) {
      const std::string from = list(peers, &Randomly::peer), ports = list("ports", &Randomly::port);
      out += (out.empty() ? "{" : ",{") + from + (from.empty() || ports.empty() ? "" : ",") + ports + "}";
    }
    return "[" + out + "]";
  }
  std::string spec() {
    std::string out = R"({"podSelector":)" + selector();
    if (coin()) out += R"(,"ingress":)" + rules("from");
    if (coin()) out += R"(,"egress":)" + rules("to");
    if (coin()) out += coin() ? R"(,"policyTypes":["Egress"])" : R"(,"policyTypes":["Ingress","Egress"])";
    return out + "}";
  }

 private:
  std::mt19937_64 engine_;
};
}  // namespace

TEST_CASE("on random clusters the program of each node does what the policies say") {
  const char* more = std::getenv("ORCHESTRA_LONG");
  const std::uint64_t seeds = more != nullptr && *more != '\0' ? 20'000 : 150;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    Randomly random(seed);
    NetworkInputs inputs;
    std::vector<std::string> addresses{"192.0.2.1", "10.244.3.9"};
    for (const char* name : {"x", "y", "z"})
      inputs.namespaces.objects.push_back(space(name, random.labels()));
    for (int i = 0; i < 10; ++i) {
      const int node = 1 + random.below(2);
      const std::string address = "10.244." + std::to_string(node) + "." + std::to_string(2 + i);
      addresses.push_back(address);
      inputs.pods.objects.push_back(pod(std::string(1, "xyz"[random.below(3)]), "p" + std::to_string(i),
                                        random.labels(), address, "n" + std::to_string(node),
                                        random.coin() ? R"({"name":"http","containerPort":)" +
                                                            std::to_string(random.coin() ? 80 : 8081) + "}"
                                                      : ""));
    }
    for (int i = 1 + random.below(5); i > 0; --i)
      inputs.network_policies.objects.push_back(
          policy(std::string(1, "xyz"[random.below(3)]), "p" + std::to_string(i), random.spec()));
    inputs.pods.synced = inputs.namespaces.synced = inputs.network_policies.synced = true;
    const auto snapshot = NetworkSnapshot::build(inputs);
    for (const std::string& from : addresses) {
      for (const std::string& to : addresses) {
        for (const int port : {80, 443, 8081}) {
          CAPTURE(from + " -> " + to + ":" + std::to_string(port));
          open(*snapshot, from, to, port, static_cast<IpProtocol>(random.below(3)));
        }
      }
    }
  }
}
