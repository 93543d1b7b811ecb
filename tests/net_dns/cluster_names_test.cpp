// Which names a cluster has under the options that CoreDNS has for it.
#include "net/dns/zone_set.hpp"
#include "server_support.hpp"
#include "support.hpp"
#include "tests/support/test.hpp"

namespace orchestra::dns {
namespace {

using namespace test::dns_server;
using test::question;
using test::summary;

const std::string kNone = "NXDOMAIN\nauthority cluster.local SOA";
const std::string kEmpty = "NOERROR\nauthority cluster.local SOA";

Object object(const std::string& json) { return Object::from_json(json).value(); }

std::string head(const std::string& kind, const std::string& ns, const std::string& name,
                 const std::string& labels) {
  return R"({"kind":")" + kind + R"(","metadata":{"name":")" + name + R"(","resourceVersion":"1","uid":"u-)" +
         ns + name + R"(","namespace":")" + ns + R"(","labels":)" + labels + "}";
}
Object service(const std::string& ns, const std::string& name, const std::string& address,
               const std::string& labels = "{}") {
  return object(head("Service", ns, name, labels) + R"(,"spec":{"clusterIP":")" + address +
                R"(","clusterIPs":[")" + address + R"("],"ports":[{"name":"pg","port":5432}]}})");
}
/// `endpoints`: JSON.
Object slice(const std::string& ns, const std::string& name, const std::string& endpoints) {
  return object(head("EndpointSlice", ns, name + "-1", R"({"kubernetes.io/service-name":")" + name + "\"}") +
                R"(,"addressType":"IPv4","ports":[{"name":"pg","port":5433}],"endpoints":[)" + endpoints +
                "]}");
}
std::string endpoint(const std::string& address, const std::string& more = "") {
  return R"({"addresses":[")" + address + R"("],"conditions":{"ready":true})" + more + "}";
}

/// Namespaces shop (team a) and ops (team b): web (10.96.0.10, ready), idle (10.96.0.11, nobody), db
/// (headless) in zones East and west, ops/db on 10.244.1.9, pods of both.
NetworkInputs inputs(const std::string& db_endpoints = endpoint("10.244.1.5",
                                                                R"(,"zone":"East","hostname":"db-0")") +
                                                       "," + endpoint("10.244.1.6", R"(,"zone":"west",
    "targetRef":{"kind":"Pod","namespace":"shop","name":"db-x7f"})")) {
  NetworkInputs in;
  for (const auto& [name, team] : {std::pair("shop", "a"), {"ops", "b"}}) {
    in.namespaces.objects.push_back(object(R"({"kind":"Namespace","metadata":{"name":")" + std::string(name) +
                                           R"(","labels":{"team":")" + team +
                                           R"("},"resourceVersion":"1"}})"));
  }
  in.services.objects = {
      service("shop", "web", "10.96.0.10", R"({"tier":"front"})"), service("shop", "idle", "10.96.0.11"),
      service("shop", "db", "None"), service("ops", "db", "None", R"({"tier":"front"})"),
      object(head("Service", "shop", "out", "{}") +
             R"(,"spec":{"type":"ExternalName","externalName":"no.shop.svc.cluster.local"}})")};
  in.endpoint_slices.objects = {
      slice("shop", "web", endpoint("10.244.1.4")),
      slice("shop", "idle", R"({"addresses":["10.244.1.8"],"conditions":{"ready":false}})"),
      slice("shop", "db", db_endpoints), slice("ops", "db", endpoint("10.244.1.9"))};
  for (const auto& [ns, address] : {std::pair("shop", "10.244.1.5"), {"ops", "10.244.1.9"}}) {
    in.pods.objects.push_back(object(head("Pod", ns, "p", R"({"tier":"back"})") +
                                     R"(,"spec":{"nodeName":"n1"},"status":{"phase":"Running","podIP":")" +
                                     address + R"(","podIPs":[{"ip":")" + address + R"("}]}})"));
  }
  for (NetworkInput* input : {&in.services, &in.endpoint_slices, &in.pods, &in.nodes, &in.namespaces})
    input->synced = true;
  return in;
}

struct Zone {
  ZoneSet zone;
  explicit Zone(const DnsClusterNames& names, std::shared_ptr<const NetworkSnapshot> snapshot = nullptr)
      : zone(std::make_shared<const ClusterZone>(
                 ZoneOptions{.names = NameRules::read(names).value(),
                             .reverse_ranges = {net::IpRange::parse("10.0.0.0/8").value()},
                             .own_addresses = {}},
                 snapshot ? snapshot : NetworkSnapshot::build(inputs())),
             {}) {}
  /// `name` without ".cluster.local".
  std::string ask(const std::string& name, const std::string& type = "A") const {
    return summary(zone.answer(question(name + (name.ends_with("arpa") ? "" : ".cluster.local"), type), 0));
  }
  bool has(const std::string& name, const std::string& type = "A") const {
    const std::string said = ask(name, type);
    CHECK((said == kNone || said.starts_with("NOERROR\n" + name)));
    return said != kNone;
  }
};

}  // namespace

TEST_CASE("pods have names where they are, for any address, or none") {
  const Zone verified({}), insecure({.pods = DnsPodNames::insecure}), none({.pods = DnsPodNames::disabled});
  CHECK(verified.has("10-244-1-5.shop.pod"));
  CHECK_FALSE(verified.has("10-244-1-5.ops.pod"));
  CHECK_FALSE(verified.has("192-0-2-1.shop.pod"));
  CHECK(insecure.ask("192-0-2-1.shop.pod") == "NOERROR\n192-0-2-1.shop.pod.cluster.local 5 A 192.0.2.1");
  CHECK(insecure.ask("fd00--7.shop.pod", "AAAA") == "NOERROR\nfd00--7.shop.pod.cluster.local 5 AAAA fd00::7");
  CHECK(insecure.ask("192-0-2-1.shop.pod", "AAAA") == kEmpty);
  CHECK_FALSE(insecure.has("192-0-2-1.nowhere.pod"));
  CHECK_FALSE(insecure.has("www.shop.pod"));
  CHECK_FALSE(none.has("10-244-1-5.shop.pod"));
  CHECK(none.ask("shop.pod") == kNone);
  CHECK(none.ask("pod") == kEmpty);
}

TEST_CASE("endpoints without a hostname are called by their address, or their pod where asked for") {
  const Zone plain({}), by_pod({.endpoint_pod_names = true});
  CHECK(plain.has("10-244-1-6.db.shop.svc"));
  CHECK_FALSE(plain.has("db-x7f.db.shop.svc"));
  CHECK(by_pod.has("db-x7f.db.shop.svc"));
  CHECK_FALSE(by_pod.has("10-244-1-6.db.shop.svc"));
  CHECK(by_pod.has("db-0.db.shop.svc"));
  CHECK(by_pod.has("10-244-1-9.db.ops.svc"));  // of no pod
  CHECK(by_pod.ask("6.1.244.10.in-addr.arpa", "PTR") ==
        "NOERROR\n6.1.244.10.in-addr.arpa 5 PTR db-x7f.db.shop.svc.cluster.local");
  CHECK(by_pod.ask("_pg._tcp.db.shop.svc", "SRV").find("5433 db-x7f.db.shop") != std::string::npos);
}

TEST_CASE("without endpoints headless Services do not exist, others do") {
  const Zone zone({.no_endpoints = true});
  CHECK(zone.has("web.shop.svc"));
  CHECK(zone.has("_pg._tcp.web.shop.svc", "SRV"));
  CHECK_FALSE(zone.has("db.shop.svc"));
  CHECK_FALSE(zone.has("_pg._tcp.db.shop.svc", "SRV"));
  CHECK_FALSE(zone.has("db-0.db.shop.svc"));
  CHECK_FALSE(zone.has("10-244-1-4.web.shop.svc"));
  CHECK(zone.ask("5.1.244.10.in-addr.arpa", "PTR") == kNone);
  CHECK(NameRules::read({.no_endpoints = true, .ignore_empty_services = true}).error().is(Error::invalid));
}

TEST_CASE("a Service without a ready endpoint is not there where that is asked for") {
  CHECK(Zone({}).has("idle.shop.svc"));
  const Zone zone({.ignore_empty_services = true});
  CHECK_FALSE(zone.has("idle.shop.svc"));
  CHECK_FALSE(zone.has("_pg._tcp.idle.shop.svc", "SRV"));
  CHECK(zone.has("web.shop.svc"));
  CHECK(zone.has("db.shop.svc"));
  CHECK(zone.ask("out.shop.svc").starts_with("NXDOMAIN\nout.shop.svc.cluster.local 5 CNAME"));
}

TEST_CASE("namespaces and objects that a filter leaves out are answered as if they were not there") {
  const auto visible = [](const Zone& zone) {
    std::string out;
    for (const auto& [name, type] : {std::pair("web.shop.svc", "A"),
                                     {"_pg._tcp.web.shop.svc", "SRV"},
                                     {"db.shop.svc", "A"},
                                     {"db.ops.svc", "A"},
                                     {"10-244-1-5.shop.pod", "A"},
                                     {"10-244-1-9.ops.pod", "A"}}) {
      out += zone.ask(name, type) == kNone ? '-' : '+';
    }
    out += ' ';
    for (const char* name : {"10.0.96.10.in-addr.arpa", "5.1.244.10.in-addr.arpa", "9.1.244.10.in-addr.arpa"})
      out += zone.ask(name, "PTR") == kNone ? '-' : '+';
    out += ' ';
    for (const char* name : {"shop.svc", "ops.svc", "ops.pod"}) out += zone.ask(name) == kNone ? '-' : '+';
    return out;
  };
  CHECK(visible(Zone({})) == "++++++ +++ +++");
  CHECK(visible(Zone({.namespaces = {"shop"}})) == "+++-+- ++- +--");
  CHECK(visible(Zone({.namespace_labels = "team in (b)"})) == "---+-+ --+ -++");
  CHECK(visible(Zone({.namespaces = {"shop"}, .namespace_labels = "team=b"})) == "------ --- ---");
  CHECK(visible(Zone({.labels = "tier=front"})) == "++-+-- +-+ +++");
  CHECK(visible(Zone({.labels = "tier=back"})) == "----++ --- +++");
  CHECK(NameRules::read({.labels = "a in"}).error().is(Error::invalid));
  CHECK(NameRules::read({.namespace_labels = "=,"}).error().is(Error::invalid));
}

TEST_CASE("a headless Service has its endpoints by zone") {
  const std::string east = "east._zone.db.shop.svc", west = "west._zone.db.shop.svc";
  CHECK_FALSE(Zone({}).has(east));
  CHECK_FALSE(Zone({}).has("_zone.db.shop.svc"));
  const Zone zone({.zonal = true});
  CHECK(zone.ask(east) == "NOERROR\n" + east + ".cluster.local 5 A 10.244.1.5");
  CHECK(zone.ask(west) == "NOERROR\n" + west + ".cluster.local 5 A 10.244.1.6");
  CHECK(zone.ask(east, "AAAA") == kEmpty);
  CHECK(zone.ask(west, "SRV") == "NOERROR\n" + west +
                                     ".cluster.local 5 SRV 0 100 5433 10-244-1-6.db.shop.svc.cluster.local"
                                     "\nadditional 10-244-1-6.db.shop.svc.cluster.local 5 A 10.244.1.6");
  CHECK(zone.ask("_zone.db.shop.svc") == kEmpty);
  CHECK(zone.ask("east._zone.db.ops.svc") == kEmpty);  // the zone is one, nobody of the Service is there
  CHECK(zone.ask("east._zone.db.ops.svc", "SRV") == kEmpty);
  CHECK_FALSE(zone.has("north._zone.db.shop.svc"));  // there is no such zone
  CHECK_FALSE(zone.has("east._zone.web.shop.svc"));  // not headless
  CHECK_FALSE(zone.has("a.east._zone.db.shop.svc"));
  CHECK_FALSE(Zone({.no_endpoints = true, .zonal = true}).has(east));
}

TEST_CASE("a zone that lost its last endpoint is still one") {
  const ZoneOptions options{
      .names = NameRules::read({.zonal = true}).value(), .reverse_ranges = {}, .own_addresses = {}};
  const ClusterZone first(options, NetworkSnapshot::build(inputs()));
  const auto later = NetworkSnapshot::build(inputs(endpoint("10.244.1.6", R"(,"zone":"south")")));
  const ClusterZone second(options, later, &first), third(options, nullptr, &second);
  const ClusterZone fourth(options, later, &third), fresh(options, later);
  const auto ask = [](const ClusterZone& zone, const std::string& name) {
    return summary(zone.answer(question(name + "._zone.db.shop.svc.cluster.local", "A")));
  };
  CHECK(ask(second, "east") == kEmpty);
  CHECK(ask(second, "south").ends_with("10.244.1.6"));
  CHECK(ask(third, "east") == "SERVFAIL");
  CHECK(ask(fourth, "east") == kEmpty);
  CHECK(ask(fresh, "east") == kNone);
}

TEST_CASE("a name that the cluster does not have is asked of the zone above, or upstream") {
  Upstream upstream(good(4));
  DnsServerOptions options{.forward = {upstream.address()}, .reverse_ranges = {"10.244.0.0/16"}};
  options.names.fallthrough = {"svc.cluster.local", "in-addr.arpa"};
  Fixture with(options);
  options.forward.clear();
  Fixture alone(options);
  for (Fixture* f : {&with, &alone}) f->server->publish(NetworkSnapshot::build(inputs()));
  const std::string upstreams = " 60 A 10.1.1.4";
  for (int i = 0; i < 2; ++i) {
    CHECK(with.ask("no.shop.svc.cluster.local") == "NOERROR\nno.shop.svc.cluster.local" + upstreams);
    CHECK(alone.ask("no.shop.svc.cluster.local") == "3");
    CHECK(with.ask("web.shop.svc.cluster.local").ends_with("10.96.0.10"));
    CHECK(with.ask("192-0-2-9.shop.pod.cluster.local") == "3");  // not below such a domain
    // An alias into the cluster goes on there as well.
    CHECK(with.ask("out.shop.svc.cluster.local") ==
          "NOERROR\nout.shop.svc.cluster.local 5 CNAME no.shop.svc.cluster.local\nno.shop.svc.cluster.local" +
              upstreams);
    CHECK(alone.ask("out.shop.svc.cluster.local") ==
          "3\nout.shop.svc.cluster.local 5 CNAME no.shop.svc.cluster.local");
  }
  const int before = upstream.queries();
  (void)with.ask("77.1.244.10.in-addr.arpa", "PTR");
  CHECK(upstream.queries() == before + 1);
  std::string no_recursion = test::query_packet("no.shop.svc.cluster.local", "A");
  no_recursion[2] = 0;
  CHECK(Fixture::text(ask_udp(with.address, no_recursion)) == "3");
  // A zone above the cluster's comes before upstream servers, the cluster's names before it.
  const auto local = DnsZone::from_text(
      "@ 60 SOA . . 1 1 1 1 1\nno.shop.svc.cluster A 192.0.2.7\n"
      "web.shop.svc.cluster A 192.0.2.8\n",
      "local");
  REQUIRE_MESSAGE(local, (local ? "" : local.error().to_string()));
  for (Fixture* f : {&with, &alone}) {
    REQUIRE(f->server->add_zone(*local));
    CHECK(f->ask("no.shop.svc.cluster.local") == "NOERROR\nno.shop.svc.cluster.local 60 A 192.0.2.7");
    CHECK(f->ask("web.shop.svc.cluster.local").ends_with("10.96.0.10"));
    CHECK(f->ask("more.shop.svc.cluster.local") == "3");
  }
  Engine engine;
  options.names.fallthrough = {"a..b"};
  CHECK(DnsServer::create(engine, options).error().is(Error::invalid));
}

TEST_CASE("how long questions took is measured, whoever answered") {
  Upstream upstream(good(4));
  const auto metrics = Metrics::create();
  Fixture f({.forward = {upstream.address()}, .metrics = metrics});
  f.server->publish(NetworkSnapshot::build(inputs()));
  const auto count = [&] {
    const std::string text = metrics->text(), name = "orchestra_dns_request_duration_seconds_count ";
    const std::size_t at = text.find(name);
    return at == std::string::npos ? std::string("none")
                                   : text.substr(at + name.size(), text.find('\n', at) - at - name.size());
  };
  CHECK(count() == "0");
  for (int i = 0; i < 3; ++i) (void)f.ask("web.shop.svc.cluster.local");
  CHECK(count() == "3");
  (void)f.ask("a.example");
  CHECK(count() == "4");
  TcpClient by_tcp(f.address);
  by_tcp.send(TcpClient::framed(test::query_packet("web.shop.svc.cluster.local", "A")));
  CHECK(Fixture::text(by_tcp.receive()).starts_with("NOERROR\n"));
  CHECK(count() == "5");
}

}  // namespace orchestra::dns
