// Zone files: what is read, what is refused and where, and the answers of a zone from its records.
#include <filesystem>
#include <fstream>

#include "net/dns/dns_zone.hpp"
#include "net/dns/master_file.hpp"
#include "net/dns/record_text.hpp"
#include "net/dns/zone_set.hpp"
#include "support.hpp"
#include "tests/support/test.hpp"

namespace orchestra::dns {
namespace {

constexpr const char* kShop = R"($ORIGIN shop.example.
$TTL 1h
@       IN SOA ns1 hostmaster (
              2024010101 ; serial
              2h 30m 2w  ; refresh, retry, expire
              5m )       ; minimum
        NS  ns1
        NS  ns.elsewhere.example.
ns1     A    192.0.2.1
        AAAA 2001:db8::1
www 300 IN A 192.0.2.10
www IN 300 A 192.0.2.11
mail    MX   10 www
        MX   20 mx.elsewhere.example.
_sip._tcp SRV 0 5 5060 www
text    TXT  "two words; no comment" plain \100ec
alias   CNAME www
far     CNAME www.elsewhere.example.
loop    CNAME loop
*.wild  A    192.0.2.99
        TXT  wild
a.b.c   A    192.0.2.20
sub     NS   ns.sub
ns.sub  A    192.0.2.30
sub     DS   1 8 2 0102
old     DNAME new
www.new A    192.0.2.40
away    DNAME elsewhere.example.
odd\.dot A   192.0.2.50
gen     TYPE65280 \# 3 0a0B 0c
caa     CAA  0 issue "ca.example"
)";

std::shared_ptr<const AnyZone> zone_of(const std::string& text, const std::string& name) {
  const auto zone = DnsZone::from_text(text, name);
  REQUIRE_MESSAGE(zone, (zone ? "" : zone.error().message()));
  return std::dynamic_pointer_cast<const AnyZone>(*zone);
}

/// Zones by their names; a question goes to the one that holds the name, and on where aliases lead.
ZoneSet zones_of(const std::vector<std::shared_ptr<const AnyZone>>& all,
                 std::shared_ptr<const ClusterZone> cluster = nullptr) {
  ZoneSet::Zones zones;
  for (const auto& zone : all) zones.emplace(zone->wire_name(), zone);
  return {std::move(cluster), std::move(zones)};
}

std::string text_of(const Answer& answer) {
  std::string out = rcode_text(static_cast<int>(answer.rcode)) + (answer.referral ? " referral" : "");
  for (const Record& record : answer.answers) out += "\n" + record_text(record);
  for (const Record& record : answer.authority) {
    out += "\nauthority " + to_text(record.name) + " " + std::to_string(record.ttl) + " " +
           type_text(record.type);
  }
  for (const Record& record : answer.additional) out += "\nadditional " + record_text(record);
  if (answer.chase) out += "\nchase " + to_text(*answer.chase);
  return out;
}

Question asked(const std::string& name, const std::string& type) {
  const Name wire = parse_name(name, std::string(1, '\0')).value();
  return {.sent = wire, .name = wire, .type = parse_type(type).value()};
}

std::string zone_refusal(const std::string& text) {
  const auto zone = DnsZone::from_text(text, "shop.example", "shop.zone");
  return zone ? "it is fine" : zone.error().message();
}

}  // namespace

TEST_CASE("each kind of question to a zone from a file has its answer") {
  const ZoneSet zone = zones_of({zone_of(kShop, "shop.example")});
  const std::string soa = "\nauthority shop.example 300 SOA";
  const struct {
    const char *name, *type;
    std::string answer;
  } cases[] = {
      {"www.shop.example", "A",
       "NOERROR\nwww.shop.example. 300 IN A 192.0.2.10\nwww.shop.example. 300 IN A 192.0.2.11"},
      {"shop.example", "SOA",
       "NOERROR\nshop.example. 3600 IN SOA ns1.shop.example. hostmaster.shop.example. 2024010101 7200 1800 "
       "1209600 300"},
      {"shop.example", "NS",
       "NOERROR\nshop.example. 3600 IN NS ns1.shop.example.\nshop.example. 3600 IN NS ns.elsewhere.example."
       "\nadditional ns1.shop.example. 3600 IN A 192.0.2.1\nadditional ns1.shop.example. 3600 IN AAAA "
       "2001:db8::1"},
      {"mail.shop.example", "MX",
       "NOERROR\nmail.shop.example. 3600 IN MX 10 www.shop.example.\nmail.shop.example. 3600 IN MX 20 "
       "mx.elsewhere.example.\nadditional www.shop.example. 300 IN A 192.0.2.10"
       "\nadditional www.shop.example. 300 IN A 192.0.2.11"},
      {"_sip._tcp.shop.example", "SRV",
       "NOERROR\n_sip._tcp.shop.example. 3600 IN SRV 0 5 5060 www.shop.example."
       "\nadditional www.shop.example. 300 IN A 192.0.2.10\nadditional www.shop.example. 300 IN A "
       "192.0.2.11"},
      {"text.shop.example", "TXT",
       "NOERROR\ntext.shop.example. 3600 IN TXT \"two words; no comment\" \"plain\" \"dec\""},
      {"alias.shop.example", "A",
       "NOERROR\nalias.shop.example. 3600 IN CNAME www.shop.example.\nwww.shop.example. 300 IN A 192.0.2.10"
       "\nwww.shop.example. 300 IN A 192.0.2.11"},
      {"alias.shop.example", "CNAME", "NOERROR\nalias.shop.example. 3600 IN CNAME www.shop.example."},
      {"alias.shop.example", "MX", "NOERROR\nalias.shop.example. 3600 IN CNAME www.shop.example." + soa},
      {"far.shop.example", "A",
       "NOERROR\nfar.shop.example. 3600 IN CNAME www.elsewhere.example.\nchase www.elsewhere.example"},
      {"loop.shop.example", "A", "SERVFAIL"},
      // RFC 4592
      {"x.wild.shop.example", "A", "NOERROR\nx.wild.shop.example. 3600 IN A 192.0.2.99"},
      {"x.y.wild.shop.example", "TXT", "NOERROR\nx.y.wild.shop.example. 3600 IN TXT \"wild\""},
      {"x.wild.shop.example", "MX", "NOERROR" + soa},
      {"wild.shop.example", "A", "NOERROR" + soa},
      {"*.wild.shop.example", "A", "NOERROR\n*.wild.shop.example. 3600 IN A 192.0.2.99"},
      // Names that exist only above others
      {"b.c.shop.example", "A", "NOERROR" + soa},
      {"x.b.c.shop.example", "A", "NXDOMAIN" + soa},
      {"nobody.shop.example", "A", "NXDOMAIN" + soa},
      {"x.www.shop.example", "A", "NXDOMAIN" + soa},
      // A delegation
      {"sub.shop.example", "A",
       "NOERROR referral\nauthority sub.shop.example 3600 NS"
       "\nadditional ns.sub.shop.example. 3600 IN A 192.0.2.30"},
      {"x.y.sub.shop.example", "MX",
       "NOERROR referral\nauthority sub.shop.example 3600 NS"
       "\nadditional ns.sub.shop.example. 3600 IN A 192.0.2.30"},
      {"ns.sub.shop.example", "A",
       "NOERROR referral\nauthority sub.shop.example 3600 NS"
       "\nadditional ns.sub.shop.example. 3600 IN A 192.0.2.30"},
      {"sub.shop.example", "DS", "NOERROR\nsub.shop.example. 3600 IN DS 1 8 2 0102"},
      // RFC 6672
      {"www.old.shop.example", "A",
       "NOERROR\nold.shop.example. 3600 IN DNAME new.shop.example.\nwww.old.shop.example. 3600 IN CNAME "
       "www.new.shop.example.\nwww.new.shop.example. 3600 IN A 192.0.2.40"},
      {"old.shop.example", "DNAME", "NOERROR\nold.shop.example. 3600 IN DNAME new.shop.example."},
      {"www.old.shop.example", "CNAME",
       "NOERROR\nold.shop.example. 3600 IN DNAME new.shop.example.\nwww.old.shop.example. 3600 IN CNAME "
       "www.new.shop.example."},
      {"www.away.shop.example", "A",
       "NOERROR\naway.shop.example. 3600 IN DNAME elsewhere.example.\nwww.away.shop.example. 3600 IN CNAME "
       "www.elsewhere.example.\nchase www.elsewhere.example"},
      {"www.away.shop.example", "CNAME",
       "NOERROR\naway.shop.example. 3600 IN DNAME elsewhere.example.\nwww.away.shop.example. 3600 IN CNAME "
       "www.elsewhere.example."},
      {"odd\\.dot.shop.example", "A", "NOERROR\nodd\\046dot.shop.example. 3600 IN A 192.0.2.50"},
      {"gen.shop.example", "TYPE65280", "NOERROR\ngen.shop.example. 3600 IN TYPE65280 \\# 3 0A0B0C"},
      {"caa.shop.example", "CAA", "NOERROR\ncaa.shop.example. 3600 IN CAA 0 \"issue\" \"ca.example\""},
      {"www.shop.example", "ANY", "NOERROR\nwww.shop.example. 300 IN HINFO \"RFC8482\" \"\""},
      {"nobody.shop.example", "ANY", "NXDOMAIN" + soa},
  };
  for (const auto& [name, type, answer] : cases) {
    CAPTURE(name);
    CAPTURE(type);
    CHECK(text_of(zone.answer(asked(name, type), 0)) == answer);
  }
  CHECK(text_of(zone.answer(asked("www.shop.example", "A"), 1)) ==
        "NOERROR\nwww.shop.example. 300 IN A 192.0.2.11\nwww.shop.example. 300 IN A 192.0.2.10");
}

TEST_CASE(
    "an alias is followed to the deepest zone that holds its target, and out of all zones it is left open") {
  const auto outer = zone_of(R"($TTL 60
@ SOA . . 1 1 1 1 1
to-inner   CNAME x.inner
to-lost    CNAME lost.inner
to-outer   CNAME www
old        DNAME inner
to-service CNAME web.shop.svc.cluster.local.
far        CNAME www.elsewhere.example.
x.inner    A 192.0.2.1
www        A 192.0.2.2
)",
                             "shop.example");
  const auto inner = zone_of(R"($TTL 60
@ SOA . . 1 1 1 1 1
x    A 192.0.2.3
back CNAME to-outer.shop.example.
here CNAME x
)",
                             "inner.shop.example");
  const auto override_web =
      zone_of("@ 60 SOA . . 1 1 1 1 1\n@ 60 A 192.0.2.4\n", "web.shop.svc.cluster.local");
  const auto root = zone_of("@ 60 SOA . . 1 1 1 1 1\n", ".");
  const auto cluster = std::make_shared<const ClusterZone>(ZoneOptions{}, test::shop_snapshot());
  const auto ask = [](const ZoneSet& zones, const std::string& name, const std::string& type = "A") {
    return text_of(zones.answer(asked(name, type), 0));
  };
  const ZoneSet alone = zones_of({outer}, cluster), both = zones_of({outer, inner}, cluster);
  const std::string alias = "NOERROR\nto-inner.shop.example. 60 IN CNAME x.inner.shop.example.\n";
  CHECK(ask(alone, "to-inner.shop.example") == alias + "x.inner.shop.example. 60 IN A 192.0.2.1");
  CHECK(ask(both, "to-inner.shop.example") == alias + "x.inner.shop.example. 60 IN A 192.0.2.3");
  CHECK(ask(both, "to-lost.shop.example") ==
        "NXDOMAIN\nto-lost.shop.example. 60 IN CNAME lost.inner.shop.example."
        "\nauthority inner.shop.example 1 SOA");
  CHECK(ask(both, "x.old.shop.example").ends_with("\nx.inner.shop.example. 60 IN A 192.0.2.3"));
  CHECK(ask(both, "back.inner.shop.example").ends_with("\nwww.shop.example. 60 IN A 192.0.2.2"));
  CHECK(ask(both, "here.inner.shop.example").ends_with("\nx.inner.shop.example. 60 IN A 192.0.2.3"));
  CHECK(ask(both, "far.shop.example").ends_with("\nchase www.elsewhere.example"));
  CHECK(ask(both, "to-service.shop.example").ends_with("\nweb.shop.svc.cluster.local. 5 IN A 10.96.0.10"));
  // A zone inside of the cluster's, for an alias from outside and for an ExternalName.
  const ZoneSet nested = zones_of({outer, override_web}, cluster);
  for (const char* name : {"to-service.shop.example", "alias.shop.svc.cluster.local"})
    CHECK(ask(nested, name).ends_with("\nweb.shop.svc.cluster.local. 60 IN A 192.0.2.4"));
  // The cluster's reverse names are deeper than the root.
  const ZoneSet below_root = zones_of({root}, cluster);
  CHECK(ask(below_root, "10.0.96.10.in-addr.arpa", "PTR").ends_with("PTR web.shop.svc.cluster.local."));
  CHECK(ask(below_root, "1.2.3.4.in-addr.arpa", "PTR") == "NXDOMAIN\nauthority . 1 SOA");
}

TEST_CASE("a DNAME that makes a name too long answers YXDOMAIN") {
  const std::string label(60, 'x');
  const std::string target = label + "." + label + "." + label + "." + label.substr(0, 50);
  const auto zone = DnsZone::from_text("@ 60 SOA . . 1 1 1 1 1\nold 60 DNAME " + target + ".\n", "a.b");
  REQUIRE(zone);
  const auto& known = dynamic_cast<const AnyZone&>(**zone);
  CHECK(text_of(known.answer(asked("yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy.old.a.b", "A"), 0))
            .starts_with("YXDOMAIN"));
}

TEST_CASE("a zone file that is wrong is refused with its line and the reason") {
  const std::string soa = "@ 60 SOA ns host 1 2 3 4 5\n";
  const struct {
    std::string text;
    const char* said;
  } cases[] = {
      {"", "there is no SOA record"},
      {"www 60 A 192.0.2.1\n", "there is no SOA record"},
      {soa + soa, "it is fine"},  // the same once more
      {soa + "@ 60 SOA ns host 2 2 3 4 5\n", "a second SOA record"},
      {soa + "www 60 A 192.0.2.300\n", "shop.zone:2: \"192.0.2.300\" is not an IPv4 address"},
      {soa + "www 60 A 192.0.2.1 extra\n", "shop.zone:2: \"extra\" is more than"},
      {soa + "www 60 AAAA 192.0.2.1\n", "is not an IPv6 address"},
      {soa + "www 60 MX 70000 a\n", "a number up to 65535"},
      {soa + "www 60 A\n", "shop.zone:2: the data of A needs an IPv4 address"},
      {soa + "\n\nwww 60 WHAT x\n", "shop.zone:4: type \"WHAT\" is not known"},
      {soa + "www 60\n", "the record has no type"},
      {soa + "www CH A 192.0.2.1\n", "only records of class IN"},
      {soa + "www A 192.0.2.1\n", "it is fine"},  // the time of the record before
      {"www A 192.0.2.1\n" + soa, "shop.zone:1: the record has no time to live"},
      {"  60 A 192.0.2.1\n", "shop.zone:1: the first record has no name"},
      {soa + "a..b 60 A 192.0.2.1\n", "\"a..b\" is no domain name"},
      {soa + "www.other.example. 60 A 192.0.2.1\n", "www.other.example is outside of it"},
      {soa + "www 60 TXT \"open\n", "shop.zone:2: a quote is not closed"},
      {soa + "www 60 TXT (a\n b\n", "shop.zone:4: the file ends inside of parentheses"},
      {soa + "www 60 TXT a)\n", "a closing parenthesis"},
      {soa + "www 60 TXT " + std::string(256, 'x') + "\n", "a text of at most 255 octets"},
      {soa + "www 60 CNAME a\nwww 60 A 192.0.2.1\n", "has a CNAME record, and so may have nothing else"},
      {soa + "www 60 CNAME a\nwww 60 CNAME b\n", "has a CNAME record"},
      {soa + "$INCLUDE other\n", "shop.zone:2: $INCLUDE does not work here"},
      {soa + "$GENERATE 1-3 a$ A 192.0.2.$\n", "it is fine"},
      {soa + "$GENERATE 1-3 a$ A\n", "shop.zone:2: $GENERATE needs a range"},
      {soa + "$GENERATE 3-1 a$ A 192.0.2.$\n", "shop.zone:2: \"3-1\" is no range"},
      {soa + "$GENERATE 1-3/0 a$ A 192.0.2.$\n", "\"1-3/0\" is no range"},
      {soa + "$GENERATE 0-65536 a$ A 192.0.2.1\n", "at most 65536 numbers"},
      {soa + "$GENERATE 1-2147483648/2147483647 a$ A 192.0.2.1\n", "is no range"},
      {soa + "$GENERATE 1-300 a$ A 192.0.2.$\n", "shop.zone:2: \"192.0.2.256\" is not an IPv4 address"},
      {soa + "$GENERATE 1-3 a${-2} A 192.0.2.$\n", "\"a${-2}\" of 1 is no number that fits"},
      {soa + "$GENERATE 1-3 a${0,3,q} A 192.0.2.$\n", "want ${OFFSET}"},
      {soa + "$GENERATE 1-3 a${0,999} A 192.0.2.$\n", "want ${OFFSET}"},
      {soa + "$GENERATE 1-3 a${0 A 192.0.2.$\n", "want ${OFFSET}"},
      {soa + "$LOOP 1-3\n", "shop.zone:2: $LOOP is not known"},
      {soa + "$TTL soon\n", "$TTL needs a time"},
      {soa + "www 60 TYPE1 \\# 3 010203\n", "these octets are no data of A"},
      {soa + "www 60 TYPE9999 \\# 2 01\n", "is not 2 octets in hexadecimal"},
      {soa + "www 60 ANY x\n", "ANY is a type of questions"},
      {soa + "www 99999999999 A 192.0.2.1\n", "type \"99999999999\" is not known"},
      {soa + "; only a comment", "it is fine"},
      {soa + "w\\300w 60 A 192.0.2.1\n", "is no domain name"},
  };
  for (const auto& [text, said] : cases) {
    CAPTURE(text);
    CHECK_MESSAGE(zone_refusal(text).find(said) != std::string::npos, zone_refusal(text));
  }
}

TEST_CASE("$GENERATE makes a record for each number, as BIND does it") {
  const auto zone = DnsZone::from_text(R"($TTL 60
@ SOA ns host 1 2 3 4 5
$GENERATE 1-3 host$ A 192.0.2.$
$GENERATE 0-8/4 even${100} 30 IN A 192.0.2.${10}
$GENERATE 10-11 x${0,4,x}.${0,3,d} CNAME $$\$.${0,2,X}
$GENERATE 18-18 ${0,3,n}.${-2,0,o} MX "$ mail$"
)",
                                       "shop.example");
  REQUIRE_MESSAGE(zone, (zone ? "" : zone.error().message()));
  CHECK((*zone)->record_count() == 10);
  const auto& known = dynamic_cast<const AnyZone&>(**zone);
  const auto ask = [&](const std::string& name, const std::string& type) {
    const std::string said = text_of(known.answer(asked(name + ".shop.example", type), 0));
    return said.substr(0, said.find('\n', 9));
  };
  CHECK(ask("host1", "A").ends_with("60 IN A 192.0.2.1"));
  CHECK(ask("host3", "A").ends_with("60 IN A 192.0.2.3"));
  CHECK(ask("host4", "A").starts_with("NXDOMAIN"));
  CHECK(ask("even108", "A").ends_with("30 IN A 192.0.2.18"));
  CHECK(ask("even102", "A").starts_with("NXDOMAIN"));
  CHECK(ask("x000b.011", "CNAME").find("\\036\\036.0b.shop.example") != std::string::npos);
  CHECK(ask("2.1.20", "MX").find("18 mail18.shop.example") != std::string::npos);
}

TEST_CASE("a zone file includes others relative to itself") {
  const test::TempDir folder;
  const auto write = [&](const std::string& name, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(folder / name).parent_path());
    std::ofstream(folder / name) << text;
  };
  write("shop.zone", "$TTL 60\n@ SOA ns host 1 2 3 4 5\n$INCLUDE parts/web inner\nlast A 192.0.2.9\n");
  write("parts/web", "www A 192.0.2.1\n$INCLUDE more\n");
  write("parts/more", "more A 192.0.2.2\n");
  const auto zone = DnsZone::from_master_file(folder / "shop.zone", "shop.example");
  REQUIRE_MESSAGE(zone, (zone ? "" : zone.error().message()));
  CHECK((*zone)->record_count() == 4);
  const auto& known = dynamic_cast<const AnyZone&>(**zone);
  CHECK(text_of(known.answer(asked("more.inner.shop.example", "A"), 0)).starts_with("NOERROR\nmore.inner"));
  CHECK(text_of(known.answer(asked("last.shop.example", "A"), 0)).starts_with("NOERROR\nlast"));
  write("parts/more", "more A nonsense\n");
  const auto broken = DnsZone::from_master_file(folder / "shop.zone", "shop.example");
  CHECK(broken.error().message().starts_with(folder / "parts/more:1: "));
  write("parts/more", "$INCLUDE more\n");
  CHECK(DnsZone::from_master_file(folder / "shop.zone", "shop.example").error().message().find("8 deep") !=
        std::string::npos);
  CHECK(DnsZone::from_master_file(folder / "none", "shop.example").error().is(Error::not_found));
  CHECK(DnsZone::from_master_file(folder.path(), "shop.example").error().is(Error::io));
}

TEST_CASE("a zone file without an end is not read to it") {
  if (std::getenv("ORCHESTRA_LONG") == nullptr) ORC_SKIP("long", "it takes 512 MiB; --long runs it");
  CHECK(DnsZone::from_master_file("/dev/zero", "shop.example").error().is(Error::too_large));
}

TEST_CASE("a zone without a name is called by its SOA record") {
  const auto zone = DnsZone::from_text("corp.example. 60 SOA . . 1 1 1 1 1\n");
  REQUIRE(zone);
  CHECK((*zone)->name() == "corp.example");
  // The owner that "@" is without a name would make us the server of every name there is.
  const std::string nameless = "@ 60 SOA . . 1 1 1 1 1\n";
  const auto root = DnsZone::from_text(nameless, "", "shop.zone");
  REQUIRE_FALSE(root);
  CHECK(root.error().is(Error::invalid));
  CHECK(root.error().message().starts_with("shop.zone: the SOA record is of the root"));
  CHECK(DnsZone::from_text(nameless, "."));
  CHECK(DnsZone::from_text("$ORIGIN corp.example.\n" + nameless));
}

TEST_CASE("records are read back from what is printed") {
  for (const Record& record :
       parse_master_file(kShop, {.origin = make_name("shop.example").value()}).value()) {
    CAPTURE(record_text(record));
    const auto again = parse_master_file(record_text(record) + "\n", {.origin = std::string(1, '\0')});
    REQUIRE(again);
    CHECK(again->at(0) == record);
  }
}

}  // namespace orchestra::dns
