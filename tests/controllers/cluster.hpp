#pragma once
// A control plane in one process for tests: MemoryStore, API server without a
// socket, controllers, and a make-believe node agent that makes pods ready and
// lets deleted ones go. Tests wait for conditions on informers, woken by their
// events; nothing sleeps.
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "controllers/common/objects.hpp"
#include "controllers/common/pods.hpp"
#include "orchestra/api_server.hpp"
#include "orchestra/controllers.hpp"
#include "orchestra/memory_store.hpp"
#include "tests/support/test.hpp"

namespace orchestra::test {

class Cluster {
 public:
  explicit Cluster(ControllersOptions options = {});
  ~Cluster();

  Engine engine;
  std::shared_ptr<StateStore> store;
  ApiServer server;
  Client client;
  Controllers controllers;
  InformerSet seen;  ///< of the test itself

  /// Waits until `done` holds; checked after every change of any watched object
  /// and each 20 ms. False after 20 s.
  bool eventually(const std::function<bool()>& done);
  /// Creates what a YAML stream holds.
  void create(const std::string& yaml);
  Object get(const ResourceRef& resource, const std::string& ns, const std::string& name);
  /// JSON merge patch.
  Result<Object> patch(const ResourceRef& resource, const std::string& ns, const std::string& name,
                       const std::string& merge);
  std::vector<Object> active_pods(const std::string& ns);
  std::int64_t ready_pods(const std::string& ns);

  bool pods_become_ready = true;

 private:
  void pod_changed(const Object& now);
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t changes_ = 0;
};

}  // namespace orchestra::test
