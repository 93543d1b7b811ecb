// compile: alone (the library of HTTP/2 and OpenSSL together)
// HTTP/2 on HttpServer: streams, their bounds, attacks on them, and the end.
#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <thread>

#include "net/http/http_server.hpp"
#include "net/http/tls_context.hpp"
#include "tests/support/h2_client.hpp"
#include "tests/support/test.hpp"

namespace orchestra {
namespace {

using namespace std::chrono_literals;
using test::h2_frame;
using test::H2Client;
using test::kH2Get;
using test::kH2Preface;
using test::TlsSocket;

constexpr std::uint32_t kEnhanceYourCalm = NGHTTP2_ENHANCE_YOUR_CALM;

/// Streams and responders that a test holds; safe from any thread.
template <class T>
class Held {
 public:
  void add(T value) {
    std::lock_guard lock(mutex_);
    values_.push_back(std::move(value));
    more_.notify_all();
  }
  std::vector<T> wait(std::size_t count) {
    std::unique_lock lock(mutex_);
    more_.wait_for(lock, 30s, [&] { return values_.size() >= count; });
    return values_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable more_;
  std::vector<T> values_;
};

struct Server {
  Engine engine;
  Held<std::shared_ptr<HttpBodyWriter>> writers;    // of /stream
  Held<std::shared_ptr<HttpResponder>> responders;  // of /hold
  Held<int> closed;                                 // a /stream or /hold that ended
  std::atomic<int> requests{0};
  std::shared_ptr<HttpServer> server;

  explicit Server(HttpServerOptions options = {}) {
    const auto [certificate, key] = http::make_self_signed("localhost").value();
    options.listen = "127.0.0.1:0";
    options.tls = true;
    options.certificate_pem = certificate;
    options.key_pem = key;
    server = HttpServer::start(engine, options, [this](HttpServerRequest request, auto responder) {
               ++requests;
               answer(std::move(request), std::move(responder));
             }).value();
  }
  void answer(HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
    if (request.target == "/drop") return;
    if (request.target == "/nobody") return responder->respond(204, {}, "");
    if (request.target == "/told") return responder->respond(200, {{"Content-Length", "4711"}}, "four");
    if (request.target == "/upgrade") return (void)responder->upgrade({{"Upgrade", "x"}});
    if (request.target == "/big") return responder->respond(200, {}, std::string(1 << 20, 'b'));
    if (request.target == "/parts") {
      const auto part = std::make_shared<const std::string>(100000, 'p');
      return responder->respond_parts(200, {{"Transfer-Encoding", "x"}, {"X-Kind", "a\r\nb: c"}},
                                      {part, std::make_shared<const std::string>(), part});
    }
    if (request.target == "/stream") {
      responder->on_closed([this] { closed.add(1); });
      return writers.add(responder->start(200, {{"X-Kind", "stream"}}));
    }
    if (request.target == "/hold") {
      responder->on_closed([this] { closed.add(1); });
      return responders.add(std::move(responder));
    }
    std::string text = request.method + " " + request.target + " " + request.body;
    for (const auto& [name, value] : request.headers) {
      if (name.starts_with("x-") || name == "host" || name == "cookie") text += " " + name + "=" + value;
    }
    responder->respond(200, {{"Content-Type", "text/plain"}}, text);
  }
  std::string address() const { return server->address(); }
};

}  // namespace

TEST_CASE("h2 is chosen by ALPN, and a client without it is served HTTP/1.1") {
  Server s;
  CHECK(TlsSocket(s.address()).protocol() == "h2");
  CHECK(TlsSocket(s.address(), "\x08http/1.1").protocol() == "http/1.1");
  TlsSocket other(s.address(), std::string_view("\x03xyz", 4));
  CHECK(other.protocol().empty());
  other.send("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  CHECK(other.read_all().find("GET /a ") != std::string::npos);
  Server one(HttpServerOptions{.http2 = false});
  CHECK(TlsSocket(one.address()).protocol().empty());
}

TEST_CASE("h2: a request with a body is answered, fields are as in HTTP/1.1") {
  Server s;
  H2Client client(s.address());
  const auto answer = client.send("POST", "/a?b=c", "hello",
                                  {{"x-one", "1"}, {"x-one", "2"}, {"cookie", "a=1"}, {"cookie", "b=2"}});
  CHECK(answer.status == 200);
  CHECK(answer.body == "POST /a?b=c hello cookie=a=1; b=2 host=localhost x-one=1, 2");
  CHECK(answer.headers.at("content-type") == "text/plain");
  CHECK(answer.headers.at("content-length") == std::to_string(answer.body.size()));
  CHECK(answer.headers.contains("date"));
  CHECK(answer.error == 0);
}

TEST_CASE("h2: parts, empty answers, HEAD and a dropped responder") {
  Server s;
  H2Client client(s.address());
  const auto parts = client.send("GET", "/parts");
  CHECK(parts.body == std::string(200000, 'p'));
  CHECK(parts.headers.at("x-kind") == "ab: c");
  CHECK_FALSE(parts.headers.contains("transfer-encoding"));
  const auto head = client.send("HEAD", "/parts");
  CHECK(head.body.empty());
  CHECK(head.headers.at("content-length") == "200000");
  CHECK(client.send("HEAD", "/told").headers.at("content-length") == "4711");
  CHECK(client.send("GET", "/told").headers.at("content-length") == "4");
  const auto nobody = client.send("GET", "/nobody");
  CHECK(nobody.status == 204);
  CHECK(nobody.ended);
  CHECK(client.send("GET", "/drop").status == 500);
}

TEST_CASE("h2: bodies as large as the limit arrive unchanged both ways, beside each other") {
  Server s;
  H2Client client(s.address());
  std::string bytes((3 << 20) - 1, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>('a' + i % 23);
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(client.request("PUT", "/" + std::to_string(i), bytes));
  for (int i = 0; i < 4; ++i) {
    const auto& answer = client.wait(ids[static_cast<std::size_t>(i)]);
    CHECK(answer.status == 200);
    const bool same = answer.body == "PUT /" + std::to_string(i) + " " + bytes + " host=localhost";
    CHECK(same);
  }
}

TEST_CASE("h2: a thousand streams on one connection each get what is written to them") {
  Server s;
  H2Client client(s.address());
  CHECK(client.send("GET", "/first").status == 200);  // before the server's settings a client opens 100
  for (int i = 0; i < 1000; ++i) client.request("GET", "/stream");
  const auto writers = s.writers.wait(1000);
  REQUIRE(writers.size() == 1000);
  for (const auto& writer : writers) (void)writer->write("event\n");
  const auto all = [&](std::size_t bytes) {
    std::size_t count = 0;
    for (const auto& [id, answer] : client.answers) count += answer.body.size() == bytes;
    return count == 1000;
  };
  CHECK(client.run_until([&] { return all(6); }));
  for (const auto& writer : writers) {
    CHECK(writer->write("last\n").wait(30s));
    writer->finish();
  }
  CHECK(client.run_until([&] {
    std::size_t count = 0;
    for (const auto& [id, answer] : client.answers)
      count += answer.ended && answer.body == "event\nlast\n" ? 1 : 0;
    return count == 1000;
  }));
  CHECK(client.send("GET", "/after").status == 200);
}

TEST_CASE("h2: a stream that the client ends tells its writer, and the others go on") {
  Server s;
  H2Client client(s.address());
  const std::int32_t first = client.request("GET", "/stream"), second = client.request("GET", "/stream");
  const auto writers = s.writers.wait(2);
  REQUIRE(writers.size() == 2);
  client.cancel(first);
  CHECK(s.closed.wait(1).size() == 1);
  CHECK_FALSE(writers[0]->write("x").wait(30s));
  CHECK(writers[1]->write("y").wait(30s));
  writers[1]->abort();
  CHECK(client.wait(second).error == NGHTTP2_INTERNAL_ERROR);
  CHECK(client.send("GET", "/after").status == 200);
}

TEST_CASE("h2: a client that goes away ends all its streams") {
  Server s;
  {
    H2Client client(s.address());
    client.request("GET", "/stream");
    client.request("GET", "/hold");
    REQUIRE(s.writers.wait(1).size() == 1);
    REQUIRE(s.responders.wait(1).size() == 1);
  }
  CHECK(s.closed.wait(2).size() == 2);
  s.responders.wait(1)[0]->respond(200, {}, "to nobody");
}

TEST_CASE("h2: a stream cannot be taken over, and the client is told to use HTTP/1.1") {
  Server s;
  H2Client client(s.address());
  CHECK(client.send("GET", "/upgrade").error == NGHTTP2_HTTP_1_1_REQUIRED);
  CHECK(client.send("GET", "/after").status == 200);
}

TEST_CASE("h2: 100-continue is said before the body is asked for") {
  Server s;
  H2Client client(s.address());
  const auto id = client.request("POST", "/c", "", {{"expect", "100-continue"}}, true);
  CHECK(client.run_until([&] { return client.answers[id].status == 100; }));
  client.end_body(id);
  CHECK(client.wait(id).status == 200);
}

TEST_CASE("h2: what breaks a bound of requests gets its status, the connection goes on") {
  Server s(HttpServerOptions{.header_bytes_max = 4096, .body_bytes_max = 1000, .body_deadline = 1s});
  H2Client client(s.address());
  CHECK(client.send("GET", "/a", "", {{"x-long", std::string(5000, 'x')}}).status == 431);
  H2Client::Headers many;
  for (int i = 0; i < 101; ++i) many.emplace_back("x", "");
  CHECK(client.send("GET", "/a", "", many).status == 431);
  CHECK(client.send("POST", "/a", std::string(1001, 'x')).status == 413);
  CHECK(client.send("POST", "/a", "x", {{"content-length", "99999"}}).status == 413);
  const auto late = client.request("POST", "/a", "x", {}, true);
  CHECK(client.wait(late).status == 408);
  CHECK(client.send("GET", "/a b").error == NGHTTP2_PROTOCOL_ERROR);
  CHECK(client.send("GET", "/a", "", {{"host", "elsewhere"}}).status == 400);
  CHECK(s.requests == 0);
  CHECK(client.send("POST", "/a", std::string(1000, 'x')).status == 200);
}

TEST_CASE("h2: streams beyond the limit are refused so that clients repeat them") {
  Server s(HttpServerOptions{.streams_max = 3});
  TlsSocket raw(s.address());  // a library would wait for a free stream
  std::string frames = kH2Preface;
  for (std::uint32_t id = 1; id <= 9; id += 2)
    frames += h2_frame(1, 4 | 1, id, "\x82\x87" + std::string("\x04\x05/hold") + "\x01\x01" + "a");
  raw.send(frames);
  CHECK(s.responders.wait(3).size() == 3);
  std::string seen;
  const std::string refused = std::string("\0\0\4\3\0\0\0\0\7\0\0\0\7", 13);  // RST_STREAM, REFUSED_STREAM
  while (seen.find(refused) == std::string::npos) {
    const std::string more = raw.read_some();
    if (more.empty()) break;
    seen += more;
  }
  CHECK(seen.find(refused) != std::string::npos);
  CHECK(s.requests == 3);
}

TEST_CASE("h2: a reader that stops blocks its own stream only, and its writers wait") {
  Server s;
  H2Client client(s.address(), {.window_bytes = 65535, .take = false});
  const auto slow = client.request("GET", "/stream");
  const auto writer = s.writers.wait(1).at(0);
  int written = 0;
  while (written < 100 && writer->write(std::string(16384, 's')).wait(1s)) ++written;
  // 64 KiB of window, and what one piece may hold; nothing of the rest was taken.
  CHECK(written <= 4);
  CHECK(client.run_until([&] { return client.answers[slow].body.size() == 65535; }));
  client.open_window(0, 65535);
  CHECK(client.send("GET", "/after").status == 200);
}

TEST_CASE("h2: answers that nobody reads hold a bounded amount of memory") {
  Server s;
  H2Client client(s.address(), {.window_bytes = 0, .take = false});
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 64; ++i) ids.push_back(client.request("GET", "/big"));
  // Each answer is 1 MiB; above 16 MiB unread new requests are refused unheard.
  CHECK(client.run_until([&] {
    int refused = 0;
    for (const auto& [id, answer] : client.answers) refused += answer.error == NGHTTP2_REFUSED_STREAM;
    return refused >= 40;
  }));
  CHECK(s.requests <= 20);
}

TEST_CASE("h2: rapid resets end the connection (CVE-2023-44487)") {
  Server s;
  TlsSocket raw(s.address());
  REQUIRE(raw.send(kH2Preface));
  std::uint32_t id = 1;
  bool open = true;
  for (int burst = 0; burst < 400 && open; ++burst) {
    std::string frames;
    for (int i = 0; i < 50; ++i, id += 2)
      frames += h2_frame(1, 4 | 1, id, kH2Get) + h2_frame(3, 0, id, std::string("\0\0\0\x08", 4));
    open = raw.send(frames);
  }
  const std::string all = raw.read_all();
  CHECK_FALSE(raw.timed_out());
  CHECK(s.requests < 10000);
  TlsSocket other(s.address());
  CHECK(other.protocol() == "h2");  // others are served
}

TEST_CASE("h2: floods of CONTINUATION, SETTINGS and PING frames end the connection") {
  const auto flood = [](const std::string& first, const std::string& frame, int count) {
    Server s;
    TlsSocket raw(s.address());
    REQUIRE(raw.send(kH2Preface + first));
    std::string many;
    for (int i = 0; i < 100; ++i) many += frame;
    for (int i = 0; i < count; ++i) {
      if (!raw.send(many)) break;
    }
    raw.read_all();
    return !raw.timed_out();  // the server closed
  };
  CHECK(flood(h2_frame(1, 0, 1, ""), h2_frame(9, 0, 1, ""), 10));
  std::string settings;
  for (int i = 0; i < 40; ++i) settings += std::string("\0\3\0\0\0\x64", 6);
  CHECK(flood("", h2_frame(4, 0, 0, settings), 10));
}

TEST_CASE("h2: a client that makes the server acknowledge and reads nothing is cut") {
  Server s;
  TlsSocket raw(s.address());
  REQUIRE(raw.send(kH2Preface));
  std::string pings;
  for (int i = 0; i < 1000; ++i) pings += h2_frame(6, 0, 0, "pingping");
  int sent = 0;
  for (; sent < 20000 && raw.send(pings); ++sent) {
  }
  CHECK(sent < 20000);  // a library without the bound would have taken 340 MB and kept the answers
}

TEST_CASE("h2: nothing, half of the preface, garbage and half of a head each end in time") {
  Server s(HttpServerOptions{.header_deadline = 100ms});
  for (const std::string& first :
       {std::string(), std::string("PRI * HTT"), std::string("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        kH2Preface + h2_frame(1, 0, 1, "\x82"), kH2Preface + h2_frame(0, 0, 1, "data of no stream"),
        kH2Preface + h2_frame(1, 5, 1, "\xff\xff\xff\xff\xff\xff")}) {
    TlsSocket raw(s.address());
    REQUIRE(raw.connected());
    raw.send(first);
    raw.read_all();
    CHECK_FALSE(raw.timed_out());
  }
  CHECK(s.requests == 0);
}

TEST_CASE("h2: an idle connection is told so and closed; one with an open stream is not idle") {
  Server s(HttpServerOptions{.idle_deadline = 500ms});
  H2Client idle(s.address());
  CHECK_FALSE(idle.run_until([] { return false; }));
  CHECK(idle.ended);
  CHECK(idle.goaways == std::vector<std::uint32_t>{0});
  H2Client busy(s.address());
  const auto id = busy.request("GET", "/stream");
  const auto writer = s.writers.wait(1).at(0);
  CHECK_FALSE(busy.run_until([&] { return busy.ended; }, 1500));
  CHECK_FALSE(busy.ended);
  CHECK(writer->write("late").wait(30s));
  writer->finish();
  CHECK(busy.wait(id).body == "late");
}

TEST_CASE("h2: stop says GOAWAY, lets running answers end and takes no new ones") {
  Server s;
  H2Client client(s.address());
  const auto id = client.request("GET", "/hold");
  const auto responder = s.responders.wait(1).at(0);
  std::thread stopper([&] { s.server->stop(30s); });
  CHECK(client.run_until([&] { return client.goaways.size() == 2; }));  // the notice, and the last word
  responder->respond(200, {}, "late");
  CHECK(client.wait(id).body == "late");
  CHECK_FALSE(client.run_until([] { return false; }));
  CHECK(client.ended);
  stopper.join();
  CHECK(client.goaways == std::vector<std::uint32_t>{0, 0});
}

TEST_CASE("h2: stop cuts what does not end within its grace") {
  Server s;
  H2Client client(s.address());
  client.request("GET", "/stream");
  REQUIRE(s.writers.wait(1).size() == 1);
  s.server->stop(50ms);
  CHECK(s.closed.wait(1).size() == 1);
  CHECK_FALSE(client.run_until([] { return false; }));
  CHECK(client.ended);
}

TEST_CASE("h2: nghttp and curl of Debian get what the server says") {
  Server s;
  const auto run = [](const std::string& command) {
    std::string out;
    FILE* pipe = popen((command + " 2>&1 </dev/null").c_str(), "r");
    char buffer[4096];
    while (const std::size_t count = fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, count);
    pclose(pipe);
    return out;
  };
  if (run("command -v curl").empty()) {
    MESSAGE("skipped: curl is not installed");
  } else {
    CHECK(run("curl -sk --http2 -d hello -w ' %{http_version}' https://" + s.address() + "/c")
              .find("POST /c hello host=" + s.address() + " 2") != std::string::npos);
  }
  if (run("command -v nghttp").empty())
    ORC_SKIP("nghttp against our HTTP/2", "nghttp2-client is not installed");
  CHECK(run("nghttp --no-verify-peer https://" + s.address() + "/n").find("GET /n ") != std::string::npos);
}

}  // namespace orchestra
