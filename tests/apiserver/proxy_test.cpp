// The subresource proxy: which pod is meant, what the pod gets to see, what the client gets back.
#include "apiserver/streams/pod_proxy.hpp"

#include "apiserver/streams/proxy_target.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "net/http/upgrade_client.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/compat/fake_pods.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::apiserver;
using namespace std::chrono_literals;

namespace {

/// A connection into a pod: the request is noted, the answer comes in pieces of three bytes.
class ScriptedStream final : public DuplexStream {
 public:
  ScriptedStream(std::string answer, std::shared_ptr<test::Channel<std::string>> requests)
      : answer_(std::move(answer)), requests_(std::move(requests)) {}
  Pending<std::string> read(std::size_t) override {
    std::string piece = answer_.substr(0, 3);
    answer_.erase(0, piece.size());
    return Result<std::string>(std::move(piece));
  }
  Pending<void> write(std::string bytes) override {
    requests_->put(std::move(bytes));
    return Result<void>();
  }
  void close_write() override {}
  void close() override {}

 private:
  std::string answer_;
  std::shared_ptr<test::Channel<std::string>> requests_;
};

class ScriptedPods final : public PodStreams {
 public:
  Pending<std::shared_ptr<ByteStream>> log(PodTarget, LogOptions) override { return none(); }
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget, ExecOptions) override { return none(); }
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget target, int port) override {
    dialled.put(target.ns + "/" + target.pod + ":" + std::to_string(port) + "@" + target.node);
    if (answer.empty()) return Error(Error::unavailable, "node", "connect 127.0.0.1: refused");
    return Result<std::shared_ptr<DuplexStream>>(std::make_shared<ScriptedStream>(answer, requests));
  }
  std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
  test::Channel<std::string> dialled;
  std::shared_ptr<test::Channel<std::string>> requests = std::make_shared<test::Channel<std::string>>();

 private:
  static Error none() { return {Error::unsupported, "test", "not here"}; }
};

struct Proxied {
  test::TempDir folder;
  Engine engine;
  ApiServer server{
      engine, MemoryStore::create(engine),
      ApiServerOptions{
          .listen = "127.0.0.1:0", .insecure_http = "127.0.0.1:0", .data_directory = folder.path()}};
  std::shared_ptr<ScriptedPods> pods = std::make_shared<ScriptedPods>();
  std::shared_ptr<HttpClient> http = make_http_client(engine);

  Proxied() {
    REQUIRE(server.start());
    server.set_pod_streams(pods);
    create(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"default"},
               "spec":{"nodeName":"n1","containers":[{"name":"c","image":"i","ports":[{"containerPort":8080}]}]}})");
    create(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"shared","namespace":"default"},
               "spec":{"nodeName":"n1","hostNetwork":true,"containers":[{"name":"c","image":"i"}]}})");
    create(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"waits","namespace":"default"},
               "spec":{"containers":[{"name":"c","image":"i"}]}})");
    create(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"shop","namespace":"default"},
               "spec":{"selector":{"a":"b"},"ports":[{"name":"http","port":80,"targetPort":8080},
                                                     {"name":"admin","port":81,"targetPort":9090}]}})");
    create(R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"empty","namespace":"default"},
               "spec":{"selector":{"a":"c"},"ports":[{"port":80}]}})");
    create(R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
               "metadata":{"name":"shop-1","namespace":"default","labels":{"kubernetes.io/service-name":"shop"}},
               "ports":[{"name":"http","port":8080},{"name":"admin","port":9090}],
               "endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true},
                             "targetRef":{"kind":"Pod","namespace":"default","name":"web"}},
                            {"addresses":["169.254.169.254"],"conditions":{"ready":true}},
                            {"addresses":["10.0.0.2"],"conditions":{"ready":false},
                             "targetRef":{"kind":"Pod","namespace":"default","name":"waits"}}]})");
  }
  ~Proxied() { server.stop(); }
  void create(const std::string& text) {
    const auto made = server.client().create(Object::from_json(text).value()).wait(30s);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
  }
  HttpResponse ask(const std::string& method, const std::string& path, const std::string& body = {},
                   std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpRequest request;
    request.method = method;
    request.url = "http://" + server.insecure_address() + "/api/v1/" + path;
    request.body = body;
    request.headers = std::move(headers);
    request.redirects_max = 0;
    auto answer = http->send(std::move(request)).wait(30s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    return *answer;
  }
  std::string dialled() { return pods->dialled.take().wait(10s).value(); }
  std::string seen() { return pods->requests->take().wait(10s).value(); }
};

std::string message(const HttpResponse& answer) {
  auto tree = parse_json(answer.body);
  return std::to_string(answer.status) + " " + (tree ? string_at(*tree, "/message") : answer.body);
}
std::string field(const HttpResponse& answer, const std::string& name) {
  const auto found = answer.headers.find(name);
  return found == answer.headers.end() ? std::string() : found->second;
}

}  // namespace

TEST_CASE("a name says scheme, object and port, or nothing that is meant") {
  const auto read = [](const char* text) {
    const auto name = parse_proxy_name(text);
    return name ? name->scheme + "|" + name->name + "|" + name->port : std::string("none");
  };
  CHECK(read("web") == "|web|");
  CHECK(read("web:80") == "|web|80");
  CHECK(read("http:web:80") == "http|web|80");
  CHECK(read("https:web:") == "https|web|");
  CHECK(read("ftp:web:80") == "none");
  CHECK(read("a:b:c:d") == "none");
  CHECK(read(":80") == "none");
}

TEST_CASE("a request goes to the pod and port that it names, by pod or by Service") {
  Proxied proxied;
  const auto goes_to = [&](const std::string& path, const std::string& method = "GET") {
    const HttpResponse answer = proxied.ask(method, path);
    if (answer.status != 200) return message(answer);
    (void)proxied.seen();
    return proxied.dialled();
  };
  CHECK(goes_to("namespaces/default/pods/web/proxy/") == "default/web:8080@n1");
  CHECK(goes_to("namespaces/default/pods/web:9000/proxy/x") == "default/web:9000@n1");
  CHECK(goes_to("namespaces/default/pods/http:web:9000/proxy/x", "DELETE") == "default/web:9000@n1");
  CHECK(goes_to("namespaces/default/services/shop:http/proxy/") == "default/web:8080@n1");
  CHECK(goes_to("namespaces/default/services/shop:81/proxy/") == "default/web:9090@n1");
  // Only ready endpoints that are pods: never the address that somebody wrote there.
  for (int i = 0; i < 10; ++i)
    CHECK(goes_to("namespaces/default/services/shop:http/proxy/") == "default/web:8080@n1");
  CHECK(goes_to("namespaces/default/pods/gone/proxy/") == "404 pods \"gone\" not found");
  CHECK(goes_to("namespaces/default/pods/web:0/proxy/").starts_with("400 port \"0\" of a pod"));
  CHECK(goes_to("namespaces/default/pods/https:web:1/proxy/").starts_with("400 requests by https"));
  CHECK(goes_to("namespaces/default/pods/shared/proxy/")
            .starts_with("400 pod shared is on its machine's network"));
  CHECK(goes_to("namespaces/default/pods/waits/proxy/") == "400 pod waits does not have a host assigned");
  CHECK(goes_to("namespaces/default/services/shop:9/proxy/") ==
        "503 no service port \"9\" found for service \"shop\"");
  CHECK(goes_to("namespaces/default/services/empty/proxy/") ==
        "503 no endpoints available for service \"empty\"");
  CHECK(goes_to("nodes/n1/proxy/stats/summary").starts_with("503 nodes are not proxied"));
  proxied.pods->answer.clear();
  CHECK(goes_to("namespaces/default/pods/web/proxy/").starts_with("502 error trying to reach the pod: "));
}

TEST_CASE("the pod sees path, query and body as they were sent, and nothing of the client's identity") {
  Proxied proxied;
  const std::string base = "namespaces/default/pods/web/proxy";
  const HttpResponse answer = proxied.ask(
      "POST", base + "/a%2Fb//c?x=1&y=%20", "body",
      {{"X-Own", "kept"}, {"X-Forwarded-For", "192.0.2.9"}, {"Connection", "X-Once"}, {"X-Once", "dropped"}});
  CHECK(answer.status == 200);
  CHECK(answer.body == "hi");
  const std::string seen = proxied.seen();
  CAPTURE(seen);
  CHECK(seen.starts_with("POST /a%2Fb//c?x=1&y=%20 HTTP/1.1\r\nHost: web:8080\r\n"));
  CHECK(seen.ends_with("\r\nContent-Length: 4\r\n\r\nbody"));
  CHECK(seen.find("x-own: kept\r\n") != std::string::npos);
  CHECK(seen.find("X-Forwarded-For: 127.0.0.1\r\n") != std::string::npos);
  CHECK(seen.find("192.0.2.9") == std::string::npos);
  CHECK(seen.find("dropped") == std::string::npos);
  CHECK(seen.find("X-Forwarded-Uri: /api/v1/" + base + "/a%2Fb//c\r\n") != std::string::npos);
  HttpServerRequest request;
  request.method = "GET";
  request.headers = {{"authorization", "Bearer secret"}, {"impersonate-user", "root"}, {"te", "trailers"}};
  const std::string rebuilt = proxied_request(request, {"/p", "/q"}, "web:80");
  CHECK(rebuilt.find("secret") == std::string::npos);
  CHECK(rebuilt.find("root") == std::string::npos);
  CHECK(rebuilt.find("trailers") == std::string::npos);
  // Without a slash behind it relative links would go astray.
  const HttpResponse moved = proxied.ask("GET", base + "?x=1");
  CHECK(moved.status == 301);
  CHECK(field(moved, "location") == "/api/v1/" + base + "/?x=1");
}

TEST_CASE("answers come back whole, in every framing, and what is no HTTP is a 502") {
  Proxied proxied;
  const auto ask = [&](const std::string& answer, const std::string& method = "GET") {
    proxied.pods->answer = answer;
    const HttpResponse got = proxied.ask(method, "namespaces/default/pods/web/proxy/");
    return std::to_string(got.status) + " " + (got.status == 502 ? "" : got.body);
  };
  CHECK(ask("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") ==
        "200 abcde");
  CHECK(ask("HTTP/1.0 404 Not Found\r\n\r\nuntil the end") == "404 until the end");
  CHECK(ask("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nx") == "201 x");
  CHECK(ask("HTTP/1.1 204 No Content\r\n\r\n") == "204 ");
  CHECK(ask("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", "HEAD") == "200 ");
  CHECK(ask("220 mail.example ESMTP\r\n") == "502 ");
  CHECK(ask("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab") == "502 ");
  // HEAD tells what GET would give: the length of the pod's answer, or none where it has none.
  proxied.pods->answer = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n";
  CHECK(field(proxied.ask("HEAD", "namespaces/default/pods/web/proxy/"), "content-length") == "99");
  proxied.pods->answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  CHECK(field(proxied.ask("HEAD", "namespaces/default/pods/web/proxy/"), "content-length") == "");
  proxied.pods->answer =
      "HTTP/1.1 302 Found\r\nLocation: /login\r\nConnection: X-Hop\r\nX-Hop: no\r\nX-Kept: "
      "yes\r\nContent-Length: "
      "0\r\n\r\n";
  const HttpResponse moved = proxied.ask("GET", "namespaces/default/pods/web/proxy/");
  CHECK(field(moved, "location") == "/api/v1/namespaces/default/pods/web/proxy/login");
  CHECK(field(moved, "x-kept") == "yes");
  CHECK(field(moved, "x-hop").empty());
}

TEST_CASE("a pod may switch to the protocol that the client asked for, and to no other") {
  Proxied proxied;
  const auto switches = [&](const std::string& asked, const std::string& answered) {
    proxied.pods->answer =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" + answered + "\r\nits own bytes";
    HttpRequest request;
    request.url =
        "http://" + proxied.server.insecure_address() + "/api/v1/namespaces/default/pods/web/proxy/";
    request.headers = {{"X-Asked", "yes"}};
    if (!asked.empty()) request.headers = {{"Connection", "Upgrade"}, {"Upgrade", asked}};
    auto answer = http::UpgradeClient(proxied.engine).open(std::move(request)).wait(30s);
    REQUIRE_MESSAGE(answer, answer.error().to_string());
    if (!answer->stream) return message(answer->response);
    std::string bytes;
    while (bytes.size() < 13) {
      auto more = answer->stream->read(64).wait(10s);
      if (!more || more->empty()) break;
      bytes += *more;
    }
    answer->stream->close();
    return "joined: " + bytes;
  };
  CHECK(switches("websocket", "Upgrade: WebSocket\r\n") == "joined: its own bytes");
  CHECK(switches("websocket", "Upgrade: h2c\r\n") ==
        "502 error trying to reach the pod: it switched to the protocol \"h2c\" when \"websocket\" was "
        "requested");
  CHECK(switches("websocket", "").starts_with("502 error trying to reach the pod: it switched"));
  CHECK(switches("", "Upgrade: websocket\r\n").starts_with("502 error trying to reach the pod: it switched"));
}
