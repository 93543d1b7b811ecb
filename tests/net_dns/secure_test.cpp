// DNS over TLS and over HTTPS: what is read, and a server with a certificate over loopback sockets.
#include "base/base64.hpp"
#include "base/http_client.hpp"
#include "net/dns/doh.hpp"
#include "net/http/http_server.hpp"
#include "server_support.hpp"

namespace orchestra {
namespace {

using namespace test::dns_server;
using test::query_packet;

std::string base64url(const std::string& bytes) {
  std::string text = encode_base64_text(bytes);
  while (text.ends_with('=')) text.pop_back();
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}

struct Secure {
  std::string certificate, key;
  explicit Secure(const std::string& name) {
    std::tie(certificate, key) = http::make_self_signed(name).value();
  }
  DnsServerOptions options() const {
    return {.listen_tls = {"127.0.0.1:0"},
            .listen_https = {"127.0.0.1:0"},
            .certificate_pem = certificate,
            .key_pem = key};
  }
};

/// Messages over one TLS connection, whoever's the certificate is.
class TlsClient {
 public:
  explicit TlsClient(const std::string& address) : context_(SSL_CTX_new(TLS_client_method())) {
    const auto to = http::parse_address(address).value();
    fd_ = Fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(fd_.get(), to.get(), to.size) == 0);
    const timeval patience{30, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, fd_.get());
    REQUIRE(SSL_connect(ssl_) == 1);
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;
  void send(const std::string& bytes) {
    REQUIRE(SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())) > 0);
  }
  std::string receive() {
    const std::string length = exactly(2);
    if (length.size() < 2) return {};
    return exactly(static_cast<std::size_t>(static_cast<unsigned char>(length[0])) << 8 |
                   static_cast<unsigned char>(length[1]));
  }

 private:
  std::string exactly(std::size_t size) {
    std::string out(size, '\0');
    std::size_t got = 0;
    while (got < size) {
      const int more = SSL_read(ssl_, out.data() + got, static_cast<int>(size - got));
      if (more <= 0) return {};
      got += static_cast<std::size_t>(more);
    }
    return out;
  }
  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
  Fd fd_;
};

/// Requests to /dns-query of a server whose certificate is for dns.example.
struct DohClient {
  Engine engine;
  std::shared_ptr<HttpClient> client = make_http_client(engine);
  std::string url, ca_pem;

  HttpResponse send(const std::string& method, const std::string& query, const std::string& body = {},
                    const std::string& type = {}) {
    HttpRequest request;
    request.method = method;
    request.url = url + query;
    request.body = body;
    if (!type.empty()) request.headers = {{"Content-Type", type}};
    request.tls.ca_pem = ca_pem;
    request.tls.server_name = "dns.example";
    auto done = client->send(std::move(request)).wait(std::chrono::seconds(30));
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
    return *done;
  }
};

}  // namespace

TEST_CASE("a request over HTTPS is one query, by GET or POST, and its size counts before it is decoded") {
  const std::string packet = query_packet("a.example", "A"), text = base64url(packet);
  const auto get = [](const std::string& target) { return dns::read_doh("GET", target, "", ""); };
  CHECK(get("/dns-query?dns=" + text).packet == packet);
  CHECK(get("/dns-query?ct&dns=" + text + "&x=y").packet == packet);
  const auto post = [](const std::string& type, const std::string& body) {
    return dns::read_doh("POST", "/dns-query", type, body);
  };
  CHECK(post("application/dns-message", packet).packet == packet);
  CHECK(post("Application/DNS-Message ; q=1", packet).packet == packet);
  CHECK(get("/dns-query").status == 400);
  CHECK(get("/dns-query?dns=").status == 400);
  CHECK(get("/dns-query?adns=" + text).status == 400);
  CHECK(get("/dns-query?dns=" + text + "=").status == 400);  // RFC 8484 section 6: no padding
  CHECK(get("/dns-query?dns=a+b/").status == 400);
  CHECK(get("/dns-query?dns=AAAA").status == 400);  // three octets
  CHECK(get("/dns-query?dns=" + base64url(std::string(4096, 'x'))).packet.size() == 4096);
  CHECK(get("/dns-query?dns=" + base64url(std::string(4097, 'x'))).status == 414);
  CHECK(get("/dns-query?dns=" + std::string(1 << 20, '!')).status == 414);  // not 400: nobody looked inside
  CHECK(get("/?dns=" + text).status == 404);
  CHECK(get("/dns-query/?dns=" + text).status == 404);
  CHECK(post("", packet).status == 415);
  CHECK(post("text/plain", packet).status == 415);
  CHECK(post("application/dns-message", std::string(4097, 'x')).status == 413);
  CHECK(post("application/dns-message", "x").status == 400);
  CHECK(dns::read_doh("PUT", "/dns-query", "", packet).status == 405);
}

TEST_CASE("an answer over HTTPS is fresh for its least time to live, a failure never") {
  const auto query = *dns::read_query(query_packet("a.example", "A"));
  const auto seconds = [&](dns::Rcode rcode, const std::vector<dns::Record>& answers,
                           const std::vector<dns::Record>& authority) {
    return dns::doh_seconds(dns::write_answer(query, rcode, {}, answers, authority, {}, 4096));
  };
  const dns::Name name = dns::make_name("a.example").value();
  const auto address = [&](std::uint32_t ttl) {
    return dns::Record{name, dns::Type::a, ttl, std::string{10, 0, 0, static_cast<char>(ttl)}};
  };
  const dns::Record soa{name, dns::Type::soa, 300, dns::soa_data(name, name, 1, 7)};
  CHECK(seconds(dns::Rcode::no_error, {address(60), address(5)}, {}) == 5);
  CHECK(seconds(dns::Rcode::no_error, {address(60)}, {soa}) == 60);
  CHECK(seconds(dns::Rcode::no_error, {}, {soa}) == 7);
  CHECK(seconds(dns::Rcode::name_error, {}, {soa}) == 7);
  CHECK(seconds(dns::Rcode::name_error, {{name, dns::Type::cname, 3, name}}, {soa}) == 3);
  CHECK(seconds(dns::Rcode::name_error, {}, {}) == 0);
  CHECK(seconds(dns::Rcode::server_failure, {address(60)}, {soa}) == 0);
  CHECK(dns::doh_seconds("x") == 0);
}

TEST_CASE("names are served over TLS, with the newest certificate") {
  const Secure first("dns.example"), second("new.example");
  Fixture f(first.options());
  f.server->publish(test::shop_snapshot());
  const std::string address = f.server->addresses().at(1);
  REQUIRE(address.starts_with("tls://127.0.0.1:"));
  const auto ask_by = [&](const std::string& name, const Secure& trusted) {
    Fixture front(
        {.forward = {address + "#" + name}, .forward_ca_pem = trusted.certificate, .zone = "other.local"});
    return front.ask("web.shop.svc.cluster.local");
  };
  const std::string expected = "NOERROR\nweb.shop.svc.cluster.local 5 A 10.96.0.10";
  CHECK(ask_by("dns.example", first) == expected);
  CHECK(ask_by("new.example", second) == "2");
  REQUIRE(f.server->set_certificate(second.certificate, second.key));
  CHECK(ask_by("new.example", second) == expected);
  CHECK(ask_by("dns.example", first) == "2");
  CHECK(f.server->set_certificate(first.certificate, second.key).error().is(Error::invalid));
  CHECK(ask_by("new.example", second) == expected);
  // Who speaks no TLS is cut off, and does no harm.
  TcpClient plain(address.substr(6));
  plain.send(TcpClient::framed(query_packet("web.shop.svc.cluster.local", "A")));
  CHECK(plain.receive().size() < 12);
  CHECK(ask_by("new.example", second) == expected);
}

TEST_CASE("names are served over HTTPS, ours and those of upstream servers") {
  const Secure secure("dns.example");
  Upstream upstream(good(4));
  DnsServerOptions options = secure.options();
  options.forward = {upstream.address()};
  Fixture f(std::move(options));
  f.server->publish(test::shop_snapshot());
  DohClient client;
  client.url = f.server->addresses().at(2);
  client.ca_pem = secure.certificate;
  REQUIRE(client.url.starts_with("https://127.0.0.1:"));
  REQUIRE(client.url.ends_with("/dns-query"));
  const auto check = [&](const HttpResponse& answer, const std::string& text, const std::string& fresh) {
    CHECK(answer.status == 200);
    CHECK(answer.headers.at("content-type") == "application/dns-message");
    CHECK(answer.headers.at("cache-control") == fresh);
    CHECK(Fixture::text(answer.body) == text);
  };
  const std::string ours = query_packet("web.shop.svc.cluster.local", "A", 0);
  const std::string expected = "NOERROR\nweb.shop.svc.cluster.local 5 A 10.96.0.10";
  check(client.send("GET", "?dns=" + base64url(ours)), expected, "private, max-age=5");
  check(client.send("POST", "", ours, "application/dns-message"), expected, "private, max-age=5");
  check(
      client.send("POST", "", query_packet("nobody.shop.svc.cluster.local", "A"), "application/dns-message"),
      "3", "private, max-age=5");
  check(client.send("POST", "", query_packet("a.example", "A"), "application/dns-message"),
        "NOERROR\na.example 60 A 10.1.1.4", "private, max-age=60");
  CHECK(client.send("PUT", "", "x").status == 405);
  CHECK(client.send("GET", "").status == 400);
  CHECK(client.send("GET", "/other?dns=" + base64url(ours)).status == 404);
  CHECK(client.send("POST", "", ours, "text/plain").status == 415);
  CHECK(client.send("POST", "", std::string(5000, 'x'), "application/dns-message").status == 413);
  CHECK(client.send("GET", "?dns=" + base64url(std::string(12, '\xff'))).status ==
        400);  // a response: no query
  CHECK(f.server->stats().queries == 4);
}

TEST_CASE("an answer by TLS or HTTPS is padded where the question was, by TCP and UDP never") {
  const Secure secure("dns.example");
  Fixture f(secure.options());
  f.server->publish(test::shop_snapshot());
  const auto asked = test::question("web.shop.svc.cluster.local", "A");
  const std::string plain = dns::write_query(1, asked, false, false);
  const std::string padded = dns::write_query(1, asked, false, false, {}, dns::kQueryBlock);
  DohClient client;
  client.url = f.server->addresses().at(2);
  client.ca_pem = secure.certificate;
  const auto by_https = [&](const std::string& query) {
    return client.send("POST", "", query, "application/dns-message").body;
  };
  CHECK(by_https(padded).size() == dns::kAnswerBlock);
  CHECK(by_https(plain).size() < 128);
  CHECK(Fixture::text(by_https(padded)) == Fixture::text(by_https(plain)));
  CHECK(ask_udp(f.address, padded).size() < 128);
  TcpClient by_tcp(f.address);
  by_tcp.send(TcpClient::framed(padded));
  CHECK(by_tcp.receive().size() < 128);
  TlsClient by_tls(f.server->addresses().at(1).substr(6));
  by_tls.send(TcpClient::framed(padded) + TcpClient::framed(plain));
  CHECK(by_tls.receive().size() == dns::kAnswerBlock);
  CHECK(by_tls.receive().size() < 128);
}

TEST_CASE("over HTTPS as well only those are answered who may ask, and a certificate is needed") {
  const Secure secure("dns.example");
  Engine engine;
  DnsServerOptions options = secure.options();
  options.listen = options.listen_tls = {};
  options.listen_https = {"127.0.0.3:0"};
  options.allow_from = {"10.0.0.0/8"};
  const auto server = DnsServer::create(engine, options).value();
  REQUIRE(server->addresses().size() == 1);
  DohClient client;  // comes from 127.0.0.1
  client.url = server->addresses()[0];
  client.ca_pem = secure.certificate;
  CHECK(client.send("GET", "?dns=" + base64url(query_packet("a.example", "A"))).status == 403);
  options.key_pem.clear();
  CHECK(DnsServer::create(engine, options).error().is(Error::invalid));
}

}  // namespace orchestra
