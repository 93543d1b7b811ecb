// ValidatingAdmissionPolicy through the whole pipeline: match, params, actions, failures.
#include "tests/auth/served.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {
const std::string kApi = "apiVersion: admissionregistration.k8s.io/v1\n";
std::string policy(const std::string& name, const std::string& spec) {
  return kApi + "kind: ValidatingAdmissionPolicy\nmetadata: {name: " + name + "}\nspec:\n" + spec;
}
std::string binding(const std::string& name, const std::string& spec) {
  return kApi + "kind: ValidatingAdmissionPolicyBinding\nmetadata: {name: " + name + "}\nspec: " + spec +
         "\n";
}
const std::string kDeployments =
    "  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, "
    "UPDATE], "
    "resources: [deployments]}]}\n";
std::string deployment(const std::string& name, int replicas, const std::string& ns = "default") {
  return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + ", namespace: " + ns +
         "}\nspec: {replicas: " + std::to_string(replicas) +
         ", selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: "
         "[{name: c, image: x}]}}}\n";
}
}  // namespace

TEST_CASE("a policy with a binding denies what its expressions refuse, in upstream's words") {
  Served served;
  served.make(policy("few", kDeployments +
                                "  variables: [{name: count, expression: object.spec.replicas}]\n"
                                "  validations: [{expression: variables.count <= 5, messageExpression: "
                                "\"'no more than 5, not ' + string(variables.count)\"}]\n"));
  // Without a binding nothing is asked.
  CHECK(served.try_make(served.admin, deployment("a", 9)) == "ok");
  served.make(binding("few-all", "{policyName: few, validationActions: [Deny]}"));
  CHECK(served.try_make(served.admin, deployment("b", 9)) ==
        "422 deployments.apps \"b\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few-all' "
        "denied "
        "request: no more than 5, not 9");
  CHECK(served.try_make(served.admin, deployment("b", 5)) == "ok");
  auto patched =
      served.admin
          .patch("apps/v1", "deployments", "b", "default", PatchType::merge, R"({"spec":{"replicas":6}})")
          .wait(30s);
  CHECK_FALSE(patched);
  CHECK(served.admin.remove("apps/v1", "deployments", "b", "default").wait(30s));
}

TEST_CASE("bindings narrow by namespace, parameters come from objects, a missing one denies") {
  Served served;
  served.make("apiVersion: v1\nkind: Namespace\nmetadata: {name: prod, labels: {env: prod}}\n");
  served.make(policy("limit", kDeployments + "  paramKind: {apiVersion: v1, kind: ConfigMap}\n"
                                             "  validations: [{expression: 'object.spec.replicas <= "
                                             "int(params.data.max)', reason: Forbidden}]\n"));
  served.make(binding(
      "prod",
      "{policyName: limit, validationActions: [Deny], paramRef: {name: limits, namespace: default, "
      "parameterNotFoundAction: Deny}, matchResources: {namespaceSelector: {matchLabels: {env: prod}}}}"));
  CHECK(served.try_make(served.admin, deployment("a", 9)) == "ok");
  CHECK(
      served.try_make(served.admin, deployment("a", 1, "prod")).find("no params found for policy binding") !=
      std::string::npos);
  served.make(
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: limits, namespace: default}\ndata: {max: '2'}\n");
  CHECK(served.try_make(served.admin, deployment("a", 2, "prod")) == "ok");
  CHECK(served.try_make(served.admin, deployment("b", 3, "prod"))
            .starts_with("403 deployments.apps \"b\" is forbidden: "));
}

TEST_CASE(
    "an expression that fails denies, or is passed over as the policy says; one that does not compile is "
    "refused") {
  Served served;
  served.make(policy("broken", kDeployments + "  validations: [{expression: 'object.spec.nothing == 1'}]\n"));
  served.make(binding("broken", "{policyName: broken, validationActions: [Deny]}"));
  CHECK(served.try_make(served.admin, deployment("a", 1)).find("resulted in error: no such key: nothing") !=
        std::string::npos);
  REQUIRE(served.admin
              .patch("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "broken", "",
                     PatchType::merge, R"({"spec":{"failurePolicy":"Ignore"}})")
              .wait(30s));
  CHECK(served.try_make(served.admin, deployment("a", 1)) == "ok");
  CHECK(
      served
          .try_make(served.admin, policy("bad", kDeployments + "  validations: [{expression: 'object.'}]\n"))
          .find("compilation failed: ERROR: <input>:1:8") != std::string::npos);
}
