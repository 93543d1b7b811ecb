// Object: canonical bytes, header, pointers, copies with changes.
#include "orchestra/object.hpp"

#include "api/object_tree.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {
constexpr const char* kPod = R"(
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  uid: u-1
  resourceVersion: "7"
  generation: 3
  labels: {app: web}
  annotations: {note: hello}
  finalizers: [a/b]
  ownerReferences:
  - {apiVersion: apps/v1, kind: ReplicaSet, name: rs, uid: u-0, controller: true}
spec:
  containers:
  - name: main
    image: busybox
  hostNetwork: true
)";
}

TEST_CASE("an object's header is read from its text") {
  const Object pod = Object::from_yaml(kPod).value();
  CHECK(pod.api_version() == "v1");
  CHECK(pod.kind() == "Pod");
  CHECK(pod.name() == "web");
  CHECK(pod.ns() == "shop");
  CHECK(pod.uid() == "u-1");
  CHECK(pod.resource_version() == "7");
  CHECK(pod.generation() == 3);
  CHECK(pod.labels().at("app") == "web");
  CHECK(pod.annotations().at("note") == "hello");
  CHECK(pod.finalizers().at(0) == "a/b");
  CHECK_FALSE(pod.deleting());
  REQUIRE(pod.controller() != nullptr);
  CHECK(pod.controller()->name == "rs");
  CHECK(pod.get("/spec/containers/0/image") == "busybox");
  CHECK(pod.get("/spec/containers/1") == std::nullopt);
  CHECK(pod.get_bool("/spec/hostNetwork") == true);
  CHECK(pod.get_int("/metadata/generation") == 3);
}

TEST_CASE("with() changes a copy and makes parents") {
  const Object pod = Object::from_yaml(kPod).value();
  const Object changed =
      pod.with("/metadata/labels/tier", "\"front\"").value().with("/status/phase", "\"Running\"").value();
  CHECK(changed.labels().at("tier") == "front");
  CHECK(changed.get("/status/phase") == "Running");
  CHECK(pod.labels().count("tier") == 0);
  CHECK(Object::from_json(changed.json()).value() == changed);
  CHECK_FALSE(pod.with("metadata", "1").has_value());
}

TEST_CASE("an empty object answers everything with nothing") {
  const Object none;
  CHECK_FALSE(static_cast<bool>(none));
  CHECK(none.name().empty());
  CHECK(none.json().empty());
  CHECK(tree(none).is_null());
}

TEST_CASE("several documents and lists become several objects") {
  const auto objects = Object::many_from_yaml(
      "apiVersion: v1\nkind: Namespace\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: "
      "Secret}\n- {apiVersion: v1, kind: ConfigMap}\n");
  REQUIRE(objects.has_value());
  REQUIRE(objects->size() == 3);
  CHECK(objects->at(2).kind() == "ConfigMap");
  CHECK_FALSE(Object::from_yaml("a: 1\n---\nb: 1\n").has_value());
  CHECK_FALSE(Object::from_json("[1]").has_value());
}
