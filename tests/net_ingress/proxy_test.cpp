// HttpProxy over loopback sockets: backends that behave, misbehave and leave.
#include "orchestra/http_proxy.hpp"

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "base/http_client.hpp"
#include "net/http/http_server.hpp"
#include "net/http/tls_context.hpp"
#include "support.hpp"
#include "tests/support/raw_socket.hpp"
#include "tests/support/test.hpp"

namespace orchestra {
namespace {

using namespace std::chrono_literals;
using test::RawSocket;
using test::rules;
using test::SnapshotBuilder;

/// A backend made of a raw listening socket: `serve` gets each accepted connection on a thread of its own.
class RawBackend {
 public:
  using Serve = std::function<void(int fd, int connection)>;
  explicit RawBackend(Serve serve) : serve_(std::move(serve)) {
    listener_ =
        http::open_listener(http::parse_address("127.0.0.1:0").value(), http::Listen::stream, {}).value();
    address_ = http::local_address(listener_.get()).value().text();
    thread_ = std::thread([this] { run(); });
  }
  ~RawBackend() {
    stopping_ = true;
    thread_.join();
    for (std::thread& thread : served_) thread.join();
  }
  const std::string& address() const { return address_; }
  int connections() const { return connections_; }
  static std::string read_until(int fd, const std::string& end) {
    std::string out;
    while (out.find(end) == std::string::npos) {
      pollfd wait{fd, POLLIN, 0};
      char bytes[4096];
      const ssize_t got = ::poll(&wait, 1, 30000) > 0 ? ::recv(fd, bytes, sizeof bytes, 0) : 0;
      if (got <= 0) break;
      out.append(bytes, static_cast<std::size_t>(got));
    }
    return out;
  }
  static void send(int fd, const std::string& bytes) {
    (void)::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

 private:
  void run() {
    while (!stopping_) {
      pollfd wait{listener_.get(), POLLIN, 0};
      if (::poll(&wait, 1, 10) <= 0) continue;
      auto fd = std::make_shared<Fd>(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      const int number = connections_++;
      served_.emplace_back([this, fd, number] { serve_(fd->get(), number); });
    }
  }
  Serve serve_;
  Fd listener_;
  std::string address_;
  std::atomic<int> connections_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> served_;
  std::thread thread_;
};

HttpServer::Handler answer(const std::string& name) {
  return [name](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
    responder->respond(200, {{"X-Backend", name}},
                       name + " " + request.method + " " + request.target + " " + request.body);
  };
}

struct Fixture {
  Engine engine;
  std::shared_ptr<HttpClient> client = make_http_client(engine);
  std::vector<std::shared_ptr<HttpServer>> backends;
  std::shared_ptr<HttpProxy> proxy;

  explicit Fixture(HttpProxyOptions options = {}) {
    options.listen = {"127.0.0.1:0"};
    proxy = HttpProxy::create(engine, std::move(options)).value();
  }
  std::string address() const { return proxy->addresses().at(0); }
  std::shared_ptr<HttpServer> backend(HttpServer::Handler handler, HttpServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    options.body_bytes_max = 64 << 20;
    backends.push_back(HttpServer::start(engine, std::move(options), std::move(handler)).value());
    return backends.back();
  }
  /// Everything of host h goes to these endpoints.
  void route(const std::vector<std::string>& endpoints, const std::string& annotations = "{}") {
    proxy->publish(SnapshotBuilder()
                       .service("web", endpoints)
                       .ingress("i", rules("h", {"Prefix / web"}), "2026-01-01T00:00:00Z", annotations)
                       .build());
  }
  Result<HttpResponse> send(HttpRequest request) {
    request.url = "http://" + address() + request.url;
    request.headers.emplace_back("Host", "h");
    return client->send(std::move(request)).wait(60s);
  }
  std::string get(const std::string& path) {
    const auto response = send({.url = path});
    return response ? std::to_string(response->status) + " " + response->body : response.error().to_string();
  }
  std::string raw(const std::string& bytes) {
    RawSocket socket(address());
    socket.send(bytes);
    return socket.read_all();
  }
};

}  // namespace

TEST_CASE("requests reach the pods behind host and path, by turns") {
  Fixture f;
  CHECK(f.get("/").substr(0, 4) == "503 ");  // nothing published yet
  const auto one = f.backend(answer("one")), two = f.backend(answer("two"));
  f.route({one->address(), two->address()});
  std::map<std::string, int> seen;
  for (int i = 0; i < 20; ++i) ++seen[f.get("/a?b")];
  CHECK(seen == std::map<std::string, int>{{"200 one GET /a?b ", 10}, {"200 two GET /a?b ", 10}});
  CHECK(f.raw("GET / HTTP/1.1\r\nHost: nobody\r\nConnection: close\r\n\r\n").substr(0, 13) ==
        "HTTP/1.1 404 ");
  CHECK(f.proxy->stats().not_routed == 1);
  const std::string why = f.proxy->explain("h", "/a");
  CHECK(why.find("Service shop/web:80, endpoints ") != std::string::npos);
  CHECK(why.find(one->address()) != std::string::npos);
}

TEST_CASE("bodies stream both ways, with a length and in chunks") {
  Fixture f;
  const auto backend = f.backend([](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
    if (request.target == "/chunks") {
      auto body = responder->start(200, {});
      (void)body->write(request.body);
      (void)body->write(request.body);
      return body->finish();
    }
    responder->respond(200, {}, request.body);
  });
  f.route({backend->address()}, R"({"nginx.ingress.kubernetes.io/proxy-body-size":"20m"})");
  std::string bytes(5 << 20, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + i / 999);
  auto same = f.send({.method = "POST", .url = "/same", .body = bytes});
  REQUIRE(same);
  CHECK(same->body == bytes);
  auto twice = f.send({.method = "POST", .url = "/chunks", .body = bytes});
  REQUIRE(twice);
  CHECK(twice->body == bytes + bytes);
  CHECK(f.raw("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: "
              "chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\n wo\r\n0\r\n\r\n")
            .ends_with("\r\n\r\nhello wo"));
  // An HTTP/1.0 client gets no chunks.
  CHECK(f.raw("POST /chunks HTTP/1.0\r\nHost: h\r\nContent-Length: 2\r\n\r\nab").ends_with("\r\n\r\nabab"));
  CHECK(f.get("/after") == "200 ");
}

TEST_CASE("pipelined requests are answered in order on one connection") {
  Fixture f;
  f.route({f.backend(answer("b"))->address()});
  const std::string all = f.raw(
      "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /x "
      "HTTP/1.1\r\nHost: "
      "nobody\r\n\r\nHEAD /3 HTTP/1.1\r\nHost: h\r\n\r\nGET /4 HTTP/1.1\r\nHost: h\r\nConnection: "
      "close\r\n\r\n");
  const std::size_t one = all.find("b GET /1"), two = all.find("b POST /2 abc"),
                    lost = all.find("HTTP/1.1 404"), four = all.find("b GET /4");
  CHECK(one < two);
  CHECK(two < lost);
  CHECK(lost < four);
  CHECK(four != std::string::npos);
  CHECK(all.find("b HEAD /3") == std::string::npos);
}

TEST_CASE("one request in is at most one request out, whatever its framing pretends") {
  Fixture f;
  std::atomic<int> requests{0};
  const auto backend = f.backend([&](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
    ++requests;
    responder->respond(200, {}, "ok");
  });
  f.route({backend->address()});
  const std::string smuggled = "GET /admin HTTP/1.1\r\nHost: h\r\n\r\n";
  for (const std::string& head : {
           std::string("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
           std::string("Content-Length: 0\r\nContent-Length: 33\r\n"),
           std::string("Content-Length: +0\r\n"),
           std::string("Transfer-Encoding: identity\r\n"),
           std::string("Transfer-Encoding : chunked\r\n"),
           std::string("Transfer-Encoding:\r\n chunked\r\n"),
           std::string("X: a\nTransfer-Encoding: chunked\r\n"),
           std::string("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
           std::string("Host: other\r\n"),
       }) {
    CAPTURE(head);
    const std::string all = f.raw("POST / HTTP/1.1\r\nHost: h\r\n" + head + "\r\n" + smuggled);
    CHECK(all.substr(0, 13) == "HTTP/1.1 400 ");
    CHECK(all.find("HTTP/1.1", 8) == std::string::npos);
  }
  CHECK(f.raw("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + smuggled)
            .substr(0, 13) == "HTTP/1.1 400 ");
  CHECK(f.raw("GET /../etc HTTP/1.1\r\nHost: h\r\n\r\n").substr(0, 13) == "HTTP/1.1 400 ");
  CHECK(f.raw("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n").substr(0, 13) == "HTTP/1.1 405 ");
  CHECK(requests == 0);
}

TEST_CASE("limits answer with their status") {
  Fixture f({.header_bytes_max = 4096});
  f.route({f.backend(answer("b"))->address()}, R"({"nginx.ingress.kubernetes.io/proxy-body-size":"1k"})");
  CHECK(f.raw("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1025\r\n\r\n").substr(0, 13) == "HTTP/1.1 413 ");
  CHECK(f.raw("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" +
              std::string(2048, 'x'))
            .substr(0, 13) == "HTTP/1.1 413 ");
  CHECK(f.raw("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(5000, 'x')).substr(0, 13) == "HTTP/1.1 431 ");
  CHECK(f.get("/ok").substr(0, 4) == "200 ");
  Fixture impatient({.header_deadline = 1s});
  CHECK(impatient.raw("GET / HT").substr(0, 13) == "HTTP/1.1 408 ");
}

TEST_CASE("a refused connection is tried elsewhere, and all refusing is 502") {
  Fixture f;
  std::string gone;
  {
    const Fd closed =
        http::open_listener(http::parse_address("127.0.0.1:0").value(), http::Listen::stream, {}).value();
    gone = http::local_address(closed.get()).value().text();
  }
  const auto alive = f.backend(answer("alive"));
  f.route({gone, alive->address()});
  for (int i = 0; i < 10; ++i) CHECK(f.get("/").substr(0, 9) == "200 alive");
  auto posted = f.send({.method = "POST", .url = "/", .body = "x"});
  CHECK(posted->body == "alive POST / x");
  f.route({gone});
  CHECK(f.get("/").substr(0, 4) == "502 ");
  f.route({});
  const auto none = f.send({.url = "/"});
  CHECK(none->status == 503);
  CHECK(none->headers.contains("retry-after"));
}

TEST_CASE("an idle connection that its server closed costs a GET nothing") {
  Fixture f({.workers = 1});
  const auto backend = f.backend(answer("b"), {.idle_deadline = 1ms});
  f.route({backend->address()});
  for (int i = 0; i < 100; ++i) CHECK(f.get("/").substr(0, 5) == "200 b");
}

TEST_CASE("a reused connection that dies with the request is replaced for GET, and reported for POST") {
  Fixture f({.workers = 1});
  // The first request of a connection is answered, the second kills it without a word.
  RawBackend backend([](int fd, int) {
    RawBackend::read_until(fd, "\r\n\r\n");
    RawBackend::send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    RawBackend::read_until(fd, "\r\n\r\n");
  });
  f.route({backend.address()});
  CHECK(f.get("/1") == "200 ok");
  // A request may come before the connection of the one before is idle again: then it opens its own.
  for (int i = 0; i < 50 && f.proxy->stats().retries == 0; ++i) CHECK(f.get("/2") == "200 ok");
  CHECK(f.proxy->stats().retries >= 1);
  bool reported = false;
  for (int i = 0; i < 50 && !reported; ++i) {
    reported = f.send({.method = "POST", .url = "/3", .body = "x"})->status == 502;
  }
  CHECK(reported);
}

TEST_CASE("silent, lying and half-finished backends") {
  Fixture f({.workers = 1}), impatient({.workers = 1, .response_deadline = 200ms});
  RawBackend backend([](int fd, int) {
    const std::string head = RawBackend::read_until(fd, "\r\n\r\n");
    if (head.starts_with("GET /silent")) RawBackend::read_until(fd, "never");
    if (head.starts_with("GET /garbage")) RawBackend::send(fd, "what?\r\n\r\n");
    if (head.starts_with("GET /twice"))
      RawBackend::send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
    if (head.starts_with("GET /switch")) RawBackend::send(fd, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
    if (head.starts_with("GET /close")) RawBackend::send(fd, "HTTP/1.0 200 OK\r\n\r\nuntil close");
    if (head.starts_with("GET /cgi"))
      RawBackend::send(fd, "HTTP/1.0 200 OK\nContent-Type: text/plain\n\ncgi");
    if (head.starts_with("GET /interim")) {
      RawBackend::send(
          fd, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    if (head.starts_with("GET /half"))
      RawBackend::send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
  });
  f.route({backend.address()});
  impatient.route({backend.address()});
  CHECK(impatient.get("/silent").substr(0, 4) == "504 ");
  CHECK(f.get("/garbage").substr(0, 4) == "502 ");
  CHECK(f.get("/twice").substr(0, 4) == "502 ");
  CHECK(f.get("/switch").substr(0, 4) == "502 ");
  CHECK(f.get("/nothing").substr(0, 4) == "502 ");
  CHECK(f.get("/close") == "200 until close");
  CHECK(f.get("/cgi") == "200 cgi");
  CHECK(f.get("/interim") == "200 ok");
  const auto half = f.send({.url = "/half"});
  CHECK_FALSE(half);  // cut, not shortened
}

TEST_CASE("WebSocket and other upgrades become tunnels") {
  Fixture f;
  const auto backend = f.backend([](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
    CHECK(request.headers["upgrade"] == "websocket");
    CHECK(request.headers["sec-websocket-key"] == "k");
    auto stream = responder->upgrade({{"Connection", "Upgrade"}, {"Upgrade", "websocket"}});
    auto pump = std::make_shared<std::function<void()>>();
    *pump = [stream, weak = std::weak_ptr(pump), pump] {
      stream->read(4096).on_ready([stream, pump](Result<std::string> bytes) {
        if (!bytes || bytes->empty()) {
          stream->close();
          *pump = nullptr;
          return;
        }
        stream->write("<" + *bytes + ">").on_ready([pump](Result<void>) {
          if (*pump) (*pump)();
        });
      });
    };
    (*pump)();
  });
  f.route({backend->address()});
  RawSocket socket(f.address());
  socket.send(
      "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "
      "k\r\n\r\n");
  const std::string head = socket.read_until("\r\n\r\n");
  CHECK(head.substr(0, 13) == "HTTP/1.1 101 ");
  for (const std::string word : {"one", "two", "three"}) {
    socket.send(word);
    CHECK(socket.read_until(">") == "<" + word + ">");
  }
  socket.shutdown_write();
  CHECK(socket.read_all().empty());
  CHECK_FALSE(socket.timed_out());
}

TEST_CASE("HTTPS picks certificates by name, follows new Secrets, and keeps tenants apart") {
  Engine engine;
  auto proxy = HttpProxy::create(engine, {.listen = {}, .listen_tls = {"127.0.0.1:0"}}).value();
  auto backend = HttpServer::start(engine, {.listen = "127.0.0.1:0"}, answer("b")).value();
  const auto client = make_http_client(engine);
  const auto [one, one_key] = http::make_self_signed("one.example").value();
  const auto [two, two_key] = http::make_self_signed("two.example").value();
  const auto spec = [](const std::string& host, const std::string& secret) {
    std::string out = rules(host, {"Prefix / web"});
    return out.substr(0, out.size() - 1) + R"(,"tls":[{"hosts":[")" + host + R"("],"secretName":")" + secret +
           R"("}]})";
  };
  const auto publish = [&](const std::string& certificate, const std::string& key,
                           const std::string& version) {
    proxy->publish(SnapshotBuilder()
                       .service("web", {backend->address()})
                       .tls_secret("one", certificate, key, version)
                       .tls_secret("two", two, two_key)
                       .ingress("one", spec("one.example", "one"))
                       .ingress("two", spec("two.example", "two"))
                       .ingress("three", spec("three.example", "missing"))
                       .build());
  };
  const auto get = [&](const std::string& name, const std::string& ca, const std::string& host) {
    HttpRequest request{.url = "https://" + proxy->tls_addresses().at(0) + "/"};
    request.headers = {{"Host", host}, {"Connection", "close"}};
    request.tls.ca_pem = ca;
    request.tls.verify = !ca.empty();
    request.tls.server_name = name;
    const auto response = client->send(std::move(request)).wait(60s);
    return response ? response->status : -static_cast<int>(response.error().code());
  };
  publish(one, one_key, "1");
  CHECK(get("one.example", one, "one.example") == 200);
  CHECK(get("two.example", two, "two.example") == 200);
  CHECK(get("one.example", two, "one.example") == -Error::unauthenticated);
  CHECK(get("one.example", one, "two.example") == 421);
  CHECK(get("three.example", "", "three.example") == 200);  // the default certificate
  CHECK(proxy->rejected().size() == 1);

  const auto [renewed, renewed_key] = http::make_self_signed("one.example").value();
  publish(renewed, renewed_key, "2");
  CHECK(get("one.example", renewed, "one.example") == 200);
  publish(renewed, two_key, "3");  // a key that does not fit: the last good one stays
  CHECK(get("one.example", renewed, "one.example") == 200);
  CHECK(proxy->rejected().size() == 2);
}

TEST_CASE("a rolling update under load loses no request") {
  Fixture f;
  std::vector<std::shared_ptr<HttpServer>> pods;
  const auto addresses = [&] {
    std::vector<std::string> out;
    for (const auto& pod : pods) out.push_back(pod->address());
    return out;
  };
  const auto start_pod = [&] {
    pods.push_back(HttpServer::start(f.engine, {.listen = "127.0.0.1:0"}, answer("pod")).value());
  };
  start_pod();
  start_pod();
  f.route(addresses());
  std::atomic<bool> stop{false};
  std::atomic<int> good{0}, bad{0};
  std::vector<std::thread> load;
  for (int i = 0; i < 4; ++i) {
    load.emplace_back([&] {
      while (!stop) (f.get("/").substr(0, 7) == "200 pod" ? good : bad)++;
    });
  }
  for (int round = 0; round < 20; ++round) {
    const int before = good;
    start_pod();
    f.route(addresses());
    // The pod stops before the proxy hears of it, as in a real cluster.
    const auto leaving = pods.front();
    leaving->stop(30s);
    pods.erase(pods.begin());
    while (good + bad < before + 20) std::this_thread::yield();
    f.route(addresses());
  }
  stop = true;
  for (std::thread& thread : load) thread.join();
  CHECK(bad.load() == 0);
  CHECK(good.load() > 400);
}

TEST_CASE("tables swapped all the time break nothing") {
  Fixture f;
  const auto one = f.backend(answer("one")), two = f.backend(answer("two"));
  f.route({one->address()});
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    while (!stop) {
      f.route({one->address()});
      f.route({two->address(), one->address()});
    }
  });
  int good = 0;
  for (int i = 0; i < 500; ++i) good += f.get("/").substr(0, 4) == "200 ";
  stop = true;
  swapper.join();
  CHECK(good == 500);
}

TEST_CASE("a client that goes away takes its upstream request with it") {
  std::atomic<bool> cancelled{false};
  Fixture f;
  std::mutex mutex;
  std::shared_ptr<HttpResponder> held;
  const auto backend = f.backend([&](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
    responder->on_closed([&] { cancelled = true; });
    std::lock_guard lock(mutex);
    held = responder;
  });
  f.route({backend->address()});
  {
    RawSocket socket(f.address());
    socket.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    while (true) {
      std::lock_guard lock(mutex);
      if (held) break;
    }
  }
  for (int i = 0; i < 50000 && !cancelled; ++i) std::this_thread::yield();
  const auto deadline = std::chrono::steady_clock::now() + 30s;
  while (!cancelled && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  CHECK(cancelled);
}

TEST_CASE("stop drains: a running request ends well, a new one finds nobody") {
  Fixture f;
  std::mutex mutex;
  std::shared_ptr<HttpResponder> held;
  const auto backend = f.backend([&](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
    std::lock_guard lock(mutex);
    held = responder;
  });
  f.route({backend->address()});
  auto pending = f.client->send({.url = "http://" + f.address() + "/", .headers = {{"Host", "h"}}});
  while (true) {
    std::lock_guard lock(mutex);
    if (held) break;
  }
  std::thread stopper([&] { f.proxy->stop(30s); });
  while (RawSocket(f.address()).connected()) std::this_thread::yield();
  held->respond(200, {}, "late");
  const auto response = pending.wait(30s);
  REQUIRE(response);
  CHECK(response->body == "late");
  stopper.join();
}

TEST_CASE("the statuses name our Ingresses and where they are served") {
  Fixture f({.status_addresses = {"192.0.2.7"}});
  f.proxy->publish(SnapshotBuilder()
                       .ingress("ours", rules("h", {"Prefix / web"}))
                       .ingress("other", R"({"ingressClassName":"nginx","rules":[]})")
                       .build());
  const auto statuses = f.proxy->statuses();
  REQUIRE(statuses.size() == 1);
  CHECK(statuses[0].ingress.name == "ours");
  CHECK(statuses[0].addresses == std::vector<std::string>{"192.0.2.7"});
  CHECK(HttpProxy::create(f.engine, {.listen = {f.address()}}).error().is(Error::busy));
  CHECK(HttpProxy::create(f.engine, {.listen = {"127.0.0.1:0"}, .workers = 0}).error().is(Error::invalid));
}

}  // namespace orchestra
