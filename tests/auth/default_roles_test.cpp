// The default roles against upstream's policy (plugin/pkg/auth/authorizer/rbac/bootstrappolicy: policy.go,
// controller_policy.go, namespace_policy.go): who may do what, and above all what he may not.
//
// Written from upstream's rules as questions, not from our table: a rule that is missing there, too wide, or
// summed up into the wrong role gives another answer here.
#include <algorithm>
#include <set>
#include <sstream>

#include "api/object_tree.hpp"
#include "api/rbac/rules.hpp"
#include "orchestra/rbac_authorizer.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {
/// The default objects, and each role that a test names bound to a user of the same name.
RbacAuthorizer default_rbac(const std::vector<std::string>& roles) {
  RbacAuthorizer rbac;
  for (const json::value& object : api::rbac::default_objects()) REQUIRE(rbac.put(object_from_tree(object)));
  for (const std::string& role : roles) {
    const json::value binding{
        {"apiVersion", "rbac.authorization.k8s.io/v1"},
        {"kind", "ClusterRoleBinding"},
        {"metadata", {{"name", "test:" + role}}},
        {"roleRef", {{"apiGroup", "rbac.authorization.k8s.io"}, {"kind", "ClusterRole"}, {"name", role}}},
        {"subjects",
         json::array{json::object{
             {"kind", "User"}, {"apiGroup", "rbac.authorization.k8s.io"}, {"name", "role:" + role}}}}};
    REQUIRE(rbac.put(object_from_tree(binding)));
  }
  return rbac;
}

/// "VERB GROUP RESOURCE[/SUB] [NAME]" ("-": the empty group), or "VERB /path".
bool may_by_default(const RbacAuthorizer& rbac, const std::string& user, const std::set<std::string>& groups,
                    const std::string& text) {
  std::istringstream words(text);
  AccessRequest request;
  request.user = user;
  request.groups.assign(groups.begin(), groups.end());
  std::string second, resource;
  words >> request.verb >> second;
  if (second.starts_with('/')) {
    request.is_resource = false;
    request.path = second;
    return rbac.decide(request).allowed;
  }
  words >> resource >> request.name;
  if (second != "-") request.api_group = second;
  const std::size_t slash = resource.find('/');
  request.resource = resource.substr(0, slash);
  if (slash != std::string::npos) request.subresource = resource.substr(slash + 1);
  request.ns = "shop";
  return rbac.decide(request).allowed;
}

struct Question {
  const char* role;
  std::vector<const char*> yes, no;
};

const std::vector<Question>& questions() {
  static const std::vector<Question> kAll = {
      {"view",
       {"get - pods", "list - pods/log", "watch apps deployments", "get apps replicasets/scale",
        "get batch jobs/status", "list networking.k8s.io ingresses", "get policy poddisruptionbudgets",
        "list discovery.k8s.io endpointslices", "get - events", "get - namespaces",
        "get - resourcequotas/status", "list autoscaling horizontalpodautoscalers"},
       {"get - secrets", "list - secrets", "create - pods", "get - pods/exec", "create - pods/exec",
        "get - pods/proxy", "get - services/proxy", "impersonate - serviceaccounts",
        "create - serviceaccounts/token", "get - nodes", "list rbac.authorization.k8s.io roles",
        "get storage.k8s.io storageclasses", "delete - configmaps", "get coordination.k8s.io leases"}},
      {"edit",
       {"get - pods", "create - pods", "deletecollection - pods", "create - pods/exec", "get - pods/exec",
        "create - pods/portforward", "create - pods/eviction", "get - secrets", "update - secrets",
        "create - serviceaccounts/token", "impersonate - serviceaccounts", "create - events",
        "patch apps deployments/scale", "delete batch cronjobs", "update networking.k8s.io networkpolicies",
        "create policy poddisruptionbudgets", "update coordination.k8s.io leases",
        "get coordination.k8s.io leases"},
       // Endpoints and slices not since 1.22: CVE-2021-25740.
       {"create - endpoints", "update - endpoints", "create discovery.k8s.io endpointslices",
        "create rbac.authorization.k8s.io roles", "get rbac.authorization.k8s.io roles",
        "update - resourcequotas", "update - limitranges", "update - pods/status", "delete - namespaces",
        "create - bindings", "get - nodes", "create authorization.k8s.io localsubjectaccessreviews",
        "create - persistentvolumes", "update apps deployments/status"}},
      {"admin",
       {"create - pods", "get - secrets", "create rbac.authorization.k8s.io roles",
        "delete rbac.authorization.k8s.io rolebindings",
        "create authorization.k8s.io localsubjectaccessreviews"},
       {"create rbac.authorization.k8s.io clusterroles", "escalate rbac.authorization.k8s.io roles",
        "bind rbac.authorization.k8s.io roles", "update - resourcequotas", "update - namespaces",
        "get - nodes", "create authorization.k8s.io subjectaccessreviews", "impersonate - users",
        "create - endpoints"}},
      {"cluster-admin",
       {"delete - nodes", "escalate rbac.authorization.k8s.io clusterroles", "impersonate - users",
        "get /metrics", "post /anything", "create made.up things/status"},
       {}},
      {"system:auth-delegator",
       {"create authentication.k8s.io tokenreviews", "create authorization.k8s.io subjectaccessreviews"},
       {"create authorization.k8s.io localsubjectaccessreviews", "get - pods"}},
      {"system:basic-user",
       {"create authorization.k8s.io selfsubjectaccessreviews",
        "create authorization.k8s.io selfsubjectrulesreviews",
        "create authentication.k8s.io selfsubjectreviews"},
       {"create authorization.k8s.io subjectaccessreviews", "create authentication.k8s.io tokenreviews"}},
      {"system:discovery",
       {"get /api", "get /api/v1", "get /apis/apps/v1", "get /openapi/v3", "get /version/", "get /livez",
        "get /readyz"},
       {"get /metrics", "get /livez/ping", "post /api", "get /.well-known/openid-configuration", "get /"}},
      {"system:public-info-viewer",
       {"get /healthz", "get /livez", "get /readyz", "get /version"},
       {"get /api", "get /metrics"}},
      {"system:service-account-issuer-discovery",
       {"get /.well-known/openid-configuration", "get /openid/v1/jwks"},
       {"get /openid", "get /version"}},
      {"system:monitoring",
       {"get /metrics", "get /metrics/slis", "get /livez/etcd", "get /readyz/etcd", "get /healthz/ping"},
       {"get /metrics/other", "get /api", "get - nodes"}},
      {"system:kube-scheduler",
       {"create - pods/binding", "update - pods/status", "delete - pods",
        "list storage.k8s.io csistoragecapacities", "update coordination.k8s.io leases kube-scheduler",
        "create coordination.k8s.io leases", "get apps statefulsets", "create events.k8s.io events",
        "get policy poddisruptionbudgets"},
       {"update coordination.k8s.io leases other", "create - pods", "update - pods", "get - secrets",
        "update - nodes", "create - pods/eviction"}},
      {"system:kube-controller-manager",
       {"create - serviceaccounts/token", "list - secrets", "list apps deployments",
        "update - serviceaccounts", "update coordination.k8s.io leases kube-controller-manager"},
       {"get apps deployments", "update apps deployments", "delete - pods",
        "update coordination.k8s.io leases other"}},
      {"system:node",
       {"get - secrets", "create - pods/eviction", "patch - nodes/status", "create - serviceaccounts/token",
        "delete coordination.k8s.io leases", "get storage.k8s.io volumeattachments",
        "list node.k8s.io runtimeclasses", "create certificates.k8s.io certificatesigningrequests"},
       {"update - secrets", "delete - nodes", "update - pods", "create - pods/exec",
        "list - persistentvolumes",
        "approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet"}},
      {"system:node-bootstrapper",
       {"create certificates.k8s.io certificatesigningrequests",
        "watch certificates.k8s.io certificatesigningrequests"},
       {"update certificates.k8s.io certificatesigningrequests/approval", "create - nodes"}},
      {"system:node-proxier",
       {"watch - services", "list - endpoints", "get - nodes", "watch discovery.k8s.io endpointslices",
        "create - events"},
       {"get - services", "update - endpoints", "get - pods"}},
      {"system:kubelet-api-admin",
       {"proxy - nodes", "create - nodes/proxy", "get - nodes/log", "get - nodes/stats", "list - nodes"},
       {"update - nodes", "get - pods"}},
      {"system:controller:namespace-controller",
       {"deletecollection made.up things", "update - namespaces/finalize", "delete - namespaces"},
       {"update made.up things", "create - pods"}},
      {"system:controller:generic-garbage-collector",
       {"delete made.up things", "patch made.up things", "watch - pods"},
       {"create made.up things", "deletecollection - pods"}},
      {"system:controller:clusterrole-aggregation-controller",
       {"escalate rbac.authorization.k8s.io clusterroles", "update rbac.authorization.k8s.io clusterroles"},
       {"create rbac.authorization.k8s.io clusterroles", "update rbac.authorization.k8s.io roles"}},
      {"system:controller:horizontal-pod-autoscaler",
       {"update made.up things/scale", "list metrics.k8s.io pods", "get custom.metrics.k8s.io anything",
        "update autoscaling horizontalpodautoscalers/status"},
       {"update autoscaling horizontalpodautoscalers", "update apps deployments", "get - secrets"}},
      {"system:controller:certificate-controller",
       {"update certificates.k8s.io certificatesigningrequests/approval",
        "approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet",
        "sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client"},
       {"approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client",
        "create certificates.k8s.io certificatesigningrequests"}},
      {"system:controller:job-controller",
       {"create - pods", "update batch jobs/status", "patch - pods"},
       {"create batch jobs", "update - pods", "get - secrets"}},
      {"system:controller:replicaset-controller",
       {"create - pods", "update apps replicasets/status", "update apps replicasets/finalizers"},
       {"create apps replicasets", "update - pods"}},
      {"system:controller:service-account-controller",
       {"create - serviceaccounts"},
       {"delete - serviceaccounts", "get - secrets"}},
  };
  return kAll;
}
}  // namespace

TEST_CASE("default roles allow what upstream's allow, and nothing of what those keep back") {
  std::vector<std::string> roles;
  for (const Question& one : questions()) roles.push_back(one.role);
  const RbacAuthorizer rbac = default_rbac(roles);
  for (const Question& one : questions()) {
    CAPTURE(one.role);
    const std::string user = std::string("role:") + one.role;
    for (const char* text : one.yes) CHECK_MESSAGE(may_by_default(rbac, user, {}, text), text);
    for (const char* text : one.no) CHECK_MESSAGE(!may_by_default(rbac, user, {}, text), text);
  }
}

TEST_CASE("default bindings give each group and component its role, and no more") {
  const RbacAuthorizer rbac = default_rbac({});
  const std::set<std::string> anybody = {"system:authenticated"}, nobody = {"system:unauthenticated"};
  CHECK(may_by_default(rbac, "jane", anybody, "get /api"));
  CHECK(may_by_default(rbac, "jane", anybody, "create authorization.k8s.io selfsubjectaccessreviews"));
  CHECK_FALSE(may_by_default(rbac, "jane", anybody, "get - pods"));
  CHECK_FALSE(may_by_default(rbac, "jane", anybody, "get /openid/v1/jwks"));
  CHECK(may_by_default(rbac, "system:anonymous", nobody, "get /version"));
  CHECK_FALSE(may_by_default(rbac, "system:anonymous", nobody, "get /api"));
  CHECK_FALSE(may_by_default(rbac, "system:anonymous", nobody,
                             "create authorization.k8s.io selfsubjectaccessreviews"));
  CHECK(may_by_default(rbac, "x", {"system:masters"}, "delete - nodes"));
  CHECK(may_by_default(rbac, "x", {"system:serviceaccounts"}, "get /openid/v1/jwks"));
  CHECK(may_by_default(rbac, "x", {"system:monitoring"}, "get /metrics"));
  CHECK(may_by_default(rbac, "system:kube-scheduler", {}, "create - pods/binding"));
  CHECK(may_by_default(rbac, "system:kube-controller-manager", {}, "list - secrets"));
  CHECK(may_by_default(rbac, "system:kube-proxy", {}, "list - services"));
  CHECK_FALSE(may_by_default(rbac, "system:kube-proxy", {}, "get - secrets"));
  // system:node is bound to nobody: the node authorizer decides about nodes.
  CHECK_FALSE(may_by_default(rbac, "system:node:n1", {"system:nodes"}, "get - secrets"));
}

TEST_CASE("every default object carries upstream's label and may be updated by the next version") {
  std::set<std::string> names;
  for (const json::value& object : api::rbac::default_objects()) {
    const std::string name = string_at(object, "/kind") + " " + string_at(object, "/metadata/namespace") +
                             "/" + string_at(object, "/metadata/name");
    CAPTURE(name);
    CHECK(names.insert(name).second);
    if (string_at(object, "/metadata/name").starts_with("kubeadm:"))
      continue;  // what upstream leaves to kubeadm
    CHECK(string_at(object, "/metadata/labels/kubernetes.io~1bootstrapping") == "rbac-defaults");
    CHECK(string_at(object, "/metadata/annotations/rbac.authorization.kubernetes.io~1autoupdate") == "true");
  }
  // Each controller's role is bound to its own account.
  for (const json::value& object : api::rbac::default_objects()) {
    const std::string role = string_at(object, "/metadata/name");
    if (string_at(object, "/kind") != "ClusterRole" || !role.starts_with("system:controller:")) continue;
    CAPTURE(role);
    CHECK(names.contains("ClusterRoleBinding /" + role));
  }
}
