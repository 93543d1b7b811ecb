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
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:admin", "system:apiserver"]}
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
  // A watch is told when it begins and when it ends; who is not known is told as nobody, with the refusal.
  CHECK(served.ask("GET", "/api/v1/namespaces/default/services?watch=1&timeoutSeconds=1", token).status ==
        200);
  const json::value watch = heard.wait(3);
  CHECK(string_at(watch, "/stage") == "ResponseStarted");
  CHECK(string_at(watch, "/verb") == "watch");
  const json::value end = heard.wait(4);
  CHECK(string_at(end, "/stage") == "ResponseComplete");
  CHECK(string_at(end, "/auditID") == string_at(watch, "/auditID"));
  CHECK(served.ask("GET", "/api/v1/namespaces/default/services", "x.y.z").status == 401);
  const json::value unknown = heard.wait(5);
  CHECK(string_at(unknown, "/user/username").empty());
  CHECK(int_at(unknown, "/responseStatus/code") == 401);
  CHECK(served.ask("GET", "/api/v1/namespaces/default/services", "").status == 403);
  const json::value forbidden = heard.wait(6);
  CHECK(string_at(forbidden, "/annotations/authorization.k8s.io~1decision") == "forbid");
  CHECK(string_at(forbidden, "/responseStatus/reason") == "Forbidden");
  CHECK(served.server.audit_dropped() == 0);
}

TEST_CASE("each request is told at its stages, those of this process as well") {
  Heard heard;
  // Who asks is client_as(): what the server and its own clients do is left out.
  Served served(audited(heard, R"(
kind: Policy
rules:
- {level: None, users: ["system:admin", "system:apiserver"]}
- {level: Metadata, resources: [{group: "", resources: [services]}], omitStages: [ResponseStarted]}
- {level: RequestResponse, omitManagedFields: true}
)"));
  served.make(
      "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: jane}\nroleRef: "
      "{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: "
      "User, "
      "name: jane, apiGroup: rbac.authorization.k8s.io}]\n");
  const Client jane = served.server.client_as("jane", {"team"});
  const auto stage = [](const json::value& event) {
    return string_at(event, "/stage") + " " + string_at(event, "/verb") + " " +
           string_at(event, "/requestURI") + " " + std::to_string(int_at(event, "/responseStatus/code"));
  };
  CHECK(served.try_make(jane,
                        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\ndata: {k: "
                        "v}\n") == "ok");
  const json::value received = heard.wait(0);
  CHECK(stage(received) == "RequestReceived create /api/v1/namespaces/default/configmaps 0");
  CHECK(find(received, "/responseStatus") == nullptr);
  CHECK(find(received, "/requestObject") == nullptr);
  CHECK(string_at(received, "/stageTimestamp") == string_at(received, "/requestReceivedTimestamp"));
  const json::value complete = heard.wait(1);
  CHECK(stage(complete) == "ResponseComplete create /api/v1/namespaces/default/configmaps 201");
  CHECK(string_at(complete, "/auditID") == string_at(received, "/auditID"));
  CHECK(string_at(complete, "/user/username") == "jane");
  CHECK(string_at(complete, "/user/groups/0") == "team");
  CHECK(find(complete, "/sourceIPs") == nullptr);
  CHECK(string_at(complete, "/requestObject/data/k") == "v");
  CHECK_FALSE(string_at(complete, "/responseObject/metadata/uid").empty());
  CHECK(string_at(complete, "/annotations/authorization.k8s.io~1reason") ==
        "RBAC: allowed by ClusterRoleBinding \"jane\" of ClusterRole \"cluster-admin\" to User \"jane\"");
  // A list as objects, a refusal with its Status, a Secret without its body.
  REQUIRE(jane.list("v1", "configmaps", {.ns = "default"}).wait(30s));
  heard.wait(2);
  CHECK(string_at(heard.wait(3), "/responseObject/items/0/metadata/name") == "a");
  CHECK_FALSE(jane.get("v1", "configmaps", "none", "default").wait(30s));
  heard.wait(4);
  const json::value missing = heard.wait(5);
  CHECK(stage(missing) == "ResponseComplete get /api/v1/namespaces/default/configmaps/none 404");
  CHECK(string_at(missing, "/responseStatus/message") == "configmaps \"none\" not found");
  CHECK(served.try_make(
            jane,
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\nstringData: {k: "
            "hidden}\n") == "ok");
  REQUIRE(jane.get("v1", "secrets", "s", "default").wait(30s));
  for (const std::size_t index : {6, 7, 8, 9}) {
    const json::value secret = heard.wait(index);
    CHECK(string_at(secret, "/level") == "Metadata");
    CHECK(to_json(secret).find("hidden") == std::string::npos);
    CHECK(to_json(secret).find("aGlkZGVu") == std::string::npos);
  }
  // A watch is open between two stages; the rule of the second one leaves a stage out.
  auto watch = jane.watch("v1", "configmaps", {.ns = "default"});
  REQUIRE(watch);
  CHECK(stage(heard.wait(10)) ==
        "RequestReceived watch /api/v1/namespaces/default/configmaps?allowWatchBookmarks=true&watch=true 0");
  CHECK(
      stage(heard.wait(11)) ==
      "ResponseStarted watch /api/v1/namespaces/default/configmaps?allowWatchBookmarks=true&watch=true 200");
  watch->cancel();
  CHECK(
      stage(heard.wait(12)) ==
      "ResponseComplete watch /api/v1/namespaces/default/configmaps?allowWatchBookmarks=true&watch=true 200");
  { auto services = jane.watch("v1", "services", {.ns = "default"}); }
  CHECK(string_at(heard.wait(13), "/stage") == "RequestReceived");
  CHECK(string_at(heard.wait(14), "/stage") == "ResponseComplete");
  // A batch is told request by request.
  ApiRequest one{.verb = "delete", .resource = "configmaps", .ns = "default", .name = "a"};
  ApiRequest two = one;
  two.name = "b";
  REQUIRE(jane.batch({one, two}).wait(30s));
  std::vector<std::string> batch;
  for (const std::size_t index : {15, 16, 17, 18}) batch.push_back(stage(heard.wait(index)));
  CHECK(batch ==
        std::vector<std::string>{"RequestReceived delete /api/v1/namespaces/default/configmaps/a 0",
                                 "RequestReceived delete /api/v1/namespaces/default/configmaps/b 0",
                                 "ResponseComplete delete /api/v1/namespaces/default/configmaps/a 200",
                                 "ResponseComplete delete /api/v1/namespaces/default/configmaps/b 404"});
}

TEST_CASE("over HTTP: the client's audit id, who is behind an impersonated user, and no managedFields") {
  Heard heard;
  Served served(audited(heard, R"(
kind: Policy
omitManagedFields: true
rules:
- {level: None, users: ["system:admin", "system:apiserver"]}
- {level: RequestResponse, omitStages: [RequestReceived], resources: [{group: "", resources: [configmaps]}]}
)"));
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: default}\n");
  served.make(
      "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: web}\nroleRef: "
      "{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: "
      "ServiceAccount, name: web, namespace: default}]\n");
  const std::string token = served.token("default", "web");
  const std::string map =
      R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}})";
  const auto made =
      served.ask("POST", "/api/v1/namespaces/default/configmaps", token, map, {{"Audit-ID", "mine"}});
  CHECK(made.status == 201);
  CHECK(made.headers.at("audit-id") == "mine");
  CHECK(made.body.find("managedFields") != std::string::npos);
  const json::value event = heard.wait(0);
  CHECK(string_at(event, "/auditID") == "mine");
  CHECK(string_at(event, "/responseObject/metadata/name") == "a");
  CHECK(to_json(event).find("managedFields") == std::string::npos);
  // A list in pieces and compressed is told as it was before.
  const auto list =
      served.ask("GET", "/api/v1/namespaces/default/configmaps", token, "", {{"Accept-Encoding", "gzip"}});
  CHECK(list.status == 200);
  const json::value listed = heard.wait(1);
  CHECK(string_at(listed, "/responseObject/items/0/metadata/name") == "a");
  CHECK(to_json(listed).find("managedFields") == std::string::npos);
  CHECK(served
            .ask("GET", "/api/v1/namespaces/default/configmaps/a", token, "",
                 {{"Impersonate-User", "nobody"}, {"Impersonate-Group", "ghosts"}})
            .status == 403);
  const json::value acting = heard.wait(2);
  CHECK(string_at(acting, "/user/username") == "system:serviceaccount:default:web");
  CHECK(string_at(acting, "/impersonatedUser/username") == "nobody");
  CHECK(string_at(acting, "/impersonatedUser/groups/0") == "ghosts");
  // Who may not act for others is told as who he is.
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: weak, namespace: default}\n");
  CHECK(served
            .ask("GET", "/api/v1/namespaces/default/configmaps/a", served.token("default", "weak"), "",
                 {{"Impersonate-User", "nobody"}})
            .status == 403);
  const json::value refused = heard.wait(3);
  CHECK(string_at(refused, "/user/username") == "system:serviceaccount:default:weak");
  CHECK(find(refused, "/impersonatedUser") == nullptr);
  CHECK(int_at(refused, "/responseStatus/code") == 403);
}

TEST_CASE("policies and pod security leave annotations in the event") {
  Heard heard;
  Served served(audited(heard, R"(
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, resources: [{group: "", resources: [configmaps, pods]}], verbs: [create]}
- {level: None}
)"));
  const std::string api = "apiVersion: admissionregistration.k8s.io/v1\n";
  served.make(api + R"(kind: ValidatingAdmissionPolicy
metadata: {name: sizes}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}
  paramKind: {apiVersion: v1, kind: Namespace}
  validations: [{expression: 'true'}, {expression: 'size(object.data) < 2', message: too big}]
  auditAnnotations:
  - {key: size, valueExpression: 'string(size(object.data))'}
  - {key: team, valueExpression: 'params.metadata.name'}
  - {key: none, valueExpression: 'null'}
)");
  served.make(api + R"(kind: ValidatingAdmissionPolicyBinding
metadata: {name: sizes-all}
spec: {policyName: sizes, validationActions: [Audit], paramRef: {selector: {matchLabels: {team: "yes"}}, parameterNotFoundAction: Deny}}
)");
  for (const char* name : {"one", "two"})
    served.make("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + std::string(name) +
                ", labels: {team: 'yes', pod-security.kubernetes.io/audit: baseline}}\n");
  const auto map = [&](const std::string& name, const std::string& data) {
    return served.try_make(served.admin, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name +
                                             ", namespace: one}\ndata: " + data + "\n");
  };
  CHECK(map("small", "{a: x}") == "ok");
  std::size_t next = 0;
  // Creations have their name in the body, which level Metadata does not show; they come in order.
  const auto created = [&] {
    for (;; ++next) {
      json::value event = heard.wait(next);
      if (string_at(event, "/objectRef/namespace") == "one" &&
          string_at(event, "/annotations/sizes~1size") != "") {
        ++next;
        return event;
      }
    }
  };
  const json::value small = created();
  CHECK(string_at(small, "/annotations/sizes~1team") == "one, two");
  CHECK(find(small, "/annotations/sizes~1none") == nullptr);
  CHECK(find(small, "/annotations/validation.policy.admission.k8s.io~1validation_failure") == nullptr);
  CHECK(map("big", "{a: x, b: z}") == "ok");
  const json::value big = created();
  CHECK(string_at(big, "/annotations/sizes~1size") == "2");
  CHECK(
      string_at(big, "/annotations/validation.policy.admission.k8s.io~1validation_failure") ==
      R"([{"message":"too big","policy":"sizes","binding":"sizes-all","expressionIndex":1,"validationActions":["Audit"]}])");
  CHECK(served.try_make(
            served.admin,
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: one}\nspec: {hostNetwork: true, "
            "containers: [{name: c, image: x}]}\n") == "ok");
  for (;; ++next) {
    const json::value event = heard.wait(next);
    if (string_at(event, "/objectRef/resource") != "pods") continue;
    CHECK(string_at(event, "/annotations/pod-security.kubernetes.io~1enforce-policy") == "privileged:latest");
    CHECK(
        string_at(event, "/annotations/pod-security.kubernetes.io~1audit-violations")
            .starts_with("would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true"));
    break;
  }
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

TEST_CASE("a request that nobody is left to answer is told as the 500 that the client gets") {
  Heard heard;
  Engine engine;
  auto log = std::make_shared<apiserver::AuditLog>(
      engine, apiserver::AuditPolicy::parse("").value(), [&](const std::string& event) { heard.take(event); },
      10);
  const auto record =
      log->begin(apiserver::parse_request("GET", "/api/v1/pods").value(), {"/api/v1/pods", "test/1.0", ""});
  record->received(apiserver::Identity::masters());
  apiserver::AuditLog::watch(record, nullptr).reset();
  CHECK(string_at(heard.wait(0), "/stage") == "RequestReceived");
  const json::value end = heard.wait(1);
  CHECK(string_at(end, "/stage") == "ResponseComplete");
  CHECK(int_at(end, "/responseStatus/code") == 500);
}

TEST_CASE("a policy that is none is refused by its rule") {
  const auto wrong = [](const std::string& text) {
    const auto policy = apiserver::AuditPolicy::parse(text);
    return policy ? std::string("ok") : policy.error().message();
  };
  CHECK(wrong(kPolicy) == "ok");
  CHECK(wrong("kind: Policy\nrules: [{level: None, resource: []}]\n") ==
        "audit policy: rules[0] has the unknown field \"resource\"");
  CHECK(wrong("kind: Policy\nomitStages: [Begin]\nrules: [{level: None}]\n") ==
        "audit policy: omitStages has \"Begin\": allowed stages are "
        "RequestReceived,ResponseStarted,ResponseComplete,Panic");
  CHECK(
      wrong("kind: Policy\nrules: [{level: None, nonResourceURLs: [/a*b]}]\n") ==
      "audit policy: rules[0].nonResourceURLs has \"/a*b\": non-resource URL wildcards '*' must be the final "
      "character of the rule");
  CHECK(wrong("kind: Policy\nrules: [{level: Some}]\n") ==
        "audit policy: rules[0].level is \"Some\": it must be None, Metadata, Request or RequestResponse");
  CHECK(wrong("kind: Pod\n") == "audit policy: kind is \"Pod\", not Policy");
  CHECK(wrong("kind: Policy\n").find("no rules") != std::string::npos);
  CHECK(
      wrong("kind: Policy\nrules: [{level: None, nonResourceURLs: [/x], namespaces: [a]}]\n").find("both") !=
      std::string::npos);
}
