// The public TypeRegistry and patch functions: the API rules as a library, without a server.
#include "orchestra/type_registry.hpp"

#include "orchestra/patch.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

TEST_CASE("kinds are found by the words that people type") {
  const orchestra::TypeRegistry& types = orchestra::TypeRegistry::builtin();
  CHECK(types.find_name("deploy")->kind.kind == "Deployment");
  CHECK(types.find_name("ingress")->resource == "ingresses");
  CHECK(types.find_name("widgets") == nullptr);
  CHECK(types.find_kind({"", "v1", "Node"})->namespaced == false);
  CHECK(types.resources().front().kind.group.empty());
}

TEST_CASE("objects are checked and completed without a server") {
  const orchestra::TypeRegistry& types = orchestra::TypeRegistry::builtin();
  const Object pod =
      Object::from_yaml(
          "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop}, spec: {containers: [{name: "
          "a, image: nginx, imagee: x}]}}")
          .value();
  CHECK(types.unknown_fields(pod).value() == std::vector<std::string>{"spec.containers[0].imagee"});
  CHECK(types.with_defaults(pod).value().get("/spec/containers/0/imagePullPolicy") == "Always");
  CHECK(types.validate(pod).has_value());
  const auto bad = types.validate(pod.with("/spec/containers/0/name", "\"A\"").value());
  REQUIRE_FALSE(bad.has_value());
  REQUIRE(bad.error().detail<Status>() != nullptr);
  CHECK(bad.error().detail<Status>()->code == 422);
  CHECK(types.validate(pod.with("/kind", "\"Pot\"").value()).error().is(Error::not_found));
}

TEST_CASE("patches work on text") {
  CHECK(apply_json_patch(R"({"a":1})", R"([{"op":"replace","path":"/a","value":2}])").value() ==
        R"({"a":2})");
  CHECK(apply_merge_patch(R"({"a":1})", R"({"a":null,"b":2})").value() == R"({"b":2})");
  const GroupVersionKind pod{"", "v1", "Pod"};
  CHECK(apply_strategic_merge_patch(pod, R"({"spec":{"containers":[{"name":"a","image":"1"}]}})",
                                    R"({"spec":{"containers":[{"name":"a","image":"2"}]}})")
            .value() == R"({"spec":{"containers":[{"name":"a","image":"2"}]}})");
  CHECK(apply_strategic_merge_patch({"", "v1", "Pot"}, "{}", "{}").error().is(Error::not_found));
  CHECK_FALSE(apply_json_patch("{", "[]").has_value());
}
