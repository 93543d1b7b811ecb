#include <set>

#include "net/ingress/balancer.hpp"
#include "net/ingress/forwarding.hpp"
#include "net/ingress/path.hpp"
#include "net/ingress/route_table.hpp"
#include "support.hpp"
#include "tests/support/test.hpp"

namespace orchestra::ingress {
namespace {

using test::rules;
using test::SnapshotBuilder;

std::shared_ptr<const RouteTable> compile(const SnapshotBuilder& builder) {
  return RouteTable::compile(*builder.build(), {});
}
std::string service_of(const RouteTable& table, const std::string& host, const std::string& path) {
  const Route* route = table.match(host, path);
  return route == nullptr ? "404" : route->backend->service.name;
}
std::set<std::string> reasons(const RouteTable& table) {
  std::set<std::string> out;
  for (const NetworkRejection& one : table.rejected()) out.insert(one.name + " " + one.reason);
  return out;
}

}  // namespace

TEST_CASE("paths get one form, and what would climb or hide is refused") {
  const struct {
    const char *path, *normal;
  } cases[] = {
      {"/", "/"},
      {"/a/b", "/a/b"},
      {"/a//b", "/a/b"},
      {"/a/./b/", "/a/b/"},
      {"/a/../b", "/b"},
      {"/a/b/..", "/a/"},
      {"/%61%2Fb", "/a%2Fb"},
      {"/%7e%2d", "/~-"},
      {"/%2e%2e/a", nullptr},
      {"/a/%2E%2E/b", "/b"},
      {"/..", nullptr},
      {"/a/../..", nullptr},
      {"/%00", nullptr},
      {"/%", nullptr},
      {"/%4", nullptr},
      {"/%zz", nullptr},
      {"a", nullptr},
      {"", nullptr},
      {"*", "*"},
      {"/a%20b", "/a%20b"},
      {"//evil.example", "/evil.example"},
  };
  for (const auto& [path, normal] : cases) {
    CAPTURE(path);
    CHECK(normalize_path(path) == (normal == nullptr ? std::nullopt : std::optional<std::string>(normal)));
  }
  CHECK(read_target("http://Shop.Example:80/a/../b?q=/../x")->text() == "/b?q=/../x");
  CHECK(read_target("http://shop.example")->authority == "shop.example");
  CHECK(read_target("http://shop.example?q")->text() == "/?q");
  CHECK_FALSE(read_target("ftp://shop.example/"));
  CHECK_FALSE(read_target("http://user@shop.example/"));
  CHECK(host_name("Shop.Example.:8080") == "shop.example");
  CHECK(host_name("[::1]:80") == "[::1]");
}

TEST_CASE("hosts and paths follow the Ingress rules") {
  const auto table = compile(
      SnapshotBuilder()
          .service("root", {"127.0.0.1:1"})
          .service("api", {"127.0.0.1:2"})
          .service("exact", {"127.0.0.1:3"})
          .service("deep", {"127.0.0.1:4"})
          .service("wild", {"127.0.0.1:5"})
          .service("any", {"127.0.0.1:6"})
          .ingress("shop", rules("Shop.Example", {"Prefix / root", "Prefix /api/ api", "Exact /api exact",
                                                  "ImplementationSpecific /api/v1 deep"}))
          .ingress("wild", rules("*.example", {"Prefix /w wild"}))
          .ingress("any", rules("", {"Prefix /any any"})));
  const struct {
    const char *host, *path, *service;
  } cases[] = {
      {"shop.example", "/", "root"},
      {"shop.example", "/x", "root"},
      {"shop.example", "/api", "exact"},
      {"shop.example", "/api/", "api"},
      {"shop.example", "/api/x", "api"},
      {"shop.example", "/apix", "root"},
      {"shop.example", "/API", "root"},
      {"shop.example", "/api/v1", "deep"},
      {"shop.example", "/api/v1/x", "deep"},
      {"shop.example", "/api/v1x", "api"},
      {"a.example", "/w/x", "wild"},
      {"a.example", "/", "404"},
      {"a.b.example", "/w", "404"},
      {"example", "/w", "404"},
      {"other.test", "/any", "any"},
      {"other.test", "/", "404"},
      {"", "/any", "any"},
  };
  for (const auto& [host, path, service] : cases) {
    CAPTURE(host);
    CAPTURE(path);
    CHECK(service_of(*table, host, path) == service);
  }
  CHECK(
      table->explain("shop.example", "/api/x") ==
      "http://shop.example/api/x: Ingress shop/shop, host \"shop.example\" path \"/api/\" (Prefix), Service "
      "shop/api:80, endpoints 127.0.0.1:2");
  CHECK(table->explain("nobody", "/").find("404, the host has rules, but none for this path") !=
        std::string::npos);
}

TEST_CASE("every path of a small alphabet goes where a matcher that walks all rules sends it") {
  const std::vector<std::string> prefixes = {"/", "/a", "/a/b", "/b/", "/ab"}, exacts = {"/a", "/a/", "/b/a"};
  std::vector<std::string> lines;
  SnapshotBuilder builder;
  const auto name = [](const std::string& kind, const std::string& path) {
    std::string out = kind;
    for (const char c : path) out += c == '/' ? '-' : c;
    return out + "x";
  };
  for (const std::string& path : prefixes) lines.push_back("Prefix " + path + " " + name("p", path));
  for (const std::string& path : exacts) lines.push_back("Exact " + path + " " + name("e", path));
  for (const std::string& line : lines) builder.service(line.substr(line.rfind(' ') + 1), {});
  const auto table = compile(builder.ingress("all", rules("h", lines)));
  const auto segments = [](std::string path) {
    while (!path.empty() && path.back() == '/') path.pop_back();
    return path;
  };
  const auto naive = [&](const std::string& path) {
    for (const std::string& rule : exacts) {
      if (rule == path) return name("e", rule);
    }
    std::string best, winner = "404";
    for (const std::string& rule : prefixes) {
      const std::string prefix = segments(rule), whole = segments(path);
      const bool fits = whole.substr(0, prefix.size()) == prefix &&
                        (whole.size() == prefix.size() || whole[prefix.size()] == '/');
      if (fits && (winner == "404" || prefix.size() > best.size())) best = prefix, winner = name("p", rule);
    }
    return winner;
  };
  std::vector<std::string> paths = {"/"};
  for (std::size_t i = 0; i < paths.size() && paths.size() < 2000; ++i) {
    for (const char c : {'a', 'b', '/'}) {
      if (c != '/' || paths[i].back() != '/') paths.push_back(paths[i] + c);
    }
  }
  for (const std::string& path : paths) {
    CAPTURE(path);
    CHECK(service_of(*table, "h", path) == naive(path));
  }
}

TEST_CASE("the oldest Ingress keeps a path, and the other one is told") {
  const auto table = compile(SnapshotBuilder()
                                 .service("old", {"127.0.0.1:1"})
                                 .service("new", {"127.0.0.1:2"})
                                 .ingress("a-new", rules("h", {"Prefix / new"}), "2026-02-01T00:00:00Z")
                                 .ingress("b-old", rules("h", {"Prefix / old"}), "2026-01-01T00:00:00Z"));
  CHECK(service_of(*table, "h", "/") == "old");
  CHECK(reasons(*table) == std::set<std::string>{"a-new PathTaken"});
}

TEST_CASE("only Ingresses of our class are served") {
  const std::string spec =
      R"({"rules":[{"host":"h","http":{"paths":[{"path":"/","pathType":"Prefix","backend":{"service":{"name":"web","port":{"name":"http"}}}}]}}]})";
  const auto served = [&](const SnapshotBuilder& builder) { return service_of(*compile(builder), "h", "/"); };
  const auto base = [] { return SnapshotBuilder().service("web", {"127.0.0.1:1"}); };
  CHECK(served(base().ingress("i", spec)) == "404");  // no class, no default
  CHECK(served(base().ingress("i", spec).ingress_class("ours", "orchestra.dev/ingress", true)) == "web");
  CHECK(served(base().ingress("i", spec).ingress_class("ours", "orchestra.dev/ingress", false)) == "404");
  CHECK(served(base().ingress("i", spec).ingress_class("other", "k8s.io/ingress-nginx", true)) == "404");
  const auto two = base()
                       .ingress("i", spec)
                       .ingress_class("ours", "orchestra.dev/ingress", true)
                       .ingress_class("other", "x", true);
  CHECK(served(two) == "404");
  CHECK(reasons(*compile(two)) == std::set<std::string>{"i SeveralDefaultClasses"});
  const std::string named = R"({"ingressClassName":"nginx",)" + spec.substr(1);
  CHECK(served(base().ingress("i", named).ingress_class("ours", "orchestra.dev/ingress", true)) == "404");
  CHECK(served(base().ingress("i", named).ingress_class("nginx", "orchestra.dev/ingress", false)) == "web");
  CHECK(served(base().ingress("i", spec, "2026-01-01T00:00:00Z",
                              R"({"kubernetes.io/ingress.class":"orchestra"})")) == "web");
}

TEST_CASE("defaults, missing Services and ports, and endpoints that only terminate") {
  const std::string with_default =
      R"({"ingressClassName":"orchestra","defaultBackend":{"service":{"name":"web","port":{"number":80}}}})";
  const auto table =
      compile(SnapshotBuilder()
                  .service("web", {R"(127.0.0.1:1 {"ready":false})", R"(127.0.0.1:2 {"ready":true})"})
                  .service("leaving", {R"(127.0.0.1:3 {"ready":false,"serving":true,"terminating":true})",
                                       R"(127.0.0.1:4 {"ready":false,"serving":false,"terminating":true})"})
                  .ingress("default", with_default)
                  .ingress("i", rules("h", {"Prefix /leaving leaving", "Prefix /none missing"})));
  const auto endpoints = [&](const char* host, const char* path) {
    std::string out;
    for (const Endpoint& endpoint : table->match(host, path)->backend->endpoints) out += endpoint.name + " ";
    return out;
  };
  CHECK(endpoints("elsewhere", "/") == "127.0.0.1:2 ");
  CHECK(endpoints("h", "/leaving") == "127.0.0.1:3 ");
  CHECK(endpoints("h", "/none").empty());
  CHECK(reasons(*table) == std::set<std::string>{"i ServiceNotFound"});
  CHECK(table->explain("h", "/none").find("503, the Service does not exist") != std::string::npos);
}

TEST_CASE("the balancer takes turns and leaves out who fails, but never all") {
  Backend backend{.service = {"shop", "web"}, .port = "80"};
  for (int i = 1; i <= 3; ++i) backend.endpoints.push_back({"e" + std::to_string(i), {}});
  Balancer balancer(0);
  std::map<std::string, int> counts;
  for (int i = 0; i < 30; ++i) ++counts[balancer.choose(backend, {}, 0)->name];
  CHECK(counts == std::map<std::string, int>{{"e1", 10}, {"e2", 10}, {"e3", 10}});
  CHECK(balancer.choose(backend, {"e1", "e3"}, 0)->name == "e2");
  CHECK(balancer.choose(backend, {"e1", "e2", "e3"}, 0) == nullptr);

  balancer.connect_failed(backend, "e1", 0);
  balancer.connect_failed(backend, "e2", 0);  // one in three is enough
  CHECK(balancer.is_ejected("e1", 0));
  CHECK_FALSE(balancer.is_ejected("e2", 0));
  for (int i = 0; i < 30; ++i) CHECK(balancer.choose(backend, {}, 0)->name != "e1");
  CHECK(balancer.choose(backend, {"e2", "e3"}, 0)->name == "e1");  // better than nobody
  CHECK_FALSE(balancer.is_ejected("e1", 30'000'000'000));
  balancer.connect_failed(backend, "e1", 30'000'000'000);
  CHECK(balancer.is_ejected("e1", 89'000'000'000));  // longer the second time

  Balancer fresh(0);
  for (int i = 0; i < 4; ++i) fresh.answered(backend, "e3", 500, 0);
  CHECK_FALSE(fresh.is_ejected("e3", 0));
  fresh.answered(backend, "e3", 503, 0);
  CHECK(fresh.is_ejected("e3", 0));
  Backend single{.service = {"shop", "one"}, .port = "80", .endpoints = {{"only", {}}}};
  fresh.connect_failed(single, "only", 0);
  CHECK_FALSE(fresh.is_ejected("only", 0));
}

TEST_CASE("request heads lose what is for this connection only, and get the truth about the client") {
  const auto forward = [](const std::string& text, bool trusted) {
    http::Head head;
    REQUIRE(http::parse_request_head(text, {}, head).state == http::HeadState::complete);
    return upstream_head(head, head.target,
                         {.client_ip = "10.0.0.9",
                          .host = head.host,
                          .port = "443",
                          .tls = true,
                          .trusted = trusted,
                          .request_id = "id"});
  };
  const std::string lies =
      "POST /x HTTP/1.1\r\nHost: h\r\nConnection: close, X-Secret, X-Forwarded-For, Authorization, "
      "Content-Type\r\n"
      "X-Secret: 1\r\nAuthorization: Bearer t\r\nContent-Type: a/b\r\nContent-Length: 3\r\nX-Forwarded-For: "
      "1.2.3.4\r\n"
      "X-Forwarded-Proto: gopher\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nKeep-Alive: "
      "1\r\nProxy-Authorization: x\r\n"
      "Proxy-Connection: x\r\nTE: gzip, trailers\r\nUpgrade: h2c\r\nX_Under: 1\r\nCookie: a=b\r\n\r\n";
  CHECK(forward(lies, false) ==
        "POST /x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\nContent-Type: a/b\r\nCookie: a=b\r\nTE: "
        "trailers\r\n"
        "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nX-Forwarded-Port: "
        "443\r\n"
        "X-Real-IP: 10.0.0.9\r\nX-Request-Id: id\r\nContent-Length: 3\r\n\r\n");
  const std::string trusted = forward(lies, true);
  CHECK(trusted.find("X-Forwarded-For: 1.2.3.4, 10.0.0.9\r\n") != std::string::npos);
  CHECK(trusted.find("X-Forwarded-Proto: gopher\r\n") != std::string::npos);
  CHECK(forward("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Request-Id: "
                "mine\r\n\r\n",
                false)
            .find("X-Request-Id: mine\r\nX-Forwarded-For: 10.0.0.9\r\n") != std::string::npos);
}

TEST_CASE("answers get exactly one framing, which the client understands") {
  const auto deliver = [](const std::string& text, int minor, const std::string& method = "GET") {
    http::Head head;
    REQUIRE(http::parse_response_head(text, {}, method, head).state == http::HeadState::complete);
    return client_head(head, minor, true, method == "HEAD");
  };
  CHECK(
      deliver("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: X-A\r\nX-A: 1\r\nKeep-Alive: 1\r\n\r\n", 1)
          .head == "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
  CHECK(deliver("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 1).head ==
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(deliver("HTTP/1.0 200 OK\r\n\r\n", 1).head ==
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(deliver("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0).head ==
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
  CHECK(deliver("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1).head ==
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  CHECK(deliver("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 1, "HEAD").head ==
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
  CHECK(deliver("HTTP/1.1 204\r\n\r\n", 1).head == "HTTP/1.1 204 No Content\r\n\r\n");
  CHECK(deliver("HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 1).head ==
        "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n");
}

}  // namespace orchestra::ingress
