// A cluster's audit sink hears of what clients ask over HTTP and in process.
#include <algorithm>
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
  std::vector<std::string> heard;
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
    heard.push_back(event);
    changed.notify_all();
  };
  Cluster cluster(engine, options);
  const auto started = cluster.start();
  REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
  auto client = RemoteClient::from_kubeconfig(engine, cluster.info().kubeconfig);
  REQUIRE(client);
  const auto hears = [&](const char* user) {
    const auto its = [&](const std::string& event) {
      return event.find(R"("verb":"get")") != std::string::npos &&
             event.find(R"("stage":"ResponseComplete")") != std::string::npos &&
             event.find(R"(/namespaces/default")") != std::string::npos &&
             event.find(R"("username":")" + std::string(user) + '"') != std::string::npos;
    };
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 30s, [&] { return std::any_of(heard.begin(), heard.end(), its); });
  };
  REQUIRE(client->get("v1", "namespaces", "default").wait(30s));
  CHECK(hears("kubernetes-admin"));
  REQUIRE(cluster.client().get("v1", "namespaces", "default").wait(30s));
  CHECK(hears("system:admin"));
  cluster.stop();
}
