// What every cluster has from its first moment, and gets again.
#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
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
