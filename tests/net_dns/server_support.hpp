#pragma once
// What tests of DnsServer share: clients by UDP and TCP, upstream servers that behave as told, a server.
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <set>
#include <thread>

#include "net/http/address.hpp"
#include "net/http/tls_context.hpp"
#include "orchestra/dns_server.hpp"
#include "orchestra/env.hpp"
#include "support.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test::dns_server {

/// Sends one datagram and returns the answer, or "" after the wait.
inline std::string ask_udp(const std::string& address, const std::string& packet, int milliseconds = 30000,
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

inline std::string address_answer(const dns::Query& query, char last, std::uint32_t ttl = 60) {
  const dns::Record record{query.question->name, dns::Type::a, ttl, std::string{10, 1, 1, last}};
  return dns::write_answer(query, dns::Rcode::no_error, {false, true}, {record}, {}, {}, 4096);
}
inline Upstream::Answer good(char last = 1) {
  return [last](const dns::Query& query) { return std::vector{address_answer(query, last)}; };
}

/// A time that only a test moves: on a slow machine nothing ends before it should.
class SteppingClock final : public Clock {
 public:
  Now now() override {
    Now now = start_;
    now.steady_ns += added_ns_;
    now.wall_ns += added_ns_;
    return now;
  }
  void step(std::chrono::nanoseconds by) { added_ns_ += by.count(); }

 private:
  const Now start_ = real_clock().now();
  std::atomic<std::int64_t> added_ns_{0};
};

/// An upstream server by TLS, with a certificate that it signed itself. Answers 10.1.1.1.
class TlsUpstream {
 public:
  explicit TlsUpstream(const std::string& name) {
    std::string key;
    std::tie(certificate_, key) = http::make_self_signed(name).value();
    context_ = http::make_server_context(certificate_, key, "").value();
    fd_ = http::open_listener(http::parse_address("127.0.0.1:0").value(), http::Listen::stream, {}).value();
    address_ = http::local_address(fd_.get()).value().text();
    thread_ = std::thread([this] { serve(); });
  }
  ~TlsUpstream() {
    stopping_ = true;
    thread_.join();
  }
  const std::string& address() const { return address_; }
  const std::string& certificate() const { return certificate_; }

 private:
  void serve() {
    sigset_t pipe;  // OpenSSL writes to connections that are closed already without MSG_NOSIGNAL
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    while (!stopping_) {
      pollfd wait{fd_.get(), POLLIN, 0};
      if (::poll(&wait, 1, 10) <= 0) continue;
      const Fd client(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      SSL* ssl = SSL_new(context_->get());
      SSL_set_fd(ssl, client.get());
      if (SSL_accept(ssl) == 1) answer(ssl);
      SSL_free(ssl);
    }
  }
  void answer(SSL* ssl) {
    char bytes[4096];
    const int size = SSL_read(ssl, bytes, sizeof bytes);
    const auto query =
        size > 2 ? dns::read_query({bytes + 2, static_cast<std::size_t>(size) - 2}) : std::nullopt;
    if (!query) return;
    const std::string packet = TcpClient::framed(address_answer(*query, 1));
    (void)SSL_write(ssl, packet.data(), static_cast<int>(packet.size()));
  }

  std::string certificate_, address_;
  http::SharedTlsContext context_;
  Fd fd_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

/// One pod with this address and namespace, and the Service other/web at 10.96.0.10.
inline std::shared_ptr<const NetworkSnapshot> pod_snapshot(const std::string& address,
                                                           const std::string& ns) {
  NetworkInputs in;
  const auto object = [](const std::string& json) { return Object::from_json(json).value(); };
  for (const std::string& name : {ns, std::string("other")}) {
    in.namespaces.objects.push_back(object(R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":")" +
                                           name + R"(","resourceVersion":"1"}})"));
  }
  in.services.objects = {object(
      R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"other","uid":"s","resourceVersion":"1"},
      "spec":{"clusterIP":"10.96.0.10","clusterIPs":["10.96.0.10"],"ports":[{"port":80}]}})")};
  in.pods.objects = {object(
      R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":")" + ns +
      R"(","uid":"u","resourceVersion":"1"},"spec":{"nodeName":"n1"},"status":{"phase":"Running","podIP":")" +
      address + R"(","podIPs":[{"ip":")" + address + R"("}]}})")};
  in.loopback_ranges = {"127.0.0.0/8"};
  for (NetworkInput* input : {&in.services, &in.endpoint_slices, &in.pods, &in.nodes, &in.namespaces})
    input->synced = true;
  return NetworkSnapshot::build(in);
}

inline EngineOptions engine_options(Clock* clock, LogSink log) {
  EngineOptions options;
  options.clock = clock;
  options.log_sink = std::move(log);
  return options;
}

struct Fixture {
  Engine engine;
  std::shared_ptr<DnsServer> server;
  std::string address;
  explicit Fixture(DnsServerOptions options = {}, Clock* clock = nullptr, LogSink log = nullptr)
      : engine(engine_options(clock, std::move(log))) {
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

}  // namespace orchestra::test::dns_server
