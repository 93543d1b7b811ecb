// What every cluster has from its first moment, and gets again.
#include "apiserver/bootstrap.hpp"

#include "apiserver/core.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
/// A server, and a core beside it for what it does at its start.
struct Started {
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server{engine, store, {}};
  std::shared_ptr<apiserver::ApiCore> core =
      std::make_shared<apiserver::ApiCore>(engine, store, apiserver::CoreOptions{});
  Client client;
  Started() {
    REQUIRE(server.start());
    client = server.client();
  }
  ~Started() { server.stop(); }
};

/// One line for each object: its name, and what `pointers` point to.
std::string lines_of(const Client& client, const char* api_version, const char* resource,
                     std::initializer_list<const char*> pointers) {
  auto list = client.list(api_version, resource).wait(30s);
  REQUIRE(list);
  std::string out;
  for (const Object& object : list->items) {
    out += object.name();
    for (const char* pointer : pointers) {
      const auto number = object.get_int(pointer);
      out += " " + (number ? std::to_string(*number) : object.get(pointer).value_or(""));
    }
    out += "\n";
  }
  return out;
}
}  // namespace

TEST_CASE(
    "flow control, priority classes and the range of Services are there at the start, and again when "
    "deleted") {
  Engine engine;
  const auto store = MemoryStore::create(engine);
  ApiServerOptions options;
  options.service_cidr = "10.96.0.0/16";
  {
    ApiServer server(engine, store, options);
    REQUIRE(server.start());
    const Client client = server.client();
    const char* kFlow = "flowcontrol.apiserver.k8s.io/v1";
    CHECK(lines_of(client, kFlow, "flowschemas",
                   {"/spec/matchingPrecedence", "/spec/priorityLevelConfiguration/name",
                    "/spec/distinguisherMethod/type"}) ==
          "catch-all 10000 catch-all ByUser\n"
          "endpoint-controller 150 workload-high ByUser\n"
          "exempt 1 exempt \n"
          "global-default 9900 global-default ByUser\n"
          "kube-controller-manager 800 workload-high ByNamespace\n"
          "kube-scheduler 800 workload-high ByNamespace\n"
          "kube-system-service-accounts 900 workload-high ByNamespace\n"
          "probes 2 exempt \n"
          "service-accounts 9000 workload-low ByUser\n"
          "system-leader-election 100 leader-election ByUser\n"
          "system-node-high 400 node-high ByUser\n"
          "system-nodes 500 system ByUser\n"
          "workload-leader-election 200 leader-election ByUser\n");
    CHECK(lines_of(client, kFlow, "prioritylevelconfigurations",
                   {"/spec/type", "/spec/limited/nominalConcurrencyShares", "/spec/limited/lendablePercent",
                    "/spec/limited/limitResponse/type"}) ==
          "catch-all Limited 5 0 Reject\n"
          "exempt Exempt   \n"
          "global-default Limited 20 50 Queue\n"
          "leader-election Limited 10 0 Queue\n"
          "node-high Limited 40 25 Queue\n"
          "system Limited 30 33 Queue\n"
          "workload-high Limited 40 50 Queue\n"
          "workload-low Limited 100 90 Queue\n");
    CHECK(lines_of(client, "networking.k8s.io/v1", "servicecidrs",
                   {"/spec/cidrs/0", "/status/conditions/0/type", "/status/conditions/0/status"}) ==
          "kubernetes 10.96.0.0/16 Ready True\n");
    CHECK(lines_of(client, "scheduling.k8s.io/v1", "priorityclasses", {"/value"}) ==
          "system-cluster-critical 2000000000\nsystem-node-critical 2000001000\n");
    CHECK(client.remove(kFlow, "flowschemas", "probes").wait(30s));
    CHECK(client.remove("networking.k8s.io/v1", "servicecidrs", "kubernetes").wait(30s));
    server.stop();
  }
  ApiServer again(engine, store, options);
  REQUIRE(again.start());
  CHECK(again.client().get("flowcontrol.apiserver.k8s.io/v1", "flowschemas", "probes").wait(30s));
  CHECK(again.client().get("networking.k8s.io/v1", "servicecidrs", "kubernetes").wait(30s));
  again.stop();
  engine.stop();
}

TEST_CASE("the Service `kubernetes` points to the address that pods reach, and follows it") {
  const Started cluster;
  for (const auto& [host, port] : {std::pair{"10.9.8.7", 6443}, std::pair{"10.9.8.6", 7443}}) {
    apiserver::BootstrapOptions options;
    options.advertise_host = host;
    options.advertise_port = port;
    REQUIRE(apiserver::bootstrap(cluster.core, options));
    const auto endpoints = cluster.client.get("v1", "endpoints", "kubernetes", "default").wait(30s);
    REQUIRE(endpoints);
    CHECK(endpoints->get("/subsets/0/addresses/0/ip") == host);
    CHECK(endpoints->get("/subsets/0/ports/0/name") == "https");
    CHECK(endpoints->get_int("/subsets/0/ports/0/port") == port);
    CHECK(endpoints->labels().at("endpointslice.kubernetes.io/skip-mirror") == "true");
    const auto slice =
        cluster.client.get("discovery.k8s.io/v1", "endpointslices", "kubernetes", "default").wait(30s);
    REQUIRE(slice);
    CHECK(slice->get("/addressType") == "IPv4");
    CHECK(slice->get("/endpoints/0/addresses/0") == host);
    CHECK(slice->get_bool("/endpoints/0/conditions/ready") == true);
    CHECK(slice->get_int("/ports/0/port") == port);
    CHECK(slice->labels().at("kubernetes.io/service-name") == "kubernetes");
  }
  // Deleted ones come back.
  REQUIRE(cluster.client.remove("v1", "endpoints", "kubernetes", "default").wait(30s));
  apiserver::BootstrapOptions options;
  options.advertise_host = "10.9.8.6";
  options.advertise_port = 7443;
  REQUIRE(apiserver::bootstrap(cluster.core, options));
  CHECK(cluster.client.get("v1", "endpoints", "kubernetes", "default").wait(30s));
}

TEST_CASE("roles that were found complete are compared again as soon as one of them changed") {
  const Started cluster;
  const auto seen = std::make_shared<std::string>();
  for (int i = 0; i < 4 && seen->rfind("ClusterRole/", 0) != 0; ++i)
    REQUIRE(apiserver::bootstrap_rbac(cluster.core, seen.get()));
  REQUIRE(seen->rfind("ClusterRole/", 0) == 0);
  const Revision before = cluster.store->revision();
  REQUIRE(apiserver::bootstrap_rbac(cluster.core, seen.get()));
  CHECK(cluster.store->revision() == before);
  // A deleted one comes back; one that lost a rule has it again.
  const char* kApi = "rbac.authorization.k8s.io/v1";
  REQUIRE(cluster.client.remove(kApi, "clusterroles", "view").wait(30s));
  REQUIRE(
      cluster.client.patch(kApi, "clusterroles", "system:discovery", "", PatchType::merge, R"({"rules":[]})")
          .wait(30s));
  REQUIRE(apiserver::bootstrap_rbac(cluster.core, seen.get()));
  CHECK(cluster.client.get(kApi, "clusterroles", "view").wait(30s));
  const auto discovery = cluster.client.get(kApi, "clusterroles", "system:discovery").wait(30s);
  REQUIRE(discovery);
  CHECK(discovery->get("/rules/0"));
}
