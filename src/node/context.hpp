#pragma once
// What all pod workers of one agent share.
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "api/image_service.hpp"
#include "api/pod_attacher.hpp"
#include "api/pod_runtime.hpp"
#include "base/http_client.hpp"
#include "base/json.hpp"
#include "node/allocation.hpp"
#include "node/pod_runs.hpp"
#include "node/references.hpp"
#include "node/user_ranges.hpp"
#include "orchestra/informer.hpp"
#include "orchestra/metrics.hpp"
#include "orchestra/node_agent.hpp"

namespace orchestra::node {

struct AgentContext {
  AgentContext(Engine& engine_, Client client_, NodeAgentParts parts_, NodeAgentOptions options_)
      : engine(engine_),
        client(client_),
        parts(std::move(parts_)),
        options(std::move(options_)),
        pods(engine, client, {.fields = "spec.nodeName=" + options.node_name}),
        config_maps(engine, client, {"v1", "configmaps"}, options.remote.has_value()),
        secrets(engine, client, {"v1", "secrets"}, options.remote.has_value()),
        services(engine, client),
        claims(engine, client, {"v1", "persistentvolumeclaims"}),
        volumes(engine, client, {"v1", "persistentvolumes"}) {
    if (!parts.registry) return;
    const auto family = parts.registry->histogram(
        "orchestra_podnet_attach_seconds", "Until a pod had its network.",
        {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30});
    if (family) attach_seconds = family->with({});
  }

  std::string pod_directory(const std::string& uid) const { return options.data_dir + "/pods/" + uid; }
  std::string log_directory(const std::string& ns, const std::string& name, const std::string& uid) const {
    return options.data_dir + "/pods-log/" + ns + "_" + name + "_" + uid;
  }
  /// This machine's address for others.
  std::string host_ip() const {
    return options.node_ip.empty() ? parts.network->node_address() : options.node_ip;
  }
  /// Our Node as it was last heard of; before start() an empty one.
  Object known_node() const {
    std::lock_guard lock(node_mutex_);
    return node_;
  }
  void know_node(Object node) {
    std::lock_guard lock(node_mutex_);
    node_ = std::move(node);
  }
  /// Writes an Event about a pod; bounded, aggregated by (object, reason, message), never blocks.
  void event(const Object& pod, const char* type, const std::string& reason, const std::string& message);

  Engine& engine;
  Client client;
  NodeAgentParts parts;
  NodeAgentOptions options;
  Informer<k8s::Pod> pods;
  References config_maps, secrets;
  Informer<k8s::Service> services;
  InformerCore claims, volumes;  ///< of the whole cluster; a claim of any namespace may be mounted here
  Allocations allocations;       ///< of the pods of this node
  UserRanges user_ranges;        ///< of the pods with user namespaces
  PodRuns runs{engine};          ///< whose turn it is to run
  std::optional<Histogram> attach_seconds;
  std::string node_uid;                          ///< of our Node object, from start() on
  std::int64_t cpu_milli = 0, memory_bytes = 0;  ///< of the machine

 private:
  struct Seen {
    std::string name;
    int count = 0;
    std::string first;
  };
  std::mutex event_mutex_;
  std::unordered_map<std::string, Seen> seen_;
  std::size_t events_in_flight_ = 0;
  mutable std::mutex node_mutex_;
  Object node_;
};

}  // namespace orchestra::node
