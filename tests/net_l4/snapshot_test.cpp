// The snapshot: parsing, merging, sharing and refusing.
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
                         nullptr, {"127.128.0.0/12", "127.96.0.0/16"});
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
  const auto web = make_service("web", "10.96.0.10", {{}}, "", "{}", "5");
  const auto slice = make_slice("web", {{"10.244.1.2"}}, 8080, "web", "TCP", "", "6");
  const auto changed = make_slice("web", {{"10.244.1.3"}}, 8080, "web", "TCP", "", "7");
  const auto first = make_snapshot({web}, {slice});
  const auto same = make_snapshot({web}, {slice}, first.get());
  const auto other = make_snapshot({web}, {changed}, same.get());
  CHECK(first->find_service("default", "web") == same->find_service("default", "web"));
  CHECK(other->find_service("default", "web") != same->find_service("default", "web"));
  CHECK(*first->find_service("default", "web") ==
        *make_snapshot({web}, {slice})->find_service("default", "web"));
}

TEST_CASE("a refusal is reported again while its object stays") {
  const auto web = make_service("web", "10.96.0.10", {{}}, "", "{}", "5");
  const auto bad = make_slice("web", {{"127.0.0.1"}}, 8080, "web", "TCP", "", "6");
  const auto first = make_snapshot({web}, {bad});
  CHECK(make_snapshot({web}, {bad}, first.get())->rejected.size() == 1);
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
