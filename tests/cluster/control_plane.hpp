#pragma once
// A control plane in memory, without a node and without HTTP; and waiting for what it does.
#include <functional>
#include <thread>

#include "orchestra/cluster.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {

/// Looks again and again; false after a minute.
inline bool until(const std::function<bool()>& true_now) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!true_now()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

class ControlPlane {
 public:
  /// `more` changes the options before the start.
  explicit ControlPlane(const std::function<void(ClusterOptions&)>& more = {})
      : cluster_(engine_, options(folder_ / "data", more)) {
    const auto started = cluster_.start();
    REQUIRE_MESSAGE(started, (started ? "" : started.error().to_string()));
  }
  Cluster& cluster() { return cluster_; }
  Client client() { return cluster_.client(); }

 private:
  static ClusterOptions options(const std::string& data, const std::function<void(ClusterOptions&)>& more) {
    ClusterOptions out;
    out.data_dir = data;
    out.node = false;
    out.memory_store = true;
    out.serve_http = false;
    if (more) more(out);
    return out;
  }
  TempDir folder_;
  Engine engine_;
  Cluster cluster_;
};

}  // namespace orchestra::test
