// Authentication and authorization of a whole server: tokens, anonymous, roles, escalation, impersonation.
#include <sys/stat.h>
#include <fstream>

#include "tests/auth/served.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {
const std::string kRbac = "apiVersion: rbac.authorization.k8s.io/v1\n";
const std::string kReviewBody =
    R"({"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview","metadata":{}})";

void bind(Served& served, const std::string& user, const std::string& role, const std::string& ns) {
  served.make(kRbac + "kind: RoleBinding\nmetadata: {name: " + user + "-" + role + ", namespace: " + ns +
              "}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: " + role +
              "}\nsubjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: " + user + "}]\n");
}
}  // namespace

TEST_CASE("anonymous users see health and version, nothing else") {
  Served served;
  CHECK(served.ask("GET", "/healthz", "").status == 200);
  CHECK(served.ask("GET", "/version", "").status == 200);
  CHECK(served.message(served.ask("GET", "/api/v1/pods", "")) ==
        "403 pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at "
        "the "
        "cluster scope");
  CHECK(served.message(served.ask("GET", "/apis", "")) ==
        "403 forbidden: User \"system:anonymous\" cannot get path \"/apis\"");
  CHECK(served.ask("GET", "/metrics", "").status == 403);
  CHECK(served.ask("GET", "/openid/v1/jwks", "").status == 403);
}

TEST_CASE("a service account's token works until account or bound pod are gone") {
  Served served;
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: default}\n");
  const std::string token = served.token("default", "web");
  auto who = parse_json(
      served.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", token, kReviewBody).body);
  REQUIRE(who);
  CHECK(string_at(*who, "/status/userInfo/username") == "system:serviceaccount:default:web");
  CHECK(string_at(*who, "/status/userInfo/groups/0") == "system:serviceaccounts");
  CHECK(string_at(*who, "/status/userInfo/groups/1") == "system:serviceaccounts:default");
  CHECK(find(*who, "/status/userInfo/extra/authentication.kubernetes.io~1credential-id") != nullptr);
  CHECK(served.ask("GET", "/api/v1/namespaces/default/pods", token).status == 403);
  served.make(kRbac +
              "kind: RoleBinding\nmetadata: {name: web, namespace: default}\n"
              "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\n"
              "subjects: [{kind: ServiceAccount, name: web, namespace: default}]\n");
  CHECK(served.ask("GET", "/api/v1/namespaces/default/pods", token).status == 200);
  CHECK(served.ask("GET", "/api/v1/namespaces/default/secrets", token).status == 403);
  // Bound to a pod.
  served.make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\n"
      "spec: {serviceAccountName: web, containers: [{name: c, image: i}]}\n");
  const std::string bound = served.token(
      "default", "web", R"({"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p"},"audiences":[]})");
  CHECK(served.ask("GET", "/api/v1/namespaces/default/pods", bound).status == 200);
  REQUIRE(served.admin.remove("v1", "pods", "p", "default").wait(30s));
  CHECK(served.message(served.ask("GET", "/api/v1/namespaces/default/pods", bound)) == "401 Unauthorized");
  // An account of the same name is another account.
  REQUIRE(served.admin.remove("v1", "serviceaccounts", "web", "default").wait(30s));
  CHECK(served.ask("GET", "/api/v1/namespaces/default/pods", token).status == 401);
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: default}\n");
  CHECK(served.ask("GET", "/api/v1/namespaces/default/pods", token).status == 401);
}

TEST_CASE("TokenRequest refuses what upstream refuses") {
  Served served;
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: default}\n");
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: other, namespace: default}\n");
  served.make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\n"
      "spec: {serviceAccountName: other, containers: [{name: c, image: i}]}\n");
  const auto refusal = [&](const std::string& spec) {
    return served.message(served.request_token("default", "web", spec));
  };
  CHECK(refusal(R"({"expirationSeconds":599})").find("may not specify a duration less than 10 minutes") !=
        std::string::npos);
  CHECK(
      refusal(R"({"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p"}})") ==
      "400 cannot bind token for serviceaccount \"web\" to pod running with different serviceaccount name.");
  CHECK(refusal(R"({"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"none"}})") ==
        "404 pods \"none\" not found");
  CHECK(refusal(R"({"boundObjectRef":{"kind":"Deployment","apiVersion":"apps/v1","name":"d"}})")
            .find("400 cannot bind") == 0);
  CHECK(served.message(served.request_token("default", "nobody")) ==
        "404 serviceaccounts \"nobody\" not found");
  // For another audience it is no key to this server.
  const std::string token = served.token("default", "web", R"({"audiences":["vault"]})");
  CHECK(served.ask("GET", "/api", token).status == 401);
  auto review = Object::from_json(
      R"({"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","metadata":{"name":""},"spec":{"audiences":["vault","x"],"token":")" +
      token + "\"}}");
  REQUIRE(review);
  auto answer = served.admin.create(*review).wait(30s);
  REQUIRE(answer);
  CHECK(answer->get_bool("/status/authenticated") == true);
  CHECK(answer->get("/status/audiences") == R"(["vault"])");
}

TEST_CASE("a token that is no token of ours is 401, also before what anonymous users may see") {
  Served served;
  for (const char* token : {"x", "a.b.c", "abcdef.0123456789abcdef"}) {
    CHECK(served.ask("GET", "/version", token).status == 401);
  }
  CHECK(served.ask("GET", "/version", "", "", {{"Authorization", "Basic YTpi"}}).status == 401);
}

TEST_CASE("OIDC discovery names the issuer and the public key, to service accounts") {
  Served served;
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: default}\n");
  const std::string token = served.token("default", "web");
  auto document = parse_json(served.ask("GET", "/.well-known/openid-configuration", token).body);
  REQUIRE(document);
  CHECK(string_at(*document, "/issuer") == "https://kubernetes.default.svc.cluster.local");
  CHECK(string_at(*document, "/jwks_uri") == "https://" + served.server.address() + "/openid/v1/jwks");
  const auto keys = served.ask("GET", "/openid/v1/jwks", token);
  CHECK(keys.headers.at("content-type") == "application/jwk-set+json");
  CHECK(keys.body.find("\"kid\"") != std::string::npos);
}

TEST_CASE("bootstrap tokens name a user of their group until they expire") {
  Served served;
  const auto secret = [](const std::string& id, const std::string& until) {
    return "apiVersion: v1\nkind: Secret\nmetadata: {name: bootstrap-token-" + id +
           ", namespace: kube-system}\ntype: bootstrap.kubernetes.io/token\nstringData: {token-id: " + id +
           ", token-secret: 0123456789abcdef, usage-bootstrap-authentication: 'true', expiration: '" + until +
           "', auth-extra-groups: 'system:bootstrappers:nodes,system:masters'}\n";
  };
  served.make(secret("abcdef", "2999-01-01T00:00:00Z"));
  served.make(secret("fedcba", "2001-01-01T00:00:00Z"));
  auto who = parse_json(served
                            .ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                                 "abcdef.0123456789abcdef", kReviewBody)
                            .body);
  REQUIRE(who);
  CHECK(string_at(*who, "/status/userInfo/username") == "system:bootstrap:abcdef");
  // Only groups below system:bootstrappers: may be given this way.
  CHECK(to_json(*find(*who, "/status/userInfo/groups")) ==
        R"(["system:bootstrappers","system:bootstrappers:nodes","system:authenticated"])");
  CHECK(served.ask("GET", "/api", "abcdef.fedcba9876543210").status == 401);
  CHECK(served.ask("GET", "/api", "fedcba.0123456789abcdef").status == 401);
}

TEST_CASE(
    "the host's authenticator names the user of a token that is not ours, and is asked about no other") {
  std::vector<std::string> asked;  // on the threads of requests, one at a time here
  ApiServerOptions options;
  options.authenticate_token = [&asked](const std::string& token) -> std::optional<AuthenticatedUser> {
    asked.push_back(token);
    if (token != "opaque-of-jane") return std::nullopt;
    return AuthenticatedUser{"jane", "u-1", {"shop-admins"}, {{"example.com/team", {"blue", "green"}}}};
  };
  Served served(std::move(options));
  bind(served, "jane", "view", "default");
  const std::string body =
      served.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "opaque-of-jane", kReviewBody)
          .body;
  const auto who = parse_json(body).value();
  CHECK(string_at(who, "/status/userInfo/username") == "jane");
  CHECK(string_at(who, "/status/userInfo/uid") == "u-1");
  CHECK(string_at(who, "/status/userInfo/groups/0") == "shop-admins");
  CHECK(string_at(who, "/status/userInfo/groups/1") == "system:authenticated");
  CHECK(string_at(who, "/status/userInfo/extra/example.com~1team/1") == "green");
  // What he may do is decided here.
  CHECK(served.ask("GET", "/api/v1/namespaces/default/pods", "opaque-of-jane").status == 200);
  CHECK(served.ask("GET", "/api/v1/namespaces/default/secrets", "opaque-of-jane").status == 403);
  CHECK(served.ask("GET", "/version", "opaque-of-joe").status == 401);
  const auto review = Object::from_json(
      R"({"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","metadata":{"name":""},"spec":{"token":"opaque-of-jane"}})");
  const auto answer = served.admin.create(review.value()).wait(30s);
  REQUIRE(answer);
  CHECK(answer->get("/status/user/username") == "jane");
  // Tokens of our own never leave the server.
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: default}\n");
  const std::string own = served.token("default", "web");
  CHECK(served.ask("GET", "/api/v1/namespaces/default/pods", own).status == 403);
  for (const std::string& token : asked) CHECK(token.starts_with("opaque-of-"));
  CHECK(std::count(asked.begin(), asked.end(), "opaque-of-joe") > 0);
}

TEST_CASE("nobody grants more than he holds") {
  Served served;
  served.make("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
  bind(served, "jane", "admin", "shop");
  const Client jane = served.server.client_as("jane");
  const auto role = [](const std::string& name, const std::string& rules) {
    return kRbac + "kind: Role\nmetadata: {name: " + name + ", namespace: shop}\nrules: [" + rules + "]\n";
  };
  CHECK(served.try_make(jane, role("a", "{apiGroups: [''], resources: [pods], verbs: [get]}")) == "ok");
  CHECK(served.try_make(jane, role("b", "{apiGroups: [''], resources: [nodes], verbs: [get, list]}")) ==
        "403 roles.rbac.authorization.k8s.io \"b\" is forbidden: user \"jane\" "
        "(groups=[\"system:authenticated\"]) is "
        "attempting to grant RBAC permissions not currently held:\n"
        "{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}");
  const auto binding = [](const std::string& name, const std::string& role_name) {
    return kRbac + "kind: RoleBinding\nmetadata: {name: " + name +
           ", namespace: shop}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: " +
           role_name + "}\nsubjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: joe}]\n";
  };
  CHECK(served.try_make(jane, binding("c", "view")) == "ok");
  CHECK(served.try_make(jane, binding("d", "cluster-admin")).find("not currently held") != std::string::npos);
  CHECK(served.try_make(jane, binding("e", "nowhere")) ==
        "404 clusterroles.rbac.authorization.k8s.io \"nowhere\" not found");
  // `bind` and `escalate` lift that.
  served.make(kRbac +
              "kind: Role\nmetadata: {name: lift, namespace: shop}\nrules:\n"
              "- {apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], resourceNames: "
              "[cluster-admin], verbs: [bind]}\n"
              "- {apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [escalate]}\n");
  served.make(kRbac +
              "kind: RoleBinding\nmetadata: {name: lift, namespace: shop}\n"
              "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: lift}\n"
              "subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: jane}]\n");
  CHECK(served.try_make(jane, binding("d", "cluster-admin")) == "ok");
  CHECK(served.try_make(jane, role("b", "{apiGroups: [''], resources: [nodes], verbs: [get, list]}")) ==
        "ok");
}

TEST_CASE("impersonation needs the verb for each part, and then acts with the other's rights only") {
  Served served;
  served.make("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: default}\n");
  served.make(kRbac +
              "kind: ClusterRole\nmetadata: {name: actor}\nrules:\n"
              "- {apiGroups: [''], resources: [users], resourceNames: [jane], verbs: [impersonate]}\n"
              "- {apiGroups: [''], resources: [groups], resourceNames: [devs], verbs: [impersonate]}\n");
  served.make(kRbac +
              "kind: ClusterRoleBinding\nmetadata: {name: actor}\n"
              "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: actor}\n"
              "subjects: [{kind: ServiceAccount, name: web, namespace: default}]\n");
  const std::string token = served.token("default", "web");
  const auto as = [&](std::vector<std::pair<std::string, std::string>> headers) {
    return served.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", token, kReviewBody,
                      std::move(headers));
  };
  auto who = parse_json(as({{"Impersonate-User", "jane"}, {"Impersonate-Group", "devs"}}).body);
  REQUIRE(who);
  CHECK(string_at(*who, "/status/userInfo/username") == "jane");
  CHECK(to_json(*find(*who, "/status/userInfo/groups")) == R"(["devs","system:authenticated"])");
  CHECK(served.message(as({{"Impersonate-User", "root"}})) ==
        "403 users \"root\" is forbidden: User \"system:serviceaccount:default:web\" cannot impersonate "
        "resource "
        "\"users\" in API group \"\" at the cluster scope");
  // Smuggled into one header, each group is asked about.
  CHECK(as({{"Impersonate-User", "jane"}, {"Impersonate-Group", "devs, system:masters"}}).status == 403);
  CHECK(as({{"Impersonate-User", "jane"}, {"Impersonate-Extra-scopes", "all"}}).status == 403);
  CHECK(as({{"Impersonate-User", "jane"}, {"Impersonate-Uid", "7"}}).status == 403);
  CHECK(as({{"Impersonate-User", "system:serviceaccount:kube-system:x"}}).status == 403);
  CHECK(as({{"Impersonate-Group", "devs"}}).status == 500);
  CHECK(as({{"Impersonate-User", "jane"}}).status == 201);
}

TEST_CASE("reviews answer as requests are decided") {
  Served served;
  served.make("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
  bind(served, "jane", "view", "shop");
  const auto review = [&](const std::string& ns) {
    auto object = Object::from_json(
        R"({"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","metadata":{},"spec":{"user":"jane","resourceAttributes":{"verb":"list","resource":"pods","namespace":")" +
        ns + "\"}}}");
    auto answer = served.admin.create(*object).wait(30s);
    REQUIRE(answer);
    return answer->get("/status").value_or("");
  };
  CHECK(
      review("shop") ==
      R"({"allowed":true,"reason":"RBAC: allowed by RoleBinding \"jane-view/shop\" of ClusterRole \"view\" to User \"jane\""})");
  CHECK(review("default").find("\"allowed\":false") != std::string::npos);
  auto rules = Object::from_json(
      R"({"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","metadata":{},"spec":{"namespace":"shop"}})");
  auto held = served.server.client_as("jane").create(*rules).wait(30s);
  REQUIRE(held);
  CHECK(held->get("/status/resourceRules")->find("\"configmaps\"") != std::string::npos);
  CHECK(held->get("/status/nonResourceRules")->find("/openapi") != std::string::npos);
}

TEST_CASE("what somebody changed in default roles stays, what is missing comes back at the next start") {
  TempDir folder;
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  {
    ApiServer server(engine, store, {.data_directory = folder.path()});
    REQUIRE(server.start());
    const Client client = server.client();
    auto view = client.get("rbac.authorization.k8s.io/v1", "clusterroles", "view").wait(30s);
    REQUIRE(view);
    CHECK(view->get("/rules")->find("configmaps") != std::string::npos);  // the sum is stored
    REQUIRE(client.remove("rbac.authorization.k8s.io/v1", "clusterroles", "system:discovery").wait(30s));
    REQUIRE(client
                .patch("rbac.authorization.k8s.io/v1", "clusterroles", "system:basic-user", "",
                       PatchType::merge,
                       R"({"rules":[{"verbs":["get"],"apiGroups":["x"],"resources":["y"]}]})")
                .wait(30s));
    REQUIRE(
        client
            .patch(
                "rbac.authorization.k8s.io/v1", "clusterroles", "system:monitoring", "", PatchType::merge,
                R"({"metadata":{"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"false"}},"rules":[]})")
            .wait(30s));
  }
  ApiServer server(engine, store, {.data_directory = folder.path()});
  REQUIRE(server.start());
  const Client client = server.client();
  CHECK(client.get("rbac.authorization.k8s.io/v1", "clusterroles", "system:discovery").wait(30s));
  auto basic = client.get("rbac.authorization.k8s.io/v1", "clusterroles", "system:basic-user").wait(30s);
  REQUIRE(basic);
  CHECK(basic->get("/rules")->find("selfsubjectaccessreviews") != std::string::npos);
  CHECK(basic->get("/rules")->find("\"y\"") != std::string::npos);
  auto monitoring = client.get("rbac.authorization.k8s.io/v1", "clusterroles", "system:monitoring").wait(30s);
  REQUIRE(monitoring);
  CHECK(monitoring->get("/rules").value_or("[]") == "[]");
  struct stat info {};
  REQUIRE(stat((folder / "pki/sa.key").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
}
