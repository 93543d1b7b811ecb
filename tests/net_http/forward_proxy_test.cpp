// Forward proxies: who is named by no_proxy, by table; and a small proxy on the loopback that every name
// leads to one server of the test, so no name is looked up outside.
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <mutex>
#include <thread>

#include "base/http_client.hpp"
#include "net/http/address.hpp"
#include "net/http/forward_proxy.hpp"
#include "net/http/http_server.hpp"
#include "net/http/tls_context.hpp"
#include "tests/support/test.hpp"

namespace orchestra {
namespace {
using namespace std::chrono_literals;

TEST_CASE("no_proxy: names, what is below them, addresses, blocks and ports") {
  struct Case {
    const char *no_proxy, *url;
    bool named;
  };
  for (const Case& c : {Case{"", "http://registry.example/", false},
                        {"*", "http://registry.example/", true},
                        {"example", "https://registry.example/", true},
                        {"registry.example", "https://registry.example/", true},
                        {"registry.example", "https://a.registry.example/", true},
                        {"registry.example", "https://notregistry.example/", false},
                        {".registry.example", "https://registry.example/", false},
                        {".registry.example", "https://a.registry.example/", true},
                        {"*.registry.example", "https://a.registry.example/", true},
                        {"Registry.Example", "https://rEGISTRY.example/", true},
                        {"other, registry.example", "https://registry.example/", true},
                        {"other,,registry.example ", "https://registry.example/", true},
                        {"registry.example:5000", "http://registry.example:5000/", true},
                        {"registry.example:5000", "http://registry.example/", false},
                        {"registry.example:443", "https://registry.example/", true},
                        {"10.1.2.3", "http://10.1.2.3/", true},
                        {"10.1.2.3:80", "http://10.1.2.3/", true},
                        {"10.1.2.3:81", "http://10.1.2.3/", false},
                        {"10.0.0.0/8", "http://10.1.2.3/", true},
                        {"10.0.0.0/8", "http://11.1.2.3/", false},
                        {"10.1.2.0/23", "http://10.1.3.255/", true},
                        {"10.1.2.0/23", "http://10.1.4.0/", false},
                        {"0.0.0.0/0", "http://10.1.4.0/", true},
                        {"10.0.0.0/33", "http://10.1.2.3/", false},
                        {"10.0.0.0/", "http://10.1.2.3/", false},
                        {"2.3", "http://10.1.2.3/", false},
                        {"fd00::/8", "http://[fd00::1]/", true},
                        {"fd00::1", "http://[fd00:0::1]/", true},
                        {"[fd00::1]:8080", "http://[fd00::1]:8080/", true},
                        {"[fd00::1]:8080", "http://[fd00::1]/", false},
                        {"fd00::/8", "http://10.1.2.3/", false},
                        {"", "http://localhost:5000/", true},
                        {"", "http://127.0.0.1:5000/", true},
                        {"", "http://127.9.9.9/", true},
                        {"", "http://[::1]:5000/", true},
                        {"", "http://a.localhost/", true},
                        {"", "http://notlocalhost/", false}}) {
    CAPTURE(c.no_proxy);
    CAPTURE(c.url);
    CHECK(http::is_named_by(c.no_proxy, http::parse_url(c.url).value()) == c.named);
  }
}

TEST_CASE("the address of a proxy; its password is in no error") {
  const auto proxy = http::parse_forward_proxy("http://me%40corp:s%3acret@proxy.corp:3128");
  REQUIRE(proxy);
  CHECK(proxy->host == "proxy.corp");
  CHECK(proxy->port == 3128);
  CHECK(proxy->authorization == "Basic bWVAY29ycDpzOmNyZXQ=");  // me@corp:s:cret
  CHECK(http::parse_forward_proxy("proxy.corp")->port == 80);
  CHECK(http::parse_forward_proxy("[fd00::1]:3128")->host == "fd00::1");
  for (const auto& [text, reason] :
       {std::pair("socks5://u:hidden@p:1080", "only proxies that speak plain HTTP"),
        {"https://u:hidden@p:1", "only proxies that speak plain HTTP"},
        {"http://u:hidden@p:99999", "not the address of a proxy"},
        {"http://u:hidden@p/path", "it has a path"},
        {"http://", "not the address of a proxy"}}) {
    CAPTURE(text);
    const auto bad = http::parse_forward_proxy(text);
    REQUIRE(!bad);
    CHECK(bad.error().message().find(reason) != std::string::npos);
    CHECK(bad.error().message().find("hidden") == std::string::npos);
  }
}

TEST_CASE("the environment names proxies, lower case first, and a CGI program is not fooled") {
  for (const char* name :
       {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "REQUEST_METHOD"})
    unsetenv(name);
  CHECK(proxies_of_environment().https.empty());
  setenv("HTTPS_PROXY", "http://big:1", 1);
  setenv("HTTP_PROXY", "http://evil:1", 1);
  setenv("NO_PROXY", "a,b", 1);
  CHECK(proxies_of_environment().https == "http://big:1");
  CHECK(proxies_of_environment().http == "http://evil:1");
  CHECK(proxies_of_environment().no_proxy == "a,b");
  setenv("https_proxy", "http://small:1", 1);
  CHECK(proxies_of_environment().https == "http://small:1");
  setenv("REQUEST_METHOD", "GET", 1);
  CHECK(proxies_of_environment().http.empty());
  for (const char* name : {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "https_proxy", "REQUEST_METHOD"})
    unsetenv(name);
}

Fd connect_to(const std::string& address) {
  const auto to = http::parse_address(address).value();
  Fd socket(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::connect(socket.get(), to.get(), to.size) == 0);
  return socket;
}
void send_text(const Fd& to, std::string_view text) {
  (void)!::send(to.get(), text.data(), text.size(), MSG_NOSIGNAL);
}

/// A forward proxy whose every connection ends at one server. `answer` to CONNECT, unless it is to be let
/// through.
class Proxy {
 public:
  explicit Proxy(std::string server, std::string answer = {})
      : server_(std::move(server)), answer_(std::move(answer)) {
    listener_ =
        http::open_listener(http::parse_address("127.0.0.1:0").value(), http::Listen::stream, {}).value();
    address = http::local_address(listener_.get())->text();
    thread_ = std::thread([this] { accept_all(); });
  }
  ~Proxy() {
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
    for (auto& one : connections_) one.join();
  }
  std::vector<std::string> heads() {
    std::lock_guard lock(mutex_);
    return heads_;
  }
  std::string address;

 private:
  void accept_all() {
    while (true) {
      pollfd wait{listener_.get(), POLLIN, 0};
      poll(&wait, 1, -1);
      Fd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!peer && errno != EAGAIN) return;
      if (peer) connections_.emplace_back([this, fd = std::make_shared<Fd>(std::move(peer))] { serve(*fd); });
    }
  }
  void serve(const Fd& peer) {
    std::string head;
    char block[16384];
    while (head.find("\r\n\r\n") == std::string::npos) {
      const ssize_t got = recv(peer.get(), block, sizeof block, 0);
      if (got <= 0) return;
      head.append(block, static_cast<std::size_t>(got));
    }
    {
      std::lock_guard lock(mutex_);
      heads_.push_back(head);
    }
    const bool connects = head.starts_with("CONNECT ");
    if (connects && !answer_.empty()) return send_text(peer, answer_);
    const Fd server = connect_to(server_);
    if (connects) {
      send_text(peer, "HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n");
    } else {  // "GET http://host/path HTTP/1.1" goes on as "GET /path HTTP/1.1"
      const std::size_t login = head.find("Proxy-Authorization: ");
      if (login != std::string::npos) head.erase(login, head.find("\r\n", login) + 2 - login);
      const std::size_t from = head.find("http://"), path = head.find('/', from + 7);
      send_text(server, head.substr(0, from) + head.substr(path));
    }
    pollfd both[2] = {{peer.get(), POLLIN, 0}, {server.get(), POLLIN, 0}};
    while (poll(both, 2, -1) > 0) {
      for (int i = 0; i < 2; ++i) {
        if (both[i].revents == 0) continue;
        const ssize_t got = recv(both[i].fd, block, sizeof block, 0);
        if (got <= 0) return;
        (void)!send(both[1 - i].fd, block, static_cast<std::size_t>(got), MSG_NOSIGNAL);
      }
    }
  }
  const std::string server_, answer_;
  Fd listener_;
  std::mutex mutex_;
  std::vector<std::string> heads_;
  std::thread thread_;
  std::vector<std::thread> connections_;
};

void say_target(HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
  responder->respond(200, {},
                     request.method + " " + request.target + " " + request.headers["host"] +
                         (request.headers.count("proxy-authorization") != 0 ? " leaked" : ""));
}
std::string said(const Result<HttpResponse>& response) {
  return response ? response->body : "ERROR " + response.error().message();
}

TEST_CASE("http goes to the proxy as it is, https through a tunnel that the login opens") {
  Engine engine;
  const auto [certificate, key] = http::make_self_signed("registry.test").value();
  const auto plain = HttpServer::start(engine, {.listen = "127.0.0.1:0"}, say_target).value();
  const auto secret =
      HttpServer::start(
          engine, {.listen = "127.0.0.1:0", .tls = true, .certificate_pem = certificate, .key_pem = key},
          say_target)
          .value();
  Proxy for_plain(plain->address()), for_secret(secret->address());
  {
    const auto client =
        make_http_client(engine, {"http://me:pw@" + for_plain.address, "http://me:pw@" + for_secret.address});
    CHECK(said(client->send({.url = "http://registry.test/v2/?a=b"}).wait(30s)) ==
          "GET /v2/?a=b registry.test");
    const TlsOptions tls{.ca_pem = certificate};
    CHECK(
        said(client->send({.method = "PUT", .url = "https://registry.test:5000/v2/", .body = "x", .tls = tls})
                 .wait(30s)) == "PUT /v2/ registry.test:5000");
    CHECK(said(client->send({.url = "https://registry.test:5000/again", .tls = tls}).wait(30s)) ==
          "GET /again registry.test:5000");
    REQUIRE(for_plain.heads().size() == 1);
    CHECK(for_plain.heads()[0].starts_with("GET http://registry.test/v2/?a=b HTTP/1.1\r\n"));
    CHECK(for_plain.heads()[0].find("\r\nProxy-Authorization: Basic bWU6cHc=\r\n") != std::string::npos);
    REQUIRE(for_secret.heads().size() == 1);  // the second request took the same connection
    CHECK(for_secret.heads()[0].starts_with(
        "CONNECT registry.test:5000 HTTP/1.1\r\nHost: registry.test:5000\r\n"));
    CHECK(for_secret.heads()[0].find("\r\nProxy-Authorization: Basic bWU6cHc=\r\n") != std::string::npos);
    // This machine is asked directly.
    CHECK(said(client->send({.url = "http://" + plain->address() + "/own"}).wait(30s)) ==
          "GET /own " + plain->address());
    CHECK(for_plain.heads().size() == 1);
  }
}

TEST_CASE("what a proxy may do wrong") {
  struct Case {
    const char *answer, *reason;
  };
  for (const Case& c :
       {Case{"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
             "refused the connection: HTTP/1.1 407 Proxy Authentication Required"},
        {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno",
         "refused the connection: HTTP/1.1 502 Bad Gateway"},
        {"SSH-2.0-OpenSSH\r\n\r\n", "refused the connection: SSH-2.0-OpenSSH"},
        {"HTTP/1.1 200 OK\r\n\r\nbytes before TLS", "sent bytes of its own into the connection"},
        {"HTTP/1.1 200 OK\r\n", "closed the connection"}}) {
    CAPTURE(c.answer);
    Engine engine;
    Proxy proxy("127.0.0.1:1", c.answer);
    const auto client = make_http_client(engine, {.https = proxy.address});
    const auto response =
        client->send({.method = "POST", .url = "https://registry.test/v2/", .body = "x"}).wait(30s);
    REQUIRE(!response);
    CHECK(response.error().is(Error::unavailable));
    CHECK(response.error().message().find(c.reason) != std::string::npos);
    CHECK(response.error().message().find("proxy " + proxy.address + " ") != std::string::npos);
    REQUIRE(response.error().detail<HttpFailure>() != nullptr);
    CHECK(!response.error().detail<HttpFailure>()->sent);
  }
  Engine engine;
  Proxy endless("127.0.0.1:1", "HTTP/1.1 200 OK\r\nX: " + std::string(20000, 'x'));
  const auto client = make_http_client(engine, {.https = endless.address});
  CHECK(said(client->send({.url = "https://registry.test/"}).wait(30s)).find("a head of more than 16 KiB") !=
        std::string::npos);
  const auto none = make_http_client(engine, {.https = "ftp://me:hidden@p"});
  const auto refused = none->send({.url = "https://registry.test/"}).wait(30s);
  REQUIRE(!refused);
  CHECK(refused.error().is(Error::invalid));
  CHECK(refused.error().message().find("hidden") == std::string::npos);
}

}  // namespace
}  // namespace orchestra
