// The rule plan against a model of the kernel's maps: after any change the maps hold exactly what a full
// compile gives, and no batch adds what is there or removes what is not.
#include <random>

#include "net/lb/nft_netlink.hpp"
#include "net/lb/rule_plan.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::net;
using namespace orchestra::test;

namespace {

using Key = std::tuple<MapKind, std::uint16_t, IpAddress, IpAddress, IpProtocol, std::uint16_t>;
using Value = std::tuple<std::string, IpAddress, std::uint16_t>;

Key key_of(const RuleElement& element) { return Key(element.key()); }

struct KernelModel {
  std::map<Key, Value> maps;
  std::map<std::string, std::size_t> chains;
  void apply(const RuleBatch& batch) {
    if (batch.full) {
      maps.clear();
      chains.clear();
    }
    for (const auto& chain : batch.chains_before) chains[chain.name] = chain.count;
    for (const auto& element : batch.removed) REQUIRE(maps.erase(key_of(element)) == 1);
    for (const auto& element : batch.added) {
      const Value value{element.chain, element.to_address, element.to_port};
      REQUIRE(maps.emplace(key_of(element), value).second);
    }
    check_targets();  // while chains that grow are still short
    for (const auto& chain : batch.chains_after) chains[chain.name] = chain.count;
    for (const auto& object : batch.objects_removed) {
      if (object.rfind("chain s_", 0) == 0) REQUIRE(chains.erase(object.substr(6)) == 1);
    }
    check_targets();
  }
  /// Every verdict leads to as many endpoints as it may pick.
  void check_targets() const {
    for (const auto& [key, value] : maps) {
      const auto map = std::get<0>(key);
      if (map == MapKind::near_service || map == MapKind::near_node) {
        REQUIRE(chains.count(std::get<0>(value)) == 1);
        REQUIRE(chains.at(std::get<0>(value)) > 0);
      }
      if (map != MapKind::service && map != MapKind::node_service) continue;
      const std::string& chain = std::get<0>(value);
      std::size_t count = 0;
      if (chain.rfind("s_", 0) == 0) {
        REQUIRE(chains.count(chain) == 1);
        count = chains.at(chain);
      } else {
        count = std::stoul(chain.substr(chain.find('n', chain.rfind("np_", 0) == 0 ? 3 : 0) + 1));
      }
      for (std::size_t k = 0; k < count; ++k) {
        Key endpoint = key;
        std::get<0>(endpoint) = map == MapKind::service ? MapKind::endpoint : MapKind::node_endpoint;
        std::get<1>(endpoint) = static_cast<std::uint16_t>(k);
        REQUIRE(maps.count(endpoint) == 1);
      }
    }
  }
};

/// Services as they might be: few names, few addresses, so that changes collide.
std::shared_ptr<NetworkService> random_service(std::mt19937& random, int number) {
  const auto below = [&](unsigned bound) { return static_cast<int>(random() % bound); };
  auto service = std::make_shared<NetworkService>();
  service->ns = "default";
  service->name = "s" + std::to_string(number);
  service->headless = below(10) == 0;
  service->cluster_ips = {"10.96.0." + std::to_string(number + 1)};
  if (below(3) == 0) service->annotations["orchestra.dev/load-balance"] = "round_robin";
  service->internal_local = below(5) == 0;
  service->external_local = below(3) == 0;
  service->affinity_client_ip = below(6) == 0;
  if (below(3) == 0) service->load_balancer_ips = {"198.19.0." + std::to_string(number + 1)};
  if (below(2) == 0) service->source_ranges = {"192.0.2.0/2" + std::to_string(4 + below(3)), "10.0.0.0/8"};
  if (below(3) == 0) service->external_ips = {"198.18.0." + std::to_string(number + 1)};
  for (int i = 0, count = below(3); i < count; ++i) {
    NetworkServicePort port;
    port.name = "p" + std::to_string(i);
    port.port = static_cast<std::uint16_t>(80 + i);
    port.protocol = below(4) == 0 ? IpProtocol::udp : below(8) == 0 ? IpProtocol::sctp : IpProtocol::tcp;
    if (below(3) == 0) port.node_port = static_cast<std::uint16_t>(30000 + number * 4 + i);
    for (int e = 0, endpoints = below(5); e < endpoints; ++e) {
      NetworkEndpoint endpoint;
      endpoint.address = "10.244.1." + std::to_string(2 + below(6));
      endpoint.port = static_cast<std::uint16_t>(8080 + e);
      endpoint.ready = below(4) != 0;
      endpoint.node = below(2) == 0 ? "n1" : "n2";
      port.endpoints.push_back(endpoint);
    }
    service->ports.push_back(port);
  }
  return service;
}

}  // namespace

TEST_CASE("applying differences gives the same maps as compiling everything") {
  std::mt19937 random(20261123);
  RulePlan plan("n1");
  KernelModel kernel;
  NetworkSnapshot snapshot;
  for (int step = 0; step < 3000; ++step) {
    const int number = static_cast<int>(random() % 8);
    const NamespacedName name{"default", "s" + std::to_string(number)};
    if (random() % 5 == 0) {
      snapshot.services.erase(name);
    } else {
      snapshot.services.set(name, random_service(random, number));
    }
    kernel.apply(plan.update(snapshot));
    if (step % 10 != 0) continue;
    RulePlan fresh("n1");
    KernelModel expected;
    const auto full = fresh.update(snapshot);
    CHECK(full.full);
    expected.apply(full);
    REQUIRE(kernel.maps == expected.maps);
    REQUIRE(kernel.chains == expected.chains);
    if (random() % 50 == 0) plan.forget();
  }
}

TEST_CASE("only pods of this node, and those of no known node, can meet themselves") {
  const auto snapshot = make_snapshot(
      {make_service("web", "10.96.0.10", {{}})},
      {make_slice(
          "web",
          {{"10.244.1.2"}, {"10.244.2.2", true, true, false, "n2"}, {"10.244.3.2", true, true, false, ""}},
          8080)});
  RulePlan plan("n1");
  std::string hairpins;
  for (const RuleElement& element : plan.update(*snapshot).added) {
    if (element.map == MapKind::hairpin) hairpins += element.address.to_string() + " ";
  }
  CHECK(hairpins == "10.244.1.2 10.244.3.2 ");
}

TEST_CASE("an unchanged snapshot changes nothing, and a forgotten plan writes everything") {
  const auto snapshot =
      make_snapshot({make_service("web", "10.96.0.10", {{}})}, {make_slice("web", {{"10.244.1.2"}}, 8080)});
  RulePlan plan("n1");
  CHECK(plan.update(*snapshot).added.size() == 4);  // svc, e0, vips, hair
  CHECK(plan.update(*snapshot).empty());
  plan.forget();
  CHECK(plan.update(*snapshot).added.size() == 4);
}

TEST_CASE("a node that moves to another zone takes the endpoints of that zone") {
  NetworkSnapshot snapshot;
  auto service = std::make_shared<NetworkService>();
  service->ns = "default";
  service->name = "web";
  service->cluster_ips = {"10.96.0.10"};
  NetworkServicePort port;
  port.port = 80;
  for (const auto& [address, zone] : {std::pair{"10.244.1.2", "a"}, {"10.244.2.2", "b"}}) {
    NetworkEndpoint endpoint;
    endpoint.address = address;
    endpoint.port = 8080;
    endpoint.for_zones = {zone};
    port.endpoints.push_back(endpoint);
  }
  service->ports = {port};
  snapshot.services.set({"default", "web"}, service);
  RulePlan plan("n1");
  const auto leads_to = [&](const char* zone) {
    auto node = std::make_shared<NetworkNode>();
    node->name = "n1";
    node->zone = zone;
    snapshot.nodes.set({"", "n1"}, node);
    const RuleBatch batch = plan.update(snapshot);
    std::string out;
    for (const RuleElement& element : batch.added) {
      if (element.map == MapKind::endpoint) out += element.to_address.to_string() + " ";
    }
    return out;
  };
  CHECK(leads_to("a") == "10.244.1.2 ");
  CHECK(leads_to("a").empty());
  CHECK(leads_to("b") == "10.244.2.2 ");
  CHECK(leads_to("") == "10.244.1.2 10.244.2.2 ");
}

TEST_CASE("what cannot be served is reported per Service") {
  const auto rejected = [](const Object& service) {
    std::string out;
    RulePlan plan("n1");
    for (const auto& rejection : plan.update(*make_snapshot({service}, {})).rejected)
      out += rejection.reason + " ";
    return out;
  };
  CHECK(rejected(make_service("a", "10.96.0.1", {{"x", 80, 0, "SCTP"}})).empty());
  CHECK(rejected(make_service("a", "fd00::1", {{}})) == "UnsupportedAddress ");
  CHECK(rejected(make_service("a", "10.96.0.1", {{}}, "", R"({"orchestra.dev/load-balance":"least"})")) ==
        "InvalidAnnotation ");
  CHECK(rejected(make_service("a", "None", {{}})).empty());
}

TEST_CASE(
    "pods and the node have rules of their own for outside addresses under a Local policy, others none") {
  const auto near_of = [](const char* policy, const char* node) {
    const auto service = make_service(
        "web", "10.96.0.10", {{.node_port = 30080}},
        std::string(R"(,"externalIPs":["198.18.0.1"],"externalTrafficPolicy":")") + policy + "\"");
    RulePlan plan(node);
    const auto batch = plan.update(*make_snapshot({service}, {make_slice("web", {{"10.244.1.2"}}, 8080)}));
    std::string out;
    for (const RuleElement& element : batch.added) {
      if (element.map == MapKind::near_service) out += "address ";
      if (element.map == MapKind::near_node) out += "node ";
    }
    for (const ServiceChain& chain : batch.chains_before) {
      for (const auto& [address, port] : chain.targets)
        out += address.to_string() + ":" + std::to_string(port);
    }
    return out;
  };
  CHECK(near_of("Cluster", "n1") == "");
  CHECK(near_of("Local", "n1") == "address node 10.244.1.2:8080");
  CHECK(near_of("Local", "n2") == "address node 10.244.1.2:8080");  // whose clients from outside hear nothing
}

TEST_CASE(
    "the address of a load balancer is for the ranges that the Service names, as kube-proxy reads them") {
  const auto guards = [](const std::string& ranges) {
    const auto service =
        make_service("web", "10.96.0.10", {{.node_port = 30080}},
                     R"(,"type":"LoadBalancer","loadBalancerSourceRanges":[)" + ranges +
                         R"(]},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.10"}]})");
    RulePlan plan("n1");
    const auto batch = plan.update(*make_snapshot({service}, {make_slice("web", {{"10.244.1.2"}}, 8080)}));
    std::string out;
    for (const ServiceChain& chain : batch.chains_before) {
      if (chain.then.empty()) continue;
      out += chain.then + " from";
      for (const std::string& source : chain.sources) out += " " + source;
      out += ";";
    }
    for (const auto& rejection : batch.rejected) out += rejection.reason;
    return out;
  };
  CHECK(guards("") == "");
  CHECK(guards(R"("192.0.2.0/24")") == "n1 from 192.0.2.0/24 203.0.113.10;");
  CHECK(guards(R"(" 192.0.2.77/24 ","192.0.2.128/25","192.0.2.0/24")") ==
        "n1 from 192.0.2.0/24 203.0.113.10;");
  CHECK(guards(R"("203.0.0.0/8","fd00::/8")") == "n1 from 203.0.0.0/8;");
  CHECK(guards(R"("192.0.2.0/24","0.0.0.0/0")") == "");
  // Nobody, rather than everybody.
  CHECK(guards(R"("nonsense")") == "n1 from 203.0.113.10;InvalidSourceRange");
  CHECK(guards(R"("192.0.2.1")") == "n1 from 203.0.113.10;InvalidSourceRange");
}

TEST_CASE(
    "what affinity remembered is put back with the time that is left, for endpoints that are still there") {
  const ServiceChain chain{.name = "s_0123456789abcdef",
                           .count = 2,
                           .affinity_seconds = 60,
                           .targets = {{IpAddress::v4(0x0af40102), 8080}, {IpAddress::v4(0x0af40103), 8080}}};
  const auto sets = chain.objects();
  REQUIRE(sets.size() == 4);
  const std::string first = sets[2].substr(4), second = sets[3].substr(4);
  const std::string listing =
      "table ip orc_1 {\n\tset vips {\n\t\ttype ipv4_addr\n\t\telements = { 10.96.0.1 }\n\t}\n\tset " +
      first + R"( {
		type ipv4_addr
		size 65536
		flags dynamic,timeout
		timeout 1m
		elements = { 10.0.0.1 expires 29s992ms, 10.0.0.2 timeout 1m expires 1s,
			     10.0.0.3, nonsense expires 3s, 10.0.0.4 expires soon }
	}
	set )" +
      second +
      " {\n\t\ttype ipv4_addr\n\t}\n\tset f_gone {\n\t\telements = { 10.0.0.9 expires 1s }\n\t}\n}\n";
  CHECK(kept_clients_text({"orc_1", 4}, listing, {chain}) ==
        "add element ip orc_1 " + first + " { 10.0.0.1 expires 29s992ms, 10.0.0.2 expires 1s }\n");
  CHECK(kept_clients_text({"orc_1", 4}, listing, {}).empty());
  // Whatever is cut off is left out.
  for (std::size_t size = 0; size < listing.size(); ++size) {
    const std::string some = kept_clients_text({"orc_1", 4}, listing.substr(0, size), {chain});
    CHECK((some.empty() || some.ends_with(" }\n")));
  }
}

TEST_CASE("a Service with very many endpoints uses the first 1,024 and says so") {
  NetworkService service;
  service.cluster_ips = {"10.96.0.1"};
  NetworkServicePort port;
  port.port = 80;
  for (int i = 0; i < 1100; ++i) {
    NetworkEndpoint endpoint;
    endpoint.address = "10.244." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
    endpoint.port = 80;
    port.endpoints.push_back(endpoint);
  }
  service.ports = {port};
  const auto rules = compile_service(service, "n1");
  CHECK(rules.width == 1024);
  REQUIRE(rules.rejected.size() == 1);
  CHECK(rules.rejected.front().reason == "TooManyEndpoints");
}

TEST_CASE(
    "a Service of both families is in each plan with its own addresses, and one of a single family in one") {
  const auto text = [](const RuleBatch& batch) {
    std::string out;
    for (const RuleElement& element : batch.added) {
      out += map_name(element);
      if (element.map != MapKind::node_service && element.map != MapKind::node_endpoint)
        out += " " + element.address.to_string();
      if (element.to_port != 0) out += " to " + element.to_address.to_string();
      out += "; ";
    }
    for (const NetworkRejection& one : batch.rejected) out += one.reason + "; ";
    return out;
  };
  const auto both = make_service("both", "10.96.0.10", {{"web", 80, 30080}},
                                 R"(,"clusterIPs":["10.96.0.10","fd00:10:96::a"])");
  const auto four = make_service("four", "10.96.0.11", {{}});
  const auto snapshot =
      make_snapshot({both, four}, {make_slice("both", {{"10.244.1.2"}}, 8080),
                                   make_slice("both", {{"fd00::2"}}, 8080, "web", "TCP", "both-6")});
  RulePlan of_four("n1", {4, false}), of_six("n1", {6, false});
  CHECK(text(of_four.update(*snapshot)) ==
        "svc 10.96.0.10; np_svc; vips 10.96.0.10; hair 10.244.1.2; e0 10.96.0.10 to 10.244.1.2; np_e0 to "
        "10.244.1.2; "
        "none 10.96.0.11; vips 10.96.0.11; ");
  CHECK(text(of_six.update(*snapshot)) ==
        "svc fd00:10:96::a; np_svc; vips fd00:10:96::a; hair fd00::2; e0 fd00:10:96::a to fd00::2; np_e0 to "
        "fd00::2; ");
  CHECK(of_four.ports() == 3);
  CHECK(of_six.ports() == 2);
}

TEST_CASE("only endpoints of the address' own family count, also for who is ready") {
  const auto service =
      make_service("web", "10.96.0.10", {{}}, R"(,"clusterIPs":["10.96.0.10","fd00:10:96::a"])");
  // By IPv4 all that is left terminates; by IPv6 (a slice of its own) one is ready.
  const auto snapshot =
      make_snapshot({service}, {make_slice("web", {{"10.244.1.2", false, true, true}}, 8080),
                                make_slice("web", {{"fd00::3"}}, 8080, "web", "TCP", "web-6")});
  const auto targets = [&](int family) {
    std::string out;
    for (const RuleElement& element :
         compile_service(*snapshot->find_service("default", "web"), "n1", {family, false}).elements) {
      if (element.map == MapKind::endpoint) out += element.to_address.to_string() + " ";
    }
    return out;
  };
  CHECK(targets(4) == "10.244.1.2 ");
  CHECK(targets(6) == "fd00::3 ");
}

TEST_CASE("what two plans refuse is told once, and an address of a family that a Service has not is told") {
  const auto reasons = [](const Object& service) {
    std::string out;
    RulePlan four("n1", {4, false}), six("n1", {6, false});
    const auto snapshot = make_snapshot({service}, {});
    for (RulePlan* plan : {&four, &six}) {
      for (const auto& rejection : plan->update(*snapshot).rejected) out += rejection.reason + " ";
    }
    return out;
  };
  CHECK(reasons(make_service("a", "10.96.0.1", {{}}, "", R"({"orchestra.dev/load-balance":"x"})")) ==
        "InvalidAnnotation ");
  CHECK(reasons(make_service("a", "fd00::1", {{}})).empty());
  CHECK(reasons(make_service("a", "10.96.0.1", {{}}, R"(,"externalIPs":["192.0.2.9","2001:db8::9"])")) ==
        "UnsupportedAddress ");
}
