// What the server does to objects before it stores them, beyond defaults.
#include "api/prepare.hpp"

#include "api/meta.hpp"
#include "tests/api/support.hpp"

using namespace orchestra;
using namespace orchestra::api;

namespace {
std::string qos(std::string_view resources) {
  const json::value pod =
      test::from_yaml("spec: {containers: [{name: a, resources: " + std::string(resources) + "}]}");
  return pod_qos_class(pod.get_object());
}
}  // namespace

TEST_CASE("the class of service follows from requests and limits") {
  CHECK(qos("{}") == "BestEffort");
  CHECK(qos("{requests: {cpu: 100m}}") == "Burstable");
  CHECK(qos("{requests: {cpu: '1', memory: 1Gi}, limits: {cpu: 1000m, memory: 1024Mi}}") == "Guaranteed");
  CHECK(qos("{requests: {cpu: '1'}, limits: {cpu: '1'}}") == "Burstable");
  CHECK(qos("{requests: {cpu: 500m, memory: 1Gi}, limits: {cpu: '1', memory: 1Gi}}") == "Burstable");
  CHECK(qos("{limits: {ephemeral-storage: 1Gi}}") == "BestEffort");
}

TEST_CASE("the resources of a pod as a whole decide its class of service") {
  const json::value pod = test::from_yaml(
      "spec: {resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 1, memory: 1Gi}}, "
      "containers: [{name: a}]}");
  CHECK(std::string_view(pod_qos_class(pod.get_object())) == "Burstable");  // numbers are no quantities here
  const json::value texts = test::from_yaml(
      "spec: {resources: {requests: {cpu: '1', memory: 1Gi}, limits: {cpu: '1', memory: 1Gi}}, "
      "containers: [{name: a}]}");
  CHECK(std::string_view(pod_qos_class(texts.get_object())) == "Guaranteed");
}

TEST_CASE("keys of labels become requirements of a pod's selectors when it is created") {
  json::value pod = test::from_yaml(R"(
metadata: {labels: {app: web, hash: x}}
spec:
  topologySpreadConstraints: [{labelSelector: {matchLabels: {app: web}}, matchLabelKeys: [hash, gone]}]
  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}, mismatchLabelKeys: [hash]}]
      preferredDuringSchedulingIgnoredDuringExecution: [{podAffinityTerm: {matchLabelKeys: [hash]}}]
)");
  prepare_pod(pod.get_object());
  CHECK(to_json(pod.at_pointer("/spec/topologySpreadConstraints/0/labelSelector/matchExpressions")) ==
        R"([{"key":"hash","operator":"In","values":["x"]}])");
  CHECK(
      to_json(pod.at_pointer("/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/"
                             "0/labelSelector")) ==
      R"({"matchExpressions":[{"key":"hash","operator":"NotIn","values":["x"]}]})");
  // Without a selector nothing is selected, and it stays so.
  CHECK_FALSE(
      pod.at_pointer("/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/"
                     "podAffinityTerm")
          .as_object()
          .contains("labelSelector"));
}

TEST_CASE("a claim says its source in both fields, and only sources of the old field in it") {
  json::value old_way = test::from_yaml("spec: {dataSource: {kind: PersistentVolumeClaim, name: a}}");
  prepare_claim_create(old_way.get_object());
  CHECK(to_json(old_way.at_pointer("/spec/dataSourceRef")) ==
        R"({"kind":"PersistentVolumeClaim","name":"a"})");
  json::value new_way = test::from_yaml("spec: {dataSourceRef: {apiGroup: example.com, kind: Any, name: a}}");
  prepare_claim_create(new_way.get_object());
  CHECK(string_at(new_way, "/spec/dataSource/kind") == "Any");
  json::value elsewhere =
      test::from_yaml("spec: {dataSourceRef: {kind: PersistentVolumeClaim, name: a, namespace: other}}");
  prepare_claim_create(elsewhere.get_object());
  CHECK_FALSE(elsewhere.at("spec").as_object().contains("dataSource"));
  json::value wrong = test::from_yaml("spec: {dataSource: {kind: Pod, name: a}}");
  prepare_claim_create(wrong.get_object());
  CHECK(wrong.at("spec").as_object().empty());
}

TEST_CASE("a namespace gets its label and finalizer, and keeps them on update") {
  json::value made = test::from_yaml("metadata: {name: shop}");
  prepare_namespace_create(made.get_object());
  CHECK(string_at(made, "/metadata/labels/kubernetes.io~1metadata.name") == "shop");
  CHECK(string_at(made, "/spec/finalizers/0") == "kubernetes");
  CHECK(string_at(made, "/status/phase") == "Active");
  json::value next = test::from_yaml("metadata: {name: shop}");
  prepare_namespace_update(next.get_object(), made.get_object());
  CHECK(string_at(next, "/spec/finalizers/0") == "kubernetes");
}

TEST_CASE("a job selects its pods by its uid, unless its selector is manual") {
  json::value job = test::from_yaml("metadata: {name: j, uid: u-1}\nspec: {template: {}}");
  prepare_job(job.get_object());
  CHECK(string_at(job, "/spec/selector/matchLabels/batch.kubernetes.io~1controller-uid") == "u-1");
  CHECK(string_at(job, "/spec/template/metadata/labels/batch.kubernetes.io~1job-name") == "j");
  json::value manual = test::from_yaml("metadata: {name: j, uid: u-1}\nspec: {manualSelector: true}");
  prepare_job(manual.get_object());
  CHECK_FALSE(manual.at("spec").as_object().contains("selector"));
}
