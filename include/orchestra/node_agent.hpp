#pragma once
// NodeAgent: turns the pods that the scheduler gave to this node into running containers, and tells the
// truth about them.
//
// One serial worker per pod UID does what one kubelet pod worker does: sandbox, network, volumes, images,
// init containers, containers, probes, restarts, termination. The agent talks to the API through a Client
// (in process or HTTPS), to containers through PodRuntime, to images through ImageService, to the network
// through PodAttacher: all are given to it, so the simulator hands out models. Containers outlive the
// agent: start() adopts what runs. Since 0.1.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/metrics_source.hpp"
#include "orchestra/remote_client.hpp"

namespace orchestra {

class PodRuntime;
class ImageService;
class PodAttacher;
class PodDialer;
class PodStreams;
class HttpClient;

/// Below which the machine counts as short of something; 0: that is not looked at. Percent of what there is.
/// Disk and inodes are those of the file system of `data_dir`. Since 0.2.
struct EvictionThresholds {
  std::int64_t memory_available_bytes = 100 << 20;
  int disk_free_percent = 10, inodes_free_percent = 5, pids_free_percent = 5;
};
/// What a short machine does (kubelet's node-pressure eviction): a condition and its taint at once; where the
/// disk is short unused images go; then one pod a round. Since 0.2.
struct EvictionOptions {
  EvictionThresholds hard = {};
  EvictionThresholds soft = {0, 0, 0, 0};  ///< pods go only when it lasts
  Duration soft_grace = std::chrono::seconds(90);
  Duration soft_pod_grace_max = std::chrono::seconds(30);  ///< of a pod's own grace period, after a soft one
  Duration period = std::chrono::seconds(10);              ///< of statistics, too
  Duration condition_stays = std::chrono::minutes(5);      ///< after it was last true
  Duration image_age_min = std::chrono::minutes(2);        ///< younger unused images stay
};

struct NodeAgentOptions {
  std::string node_name;
  std::string data_dir;  ///< pods/ and pods-log/ are made below
  /// Static pods: each .yaml, .yml or .json file is a pod that runs here, with or without an API server (the
  /// client may be empty then). Empty: none.
  std::string manifest_dir = {};
  std::string cluster_domain = "cluster.local";
  std::string api_host = "10.96.0.1";  ///< KUBERNETES_SERVICE_HOST in containers
  int api_port = 443;
  std::vector<std::string> host_search;       ///< search domains of the machine, for resolv.conf
  std::vector<std::string> host_nameservers;  ///< for dnsPolicy Default
  std::string pod_cidr;                       ///< reported in the Node's spec; of both families: "A,B"
  /// This machine's address for others: InternalIP, hostIP, address of pods on its network. Empty: that of
  /// the node in the pod network.
  std::string node_ip = {};
  /// Who runs this agent, the same at each start: a second agent with this node's name and another id is
  /// refused while the first renews its lease. Empty: not checked.
  std::string agent_id = {};
  /// An agent away from its API server: it has the rights of a node there (reads only what its pods name),
  /// and keeps a tunnel to each of its servers, over which logs, exec, attach, port-forward and statistics of
  /// this node are asked for. Since 0.2.
  std::optional<RemoteClientOptions> remote = std::nullopt;
  std::string isolation_name;         ///< "full", "process": a Node label and condition
  std::vector<std::string> degraded;  ///< what this machine cannot enforce, for the Node condition
  /// Why pods that ask for it (orchestra.dev/network-isolation: required) have no isolated network here;
  /// empty: they have. Since 0.2.
  std::string network_lacks = {};
  /// Asked when a pod starts: a name server for the time in which that of this node is not there, behind it
  /// in the pod's resolv.conf; "" for none. Any thread; must not block. Since 0.2.
  std::function<std::string()> second_name_server = nullptr;
  std::size_t pods_max = 110;
  std::size_t parallel_starts_max = 16;
  Duration sync_period = std::chrono::seconds(60);  ///< safety net: volumes and statuses are compared again
  Duration restart_backoff_base = std::chrono::seconds(10);
  Duration restart_backoff_max = std::chrono::seconds(300);
  EvictionOptions eviction = {};  ///< Since 0.2.
};

/// What the agent stands on; all must outlive it.
struct NodeAgentParts {
  std::shared_ptr<PodRuntime> runtime;
  std::shared_ptr<ImageService> images;
  std::shared_ptr<PodAttacher> network;
  std::shared_ptr<PodDialer> dialer;
  std::shared_ptr<HttpClient> http;  ///< http probes
  /// What the node's own page /metrics shows; null: the process alone. Since 0.2.
  std::shared_ptr<class Metrics> registry = nullptr;
};

class ORC_API NodeAgent {
 public:
  NodeAgent(Engine& engine, Client client, NodeAgentParts parts, NodeAgentOptions options);
  ~NodeAgent();  ///< stop(); the pods run on
  NodeAgent(const NodeAgent&) = delete;
  NodeAgent& operator=(const NodeAgent&) = delete;

  /// Registers the Node, adopts what runs, begins to follow the API. `busy` if another agent renews the
  /// lease of this node name.
  Result<void> start();
  /// Stops working; containers run on. Idempotent, any thread but the engine's own.
  void stop();
  /// Pods from this priority on, up to that of the next phase, have `grace` to end. Since 0.2.
  struct ShutdownPhase {
    std::int64_t priority = 0;
    Duration grace = std::chrono::seconds(30);
  };
  /// Graceful shutdown of the node: no pod starts any more, the Node says that it is not ready; ordinary pods
  /// end first, then critical ones (priority >= 2e9), each group within its time at most. They end as Failed
  /// with the reason Terminated. Blocks; `deadline_exceeded` names how many are left. Since 0.2.
  struct DrainOptions {
    Duration normal = std::chrono::seconds(30), critical = std::chrono::seconds(10);
    /// Instead of these two: phases by priority, the lowest first, as the kubelet's
    /// shutdownGracePeriodByPodPriority. Pods below all belong to the first; one without pods takes no time.
    std::vector<ShutdownPhase> by_priority = {};
  };
  Result<void> drain(DrainOptions options);
  /// Ends every pod of this node and removes all traces; for `orchestra down`. Blocks up to `deadline`.
  Result<void> remove_all_pods(Duration deadline);
  /// What the pods of this node and the node use, from the last pass (each 10 s). Empty once the agent is
  /// gone. Since 0.2.
  std::shared_ptr<MetricsSource> metrics() const;
  /// The tunnel to an API server is open (NodeAgentOptions::remote). Since 0.2.
  bool connected() const;
  /// Logs, exec, attach, port-forward for pods of this node, and pages of its own (`kubectl get --raw
  /// /api/v1/nodes/NAME/proxy/stats/summary`); valid as long as the agent.
  std::shared_ptr<PodStreams> streams();

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
