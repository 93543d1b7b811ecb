#include "net/dns/zone_set.hpp"
#include "support.hpp"
#include "tests/support/test.hpp"

namespace orchestra::dns {
namespace {

using test::question;
using test::summary;

const std::string kSoa = "\nauthority cluster.local SOA";

struct Zone {
  ZoneSet zone;  // of the cluster's alone: what follows an ExternalName
  Zone(std::shared_ptr<const NetworkSnapshot> snapshot = test::shop_snapshot())
      : zone(std::make_shared<const ClusterZone>(
                 ZoneOptions{.reverse_ranges = {net::IpRange::parse("10.244.0.0/16").value(),
                                                net::IpRange::parse("10.96.0.0/16").value()},
                             .own_addresses = {}},
                 std::move(snapshot)),
             {}) {}
  std::string ask(const std::string& name, const std::string& type) const {
    return summary(zone.answer(question(name, type), 0));
  }
};

}  // namespace

TEST_CASE("each row of the Kubernetes DNS specification has its answer") {
  const Zone zone;
  const struct {
    const char *name, *type;
    std::string answer;
  } cases[] = {
      {"dns-version.cluster.local", "TXT", "NOERROR\ndns-version.cluster.local 5 TXT 1.1.0"},
      {"web.shop.svc.cluster.local", "A", "NOERROR\nweb.shop.svc.cluster.local 5 A 10.96.0.10"},
      {"web.shop.svc.cluster.local", "AAAA", "NOERROR\nweb.shop.svc.cluster.local 5 AAAA fd00::10"},
      {"WEB.Shop.SVC.Cluster.Local", "A", "NOERROR\nweb.shop.svc.cluster.local 5 A 10.96.0.10"},
      {"_http._tcp.web.shop.svc.cluster.local", "SRV",
       "NOERROR\n_http._tcp.web.shop.svc.cluster.local 5 SRV 0 100 80 web.shop.svc.cluster.local"
       "\nadditional web.shop.svc.cluster.local 5 A 10.96.0.10"
       "\nadditional web.shop.svc.cluster.local 5 AAAA fd00::10"},
      {"10.0.96.10.in-addr.arpa", "PTR", "NOERROR\n10.0.96.10.in-addr.arpa 5 PTR web.shop.svc.cluster.local"},
      {"0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", "PTR",
       "NOERROR\n0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa 5 PTR "
       "web.shop.svc.cluster.local"},
      // Headless: ready endpoints, by hostname or dashed address; SRV has the endpoints' port.
      {"db.shop.svc.cluster.local", "A",
       "NOERROR\ndb.shop.svc.cluster.local 5 A 10.244.1.5\ndb.shop.svc.cluster.local 5 A 10.244.1.6"},
      {"db-0.db.shop.svc.cluster.local", "A", "NOERROR\ndb-0.db.shop.svc.cluster.local 5 A 10.244.1.5"},
      {"10-244-1-6.db.shop.svc.cluster.local", "A",
       "NOERROR\n10-244-1-6.db.shop.svc.cluster.local 5 A 10.244.1.6"},
      {"db-2.db.shop.svc.cluster.local", "A", "NXDOMAIN" + kSoa},
      {"_pg._tcp.db.shop.svc.cluster.local", "SRV",
       "NOERROR"
       "\n_pg._tcp.db.shop.svc.cluster.local 5 SRV 0 100 5433 db-0.db.shop.svc.cluster.local"
       "\n_pg._tcp.db.shop.svc.cluster.local 5 SRV 0 100 5433 10-244-1-6.db.shop.svc.cluster.local"
       "\nadditional db-0.db.shop.svc.cluster.local 5 A 10.244.1.5"
       "\nadditional 10-244-1-6.db.shop.svc.cluster.local 5 A 10.244.1.6"},
      {"5.1.244.10.in-addr.arpa", "PTR",
       "NOERROR\n5.1.244.10.in-addr.arpa 5 PTR db-0.db.shop.svc.cluster.local"},
      {"eager.shop.svc.cluster.local", "A", "NOERROR\neager.shop.svc.cluster.local 5 A 10.244.1.8"},
      {"empty.shop.svc.cluster.local", "A", "NXDOMAIN" + kSoa},
      // An endpoint label on a Service with an address works as for headless ones.
      {"web-0.web.shop.svc.cluster.local", "A", "NOERROR\nweb-0.web.shop.svc.cluster.local 5 A 10.244.1.9"},
      // ExternalName
      {"out.shop.svc.cluster.local", "A",
       "NOERROR\nout.shop.svc.cluster.local 5 CNAME example.com\nchase example.com"},
      {"out.shop.svc.cluster.local", "CNAME", "NOERROR\nout.shop.svc.cluster.local 5 CNAME example.com"},
      {"alias.shop.svc.cluster.local", "A",
       "NOERROR\nalias.shop.svc.cluster.local 5 CNAME web.shop.svc.cluster.local"
       "\nweb.shop.svc.cluster.local 5 A 10.96.0.10"},
      {"loop.shop.svc.cluster.local", "A", "SERVFAIL"},
      {"_http._tcp.out.shop.svc.cluster.local", "SRV", "NXDOMAIN" + kSoa},
      {"x.out.shop.svc.cluster.local", "A", "NXDOMAIN" + kSoa},
      // Pods, verified
      {"10-244-1-9.shop.pod.cluster.local", "A", "NOERROR\n10-244-1-9.shop.pod.cluster.local 5 A 10.244.1.9"},
      {"10-244-1-99.shop.pod.cluster.local", "A", "NXDOMAIN" + kSoa},
      {"10-244-1-9.bare.pod.cluster.local", "A", "NXDOMAIN" + kSoa},
      {"1-2-3-4.shop.pod.cluster.local", "A", "NXDOMAIN" + kSoa},
      // Names that exist without this type, or only above others
      {"web.shop.svc.cluster.local", "MX", "NOERROR" + kSoa},
      {"plain.shop.svc.cluster.local", "AAAA", "NOERROR" + kSoa},
      {"_tcp.web.shop.svc.cluster.local", "A", "NOERROR" + kSoa},
      {"_http._tcp.web.shop.svc.cluster.local", "A", "NOERROR" + kSoa},
      {"svc.cluster.local", "A", "NOERROR" + kSoa},
      {"bare.svc.cluster.local", "A", "NOERROR" + kSoa},
      {"pod.cluster.local", "A", "NOERROR" + kSoa},
      {"shop.pod.cluster.local", "A", "NOERROR" + kSoa},
      // Names that do not exist
      {"nobody.shop.svc.cluster.local", "A", "NXDOMAIN" + kSoa},
      {"web.nowhere.svc.cluster.local", "A", "NXDOMAIN" + kSoa},
      {"nowhere.svc.cluster.local", "A", "NXDOMAIN" + kSoa},
      {"_smtp._tcp.web.shop.svc.cluster.local", "SRV", "NXDOMAIN" + kSoa},
      {"_http._udp.web.shop.svc.cluster.local", "SRV", "NXDOMAIN" + kSoa},
      {"_tcp.plain.shop.svc.cluster.local", "SRV", "NXDOMAIN" + kSoa},
      {"a.b.c.web.shop.svc.cluster.local", "A", "NXDOMAIN" + kSoa},
      {"www.cluster.local", "A", "NXDOMAIN" + kSoa},
      {"99.0.96.10.in-addr.arpa", "PTR", "NXDOMAIN" + kSoa},
      // The apex
      {"cluster.local", "NS",
       "NOERROR\ncluster.local 5 NS ns.dns.cluster.local\nadditional ns.dns.cluster.local 5 A 10.96.0.2"},
      {"cluster.local", "SOA", "NOERROR\ncluster.local 5 SOA ns.dns.cluster.local"},
      {"cluster.local", "A", "NOERROR" + kSoa},
      {"ns.dns.cluster.local", "A", "NOERROR\nns.dns.cluster.local 5 A 10.96.0.2"},
      // Elsewhere
      {"example.com", "A", "NOT OURS"},
      {"local", "A", "NOT OURS"},
      {"xcluster.local", "A", "NOT OURS"},
      {"1.2.3.4.in-addr.arpa", "PTR", "NOT OURS"},
      {"in-addr.arpa", "PTR", "NOT OURS"},
      // RFC 8482
      {"web.shop.svc.cluster.local", "ANY",
       "NOERROR\nweb.shop.svc.cluster.local 5 HINFO RFC8482" + std::string(1, '\0')},
  };
  for (const auto& [name, type, answer] : cases) {
    CAPTURE(name);
    CAPTURE(type);
    CHECK(zone.ask(name, type) == answer);
  }
}

TEST_CASE("data that is not complete yet answers SERVFAIL, never NXDOMAIN") {
  const Zone nothing(nullptr);
  CHECK(nothing.ask("web.shop.svc.cluster.local", "A") == "SERVFAIL");
  CHECK(nothing.ask("1-2-3-4.shop.pod.cluster.local", "A") == "SERVFAIL");
  CHECK(nothing.ask("10.0.96.10.in-addr.arpa", "PTR") == "SERVFAIL");
  CHECK(nothing.ask("dns-version.cluster.local", "TXT").starts_with("NOERROR"));
  const Zone empty(NetworkSnapshot::build({}));
  CHECK(empty.ask("web.shop.svc.cluster.local", "A") == "SERVFAIL");
  NetworkInputs in;
  in.services.synced = in.namespaces.synced = true;
  const Zone half(NetworkSnapshot::build(in));
  CHECK(half.ask("web.shop.svc.cluster.local", "A") == "SERVFAIL");
}

TEST_CASE("the order of several addresses rotates") {
  const Zone zone;
  const auto first = zone.zone.answer(question("db.shop.svc.cluster.local", "A"), 0);
  const auto second = zone.zone.answer(question("db.shop.svc.cluster.local", "A"), 1);
  REQUIRE(first.answers.size() == 2);
  CHECK(first.answers[0] == second.answers[1]);
  CHECK(first.answers[1] == second.answers[0]);
}

TEST_CASE("another zone name takes the place of cluster.local") {
  const ClusterZone zone({.zone = "corp.internal", .ttl = 30}, test::shop_snapshot());
  CHECK(summary(zone.answer(question("web.shop.svc.corp.internal", "A"))) ==
        "NOERROR\nweb.shop.svc.corp.internal 30 A 10.96.0.10");
  CHECK(summary(zone.answer(question("web.shop.svc.cluster.local", "A"))) == "NOT OURS");
}

}  // namespace orchestra::dns
