// Custom resources in the garbage collector and in the deletion of namespaces, against a real API server.
#include <chrono>

#include "controllers/common/catalog.hpp"
#include "tests/controllers/cluster.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using namespace std::chrono_literals;

namespace {

constexpr const char* kShips = R"(
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ships.sea.example}
spec:
  group: sea.example
  scope: Namespaced
  names: {plural: ships, singular: ship, kind: Ship, listKind: ShipList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: v1
kind: Namespace
metadata: {name: port}
)";

const ResourceRef kShipsRef{"sea.example/v1", "ships"};

Object ship(const std::string& name, const std::string& more = "") {
  return *Object::from_yaml("apiVersion: sea.example/v1\nkind: Ship\nmetadata: {name: " + name +
                            ", namespace: port" + more + "}\n");
}

/// Creates once the server serves the kind.
Object launch(test::Cluster& cluster, const Object& object) {
  Object made;
  REQUIRE(cluster.eventually([&] {
    auto created = cluster.client.create(object).wait(60s);
    if (created) made = *created;
    return created.has_value();
  }));
  return made;
}

std::string owner_of(const Object& owner) {
  return ", ownerReferences: [{apiVersion: " + owner.api_version() + ", kind: " + owner.kind() +
         ", name: " + owner.name() + ", uid: " + owner.uid() + ", blockOwnerDeletion: true}]";
}

bool gone(test::Cluster& cluster, const ResourceRef& resource, const std::string& name) {
  const auto found = cluster.client.get(resource.api_version, resource.resource, name, "port").wait(60s);
  return !found && found.error().is(Error::not_found);
}

}  // namespace

TEST_CASE("dependants of a custom object go with it, and custom dependants with their owner") {
  test::Cluster cluster;
  REQUIRE(cluster.controllers.start());
  cluster.create(kShips);
  const Object first = launch(cluster, ship("first"));
  const Object tender = launch(cluster, ship("tender", owner_of(first)));
  const auto cargo =
      cluster.client
          .create(*Object::from_yaml("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cargo, "
                                     "namespace: port" +
                                     owner_of(tender) + "}\n"))
          .wait(60s);
  REQUIRE(cargo);
  // An owner that is another object under an old name is nobody's owner: background.
  REQUIRE(cluster.client.remove("sea.example/v1", "ships", "first", "port").wait(60s));
  CHECK(cluster.eventually([&] { return gone(cluster, kShipsRef, "tender"); }));
  CHECK(cluster.eventually([&] { return gone(cluster, config_maps(), "cargo"); }));
}

TEST_CASE("foreground deletion of a custom object waits for what blocks it, orphan leaves it") {
  test::Cluster cluster;
  REQUIRE(cluster.controllers.start());
  cluster.create(kShips);
  const Object first = launch(cluster, ship("first"));
  const Object held = launch(cluster, ship("held", ", finalizers: [sea.example/keep]" + owner_of(first)));
  DeleteOptions foreground;
  foreground.propagation = "Foreground";
  REQUIRE(cluster.client.remove("sea.example/v1", "ships", "first", "port", foreground).wait(60s));
  REQUIRE(cluster.eventually([&] {
    const auto now = cluster.client.get("sea.example/v1", "ships", "held", "port").wait(60s);
    return now && now->deleting();
  }));
  CHECK_FALSE(gone(cluster, kShipsRef, "first"));
  REQUIRE(cluster.patch(kShipsRef, "port", "held", R"({"metadata":{"finalizers":null}})"));
  CHECK(cluster.eventually(
      [&] { return gone(cluster, kShipsRef, "first") && gone(cluster, kShipsRef, "held"); }));

  const Object second = launch(cluster, ship("second"));
  launch(cluster, ship("stays", owner_of(second)));
  DeleteOptions orphan;
  orphan.propagation = "Orphan";
  REQUIRE(cluster.client.remove("sea.example/v1", "ships", "second", "port", orphan).wait(60s));
  CHECK(cluster.eventually([&] { return gone(cluster, kShipsRef, "second"); }));
  const auto left = cluster.client.get("sea.example/v1", "ships", "stays", "port").wait(60s);
  REQUIRE(left);
  CHECK(left->owners().empty());
}

TEST_CASE("a namespace goes only after its custom objects, and its conditions name those that stay") {
  test::Cluster cluster;
  REQUIRE(cluster.controllers.start());
  cluster.create(kShips);
  // A definition takes some milliseconds to reach the controllers (docs/status.md): one of its objects that
  // they have collected shows that it has.
  const Object owner = launch(cluster, ship("owner"));
  launch(cluster, ship("owned", owner_of(owner)));
  REQUIRE(cluster.client.remove("sea.example/v1", "ships", "owner", "port").wait(60s));
  REQUIRE(cluster.eventually([&] { return gone(cluster, kShipsRef, "owned"); }));
  REQUIRE(cluster.eventually([&] { return cluster.controllers.idle(); }));
  launch(cluster, ship("light"));
  launch(cluster, ship("moored", ", finalizers: [sea.example/keep]"));
  REQUIRE(cluster.client.remove("v1", "namespaces", "port").wait(60s));
  REQUIRE(cluster.eventually([&] { return gone(cluster, kShipsRef, "light"); }));
  std::string remaining;
  REQUIRE(cluster.eventually([&] {
    const auto now = cluster.client.get("v1", "namespaces", "port").wait(60s);
    const json::object* condition = now ? find_condition(tree(*now), "NamespaceContentRemaining") : nullptr;
    remaining = condition == nullptr ? "" : string_at(*condition, "/message");
    return remaining == "Some resources are remaining: ships.sea.example has 1 resource instances";
  }));
  REQUIRE(cluster.patch(kShipsRef, "port", "moored", R"({"metadata":{"finalizers":null}})"));
  CHECK(cluster.eventually([&] { return !cluster.client.get("v1", "namespaces", "port").wait(60s); }));
}

TEST_CASE("a definition that goes and comes again wedges nothing") {
  test::Cluster cluster;
  REQUIRE(cluster.controllers.start());
  cluster.create(kShips);
  launch(cluster, ship("first"));
  REQUIRE(cluster.client.remove("apiextensions.k8s.io/v1", "customresourcedefinitions", "ships.sea.example")
              .wait(60s));
  REQUIRE(cluster.eventually([&] {
    return !cluster.client.get("apiextensions.k8s.io/v1", "customresourcedefinitions", "ships.sea.example")
                .wait(60s);
  }));
  CHECK(cluster.eventually([&] { return cluster.controllers.idle(); }));
  const std::string all = kShips;
  cluster.create(all.substr(0, all.find("---")));
  const Object owner = launch(cluster, ship("owner"));
  launch(cluster, ship("owned", owner_of(owner)));
  REQUIRE(cluster.client.remove("sea.example/v1", "ships", "owner", "port").wait(60s));
  CHECK(cluster.eventually([&] { return gone(cluster, kShipsRef, "owned"); }));
}

TEST_CASE("the catalog of definitions: established ones, in the version that is stored") {
  const auto definition = [](const std::string& more) {
    return *Object::from_yaml(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        "metadata: {name: a.b}\nspec: {group: b, scope: Cluster, names: {plural: a, kind: A}, "
        "versions: [{name: v1, served: true}, {name: v2, served: true, storage: true}, {name: v3}]}\n" +
        more);
  };
  CHECK(custom_catalog({definition("")}).empty());
  CHECK(custom_catalog({definition("status: {conditions: [{type: Established, status: \"False\"}]}\n")})
            .empty());
  const auto known =
      custom_catalog({definition("status: {conditions: [{type: Established, status: \"True\"}]}\n")});
  REQUIRE(known.size() == 1);
  CHECK(known[0].ref.text() == "b/v2/a");
  CHECK(known[0].kind == "A");
  CHECK_FALSE(known[0].namespaced);
  CHECK(custom_catalog({*Object::from_yaml("apiVersion: x/v1\nkind: Y\nmetadata: {name: z}\n")}).empty());
}
