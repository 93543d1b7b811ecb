// DnsServer over loopback sockets, with upstream servers that behave and misbehave as told.
#include "orchestra/dns_server.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "net/http/address.hpp"
#include "support.hpp"
#include "tests/support/test.hpp"

namespace orchestra {
namespace {

using test::query_packet;

/// Sends one datagram and returns the answer, or "" after the wait.
std::string ask_udp(const std::string& address, const std::string& packet, int milliseconds = 30000,
                    const std::string& from = {}) {
  const auto to = http::parse_address(address).value();
  const Fd fd(::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!from.empty()) {
    const auto source = http::make_address(from, 0).value();
    if (::bind(fd.get(), source.get(), source.size) != 0) return {};
  }
  if (::connect(fd.get(), to.get(), to.size) != 0) return {};
  if (::send(fd.get(), packet.data(), packet.size(), 0) < 0) return {};
  pollfd wait{fd.get(), POLLIN, 0};
  if (::poll(&wait, 1, milliseconds) <= 0) return {};
  char answer[4096];
  const ssize_t size = ::recv(fd.get(), answer, sizeof answer, 0);
  return size > 0 ? std::string(answer, static_cast<std::size_t>(size)) : std::string();
}

class TcpClient {
 public:
  explicit TcpClient(const std::string& address) {
    const auto to = http::parse_address(address).value();
    fd_ = Fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(fd_.get(), to.get(), to.size) == 0);
  }
  static std::string framed(const std::string& packet) {
    return std::string{static_cast<char>(packet.size() >> 8), static_cast<char>(packet.size() & 0xff)} +
           packet;
  }
  void send(const std::string& bytes) {
    REQUIRE(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0);
  }
  std::string receive() {
    const std::string length = exactly(2);
    if (length.size() < 2) return {};
    return exactly(static_cast<std::size_t>(static_cast<unsigned char>(length[0])) << 8 |
                   static_cast<unsigned char>(length[1]));
  }

 private:
  std::string exactly(std::size_t size) {
    std::string out;
    while (out.size() < size) {
      pollfd wait{fd_.get(), POLLIN, 0};
      if (::poll(&wait, 1, 30000) <= 0) return {};
      char byte[512];
      const ssize_t got = ::recv(fd_.get(), byte, std::min(sizeof byte, size - out.size()), 0);
      if (got <= 0) return {};
      out.append(byte, static_cast<std::size_t>(got));
    }
    return out;
  }
  Fd fd_;
};

/// An upstream server on its own thread: `answer` sees each UDP query and gives zero or more packets back.
class Upstream {
 public:
  using Answer = std::function<std::vector<std::string>(const dns::Query& query)>;
  explicit Upstream(Answer answer) : answer_(std::move(answer)) {
    fd_ = http::open_listener(http::parse_address("127.0.0.1:0").value(), http::Listen::datagram, {}).value();
    address_ = http::local_address(fd_.get()).value().text();
    thread_ = std::thread([this] { serve(); });
  }
  ~Upstream() {
    stopping_ = true;
    thread_.join();
  }
  const std::string& address() const { return address_; }
  int queries() const { return queries_; }

 private:
  void serve() {
    while (!stopping_) {
      pollfd wait{fd_.get(), POLLIN, 0};
      if (::poll(&wait, 1, 10) <= 0) continue;
      char packet[4096];
      http::SocketAddress from;
      from.size = sizeof from.storage;
      const ssize_t size = ::recvfrom(fd_.get(), packet, sizeof packet, 0, from.get(), &from.size);
      if (size <= 0) continue;
      const auto query = dns::read_query({packet, static_cast<std::size_t>(size)});
      if (!query) continue;
      ++queries_;
      for (const std::string& answer : answer_(*query)) {
        ::sendto(fd_.get(), answer.data(), answer.size(), 0, from.get(), from.size);
      }
    }
  }
  Answer answer_;
  Fd fd_;
  std::string address_;
  std::atomic<int> queries_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

std::string address_answer(const dns::Query& query, char last, std::uint32_t ttl = 60) {
  const dns::Record record{query.question->name, dns::Type::a, ttl, std::string{10, 1, 1, last}};
  return dns::write_answer(query, dns::Rcode::no_error, {false, true}, {record}, {}, {}, 4096);
}
Upstream::Answer good(char last = 1) {
  return [last](const dns::Query& query) { return std::vector{address_answer(query, last)}; };
}

struct Fixture {
  Engine engine;
  std::shared_ptr<DnsServer> server;
  std::string address;
  explicit Fixture(DnsServerOptions options = {}) {
    options.listen = {"127.0.0.1:0"};
    server = DnsServer::create(engine, std::move(options)).value();
    address = server->addresses().at(0);
  }
  /// "NOERROR" or the number of the rcode, then the answers.
  std::string ask(const std::string& name, const std::string& type = "A") {
    return text(ask_udp(address, query_packet(name, type)));
  }
  static std::string text(const std::string& packet) {
    const auto message = dns::read_message(packet);
    if (!message) return "no answer";
    std::string out = message->rcode == 0 ? "NOERROR" : std::to_string(message->rcode);
    for (const std::string& line : test::lines(message->answers)) out += "\n" + line;
    return out;
  }
};

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

TEST_CASE("a stopped server has given its port back") {
  Fixture f;
  f.server->stop();
  f.server->stop();
  const auto again = DnsServer::create(f.engine, {.listen = {f.address}});
  CHECK(again);
}

}  // namespace orchestra
