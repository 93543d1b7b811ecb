// RBAC without a server: matching, bindings, aggregation, what covers what.
#include "api/object_tree.hpp"
#include "api/rbac/rules.hpp"
#include "orchestra/rbac_authorizer.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {
void add(RbacAuthorizer& rbac, const std::string& yaml) {
  auto objects = Object::many_from_yaml(yaml);
  REQUIRE(objects);
  for (const Object& object : *objects) REQUIRE(rbac.put(object));
}
std::string head(const std::string& kind, const std::string& metadata) {
  return "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: " + kind + "\nmetadata: {" + metadata + "}\n";
}
bool may(const RbacAuthorizer& rbac, const std::string& text) {
  // USER VERB GROUP RESOURCE[/SUB] NS NAME, "-" for empty
  std::istringstream words(text);
  AccessRequest request;
  std::string resource;
  words >> request.user >> request.verb >> request.api_group >> resource >> request.ns >> request.name;
  for (std::string* part : {&request.api_group, &request.ns, &request.name}) {
    if (*part == "-") part->clear();
  }
  const std::size_t slash = resource.find('/');
  request.resource = resource.substr(0, slash);
  if (slash != std::string::npos) request.subresource = resource.substr(slash + 1);
  return rbac.decide(request).allowed;
}
}  // namespace

TEST_CASE("a Role counts in its namespace only, a ClusterRole where it is bound") {
  RbacAuthorizer rbac;
  add(rbac, head("Role", "name: reader, namespace: shop") +
                "rules: [{apiGroups: [''], resources: [pods, 'pods/log'], verbs: [get, list]}]\n" +
                head("RoleBinding", "name: jane, namespace: shop") +
                "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}\n"
                "subjects: [{kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}]\n");
  CHECK(may(rbac, "jane get - pods shop p"));
  CHECK(may(rbac, "jane get - pods/log shop p"));
  CHECK_FALSE(may(rbac, "jane get - pods/exec shop p"));
  CHECK_FALSE(may(rbac, "jane delete - pods shop p"));
  CHECK_FALSE(may(rbac, "jane get - pods other p"));
  CHECK_FALSE(may(rbac, "jane list - pods - -"));
  CHECK_FALSE(may(rbac, "jane get apps pods shop p"));
  CHECK_FALSE(may(rbac, "joe get - pods shop p"));
  const auto why = rbac.decide({.user = "jane", .verb = "get", .resource = "pods", .ns = "shop"});
  CHECK(why.reason == "RBAC: allowed by RoleBinding \"jane/shop\" of Role \"reader\" to User \"jane\"");
  rbac.remove("RoleBinding", "shop", "jane");
  CHECK_FALSE(may(rbac, "jane get - pods shop p"));
}

TEST_CASE("wildcards, names, subresources and paths match as upstream") {
  RbacAuthorizer rbac;
  add(rbac, head("ClusterRole", "name: odd") +
                "rules:\n"
                "- {apiGroups: [apps], resources: ['*/scale'], verbs: ['*']}\n"
                "- {apiGroups: [''], resources: [configmaps], resourceNames: [one], verbs: [get, update]}\n"
                "- {nonResourceURLs: ['/logs/*', /version], verbs: [get]}\n" +
                head("ClusterRoleBinding", "name: odd") +
                "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: odd}\n"
                "subjects: [{kind: ServiceAccount, name: sa, namespace: shop}, {kind: Group, name: ops}]\n");
  CHECK(may(rbac, "system:serviceaccount:shop:sa update apps deployments/scale any d"));
  CHECK_FALSE(may(rbac, "system:serviceaccount:shop:sa update apps deployments any d"));
  CHECK(may(rbac, "system:serviceaccount:shop:sa get - configmaps any one"));
  CHECK_FALSE(may(rbac, "system:serviceaccount:shop:sa get - configmaps any two"));
  CHECK_FALSE(may(rbac, "system:serviceaccount:shop:sa list - configmaps any -"));
  const auto path = [&](const std::string& text) {
    return rbac.decide({.user = "x", .groups = {"ops"}, .verb = "get", .is_resource = false, .path = text})
        .allowed;
  };
  CHECK(path("/logs/a/b"));
  CHECK(path("/version"));
  CHECK_FALSE(path("/logs"));
  CHECK_FALSE(path("/version/x"));
}

TEST_CASE("an aggregated ClusterRole holds what its selectors match, at once and through others") {
  RbacAuthorizer rbac;
  for (const json::value& object : api::rbac::default_objects()) REQUIRE(rbac.put(object_from_tree(object)));
  add(rbac, head("RoleBinding", "name: eve, namespace: shop") +
                "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}\n"
                "subjects: [{kind: User, name: eve}]\n");
  CHECK(may(rbac, "eve create - pods shop -"));     // through edit
  CHECK(may(rbac, "eve get - configmaps shop c"));  // through view
  CHECK(may(rbac, "eve create rbac.authorization.k8s.io roles shop -"));
  CHECK_FALSE(may(rbac, "eve get example.org crontabs shop c"));
  add(rbac,
      head("ClusterRole", "name: crons, labels: {rbac.authorization.k8s.io/aggregate-to-view: 'true'}") +
          "rules: [{apiGroups: [example.org], resources: [crontabs], verbs: [get]}]\n");
  CHECK(may(rbac, "eve get example.org crontabs shop c"));
  rbac.remove("ClusterRole", "", "crons");
  CHECK_FALSE(may(rbac, "eve get example.org crontabs shop c"));
}

TEST_CASE("a binding to a role that does not exist grants nothing and says so") {
  RbacAuthorizer rbac;
  add(rbac, head("ClusterRoleBinding", "name: b") +
                "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: nowhere}\n"
                "subjects: [{kind: User, name: jane}]\n");
  const auto answer = rbac.decide({.user = "jane", .verb = "get", .resource = "pods"});
  CHECK_FALSE(answer.allowed);
  CHECK(answer.reason == "RBAC: clusterrole.rbac.authorization.k8s.io \"nowhere\" not found");
}

TEST_CASE("rules that are not held are named, compacted") {
  const std::vector<PolicyRule> held = {{.verbs = {"get"}, .api_groups = {""}, .resources = {"pods"}},
                                        {.verbs = {"*"}, .api_groups = {"apps"}, .resources = {"*"}}};
  CHECK(rules_not_covered(held, {{.verbs = {"get"}, .api_groups = {"", "apps"}, .resources = {"pods"}}})
            .empty());
  const auto missing = rules_not_covered(
      held, {{.verbs = {"get", "list", "delete"}, .api_groups = {""}, .resources = {"pods"}},
             {.verbs = {"get"}, .non_resource_urls = {"/x"}}});
  REQUIRE(missing.size() == 2);
  CHECK(rule_text(missing[0]) == "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"delete\"]}");
  CHECK(rule_text(missing[1]) == "{NonResourceURLs:[\"/x\"], Verbs:[\"get\"]}");
  CHECK(rules_not_covered(
            {{.verbs = {"*"}, .api_groups = {"*"}, .resources = {"*"}}},
            {{.verbs = {"get"}, .api_groups = {"x"}, .resources = {"a/b"}, .resource_names = {"n"}}})
            .empty());
}

TEST_CASE("upstream's default roles are there") {
  std::size_t roles = 0, bindings = 0;
  std::set<std::string> names;
  for (const json::value& object : api::rbac::default_objects()) {
    const std::string kind = string_at(object, "/kind");
    roles += kind == "ClusterRole" ? 1 : 0;
    bindings += kind == "ClusterRoleBinding" ? 1 : 0;
    if (kind == "ClusterRole") names.insert(string_at(object, "/metadata/name"));
  }
  for (const char* name : {"admin", "edit", "view", "cluster-admin", "system:node", "system:discovery",
                           "system:public-info-viewer", "system:basic-user", "system:kube-scheduler",
                           "system:controller:job-controller", "system:service-account-issuer-discovery"}) {
    CHECK_MESSAGE(names.contains(name), name);
  }
  CHECK(roles > 60);
  CHECK(bindings > 35);
}
