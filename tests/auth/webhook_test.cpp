// Admission and conversion webhooks against a real HTTPS server in this process.
#include <fstream>
#include <mutex>
#include <thread>

#include "apiserver/pki.hpp"
#include "apiserver/webhook/webhook.hpp"
#include "base/base64.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/informer.hpp"
#include "orchestra/pod_client.hpp"
#include "tests/auth/served.hpp"
#include "tests/compat/fake_pods.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {

/// An HTTPS server that answers reviews; it has its own authority.
struct Hook {
  using Answer = std::function<json::value(const std::string& path, const json::value& review)>;
  Hook(Engine& engine, Answer given)
      : answer(std::move(given)),
        pki(apiserver::Pki::open(engine.clock(), engine.random(), {}).value()),
        pair(pki->issue_server("hook", {"127.0.0.1", "localhost", "judge.shop.svc"}).value()) {
    HttpServerOptions options;
    options.listen = "127.0.0.1:0";
    options.tls = true;
    options.certificate_pem = pair.certificate_pem;
    options.key_pem = pair.key_pem;
    server = HttpServer::start(engine, options, [this](HttpServerRequest request, auto responder) {
               handle(request, std::move(responder));
             }).value();
  }
  ~Hook() { server->stop(1s); }
  void handle(const HttpServerRequest& request, std::shared_ptr<HttpResponder> responder) {
    const auto review = parse_json(request.body);
    std::lock_guard lock(mutex);
    targets.push_back(request.target);
    reviews.push_back(review ? *review : json::value(nullptr));
    if (silent) return kept.push_back(std::move(responder));
    const std::string path = request.target.substr(0, request.target.find('?'));
    const json::value out = answer(path, reviews.back());
    if (out.is_null()) return responder->respond(500, {}, "broken");
    responder->respond(200, {{"Content-Type", "application/json"}}, to_json(out));
  }
  std::string url(const std::string& path) const { return "https://" + server->address() + path; }
  std::string ca() const { return encode_base64_text(pki->ca_pem()); }
  std::size_t count() {
    std::lock_guard lock(mutex);
    return reviews.size();
  }
  json::value last() {
    std::lock_guard lock(mutex);
    return reviews.back();
  }

  Answer answer;
  std::shared_ptr<apiserver::Pki> pki;
  apiserver::KeyPair pair;
  std::shared_ptr<HttpServer> server;
  std::mutex mutex;
  std::vector<json::value> reviews;
  std::vector<std::string> targets;
  std::vector<std::shared_ptr<HttpResponder>> kept;
  bool silent = false;
};

json::value admission(const json::value& review, json::object response) {
  response["uid"] = string_at(review, "/request/uid");
  return json::object{{"kind", "AdmissionReview"},
                      {"apiVersion", string_at(review, "/apiVersion")},
                      {"response", std::move(response)}};
}
json::value allow(const json::value& review) { return admission(review, {{"allowed", true}}); }
json::value patched(const json::value& review, const std::string& patch) {
  return admission(review,
                   {{"allowed", true}, {"patchType", "JSONPatch"}, {"patch", encode_base64_text(patch)}});
}
json::value deny(const json::value& review, const std::string& why, int code = 0) {
  json::object status{{"message", why}};
  if (code != 0) status["code"] = code;
  return admission(review, {{"allowed", false}, {"status", std::move(status)}});
}

const std::string kMaps =
    "{apiGroups: [''], apiVersions: [v1], resources: [configmaps], operations: [CREATE, UPDATE, DELETE]}";

struct Hooked : Served {
  Hook hook;
  explicit Hooked(Hook::Answer answer) : hook(engine, std::move(answer)) {
    make("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n");
  }
  /// `more`: further fields of the webhook.
  void configure(const std::string& kind, const std::string& name, const std::string& more = "",
                 const std::string& rules = kMaps, std::string config = "") {
    if (config.empty()) config = "{url: '" + hook.url("/" + name) + "', caBundle: " + hook.ca() + "}";
    make("apiVersion: admissionregistration.k8s.io/v1\nkind: " + kind +
         "WebhookConfiguration\nmetadata: {name: " + name + "}\nwebhooks:\n- name: " + name +
         ".example.com\n  admissionReviewVersions: [v1]\n" +
         "  sideEffects: None\n  clientConfig: " + config + "\n  rules: [" + rules + "]\n" + more);
  }
  std::string map(const std::string& name, const std::string& data = "{a: b}",
                  const std::string& ns = "shop") {
    return try_make(admin, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name +
                               ", namespace: " + ns + ", labels: {app: " + name + "}}\ndata: " + data + "\n");
  }
  std::string data(const std::string& name) {
    auto object = admin.get("v1", "configmaps", name, "shop").wait(30s);
    REQUIRE(object);
    return object->get("/data").value_or("none");
  }
  std::string remove_configuration(const std::string& kind, const std::string& name) {
    const auto gone = admin.remove("admissionregistration.k8s.io/v1", kind, name).wait(30s);
    return gone ? "ok" : gone.error().to_string();
  }
};
}  // namespace

TEST_CASE("a mutating webhook changes what is stored, a validating one sees the result") {
  Hooked hooked([](const std::string& path, const json::value& review) {
    if (path == "/set")
      return patched(
          review,
          R"([{"op":"add","path":"/data/set","value":"1"},{"op":"add","path":"/nonsense","value":1}])");
    if (string_at(review, "/request/object/data/bad") == "yes") return deny(review, "no bad things", 403);
    json::value out = allow(review);
    set_at(out, "/response/warnings", json::array{"seen"});
    return out;
  });
  hooked.configure("Mutating", "set");
  hooked.configure("Validating", "judge");
  CHECK(hooked.map("one") == "ok");
  CHECK(hooked.data("one") == R"({"a":"b","set":"1"})");  // what the schema does not know is dropped
  const json::value review = hooked.hook.last();
  CHECK(string_at(review, "/apiVersion") == "admission.k8s.io/v1");
  CHECK(string_at(review, "/request/operation") == "CREATE");
  CHECK(string_at(review, "/request/kind/kind") == "ConfigMap");
  CHECK(string_at(review, "/request/resource/resource") == "configmaps");
  CHECK(string_at(review, "/request/namespace") == "shop");
  CHECK(string_at(review, "/request/object/data/set") == "1");
  CHECK(find(review, "/request/oldObject")->is_null());
  CHECK(string_at(review, "/request/userInfo/groups/0") == "system:masters");
  CHECK(string_at(review, "/request/options/kind") == "CreateOptions");
  CHECK(hooked.hook.targets.back() == "/judge?timeout=10s");
  CHECK(hooked.map("two", "{bad: 'yes'}") ==
        "403 admission webhook \"judge.example.com\" denied the request: no bad things");
  // Deletions are asked about too; there is no object, only the old one.
  REQUIRE(hooked.admin.remove("v1", "configmaps", "one", "shop").wait(30s));
  CHECK(string_at(hooked.hook.last(), "/request/operation") == "DELETE");
  CHECK(find(hooked.hook.last(), "/request/object")->is_null());
  CHECK(string_at(hooked.hook.last(), "/request/oldObject/data/a") == "b");
  // The configuration goes although its webhook would refuse.
  CHECK(hooked.remove_configuration("validatingwebhookconfigurations", "judge") == "ok");
  CHECK(hooked.map("two", "{bad: 'yes'}") == "ok");
}

TEST_CASE("rules, selectors and conditions decide who is asked") {
  Hooked hooked([](const std::string&, const json::value& review) { return allow(review); });
  hooked.make("apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: b}}\n");
  hooked.configure(
      "Validating", "judge",
      "  namespaceSelector: {matchLabels: {team: a}}\n  objectSelector: {matchExpressions: [{key: app, "
      "operator: NotIn, values: [skip]}]}\n  matchConditions:\n  - {name: c, expression: \"!has(object.data) "
      "|| "
      "!('quiet' in object.data)\"}\n");
  const auto asked = [&](auto write) {
    const std::size_t before = hooked.hook.count();
    CHECK(write() == "ok");
    return hooked.hook.count() - before;
  };
  CHECK(asked([&] { return hooked.map("a"); }) == 1);
  CHECK(asked([&] { return hooked.map("a", "{a: b}", "other"); }) == 0);
  CHECK(asked([&] { return hooked.map("skip"); }) == 0);
  CHECK(asked([&] { return hooked.map("b", "{quiet: 'yes'}"); }) == 0);
  CHECK(asked([&] {
          return hooked.try_make(hooked.admin,
                                 "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\n");
        }) == 0);
  // A condition that does not compile is refused where it is written.
  const std::string wrong = hooked.try_make(
      hooked.admin,
      "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: "
      "w}\n"
      "webhooks: [{name: a.b.c, admissionReviewVersions: [v1], sideEffects: None, clientConfig: {url: "
      "'https://127.0.0.1/'}, matchConditions: [{name: x, expression: 'object.'}]}]\n");
  CHECK(wrong.find("webhooks[0].matchConditions[0].expression: Invalid value") != std::string::npos);
}

TEST_CASE("what a webhook cannot answer is decided by its failurePolicy") {
  Hooked hooked([](const std::string& path, const json::value& review) {
    if (path == "/odd") {
      json::value out = allow(review);
      set_at(out, "/response/uid", json::value("another"));
      return out;
    }
    if (path == "/lost") return patched(review, R"([{"op":"replace","path":"/data/none/x","value":"1"}])");
    if (path == "/named")
      return patched(review, R"([{"op":"replace","path":"/metadata/name","value":"stolen"}])");
    return json::value(nullptr);
  });
  const auto fails = [&](const std::string& kind, const std::string& name, const std::string& more = "",
                         const std::string& config = "") {
    hooked.configure(kind, name, more, kMaps, config);
    const std::string answer = hooked.map("x");
    CHECK(hooked.remove_configuration(
              kind == "Mutating" ? "mutatingwebhookconfigurations" : "validatingwebhookconfigurations",
              name) == "ok");
    return answer;
  };
  const std::string start = "500 Internal error occurred: failed calling webhook ";
  CHECK(fails("Validating", "broken")
            .starts_with(start + "\"broken.example.com\": failed to call webhook: Post \"https://"));
  CHECK(fails("Validating", "odd").find("received invalid webhook response: expected response.uid=") !=
        std::string::npos);
  CHECK(fails("Mutating", "lost").find("failed to apply the patch") != std::string::npos);
  CHECK(fails("Mutating", "named").find("it may not change metadata.name") != std::string::npos);
  // Another authority, another name, no listener, an address that no webhook may have.
  CHECK(fails("Validating", "trust", "", "{url: '" + hooked.hook.url("/trust") + "'}").find("certificate") !=
        std::string::npos);
  CHECK(fails("Validating", "link", "", "{url: 'https://169.254.169.254/latest'}")
            .find("which webhooks may not have") != std::string::npos);
  CHECK(fails("Validating", "gone", "", "{service: {namespace: shop, name: none}}")
            .find("service \"shop/none\" not found") != std::string::npos);
  CHECK(fails("Validating", "ignored", "  failurePolicy: Ignore\n") == "ok");
}

TEST_CASE("a webhook that never answers ends with its timeout") {
  Hooked hooked([](const std::string&, const json::value& review) { return allow(review); });
  hooked.hook.silent = true;
  hooked.configure("Validating", "slow", "  timeoutSeconds: 1\n");
  const std::string answer = hooked.map("x");
  CHECK(answer.find("failed calling webhook \"slow.example.com\"") != std::string::npos);
}

TEST_CASE("reinvocation, dry runs and order") {
  Hooked hooked([](const std::string& path, const json::value& review) {
    if (path == "/b-two") return patched(review, R"([{"op":"add","path":"/data/two","value":"1"}])");
    const bool seen = find(review, "/request/object/data/two") != nullptr;
    return patched(review, std::string(R"([{"op":"add","path":"/data/one","value":")") +
                               (seen ? "after" : "before") + "\"}]");
  });
  hooked.configure("Mutating", "a-one", "  reinvocationPolicy: IfNeeded\n");
  hooked.configure("Mutating", "b-two");
  CHECK(hooked.map("x") == "ok");
  CHECK(hooked.hook.targets.size() == 3);
  CHECK(hooked.data("x").find(R"("one":"after")") != std::string::npos);
  // A dry run asks, and says so.
  auto object = Object::from_yaml(
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: dry, namespace: shop}\ndata: {a: b}\n");
  REQUIRE(object);
  WriteOptions dry;
  dry.dry_run = true;
  REQUIRE(hooked.admin.create(*object, dry).wait(30s));
  CHECK(bool_at(hooked.hook.last(), "/request/dryRun"));
  CHECK_FALSE(hooked.admin.get("v1", "configmaps", "dry", "shop").wait(30s));
}

TEST_CASE("a subresource is asked about by its own rules") {
  Hooked hooked([](const std::string&, const json::value& review) {
    return string_at(review, "/request/object/status/phase") == "Failed"
               ? deny(review, "pods do not fail here")
               : allow(review);
  });
  hooked.configure("Validating", "status", "",
                   "{apiGroups: [''], apiVersions: ['*'], resources: [pods/status], operations: ['*']}");
  hooked.make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: [{name: c, image: "
      "x}]}\n");
  CHECK(hooked.hook.count() == 0);
  const auto phase = [&](const std::string& phase) {
    return Served::answer(hooked.admin
                              .patch("v1", "pods", "p", "shop", PatchType::merge,
                                     R"({"status":{"phase":")" + phase + R"("}})", {.subresource = "status"})
                              .wait(30s));
  };
  CHECK(phase("Running") == "ok");
  CHECK(string_at(hooked.hook.last(), "/request/subResource") == "status");
  CHECK(phase("Failed") ==
        "400 admission webhook \"status.example.com\" denied the request: pods do not fail here");
}

TEST_CASE("bindings, evictions, scales, tokens and connections are asked about as what they are") {
  Hooked hooked([](const std::string&, const json::value& review) {
    const std::string what =
        string_at(review, "/request/subResource") + " " + string_at(review, "/request/operation") + " " +
        string_at(review, "/request/object/apiVersion") + " " + string_at(review, "/request/object/kind");
    const bool root = string_at(review, "/request/object/command/0") == "root";
    return root || string_at(review, "/request/name") == "kept" ? deny(review, what) : allow(review);
  });
  hooked.configure("Validating", "subs", "",
                   "{apiGroups: ['*'], apiVersions: ['*'], resources: ['*/binding', '*/eviction', '*/scale', "
                   "'*/token', pods/exec, pods/portforward], operations: ['*']}");
  const auto pod = [&](const std::string& name) {
    hooked.make("apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
                ", namespace: shop}\nspec: {containers: [{name: c, image: x}]}\n");
  };
  pod("kept");
  pod("free");
  hooked.make(
      "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: kept, namespace: shop}\nspec: {selector: "
      "{matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: "
      "x}]}}}\n");
  hooked.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: kept, namespace: shop}\n");
  CHECK(hooked.hook.count() == 0);
  const std::string denied = "400 admission webhook \"subs.example.com\" denied the request: ";
  const auto post = [&](const std::string& resource, const std::string& name, const std::string& sub,
                        const std::string& body) {
    ApiRequest request{
        .verb = "create", .resource = resource, .subresource = sub, .ns = "shop", .name = name};
    request.body = body;
    auto answer = hooked.admin.request(request).wait(30s);
    if (answer) return std::string("ok");
    return Served::answer(Result<Object>(answer.error()));
  };
  const auto bind = [&](const std::string& name) {
    return post("pods", name, "binding",
                R"({"apiVersion":"v1","kind":"Binding","metadata":{"name":")" + name +
                    R"("},"target":{"kind":"Node","name":"n"}})");
  };
  CHECK(bind("kept") == denied + "binding CREATE v1 Binding");
  CHECK(bind("free") == "ok");
  CHECK(post("pods", "kept", "eviction",
             R"({"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"kept"}})") ==
        denied + "eviction CREATE policy/v1 Eviction");
  CHECK(post("serviceaccounts", "kept", "token",
             R"({"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}})") ==
        denied + "token CREATE authentication.k8s.io/v1 TokenRequest");
  const auto scaled = hooked.admin
                          .patch("apps/v1", "deployments", "kept", "shop", PatchType::merge,
                                 R"({"spec":{"replicas":3}})", {.subresource = "scale"})
                          .wait(30s);
  CHECK(Served::answer(scaled) == denied + "scale UPDATE autoscaling/v1 Scale");
  CHECK(int_at(hooked.hook.last(), "/request/oldObject/spec/replicas") == 1);
  CHECK(int_at(hooked.hook.last(), "/request/object/spec/replicas") == 3);

  hooked.server.set_pod_streams(std::make_shared<test::FakePods>(hooked.engine));
  const PodClient pods(hooked.admin);
  const auto exec = [&](const std::string& command) {
    auto process = pods.exec({"shop", "free"}, {.command = {command, "0"}}).wait(30s);
    return process ? std::string("ok") : process.error().message();
  };
  CHECK(exec("root").find("exec CONNECT v1 PodExecOptions") != std::string::npos);
  CHECK(exec("exit") == "ok");
  CHECK(string_at(hooked.hook.last(), "/request/object/container") == "c");
  CHECK(pods.port_forward({"shop", "free"}, 80).wait(30s));
  CHECK(string_at(hooked.hook.last(), "/request/kind/kind") == "PodPortForwardOptions");
}

TEST_CASE("a webhook may change what runs in a pod, and a policy may forbid it") {
  Hooked hooked([](const std::string&, const json::value& review) {
    return patched(review, R"([{"op":"replace","path":"/command","value":["echo","changed"]}])");
  });
  hooked.make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {nodeName: n1, containers: "
      "[{name: c, "
      "image: x}]}\n");
  hooked.server.set_pod_streams(std::make_shared<test::FakePods>(hooked.engine));
  hooked.configure("Mutating", "exec", "",
                   "{apiGroups: [''], apiVersions: ['*'], resources: [pods/exec], operations: [CONNECT]}");
  const PodClient pods(hooked.admin);
  auto process = pods.exec({"shop", "p"}, {.command = {"exit", "1"}}).wait(30s);
  REQUIRE(process);
  CHECK((*process)->read().wait(30s)->bytes == "changed\n");
  CHECK(hooked.remove_configuration("mutatingwebhookconfigurations", "exec") == "ok");
  hooked.make(
      "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: "
      "no-tty}\n"
      "spec: {matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: ['*'], resources: "
      "[pods/exec], "
      "operations: [CONNECT]}]}, validations: [{expression: '!has(object.tty)', message: no terminals}]}\n");
  hooked.make(
      "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: "
      "no-tty}\n"
      "spec: {policyName: no-tty, validationActions: [Deny]}\n");
  CHECK(pods.exec({"shop", "p"}, {.command = {"exit", "0"}}).wait(30s));
  auto refused = pods.exec({"shop", "p"}, {.command = {"exit", "0"}, .tty = true}).wait(30s);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message().find("no terminals") != std::string::npos);
}

TEST_CASE(
    "a webhook that is a Service is reached through its endpoints, and verified by the Service's name") {
  Hooked hooked([](const std::string&, const json::value& review) { return deny(review, "by service"); });
  const std::string address = hooked.hook.server->address();
  const std::string port = address.substr(address.rfind(':') + 1);
  hooked.make(
      "apiVersion: v1\nkind: Service\nmetadata: {name: judge, namespace: shop}\nspec: {ports: [{name: https, "
      "port: 443}]}\n");
  hooked.configure("Validating", "service", "", kMaps,
                   "{caBundle: " + hooked.hook.ca() + ", service: {namespace: shop, name: judge, path: /x}}");
  CHECK(hooked.map("a").find("no endpoints available for service \"shop/judge\"") != std::string::npos);
  // Loopback addresses are no endpoints by validation of people's slices; at level process they are.
  const std::string made = hooked.try_make(
      hooked.admin,
      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: judge-1, namespace: shop, "
      "labels: {kubernetes.io/service-name: judge}}\naddressType: IPv4\nendpoints: [{addresses: "
      "[127.128.0.1], conditions: {ready: true}}]\nports: [{name: https, port: " +
          port + "}]\n");
  REQUIRE(made == "ok");
  // Nobody listens at that address of ours: the call is made, and fails there.
  CHECK(hooked.map("a").find("failed to call webhook") != std::string::npos);
}

TEST_CASE("objects of a definition are converted by its webhook, both ways") {
  bool broken = false;
  bool metadata = false;
  Hooked hooked([&](const std::string& path, const json::value& review) {
    if (path != "/convert") return allow(review);
    const std::string wanted = string_at(review, "/request/desiredAPIVersion");
    json::array out;
    for (const json::value& object : *array_at(review, "/request/objects")) {
      json::value next = object;
      next.get_object()["apiVersion"] = wanted;
      if (wanted.ends_with("/v2")) {
        const std::string host = string_at(object, "/spec/hostPort");
        set_at(next, "/spec",
               json::object{{"host", host.substr(0, host.find(':'))},
                            {"port", host.substr(host.find(':') + 1)}});
      } else {
        set_at(next, "/spec",
               json::object{
                   {"hostPort", string_at(object, "/spec/host") + ":" + string_at(object, "/spec/port")}});
      }
      if (metadata) set_at(next, "/metadata/name", json::value("stolen"));
      set_at(next, "/metadata/labels", json::object{{"converted", "yes"}});
      out.push_back(std::move(next));
    }
    json::object result{{"status", broken ? "Failed" : "Success"}};
    if (broken) result["message"] = "the converter is out of order";
    return json::value(json::object{{"kind", "ConversionReview"},
                                    {"apiVersion", "apiextensions.k8s.io/v1"},
                                    {"response", json::object{{"uid", string_at(review, "/request/uid")},
                                                              {"result", std::move(result)},
                                                              {"convertedObjects", std::move(out)}}}});
  });
  hooked.make(
      "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: "
      "doors.example.com}\nspec:\n"
      "  group: example.com\n  scope: Namespaced\n  names: {plural: doors, kind: Door}\n"
      "  conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: {url: '" +
      hooked.hook.url("/convert") + "', caBundle: " + hooked.hook.ca() +
      "}}}\n  versions:\n"
      "  - {name: v2, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: "
      "{spec: {type: object, "
      "properties: {host: {type: string}, port: {type: string}}}}}}, selectableFields: [{jsonPath: "
      ".spec.host}]}\n"
      "  - {name: v1, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: "
      "{spec: {type: object, "
      "properties: {hostPort: {type: string}}}}}}, selectableFields: [{jsonPath: .spec.hostPort}]}\n");
  for (;;) {
    auto seen = hooked.admin.get("apiextensions.k8s.io/v1", "customresourcedefinitions", "doors.example.com")
                    .wait(30s);
    REQUIRE(seen);
    if (seen->get("/status/conditions/1/status") == "True") break;
    std::this_thread::yield();
  }
  CHECK(hooked.try_make(hooked.admin,
                        "apiVersion: example.com/v1\nkind: Door\nmetadata: {name: d, namespace: shop}\n"
                        "spec: {hostPort: 'here:80'}\n") == "ok");
  auto v2 = hooked.admin.get("example.com/v2", "doors", "d", "shop").wait(30s);
  REQUIRE(v2);
  CHECK(v2->get("/spec/host") == "here");
  CHECK(v2->get("/spec/port") == "80");
  auto v1 = hooked.admin.get("example.com/v1", "doors", "d", "shop").wait(30s);
  REQUIRE(v1);
  CHECK(v1->get("/spec/hostPort") == "here:80");
  CHECK(v1->labels().at("converted") == "yes");
  CHECK(v1->uid() == v2->uid());
  // What is stored is the storage version: reading that asks nobody.
  const std::size_t before = hooked.hook.count();
  REQUIRE(hooked.admin.get("example.com/v2", "doors", "d", "shop").wait(30s));
  CHECK(hooked.hook.count() == before);
  // A patch in the old version, a list of several by one question, and its watch.
  REQUIRE(hooked.admin
              .patch("example.com/v1", "doors", "d", "shop", PatchType::merge,
                     R"({"spec":{"hostPort":"there:81"}})", {})
              .wait(30s));
  REQUIRE(hooked.try_make(hooked.admin,
                          "apiVersion: example.com/v2\nkind: Door\nmetadata: {name: e, namespace: shop}\n"
                          "spec: {host: far, port: '82'}\n") == "ok");
  const std::size_t then = hooked.hook.count();
  const auto listed = hooked.ask("GET", "/apis/example.com/v1/namespaces/shop/doors", "", "",
                                 {{"Impersonate-User", "nobody"}});
  CHECK(listed.status == 403);
  auto list = hooked.admin.list("example.com/v1", "doors", {.ns = "shop"}).wait(30s);
  REQUIRE(list);
  REQUIRE(list->items.size() == 2);
  CHECK(list->items[0].get("/spec/hostPort") == "there:81");
  CHECK(list->items[1].get("/spec/hostPort") == "far:82");
  CHECK(hooked.hook.count() > then);
  // A watch over HTTP speaks the version that was asked for.
  std::ifstream file(hooked.folder / "pki/admin.token");
  std::string token;
  file >> token;
  const auto watched =
      hooked.ask("GET", "/apis/example.com/v1/namespaces/shop/doors?watch=1&timeoutSeconds=1", token);
  CHECK(watched.status == 200);
  CHECK(watched.body.find(R"("hostPort":"there:81")") != std::string::npos);
  CHECK(watched.body.find(R"("hostPort":"far:82")") != std::string::npos);
  // So do watches and informers in this process, whatever thread reads them.
  auto own = hooked.admin.watch("example.com/v1", "doors", {.ns = "shop"});
  REQUIRE(own);
  std::vector<std::string> doors;
  while (doors.size() < 2) {
    const auto changes = own->next(30s);
    REQUIRE_MESSAGE(changes, (own->error() ? own->error()->to_string() : "nothing came"));
    for (const ObjectChange& change : *changes)
      doors.push_back(change.object.api_version() + " " + change.object.get("/spec/hostPort").value_or(""));
  }
  CHECK(doors == std::vector<std::string>{"example.com/v1 there:81", "example.com/v1 far:82"});
  Informer<Object> informer(hooked.engine, hooked.admin, ResourceRef{"example.com/v1", "doors"},
                            {.ns = "shop"});
  REQUIRE(informer.start());
  REQUIRE(informer.wait_synced().wait(30s));
  CHECK(informer.cache().get("shop", "e").get("/spec/hostPort") == "far:82");
  const auto moved =
      hooked.admin
          .patch("example.com/v2", "doors", "e", "shop", PatchType::merge, R"({"spec":{"port":"90"}})", {})
          .wait(30s);
  REQUIRE(moved);
  REQUIRE(informer.wait_for(moved->resource_version()).wait(30s));
  CHECK(informer.cache().get("shop", "e").get("/spec/hostPort") == "far:90");
  const auto change = own->next(30s);
  REQUIRE(change);
  CHECK(change->front().type == ObjectChange::Type::modified);
  CHECK(change->front().object.get("/spec/hostPort") == "far:90");
  informer.stop();
  own->cancel();
  // Field selectors are about the version that is asked for: of lists, watches and removals.
  const auto names = [&](const std::string& version, const std::string& fields) {
    std::string out;
    auto found =
        hooked.admin.list("example.com/" + version, "doors", {.ns = "shop", .fields = fields}).wait(30s);
    if (!found) return found.error().message();
    for (const Object& door : found->items) out += door.name();
    return out;
  };
  CHECK(names("v1", "spec.hostPort=far:90") == "e");
  CHECK(names("v1", "spec.hostPort!=far:90") == "d");
  CHECK(names("v1", "spec.hostPort=far:90,metadata.name=d").empty());
  CHECK(names("v2", "spec.host=there") == "d");
  CHECK(names("v1", "spec.host=there").find("field label not supported: spec.host") != std::string::npos);
  const auto selected = hooked.ask(
      "GET", "/apis/example.com/v1/namespaces/shop/doors?fieldSelector=spec.hostPort%3Dfar:90&limit=1",
      token);
  CHECK(selected.body.find(R"("hostPort":"there:81")") == std::string::npos);
  auto far = hooked.admin.watch("example.com/v1", "doors", {.ns = "shop", .fields = "spec.hostPort=far:90"});
  REQUIRE(far);
  const auto first = far->next(30s);
  REQUIRE(first);
  REQUIRE(first->size() == 1);
  CHECK(first->front().object.name() == "e");
  REQUIRE(
      hooked.admin
          .patch("example.com/v2", "doors", "e", "shop", PatchType::merge, R"({"spec":{"port":"91"}})", {})
          .wait(30s));
  const auto left = far->next(30s);
  REQUIRE(left);
  CHECK(left->front().type == ObjectChange::Type::removed);
  CHECK(left->front().object.get("/spec/hostPort") == "far:90");
  far->cancel();
  REQUIRE(hooked.admin
              .remove_collection("example.com/v1", "doors", {.ns = "shop", .fields = "spec.hostPort=far:91"})
              .wait(30s));
  CHECK(names("v1", "") == "d");
  // One failure fails the request, in its words; metadata may not change.
  broken = true;
  auto failing = hooked.admin.watch("example.com/v1", "doors", {.ns = "shop"});
  REQUIRE(failing);
  CHECK_FALSE(failing->next(30s));
  REQUIRE(failing->error());
  CHECK(failing->error()->message().find("the converter is out of order") != std::string::npos);
  CHECK(Served::answer(hooked.admin.get("example.com/v1", "doors", "d", "shop").wait(30s)) ==
        "500 Internal error occurred: conversion webhook for example.com/v2, Kind=Door failed: the converter "
        "is out of "
        "order");
  broken = false;
  metadata = true;
  CHECK(Served::answer(hooked.admin.get("example.com/v1", "doors", "d", "shop").wait(30s))
            .find("metadata.name was changed") != std::string::npos);
}

TEST_CASE("no webhook and no policy keeps a server from starting again") {
  Engine engine;
  auto store = MemoryStore::create(engine);
  {
    ApiServer first(engine, store, {.listen = "127.0.0.1:0"});
    REQUIRE(first.start());
    auto hook = Object::from_yaml(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: "
        "all}\n"
        "webhooks: [{name: all.example.com, admissionReviewVersions: [v1], sideEffects: None, "
        "timeoutSeconds: 1, "
        "clientConfig: {service: {namespace: default, name: gone}}, rules: [{apiGroups: ['*'], apiVersions: "
        "['*'], "
        "resources: ['*/*'], operations: ['*']}]}]\n");
    REQUIRE(hook);
    REQUIRE(first.client().create(*hook).wait(30s));
    // Others are stopped by it, administrators too.
    auto map =
        Object::from_yaml("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n");
    CHECK(Served::answer(first.client().create(*map).wait(30s)).starts_with("500 "));
    first.stop();
  }
  ApiServer second(engine, store, {.listen = "127.0.0.1:0"});
  const auto started = second.start();
  CHECK_MESSAGE(started, (started ? "" : started.error().to_string()));
  REQUIRE(second.client()
              .remove("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", "all")
              .wait(30s));
  second.stop();
}

TEST_CASE("addresses that webhooks may not have") {
  for (const char* address : {"169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "fe80::1",
                              "::", "ff02::1", "::ffff:169.254.1.1", "nonsense"}) {
    CHECK_MESSAGE(!apiserver::webhook_may_reach(address), address);
  }
  for (const char* address : {"127.0.0.1", "10.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"}) {
    CHECK_MESSAGE(apiserver::webhook_may_reach(address), address);
  }
}

TEST_CASE("a rule for another version of the kind asks too, in that version, unless it is Exact") {
  Hooked hooked([](const std::string&, const json::value& review) { return allow(review); });
  const std::string scalers =
      "{apiGroups: [autoscaling], apiVersions: [v1], resources: [horizontalpodautoscalers], operations: "
      "['*']}";
  const auto scaler = [&](const std::string& name) {
    return hooked.try_make(
        hooked.admin, "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: " + name +
                          ", namespace: shop}\nspec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, "
                          "kind: Deployment, name: "
                          "d}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, "
                          "averageUtilization: "
                          "50}}}]}\n");
  };
  hooked.configure("Validating", "exact", "  matchPolicy: Exact\n", scalers);
  CHECK(scaler("one") == "ok");
  CHECK(hooked.hook.count() == 0);
  hooked.configure("Validating", "any", "", scalers);
  CHECK(scaler("two") == "ok");
  REQUIRE(hooked.hook.count() == 1);
  const json::value review = hooked.hook.last();
  CHECK(string_at(review, "/request/kind/version") == "v1");
  CHECK(string_at(review, "/request/resource/version") == "v1");
  CHECK(string_at(review, "/request/requestKind/version") == "v2");
  CHECK(string_at(review, "/request/requestResource/version") == "v2");
  CHECK(string_at(review, "/request/object/apiVersion") == "autoscaling/v1");
  CHECK(int_at(review, "/request/object/spec/targetCPUUtilizationPercentage") == 50);
}

TEST_CASE("a webhook has no effects of its own in a dry run, or cannot be") {
  Hooked hooked([](const std::string&, const json::value& review) { return allow(review); });
  const std::string some = hooked.try_make(
      hooked.admin,
      "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: "
      "w}\n"
      "webhooks: [{name: a.b.c, admissionReviewVersions: [v1], sideEffects: Some, clientConfig: {url: "
      "'https://127.0.0.1/'}}]\n");
  CHECK(some.find("webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", "
                  "\"NoneOnDryRun\"") != std::string::npos);
  // One that was stored by a server that took it (v1beta1) is never asked about what will not be.
  hooked.configure("Validating", "kept");
  auto key =
      std::string("/orchestra/objects/admissionregistration.k8s.io/validatingwebhookconfigurations/-/kept");
  auto held = hooked.store->get(key).wait(30s);
  REQUIRE(held);
  REQUIRE(held->kv);
  std::string bytes(held->kv->value.bytes());
  const std::string from = R"("sideEffects":"None")", to = R"("sideEffects":"Some")";
  REQUIRE(bytes.find(from) != std::string::npos);
  bytes.replace(bytes.find(from), from.size(), to);
  REQUIRE(hooked.store->put(key, bytes).wait(30s));
  auto map =
      Object::from_yaml("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: shop}\n").value();
  const auto dry = [&] { return Served::answer(hooked.admin.create(map, {.dry_run = true}).wait(30s)); };
  for (int i = 0; i < 1000 && dry() == "ok"; ++i)
    std::this_thread::sleep_for(10ms);  // until the server has read it
  CHECK(dry() == "400 admission webhook \"kept.example.com\" does not support dry run");
  CHECK(Served::answer(hooked.admin.create(map).wait(30s)) == "ok");
}

TEST_CASE("warnings of webhooks, policies and pod security reach the client, cut where they are too much") {
  std::vector<std::string> told = {"one \"quoted\""};
  Hooked hooked([&told](const std::string&, const json::value& review) {
    json::value out = allow(review);
    json::array list;
    for (const std::string& one : told) list.emplace_back(one);
    set_at(out, "/response/warnings", std::move(list));
    return out;
  });
  hooked.configure("Validating", "warns");
  const auto warned = [&](const std::string& resource, const std::string& ns, const std::string& body) {
    ApiRequest request{.verb = "create", .resource = resource, .ns = ns};
    request.content_type = "application/yaml";
    request.body = body;
    auto answer = hooked.admin.request(request).wait(30s);
    REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().to_string()));
    const auto found = answer->headers.find("warning");
    return found == answer->headers.end() ? std::string() : found->second;
  };
  CHECK(warned("configmaps", "shop", "metadata: {name: a}\n") == R"(299 - "one \"quoted\"")");
  // Alone a long one stays whole; all of them together are cut to 256 characters each and 4 KiB.
  told = {std::string(400, 'x')};
  CHECK(warned("configmaps", "shop", "metadata: {name: b}\n") == "299 - \"" + told[0] + "\"");
  told.clear();
  for (int i = 0; i < 20; ++i)
    told.push_back(std::string(1, static_cast<char>('a' + i)) + std::string(299, '-'));
  const std::string all = warned("configmaps", "shop", "metadata: {name: c}\n");
  std::string expected;
  for (int i = 0; i < 16; ++i)
    expected += std::string(i == 0 ? "" : ", ") + "299 - \"" +
                told[static_cast<std::size_t>(i)].substr(0, 256) + "\"";
  CHECK(all == expected);
  // A character is never cut in two.
  told.assign(20, "");
  for (int i = 0; i < 20; ++i) {
    std::string& one = told[static_cast<std::size_t>(i)];
    one = "x" + std::string(1, static_cast<char>('a' + i));
    while (one.size() < 300) one += "\xc3\xa9";
  }
  CHECK(warned("configmaps", "shop", "metadata: {name: d}\n").find("\xc3\"") == std::string::npos);

  hooked.make(
      "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: "
      "few}\nspec:\n"
      "  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], "
      "resources: "
      "[secrets]}]}\n  validations: [{expression: \"false\", message: 'better not'}]\n");
  hooked.make(
      "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: "
      "b}\n"
      "spec: {policyName: few, validationActions: [Warn]}\n");
  CHECK(warned("secrets", "shop", "metadata: {name: s}\n") ==
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'few' with binding 'b': better not\"");
  hooked.make(
      "apiVersion: v1\nkind: Namespace\nmetadata: {name: soft, labels: {pod-security.kubernetes.io/warn: "
      "baseline}}\n");
  CHECK(warned("pods", "soft",
               "metadata: {name: p}\nspec: {hostPID: true, containers: [{name: c, image: x}]}\n") ==
        "299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostPID=true)\"");
}
