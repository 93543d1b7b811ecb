// What must not be seen: the data of Secrets in errors and in the log. What must not matter: a wall clock
// that jumps.
#include "base/base64.hpp"
#include "base/engine_manual.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/env.hpp"
#include "sim/sim_env.hpp"
#include "tests/apiserver/held_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::test;
using namespace std::chrono_literals;

namespace {
/// Everything that the library logs.
struct Log {
  std::mutex mutex;
  std::string text;
  EngineOptions options() {
    EngineOptions out;
    out.log_level = LogLevel::debug;
    out.log_sink = [this](const LogRecord& record) {
      std::lock_guard lock(mutex);
      text += format_log_text(record) + "\n";
    };
    return out;
  }
};

/// The machine's clock, off by what an administrator or NTP changed.
class SteppedClock final : public Clock {
 public:
  explicit SteppedClock(Clock& real) : real_(real) {}
  Now now() override {
    Now out = real_.now();
    out.wall_ns += offset_ns_;
    return out;
  }
  void step(Duration by) { offset_ns_ += by.count(); }

 private:
  Clock& real_;
  std::atomic<std::int64_t> offset_ns_{0};
};
}  // namespace

TEST_CASE("what is in a Secret stands in no error and in no line of the log") {
  Log log;
  Engine engine(log.options());
  const auto store = std::make_shared<HeldStore>(engine);
  ApiServer server(engine, store, {.insecure_http = "127.0.0.1:0"});
  REQUIRE(server.start());
  const auto http = make_http_client(engine);
  const std::string word = "hunter2hunter2hunter2";
  const std::string packed = encode_base64_text(word);
  const std::string path = "/api/v1/namespaces/default/secrets";
  int refused = 0;
  const auto ask = [&](const std::string& method, const std::string& to, const std::string& body,
                       const std::string& type = "application/json") {
    HttpRequest request;
    request.method = method;
    request.url = "http://" + server.insecure_address() + to;
    request.body = body;
    request.headers = {{"Content-Type", type}};
    const auto answer = http->send(std::move(request)).wait(60s);
    REQUIRE(answer);
    if (answer->status < 400) return answer->status;
    ++refused;
    for (const std::string& secret : {word, packed}) {
      CHECK_MESSAGE(answer->body.find(secret) == std::string::npos, answer->body);
      for (const auto& [name, value] : answer->headers) CHECK(value.find(secret) == std::string::npos);
    }
    return answer->status;
  };
  const auto secret = [&](const std::string& name, const std::string& rest) {
    return R"({"apiVersion":"v1","kind":"Secret","metadata":{"name":")" + name + R"("},)" + rest + "}";
  };
  const std::string good = secret("s", R"("immutable":true,"data":{"k":")" + packed + "\"}");
  CHECK(ask("POST", path, good) == 201);
  // There already, in a wrong form, of a wrong kind, too much of it, cut off, or not what it says it is.
  CHECK(ask("POST", path, good) == 409);
  CHECK(ask("POST", path, secret("a", R"("data":{"k":")" + word + "!\"}")) == 400);
  CHECK(ask("POST", path, secret("a", R"("data":")" + packed + "\"")) == 400);
  CHECK(ask("POST", path, secret("a", R"("data":{"k":{"x":")" + packed + "\"}}")) == 400);
  CHECK(ask("POST", path + "?fieldValidation=Strict",
            secret("a", R"("data":{"k":")" + packed + R"(","k":")" + packed + "\"}")) == 400);
  CHECK(ask("POST", path, secret("a", R"("data":{"not a key":")" + packed + "\"}")) == 422);
  CHECK(ask("POST", path, secret("A_", R"("stringData":{"k":")" + word + "\"}")) == 422);
  CHECK(ask("POST", path, good.substr(0, good.size() - 3)) == 400);
  CHECK(ask("POST", path,
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {k: " + word + ", [\n",
            "application/yaml") == 400);
  CHECK(ask("POST", path,
            secret("a", R"("type":"kubernetes.io/dockerconfigjson","stringData":{".dockerconfigjson":")" +
                            word + "\"}")) == 422);
  CHECK(ask("POST", path,
            secret("a", R"("type":"kubernetes.io/tls","stringData":{"tls.key":")" + word + "\"}")) == 422);
  std::string long_word;
  while (long_word.size() < 2 << 20) long_word += word;
  CHECK(ask("POST", path, secret("a", R"("stringData":{"k":")" + long_word + "\"}")) >= 400);
  // Changed where it may not be changed, patched where it is something else.
  CHECK(ask("PATCH", path + "/s", R"({"stringData":{"k":")" + word + "2\"}}",
            "application/merge-patch+json") == 422);
  CHECK(ask("PATCH", path + "/s", R"([{"op":"test","path":"/data/k","value":")" + word + "\"}]",
            "application/json-patch+json") == 422);
  CHECK(ask("PATCH", path + "/s", R"([{"op":"add","path":"/data/k/deep","value":")" + word + "\"}]",
            "application/json-patch+json") == 422);
  CHECK(ask("PATCH", path + "/s", R"({"data":{"k":[")" + packed + "\"]}}",
            "application/strategic-merge-patch+json") >= 400);
  CHECK(ask("PATCH", path + "/s?fieldManager=m",
            R"({"apiVersion":"v1","kind":"Secret","data":{"k":")" + encode_base64_text(word + "3") + "\"}}",
            "application/apply-patch+yaml") >= 400);
  store->fail_writes(Error(Error::unknown_outcome, "store", "nobody knows"));
  CHECK(ask("POST", path, secret("lost", R"("stringData":{"k":")" + word + "\"}")) == 504);
  store->fail_writes(std::nullopt);
  CHECK(refused == 18);
  server.stop();
  std::lock_guard lock(log.mutex);
  for (const std::string& told : {word, packed}) CHECK(log.text.find(told) == std::string::npos);
}

TEST_CASE("a wall clock that jumps ends no watch and no Event; tokens count by it") {
  Engine reference;
  SteppedClock clock(reference.clock());
  EngineOptions with_clock;
  with_clock.clock = &clock;
  Engine engine(with_clock);
  ApiServer server(engine, MemoryStore::create(engine), {.listen = "127.0.0.1:0"});
  REQUIRE(server.start());
  const Client admin = server.client();
  const auto http = make_http_client(engine);
  ApiRequest asked{.verb = "create",
                   .resource = "serviceaccounts",
                   .subresource = "token",
                   .ns = "default",
                   .name = "default"};
  asked.body =
      R"({"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":600}})";
  const auto issued = admin.request(asked).wait(30s);
  REQUIRE(issued);
  const std::string token = string_at(parse_json(issued->body).value(), "/status/token");
  const auto with_token = [&] {
    HttpRequest request;
    request.url = "https://" + server.address() + "/api/v1/namespaces/default/pods";
    request.tls.ca_pem = server.ca_pem();
    request.headers = {{"Authorization", "Bearer " + token}};
    const auto answer = http->send(std::move(request)).wait(30s);
    REQUIRE(answer);
    return answer->status;
  };
  const auto make = [&](const std::string& yaml) {
    auto made = admin.create(Object::from_yaml(yaml).value()).wait(30s);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    return *made;
  };
  auto watch = admin.watch("v1", "configmaps", {.ns = "kube-public"});
  REQUIRE(watch);
  std::vector<std::string> seen;
  const auto wait_for = [&](const std::string& name) {
    while (std::find(seen.begin(), seen.end(), name) == seen.end()) {
      auto changes = watch->next(30s);
      if (!changes) return false;
      for (const ObjectChange& change : *changes) seen.push_back(change.object.name());
    }
    return true;
  };
  CHECK(with_token() == 403);  // known, and without rights
  make(
      "apiVersion: v1\nkind: Event\nmetadata: {name: e, namespace: default}\nreason: Test\n"
      "involvedObject: {kind: Pod, namespace: default, name: p}\ntype: Normal\n");
  make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\n"
      "spec: {nodeName: n1, containers: [{name: c, image: i}]}\n");
  for (const auto& [step, status] : {std::pair<Duration, int>{2h, 401}, {-2h, 403}, {-2h, 401}, {2h, 403}}) {
    clock.step(step);
    CHECK(with_token() == status);
    const std::string name = "m" + std::to_string(seen.size());
    make("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: kube-public}\n");
    CHECK(wait_for(name));
    CHECK(admin.get("v1", "events", "e", "default").wait(30s));
  }
  // Marked while the clock was ahead, shortened after it was set back: never longer, never a time before now.
  clock.step(2h);
  REQUIRE(admin.remove("v1", "pods", "p", "default", {.grace_period_seconds = 20}).wait(30s));
  clock.step(-2h);
  REQUIRE(admin.remove("v1", "pods", "p", "default", {.grace_period_seconds = 5}).wait(30s));
  const Object marked = admin.get("v1", "pods", "p", "default").wait(30s).value();
  CHECK(marked.get_int("/metadata/deletionGracePeriodSeconds") == 5);
  watch->cancel();
  server.stop();
}

TEST_CASE("what every cluster has comes back within a minute when somebody deletes it") {
  sim::SimClock clock;
  EngineOptions by_hand;
  by_hand.event_threads = 0;
  by_hand.clock = &clock;
  Engine engine(by_hand);
  ApiServer server(engine, MemoryStore::create(engine), {});
  REQUIRE(server.start());
  const Client admin = server.client();
  struct Thing {
    const char *api_version, *resource, *name, *ns;
  };
  const Thing things[] = {
      {"scheduling.k8s.io/v1", "priorityclasses", "system-node-critical", ""},
      {"flowcontrol.apiserver.k8s.io/v1", "flowschemas", "probes", ""},
      {"networking.k8s.io/v1", "servicecidrs", "kubernetes", ""},
      {"rbac.authorization.k8s.io/v1", "clusterroles", "view", ""},
      {"rbac.authorization.k8s.io/v1", "clusterrolebindings", "cluster-admin", ""},
      {"v1", "configmaps", "extension-apiserver-authentication", "kube-system"},
      {"v1", "services", "kubernetes", "default"},
  };
  const std::string trust = admin.get("v1", "configmaps", "extension-apiserver-authentication", "kube-system")
                                .wait(30s)
                                ->get("/data/client-ca-file")
                                .value_or("");
  CHECK(trust == server.ca_pem());
  for (const Thing& thing : things) {
    CAPTURE(thing.name);
    CHECK(admin.remove(thing.api_version, thing.resource, thing.name, thing.ns).wait(30s));
    CHECK_FALSE(admin.get(thing.api_version, thing.resource, thing.name, thing.ns).wait(30s));
  }
  clock.advance(60s);
  run_ready(engine);
  for (const Thing& thing : things) {
    CAPTURE(thing.name);
    CHECK(admin.get(thing.api_version, thing.resource, thing.name, thing.ns).wait(30s));
  }
  server.stop();
}
