// The API over HTTP: who may do what, forms of answers, errors of the transport, long lists, watches.
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "orchestra/metrics.hpp"
#include "orchestra/remote_client.hpp"
#include "tests/apiserver/answers.hpp"
#include "tests/support/test.hpp"

#include <fstream>

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {
struct Served {
  test::TempDir folder;
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server;
  std::shared_ptr<HttpClient> http = make_http_client(engine);
  explicit Served(ApiServerOptions options = {})
      : server(engine, store, with_defaults(std::move(options), folder.path())) {
    const auto started = server.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
    // The one ConfigMap that every namespace is born with: lists here count their own.
    (void)server.client().remove("v1", "configmaps", "kube-root-ca.crt", "default").wait(30s);
  }
  ~Served() { server.stop(); }
  static ApiServerOptions with_defaults(ApiServerOptions options, const std::string& folder) {
    options.listen = "127.0.0.1:0";
    options.insecure_http = "127.0.0.1:0";
    options.data_directory = folder;
    options.bookmark_interval = 100ms;
    return options;
  }
  HttpResponse send(HttpRequest request) {
    auto answer = http->send(std::move(request)).wait(60s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    return *answer;
  }
  /// As administrator, without TLS.
  HttpResponse ask(const std::string& method, const std::string& path, const std::string& body = {},
                   std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpRequest request;
    request.method = method;
    request.url = "http://" + server.insecure_address() + path;
    request.body = body;
    request.headers = std::move(headers);
    if (!body.empty() && request.headers.empty()) request.headers = {{"Content-Type", "application/json"}};
    return send(std::move(request));
  }
  HttpResponse ask_tls(const std::string& path,
                       std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpRequest request;
    request.url = "https://" + server.address() + path;
    request.tls.ca_pem = server.ca_pem();
    request.headers = std::move(headers);
    return send(std::move(request));
  }
};

const std::string kTable = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const std::string kMetadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
}  // namespace

TEST_CASE("without a certificate one reads health and version, and nothing else") {
  Served served;
  CHECK(served.ask_tls("/version").status == 200);
  CHECK(served.ask_tls("/readyz").body == "ok");
  CHECK(reason(served.ask_tls("/api/v1/pods")) == "403 Forbidden");
  CHECK(reason(served.ask_tls("/apis")) == "403 Forbidden");
  CHECK(reason(served.ask_tls("/metrics")) == "403 Forbidden");
  CHECK(reason(served.ask_tls("/api/v1/pods", {{"Authorization", "Bearer wrong"}})) == "401 Unauthorized");
}

TEST_CASE("the administrator's token and impersonation") {
  Served served;
  const std::string token = "Bearer " + [&] {
    std::ifstream file(served.folder / "pki/admin.token");
    std::string line;
    std::getline(file, line);
    return line;
  }();
  CHECK(served.ask_tls("/api/v1/pods", {{"Authorization", token}}).status == 200);
  const auto as_jane =
      served.ask_tls("/api/v1/pods", {{"Authorization", token}, {"Impersonate-User", "jane"}});
  CHECK(reason(as_jane) == "403 Forbidden");
  CHECK(as_jane.body.find("User \\\"jane\\\" cannot list resource \\\"pods\\\"") != std::string::npos);
  CHECK(reason(served.ask_tls("/api/v1/pods", {{"Impersonate-User", "jane"}})) == "403 Forbidden");
}

TEST_CASE("insecure HTTP is for loopback only") {
  Engine engine;
  ApiServer server(engine, MemoryStore::create(engine), {.insecure_http = "0.0.0.0:0"});
  const auto started = server.start();
  REQUIRE_FALSE(started);
  CHECK(started.error().is(Error::invalid));
  CHECK(started.error().message().find("127.0.0.1") != std::string::npos);
}

TEST_CASE("what cannot be read or shown is refused with the right code") {
  Served served;
  CHECK(reason(served.ask("POST", kMaps, "{", {{"Content-Type", "application/json"}})) == "400 BadRequest");
  CHECK(reason(served.ask("POST", kMaps, "x", {{"Content-Type", "text/plain"}})) ==
        "415 UnsupportedMediaType");
  CHECK(reason(served.ask("GET", kMaps, "", {{"Accept", "image/png"}})) == "406 NotAcceptable");
  CHECK(reason(served.ask("GET", kMaps, "", {{"Accept", "application/vnd.kubernetes.cbor"}})) ==
        "406 NotAcceptable");
  CHECK(served.ask("GET", kMaps, "", {{"Accept", "application/vnd.kubernetes.protobuf,application/json"}})
            .status == 200);
  CHECK(reason(served.ask("PATCH", kMaps + "/x", "{}", {{"Content-Type", "application/json"}})) ==
        "415 UnsupportedMediaType");
  CHECK(reason(served.ask("PUT", kMaps, map_json("a"))) == "405 MethodNotAllowed");
  CHECK(reason(served.ask("GET", "/api/v1/nosuch")) == "404 NotFound");
  CHECK(reason(served.ask("GET", "/apis/apps/v9/deployments")) == "404 NotFound");
  CHECK(reason(served.ask("GET", "/api/v1/namespaces/default/%2e%2e/pods")) == "400 BadRequest");
  CHECK(reason(served.ask("POST", "/api/v1/configmaps", map_json("a"))) == "405 MethodNotAllowed");
  CHECK(reason(served.ask("POST", kMaps + "?dryRun=Some", map_json("a"))) == "422 Invalid");
  CHECK(served.ask("POST", kMaps, std::string(4 << 20, 'x')).status == 413);
  std::string big = R"({"apiVersion":"v1","kind":"Secret","metadata":{"name":"big","annotations":{"a":")" +
                    std::string(300 << 10, 'x') + "\"}}}";
  CHECK(reason(served.ask("POST", "/api/v1/namespaces/default/secrets", big)) == "422 Invalid");
}

TEST_CASE("unknown fields are an error when strict, a warning by default, and nothing when ignored") {
  Served served;
  const std::string body =
      R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME"},"spec":{},"data":{"a":"1","a":"2"}})";
  const auto post = [&](const std::string& name, const std::string& query) {
    std::string text = body;
    return served.ask("POST", kMaps + query, text.replace(text.find("NAME"), 4, name));
  };
  const auto strict = post("a", "?fieldValidation=Strict");
  CHECK(reason(strict) == "400 BadRequest");
  CHECK(strict.body.find(R"(unknown field \"spec\")") != std::string::npos);
  CHECK(strict.body.find(R"(duplicate field \"data.a\")") != std::string::npos);
  const auto warned = post("b", "");
  CHECK(warned.status == 201);
  CHECK(warned.headers.at("warning").find(R"(unknown field \"spec\")") != std::string::npos);
  CHECK(post("c", "?fieldValidation=Ignore").headers.count("warning") == 0);
}

TEST_CASE("lists come as objects, Tables and metadata") {
  Served served;
  REQUIRE(served.ask("POST", kMaps, map_json("a")).status == 201);
  const auto list = parse_json(served.ask("GET", kMaps).body).value();
  CHECK(string_at(list, "/kind") == "ConfigMapList");
  CHECK(string_at(list, "/items/0/metadata/name") == "a");
  const auto empty = parse_json(served.ask("GET", "/api/v1/pods").body).value();
  REQUIRE(array_at(empty, "/items") != nullptr);
  CHECK(array_at(empty, "/items")->empty());
  const auto table = parse_json(served.ask("GET", kMaps, "", {{"Accept", kTable}}).body).value();
  CHECK(string_at(table, "/kind") == "Table");
  CHECK(string_at(table, "/rows/0/cells/0") == "a");
  CHECK(string_at(table, "/rows/0/object/kind") == "PartialObjectMetadata");
  const auto metadata = parse_json(served.ask("GET", kMaps, "", {{"Accept", kMetadata}}).body).value();
  CHECK(string_at(metadata, "/kind") == "PartialObjectMetadataList");
  CHECK(find(metadata, "/items/0/data") == nullptr);
  CHECK(
      served.ask("GET", kMaps + "/a", "", {{"Accept", "application/yaml"}}).body.find("kind: ConfigMap\n") !=
      std::string::npos);
}

TEST_CASE("a list longer than one piece is complete and in order") {
  Served served;
  const Client client = served.server.client();
  constexpr int kCount = 1300;
  std::vector<ApiRequest> requests;
  for (int i = 0; i < kCount; ++i) {
    ApiRequest request{.verb = "create", .resource = "configmaps", .ns = "default"};
    request.object = Object::from_json(map_json("m" + std::to_string(10000 + i))).value();
    requests.push_back(std::move(request));
  }
  const auto made = client.batch(std::move(requests)).wait(60s);
  REQUIRE(made);
  for (const Result<Object>& one : *made) REQUIRE_MESSAGE(one, (one ? "" : one.error().to_string()));
  const auto answer = served.ask("GET", kMaps);
  const auto list = parse_json(answer.body);
  REQUIRE(list);
  const json::array* items = array_at(*list, "/items");
  REQUIRE(items != nullptr);
  REQUIRE(items->size() == kCount);
  for (int i = 0; i < kCount; ++i) {
    CHECK(string_at((*items)[static_cast<std::size_t>(i)], "/metadata/name") ==
          "m" + std::to_string(10000 + i));
  }
}

TEST_CASE("joined pages are the whole list, and the token is not for other lists") {
  Served served;
  for (const char* name : {"a", "b", "c"}) REQUIRE(served.ask("POST", kMaps, map_json(name)).status == 201);
  const auto first = parse_json(served.ask("GET", kMaps + "?limit=2").body).value();
  const std::string token = string_at(first, "/metadata/continue");
  CHECK(int_at(first, "/metadata/remainingItemCount") == 1);
  const auto second = parse_json(served.ask("GET", kMaps + "?limit=2&continue=" + token).body).value();
  CHECK(string_at(second, "/items/0/metadata/name") == "c");
  CHECK(find(second, "/metadata/continue") == nullptr);
  CHECK(reason(served.ask("GET", "/api/v1/secrets?limit=2&continue=" + token)) == "400 BadRequest");
  CHECK(reason(served.ask("GET", kMaps + "?continue=forged")) == "400 BadRequest");
}

TEST_CASE("a page after compaction says how to go on") {
  Served served;
  for (const char* name : {"a", "b", "c"}) REQUIRE(served.ask("POST", kMaps, map_json(name)).status == 201);
  const auto first = parse_json(served.ask("GET", kMaps + "?limit=1").body).value();
  REQUIRE(served.ask("POST", kMaps, map_json("d")).status == 201);
  REQUIRE(served.store->compact(served.store->revision()).wait(30s));
  const auto expired =
      served.ask("GET", kMaps + "?limit=1&continue=" + string_at(first, "/metadata/continue"));
  REQUIRE(reason(expired) == "410 Expired");
  const std::string token = string_at(parse_json(expired.body).value(), "/metadata/continue");
  const auto rest = parse_json(served.ask("GET", kMaps + "?continue=" + token).body).value();
  CHECK(array_at(rest, "/items")->size() == 3);
}

TEST_CASE("a watch of the past that is gone is 410, in the list of codes that clients relist on") {
  Served served;
  REQUIRE(served.ask("POST", kMaps, map_json("a")).status == 201);
  REQUIRE(served.ask("POST", kMaps, map_json("b")).status == 201);
  REQUIRE(served.store->compact(served.store->revision()).wait(30s));
  CHECK(reason(served.ask("GET", kMaps + "?watch=1&resourceVersion=2")).starts_with("410"));
}

TEST_CASE("a WatchList ends its beginning with a bookmark, in every form") {
  Served served;
  REQUIRE(served.ask("POST", kMaps, map_json("a")).status == 201);
  const std::string query =
      "?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&"
      "allowWatchBookmarks=true";
  for (const std::string& accept :
       {std::string("application/json"), kTable,
        std::string("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")}) {
    const auto answer = served.ask("GET", kMaps + query, "", {{"Accept", accept}});
    const std::size_t added = answer.body.find("\"type\":\"ADDED\"");
    const std::size_t end = answer.body.find("\"k8s.io/initial-events-end\":\"true\"");
    CHECK(added != std::string::npos);
    CHECK(end != std::string::npos);
    CHECK(added < end);
    // One JSON document per line, and bookmarks after that on their own.
    std::size_t lines = 0;
    for (std::size_t at = 0; at < answer.body.size(); ++lines) {
      const std::size_t next = answer.body.find('\n', at);
      REQUIRE(next != std::string::npos);
      CHECK(parse_json(answer.body.substr(at, next - at)));
      at = next + 1;
    }
    CHECK(lines >= 3);
  }
}

TEST_CASE("OpenAPI and discovery are sent once and then not again") {
  Served served;
  const auto index = served.ask("GET", "/openapi/v3");
  const auto paths = parse_json(index.body).value();
  const std::string url = string_at(paths, "/paths/api~1v1/serverRelativeURL");
  REQUIRE(url.starts_with("/openapi/v3/api/v1?hash="));
  const auto document = served.ask("GET", url);
  CHECK(document.status == 200);
  CHECK(document.headers.at("cache-control").find("immutable") != std::string::npos);
  CHECK(served.ask("GET", "/openapi/v3/api/v1?hash=OLD").status == 301);
  CHECK(served.ask("GET", url, "", {{"If-None-Match", document.headers.at("etag")}}).status == 304);
  const std::string aggregated =
      "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
  const auto apis = served.ask("GET", "/apis", "", {{"Accept", aggregated}});
  CHECK(apis.headers.at("content-type") ==
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
  CHECK(apis.headers.at("vary").find("Accept") != std::string::npos);
  const auto v2 = served.ask("GET", "/openapi/v2", "",
                             {{"Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}});
  CHECK(v2.headers.at("content-type") == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
}

TEST_CASE("metrics count requests, and hosts can add endpoints of their own") {
  Served served;
  served.ask("GET", kMaps);
  served.server.metrics()->gauge("own_metric", "Of the host.").value().with({}).set(1);
  served.server.add_endpoint("/own", "text/plain", [] { return std::string("mine"); });
  served.ask("GET", "/apis/none.example/v1/any" + std::string(100, 'x'));
  served.ask("POST", kMaps, "{}");
  served.ask("GET", kMaps + std::string("/any/made-up"));
  served.ask("BREW", kMaps);
  const auto page = served.ask("GET", "/metrics");
  CHECK(page.headers.at("content-type") == "text/plain; version=0.0.4; charset=utf-8");
  const std::string& text = page.body;
  for (const char* line :
       {"apiserver_request_total{verb=\"LIST\",group=\"\",version=\"v1\",resource=\"configmaps\",subresource="
        "\"\",scope=\"namespace\",code=\"200\"} 1\n",
        "apiserver_request_total{verb=\"LIST\",group=\"\",version=\"\",resource=\"other\",subresource=\"\","
        "scope=\"\",code=\"404\"} 1\n",
        "apiserver_request_total{verb=\"POST\",group=\"\",version=\"v1\",resource=\"configmaps\",subresource="
        "\"\",scope=\"resource\",code=\"422\"} 1\n",
        "apiserver_request_duration_seconds_count{verb=\"LIST\",group=\"\",version=\"v1\",resource="
        "\"configmaps\",subresource=\"\",scope=\"namespace\"} 1\n",
        "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0\n", "own_metric 1\n",
        "orchestra_store_is_leader ", "process_open_fds ", "kubernetes_build_info{major=\"1\""}) {
    CHECK_MESSAGE(text.find(line) != std::string::npos, line);
  }
  // What a client makes up is no label.
  CHECK(text.find("made-up") == std::string::npos);
  CHECK(text.find("BREW") == std::string::npos);
  const auto open =
      served.ask("GET", "/metrics", "", {{"Accept", "application/openmetrics-text; version=1.0.0"}});
  CHECK(open.headers.at("content-type") == "application/openmetrics-text; version=1.0.0; charset=utf-8");
  CHECK(open.body.ends_with("# EOF\n"));
  CHECK(open.body.find("# TYPE apiserver_request counter\n") != std::string::npos);
  CHECK(served.ask("GET", "/own").body == "mine");
}

TEST_CASE("a RemoteClient does what the in-process one does, over TLS with a client certificate") {
  Served served;
  REQUIRE(served.server.write_kubeconfig(served.folder / "admin.kubeconfig"));
  auto client = RemoteClient::from_kubeconfig(served.engine, served.folder / "admin.kubeconfig");
  REQUIRE_MESSAGE(client, (client ? "" : client.error().to_string()));
  auto made = client->create(Object::from_json(map_json("remote")).value()).wait(30s);
  REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
  CHECK(made->ns() == "default");
  auto watch = client->watch("v1", "configmaps", {.ns = "default"});
  REQUIRE(watch);
  const auto next_type = [&]() -> char {
    for (;;) {
      auto changes = watch->next(30s);
      if (!changes) return 'e';
      for (const ObjectChange& change : *changes) {
        if (change.type == ObjectChange::Type::added) return 'a';
        if (change.type == ObjectChange::Type::modified) return 'm';
        if (change.type == ObjectChange::Type::removed) return 'r';
      }
    }
  };
  CHECK(next_type() == 'a');
  REQUIRE(client->patch("v1", "configmaps", "remote", "default", PatchType::merge, R"({"data":{"k":"w"}})")
              .wait(30s));
  CHECK(next_type() == 'm');
  CHECK(client->remove("v1", "configmaps", "remote", "default").wait(30s));
  CHECK(next_type() == 'r');
  auto gone = client->get("v1", "configmaps", "remote", "default").wait(30s);
  REQUIRE_FALSE(gone);
  CHECK(gone.error().is(Error::not_found));
  CHECK(client->list("v1", "namespaces").wait(30s)->items.size() == 4);
  watch->cancel();
}

TEST_CASE("a watch ends with the server, in order and not by being cut off") {
  Served served;
  REQUIRE(served.ask("POST", kMaps, map_json("a")).status == 201);
  HttpRequest request;
  request.url = "http://" + served.server.insecure_address() + kMaps + "?watch=1";
  Promise<void> open;
  auto opened = open.pending();
  request.on_body = [open](std::string_view) -> Result<void> {
    open.set(Result<void>());
    return {};
  };
  auto transfer = served.http->send(std::move(request));
  REQUIRE(opened.wait(30s));
  auto stopped = served.engine.run_blocking([&]() -> Result<void> {
    served.server.stop();
    return {};
  });
  CHECK(transfer.wait(30s));
  REQUIRE(stopped.wait(30s));
}

TEST_CASE("what is malformed is named with its place") {
  Served served;
  const auto yaml = served.ask("POST", kMaps, "kind: ConfigMap\napiVersion: v1\nmetadata: {name: [}\n",
                               {{"Content-Type", "application/yaml"}});
  CHECK(yaml.status == 400);
  CHECK(yaml.body.find("line 3") != std::string::npos);
  const auto wrong = served.ask(
      "POST", "/apis/apps/v1/namespaces/default/deployments",
      R"({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"replicas":"two"}})");
  CHECK(wrong.status == 400);
  CHECK(wrong.body.find("replicas") != std::string::npos);
  const auto other =
      served.ask("POST", kMaps, R"({"apiVersion":"v1","kind":"Secret","metadata":{"name":"d"}})");
  CHECK(other.status == 400);
}
