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

TEST_CASE("audit annotations of a policy are checked when it is written") {
  Served served;
  const auto refused = [&](const std::string& annotations) {
    return served.try_make(served.admin,
                           policy("noted", kDeployments + "  auditAnnotations: " + annotations + "\n"));
  };
  CHECK(refused("[{key: 'a b', valueExpression: \"'x'\"}]")
            .find("spec.auditAnnotations[0].key: Invalid value: "
                  "\"noted/a b\": name part") != std::string::npos);
  CHECK(
      refused("[{key: a, valueExpression: ' '}]")
          .find(
              "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified") !=
      std::string::npos);
  CHECK(refused("[{key: a, valueExpression: \"'x'\"}, {key: a, valueExpression: \"'y'\"}]")
            .find("spec.auditAnnotations[1].key: Duplicate value: \"a\"") != std::string::npos);
  CHECK(
      refused("[{key: a, valueExpression: 'object.'}]")
          .find("spec.auditAnnotations[0].valueExpression: Invalid value: \"object.\": compilation failed") !=
      std::string::npos);
  CHECK(refused("[]").find(
            "spec.auditAnnotations: Required value: validations or auditAnnotations must contain "
            "at least one item") != std::string::npos);
  CHECK(refused("[{key: a, valueExpression: \"'x'\"}]") == "ok");
}

TEST_CASE("expressions that ask for fields that no type of the policy has are told in its status") {
  Served served;
  const Object made = served.make(policy(
      "typo", kDeployments +
                  "  paramKind: {apiVersion: v1, kind: ConfigMap}\n"
                  "  variables: [{name: containers, expression: object.spec.template.spec.containers}]\n"
                  "  validations:\n"
                  "  - {expression: 'object.spec.replica > 1'}\n"
                  "  - {expression: 'object.metadata.labels.app == params.data.app'}\n"
                  "  - {expression: 'variables.containers.all(c, c.imag != \"\")'}\n"
                  "  - {expression: 'object.spec.replicas > 1', messageExpression: "
                  "'string(params.datum)'}\n"));
  CHECK(made.get_int("/status/observedGeneration") == 1);
  CHECK(made.get("/status/typeChecking/expressionWarnings/0/fieldRef") == "spec.validations[0].expression");
  CHECK(made.get("/status/typeChecking/expressionWarnings/0/warning").value_or("none") ==
        "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'\n");
  CHECK(made.get("/status/typeChecking/expressionWarnings/1/fieldRef") == "spec.validations[2].expression");
  CHECK(made.get("/status/typeChecking/expressionWarnings/2/fieldRef") ==
        "spec.validations[3].messageExpression");
  CHECK_FALSE(made.get("/status/typeChecking/expressionWarnings/3"));
  // Mended, nothing is left to say.
  const auto mended = served.admin
                          .patch("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "typo", "",
                                 PatchType::merge, R"({"spec":{"validations":[{"expression":"true"}]}})")
                          .wait(30s);
  REQUIRE(mended);
  CHECK(mended->get_int("/status/observedGeneration") == 2);
  CHECK(mended->get("/status/typeChecking") == "{}");
}

TEST_CASE(
    "every policy is asked, the first refusal is told; what is not configured fails as the policy says") {
  Served served;
  served.make(policy("a-warns", kDeployments +
                                    "  validations: [{expression: 'object.spec.replicas < 3', message: "
                                    "rather few}]\n"));
  served.make(policy("b-denies", kDeployments +
                                     "  validations: [{expression: 'object.spec.replicas < 5', message: "
                                     "too many}]\n"));
  served.make(policy("c-lacks", kDeployments + "  failurePolicy: Ignore\n  paramKind: {apiVersion: v1, kind: "
                                               "ConfigMap}\n  validations: [{expression: 'false'}]\n"));
  served.make(binding("a", "{policyName: a-warns, validationActions: [Warn]}"));
  served.make(binding("b", "{policyName: b-denies, validationActions: [Deny, Audit]}"));
  served.make(binding("c",
                      "{policyName: c-lacks, validationActions: [Deny], paramRef: {name: none, namespace: "
                      "default, parameterNotFoundAction: Deny}}"));
  CHECK(served.try_make(served.admin, deployment("many", 9)) ==
        "422 deployments.apps \"many\" is forbidden: ValidatingAdmissionPolicy 'b-denies' with binding 'b' "
        "denied "
        "request: too many");
  CHECK(served.try_make(served.admin, deployment("some", 4)) == "ok");
}

TEST_CASE("a policy is shown who owns the fields of what an update makes") {
  Served served;
  REQUIRE(served.try_make(served.admin, deployment("a", 1)) == "ok");
  const std::string updates =
      "  matchConstraints: {resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], "
      "resources: [deployments]}]}\n";
  const auto scaled = [&](int replicas) {
    return served.admin
        .patch("apps/v1", "deployments", "a", "default", PatchType::merge,
               R"({"spec":{"replicas":)" + std::to_string(replicas) + "}}")
        .wait(30s)
        .has_value();
  };
  served.make(policy("owned", updates +
                                  "  validations: [{expression: 'object.metadata.managedFields.exists(m, "
                                  "m.manager == \"orchestra\" && has(m.fieldsV1))'}]\n"));
  served.make(binding("owned", "{policyName: owned, validationActions: [Deny]}"));
  CHECK(scaled(2));
  served.make(policy("strange", updates +
                                    "  validations: [{expression: '!object.metadata.managedFields.exists(m, "
                                    "m.manager == \"orchestra\")'}]\n"));
  served.make(binding("strange", "{policyName: strange, validationActions: [Deny]}"));
  CHECK_FALSE(scaled(3));
}
