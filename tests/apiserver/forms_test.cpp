// Forms of answers over HTTP that only headers and parameters change: packed, indented, warned; and what
// health checks say.
#include <atomic>
#include <thread>

#include "api/protobuf.hpp"
#include "api/types.hpp"
#include "apiserver/gzip.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "tests/apiserver/answers.hpp"
#include "tests/apiserver/held_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {
struct Formed {
  Engine engine;
  std::shared_ptr<HeldStore> store = std::make_shared<HeldStore>(engine);
  ApiServer server{engine, store, {.insecure_http = "127.0.0.1:0"}};
  std::shared_ptr<HttpClient> http = make_http_client(engine);
  Formed() {
    const auto started = server.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
  }
  ~Formed() { server.stop(); }
  HttpResponse ask(const std::string& method, const std::string& path, const std::string& body = {},
                   std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpRequest request;
    request.method = method;
    request.url = "http://" + server.insecure_address() + path;
    request.body = body;
    request.headers = std::move(headers);
    if (!body.empty()) request.headers.emplace_back("Content-Type", "application/json");
    auto answer = http->send(std::move(request)).wait(60s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    return *answer;
  }
  void map(const std::string& name, std::size_t bytes) {
    const std::string body = R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")" + name +
                             R"("},"data":{"k":")" + std::string(bytes, 'x') + "\"}}";
    REQUIRE(ask("POST", kMaps, body).status == 201);
  }
  /// What a packed answer unpacks to; "plain" where it is not packed.
  std::string unpacked(const std::string& path) {
    const HttpResponse answer = ask("GET", path, "", {{"Accept-Encoding", "gzip"}});
    if (!answer.headers.contains("content-encoding")) return "plain";
    CHECK(answer.headers.at("content-encoding") == "gzip");
    CHECK(answer.headers.at("vary") == "Accept-Encoding");
    CHECK(answer.body.size() < 64 << 10);
    return apiserver::Gunzip().feed(answer.body).value_or("broken");
  }
};
}  // namespace

TEST_CASE("answers from 128 KiB on are packed for those who can unpack, watches never") {
  Formed served;
  served.map("small", 100 << 10);
  served.map("big", 200 << 10);
  CHECK(served.unpacked(kMaps + "/small") == "plain");
  CHECK(served.unpacked(kMaps + "/big") == served.ask("GET", kMaps + "/big").body);
  CHECK(served.unpacked(kMaps) == served.ask("GET", kMaps).body);
  CHECK_FALSE(served.ask("GET", kMaps + "/big").headers.contains("content-encoding"));
  // A list that is made in pieces while it is sent.
  for (int i = 0; i < 510; ++i) served.map("m" + std::to_string(i), 1);
  CHECK(served.unpacked(kMaps) == served.ask("GET", kMaps).body);
  const auto watch =
      served.ask("GET", kMaps + "?watch=1&timeoutSeconds=1", "", {{"Accept-Encoding", "gzip"}});
  CHECK_FALSE(watch.headers.contains("content-encoding"));
  CHECK(watch.body.size() > 300 << 10);
}

TEST_CASE("pretty answers are the same ones with line breaks") {
  Formed served;
  for (const std::string& path :
       {kMaps + "/kube-root-ca.crt", kMaps, std::string("/apis/apps/v1/deployments")}) {
    const std::string plain = served.ask("GET", path).body;
    const std::string pretty = served.ask("GET", path + "?pretty=true").body;
    CHECK(pretty.find("\n  \"") != std::string::npos);
    CHECK(parse_json(pretty).value() == parse_json(plain).value());
    CHECK(served.ask("GET", path + "?pretty=false").body == plain);
  }
}

TEST_CASE("errors and other answers about requests are indented as well, where that is asked for") {
  Formed served;
  served.map("a", 1);
  served.map("b", 1);
  const auto same = [&](const std::string& method, const std::string& path, int code) {
    CAPTURE(path);
    const std::string more = path.find('?') == std::string::npos ? "?pretty=" : "&pretty=";
    const auto plain = served.ask(method, path + more + "false"),
               pretty = served.ask(method, path + more + "true");
    CHECK(plain.status == code);
    CHECK(pretty.status == code);
    CHECK(pretty.headers.at("content-type") == "application/json");
    CHECK(pretty.body.starts_with("{\n  \""));
    CHECK(pretty.body.ends_with("}\n"));
    CHECK_FALSE(plain.body.starts_with("{\n"));
    CHECK(parse_json(pretty.body).value() == parse_json(plain.body).value());
  };
  same("GET", kMaps + "/none", 404);
  same("GET", "/nowhere", 404);
  same("GET", "/apis/none/v1", 404);
  same("POST", kMaps, 400);
  same("PUT", kMaps, 405);
  same("GET", kMaps + "?limit=x", 400);
  same("GET", kMaps + "?watch=1&resourceVersion=x", 400);
  same("GET", kMaps + "?timeout=soon", 400);
  same("DELETE", kMaps + "/a?dryRun=All", 200);
  same("GET", "/api", 200);
  same("GET", "/apis/apps/v1", 200);
  const auto gone = served.ask("DELETE", kMaps + "/b?pretty=1");
  CHECK(string_at(parse_json(gone.body).value(), "/status") == "Success");
  CHECK(gone.body.starts_with("{\n"));
}

TEST_CASE("a health check names what is not well, and leaves out what it is told to leave out") {
  Formed served;
  CHECK(served.ask("GET", "/readyz").body == "ok");
  CHECK(served.ask("GET", "/readyz?verbose").body ==
        "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]poststarthook/bootstrap-objects ok\nreadyz check passed\n");
  CHECK(served.ask("GET", "/livez?verbose&exclude=log&exclude=none").body ==
        "[+]ping ok\n[+]log excluded: ok\n[+]etcd ok\nwarn: some health checks cannot be excluded: no "
        "matches for "
        "\"none\"\nlivez check passed\n");
  served.store->look_empty(true);
  const auto ill = served.ask("GET", "/readyz");
  CHECK(ill.status == 500);
  CHECK(ill.body ==
        "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n[+]poststarthook/bootstrap-objects ok\n"
        "readyz check failed\n");
  CHECK(served.ask("GET", "/readyz?exclude=etcd").body == "ok");
  CHECK(served.ask("GET", "/readyz/etcd").status == 500);
  CHECK(served.ask("GET", "/readyz/etcd").body == "internal server error: not ready\n");
  CHECK(served.ask("GET", "/readyz/ping").body == "ok");
  CHECK(served.ask("GET", "/livez/poststarthook/bootstrap-objects").status == 404);
  served.store->look_empty(false);
}

TEST_CASE("a definition is served before its status says that it is") {
  Formed served;
  std::atomic<int> early{0}, told{0};
  served.store->before_write([&](StateStore&, const Txn& txn) {
    for (const TxnOp& op : txn.then) {
      if (op.range.begin.find("/customresourcedefinitions/") == std::string::npos) continue;
      const std::string_view bytes = op.value.bytes();
      if (bytes.find("\"Established\"") == std::string_view::npos) continue;
      ++told;
      if (!served.server.client().list("example.com/v1", "boxes").wait(30s)) ++early;
    }
  });
  const std::string definition =
      R"({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":)"
      R"("boxes.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"boxes","kind":)"
      R"("Box"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":)"
      R"("object"}}}]}})";
  REQUIRE(served.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).status ==
          201);
  const std::string path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/boxes.example.com";
  for (int i = 0; i < 1000 && served.ask("GET", path).body.find("\"Established\"") == std::string::npos; ++i)
    std::this_thread::sleep_for(10ms);  // a poll of the outside
  CHECK(told > 0);
  CHECK(early == 0);
  served.store->before_write(nullptr);
}

TEST_CASE("DeleteOptions come as protobuf, too") {
  Formed served;
  const auto remove = [&](const json::value& options) {
    const auto schema = api::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    const auto message = api::encode_protobuf_message(options, schema);
    REQUIRE(message);
    HttpRequest request;
    request.method = "DELETE";
    request.url = "http://" + served.server.insecure_address() + kMaps + "/a";
    request.body = api::protobuf_envelope("v1", "DeleteOptions", *message);
    request.headers = {{"Content-Type", "application/vnd.kubernetes.protobuf"}};
    const auto answer = served.http->send(std::move(request)).wait(60s);
    REQUIRE(answer);
    return *answer;
  };
  served.map("a", 1);
  const auto dry = remove(json::object{{"dryRun", json::array{"All"}}});
  CHECK(dry.status == 200);
  CHECK(served.ask("GET", kMaps + "/a").status == 200);
  CHECK(remove(json::object{{"preconditions", json::object{{"uid", "another"}}}}).status == 409);
  const auto marked = remove(json::object{{"propagationPolicy", "Foreground"}});
  CHECK(marked.status == 200);
  CHECK(marked.body.find(R"("finalizers":["foregroundDeletion"])") != std::string::npos);
}
