// DnsServer over loopback sockets, with upstream servers that behave and misbehave as told.
#include "orchestra/dns_server.hpp"

#include <atomic>
#include <thread>

#include "server_support.hpp"

namespace orchestra {
namespace {

using test::query_packet;

using namespace test::dns_server;

}  // namespace

TEST_CASE("the server answers from the published snapshot by UDP and TCP") {
  Fixture f;
  CHECK(f.ask("web.shop.svc.cluster.local") == "2");
  f.server->publish(test::shop_snapshot());
  const std::string expected = "NOERROR\nweb.shop.svc.cluster.local 5 A 10.96.0.10";
  CHECK(f.ask("web.shop.svc.cluster.local") == expected);
  TcpClient tcp(f.address);
  tcp.send(TcpClient::framed(query_packet("web.shop.svc.cluster.local", "A")));
  CHECK(Fixture::text(tcp.receive()) == expected);
  CHECK(f.ask("example.com") == "5");  // no upstream server: refused
  CHECK(f.server->stats().queries == 4);
}

TEST_CASE("TCP queries may be pipelined and cut anywhere") {
  Fixture f;
  f.server->publish(test::shop_snapshot());
  std::string all;
  for (std::uint16_t id = 1; id <= 20; ++id) {
    all += TcpClient::framed(query_packet("web.shop.svc.cluster.local", "A", id));
  }
  TcpClient tcp(f.address);
  for (std::size_t at = 0; at < all.size(); at += 7) tcp.send(all.substr(at, 7));
  std::set<int> ids;
  for (int i = 0; i < 20; ++i) {
    const auto message = dns::read_message(tcp.receive());
    REQUIRE(message);
    ids.insert(message->id);
  }
  CHECK(ids.size() == 20);
}

TEST_CASE("hostile packets get no answer, or only a refusal, and do no harm") {
  Fixture f;
  f.server->publish(test::shop_snapshot());
  for (const std::string& packet :
       {std::string(), std::string("x"), std::string(11, '\0'), std::string(12, '\xff'),
        std::string(512, '\xff'), std::string(4096, '\xc0')}) {
    (void)ask_udp(f.address, packet, 20);
  }
  std::string loop = query_packet("a", "A");
  loop[12] = '\xc0';
  loop[13] = '\x0c';
  CHECK(Fixture::text(ask_udp(f.address, loop)) == "1");
  CHECK(f.ask("web.shop.svc.cluster.local").starts_with("NOERROR"));
}

TEST_CASE("who is not allowed to ask hears nothing") {
  Fixture f({.allow_from = {"10.0.0.0/8"}});
  CHECK(ask_udp(f.address, query_packet("a.example", "A"), 100, "127.0.0.2").empty());
  CHECK(f.server->stats().dropped == 1);
  CHECK_FALSE(ask_udp(f.address, query_packet("a.example", "A")).empty());  // from the listen address
}

TEST_CASE("other names are asked of the upstream server once and then remembered") {
  Upstream upstream(good());
  Fixture f({.forward = {upstream.address()}});
  CHECK(f.ask("Www.Example.com") == "NOERROR\nwww.example.com 60 A 10.1.1.1");
  CHECK(f.ask("www.example.com").starts_with("NOERROR"));
  CHECK(upstream.queries() == 1);
  CHECK(f.server->stats().forwarded == 2);
}

TEST_CASE("an ExternalName ends with what the upstream server says about its target") {
  Upstream upstream(good(9));
  Fixture f({.forward = {upstream.address()}});
  f.server->publish(test::shop_snapshot());
  CHECK(f.ask("out.shop.svc.cluster.local") ==
        "NOERROR\nout.shop.svc.cluster.local 5 CNAME example.com\nexample.com 60 A 10.1.1.9");
}

TEST_CASE("a silent first server costs one try and then is passed over") {
  std::atomic<int> asked_for_c{0};
  Upstream silent([&](const dns::Query& query) {
    if (query.question->name == dns::make_name("c.example")) ++asked_for_c;
    return std::vector<std::string>();
  });
  Upstream upstream(good());
  Fixture f(
      {.forward = {silent.address(), upstream.address()}, .forward_policy = DnsForwardPolicy::sequential});
  CHECK(f.ask("a.example").starts_with("NOERROR"));
  CHECK(f.ask("b.example").starts_with("NOERROR"));
  CHECK(f.ask("c.example").starts_with("NOERROR"));
  CHECK(asked_for_c == 0);
}

TEST_CASE("a server that fails is replaced by the next") {
  Upstream failing([](const dns::Query& query) {
    return std::vector{dns::write_answer(query, dns::Rcode::server_failure, {}, {}, {}, {}, 512)};
  });
  Upstream upstream(good());
  Fixture f(
      {.forward = {failing.address(), upstream.address()}, .forward_policy = DnsForwardPolicy::sequential});
  CHECK(f.ask("a.example").starts_with("NOERROR"));
  Fixture only({.forward = {failing.address()}});
  CHECK(only.ask("a.example") == "2");
}

TEST_CASE("answers with another id, question or case are not taken") {
  Upstream lying([](const dns::Query& query) {
    dns::Query wrong_id = query, wrong_name = query;
    ++wrong_id.id;
    wrong_name.question = test::question("bank.example", "A");
    return std::vector{address_answer(wrong_id, 66), address_answer(wrong_name, 66), std::string("garbage"),
                       address_answer(query, 1)};
  });
  Fixture f({.forward = {lying.address()}});
  CHECK(f.ask("a.example") == "NOERROR\na.example 60 A 10.1.1.1");
}

TEST_CASE("our own server as upstream is refused, and so are other bad options") {
  Fixture f;
  CHECK(DnsServer::create(f.engine, {.listen = {f.address}}).error().is(Error::busy));
  CHECK(DnsServer::create(f.engine, {.listen = {"nonsense"}}).error().is(Error::invalid));
  CHECK(DnsServer::create(f.engine, {.listen = {"127.0.0.1:0"}, .zone = "a..b"}).error().is(Error::invalid));
  CHECK(DnsServer::create(f.engine, {.listen = {"127.0.0.1:0"}, .ttl = 9999}).error().is(Error::invalid));
  CHECK(DnsServer::create(f.engine, {.listen = {"127.0.0.1:0"}, .allow_from = {"10.0.0.1/8"}})
            .error()
            .is(Error::invalid));
  CHECK(
      DnsServer::create(f.engine, {.listen = {"127.0.0.1:0"}, .forward = {"x"}}).error().is(Error::invalid));
}

TEST_CASE("an answer that does not fit a datagram is fetched by TCP") {
  NetworkInputs in;
  std::string endpoints;
  for (int i = 1; i <= 200; ++i) {
    endpoints +=
        (i > 1 ? "," : "") + std::string(R"({"addresses":["10.244.2.)") + std::to_string(i) + R"("]})";
  }
  in.services.objects = {
      Object::from_json(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"many","namespace":"shop",
    "uid":"u","resourceVersion":"1"},"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":[]}})")
          .value()};
  in.endpoint_slices.objects = {
      Object::from_json(R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
    "metadata":{"name":"many-1","namespace":"shop","resourceVersion":"1","labels":{"kubernetes.io/service-name":"many"}},
    "ports":[],"endpoints":[)" +
                        endpoints + "]}")
          .value()};
  in.namespaces.objects = {
      Object::from_json(
          R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","resourceVersion":"1"}})")
          .value()};
  in.services.synced = in.endpoint_slices.synced = in.namespaces.synced = true;
  Fixture f;
  f.server->publish(NetworkSnapshot::build(in));
  const auto cut = dns::read_message(ask_udp(f.address, query_packet("many.shop.svc.cluster.local", "A")));
  REQUIRE(cut);
  CHECK(cut->truncated);
  TcpClient tcp(f.address);
  tcp.send(TcpClient::framed(query_packet("many.shop.svc.cluster.local", "A")));
  CHECK(dns::read_message(tcp.receive())->answers.size() == 200);
  // The forwarder does the same with its upstream server.
  Fixture front({.forward = {f.address}, .zone = "other.local"});
  TcpClient client(front.address);
  client.send(TcpClient::framed(query_packet("many.shop.svc.cluster.local", "A")));
  CHECK(dns::read_message(client.receive())->answers.size() == 200);
}

TEST_CASE("snapshots published while queries run lose no answer") {
  Fixture f;
  f.server->publish(test::shop_snapshot());
  std::atomic<bool> stop{false};
  std::thread publisher([&] {
    while (!stop) f.server->publish(test::shop_snapshot());
  });
  int answered = 0;
  for (int i = 0; i < 300; ++i) answered += f.ask("web.shop.svc.cluster.local").starts_with("NOERROR\n");
  stop = true;
  publisher.join();
  CHECK(answered == 300);
}

TEST_CASE("an engine that stops ends a server that was not stopped, and the port is free") {
  std::string address;
  {
    Engine engine;
    const auto server = DnsServer::create(engine, {.listen = {"127.0.0.1:0"}}).value();
    address = server->addresses().at(0);
    CHECK(Fixture::text(ask_udp(address, query_packet("a.example", "A"))) == "5");
    engine.stop();
  }
  Engine engine;
  const auto again = DnsServer::create(engine, {.listen = {address}});
  REQUIRE_MESSAGE(again, (again ? "" : again.error().to_string()));
}

TEST_CASE("a stopped server has given its port back") {
  Fixture f;
  f.server->stop();
  f.server->stop();
  const auto again = DnsServer::create(f.engine, {.listen = {f.address}});
  CHECK(again);
}

}  // namespace orchestra
