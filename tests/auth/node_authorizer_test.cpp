// What a node may reach, rule by rule, without a server.
#include "api/rbac/node_authorizer.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;

namespace {
json::value tree_of_yaml(const std::string& yaml) {
  auto object = Object::from_yaml(yaml);
  REQUIRE_MESSAGE(object, yaml);
  return parse_json(object->json()).value();
}

struct Nodes {
  api::NodeAuthorizer nodes;
  int loads = 0;
  void pod(const std::string& name, const std::string& node, const std::string& spec,
           const std::string& annotations = "{}") {
    const json::value pod =
        tree_of_yaml("apiVersion: v1\nkind: Pod\nmetadata: {name: " + name +
                     ", namespace: shop, annotations: " + annotations + "}\nspec: " + spec + "\n");
    nodes.put_pod("shop", name, node, [this, pod] {
      ++loads;
      return std::optional(pod);
    });
  }
  /// NODE VERB [GROUP:]RESOURCE[/SUB] NS NAME [SELECTOR], "-" for empty: "yes", or the reason.
  std::string ask(const std::string& text) {
    std::istringstream words(text);
    AccessRequest request;
    std::string node, resource;
    words >> node >> request.verb >> resource >> request.ns >> request.name >> request.field_selector;
    for (std::string* part : {&request.ns, &request.name}) {
      if (*part == "-") part->clear();
    }
    request.user = "system:node:" + node;
    request.groups = {"system:nodes", "system:authenticated"};
    if (const std::size_t colon = resource.find(':'); colon != std::string::npos) {
      request.api_group = resource.substr(0, colon);
      resource.erase(0, colon + 1);
    }
    const std::size_t slash = resource.find('/');
    request.resource = resource.substr(0, slash);
    if (slash != std::string::npos) request.subresource = resource.substr(slash + 1);
    const AccessDecision decision = nodes.decide(request);
    return decision.allowed ? "yes" : decision.reason;
  }
};
const std::string kNone = "no relationship found between node 'n1' and this object";
}  // namespace

TEST_CASE("a node reads what its pods name, and nothing else of that kind") {
  Nodes world;
  world.pod(
      "web", "n1",
      "{serviceAccountName: web, imagePullSecrets: [{name: pull}],"
      " containers: [{name: c, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: env, key: k}}},"
      " {name: B, valueFrom: {configMapKeyRef: {name: env-map, key: k}}}],"
      " envFrom: [{secretRef: {name: from}}, {configMapRef: {name: from-map}}]}],"
      " initContainers: [{name: i, image: i, envFrom: [{secretRef: {name: init}}]}],"
      " volumes: [{name: a, secret: {secretName: vol}}, {name: b, configMap: {name: vol-map}},"
      " {name: c, projected: {sources: [{secret: {name: proj}}, {configMap: {name: proj-map}}]}},"
      " {name: d, persistentVolumeClaim: {claimName: data}}, {name: e, ephemeral: {}},"
      " {name: f, csi: {driver: d, nodePublishSecretRef: {name: csi}}}]}");
  for (const char* secret : {"pull", "env", "from", "init", "vol", "proj", "csi"}) {
    CHECK_MESSAGE(world.ask(std::string("n1 get secrets shop ") + secret) == "yes", secret);
    CHECK_MESSAGE(world.ask(std::string("n2 get secrets shop ") + secret) != "yes", secret);
    CHECK_MESSAGE(world.ask(std::string("n1 get secrets other ") + secret) == kNone, secret);
    CHECK_MESSAGE(world.ask(std::string("n1 get configmaps shop ") + secret) == kNone, secret);
  }
  for (const char* map : {"env-map", "from-map", "vol-map", "proj-map"})
    CHECK_MESSAGE(world.ask(std::string("n1 watch configmaps shop ") + map) == "yes", map);
  for (const char* claim : {"data", "web-e"})
    CHECK_MESSAGE(world.ask(std::string("n1 get persistentvolumeclaims shop ") + claim) == "yes", claim);
  CHECK(world.ask("n1 get secrets shop other") == kNone);
  CHECK(world.ask("n1 list secrets shop -") == "No Object name found");
  CHECK(world.ask("n1 list secrets - -") == "can only read namespaced object of this type");
  CHECK(world.ask("n1 update secrets shop env") == "can only read resources of this type");
  CHECK(world.ask("n1 list persistentvolumeclaims shop data") ==
        "can only get individual resources of this type");
  CHECK(world.ask("n1 update persistentvolumeclaims/status shop data") == "yes");
  CHECK(world.ask("n1 create serviceaccounts/token shop web") == "yes");
  CHECK(world.ask("n2 create serviceaccounts/token shop web") ==
        "no relationship found between node 'n2' and this object");
  CHECK(world.ask("n1 get serviceaccounts shop web") ==
        "can only create tokens for individual service accounts");
  // The pod goes, and with it everything.
  world.nodes.remove_pod("shop", "web");
  CHECK(world.ask("n1 get secrets shop env") == kNone);
  CHECK(world.ask("n1 get pods shop web") == kNone);
}

TEST_CASE("a volume and its secrets are the node's where its claim is") {
  Nodes world;
  world.pod("web", "n1", "{volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]}");
  const auto volume = [](const std::string& name, const std::string& claim) {
    return tree_of_yaml(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: " + name +
        "}\nspec: {claimRef: {namespace: shop, name: " + claim +
        "}, csi: {driver: d, volumeHandle: h, nodeStageSecretRef: {name: stage, namespace: kube}, "
        "controllerExpandSecretRef: {name: expand, namespace: kube}}}\n");
  };
  world.nodes.put_volume(volume("v1", "data"));
  world.nodes.put_volume(volume("v2", "elsewhere"));
  CHECK(world.ask("n1 get persistentvolumes - v1") == "yes");
  CHECK(world.ask("n1 get persistentvolumes - v2") == kNone);
  CHECK(world.ask("n2 get persistentvolumes - v1") != "yes");
  CHECK(world.ask("n1 get secrets kube stage") == "yes");
  CHECK(world.ask("n1 get secrets kube expand") == kNone);  // the controller's
  world.nodes.remove_volume("v1");
  CHECK(world.ask("n1 get secrets kube stage") == kNone);
  world.nodes.put_attachment("at", "n1");
  CHECK(world.ask("n1 get storage.k8s.io:volumeattachments - at") == "yes");
  CHECK(world.ask("n2 get storage.k8s.io:volumeattachments - at") != "yes");
}

TEST_CASE("a mirror pod, which a node makes itself, opens nothing") {
  Nodes world;
  world.pod("static-n1", "n1", "{volumes: [{name: a, secret: {secretName: loot}}]}",
            "{kubernetes.io/config.mirror: x}");
  CHECK(world.ask("n1 get pods shop static-n1") == "yes");
  CHECK(world.ask("n1 get secrets shop loot") == kNone);
}

TEST_CASE("a node reads its own Node and its own pods") {
  Nodes world;
  world.pod("web", "n1", "{}");
  CHECK(world.ask("n1 get nodes - n1") == "yes");
  CHECK(world.ask("n1 get nodes - n2") == "node 'n1' cannot read 'n2', only its own Node object");
  CHECK(world.ask("n1 list nodes - -") == "node 'n1' cannot read all nodes, only its own Node object");
  CHECK(world.ask("n1 patch nodes/status - n1") == "yes");
  CHECK(world.ask("n1 delete nodes - n1") == "");
  CHECK(world.ask("n1 get pods shop web") == "yes");
  CHECK(world.ask("n2 get pods shop web") == "no relationship found between node 'n2' and this object");
  CHECK(world.ask("n1 watch pods - - spec.nodeName=n1") == "yes");
  CHECK(world.ask("n1 watch pods - - status.phase=Running,spec.nodeName=n1") == "yes");
  CHECK(world.ask("n1 watch pods - - spec.nodeName!=n1") ==
        "can only list/watch pods with spec.nodeName field selector");
  CHECK(world.ask("n1 list pods - -") == "can only list/watch pods with spec.nodeName field selector");
  CHECK(world.ask("n1 list pods - - spec.nodeName=n2") ==
        "can only list/watch pods with spec.nodeName field selector");
  CHECK(world.ask("n1 create pods/eviction shop web") == "yes");
  CHECK(world.ask("n1 create pods/exec shop web") == "");
}

TEST_CASE("leases and CSINodes by name, the rest by the static rules") {
  Nodes world;
  CHECK(world.ask("n1 update coordination.k8s.io:leases kube-node-lease n1") == "yes");
  CHECK(world.ask("n1 create coordination.k8s.io:leases kube-node-lease -") == "yes");
  CHECK(world.ask("n1 update coordination.k8s.io:leases kube-node-lease n2") ==
        "can only access node lease with the same name as the requesting node");
  CHECK(world.ask("n1 get coordination.k8s.io:leases default n1") ==
        "can only access leases in the \"kube-node-lease\" system namespace");
  CHECK(world.ask("n1 get storage.k8s.io:csinodes - n1") == "yes");
  CHECK(world.ask("n1 get storage.k8s.io:csinodes - n2") != "yes");
  CHECK(world.ask("n1 list services - -") == "yes");
  CHECK(world.ask("n1 create certificates.k8s.io:certificatesigningrequests - x") == "yes");
  CHECK(world.ask("n1 delete services shop web") == "");
  CHECK(world.ask("n1 get apps:deployments shop web") == "");
}

TEST_CASE("pods are read when a node of theirs asks, once for each version") {
  Nodes world;
  world.pod("a", "n1", "{imagePullSecrets: [{name: x}]}");
  world.pod("b", "n2", "{imagePullSecrets: [{name: y}]}");
  CHECK(world.loads == 0);
  CHECK(world.ask("n1 get secrets shop x") == "yes");
  CHECK(world.ask("n1 get secrets shop y") == kNone);
  CHECK(world.loads == 1);
  world.pod("a", "n1", "{imagePullSecrets: [{name: z}]}");
  CHECK(world.ask("n1 get secrets shop z") == "yes");
  CHECK(world.ask("n1 get secrets shop x") == kNone);
  CHECK(world.loads == 2);
}

TEST_CASE("only system:node:NAME of system:nodes is a node") {
  CHECK(api::node_of_user("system:node:n1", {"system:nodes"}) == "n1");
  CHECK_FALSE(api::node_of_user("system:node:n1", {"system:authenticated"}));
  CHECK_FALSE(api::node_of_user("jane", {"system:nodes"}));
  CHECK(api::node_of_user("system:node:", {"system:nodes"}) == "");
}
