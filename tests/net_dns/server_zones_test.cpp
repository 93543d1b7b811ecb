// DnsServer's zones, limits and further means towards upstream servers, over loopback sockets.
#include <atomic>
#include <future>

#include "net/dns/service.hpp"
#include "server_support.hpp"
#include "tests/support/test.hpp"

namespace orchestra {
namespace {

using namespace test::dns_server;
using test::query_packet;

constexpr const char* kZone = R"($TTL 60
@   SOA ns host 1 2 3 4 5
@   NS ns
ns  A 127.0.0.1
www A 192.0.2.1
far CNAME www.elsewhere.example.
web CNAME web.shop.svc.cluster.local.
)";

std::shared_ptr<const DnsZone> zone_of(const std::string& text, const std::string& name = "shop.example") {
  auto zone = DnsZone::from_text(text, name);
  REQUIRE_MESSAGE(zone, (zone ? "" : zone.error().message()));
  return *zone;
}

}  // namespace

TEST_CASE("a zone is served beside the cluster's, replaced and taken away between two questions") {
  Fixture f;
  f.server->publish(test::shop_snapshot());
  CHECK(f.ask("www.shop.example") == "5");
  REQUIRE(f.server->add_zone(zone_of(kZone)));
  CHECK(f.ask("www.shop.example") == "NOERROR\nwww.shop.example 60 A 192.0.2.1");
  CHECK(f.ask("no.shop.example") == "3");
  CHECK(f.ask("web.shop.svc.cluster.local").starts_with("NOERROR\n"));
  // A name of ours that leads to another zone of ours.
  CHECK(f.ask("web.shop.example") ==
        "NOERROR\nweb.shop.example 60 CNAME web.shop.svc.cluster.local\nweb.shop.svc.cluster.local 5 A "
        "10.96.0.10");
  REQUIRE(f.server->add_zone(zone_of(std::string(kZone) + "no A 192.0.2.2\n")));
  CHECK(f.ask("no.shop.example") == "NOERROR\nno.shop.example 60 A 192.0.2.2");
  // The longest zone answers.
  REQUIRE(f.server->add_zone(zone_of("@ 60 SOA . . 1 1 1 1 1\n@ A 192.0.2.3\n", "www.shop.example")));
  CHECK(f.ask("www.shop.example") == "NOERROR\nwww.shop.example 60 A 192.0.2.3");
  REQUIRE(f.server->remove_zone("www.shop.example"));
  CHECK(f.ask("www.shop.example") == "NOERROR\nwww.shop.example 60 A 192.0.2.1");
  REQUIRE(f.server->remove_zone("shop.example"));
  CHECK(f.ask("www.shop.example") == "5");
  CHECK(f.server->remove_zone("shop.example").error().is(Error::not_found));
  CHECK(f.server->add_zone(zone_of("@ 60 SOA . . 1 1 1 1 1\n", "cluster.local")).error().is(Error::invalid));
}

TEST_CASE("what is remembered as wire ends with the next publish") {
  Fixture f;
  f.server->publish(test::shop_snapshot());
  for (int i = 0; i < 10; ++i) CHECK(f.ask("web.shop.svc.cluster.local").starts_with("NOERROR\n"));
  CHECK(f.server->stats().remembered == 9);
  CHECK(f.server->stats().queries == 10);
  f.server->publish(nullptr);
  CHECK(f.ask("web.shop.svc.cluster.local") == "2");
  f.server->publish(test::shop_snapshot());
  for (int i = 0; i < 2; ++i) CHECK(f.ask("nobody.shop.svc.cluster.local") == "3");
  CHECK(f.server->stats().name_errors == 2);
}

TEST_CASE("questions are counted by type, answers by type and code, also those from memory") {
  Upstream upstream(good());
  Fixture f({.forward = {upstream.address()}, .forward_zones = {{"corp.example", {upstream.address()}}}});
  f.server->publish(test::shop_snapshot());
  for (int i = 0; i < 3; ++i) CHECK(f.ask("web.shop.svc.cluster.local").starts_with("NOERROR\n"));
  for (int i = 0; i < 2; ++i) CHECK(f.ask("nobody.shop.svc.cluster.local", "AAAA") == "3");
  CHECK(f.ask("web.shop.svc.cluster.local", "HINFO") == "NOERROR");
  CHECK(f.ask("a.example").starts_with("NOERROR\n"));
  CHECK(f.ask("a.corp.example").starts_with("NOERROR\n"));
  (void)ask_udp(f.address, query_packet("web.shop.svc.cluster.local", "AXFR"));
  std::string no_question = query_packet("a", "A").substr(0, 12);
  no_question[5] = 0;
  CHECK(Fixture::text(ask_udp(f.address, no_question)) == "1");
  DnsStats stats = f.server->stats();
  using Requests = std::map<std::string, std::uint64_t>;
  CHECK(stats.requests == Requests{{"A", 5}, {"AAAA", 2}, {"other", 3}});
  using Responses = std::map<std::pair<std::string, std::string>, std::uint64_t>;
  CHECK(stats.responses == Responses{{{"A", "NOERROR"}, 5},
                                     {{"AAAA", "NXDOMAIN"}, 2},
                                     {{"other", "FORMERR"}, 1},
                                     {{"other", "NOERROR"}, 1},
                                     {{"other", "REFUSED"}, 1}});
  CHECK(stats.queries == 10);
  CHECK(stats.remembered == 3);
  CHECK(stats.cache_misses == 2);
  CHECK(stats.cache_entries == 2);
  REQUIRE(stats.upstreams.size() == 1);  // given twice, one server
  CHECK(stats.upstreams[0].server == upstream.address());
  CHECK(stats.upstreams[0].answered == 2);
  CHECK_FALSE(stats.upstreams[0].down);
  TcpClient by_tcp(f.address);  // past what the socket for UDP keeps
  by_tcp.send(TcpClient::framed(query_packet("a.example", "A")));
  CHECK(Fixture::text(by_tcp.receive()).starts_with("NOERROR\n"));
  stats = f.server->stats();
  CHECK(stats.cache_hits == 1);
  CHECK(stats.requests.at("A") == 6);
}

TEST_CASE("zones that change as fast as they can lose no question and mix no answer") {
  Fixture f;
  const auto one = zone_of("@ 60 SOA . . 1 1 1 1 1\n@ A 192.0.2.1\n@ A 192.0.2.11\n");
  const auto two = zone_of("@ 60 SOA . . 1 1 1 1 1\n@ A 192.0.2.2\n@ A 192.0.2.22\n");
  REQUIRE(f.server->add_zone(one));
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    for (int i = 0; !stop; ++i) (void)f.server->add_zone(i % 2 == 0 ? two : one);
  });
  int whole = 0;
  for (int i = 0; i < 500; ++i) {
    const std::string said = f.ask("shop.example");
    const bool first =
        said.find("192.0.2.11") != std::string::npos && said.find("192.0.2.1\n") != std::string::npos;
    whole += (first || said.find("192.0.2.11") != std::string::npos) !=
             (said.find("192.0.2.22") != std::string::npos);
  }
  stop = true;
  changer.join();
  CHECK(whole == 500);
}

TEST_CASE("a host answers its own zone by a function") {
  Fixture f;
  const auto answer = [](const DnsAsked& asked) -> DnsReply {
    if (asked.name == "throws.host.example") throw std::runtime_error("no");
    if (asked.name == "broken.host.example") return {.records = {"@ A nonsense"}};
    if (asked.name == "none.host.example") return {.code = DnsReplyCode::name_error};
    if (asked.name == "alias.host.example") return {.records = {"@ 9 CNAME web.shop.svc.cluster.local."}};
    if (asked.type != "A") return {};
    return {.records = {"@ 7 A 192.0.2.7", "@ 7 A 192.0.2.8", "other.host.example. 7 A 192.0.2.9"}};
  };
  REQUIRE(f.server->add_zone(DnsZone::from_callback("host.example", answer).value()));
  f.server->publish(test::shop_snapshot());
  CHECK(f.ask("Any.host.example") ==
        "NOERROR\nany.host.example 7 A 192.0.2.7\nany.host.example 7 A 192.0.2.8");
  CHECK(f.ask("any.host.example", "AAAA") == "NOERROR");
  CHECK(f.ask("none.host.example") == "3");
  CHECK(f.ask("throws.host.example") == "2");
  CHECK(f.ask("broken.host.example") == "2");
  CHECK(f.ask("alias.host.example") ==
        "NOERROR\nalias.host.example 9 CNAME web.shop.svc.cluster.local\nweb.shop.svc.cluster.local 5 A "
        "10.96.0.10");
  CHECK(f.server->stats().remembered == 0);
}

TEST_CASE("a CNAME out of a zone goes on at the upstream server, or stays alone without one") {
  Upstream upstream(good(4));
  Fixture with({.forward = {upstream.address()}}), alone;
  for (Fixture* f : {&with, &alone}) REQUIRE(f->server->add_zone(zone_of(kZone)));
  CHECK(with.ask("far.shop.example") ==
        "NOERROR\nfar.shop.example 60 CNAME www.elsewhere.example\nwww.elsewhere.example 60 A 10.1.1.4");
  CHECK(alone.ask("far.shop.example") == "NOERROR\nfar.shop.example 60 CNAME www.elsewhere.example");
}

TEST_CASE("half an answer, for who wants no recursion, is not remembered for the others") {
  Upstream upstream(good(4));
  Fixture f({.forward = {upstream.address()}});
  REQUIRE(f.server->add_zone(zone_of(kZone)));
  std::string no_recursion = query_packet("far.shop.example", "A");
  no_recursion[2] = 0;
  const std::string half = "NOERROR\nfar.shop.example 60 CNAME www.elsewhere.example";
  for (int i = 0; i < 2; ++i) {
    CHECK(Fixture::text(ask_udp(f.address, no_recursion)) == half);
    CHECK(f.ask("far.shop.example") == half + "\nwww.elsewhere.example 60 A 10.1.1.4");
  }
}

TEST_CASE("names below a domain go to the servers that are given for it") {
  Upstream outside(good(1)), corporate(good(2));
  Fixture f({.forward = {outside.address()}, .forward_zones = {{"corp.example", {corporate.address()}}}});
  CHECK(f.ask("a.corp.example") == "NOERROR\na.corp.example 60 A 10.1.1.2");
  CHECK(f.ask("corp.example") == "NOERROR\ncorp.example 60 A 10.1.1.2");
  CHECK(f.ask("acorp.example") == "NOERROR\nacorp.example 60 A 10.1.1.1");
  CHECK(corporate.queries() == 2);
}

TEST_CASE("recursion is said to be available where any name has a server to ask") {
  Upstream corporate(good(2));
  Fixture stub_only({.forward_zones = {{"corp.example", {corporate.address()}}}}), none;
  for (Fixture* f : {&stub_only, &none}) REQUIRE(f->server->add_zone(zone_of(kZone)));
  const auto available = [](Fixture& f, const std::string& name) {
    const auto message = dns::read_message(ask_udp(f.address, query_packet(name, "A")));
    return message && message->recursion_available;
  };
  for (const char* name :
       {"a.corp.example", "www.shop.example", "no.shop.example", "www.elsewhere.example"}) {
    CAPTURE(name);
    CHECK(available(stub_only, name));
    CHECK_FALSE(available(none, name));
  }
  CHECK(stub_only.ask("a.corp.example") == "NOERROR\na.corp.example 60 A 10.1.1.2");
  CHECK(stub_only.ask("www.elsewhere.example") == "5");
}

TEST_CASE("askers from outside are limited by UDP, but not with a cookie of ours, and pods never") {
  Engine engine;
  const dns::CookieKey key{1, 2};
  const auto forwarder = std::make_shared<dns::Forwarder>(engine, std::vector<dns::Upstream>(),
                                                          DnsForwardPolicy::random, 1 << 20, 0);
  const dns::ServiceOptions options{.zone = {},
                                    .allow_from = {},
                                    .unlimited = {net::IpRange::parse("10.244.0.0/16").value()},
                                    .answers_per_second = 2,
                                    .autopath = false,
                                    .cookie_key = key};
  dns::Service service(engine, options, forwarder, {});
  const auto pod = net::IpAddress::parse("10.244.1.1").value(),
             outside = net::IpAddress::parse("192.0.2.1").value();
  const std::string packet = query_packet("web.shop.svc.cluster.local", "A");
  for (int i = 0; i < 50; ++i) CHECK(service.limit(pod, packet) == dns::RateVerdict::answer);
  int answered = 0;
  for (int i = 0; i < 50; ++i) answered += service.limit(outside, packet) == dns::RateVerdict::answer;
  CHECK(answered >= 2);
  CHECK(answered < 20);  // a slow machine earns a few more meanwhile
  CHECK(service.stats().limited == 50 - static_cast<std::uint64_t>(answered));
  const auto now = static_cast<std::uint32_t>(engine.clock().now().wall_ns / 1'000'000'000);
  const auto with_cookie = [&](const net::IpAddress& address) {
    return dns::write_query(1, test::question("a.example", "A"), false, false,
                            dns::make_cookie(key, "12345678", address, now));
  };
  for (int i = 0; i < 50; ++i)
    CHECK(service.limit(outside, with_cookie(outside)) == dns::RateVerdict::answer);
  int forged = 0;
  for (int i = 0; i < 50; ++i) forged += service.limit(outside, with_cookie(pod)) == dns::RateVerdict::answer;
  CHECK(forged < 20);
  const auto slip = dns::read_message(service.refer_to_tcp(packet));
  REQUIRE(slip);
  CHECK(slip->truncated);
  CHECK(slip->answers.empty());
  CHECK(service.refer_to_tcp("x").empty());
}

TEST_CASE("an asker with a cookie gets ours, and it is the same for the same asker") {
  Fixture f;
  f.server->publish(test::shop_snapshot());
  const auto asked = test::question("web.shop.svc.cluster.local", "A");
  const auto first =
      dns::read_message(ask_udp(f.address, dns::write_query(1, asked, false, false, "12345678")));
  REQUIRE(first);
  REQUIRE(first->edns);
  CHECK(first->edns->cookie.size() == 24);
  CHECK(first->edns->cookie.starts_with("12345678"));
  const auto second =
      dns::read_message(ask_udp(f.address, dns::write_query(2, asked, false, false, first->edns->cookie)));
  CHECK(second->answers.size() == 1);
  // A length that no cookie has.
  const auto broken =
      dns::read_message(ask_udp(f.address, dns::write_query(3, asked, false, false, "123456789")));
  CHECK(broken->rcode == 1);
}

TEST_CASE("a SERVFAIL says why, to who speaks EDNS") {
  const auto answers = [](dns::Rcode rcode, std::optional<dns::ExtendedError> reason = {}) {
    return [=](const dns::Query& query) {
      return std::vector{dns::write_answer(query, rcode, {.extended = reason}, {}, {}, {}, 512)};
    };
  };
  const auto reason = [&](Fixture& f, const std::string& name) {
    const auto message = dns::read_message(ask_udp(f.address, query_packet(name, "A", 7, true)));
    if (!message) return std::string("no answer");
    if (!message->extended_error) return std::to_string(message->rcode);
    return std::to_string(message->rcode) + " " + std::to_string(message->extended_error->code) + " " +
           message->extended_error->text;
  };
  std::string nobody;
  {
    Upstream gone(good());
    nobody = gone.address();  // its port is closed from here
  }
  Upstream failing(answers(dns::Rcode::server_failure)), refusing(answers(dns::Rcode::refused)),
      explaining(answers(dns::Rcode::server_failure, dns::ExtendedError{6, "bogus"}));
  Fixture not_there({.forward = {nobody}}), fails({.forward = {failing.address()}}),
      refuses({.forward = {refusing.address()}}), explains({.forward = {explaining.address()}}),
      one_of_two({.forward = {failing.address(), nobody}});
  CHECK(reason(not_there, "web.shop.svc.cluster.local").starts_with("2 14 "));  // not ready
  CHECK(reason(not_there, "a.example") == "2 22 no upstream server answers");   // no reachable authority
  CHECK(reason(fails, "a.example") == "2 0 an upstream server answered SERVFAIL");
  CHECK(reason(one_of_two, "a.example") == "2 0 an upstream server answered SERVFAIL");
  CHECK(reason(refuses, "a.example") == "5 0 an upstream server answered REFUSED");
  CHECK(reason(explains, "a.example") == "2 6 bogus");
}

TEST_CASE("an old answer serves while no upstream server answers, and says that it is old") {
  std::atomic<bool> dead{false};
  Upstream upstream([&](const dns::Query& query) {
    const auto rcode = dead ? dns::Rcode::server_failure : dns::Rcode::no_error;
    const dns::Record record{query.question->name, dns::Type::a, 5, std::string{10, 1, 1, 1}};
    return std::vector{dns::write_answer(
        query, rcode, {false, true}, dead ? std::vector<dns::Record>() : std::vector{record}, {}, {}, 512)};
  });
  SteppingClock clock;
  Fixture f({.forward = {upstream.address()}, .stale_seconds = 3600}, &clock);
  CHECK(f.ask("a.example") == "NOERROR\na.example 5 A 10.1.1.1");
  dead = true;
  clock.step(std::chrono::seconds(60));
  const auto stale = dns::read_message(ask_udp(f.address, query_packet("a.example", "A", 7, true)));
  REQUIRE(stale);
  REQUIRE(stale->answers.size() == 1);
  CHECK(stale->answers[0].ttl == 30);
  CHECK(stale->extended_error->code == dns::kStaleAnswer);
  clock.step(std::chrono::seconds(3700));
  CHECK(f.ask("a.example") == "2");
}

TEST_CASE("a name that is asked for often is fetched again before its end") {
  Upstream upstream([](const dns::Query& query) { return std::vector{address_answer(query, 1, 100)}; });
  SteppingClock clock;
  Fixture f({.forward = {upstream.address()}}, &clock);
  for (int i = 0; i < 3; ++i) {
    CHECK(f.ask("a.example").starts_with("NOERROR\n"));
    clock.step(std::chrono::seconds(2));  // past what a socket keeps by itself
  }
  CHECK(upstream.queries() == 1);
  clock.step(std::chrono::seconds(89));
  CHECK(f.ask("a.example") == "NOERROR\na.example 5 A 10.1.1.1");
  // The new answer comes on its own; nobody waited for it.
  while (upstream.queries() < 2) std::this_thread::yield();
  while (f.ask("a.example") != "NOERROR\na.example 98 A 10.1.1.1") clock.step(std::chrono::milliseconds(20));
}

TEST_CASE("what an upstream server said is kept for a second, not for who wants no recursion or no checks") {
  Upstream upstream(good());
  SteppingClock clock;
  Fixture f({.forward = {upstream.address()}}, &clock);
  for (int i = 0; i < 5; ++i) CHECK(f.ask("a.example").starts_with("NOERROR\n"));
  CHECK(f.server->stats().remembered >= 3);  // the second may come before the first is kept
  CHECK(f.server->stats().forwarded == 5);
  std::string packet = query_packet("a.example", "A");
  packet[2] = 0;
  CHECK(Fixture::text(ask_udp(f.address, packet)) == "5");
  const auto before = f.server->stats().remembered;
  packet = query_packet("a.example", "A");
  packet[3] = 0x10;
  CHECK(Fixture::text(ask_udp(f.address, packet)).starts_with("NOERROR\n"));
  clock.step(std::chrono::seconds(10));
  CHECK(f.ask("a.example").starts_with("NOERROR\na.example 50 A") == true);
  CHECK(f.server->stats().remembered == before);
  // A zone of ours takes the name over at once.
  REQUIRE(f.server->add_zone(zone_of("@ 60 SOA . . 1 1 1 1 1\n@ A 192.0.2.1\n", "a.example")));
  CHECK(f.ask("a.example") == "NOERROR\na.example 60 A 192.0.2.1");
}

TEST_CASE("a pod's search list is walked in the server") {
  Upstream upstream([](const dns::Query& query) {
    const dns::Name& name = query.question->name;
    const bool there = name == dns::make_name("www.example.com") || name == dns::make_name("api.example.com");
    if (there) return std::vector{address_answer(query, 1)};
    return std::vector{dns::write_answer(query, dns::Rcode::name_error, {}, {}, {}, {}, 512)};
  });
  Fixture f({.forward = {upstream.address()}, .allow_from = {"127.0.0.0/8"}, .autopath = true});
  // A pod whose address is one of loopback: the question comes from there.
  f.server->publish(pod_snapshot("127.0.0.9", "shop"));
  const auto from = [&](const std::string& source, const std::string& name) {
    return Fixture::text(ask_udp(f.address, query_packet(name, "A"), 30000, source));
  };
  CHECK(from("127.0.0.9", "www.example.com.shop.svc.cluster.local") ==
        "NOERROR\nwww.example.com.shop.svc.cluster.local 5 CNAME www.example.com\nwww.example.com 60 A "
        "10.1.1.1");
  CHECK(from("127.0.0.9", "no.example.com.shop.svc.cluster.local") == "3");
  // Another Service, named with its namespace.
  CHECK(from("127.0.0.9", "web.other.shop.svc.cluster.local") ==
        "NOERROR\nweb.other.shop.svc.cluster.local 5 CNAME "
        "web.other.svc.cluster.local\nweb.other.svc.cluster.local 5 A 10.96.0.10");
  // Who wants no recursion gets no walk, and who asks next is not given that answer, nor one of another
  // asker.
  std::string no_recursion = query_packet("api.example.com.shop.svc.cluster.local", "A");
  no_recursion[2] = 0;
  CHECK(Fixture::text(ask_udp(f.address, no_recursion, 30000, "127.0.0.9")) == "3");
  CHECK(from("127.0.0.8", "api.example.com.shop.svc.cluster.local") == "3");
  CHECK(from("127.0.0.9", "api.example.com.shop.svc.cluster.local")
            .ends_with("\napi.example.com 60 A 10.1.1.1"));
  CHECK(from("127.0.0.8", "api.example.com.shop.svc.cluster.local") == "3");
  // Not that pod's namespace, and nobody's address.
  CHECK(from("127.0.0.9", "www.example.com.other.svc.cluster.local") == "3");
  CHECK(from("127.0.0.8", "www.example.com.shop.svc.cluster.local") == "3");
}

namespace {

/// Gives every question to the server at `there`, which waits for itself then.
Upstream::Answer relay_to(std::shared_future<std::string> there) {
  return [there = std::move(there)](const dns::Query& query) {
    const std::string packet = dns::write_query(query.id, *query.question, false, false);
    (void)ask_udp(there.get(), packet, 1);  // no answer comes in this time
    return std::vector<std::string>();
  };
}

/// Waits until the log says that a server of ours forwards to us.
struct LoopLog {
  std::atomic<bool> told{false};
  LogSink sink() {
    return [this](const LogRecord& record) {
      if (record.message.find("forwards to this server") != std::string_view::npos) told = true;
    };
  }
  void wait() const {
    const std::int64_t until = real_clock().now().steady_ns + 60'000'000'000;  // only a failing test takes it
    while (!told && real_clock().now().steady_ns < until) std::this_thread::yield();
    REQUIRE(told);
  }
};

}  // namespace

TEST_CASE("a server that forwards to us is found out and left alone") {
  std::promise<std::string> of_it;
  const std::shared_future<std::string> there = of_it.get_future().share();
  Upstream relay(relay_to(there));
  LoopLog log;
  Fixture two({.forward = {relay.address()}}, nullptr, log.sink());
  of_it.set_value(two.address);
  (void)ask_udp(two.address, query_packet("a.example", "A"), 8000);
  log.wait();
  CHECK(two.ask("b.example") == "2");
}

TEST_CASE("a server for one domain that gives the domain's names back to us is found out as well") {
  std::promise<std::string> of_it;
  const std::shared_future<std::string> there = of_it.get_future().share();
  const auto domain = dns::make_name("corp.example").value();
  // Only names of the domain: all others it looks up elsewhere.
  Upstream relay([&, back = relay_to(there)](const dns::Query& query) {
    return dns::is_below_or_equal(query.question->name, domain) ? back(query) : std::vector<std::string>();
  });
  LoopLog log;
  Fixture f({.forward_zones = {{"corp.example", {relay.address()}}}}, nullptr, log.sink());
  of_it.set_value(f.address);
  (void)ask_udp(f.address, query_packet("a.corp.example", "A"), 8000);
  log.wait();
  CHECK(f.ask("b.corp.example") == "2");
}

TEST_CASE("an upstream server by TLS is asked only if its certificate is for its name") {
  TlsUpstream upstream("dns.example");
  Fixture good({.forward = {"tls://" + upstream.address() + "#dns.example"},
                .forward_ca_pem = upstream.certificate()});
  CHECK(good.ask("a.example") == "NOERROR\na.example 60 A 10.1.1.1");
  Fixture wrong({.forward = {"tls://" + upstream.address() + "#other.example"},
                 .forward_ca_pem = upstream.certificate()});
  CHECK(wrong.ask("a.example") == "2");
  Fixture stranger({.forward = {"tls://" + upstream.address() + "#dns.example"}});
  CHECK(stranger.ask("a.example") == "2");
  Engine engine;
  CHECK(DnsServer::create(engine, {.listen = {"127.0.0.1:0"}, .forward = {"tls://192.0.2.1"}})
            .error()
            .message()
            .find("tls://ADDRESS#NAME") != std::string::npos);
}

TEST_CASE("several workers share one port, and another server may not have it") {
  Engine engine({.event_threads = 2});
  const auto server = DnsServer::create(engine, {.listen = {"127.0.0.1:0"}, .workers = 4}).value();
  server->publish(test::shop_snapshot());
  const std::string address = server->addresses().at(0);
  for (int i = 0; i < 40; ++i) {
    CHECK(Fixture::text(ask_udp(address, query_packet("web.shop.svc.cluster.local", "A")))
              .starts_with("NOERROR\n"));
  }
  CHECK(DnsServer::create(engine, {.listen = {address}, .workers = 2}).error().is(Error::busy));
}

}  // namespace orchestra
