// Builtin admission through the whole pipeline: what it fills in, what it refuses and in which words.
#include <thread>

#include "tests/auth/served.hpp"

using namespace orchestra;
using namespace orchestra::test;

namespace {
std::string pod(const std::string& name, const std::string& spec, const std::string& ns = "shop") {
  return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: " + ns + "}\nspec: " + spec +
         "\n";
}
std::string quota(const std::string& name, const std::string& spec) {
  return "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: " + name +
         ", namespace: shop}\nspec: " + spec + "\n";
}
struct Shop : Served {
  Shop() { make("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"); }
  std::string attempt(const std::string& yaml) { return try_make(admin, yaml); }
  std::string evict(const std::string& name) {
    ApiRequest request;
    request.verb = "create";
    request.resource = "pods";
    request.subresource = "eviction";
    request.ns = "shop";
    request.name = name;
    request.body = R"({"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":")" + name + "\"}}";
    auto answer = admin.request(request).wait(30s);
    if (answer) return "ok";
    const Status* status = answer.error().detail<Status>();
    return std::to_string(status->code) + " " + status->json;
  }
  void patch(const std::string& api, const std::string& resource, const std::string& name,
             const std::string& body, const std::string& sub = "") {
    auto done = admin
                    .patch(api, resource, name, resource == "nodes" ? "" : "shop", PatchType::merge, body,
                           {.subresource = sub})
                    .wait(30s);
    REQUIRE_MESSAGE(done, (done ? "" : done.error().to_string()));
  }
};
}  // namespace

TEST_CASE("a new namespace has its account and its CA in the same moment") {
  Shop shop;
  CHECK(shop.admin.get("v1", "serviceaccounts", "default", "shop").wait(30s));
  auto ca = shop.admin.get("v1", "configmaps", "kube-root-ca.crt", "shop").wait(30s);
  REQUIRE(ca);
  CHECK(ca->get("/data/ca.crt") == shop.server.ca_pem());
}

TEST_CASE("pods get a projected token, unless they or their account say no") {
  Shop shop;
  const Object made =
      shop.make(pod("a", "{initContainers: [{name: i, image: x}], containers: [{name: c, image: x}]}"));
  CHECK(made.get("/spec/volumes/0/name")->starts_with("kube-api-access-"));
  CHECK(made.get_int("/spec/volumes/0/projected/sources/0/serviceAccountToken/expirationSeconds") == 3607);
  CHECK(made.get("/spec/volumes/0/projected/sources/1/configMap/name") == "kube-root-ca.crt");
  CHECK(made.get("/spec/containers/0/volumeMounts/0/mountPath") ==
        "/var/run/secrets/kubernetes.io/serviceaccount");
  CHECK(made.get("/spec/initContainers/0/volumeMounts/0/readOnly") == "true");
  CHECK_FALSE(shop.make(pod("b", "{automountServiceAccountToken: false, containers: [{name: c, image: x}]}"))
                  .get("/spec/volumes"));
  shop.make(
      "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: quiet, namespace: shop}\n"
      "automountServiceAccountToken: false\nimagePullSecrets: [{name: registry}]\n");
  const Object quiet = shop.make(pod("c", "{serviceAccountName: quiet, containers: [{name: c, image: x}]}"));
  CHECK_FALSE(quiet.get("/spec/volumes"));
  CHECK(quiet.get("/spec/imagePullSecrets/0/name") == "registry");
  CHECK(shop.make(pod("d",
                      "{serviceAccountName: quiet, automountServiceAccountToken: true, containers: [{name: "
                      "c, image: x}]}"))
            .get("/spec/volumes"));
  CHECK(shop.attempt(pod("e", "{serviceAccountName: none, containers: [{name: c, image: x}]}")) ==
        "403 pods \"e\" is forbidden: error looking up service account shop/none: serviceaccount \"none\" "
        "not found");
}

TEST_CASE("a limit range fills in and judges containers, pods and claims") {
  Shop shop;
  shop.make(
      "apiVersion: v1\nkind: LimitRange\nmetadata: {name: l, namespace: shop}\nspec:\n  limits:\n"
      "  - {type: Container, default: {cpu: 500m}, defaultRequest: {cpu: 200m}, min: {cpu: 100m}, max: {cpu: "
      "'1'}, "
      "maxLimitRequestRatio: {cpu: '4'}}\n"
      "  - {type: Pod, max: {cpu: 1500m}}\n"
      "  - {type: PersistentVolumeClaim, min: {storage: 1Gi}, max: {storage: 2Gi}}\n");
  const Object filled = shop.make(pod("a", "{containers: [{name: c, image: x}]}"));
  CHECK(filled.get("/spec/containers/0/resources/requests/cpu") == "200m");
  CHECK(filled.get("/spec/containers/0/resources/limits/cpu") == "500m");
  CHECK(filled.annotations().at("kubernetes.io/limit-ranger") ==
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c");
  const auto with = [](const std::string& request, const std::string& limit) {
    return "{containers: [{name: c, image: x, resources: {requests: {cpu: " + request +
           "}, limits: {cpu: " + limit + "}}}]}";
  };
  CHECK(shop.attempt(pod("b", with("50m", "100m"))) ==
        "403 pods \"b\" is forbidden: minimum cpu usage per Container is 100m, but request is 50m");
  CHECK(shop.attempt(pod("b", with("1", "2"))) ==
        "403 pods \"b\" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, maximum cpu "
        "usage per Pod "
        "is 1500m, but limit is 2]");
  CHECK(shop.attempt(pod("b", with("100m", "1"))) ==
        "403 pods \"b\" is forbidden: cpu max limit to request ratio per Container is 4, but provided ratio "
        "is 10.000000");
  const auto claim = [](const std::string& size) {
    return "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: v, namespace: shop}\nspec: "
           "{accessModes: "
           "[ReadWriteOnce], resources: {requests: {storage: " +
           size + "}}}\n";
  };
  CHECK(shop.attempt(claim("3Gi")) ==
        "403 persistentvolumeclaims \"v\" is forbidden: maximum storage usage per PersistentVolumeClaim is "
        "2Gi, but "
        "request is 3Gi");
  CHECK(shop.attempt(claim("1Gi")) == "ok");
}

TEST_CASE("a quota refuses what does not fit, in upstream's words, and knows what was deleted") {
  Shop shop;
  shop.make(quota("compute", "{hard: {pods: '2', requests.cpu: '1'}}"));
  const auto one = [](const std::string& cpu) {
    return "{containers: [{name: c, image: x, resources: {requests: {cpu: " + cpu + "}}}]}";
  };
  CHECK(shop.attempt(pod("x", "{containers: [{name: c, image: x}]}")) ==
        "403 pods \"x\" is forbidden: failed quota: compute: must specify requests.cpu for: c");
  CHECK(shop.attempt(pod("a", one("600m"))) == "ok");
  CHECK(shop.attempt(pod("b", one("600m"))) ==
        "403 pods \"b\" is forbidden: exceeded quota: compute, requested: requests.cpu=600m, used: "
        "requests.cpu=600m, "
        "limited: requests.cpu=1");
  CHECK(shop.attempt(pod("b", one("100m"))) == "ok");
  CHECK(shop.attempt(pod("c", one("100m"))) ==
        "403 pods \"c\" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=2, limited: "
        "pods=2");
  auto status = shop.admin.get("v1", "resourcequotas", "compute", "shop").wait(30s);
  REQUIRE(status);
  CHECK(status->get("/status/used/pods") == "2");
  CHECK(status->get("/status/used/requests.cpu") == "700m");
  REQUIRE(shop.admin.remove("v1", "pods", "a", "shop").wait(30s));
  CHECK(shop.attempt(pod("c", one("100m"))) == "ok");
  // A dry run is judged and charges nothing.
  REQUIRE(shop.admin.remove("v1", "pods", "c", "shop").wait(30s));
  auto dry = Object::from_yaml(pod("d", one("100m")));
  CHECK(shop.admin.create(*dry, {.dry_run = true}).wait(30s));
  CHECK(shop.attempt(pod("e", one("100m"))) == "ok");
}

TEST_CASE("quotas count objects, services and claims, and follow their scopes") {
  Shop shop;
  shop.make(
      quota("things", "{hard: {count/configmaps: '2', services.nodeports: '1', requests.storage: 2Gi}}"));
  shop.make(quota("best", "{hard: {pods: '1'}, scopes: [BestEffort]}"));
  const auto map = [](const std::string& name) {
    return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: shop}\n";
  };
  CHECK(shop.attempt(map("a")) == "ok");  // kube-root-ca.crt is one
  CHECK(shop.attempt(map("b")).find("requested: count/configmaps=1, used: count/configmaps=2") !=
        std::string::npos);
  const auto service = [](const std::string& name, const std::string& ports) {
    return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name +
           ", namespace: shop}\nspec: {type: NodePort, ports: [" + ports + "]}\n";
  };
  CHECK(shop.attempt(service("two", "{name: a, port: 1}, {name: b, port: 2}")).find("services.nodeports=2") !=
        std::string::npos);
  CHECK(shop.attempt(service("one", "{port: 1}")) == "ok");
  CHECK(shop.attempt(pod("best1", "{containers: [{name: c, image: x}]}")) == "ok");
  CHECK(shop.attempt(pod("best2", "{containers: [{name: c, image: x}]}")).find("exceeded quota: best") !=
        std::string::npos);
  CHECK(shop.attempt(pod("sure", "{containers: [{name: c, image: x, resources: {requests: {cpu: 1m}}}]}")) ==
        "ok");
}

TEST_CASE("twenty writers never exceed a quota") {
  Shop shop;
  shop.make(quota("q", "{hard: {count/secrets: '5'}}"));
  std::vector<Pending<Object>> pending;
  for (int i = 0; i < 20; ++i) {
    auto object = Object::from_yaml("apiVersion: v1\nkind: Secret\nmetadata: {name: s" + std::to_string(i) +
                                    ", namespace: shop}\n");
    pending.push_back(shop.admin.create(*object));
  }
  int made = 0;
  for (auto& one : pending) made += one.wait(60s) ? 1 : 0;
  CHECK(made == 5);
  auto there = shop.admin.list("v1", "secrets", {.ns = "shop"}).wait(30s);
  REQUIRE(there);
  CHECK(there->items.size() == 5);
}

TEST_CASE("an eviction takes from the budget, and a spent budget is a 429 that says so") {
  Shop shop;
  shop.make(
      "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web, namespace: shop}\n"
      "spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}\n");
  for (const char* name : {"a", "b", "c"}) {
    shop.make("apiVersion: v1\nkind: Pod\nmetadata: {name: " + std::string(name) +
              ", namespace: shop, labels: {app: web}}\nspec: {containers: [{name: c, image: x}]}\n");
  }
  const std::string running =
      R"({"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}})";
  for (const char* name : {"a", "b"}) shop.patch("v1", "pods", name, running, "status");
  CHECK(shop.evict("c") == "ok");  // pending: it serves nobody
  CHECK(shop.evict("a").find("is still being processed by the server.") != std::string::npos);
  auto budget = shop.admin.get("policy/v1", "poddisruptionbudgets", "web", "shop").wait(30s);
  REQUIRE(budget);
  shop.patch("policy/v1", "poddisruptionbudgets", "web",
             R"({"status":{"observedGeneration":)" + std::to_string(budget->generation()) +
                 R"(,"disruptionsAllowed":1,"currentHealthy":2,"desiredHealthy":1,"expectedPods":2}})",
             "status");
  CHECK(shop.evict("a") == "ok");
  const std::string refusal = shop.evict("b");
  CHECK(refusal.starts_with("429 "));
  CHECK(refusal.find("Cannot evict pod as it would violate the pod's disruption budget.") !=
        std::string::npos);
  CHECK(refusal.find("\"reason\":\"DisruptionBudget\"") != std::string::npos);
  CHECK(refusal.find("The disruption budget web needs 1 healthy pods and has 2 currently") !=
        std::string::npos);
  budget = shop.admin.get("policy/v1", "poddisruptionbudgets", "web", "shop").wait(30s);
  REQUIRE(budget);
  CHECK(budget->get_int("/status/disruptionsAllowed") == 0);
  CHECK(budget->get("/status/disruptedPods/a"));
}

TEST_CASE("a pod that is evicted says so while it ends: those who count failures know a disruption by it") {
  Shop shop;
  shop.make(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\n"
      "spec: {nodeName: node-a, containers: [{name: c, image: x}]}\n");
  shop.patch("v1", "pods", "a", R"({"status":{"conditions":[{"type":"Ready","status":"True"}]}})", "status");
  CHECK(shop.evict("a") == "ok");
  const auto ending = shop.admin.get("v1", "pods", "a", "shop").wait(30s);
  REQUIRE(ending);
  CHECK(ending->deleting());
  CHECK(ending->get("/status/conditions/0/type") == "Ready");
  CHECK(ending->get("/status/conditions/1/type") == "DisruptionTarget");
  CHECK(ending->get("/status/conditions/1/status") == "True");
  CHECK(ending->get("/status/conditions/1/reason") == "EvictionByEvictionAPI");
  CHECK(ending->get("/status/conditions/1/message") == "Eviction API: evicting");
}

TEST_CASE("new nodes are tainted until they are known to be well") {
  Shop shop;
  const Object node = shop.make("apiVersion: v1\nkind: Node\nmetadata: {name: node-a}\n");
  CHECK(node.get("/spec/taints/0/key") == "node.kubernetes.io/not-ready");
  CHECK(node.get("/spec/taints/0/effect") == "NoSchedule");
}

TEST_CASE("the restricted level refuses with all reasons at once; warn only warns") {
  Shop shop;
  shop.make(
      "apiVersion: v1\nkind: Namespace\nmetadata: {name: strict, labels: "
      "{pod-security.kubernetes.io/enforce: restricted}}\n");
  CHECK(
      shop.attempt(pod(
          "a", "{hostNetwork: true, containers: [{name: c, image: x, securityContext: {privileged: true}}]}",
          "strict")) ==
      "403 pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces "
      "(hostNetwork=true), "
      "privileged (container \"c\" must not set securityContext.privileged=true), allowPrivilegeEscalation "
      "!= false "
      "(container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities "
      "(container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or "
      "container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" "
      "must set "
      "securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")");
  CHECK(shop.attempt(pod(
            "b",
            "{securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: "
            "[{name: c, image: x, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: "
            "[ALL]}}}]}",
            "strict")) == "ok");
  shop.make(
      "apiVersion: v1\nkind: Namespace\nmetadata: {name: soft, labels: {pod-security.kubernetes.io/warn: "
      "baseline}}\n");
  CHECK(shop.attempt(pod("c", "{hostPID: true, containers: [{name: c, image: x}]}", "soft")) == "ok");
}

TEST_CASE("classes that are the default are filled in, the newest wins") {
  Shop shop;
  shop.make(
      "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: a, annotations: "
      "{ingressclass.kubernetes.io/is-default-class: 'true'}}\nspec: {controller: x/y}\n");
  const Object made = shop.make(
      "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i, namespace: shop}\nspec: "
      "{defaultBackend: "
      "{service: {name: s, port: {number: 80}}}}\n");
  CHECK(made.get("/spec/ingressClassName") == "a");
}

TEST_CASE("a claim without a class gets the default one, and says no to it with an empty name") {
  Shop shop;
  const auto storage_class = [&](const std::string& name, const std::string& is_default) {
    shop.make("apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: " + name +
              ", annotations: {storageclass.kubernetes.io/is-default-class: '" + is_default +
              "'}}\nprovisioner: x/y\n");
  };
  const auto claim = [&](const std::string& name, const std::string& more) {
    return shop.make(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: " + name +
        ", namespace: shop}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: "
        "1Gi}}" +
        more + "}\n");
  };
  storage_class("plain", "false");
  CHECK_FALSE(claim("before", "").get("/spec/storageClassName"));
  storage_class("b", "true");
  storage_class("a", "true");  // of the same second: then by name
  CHECK(claim("filled", "").get("/spec/storageClassName") == "a");
  CHECK(claim("named", ", storageClassName: plain").get("/spec/storageClassName") == "plain");
  CHECK(claim("none", ", storageClassName: ''").get("/spec/storageClassName") == "");
}

TEST_CASE("a claim grows when it is bound and its class allows it") {
  Shop shop;
  for (const char* name : {"grows", "stays"}) {
    shop.make(std::string("apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: ") + name +
              "}\nprovisioner: p.example\nallowVolumeExpansion: " + (name[0] == 'g' ? "true" : "false") +
              "\n");
    shop.make(std::string("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: ") + name +
              ", namespace: shop}\nspec: {storageClassName: " + name +
              ", accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n");
  }
  const auto ask = [&](const char* name, const char* size) -> std::string {
    auto done =
        shop.admin
            .patch("v1", "persistentvolumeclaims", name, "shop", PatchType::merge,
                   std::string(R"({"spec":{"resources":{"requests":{"storage":")") + size + R"("}}}})")
            .wait(30s);
    return done ? "ok" : done.error().message();
  };
  CHECK(ask("grows", "2Gi") != "ok");  // not bound
  for (const char* name : {"grows", "stays"}) {
    shop.patch("v1", "persistentvolumeclaims", name,
               R"({"status":{"phase":"Bound","capacity":{"storage":"1Gi"}}})", "status");
  }
  CHECK(ask("grows", "2Gi") == "ok");
  CHECK(ask("stays", "2Gi").find("only dynamically provisioned pvc can be resized") != std::string::npos);
  CHECK(ask("stays", "1Gi") == "ok");
}

TEST_CASE("a RuntimeClass brings overhead, node selector and tolerations, and contradictions are refused") {
  Shop shop;
  shop.make(
      "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: vm}\nhandler: kata\n"
      "overhead: {podFixed: {memory: 64Mi}}\n"
      "scheduling: {nodeSelector: {kind: vm}, tolerations: [{key: vm, operator: Exists}]}\n");
  const std::string containers = "containers: [{name: c, image: x}]";
  const Object made =
      shop.make(pod("a", "{runtimeClassName: vm, nodeSelector: {disk: ssd}, " + containers + "}"));
  CHECK(made.get("/spec/overhead") == R"({"memory":"64Mi"})");
  CHECK(made.get("/spec/nodeSelector") == R"({"disk":"ssd","kind":"vm"})");
  CHECK(made.get("/spec/tolerations")->find(R"({"key":"vm","operator":"Exists"})") != std::string::npos);
  CHECK(shop.attempt(pod("b", "{runtimeClassName: none, " + containers + "}")) ==
        "403 pods \"b\" is forbidden: pod rejected: RuntimeClass \"none\" not found");
  CHECK(shop.attempt(pod("c", "{overhead: {memory: 1Mi}, " + containers + "}"))
            .find("Pod Overhead set without corresponding RuntimeClass") != std::string::npos);
  CHECK(shop.attempt(pod("d", "{runtimeClassName: vm, overhead: {memory: 1Mi}, " + containers + "}"))
            .find("doesn't match RuntimeClass's defined Overhead") != std::string::npos);
  CHECK(shop.attempt(pod("e", "{runtimeClassName: vm, nodeSelector: {kind: metal}, " + containers + "}"))
            .find("runtimeClass.scheduling.nodeSelector[kind]") != std::string::npos);
}
