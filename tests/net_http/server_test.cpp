// HttpServer and HttpClient against each other and against raw sockets, all on loopback.
#include <unistd.h>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/http_client.hpp"
#include "net/http/http_server.hpp"
#include "net/http/tls_context.hpp"
#include "tests/support/raw_socket.hpp"
#include "tests/support/test.hpp"

namespace orchestra {
namespace {

using namespace std::chrono_literals;
using test::RawSocket;

/// A value that one thread sets and another waits for.
template <class T>
class Slot {
 public:
  void set(T value) {
    std::lock_guard lock(mutex_);
    value_ = std::move(value);
    ready_.notify_all();
  }
  std::optional<T> wait() {
    std::unique_lock lock(mutex_);
    ready_.wait_for(lock, 30s, [&] { return value_.has_value(); });
    return value_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::optional<T> value_;
};

/// What the tests ask for: the path says how it is answered.
void echo(HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
  if (request.target == "/drop") return;
  if (request.target == "/parts") {
    const auto part = std::make_shared<const std::string>(100000, 'p');
    return responder->respond_parts(200, {{"Content-Type", "text/x"}}, {part, part, part});
  }
  if (request.target == "/nobody") return responder->respond(204, {}, "");
  if (request.target == "/told") return responder->respond(200, {{"content-length", "4711"}}, "four");
  if (request.target == "/stream") {
    auto body = responder->start(200, {{"X-Kind", "stream"}});
    body->write("one ").on_ready([body](Result<void>) {
      body->write("two ").on_ready([body](Result<void>) {
        (void)body->write("three");
        body->finish();
      });
    });
    return;
  }
  std::string text = request.method + " " + request.target + " " + request.body;
  for (const auto& [name, value] : request.headers) {
    if (name.starts_with("x-")) text += " " + name + "=" + value;
  }
  if (!request.peer.common_name.empty()) text += " cn=" + request.peer.common_name;
  responder->respond(200, {{"Content-Type", "text/plain"}}, text);
}

struct Fixture {
  Engine engine;
  std::shared_ptr<HttpServer> server;
  std::shared_ptr<HttpClient> client = make_http_client(engine);

  explicit Fixture(HttpServer::Handler handler = echo, HttpServerOptions options = {}) {
    if (options.listen.empty()) options.listen = "127.0.0.1:0";
    server = HttpServer::start(engine, std::move(options), std::move(handler)).value();
  }
  std::string url(const std::string& target) const { return "http://" + server->address() + target; }
  Result<HttpResponse> send(HttpRequest request) { return client->send(std::move(request)).wait(60s); }
  Result<HttpResponse> get(const std::string& target) { return send({.url = url(target)}); }
};

std::string body_of(const Result<HttpResponse>& response) {
  return response ? response->body : "ERROR " + response.error().to_string();
}

}  // namespace

TEST_CASE("a request with a body is answered") {
  Fixture f;
  const auto response = f.send({.method = "POST",
                                .url = f.url("/a?b=c"),
                                .headers = {{"X-One", "1"}, {"X-One", "2"}},
                                .body = "hello"});
  CHECK(body_of(response) == "POST /a?b=c hello x-one=1, 2");
  CHECK(response->status == 200);
  CHECK(response->headers.at("content-type") == "text/plain");
}

TEST_CASE("a streamed answer arrives chunk by chunk, and whole") {
  Fixture f;
  std::string seen;
  int status = 0;
  HttpRequest request{.url = f.url("/stream")};
  request.on_headers = [&](int code, const auto& headers) -> Result<void> {
    status = code;
    CHECK(headers.at("x-kind") == "stream");
    return {};
  };
  request.on_body = [&](std::string_view data) -> Result<void> {
    seen += data;
    return {};
  };
  REQUIRE(f.send(request));
  CHECK(status == 200);
  CHECK(seen == "one two three");
  CHECK(body_of(f.get("/stream")) == "one two three");
}

TEST_CASE("parts, empty answers and HEAD keep the connection in step") {
  Fixture f;
  RawSocket raw(f.server->address());
  raw.send(
      "HEAD /parts HTTP/1.1\r\nHost: a\r\n\r\nGET /nobody HTTP/1.1\r\nHost: a\r\n\r\n"
      "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const std::string all = raw.read_all();
  CHECK_FALSE(raw.timed_out());
  CHECK(all.find("Content-Length: 300000\r\n") != std::string::npos);
  CHECK(all.find("ppp") == std::string::npos);
  CHECK(all.find("HTTP/1.1 204 No Content\r\n") != std::string::npos);
  CHECK(all.ends_with("GET /last "));
  CHECK(body_of(f.get("/parts")) == std::string(300000, 'p'));
}

TEST_CASE("an answer to HEAD may say how long another's body is; every other length is that of the body") {
  Fixture f;
  RawSocket raw(f.server->address());
  raw.send(
      "HEAD /told HTTP/1.1\r\nHost: a\r\n\r\nGET /told HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const std::string all = raw.read_all();
  const std::size_t second = all.find("HTTP/1.1 200", 1);
  REQUIRE(second != std::string::npos);
  CHECK(all.substr(0, second).find("Content-Length: 4711\r\n") != std::string::npos);
  CHECK(all.substr(second).find("Content-Length: 4\r\n") != std::string::npos);
  CHECK(all.substr(second).find("4711") == std::string::npos);
  CHECK(all.ends_with("four"));
}

TEST_CASE("a responder that is dropped answers 500") {
  Fixture f;
  CHECK(f.get("/drop")->status == 500);
}

TEST_CASE("connections are used again") {
  std::mutex mutex;
  std::map<std::string, int> peers;
  Fixture f([&](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
    std::lock_guard lock(mutex);
    ++peers[request.peer.address];
    responder->respond(200, {}, "x");
  });
  for (int i = 0; i < 20; ++i) REQUIRE(f.get("/"));
  std::lock_guard lock(mutex);
  CHECK(peers.size() == 1);
}

TEST_CASE("hostile and broken requests get their status and a closed connection") {
  Fixture f(echo, {.header_bytes_max = 4096, .body_bytes_max = 1000});
  const struct {
    std::string bytes, status;
  } cases[] = {
      {"GET / HTTP/1.1\r\n\r\n", "400"},
      {"GET / HTTP/1.1\nHost: a\n\n", "400"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", "413"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + std::string(1024, 'x'),
       "413"},
      {"GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(5000, 'x'), "431"},
      {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"},
  };
  for (const auto& [bytes, status] : cases) {
    CAPTURE(bytes);
    RawSocket raw(f.server->address());
    raw.send(bytes);
    const std::string answer = raw.read_all();
    CHECK(answer.substr(0, 13) == "HTTP/1.1 " + status + " ");
    CHECK_FALSE(raw.timed_out());
  }
}

TEST_CASE("a head that dribbles in is cut off by an absolute deadline") {
  Fixture f(echo, {.header_deadline = 1s});
  RawSocket raw(f.server->address());
  raw.send("GET / HT");
  const std::string answer = raw.read_all();
  CHECK(answer.substr(0, 13) == "HTTP/1.1 408 ");
}

TEST_CASE("a TLS handshake that stops halfway is cut off by the same deadline") {
  const auto [certificate, key] = http::make_self_signed("localhost").value();
  Fixture f(echo, {.tls = true,
                   .certificate_pem = certificate,
                   .key_pem = key,
                   .header_deadline = std::chrono::seconds(1)});
  // Nothing; the head of a record that never comes; a ClientHello that is cut off in its middle.
  const std::string hello("\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", 11);
  std::vector<std::unique_ptr<RawSocket>> sockets;
  for (const std::string& bytes : {std::string(), hello.substr(0, 5), hello + std::string(40, 'r')}) {
    sockets.push_back(std::make_unique<RawSocket>(f.server->address()));
    REQUIRE(sockets.back()->send(bytes));
  }
  for (const auto& socket : sockets) {
    CHECK(socket->read_all().empty());
    CHECK_FALSE(socket->timed_out());
  }
  HttpRequest request{.url = "https://" + f.server->address() + "/t"};
  request.tls.verify = false;
  CHECK(body_of(f.send(request)) == "GET /t ");
}

TEST_CASE("a client that goes away is noticed while its answer streams") {
  Slot<bool> closed, write_failed;
  Fixture f([&](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
    auto body = responder->start(200, {});
    body->on_closed([&, body] {
      body->write("late").on_ready([&](Result<void> written) { write_failed.set(!written); });
      closed.set(true);
    });
    (void)body->write("first");
  });
  RawSocket raw(f.server->address());
  raw.send("GET /watch HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(raw.read_until("first").find("first") != std::string::npos);
  raw.close();
  CHECK(closed.wait() == true);
  CHECK(write_failed.wait() == true);
}

TEST_CASE("a reader that stops reading stops the writer") {
  Slot<std::shared_ptr<HttpBodyWriter>> writer;
  Fixture f([&](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
    writer.set(responder->start(200, {}));
  });
  RawSocket raw(f.server->address());
  raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  const auto body = *writer.wait();
  std::size_t written = 0;
  bool blocked = false;
  while (written < (256u << 20) && !blocked) {
    blocked = !body->write(std::string(1 << 20, 'x')).wait(500ms);
    if (!blocked) written += 1 << 20;
  }
  CHECK(blocked);
  CHECK(written < (64u << 20));
  body->abort();
}

namespace {
/// Does something on a connection's own sequence of events.
class Task final : public HttpBodyTask {
 public:
  explicit Task(std::function<void()> call) : call_(std::move(call)) {}
  void run_in_order() override { call_(); }

 private:
  const std::function<void()> call_;
};
}  // namespace

TEST_CASE("a chunk goes out at once where the connection waits for nothing, else behind what came before") {
  Slot<std::shared_ptr<HttpBodyWriter>> writer;
  Fixture f([&](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
    writer.set(responder->start(200, {}));
  });
  RawSocket raw(f.server->address());
  raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(raw.read_until("\r\n\r\n").find("chunked") != std::string::npos);
  const auto body = *writer.wait();
  const auto piece = [](char c, std::size_t size) { return std::make_shared<const std::string>(size, c); };
  const auto in_order = [&](std::function<void()> call) {
    Slot<bool> done;
    REQUIRE(body->dispatch(std::make_shared<Task>([&] {
      call();
      done.set(true);
    })));
    REQUIRE(done.wait());
  };
  // Elsewhere than in the connection's order it is an ordinary write.
  std::optional<Pending<void>> written = body->write_now(piece('a', 3));
  REQUIRE(written);
  CHECK(written->wait(30s));
  CHECK(raw.read_until("aaa\r\n") == "3\r\naaa\r\n");
  in_order([&] { written = body->write_now(piece('b', 300)); });
  CHECK_FALSE(written);
  CHECK(raw.read_until("\r\n" + std::string(300, 'b') + "\r\n") ==
        "12c\r\n" + std::string(300, 'b') + "\r\n");
  // More than the kernel takes: the rest follows, and what comes later follows that.
  constexpr std::size_t kLarge = 16u << 20;
  std::optional<Pending<void>> after;
  in_order([&] {
    written = body->write_now(piece('c', kLarge));
    after = body->write_now(piece('d', 5));
  });
  REQUIRE(written);
  REQUIRE(after);
  CHECK_FALSE(after->is_ready());
  body->finish();
  std::string rest;
  while (!rest.ends_with("\r\n0\r\n\r\n") && !raw.timed_out()) rest += raw.read_some();
  CHECK(rest.size() == kLarge + std::string("1000000\r\n\r\n5\r\nddddd\r\n0\r\n\r\n").size());
  CHECK(rest.starts_with("1000000\r\ncccc"));
  CHECK(rest.find_first_not_of('c', 9) == 9 + kLarge);
  CHECK(rest.ends_with("cc\r\n5\r\nddddd\r\n0\r\n\r\n"));
  CHECK(written->wait(30s));
  CHECK(after->wait(30s));
}

TEST_CASE("an upgraded connection is the caller's, with the bytes read ahead") {
  Fixture f([](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
    auto stream = responder->upgrade({{"Connection", "Upgrade"}, {"Upgrade", "echo"}});
    stream->read(100).on_ready([stream](Result<std::string> bytes) {
      stream->write("<" + *bytes + ">").on_ready([stream](Result<void>) {
        stream->read(100).on_ready([stream](Result<std::string> more) {
          stream->write("<" + *more + ">").on_ready([stream](Result<void>) { stream->close(); });
        });
      });
    });
  });
  RawSocket raw(f.server->address());
  raw.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly");
  const std::string head = raw.read_until("<early>");
  CHECK(head.substr(0, 34) == "HTTP/1.1 101 Switching Protocols\r\n");
  CHECK(head.find("\r\n\r\n<early>") != std::string::npos);
  raw.send("later");
  CHECK(raw.read_all() == "<later>");
}

TEST_CASE("an address in use names its holder") {
  Fixture f;
  const auto second = HttpServer::start(f.engine, {.listen = f.server->address()}, echo);
  REQUIRE_FALSE(second);
  CHECK(second.error().is(Error::busy));
  CHECK(second.error().message().find(f.server->address()) != std::string::npos);
  CHECK(second.error().message().find("process " + std::to_string(::getpid()) + " (test_net_http)") !=
        std::string::npos);
}

TEST_CASE("a unix socket serves, is private, and replaces one left by a killed process") {
  test::TempDir folder;
  const std::string path = folder / "control.sock";
  {
    const auto address = http::parse_address("unix:" + path).value();
    const Fd stale = http::open_listener(address, http::Listen::stream, {}).value();
  }
  Fixture f(echo, {.listen = "unix:" + path});
  CHECK((std::filesystem::status(path).permissions() & std::filesystem::perms::others_all) ==
        std::filesystem::perms::none);
  CHECK(body_of(f.send({.url = "unix:" + path + ":/v1/x"})) == "GET /v1/x ");
  CHECK(HttpServer::start(f.engine, {.listen = "unix:" + path}, echo).error().is(Error::busy));
  f.server->stop(0s);
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("TLS serves, names client certificates, and strangers are refused") {
  const auto [certificate, key] = http::make_self_signed("localhost").value();
  const auto [client_certificate, client_key] = http::make_self_signed("alice").value();
  Fixture f(
      echo,
      {.tls = true, .certificate_pem = certificate, .key_pem = key, .client_ca_pem = client_certificate});
  const std::string url = "https://" + f.server->address() + "/t";
  const auto tls = [&](const std::string& ca) {
    return TlsOptions{.ca_pem = ca, .server_name = "localhost"};
  };

  CHECK(body_of(f.send({.url = url, .tls = tls(certificate)})) == "GET /t ");
  TlsOptions alice = tls(certificate);
  alice.certificate_pem = client_certificate;
  alice.key_pem = client_key;
  CHECK(body_of(f.send({.url = url, .tls = alice})) == "GET /t  cn=alice");

  TlsOptions mallory = tls(certificate);
  std::tie(mallory.certificate_pem, mallory.key_pem) = http::make_self_signed("alice").value();
  CHECK_FALSE(f.send({.url = url, .tls = mallory}));

  const auto untrusted = f.send({.url = url, .tls = tls(client_certificate)});
  REQUIRE_FALSE(untrusted);
  CHECK(untrusted.error().is(Error::unauthenticated));
  TlsOptions other_name = tls(certificate);
  other_name.server_name = "elsewhere";
  CHECK(f.send({.url = url, .tls = other_name}).error().is(Error::unauthenticated));
  CHECK(body_of(f.send({.url = url, .tls = {.verify = false}})) == "GET /t ");

  const auto [next, next_key] = http::make_self_signed("localhost").value();
  REQUIRE(f.server->set_certificate(next, next_key));
  CHECK(body_of(f.send({.url = url, .tls = tls(next)})) == "GET /t ");
  CHECK_FALSE(f.server->set_certificate("nonsense", next_key));
  CHECK_FALSE(f.server->set_certificate(next, key));
}

TEST_CASE("a large upload from a source and a large download arrive unchanged over TLS") {
  const auto [certificate, key] = http::make_self_signed("localhost").value();
  Fixture f(
      [](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
        responder->respond(200, {}, std::move(request.body));
      },
      {.tls = true, .certificate_pem = certificate, .key_pem = key, .body_bytes_max = 20 << 20});
  std::string bytes(10 << 20, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 + i / 1000);
  HttpRequest request{.method = "PUT", .url = "https://" + f.server->address() + "/"};
  request.tls.verify = false;
  std::size_t at = 0;
  request.body_source = [&]() -> Result<std::string> {
    std::string piece = bytes.substr(at, 100000);
    at += piece.size();
    return piece;
  };
  request.body_size = bytes.size();
  const auto response = f.send(std::move(request));
  REQUIRE(response);
  CHECK(response->body == bytes);
}

TEST_CASE("redirects are followed, and Authorization stays with its host") {
  std::string elsewhere;
  const auto handler = [&](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
    if (request.target == "/away")
      return responder->respond(307, {{"Location", elsewhere + "/show"}}, "moved");
    if (request.target == "/home") return responder->respond(302, {{"Location", "/show"}}, "moved");
    if (request.target == "/loop") return responder->respond(302, {{"Location", "/loop"}}, "");
    responder->respond(200, {}, request.method + " " + request.headers["authorization"]);
  };
  Fixture f(handler), g(handler);
  elsewhere = "http://" + g.server->address();
  const auto follow = [&](const std::string& target, int redirects_max) {
    return f.send({.method = "GET",
                   .url = f.url(target),
                   .headers = {{"Authorization", "secret"}},
                   .redirects_max = redirects_max});
  };
  CHECK(body_of(follow("/home", 3)) == "GET secret");
  CHECK(body_of(follow("/away", 3)) == "GET ");
  CHECK(follow("/home", 0)->status == 302);
  CHECK(follow("/loop", 5).error().is(Error::invalid));
}

TEST_CASE("a server that closed an idle connection costs nothing but a second try") {
  std::atomic<int> requests{0};
  Fixture f(
      [&](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
        ++requests;
        responder->respond(200, {}, "x");
      },
      {.idle_deadline = 1ms});
  for (int i = 0; i < 50; ++i) CHECK(body_of(f.get("/")) == "x");
  CHECK(requests == 50);
}

TEST_CASE("nobody listening, silence and cancellation each have their error") {
  Fixture f([](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
    static std::mutex mutex;
    static std::vector<std::shared_ptr<HttpResponder>> kept;
    std::lock_guard lock(mutex);
    if (request.target == "/silent") {
      kept.push_back(responder);
    } else {
      kept.clear();
      responder->respond(200, {}, "");
    }
  });
  Engine& engine = f.engine;
  std::string closed_address;
  {
    auto gone = HttpServer::start(engine, {.listen = "127.0.0.1:0"}, echo).value();
    closed_address = gone->address();
  }
  const auto refused = f.send({.url = "http://" + closed_address + "/"});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().is(Error::unavailable));
  const auto silent = f.send({.url = f.url("/silent"), .header_deadline = 100ms});
  CHECK(silent.error().is(Error::deadline_exceeded));
  auto pending = f.client->send({.url = f.url("/silent")});
  pending.cancel();
  CHECK(pending.wait(30s).error().is(Error::cancelled));
  CHECK(f.send({.url = "http://no-such-host.invalid/"}).error().is(Error::unavailable));
  CHECK(f.send({.url = "nonsense"}).error().is(Error::invalid));
  CHECK(f.send({.url = f.url("/"), .headers = {{"X", "a\r\nY: b"}}}).error().is(Error::invalid));
  CHECK(f.get("/release"));
}

TEST_CASE("an answer longer than allowed and one that stops short are errors") {
  Fixture f([](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
    if (request.target == "/long") return responder->respond(200, {}, std::string(5000, 'x'));
    auto body = responder->start(200, {});
    body->write("part").on_ready([body](Result<void>) { body->abort(); });
  });
  CHECK(f.send({.url = f.url("/long"), .body_bytes_max = 4999}).error().is(Error::too_large));
  CHECK(f.get("/short").error().is(Error::unavailable));
  CHECK(f.send({.method = "POST", .url = f.url("/short")}).error().is(Error::unknown_outcome));
}

TEST_CASE("stop lets a running answer end and refuses what comes after") {
  Slot<std::shared_ptr<HttpResponder>> held;
  Fixture f([&](HttpServerRequest, std::shared_ptr<HttpResponder> responder) { held.set(responder); });
  auto pending = f.client->send({.url = f.url("/")});
  const auto responder = *held.wait();
  std::thread stopper([&] { f.server->stop(30s); });
  while (RawSocket(f.server->address()).connected()) std::this_thread::yield();
  responder->respond(200, {}, "late");
  CHECK(body_of(pending.wait(30s)) == "late");
  stopper.join();
}

TEST_CASE("stop cuts what does not end within its grace") {
  Slot<std::shared_ptr<HttpBodyWriter>> writer;
  Slot<bool> closed;
  Fixture f([&](HttpServerRequest, std::shared_ptr<HttpResponder> responder) {
    auto body = responder->start(200, {});
    body->on_closed([&] { closed.set(true); });
    writer.set(body);
  });
  RawSocket raw(f.server->address());
  raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  const auto body = *writer.wait();
  f.server->stop(10ms);
  CHECK(closed.wait() == true);
  CHECK_FALSE(body->write("x").wait(60s));
}

TEST_CASE("more connections than allowed are turned away, and room is given back") {
  Fixture f(echo, {.connections_max = 1});
  {
    RawSocket first(f.server->address());
    first.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(first.read_until("GET /1").find("GET /1") != std::string::npos);
    RawSocket second(f.server->address());
    CHECK(second.read_all().empty());
  }
  bool served = false;
  for (int i = 0; i < 1000 && !served; ++i) {
    RawSocket next(f.server->address());
    next.send("GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    served = next.read_all().find("GET /2") != std::string::npos;
  }
  CHECK(served);
}

}  // namespace orchestra
