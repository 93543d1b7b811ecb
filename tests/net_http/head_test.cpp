#include "net/http/head.hpp"

#include "net/http/body.hpp"
#include "net/http/url.hpp"
#include "tests/support/test.hpp"

namespace orchestra::http {
namespace {

struct Parsed {
  HeadResult result;
  Head head;
};

Parsed parse(std::string_view text, HeadLimits limits = {}) {
  Parsed out;
  HeadScanner scanner;
  out.result = scanner.scan(text, limits);
  if (out.result.state != HeadState::complete) return out;
  out.result = parse_request_head(text.substr(0, scanner.bytes()), limits, out.head);
  return out;
}

int status_of(std::string_view text, HeadLimits limits = {}) {
  const Parsed parsed = parse(text, limits);
  if (parsed.result.state == HeadState::incomplete) return -1;
  return parsed.result.state == HeadState::bad ? parsed.result.status : 0;
}

struct Decoded {
  std::string data, error;
  bool done = false;
  std::size_t consumed = 0;
};

Decoded decode(BodyDecoder decoder, std::string_view input, std::size_t piece) {
  Decoded out;
  std::string buffered;
  std::size_t at = 0;
  while (!out.done && out.error.empty()) {
    if (buffered.empty()) {
      if (at == input.size()) break;
      buffered = input.substr(at, piece);
      at += buffered.size();
    }
    const auto step = decoder.decode(buffered);
    out.data += step.data;
    out.consumed += step.consumed;
    out.done = step.done;
    if (step.error != nullptr) out.error = step.error;
    buffered.erase(0, step.consumed);
  }
  return out;
}

}  // namespace

TEST_CASE("a request head is read as it was sent") {
  const std::string text =
      "GET /a?b=c HTTP/1.1\r\nHost: shop.example:8080\r\nX-Empty:\r\nAccept:  a, b \t\r\n\r\nrest";
  const Parsed parsed = parse(text);
  REQUIRE(parsed.result.state == HeadState::complete);
  CHECK(parsed.head.method == "GET");
  CHECK(parsed.head.target == "/a?b=c");
  CHECK(parsed.head.host == "shop.example:8080");
  CHECK(parsed.head.find("accept") == "a, b");
  CHECK(parsed.head.find("x-empty") == "");
  CHECK_FALSE(parsed.head.find("missing"));
  CHECK(parsed.head.keep_alive);
  CHECK(parsed.head.framing == Framing::none);
  CHECK(parsed.head.bytes == text.size() - 4);
}

TEST_CASE("every request head that two programs could read differently is refused") {
  const std::string nul("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 35);
  const struct {
    std::string text;
    int status;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x10\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0b"
       "chunked\r\n\r\n",
       400},
      {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\n\tX: 1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400},
      {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
      {nul, 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nB\xc3\xa4r: 1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400},
      {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET /\r\nHost: a\r\n\r\n", 400},
      {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
      {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"PRI * HTTP/2.0\r\n\r\n", 505},
  };
  for (const auto& [text, status] : cases) {
    CAPTURE(text);
    CHECK(status_of(text) == status);
  }
}

TEST_CASE("requests that are unusual but clear are accepted") {
  for (const char* text : {
           "GET / HTTP/1.0\r\n\r\n",
           "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
           "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
           "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
           "MERGE / HTTP/1.1\r\nHost: a_b.c\r\nX:\t1\t\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
           "POST / HTTP/1.1\r\nHost:\r\nContent-Length: 007\r\n\r\n",
       }) {
    CAPTURE(text);
    CHECK(status_of(text) == 0);
  }
}

TEST_CASE("a head beyond its limits is refused before it is complete") {
  CHECK(status_of("GET /" + std::string(20000, 'a'), {.target_bytes_max = 1000}) == 414);
  CHECK(status_of("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(70000, 'a')) == 431);
  std::string many = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 100; ++i) many += "X: 1\r\n";
  CHECK(status_of(many + "\r\n") == 431);
}

TEST_CASE("a head cut at any byte is incomplete or bad, never something else") {
  const std::string text = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
  HeadScanner scanner;
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    CHECK(scanner.scan(std::string_view(text).substr(0, cut), {}).state == HeadState::incomplete);
  }
  CHECK(scanner.scan(text, {}).state == HeadState::complete);
  CHECK(scanner.bytes() == text.size());
}

TEST_CASE("keep-alive and upgrade follow version and Connection") {
  CHECK_FALSE(parse("GET / HTTP/1.0\r\n\r\n").head.keep_alive);
  CHECK(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").head.keep_alive);
  CHECK_FALSE(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: x , Close\r\n\r\n").head.keep_alive);
  CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").head.upgrade);
  CHECK_FALSE(parse("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").head.upgrade);
}

TEST_CASE("the body of an answer depends on status and request method") {
  const auto framing = [](std::string_view text, std::string_view method) {
    Head head;
    const auto result = parse_response_head(text, {}, method, head);
    REQUIRE(result.state == HeadState::complete);
    return head.framing;
  };
  CHECK(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET") == Framing::length);
  CHECK(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD") == Framing::none);
  CHECK(framing("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET") == Framing::none);
  CHECK(framing("HTTP/1.1 204\r\n\r\n", "GET") == Framing::none);
  CHECK(framing("HTTP/1.1 200 OK\r\n\r\n", "GET") == Framing::until_close);
  CHECK(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET") == Framing::chunked);
  Head head;
  for (const char* text :
       {"HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n", "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"}) {
    CAPTURE(text);
    CHECK(parse_response_head(text, {}, "GET", head).state == HeadState::bad);
  }
}

TEST_CASE("answers of CGI programs may end their lines with LF alone, requests may not") {
  const std::string text = "HTTP/1.0 200 OK\nContent-Type: text/plain\r\nX: 1\n\nbody";
  HeadScanner scanner;
  const HeadLimits limits{.lf_alone = true};
  REQUIRE(scanner.scan(text, limits).state == HeadState::complete);
  CHECK(scanner.bytes() == text.size() - 4);
  Head head;
  REQUIRE(parse_response_head(std::string_view(text).substr(0, scanner.bytes()), limits, "GET", head).state ==
          HeadState::complete);
  CHECK(head.find("content-type") == "text/plain");
  CHECK(head.find("x") == "1");
  CHECK(HeadScanner().scan(text, {}).state == HeadState::bad);
}

TEST_CASE("a chunked body is the same wherever it is cut") {
  const std::string text = "5\r\nhello\r\n1;ext=\"v\"\r\n \r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nNEXT";
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    CAPTURE(piece);
    const Decoded out = decode(BodyDecoder(Framing::chunked, 0), text, piece);
    CHECK(out.error == "");
    CHECK(out.data == "hello 0123456789");
    CHECK(out.done);
    CHECK(out.consumed == text.size() - 4);
  }
}

TEST_CASE("malformed chunks are refused wherever they are cut") {
  const std::string cases[] = {"x\r\n",
                               "-1\r\n",
                               "\r\n",
                               "5 \r\nhello\r\n",
                               "0x5\r\nhello\r\n",
                               "5\nhello\r\n",
                               "5\r\nhelloX\r\n",
                               "5\r\nhello\n",
                               "5\rX\r\n",
                               "1000000000000000\r\n",
                               "5;" + std::string(2000, 'a') + "\r\n",
                               "0\r\nbad trailer\r\n\r\n",
                               "0\r\nX : 1\r\n\r\n"};
  for (const std::string& text : cases) {
    for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, text.size()}) {
      CAPTURE(text);
      CHECK(decode(BodyDecoder(Framing::chunked, 0), text, piece).error != "");
    }
  }
}

TEST_CASE("a body with a length ends exactly there") {
  const Decoded out = decode(BodyDecoder(Framing::length, 5), "helloGET", 2);
  CHECK(out.data == "hello");
  CHECK(out.done);
  CHECK(BodyDecoder(Framing::none, 0).done());
}

TEST_CASE("URLs are taken apart, and those that mislead are refused") {
  CHECK(parse_url("http://Shop.Example/a?b#c").value().text() == "http://shop.example/a?b");
  CHECK(parse_url("https://[::1]:8443").value().host == "::1");
  CHECK(parse_url("https://[::1]:8443").value().authority() == "[::1]:8443");
  CHECK(parse_url("https://a:443/").value().authority() == "a");
  CHECK(parse_url("unix:/run/x.sock:/v1/y?z").value().target == "/v1/y?z");
  for (const char* text :
       {"shop/a", "ftp://a/", "http://user:secret@a/", "http:///a", "http://a b/", "http://a:99999/"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_url(text));
  }
  CHECK(parse_url("http://user:secret@a/").error().message().find("secret") == std::string::npos);
}

TEST_CASE("a Location is resolved against the URL that sent it") {
  const Url base = parse_url("http://a:81/x/y?q").value();
  CHECK(resolve_url(base, "/z").value().text() == "http://a:81/z");
  CHECK(resolve_url(base, "z/../../w?k").value().text() == "http://a:81/w?k");
  CHECK(resolve_url(base, "?k").value().text() == "http://a:81/x/y?k");
  CHECK(resolve_url(base, "//b/z").value().text() == "http://b/z");
  CHECK(resolve_url(base, "https://b/z").value().text() == "https://b/z");
  CHECK(resolve_url(base, "/z?u=http://c/").value().text() == "http://a:81/z?u=http://c/");
  CHECK_FALSE(resolve_url(base, "a b"));
}

}  // namespace orchestra::http
