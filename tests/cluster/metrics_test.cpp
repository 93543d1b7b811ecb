// A host's MetricsSource behind metrics.k8s.io.
#include "orchestra/metrics.hpp"

#include "orchestra/object.hpp"
#include "tests/cluster/control_plane.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {

class HostMetrics final : public MetricsSource {
 public:
  std::vector<PodUse> pods(const std::string& ns) const override {
    if (!ns.empty() && ns != "shop") return {};
    PodUse pod{"uid", "shop", "web", {{"app", "web"}}, 100'000'000'000, 10'000'000'000, {}, 4096};
    pod.containers.push_back({"main", 250'000'000, 4096});
    return {pod};
  }
  std::vector<NodeUse> nodes() const override {
    return {{"elsewhere", 100'000'000'000, 5'500'000'000, 1'000'000'000, 1 << 20}};
  }
};

}  // namespace

TEST_CASE("a host's own metrics are served as metrics.k8s.io") {
  test::ControlPlane plane(
      [](ClusterOptions& options) { options.metrics = std::make_shared<HostMetrics>(); });
  const Client client = plane.client();
  const auto pods = client.list("metrics.k8s.io/v1beta1", "pods").wait(60s);
  REQUIRE_MESSAGE(pods, (pods ? "" : pods.error().to_string()));
  REQUIRE(pods->items.size() == 1);
  CHECK(pods->items[0].name() == "web");
  CHECK(pods->items[0].json().find(R"("cpu":"250000000n","memory":"4Ki")") != std::string::npos);
  const auto nodes = client.list("metrics.k8s.io/v1beta1", "nodes").wait(60s);
  REQUIRE(nodes);
  REQUIRE(nodes->items.size() == 1);
  CHECK(nodes->items[0].json().find(R"("window":"5.5s")") != std::string::npos);
}

TEST_CASE("the registry of a cluster holds its parts' counters and the host's own, and outlives it") {
  const auto registry = Metrics::create();
  registry->counter("shop_orders_total", "Orders.").value().with({}).add(7);
  test::ControlPlane plane([&](ClusterOptions& options) { options.registry = registry; });
  Cluster& cluster = plane.cluster();
  CHECK(cluster.metric_registry() == registry);
  const std::string page = registry->text();
  for (const char* line :
       {"shop_orders_total 7\n", "leader_election_master_status{name=\"control\"} 1\n",
        "scheduler_pending_pods{queue=\"active\"} 0\n", "orchestra_store_revision ",
        "workqueue_depth{name=\"deployment\"} ", "orchestra_informer_bytes{resource=\"v1/nodes\"} ",
        "orchestra_informer_objects{resource=\"v1/nodes\"} ",
        "workqueue_work_duration_seconds_count{name=\"namespace\"} "}) {
    CHECK_MESSAGE(page.find(line) != std::string::npos, line);
  }
  cluster.stop();
  CHECK(registry->text().find("scheduler_pending_pods") == std::string::npos);
  CHECK(registry->text().find("shop_orders_total 7\n") != std::string::npos);
}
