// Audit: which requests are told, how much of them, and never a Secret.
#include <condition_variable>
#include <mutex>

#include "apiserver/audit/audit.hpp"
#include "tests/auth/served.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {
struct Heard {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<json::value> events;
  bool stalled = false;
  void take(const std::string& text) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !stalled; });
    events.push_back(parse_json(text).value());
    changed.notify_all();
  }
  /// The next event on a resource or path, once it is there.
  json::value wait(std::size_t index) {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, 30s, [&] { return events.size() > index; }));
    return events[index];
  }
};

ApiServerOptions audited(Heard& heard, const std::string& policy, std::size_t queue = 1000) {
  ApiServerOptions options;
  options.audit_sink = [&heard](const std::string& event) { heard.take(event); };
  options.audit_policy = policy;
  options.audit_queue_max = queue;
  return options;
}

const char* kPolicy = R"(
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, nonResourceURLs: ["/healthz*", /version]}
- {level: RequestResponse, resources: [{group: "", resources: [configmaps, secrets]}], verbs: [create]}
- {level: Request, resources: [{group: "", resources: [configmaps]}]}
- {level: None, resources: [{group: "", resources: [pods]}], userGroups: ["system:unauthenticated"]}
- {level: Metadata}
)";
}  // namespace

TEST_CASE("the policy decides how much of a request is told, and Secrets are never told") {
  Heard heard;
  Served served(audited(heard, kPolicy));
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: default}\n---\n");
  served.make(
      "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: web}\nroleRef: "
      "{apiGroup: "
      "rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, "
      "name: web, "
      "namespace: default}]\n");
  const std::string token = served.token("default", "web");
  CHECK(served.ask("GET", "/version", "").status == 200);      // told nothing
  CHECK(served.ask("GET", "/api/v1/pods", "").status == 403);  // nor this
  CHECK(served
            .ask("POST", "/api/v1/namespaces/default/configmaps", token,
                 R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}})",
                 {{"Accept", "application/vnd.kubernetes.protobuf"}})
            .status == 201);
  const json::value made = heard.wait(0);
  CHECK(string_at(made, "/kind") == "Event");
  CHECK(string_at(made, "/apiVersion") == "audit.k8s.io/v1");
  CHECK(string_at(made, "/level") == "RequestResponse");
  CHECK(string_at(made, "/stage") == "ResponseComplete");
  CHECK(string_at(made, "/verb") == "create");
  CHECK(string_at(made, "/user/username") == "system:serviceaccount:default:web");
  CHECK(string_at(made, "/objectRef/resource") == "configmaps");
  CHECK(string_at(made, "/objectRef/namespace") == "default");
  CHECK(int_at(made, "/responseStatus/code") == 201);
  CHECK(string_at(made, "/requestObject/data/k") == "v");
  CHECK(string_at(made, "/objectRef/name") == "a");
  CHECK_FALSE(string_at(made, "/responseObject/metadata/uid").empty());
  CHECK(string_at(made, "/sourceIPs/0") == "127.0.0.1");
  CHECK_FALSE(string_at(made, "/auditID").empty());
  CHECK(served
            .ask("POST", "/api/v1/namespaces/default/secrets", token,
                 R"({"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"stringData":{"k":"hidden"}})")
            .status == 201);
  const json::value secret = heard.wait(1);
  CHECK(string_at(secret, "/level") == "Metadata");
  CHECK(to_json(secret).find("hidden") == std::string::npos);
  CHECK(find(secret, "/requestObject") == nullptr);
  CHECK(served.ask("DELETE", "/api/v1/namespaces/default/configmaps/a", token).status == 200);
  const json::value removed = heard.wait(2);
  CHECK(string_at(removed, "/level") == "Request");
  CHECK(find(removed, "/responseObject") == nullptr);
  // A watch is told when it begins; who is not known is told as nobody, with the refusal.
  CHECK(served.ask("GET", "/api/v1/namespaces/default/services?watch=1&timeoutSeconds=1", token).status ==
        200);
  const json::value watch = heard.wait(3);
  CHECK(string_at(watch, "/stage") == "ResponseStarted");
  CHECK(string_at(watch, "/verb") == "watch");
  CHECK(served.ask("GET", "/api/v1/namespaces/default/services", "x.y.z").status == 401);
  const json::value unknown = heard.wait(4);
  CHECK(string_at(unknown, "/user/username").empty());
  CHECK(int_at(unknown, "/responseStatus/code") == 401);
  CHECK(served.ask("GET", "/api/v1/namespaces/default/services", "").status == 403);
  CHECK(string_at(heard.wait(5), "/annotations/authorization.k8s.io~1decision") == "forbid");
  CHECK(served.server.audit_dropped() == 0);
}

TEST_CASE("a sink that stalls delays nobody; what does not fit is dropped and counted") {
  Heard heard;
  heard.stalled = true;
  Served served(audited(heard, "", 3));
  for (int i = 0; i < 20; ++i) CHECK(served.ask("GET", "/healthz", "").status == 200);
  CHECK(served.server.audit_dropped() >= 20 - 4);
  {
    std::lock_guard lock(heard.mutex);
    heard.stalled = false;
    heard.changed.notify_all();
  }
  CHECK(string_at(heard.wait(0), "/level") == "Metadata");
}

TEST_CASE("a policy that is none is refused by its rule") {
  const auto wrong = [](const std::string& text) {
    const auto policy = apiserver::AuditPolicy::parse(text);
    return policy ? std::string("ok") : policy.error().message();
  };
  CHECK(wrong(kPolicy) == "ok");
  CHECK(wrong("kind: Policy\nrules: [{level: Some}]\n") ==
        "audit policy: rules[0].level is \"Some\": it must be None, Metadata, Request or RequestResponse");
  CHECK(wrong("kind: Pod\n") == "audit policy: kind is \"Pod\", not Policy");
  CHECK(wrong("kind: Policy\n").find("no rules") != std::string::npos);
  CHECK(
      wrong("kind: Policy\nrules: [{level: None, nonResourceURLs: [/x], namespaces: [a]}]\n").find("both") !=
      std::string::npos);
}
