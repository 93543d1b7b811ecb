// A cluster's audit sink hears of what clients ask over HTTP.
#include <condition_variable>
#include <mutex>

#include "orchestra/cluster.hpp"
#include "orchestra/remote_client.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

TEST_CASE("a cluster tells its audit sink who asked what") {
  test::TempDir folder;
  std::mutex mutex;
  std::condition_variable changed;
  std::string heard;
  Engine engine;
  ClusterOptions options;
  options.data_dir = folder.path();
  options.listen = "127.0.0.1:0";
  options.node = false;
  options.memory_store = true;
  options.audit_policy =
      "kind: Policy\nrules: [{level: Metadata, resources: [{group: '', resources: [namespaces]}]}, {level: "
      "None}]\n";
  options.audit_sink = [&](const std::string& event) {
    std::lock_guard lock(mutex);
    heard = event;
    changed.notify_all();
  };
  Cluster cluster(engine, options);
  const auto started = cluster.start();
  REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
  auto client = RemoteClient::from_kubeconfig(engine, cluster.info().kubeconfig);
  REQUIRE(client);
  REQUIRE(client->get("v1", "namespaces", "default").wait(30s));
  {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, 30s, [&] { return !heard.empty(); }));
    CHECK(heard.find(R"("verb":"get")") != std::string::npos);
    CHECK(heard.find(R"("username":"kubernetes-admin")") != std::string::npos);
  }
  cluster.stop();
}
