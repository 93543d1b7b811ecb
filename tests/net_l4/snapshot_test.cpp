// The snapshot: parsing, merging, sharing and refusing.
#include <algorithm>
#include <random>

#include "net/snapshot.hpp"
#include "tests/net_l4/snapshot_objects.hpp"

using namespace orchestra;
using namespace orchestra::test;

TEST_CASE("endpoints of several slices are merged, and the hopeful report about one address counts") {
  const auto snapshot = make_snapshot(
      {make_service("web", "10.96.0.10", {{}})},
      {make_slice("web", {{"10.244.1.3"}, {"10.244.1.2", false, true}}, 8080, "web", "TCP", "web-a"),
       make_slice("web", {{"10.244.1.2"}}, 8080, "web", "TCP", "web-b"),
       make_slice("web", {{"10.244.1.9"}}, 9090, "other port", "TCP", "web-c")});
  const auto* service = snapshot->find_service("default", "web");
  REQUIRE(service != nullptr);
  const auto& endpoints = service->ports.front().endpoints;
  REQUIRE(endpoints.size() == 2);
  CHECK(endpoints[0].address == "10.244.1.2");
  CHECK(endpoints[0].ready);
  CHECK(endpoints[1].address == "10.244.1.3");
  CHECK(service->endpoints.size() == 3);
  CHECK(snapshot->find_service_by_address("10.96.0.10") == service);
}

TEST_CASE("endpoint addresses that must not be reached are refused one by one") {
  for (const char* address :
       {"127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "fe80::1",
        "ff02::1", "::ffff:10.0.0.1", "not an address", "010.0.0.1"}) {
    CAPTURE(address);
    const auto snapshot = make_snapshot({make_service("web", "10.96.0.10", {{}})},
                                        {make_slice("web", {{address}, {"10.244.1.2"}}, 8080)});
    REQUIRE(snapshot->rejected.size() == 1);
    CHECK(snapshot->rejected.front().reason == "InvalidEndpointAddress");
    CHECK(snapshot->rejected.front().kind == "EndpointSlice");
    CHECK(snapshot->find_service("default", "web")->ports.front().endpoints.size() == 1);
  }
}

TEST_CASE("the pods of level process are let through, the rest of 127/8 is not") {
  const auto build = [](const char* address) {
    return make_snapshot({make_service("web", "127.96.0.10", {{}})}, {make_slice("web", {{address}}, 8080)},
                         {"127.128.0.0/12", "127.96.0.0/16"});
  };
  CHECK(build("127.128.0.2")->rejected.empty());
  CHECK(build("127.0.0.1")->rejected.size() == 1);
  CHECK(build("127.144.0.1")->rejected.size() == 1);
}

TEST_CASE("ports out of range are refused and the others stay") {
  const auto snapshot = make_snapshot({make_service("web", "10.96.0.10", {{"bad", 70000}, {"good", 80}})},
                                      {make_slice("web", {{"10.244.1.2"}}, 0, "good")});
  CHECK(snapshot->rejected.size() == 2);
  const auto* service = snapshot->find_service("default", "web");
  REQUIRE(service->ports.size() == 1);
  CHECK(service->ports.front().name == "good");
  CHECK(service->ports.front().endpoints.empty());
}

TEST_CASE("of two Services with one address and port the older one keeps it") {
  auto young = make_service("a-young", "10.96.0.10", {{"web", 80, 30080}})
                   .with("/metadata/creationTimestamp", "\"2026-01-02T00:00:00Z\"");
  auto old = make_service("b-old", "10.96.0.10", {{"web", 80, 30080}})
                 .with("/metadata/creationTimestamp", "\"2026-01-01T00:00:00Z\"");
  const auto snapshot = make_snapshot({*young, *old}, {});
  CHECK(snapshot->find_service("default", "a-young")->ports.empty());
  CHECK(snapshot->find_service("default", "b-old")->ports.size() == 1);
  REQUIRE(snapshot->rejected.size() == 1);
  CHECK(snapshot->rejected.front().message ==
        "10.96.0.10 80/TCP belongs to the Service default/b-old; port \"web\" is not served");
}

TEST_CASE("unchanged objects share their records with the snapshot before") {
  NetworkModel model;
  model.put(NetworkKind::service, make_service("web", "10.96.0.10", {{}}));
  model.put(NetworkKind::service, make_service("other", "10.96.0.11", {{}}));
  model.put(NetworkKind::endpoint_slice, make_slice("web", {{"10.244.1.2"}}, 8080));
  const auto first = model.snapshot(1);
  const auto same = model.snapshot(2);
  model.put(NetworkKind::endpoint_slice, make_slice("web", {{"10.244.1.3"}}, 8080));
  const auto changed = model.snapshot(3);
  CHECK(first->find_service("default", "web") == same->find_service("default", "web"));
  CHECK(changed->find_service("default", "web") != same->find_service("default", "web"));
  CHECK(changed->find_service("default", "other") == same->find_service("default", "other"));
  CHECK(first->find_service("default", "web")->endpoints.front().address == "10.244.1.2");
  CHECK(changed->find_service("default", "web")->endpoints.front().address == "10.244.1.3");
  CHECK(changed->revision == 3);
}

TEST_CASE("a refusal is reported again while its object stays") {
  NetworkModel model;
  const auto bad = make_slice("web", {{"127.0.0.1"}}, 8080);
  model.put(NetworkKind::service, make_service("web", "10.96.0.10", {{}}));
  model.put(NetworkKind::endpoint_slice, bad);
  CHECK(model.snapshot(1)->rejected.size() == 1);
  CHECK(model.snapshot(2)->rejected.size() == 1);
  model.remove(NetworkKind::endpoint_slice, bad);
  CHECK(model.snapshot(3)->rejected.empty());
}

namespace {
/// What a snapshot says, as text; the order of refusals is of no meaning.
std::string text_of(const NetworkSnapshot& snapshot) {
  std::string out;
  for (const auto& [name, service] : snapshot.services) {
    out += "service " + name.to_string() + (service->headless ? " headless" : "") + "\n";
    for (const auto& port : service->ports) {
      out += "  " + port.name + " " + std::to_string(port.port) + " " + std::to_string(port.node_port) + ":";
      for (const auto& endpoint : port.endpoints) out += " " + endpoint.address;
      out += "\n";
    }
  }
  for (const auto& [name, pod] : snapshot.pods) out += "pod " + name.to_string() + " " + pod->uid + "\n";
  for (const auto& [name, ingress] : snapshot.ingresses) out += "ingress " + name.to_string() + "\n";
  for (const auto& [name, secret] : snapshot.tls_secrets) out += "secret " + name.to_string() + "\n";
  for (const auto& [name, labels] : snapshot.namespaces) {
    out += "namespace " + name;
    for (const auto& [key, value] : labels) out += " " + key + "=" + value;
    out += "\n";
  }
  for (int i = 0; i < 8; ++i) {
    const std::string end = std::to_string(i);
    const NetworkService* service = snapshot.find_service_by_address("10.96.0." + end);
    const NetworkPod* pod = snapshot.find_pod_by_address("10.244.1." + end);
    out += "at " + end + ": " + (service == nullptr ? "-" : service->name) + " " +
           (pod == nullptr ? "-" : pod->name);
    for (const NetworkService* headless : snapshot.find_headless_by_address("10.244.1." + end))
      out += " " + headless->name;
    out += "\n";
  }
  std::vector<std::string> refusals;
  for (const auto& one : snapshot.rejected)
    refusals.push_back(one.kind + " " + one.ns + "/" + one.name + " " + one.reason + ": " + one.message +
                       "\n");
  std::sort(refusals.begin(), refusals.end());
  for (const std::string& line : refusals) out += line;
  return out;
}

/// Objects with few names, addresses and ports, so that they meet.
class RandomObjects {
 public:
  explicit RandomObjects(std::uint32_t seed) : random_(seed) {}
  std::uint32_t below(std::uint32_t end) { return random_() % end; }
  std::string number(std::uint32_t end) { return std::to_string(below(end)); }

  Object make(NetworkKind kind) {
    switch (kind) {
      case NetworkKind::service: {
        const std::string address = below(4) == 0 ? "None" : "10.96.0." + number(4);
        std::vector<TestPort> ports;
        for (std::uint32_t i = 0; i <= below(2); ++i)
          ports.push_back({"p" + std::to_string(i), 80 + static_cast<int>(below(3)),
                           below(3) == 0 ? 30000 + static_cast<int>(below(2)) : 0});
        return make_service("s" + number(6), address, ports)
            .with("/metadata/creationTimestamp",
                  "\"2026-01-0" + std::to_string(1 + below(3)) + "T00:00:00Z\"")
            .value();
      }
      case NetworkKind::endpoint_slice:
        return make_slice("s" + number(6), {{below(9) == 0 ? "127.0.0.1" : "10.244.1." + number(8)}}, 8080,
                          "p" + number(2), "TCP", "slice-" + number(8));
      case NetworkKind::pod:
        return from_text(R"({"kind":"Pod","metadata":{"name":"p)" + number(6) +
                         R"(","namespace":"d","uid":"u)" + number(9) + R"("},"spec":{},"status":{"phase":")" +
                         (below(4) == 0 ? "Succeeded" : "Running") + R"(","podIP":"10.244.1.)" + number(8) +
                         "\"}}");
      case NetworkKind::ingress:
        return from_text(R"({"kind":"Ingress","metadata":{"name":"i)" + number(3) +
                         R"(","namespace":"d"},"spec":{"tls":[{"secretName":"c)" + number(3) + R"("}]}})");
      case NetworkKind::secret:
        return from_text(R"({"kind":"Secret","type":")" +
                         std::string(below(3) == 0 ? "Opaque" : "kubernetes.io/tls") +
                         R"(","metadata":{"name":"c)" + number(3) +
                         R"(","namespace":"d"},"data":{"tls.crt":"Y2VydA==","tls.key":"a2V5"}})");
      default:
        return from_text(R"({"kind":"Namespace","metadata":{"name":"n)" + number(4) + R"(","labels":{"a":")" +
                         number(3) + R"("}}})");
    }
  }

 private:
  std::mt19937 random_;
};

NetworkInput NetworkInputs::*input_of(NetworkKind kind) {
  switch (kind) {
    case NetworkKind::service:
      return &NetworkInputs::services;
    case NetworkKind::endpoint_slice:
      return &NetworkInputs::endpoint_slices;
    case NetworkKind::pod:
      return &NetworkInputs::pods;
    case NetworkKind::ingress:
      return &NetworkInputs::ingresses;
    case NetworkKind::secret:
      return &NetworkInputs::secrets;
    default:
      return &NetworkInputs::namespaces;
  }
}
}  // namespace

TEST_CASE("a model that was told of changes says what one says that is told of the objects") {
  constexpr NetworkKind kKinds[] = {NetworkKind::service, NetworkKind::endpoint_slice,
                                    NetworkKind::pod,     NetworkKind::ingress,
                                    NetworkKind::secret,  NetworkKind::name_space};
  for (std::uint32_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    RandomObjects random(seed);
    NetworkModel model;
    std::map<std::pair<NetworkKind, NamespacedName>, Object> objects;
    std::vector<std::pair<std::shared_ptr<const NetworkSnapshot>, std::string>> kept;
    for (int step = 0; step < 120; ++step) {
      const NetworkKind kind = kKinds[random.below(6)];
      const Object object = random.make(kind);
      const std::pair key(kind, NamespacedName{object.ns(), object.name()});
      if (random.below(3) == 0) {
        model.remove(kind, object);
        objects.erase(key);
      } else {
        model.put(kind, object);
        objects.insert_or_assign(key, object);
      }
      if (random.below(3) != 0) continue;  // several changes, one snapshot
      const auto snapshot = model.snapshot(step);
      NetworkInputs inputs;
      for (const auto& [about, one] : objects) (inputs.*input_of(about.first)).objects.push_back(one);
      const std::string text = text_of(*snapshot);
      REQUIRE(text == text_of(*NetworkSnapshot::build(inputs)));
      kept.emplace_back(snapshot, text);
    }
    for (const auto& [snapshot, text] : kept) REQUIRE(text_of(*snapshot) == text);  // nobody changed them
  }
}

TEST_CASE("pods, nodes, ingresses and their certificates become records") {
  NetworkInputs inputs;
  inputs.pods = {
      {from_text(R"({"kind":"Pod","metadata":{"name":"p","namespace":"d","uid":"u"},"spec":{"nodeName":"n1",
                   "hostname":"h","subdomain":"s"},"status":{"phase":"Running","podIP":"10.244.1.2",
                   "podIPs":[{"ip":"10.244.1.2"}]}})"),
       from_text(R"({"kind":"Pod","metadata":{"name":"done","namespace":"d"},"spec":{},
                   "status":{"phase":"Succeeded","podIP":"10.244.1.3"}})")},
      true};
  inputs.nodes = {
      {from_text(R"({"kind":"Node","metadata":{"name":"n1","labels":{"topology.kubernetes.io/zone":"z"}},
                   "spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}],
                   "conditions":[{"type":"Ready","status":"True"}]}})")},
      true};
  inputs.ingresses = {{from_text(R"({"kind":"Ingress","metadata":{"name":"i","namespace":"d"},"spec":{
                   "ingressClassName":"orchestra","tls":[{"hosts":["x.test"],"secretName":"cert"}],
                   "rules":[{"host":"X.test","http":{"paths":[
                     {"path":"/a","pathType":"Exact","backend":{"service":{"name":"s","port":{"number":80}}}},
                     {"path":"b","pathType":"Prefix","backend":{"service":{"name":"s","port":{"name":"web"}}}}]}}]}})")},
                      true};
  inputs.secrets = {
      {from_text(R"({"kind":"Secret","type":"kubernetes.io/tls","metadata":{"name":"cert","namespace":"d"},
                   "data":{"tls.crt":"Y2VydA==","tls.key":"a2V5"}})"),
       from_text(
           R"({"kind":"Secret","type":"Opaque","metadata":{"name":"other","namespace":"d"},"data":{}})")},
      true};
  const auto snapshot = NetworkSnapshot::build(inputs);
  REQUIRE(snapshot->find_pod_by_address("10.244.1.2") != nullptr);
  CHECK(snapshot->find_pod_by_address("10.244.1.2")->hostname == "h");
  CHECK(snapshot->find_pod_by_address("10.244.1.3") == nullptr);  // finished: the address may be another's
  const auto& node = *snapshot->nodes.at({"", "n1"});
  CHECK(node.ready);
  CHECK(node.zone == "z");
  CHECK(node.pod_cidrs == std::vector<std::string>{"10.244.1.0/24"});
  const auto& ingress = *snapshot->ingresses.at({"d", "i"});
  REQUIRE(ingress.rules.size() == 1);
  CHECK(ingress.rules[0].host == "x.test");
  REQUIRE(ingress.rules[0].paths.size() == 1);
  CHECK(ingress.rules[0].paths[0].type == IngressPathType::exact);
  CHECK(snapshot->rejected.size() == 1);
  REQUIRE(snapshot->find_tls_secret("d", "cert") != nullptr);
  CHECK(snapshot->find_tls_secret("d", "cert")->certificate_pem == "cert");
  CHECK(snapshot->find_tls_secret("d", "cert")->key_pem == "key");
  CHECK(snapshot->find_tls_secret("d", "other") == nullptr);
  CHECK(snapshot->synced.pods);
  CHECK_FALSE(snapshot->synced.services);
}
