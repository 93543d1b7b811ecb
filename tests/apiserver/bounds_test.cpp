// What bounds an answer and a request from the side of the client: how long, how deep, how much memory, how
// many attempts.
#include <malloc.h>

#include <atomic>
#include <fstream>

#include "api/protobuf.hpp"
#include "api/types.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "tests/apiserver/held_store.hpp"
#include "tests/support/raw_socket.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {
const std::string kMapsPath = "/api/v1/namespaces/default/configmaps";

/// A server over HTTP on one machine with its client.
struct Bounded {
  Engine engine;
  std::shared_ptr<HeldStore> store = std::make_shared<HeldStore>(engine);
  ApiServer server;
  std::shared_ptr<HttpClient> http = make_http_client(engine);
  explicit Bounded(ApiServerOptions options = {}, EngineOptions environment = {})
      : engine(environment), server(engine, store, with_http(std::move(options))) {
    const auto started = server.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
  }
  ~Bounded() {
    store->release();
    server.stop();
  }
  static ApiServerOptions with_http(ApiServerOptions options) {
    options.insecure_http = "127.0.0.1:0";
    return options;
  }
  HttpResponse ask(const std::string& method, const std::string& path, const std::string& body = {},
                   const std::string& type = "application/json",
                   std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpRequest request;
    request.method = method;
    request.url = "http://" + server.insecure_address() + path;
    request.body = body;
    request.headers = std::move(headers);
    if (!body.empty()) request.headers.emplace_back("Content-Type", type);
    auto answer = http->send(std::move(request)).wait(60s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    return *answer;
  }
  /// "CODE message".
  std::string refusal(const std::string& method, const std::string& path, const std::string& body = {},
                      const std::string& type = "application/json") {
    const auto answer = ask(method, path, body, type);
    const auto tree = parse_json(answer.body);
    return std::to_string(answer.status) + " " + (tree ? string_at(*tree, "/message") : answer.body);
  }
  /// `count` ConfigMaps with values of this size.
  void fill(int count, std::size_t bytes) {
    const Client client = server.client();
    for (int i = 0; i < count; ++i) {
      const json::value map{{"apiVersion", "v1"},
                            {"kind", "ConfigMap"},
                            {"metadata", {{"name", "m" + std::to_string(i)}, {"namespace", "default"}}},
                            {"data", {{"k", std::string(bytes, 'x')}}}};
      REQUIRE(client.create(Object::from_json(to_json(map)).value()).wait(30s));
    }
  }
};

/// Of this process; nothing under sanitizers, which have an allocator of their own.
std::size_t heap_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

/// Chance until it is stuck; then always the same, and counted.
class StuckRandom final : public Random {
 public:
  std::uint64_t next() override {
    if (!stuck) return real_random().next();
    ++asked;
    return 0;
  }
  void fill(void* bytes, std::size_t size) override { real_random().fill(bytes, size); }
  std::atomic<bool> stuck{false};
  std::atomic<int> asked{0};
};

int open_sockets() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(entry.path(), gone);
    if (!gone && target.string().starts_with("socket:")) ++count;
  }
  return count;
}
}  // namespace

TEST_CASE("a list whose client reads too slowly is cut off at the deadline of its request") {
  Bounded bounded({.request_deadline = 2s});
  bounded.fill(1200, 16 << 10);  // more than the buffers of two sockets hold
  // In pieces, and whole (a limit and a selector keep an answer together).
  for (const std::string query : {"", "?limit=100000", "?labelSelector=!none"}) {
    CAPTURE(query);
    RawSocket socket(bounded.server.insecure_address());
    socket.send("GET " + kMapsPath + query + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    std::string text = socket.read_some();
    REQUIRE(text.starts_with("HTTP/1.1 200 "));
    // Reads nothing until the deadline is over; others are served meanwhile.
    const std::int64_t until = bounded.engine.clock().now().steady_ns + Duration(2500ms).count();
    while (bounded.engine.clock().now().steady_ns < until)
      REQUIRE(bounded.ask("GET", "/version").status == 200);
    text += socket.read_all();
    CHECK_FALSE(socket.timed_out());
    CHECK(text.size() < (18u << 20));
    CHECK_FALSE(text.ends_with("0\r\n\r\n"));
  }
}

TEST_CASE("memory of a list does not grow with its length") {
  Bounded bounded;
  bounded.fill(2400, 16 << 10);
  const auto list = [&](std::size_t& high) {
    std::size_t bytes = 0;
    HttpRequest request;
    request.url = "http://" + bounded.server.insecure_address() + kMapsPath;
    request.on_body = [&](std::string_view piece) -> Result<void> {
      bytes += piece.size();
      high = std::max(high, heap_bytes());
      return {};
    };
    REQUIRE(bounded.http->send(std::move(request)).wait(60s));
    return bytes;
  };
  std::size_t high = 0;
  CHECK(list(high) > (38u << 20));  // buffers of both sides have their size
  const std::size_t before = heap_bytes();
  high = 0;
  CHECK(list(high) > (38u << 20));
  CHECK(high < before + (8u << 20));
}

TEST_CASE("a body of any kind may be 512 levels deep, and no deeper") {
  Bounded bounded;
  const auto nested = [](std::size_t depth, const std::string& name) {
    return R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")" + name + R"("},"x":)" +
           std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  // Flow style: the same text is YAML.
  CHECK(bounded.ask("POST", kMapsPath, nested(511, "deep"), "application/yaml").status == 201);
  const std::string yaml = bounded.refusal("POST", kMapsPath, nested(512, "deeper"), "application/yaml");
  CHECK_MESSAGE(yaml.starts_with("400 "), yaml);
  CHECK_MESSAGE(yaml.find("512") != std::string::npos, yaml);
  for (const char* type : {"application/merge-patch+json", "application/strategic-merge-patch+json",
                           "application/json-patch+json", "application/apply-patch+yaml"}) {
    const std::string patch =
        bounded.refusal("PATCH", kMapsPath + "/deep?fieldManager=m", nested(512, "deep"), type);
    CHECK_MESSAGE(patch.starts_with("400 "), type << ": " << patch);
  }
  // fieldsV1 are bytes of JSON in a message.
  const auto owned = [&](std::size_t depth) {
    std::string fields;
    for (std::size_t i = 0; i < depth; ++i) fields += "{\"f:a\":";
    fields += "{}" + std::string(depth, '}');
    return R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"owned","managedFields":[{"manager":"m",)"
           R"("operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":)" +
           fields + "}]}}";
  };
  CHECK(bounded.refusal("POST", kMapsPath, owned(600)).starts_with("400 "));
  // Messages: a JSONSchemaProps holds another one as `not`, field 28.
  std::string schema;
  for (int i = 0; i < 600; ++i) {
    std::string outer;
    api::append_protobuf_bytes(outer, 28, schema);
    schema = std::move(outer);
  }
  std::string validation, version, spec, message;
  api::append_protobuf_bytes(validation, 1, schema);   // openAPIV3Schema
  api::append_protobuf_bytes(version, 1, "v1");        // name
  api::append_protobuf_bytes(version, 4, validation);  // schema
  api::append_protobuf_bytes(spec, 7, version);        // versions
  api::append_protobuf_bytes(message, 2, spec);
  const std::string deep =
      bounded.refusal("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                      api::protobuf_envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", message),
                      "application/vnd.kubernetes.protobuf");
  CHECK_MESSAGE(deep.starts_with("400 "), deep);
  CHECK_MESSAGE(deep.find("nests too deeply") != std::string::npos, deep);
}

TEST_CASE("a name is generated up to eight times, then the client is told to try again") {
  StuckRandom random;
  EngineOptions environment;
  environment.random = &random;
  Bounded bounded({}, environment);
  const std::string body = R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"job-"}})";
  random.stuck = true;
  const auto first = bounded.ask("POST", kMapsPath, body);
  REQUIRE(first.status == 201);
  CHECK(string_at(parse_json(first.body).value(), "/metadata/name") == "job-bbbbb");
  random.asked = 0;
  const auto refused = bounded.ask("POST", kMapsPath, body);
  random.stuck = false;
  // Five letters each; a refusal is thought over once, on the newest state.
  CHECK(random.asked.load() == 2 * 8 * 5);
  CHECK(refused.status == 409);
  const auto status = parse_json(refused.body).value();
  CHECK(string_at(status, "/message") ==
        "configmaps \"job-bbbbb\" already exists, the server was not able to generate a unique name for the "
        "object");
  CHECK(string_at(status, "/reason") == "AlreadyExists");
  CHECK(int_at(status, "/details/retryAfterSeconds") == 1);
  CHECK(refused.headers.at("retry-after") == "1");
  CHECK(bounded.ask("POST", kMapsPath, body).status == 201);
}

TEST_CASE("a request in process ends at the deadline of its client, or at the server's if that is shorter") {
  Bounded bounded({.request_deadline = 20s});
  const Client client = bounded.server.client();
  bounded.store->hold();
  ApiRequest get;
  get.verb = "get";
  get.resource = "configmaps";
  get.ns = "default";
  get.name = "none";
  get.deadline = 30ms;
  const auto late = [](const auto& answer) {
    REQUIRE_FALSE(answer);
    CHECK(answer.error().is(Error::deadline_exceeded));
    REQUIRE(answer.error().template detail<Status>() != nullptr);
    CHECK(answer.error().template detail<Status>()->code == 504);
  };
  late(client.request(get).wait(60s));
  const Object map =
      Object::from_json(
          R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"late","namespace":"default"}})")
          .value();
  late(client.create(map, {.deadline = 30ms}).wait(60s));
  ApiRequest create = get;
  create.verb = "create";
  create.name.clear();
  create.object = map;
  late(client.batch({create}).wait(60s));
  bounded.store->release();
  // Nobody was told that the writes failed, and one of them did not.
  CHECK(bounded.ask("GET", kMapsPath + "/late").status == 200);
  get.name = "late";
  CHECK(client.request(get).wait(60s)->code == 200);

  Bounded strict({.request_deadline = 30ms});
  strict.store->hold();
  get.deadline = 20s;
  late(strict.server.client().request(get).wait(60s));
  ListOptions all;
  all.ns = "default";
  late(strict.server.client().list("v1", "configmaps", all).wait(60s));
}

TEST_CASE("a server without an address opens no socket, and answers all the same") {
  Engine engine;
  const int before = open_sockets();
  {
    ApiServer server(engine, MemoryStore::create(engine));
    REQUIRE(server.start());
    CHECK(server.address().empty());
    CHECK(server.insecure_address().empty());
    CHECK(server.client().list("v1", "namespaces").wait(30s)->items.size() == 4);
    CHECK(open_sockets() == before);
    server.stop();
  }
  ApiServer listening(engine, MemoryStore::create(engine), {.insecure_http = "127.0.0.1:0"});
  REQUIRE(listening.start());
  CHECK(open_sockets() > before);
  listening.stop();
}

TEST_CASE("discovery that a client has already is 304, until something new is served") {
  Bounded bounded;
  const std::string aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
  struct Document {
    const char* path;
    std::string accept;
    bool grows;  ///< with a definition
  };
  std::vector<std::string> tags;
  const std::vector<Document> documents = {{"/api", aggregated, false},
                                           {"/apis", aggregated, true},
                                           {"/apis", "application/json", true},
                                           {"/api/v1", "application/json", false},
                                           {"/apis/apps/v1", "application/json", false}};
  for (const Document& one : documents) {
    CAPTURE(one.path);
    const auto whole = bounded.ask("GET", one.path, "", "", {{"Accept", one.accept}});
    REQUIRE(whole.status == 200);
    tags.push_back(whole.headers.at("etag"));
    CHECK(tags.back().size() > 2);
    const auto same =
        bounded.ask("GET", one.path, "", "", {{"Accept", one.accept}, {"If-None-Match", tags.back()}});
    CHECK(same.status == 304);
    CHECK(same.body.empty());
    CHECK(same.headers.at("etag") == tags.back());
    CHECK(bounded.ask("GET", one.path, "", "", {{"Accept", one.accept}, {"If-None-Match", "\"x\""}}).status ==
          200);
  }
  CHECK(tags[1] != tags[2]);  // another document, though at the same path
  const std::string definition =
      R"({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":)"
      R"("jars.example.com"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"jars","kind":)"
      R"("Jar"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":)"
      R"("object"}}}]}})";
  REQUIRE(bounded.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).status ==
          201);
  bool served = false;
  for (int i = 0; i < 10'000 && !served; ++i)
    served = bounded.ask("GET", "/apis/example.com/v1").status == 200;
  REQUIRE(served);
  for (std::size_t i = 0; i < documents.size(); ++i) {
    CAPTURE(documents[i].path);
    const auto again = bounded.ask("GET", documents[i].path, "", "",
                                   {{"Accept", documents[i].accept}, {"If-None-Match", tags[i]}});
    CHECK(again.status == (documents[i].grows ? 200 : 304));
  }
}
