// Ports of Services that the server gives: the one that balancers ask for the health of a node, and node
// ports while many writers want them.
#include <set>
#include <thread>

#include "orchestra/api_server.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
struct PortCluster {
  Engine engine;
  std::shared_ptr<StateStore> store = MemoryStore::create(engine);
  ApiServer server;
  Client client;
  PortCluster() : server(engine, store, {}) {
    REQUIRE(server.start());
    client = server.client();
  }
  /// The Service, or "CODE message".
  Result<Object> create(const std::string& name, const std::string& spec) {
    return client
        .create(Object::from_yaml("apiVersion: v1\nkind: Service\nmetadata: {name: " + name +
                                  ", namespace: default}\nspec: " + spec + "\n")
                    .value())
        .wait(30s);
  }
  Result<Object> patch(const std::string& name, const std::string& text) {
    return client.patch("v1", "services", name, "default", PatchType::merge, text).wait(30s);
  }
  void remove(const std::string& name) { client.remove("v1", "services", name, "default").wait(30s).value(); }
};

std::string refusal(const Result<Object>& answer) {
  if (answer) return "taken";
  const Status* status = answer.error().detail<Status>();
  return status == nullptr ? answer.error().to_string()
                           : std::to_string(status->code) + " " + status->message;
}
std::int64_t health(const Result<Object>& service) {
  REQUIRE_MESSAGE(service, refusal(service));
  return service->get_int("/spec/healthCheckNodePort").value_or(0);
}

constexpr const char* kLocal = "{type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]}";
std::string asks_for(int port) {
  return "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: " + std::to_string(port) +
         ", ports: [{port: 80}]}";
}
}  // namespace

TEST_CASE("a balancer's Service that stays local gets a port to ask nodes on, and keeps it") {
  PortCluster cluster;
  const auto made = cluster.create("a", kLocal);
  const std::int64_t port = health(made);
  CHECK(port >= 30000);
  CHECK(port <= 32767);
  CHECK(made->get_int("/spec/ports/0/nodePort") != port);
  CHECK(health(cluster.create("plain", "{type: LoadBalancer, ports: [{port: 80}]}")) == 0);
  CHECK(health(cluster.create("inside", "{ports: [{port: 80}]}")) == 0);

  // A client that does not know the field changes nothing by leaving it out; one that says another is told.
  CHECK(health(cluster.patch("a", R"({"spec":{"healthCheckNodePort":null,"selector":{"a":"b"}}})")) == port);
  CHECK(refusal(cluster.patch("a", R"({"spec":{"healthCheckNodePort":31999}})")) ==
        "422 Service \"a\" is invalid: spec.healthCheckNodePort: Forbidden: field is immutable");
  // It goes with the policy, and comes with it.
  CHECK(health(cluster.patch("a", R"({"spec":{"externalTrafficPolicy":"Cluster"}})")) == 0);
  CHECK(health(cluster.create("b", asks_for(static_cast<int>(port)))) == port);
  const std::int64_t again = health(cluster.patch("a", R"({"spec":{"externalTrafficPolicy":"Local"}})"));
  CHECK(again >= 30000);
  CHECK(again != port);
}

TEST_CASE("a health check port that was asked for is of the range, free, and given back") {
  PortCluster cluster;
  CHECK(health(cluster.create("a", asks_for(31000))) == 31000);
  CHECK(refusal(cluster.create("b", asks_for(31000))) ==
        "500 Internal error occurred: failed to allocate requested HealthCheck NodePort 31000: provided port "
        "is already allocated");
  CHECK(refusal(cluster.create("b", asks_for(80))) ==
        "500 Internal error occurred: failed to allocate requested HealthCheck NodePort 80: provided port is "
        "not in the valid range. The range of valid ports is 30000-32767");
  // Not what a port of the Service itself has.
  CHECK(
      refusal(cluster.create("b",
                             "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31500, "
                             "ports: [{port: 80, nodePort: 31500}]}"))
          .starts_with(
              "500 Internal error occurred: failed to allocate requested HealthCheck NodePort 31500"));
  CHECK(refusal(cluster.create("b", "{type: NodePort, healthCheckNodePort: 31600, ports: [{port: 80}]}")) ==
        "422 Service \"b\" is invalid: spec.healthCheckNodePort: Invalid value: 31600: may only be set when "
        "`type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
  // What was refused took nothing.
  CHECK(cluster.create("c", "{type: NodePort, ports: [{port: 80, nodePort: 31500}]}"));
  CHECK(
      refusal(cluster.create("d", "{type: NodePort, ports: [{port: 80, nodePort: 31000}]}")) ==
      "422 Service \"d\" is invalid: spec.ports[0].nodePort: Invalid value: 31000: provided port is already "
      "allocated");
  cluster.remove("a");
  CHECK(cluster.create("d", "{type: NodePort, ports: [{port: 80, nodePort: 31000}]}"));
}

TEST_CASE("writers that want node ports at once get different ones") {
  PortCluster cluster;
  constexpr int kThreads = 4, kEach = 15;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::multiset<std::int64_t> ports;
  int asked_for = 0;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const std::string name = "s" + std::to_string(t) + "-" + std::to_string(i);
        const auto made = cluster.create(name, kLocal);
        // All threads ask for the same one, too.
        const auto same = cluster.create(name + "-x", "{type: NodePort, ports: [{port: 80, nodePort: " +
                                                          std::to_string(32000 + i) + "}]}");
        std::lock_guard lock(mutex);
        if (made) {
          ports.insert(made->get_int("/spec/ports/0/nodePort").value_or(0));
          ports.insert(made->get_int("/spec/healthCheckNodePort").value_or(0));
        }
        if (same) {
          ++asked_for;
          ports.insert(same->get_int("/spec/ports/0/nodePort").value_or(0));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(ports.size() >= static_cast<std::size_t>(2 * kThreads * kEach));
  CHECK(asked_for <= kEach);
  CHECK(ports.count(0) == 0);
  for (const std::int64_t port : ports) CHECK(ports.count(port) == 1);
}
