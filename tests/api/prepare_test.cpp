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
