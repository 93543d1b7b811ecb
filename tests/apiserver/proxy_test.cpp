// The subresource proxy: which pod is meant, what the pod gets to see, what the client gets back.
#include "apiserver/streams/pod_proxy.hpp"

#include <openssl/ssl.h>

#include "apiserver/gzip.hpp"
#include "apiserver/streams/proxy_links.hpp"
#include "apiserver/streams/proxy_target.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "net/http/tls_context.hpp"
#include "net/http/upgrade_client.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/apiserver/answers.hpp"
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

/// The same behind TLS, with a certificate that nobody has signed.
class ScriptedTls final : public DuplexStream {
 public:
  ScriptedTls(std::string answer, std::shared_ptr<test::Channel<std::string>> requests, bool ends_cleanly)
      : answer_(std::move(answer)), requests_(std::move(requests)), ends_cleanly_(ends_cleanly) {
    const auto [certificate, key] = http::make_self_signed("somebody.else").value();
    context_ = http::make_server_context(certificate, key, "").value();
    ssl_.reset(::SSL_new(context_->get()));
    in_ = ::BIO_new(::BIO_s_mem());
    out_ = ::BIO_new(::BIO_s_mem());
    ::SSL_set_bio(ssl_.get(), in_, out_);
    ::SSL_set_accept_state(ssl_.get());
  }
  Pending<std::string> read(std::size_t) override { return arrived_.take(); }
  Pending<void> write(std::string bytes) override {
    ::BIO_write(in_, bytes.data(), static_cast<int>(bytes.size()));
    char text[4096];
    const int got = ::SSL_read(ssl_.get(), text, sizeof text);  // shakes hands first
    if (got > 0) {
      requests_->put(std::string(text, static_cast<std::size_t>(got)));
      for (std::size_t at = 0; at < answer_.size(); at += 10'000) {  // one record a call
        const std::string part = answer_.substr(at, 10'000);
        ::SSL_write(ssl_.get(), part.data(), static_cast<int>(part.size()));
      }
      if (ends_cleanly_) ::SSL_shutdown(ssl_.get());
    }
    std::string sealed(::BIO_ctrl_pending(out_), '\0');
    if (!sealed.empty()) ::BIO_read(out_, sealed.data(), static_cast<int>(sealed.size()));
    for (std::size_t at = 0; at < sealed.size(); at += 100) arrived_.put(sealed.substr(at, 100));
    if (got > 0) arrived_.put("");
    return Result<void>();
  }
  void close_write() override {}
  void close() override {}

 private:
  struct Free {
    void operator()(SSL* ssl) const { ::SSL_free(ssl); }
  };
  const std::string answer_;
  const std::shared_ptr<test::Channel<std::string>> requests_;
  const bool ends_cleanly_;
  http::SharedTlsContext context_;
  std::unique_ptr<SSL, Free> ssl_;
  BIO *in_ = nullptr, *out_ = nullptr;
  test::Channel<std::string> arrived_;
};

class ScriptedPods final : public PodStreams {
 public:
  Pending<std::shared_ptr<ByteStream>> log(PodTarget, LogOptions) override { return none(); }
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget, ExecOptions) override { return none(); }
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget target, int port) override {
    dialled.put(target.ns + "/" + target.pod + ":" + std::to_string(port) + "@" + target.node);
    if (answer.empty()) return Error(Error::unavailable, "node", "connect 127.0.0.1: refused");
    if (tls)
      return Result<std::shared_ptr<DuplexStream>>(
          std::make_shared<ScriptedTls>(answer, requests, ends_cleanly));
    return Result<std::shared_ptr<DuplexStream>>(std::make_shared<ScriptedStream>(answer, requests));
  }
  Pending<NodePage> page(std::string node, std::string path) override {
    if (node == "away") return Error(Error::unavailable, "node", "no answer");
    return Result<NodePage>(NodePage{path == "/pods" ? 200 : 404, "text/plain", node + " " + path});
  }
  bool tls = false, ends_cleanly = true;
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
                            {"addresses":["192.0.2.1"],"conditions":{"ready":true}},
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
  std::string dialled() { return pods->dialled.take().wait(60s).value(); }
  std::string seen() { return pods->requests->take().wait(60s).value(); }
};

std::string refusal_of(const HttpResponse& answer) {
  return std::to_string(answer.status) + " " + test::message(answer);
}
std::string header_of(const HttpResponse& answer, const std::string& name) {
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
    if (answer.status != 200) return refusal_of(answer);
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
  CHECK(goes_to("namespaces/default/pods/ftp:web:1/proxy/") == "400 invalid pod request \"ftp:web:1\"");
  // Where that is the agent of its node knows, and which addresses are allowed (tests/agent).
  CHECK(goes_to("namespaces/default/pods/shared:99/proxy/") == "default/shared:99@n1");
  CHECK(goes_to("namespaces/default/pods/waits/proxy/") == "400 pod waits does not have a host assigned");
  CHECK(goes_to("namespaces/default/services/shop:9/proxy/") ==
        "503 no service port \"9\" found for service \"shop\"");
  CHECK(goes_to("namespaces/default/services/empty/proxy/") ==
        "503 no endpoints available for service \"empty\"");
  proxied.pods->answer.clear();
  CHECK(goes_to("namespaces/default/pods/web/proxy/").starts_with("502 error trying to reach the pod: "));
}

TEST_CASE("the agent of a node is asked for its page, and only read") {
  Proxied proxied;
  for (const char* name : {"n1", "away"})
    proxied.create(R"({"apiVersion":"v1","kind":"Node","metadata":{"name":")" + std::string(name) + "\"}}");
  const auto ask = [&](const std::string& path, const std::string& method = "GET") {
    return refusal_of(proxied.ask(method, "nodes/" + path));
  };
  CHECK(ask("n1/proxy/pods") == "200 n1 /pods");
  CHECK(ask("n1:10250/proxy/pods") == "200 n1 /pods");
  CHECK(ask("https:n1:10250/proxy/pods") == "200 n1 /pods");
  CHECK(ask("n1/proxy/stats/summary?only_cpu_and_memory=true") ==
        "404 n1 /stats/summary?only_cpu_and_memory=true");
  CHECK(header_of(proxied.ask("GET", "nodes/n1/proxy"), "location") == "/api/v1/nodes/n1/proxy/");
  CHECK(ask("n1/proxy/pods", "HEAD") == "200 ");
  CHECK(ask("n1/proxy/run", "POST") == "405 the agent of node n1 is only read (GET), not POST");
  CHECK(ask("n1:22/proxy/") ==
        "400 port \"22\" of node n1 is not proxied, only its agent is; leave the port out");
  CHECK(ask("gone/proxy/pods") == "404 nodes \"gone\" not found");
  CHECK(ask("away/proxy/pods").starts_with("503 error trying to reach the node's agent: "));
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
  CHECK(header_of(moved, "location") == "/api/v1/" + base + "/?x=1");
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
  CHECK(header_of(proxied.ask("HEAD", "namespaces/default/pods/web/proxy/"), "content-length") == "99");
  proxied.pods->answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  CHECK(header_of(proxied.ask("HEAD", "namespaces/default/pods/web/proxy/"), "content-length") == "");
  proxied.pods->answer =
      "HTTP/1.1 302 Found\r\nLocation: /login\r\nConnection: X-Hop\r\nX-Hop: no\r\nX-Kept: "
      "yes\r\nContent-Length: "
      "0\r\n\r\n";
  const HttpResponse moved = proxied.ask("GET", "namespaces/default/pods/web/proxy/");
  CHECK(header_of(moved, "location") == "/api/v1/namespaces/default/pods/web/proxy/login");
  CHECK(header_of(moved, "x-kept") == "yes");
  CHECK(header_of(moved, "x-hop").empty());
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
    if (!answer->stream) return refusal_of(answer->response);
    std::string bytes;
    while (bytes.size() < 13) {
      auto more = answer->stream->read(64).wait(60s);
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

TEST_CASE("a pod is spoken to by TLS where https is asked for, and its certificate is not looked at") {
  Proxied proxied;
  proxied.pods->tls = true;
  const std::string path = "namespaces/default/pods/https:web:8443/proxy/a?b=c";
  proxied.pods->answer = "HTTP/1.0 200 OK\r\n\r\n" + std::string(100'000, 's');  // several records
  const HttpResponse answer = proxied.ask("POST", path, std::string(40'000, 'b'));
  CHECK(answer.status == 200);
  CHECK((answer.body == std::string(100'000, 's')));
  CHECK(proxied.dialled() == "default/web:8443@n1");
  CHECK(proxied.seen().starts_with("POST /a?b=c HTTP/1.1\r\nHost: web:8443\r\n"));
  // By a Service as well; without a port it is that of https.
  CHECK(proxied.ask("GET", "namespaces/default/services/https:shop:http/proxy/").status == 200);
  CHECK(proxied.dialled() == "default/web:8080@n1");
  CHECK(proxied.ask("GET", "namespaces/default/pods/https:shared:/proxy/").status == 200);
  CHECK(proxied.dialled() == "default/shared:443@n1");
  // An answer up to the end of the connection that TLS does not end was cut off by somebody.
  proxied.pods->ends_cleanly = false;
  HttpRequest request;
  request.url = "http://" + proxied.server.insecure_address() + "/api/v1/" + path;
  CHECK_FALSE(proxied.http->send(std::move(request)).wait(30s));
  // What is no TLS is no pod by https.
  proxied.pods->tls = false;
  const std::string refused = refusal_of(proxied.ask("GET", path));
  CHECK_MESSAGE(refused.starts_with("502 error trying to reach the pod: TLS: "), refused);
}

TEST_CASE("links to the pod itself get the prefix of the proxy, all others stay as they are") {
  const LinkBase base{"/api/v1/p/proxy", {"web:8080", "10.0.0.9:8080"}, "kube.example:6443"};
  const struct {
    const char *link, *becomes;
  } rows[] = {
      {"/login", "/api/v1/p/proxy/login"},
      {"/a?x=/b#c", "/api/v1/p/proxy/a?x=/b#c"},
      {"http://web:8080/x", "/api/v1/p/proxy/x"},
      {"https://10.0.0.9:8080/x/", "/api/v1/p/proxy/x/"},
      {"//web:8080/x", "/api/v1/p/proxy/x"},
      {"http://user:secret@web:8080/x", "/api/v1/p/proxy/x"},
      {"https://kube.example:6443/x", "https://kube.example:6443/api/v1/p/proxy/x"},
      {"https://kube.example:6443/api/v1/p/proxy/x", "https://kube.example:6443/api/v1/p/proxy/x"},
      {"/api/v1/p/proxy/x", "/api/v1/p/proxy/x"},
      {"x/y", "x/y"},
      {"?page=2", "?page=2"},
      {"#top", "#top"},
      {"", ""},
      {"http://web:9090/x", "http://web:9090/x"},
      {"//cdn.example/x.js", "//cdn.example/x.js"},
      {"http://web:8080", "http://web:8080"},
      {"mailto:me@web:8080", "mailto:me@web:8080"},
      {"javascript:go('/x')", "javascript:go('/x')"},
      {"data:text/plain,/x", "data:text/plain,/x"},
      {"/a\nb", "/a\nb"},
      {"file:///etc/motd", "file:///etc/motd"},
      {"app:/open", "app:/open"},
  };
  for (const auto& row : rows) CHECK(proxied_link(base, row.link) == row.becomes);
}

TEST_CASE("a page of HTML keeps every byte but the values of its links, wherever it is cut") {
  const LinkBase base{"/p", {"web:80"}, "asked"};
  const struct {
    const char *page, *becomes;
  } rows[] = {
      {"plain & text < 3 </ <", "plain & text < 3 </ <"},
      {"<a href=\"/x\">y</a>", "<a href=\"/p/x\">y</a>"},
      {"<A HREF='/x' class=\"/c\">", "<A HREF='/p/x' class=\"/c\">"},
      {"<a  title=it's href = /x?a=1&amp;b=2 >", "<a  title=it's href = /p/x?a=1&amp;b=2 >"},
      {"<a title='>' href=/x>/x", "<a title='>' href=/p/x>/x"},
      {"<img src=/i.png/><br/>", "<img src=/p/i.png/><br/>"},
      {"<iframe longdesc=\"/l\" src=\"//web:80/s\"></iframe>",
       "<iframe longdesc=\"/p/l\" src=\"/p/s\"></iframe>"},
      {"<div href=\"/x\" src=\"/x\">", "<div href=\"/x\" src=\"/x\">"},
      {"<form action=\"/go\"><button formaction='/b'>", "<form action=\"/p/go\"><button formaction='/p/b'>"},
      {"<!-- <a href=\"/x\"> --><a href=\"/x\">", "<!-- <a href=\"/x\"> --><a href=\"/p/x\">"},
      {"<!--><a href=/x>", "<!--><a href=/p/x>"},
      {"<!DOCTYPE html><html manifest=\"/m\">", "<!DOCTYPE html><html manifest=\"/p/m\">"},
      {"<script src=\"/s.js\">var a = '<a href=\"/x\">';</scripty></SCRIPT><a href=\"/x\">",
       "<script src=\"/p/s.js\">var a = '<a href=\"/x\">';</scripty></SCRIPT><a href=\"/p/x\">"},
      {"<title><a href=\"/x\"></title >", "<title><a href=\"/x\"></title >"},
      {"<plaintext></plaintext><a href=\"/x\">", "<plaintext></plaintext><a href=\"/x\">"},
      {"</a href=\"/x\">", "</a href=\"/x\">"},
      {"<a href>", "<a href>"},
      {"<a href=>", "<a href=>"},
      {"<a href=\"/x\"/href='/y'>", "<a href=\"/p/x\"/href='/p/y'>"},
      {"<a href=\"/unfinished", "<a href=\"/unfinished"},
  };
  for (const auto& row : rows) {
    const std::string page = row.page;
    for (std::size_t step = 1; step <= page.size(); ++step) {
      HtmlLinks links(base);
      std::string out;
      for (std::size_t at = 0; at < page.size(); at += step) out += links.feed(page.substr(at, step));
      out += links.finish();
      CHECK(out == row.becomes);
    }
  }
  // What a client put into its path ends neither the value nor the tag.
  HtmlLinks odd({"/p\"'<>&", {}, ""});
  CHECK(odd.feed("<a href=\"/x\">") == "<a href=\"/p&#34;&#39;&lt;&gt;&amp;/x\">");
  // A tag without an end is not kept for ever.
  HtmlLinks endless(base);
  std::string in, out;
  for (std::size_t at = 0; at <= HtmlLinks::kTagBytesMax; at += 1024) {
    in += at == 0 ? "<" : std::string(1024, 'a');
    out += endless.feed(at == 0 ? "<" : std::string(1024, 'a'));
  }
  CHECK(out == in);
  HtmlLinks long_tag(base);
  const std::string tag = "<a title=\"" + std::string(HtmlLinks::kTagBytesMax, 'a');
  CHECK(long_tag.feed(tag) + long_tag.feed("\" href=\"/x\"><a href=\"/x\">") ==
        tag + "\" href=\"/x\"><a href=\"/p/x\">");
}

TEST_CASE("pages come with the links of the proxy, plain and packed; other documents do not") {
  Proxied proxied;
  const std::string base = "/api/v1/namespaces/default/pods/web/proxy";
  const auto ask = [&](const std::string& fields, const std::string& body,
                       const std::string& method = "GET") {
    proxied.pods->answer = "HTTP/1.1 200 OK\r\n" + fields + "\r\n" + body;
    return proxied.ask(method, "namespaces/default/pods/web/proxy/");
  };
  const auto length = [](const std::string& body) {
    return "Content-Length: " + std::to_string(body.size()) + "\r\n";
  };
  const std::string page = "<a href=\"/x\">";
  const std::string rewritten = "<a href=\"" + base + "/x\">";
  CHECK(ask("Content-Type: text/html; charset=utf-8\r\n" + length(page), page).body == rewritten);
  CHECK(ask("Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n",
            "7\r\n<a href\r\n6\r\n=\"/x\">\r\n0\r\n\r\n")
            .body == "<a href=\"" + base + "/x\">");
  CHECK(ask("Content-Type: text/plain\r\n" + length(page), page).body == page);
  CHECK(ask("Content-Type: text/html\r\nContent-Encoding: br\r\n" + length(page), page).body == page);
  std::string long_page;
  for (int i = 0; i < 20'000; ++i) long_page += std::to_string(i) + page;
  const std::string packed = gzip(long_page);
  const HttpResponse unpacked =
      ask("Content-Type: text/html\r\nContent-Encoding: gzip\r\n" + length(packed), packed);
  CHECK(header_of(unpacked, "content-encoding").empty());
  CHECK(unpacked.body.starts_with("0" + rewritten + "1" + rewritten));
  CHECK(unpacked.body.ends_with("19999" + rewritten));
  // HEAD says no length that GET would not have.
  CHECK(header_of(ask("Content-Type: text/html\r\n" + length(page), "", "HEAD"), "content-length").empty());
  // What the pod allows other origins is not what this server allows them.
  const HttpResponse open = ask("Access-Control-Allow-Origin: *\r\nX-Kept: yes\r\nContent-Length: 0\r\n", "");
  CHECK(header_of(open, "access-control-allow-origin").empty());
  CHECK(header_of(open, "x-kept") == "yes");
  proxied.pods->answer =
      "HTTP/1.1 302 Found\r\nLocation: http://web:8080/in?a=b\r\nContent-Length: 0\r\n\r\n";
  CHECK(header_of(proxied.ask("GET", "namespaces/default/pods/web/proxy/"), "location") == base + "/in?a=b");
}
