// The controllers against a real API server in one process.
#include <chrono>

#include "tests/controllers/cluster.hpp"

using namespace orchestra;
using namespace orchestra::controllers;
using namespace std::chrono_literals;

namespace {

constexpr const char* kWeb = R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: web:1
        ports: [{name: http, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
)";

std::string progress(test::Cluster& cluster) {
  const Object deployment = cluster.get(deployments(), "shop", "web");
  const json::object* condition = deployment ? find_condition(tree(deployment), "Progressing") : nullptr;
  return condition == nullptr ? "" : string_at(*condition, "/reason");
}

// Complete as `kubectl rollout status` means it.
bool rolled_out(test::Cluster& cluster, std::int64_t replicas) {
  const Object deployment = cluster.get(deployments(), "shop", "web");
  if (!deployment) return false;
  const json::value& root = tree(deployment);
  return int_at(root, "/status/observedGeneration") == deployment.generation() &&
         int_at(root, "/spec/replicas") == replicas && int_at(root, "/status/updatedReplicas") == replicas &&
         int_at(root, "/status/replicas") == replicas &&
         int_at(root, "/status/availableReplicas") == replicas &&
         progress(cluster) == "NewReplicaSetAvailable";
}

bool all_run(test::Cluster& cluster, const std::string& image, std::size_t count) {
  const auto active = cluster.active_pods("shop");
  for (const Object& pod : active) {
    if (string_at(tree(pod), "/spec/containers/0/image") != image) return false;
  }
  return active.size() == count;
}

constexpr const char* kImage2 = R"({"spec":{"template":{"spec":{"containers":[
  {"name":"main","image":"web:2","ports":[{"name":"http","containerPort":8080}]}]}}}})";
constexpr const char* kImage1 = R"({"spec":{"template":{"spec":{"containers":[
  {"name":"main","image":"web:1","ports":[{"name":"http","containerPort":8080}]}]}}}})";

}  // namespace

TEST_CASE("a deployment becomes pods, rolls out, rolls back and scales") {
  test::Cluster cluster;
  REQUIRE(cluster.controllers.start());
  cluster.create(kWeb);
  REQUIRE_MESSAGE(cluster.eventually([&] { return rolled_out(cluster, 3); }),
                  cluster.controllers.explain("deployment", "shop/web"));
  CHECK(all_run(cluster, "web:1", 3));
  const Object first = cluster.seen.list(replica_sets(), "shop").at(0);
  CHECK(annotation(cluster.get(deployments(), "shop", "web"), "deployment.kubernetes.io/revision") == "1");

  REQUIRE(cluster.patch(deployments(), "shop", "web", kImage2));
  REQUIRE_MESSAGE(cluster.eventually([&] { return rolled_out(cluster, 3) && all_run(cluster, "web:2", 3); }),
                  cluster.controllers.explain("deployment", "shop/web"));
  CHECK(cluster.seen.list(replica_sets(), "shop").size() == 2);

  REQUIRE(cluster.patch(deployments(), "shop", "web", kImage1));
  REQUIRE(cluster.eventually([&] { return rolled_out(cluster, 3) && all_run(cluster, "web:1", 3); }));
  CHECK(cluster.seen.list(replica_sets(), "shop").size() == 2);
  CHECK(annotation(cluster.get(replica_sets(), "shop", first.name()), "deployment.kubernetes.io/revision") ==
        "3");

  REQUIRE(cluster.patch(deployments(), "shop", "web", R"({"spec":{"replicas":7}})"));
  CHECK(cluster.eventually([&] { return rolled_out(cluster, 7) && all_run(cluster, "web:1", 7); }));
  REQUIRE(cluster.patch(deployments(), "shop", "web", R"({"spec":{"replicas":1}})"));
  CHECK(cluster.eventually([&] { return rolled_out(cluster, 1) && all_run(cluster, "web:1", 1); }));
}

TEST_CASE("a pod that is taken away comes back, and the service lists who is ready") {
  test::Cluster cluster;
  REQUIRE(cluster.controllers.start());
  cluster.create(kWeb);
  const auto listed = [&] {
    std::size_t ready = 0;
    for (const Object& slice : cluster.seen.list(endpoint_slices(), "shop")) {
      const json::array* list = array_at(tree(slice), "/endpoints");
      if (list == nullptr) continue;
      for (const json::value& endpoint : *list) ready += bool_at(endpoint, "/conditions/ready") ? 1 : 0;
    }
    return ready;
  };
  REQUIRE(cluster.eventually([&] { return cluster.ready_pods("shop") == 3 && listed() == 3; }));
  CHECK(cluster.eventually([&] {
    const json::array* addresses =
        array_at(tree(cluster.get(endpoints(), "shop", "web")), "/subsets/0/addresses");
    return addresses != nullptr && addresses->size() == 3;
  }));
  const Object victim = cluster.active_pods("shop").at(0);
  REQUIRE(cluster.client.remove("v1", "pods", victim.name(), "shop").wait(60s));
  CHECK(cluster.eventually([&] {
    return !cluster.seen.get(pods(), "shop", victim.name()) && cluster.ready_pods("shop") == 3 &&
           listed() == 3;
  }));
}

TEST_CASE(
    "deleting a deployment takes its replica sets and pods along; "
    "orphans stay when asked") {
  test::Cluster cluster;
  REQUIRE(cluster.controllers.start());
  cluster.create(kWeb);
  REQUIRE(cluster.eventually([&] { return rolled_out(cluster, 3); }));

  DeleteOptions orphan;
  orphan.propagation = "Orphan";
  REQUIRE(cluster.client.remove("apps/v1", "deployments", "web", "shop", orphan).wait(60s));
  REQUIRE(cluster.eventually([&] { return !cluster.get(deployments(), "shop", "web"); }));
  REQUIRE(cluster.seen.list(replica_sets(), "shop").size() == 1);
  const Object set = cluster.seen.list(replica_sets(), "shop").at(0);
  CHECK(cluster.eventually([&] { return cluster.get(replica_sets(), "shop", set.name()).owners().empty(); }));
  CHECK(cluster.active_pods("shop").size() == 3);

  for (const char* propagation : {"Foreground"}) {
    DeleteOptions deep;
    deep.propagation = propagation;
    REQUIRE(cluster.client.remove("apps/v1", "replicasets", set.name(), "shop", deep).wait(60s));
    CHECK_MESSAGE(cluster.eventually([&] {
      return cluster.seen.list(replica_sets(), "shop").empty() && cluster.seen.list(pods(), "shop").empty();
    }),
                  cluster.controllers.explain("garbage-collector", "apps/v1|replicasets|shop|" + set.name()));
  }
}

TEST_CASE("a deployment deleted in the background leaves nothing behind") {
  test::Cluster cluster;
  REQUIRE(cluster.controllers.start());
  cluster.create(kWeb);
  REQUIRE(cluster.eventually([&] { return rolled_out(cluster, 3); }));
  REQUIRE(cluster.client.remove("apps/v1", "deployments", "web", "shop").wait(60s));
  CHECK(cluster.eventually([&] {
    return cluster.seen.list(deployments(), "shop").empty() &&
           cluster.seen.list(replica_sets(), "shop").empty() && cluster.seen.list(pods(), "shop").empty();
  }));
}

TEST_CASE(
    "a namespace gets its default account and certificates, and goes "
    "with all that is in it") {
  ControllersOptions options;
  options.root_ca_pem = "-----BEGIN CERTIFICATE-----";
  test::Cluster cluster(options);
  REQUIRE(cluster.controllers.start());
  cluster.create(kWeb);
  CHECK(cluster.eventually([&] {
    return cluster.get(service_accounts(), "shop", "default") &&
           cluster.get(config_maps(), "shop", "kube-root-ca.crt");
  }));
  REQUIRE(cluster.eventually([&] { return rolled_out(cluster, 3); }));
  REQUIRE(cluster.client.remove("v1", "namespaces", "shop").wait(60s));
  CHECK_MESSAGE(cluster.eventually([&] {
    return !cluster.get(namespaces(), "", "shop") && cluster.seen.list(pods(), "shop").empty() &&
           cluster.seen.list(replica_sets(), "shop").empty() &&
           cluster.seen.list(config_maps(), "shop").empty();
  }),
                cluster.controllers.explain("namespace", "shop"));
}

TEST_CASE("at rest nothing is written") {
  test::Cluster cluster;
  REQUIRE(cluster.controllers.start());
  cluster.create(kWeb);
  // Idle is also who has not heard of the last write yet: at rest is what is so at fifty looks, a second, in
  // a row.
  Revision before = 0;
  int looks = 0;
  REQUIRE(cluster.eventually([&] {
    const Revision now = cluster.store->revision();
    looks = now == before && rolled_out(cluster, 3) && cluster.controllers.idle() ? looks + 1 : 0;
    before = now;
    return looks == 50;
  }));
  // Every controller looks at everything once more: a change that means nothing
  // to anybody.
  REQUIRE(cluster.patch(deployments(), "shop", "web", R"({"metadata":{"labels":{"seen":"1"}}})"));
  const auto looked_again = [&] {
    const auto last = cluster.controllers.decision("deployment", "shop/web");
    for (const auto& [resource, revision] : last->seen) {
      if (resource == "deployments" && revision > before) return cluster.controllers.idle();
    }
    return false;
  };
  REQUIRE_MESSAGE(cluster.eventually(looked_again),
                  cluster.controllers.explain("deployment", "shop/web")
                      << " before " << before << " informer "
                      << cluster.controllers.informers().informer(deployments()).revision()
                      << " test informer " << cluster.seen.informer(deployments()).revision() << " store "
                      << cluster.store->revision() << " idle " << cluster.controllers.idle() << " error "
                      << cluster.controllers.informers().informer(deployments()).last_error());
  CHECK(cluster.store->revision() == before + 1);
}

TEST_CASE("controllers in dry mode say what they would do and write nothing") {
  ControllersOptions options;
  options.dry_run = true;
  options.enable = {"deployment"};
  test::Cluster cluster(options);
  REQUIRE(cluster.controllers.start());
  cluster.create(kWeb);
  CHECK(cluster.eventually([&] {
    const auto last = cluster.controllers.decision("deployment", "shop/web");
    return last && !last->actions.empty() && last->actions[0].find("would create replicasets") == 0;
  }));
  const std::string told = cluster.controllers.explain("deployment", "shop/web");
  CHECK(told.starts_with("deployment shop/web: "));
  CHECK(told.find("\n  would create replicasets shop/web-") != std::string::npos);
  CHECK(told.find("\n  saw deployments@") != std::string::npos);
  CHECK(cluster.controllers.explain("deployment", "shop/none") ==
        "deployment shop/none: has not been looked at");
  CHECK(cluster.controllers.explain("job", "shop/web") == "controller job does not run");
  CHECK(cluster.seen.list(replica_sets(), "shop").empty());
}

TEST_CASE(
    "an unknown controller name is refused, and stop() may be called at "
    "any time") {
  {
    ControllersOptions options;
    options.enable = {"deploymnet"};
    test::Cluster cluster(options);
    const auto started = cluster.controllers.start();
    REQUIRE_FALSE(started);
    CHECK(started.error().message().find("deploymnet") != std::string::npos);
  }
  for (int round = 0; round < 5; ++round) {
    test::Cluster cluster;
    REQUIRE(cluster.controllers.start());
    cluster.create(kWeb);
    cluster.controllers.stop();
    const Revision stopped = cluster.store->revision();
    cluster.controllers.stop();
    CHECK(cluster.store->revision() - stopped <= 3);  // the make-believe agent may still end its writes
  }
}

TEST_CASE("a cluster that was off finds its nodes silent, but gives them time to speak") {
  test::Cluster cluster;
  cluster.create(R"(
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: n1, namespace: kube-node-lease}
spec: {holderIdentity: n1, leaseDurationSeconds: 40, renewTime: "2020-01-01T00:00:00.000000Z"}
)");
  WriteOptions status;
  status.subresource = "status";
  REQUIRE(cluster.client
              .patch("v1", "nodes", "n1", "", PatchType::merge,
                     R"({"status":{"conditions":[{"type":"Ready","status":"True"}]}})", status)
              .wait(60s));
  // Admission taints new nodes; this one was known to be well before.
  REQUIRE(cluster.client.patch("v1", "nodes", "n1", "", PatchType::merge, R"({"spec":{"taints":null}})")
              .wait(60s));
  REQUIRE(cluster.controllers.start());
  REQUIRE(cluster.eventually([&] {
    const auto last = cluster.controllers.decision("node-lifecycle", "n1");
    return last && last->requeue_after.has_value();
  }));
  const auto last = cluster.controllers.decision("node-lifecycle", "n1");
  CHECK(last->reason == "Ready is True");
  CHECK(*last->requeue_after > 45s);
  CHECK(last->actions.empty());
}
