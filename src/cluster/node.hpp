#pragma once
// Node: the parts of one machine that runs pods, opened in the order of their dependence: runtime, images,
// pod network, Service proxy, DNS, ingress, agent. It knows the control plane only as a Client.
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/pod_attacher.hpp"
#include "cluster/options.hpp"
#include "cluster/peer_routes.hpp"
#include "image/ops.hpp"
#include "net/lb/conntrack.hpp"
#include "orchestra/cni_runtime.hpp"
#include "orchestra/dns_server.hpp"
#include "orchestra/forward_proxies.hpp"
#include "orchestra/http_proxy.hpp"
#include "orchestra/image_store.hpp"
#include "orchestra/metrics.hpp"
#include "orchestra/network_feed.hpp"
#include "orchestra/node_agent.hpp"
#include "orchestra/pod_network.hpp"
#include "orchestra/policy_enforcer.hpp"
#include "orchestra/reconciler.hpp"
#include "orchestra/remote_client.hpp"
#include "orchestra/service_proxy.hpp"

namespace orchestra::cluster {

struct NodeOptions {
  std::string data_dir, instance, node_name;
  std::string isolation = "best";
  FamilyRanges pods, services;            ///< of the cluster; at level process those of 127/8
  std::string api_host;                   ///< ClusterIP of the Service kubernetes
  std::string dns, ingress, ingress_tls;  ///< as ClusterOptions
  bool serve = true;                      ///< false: no DNS, no ingress (down)
  bool with_ingress = true;               ///< joined nodes have none: it needs Secrets of all namespaces
  bool with_services = true;  ///< false: another instance on this machine serves them (level process)
  /// There is no API server to ask: end what runs and take it off the machine.
  bool offline = false;
  std::string pod_network;                    ///< "routed", "bridge"; empty: as the folder's pods are
  std::string cni;                            ///< folder of CNI configurations; empty: our own pod network
  std::string node_ip;                        ///< this machine's address for other nodes; empty: none
  std::optional<RemoteClientOptions> remote;  ///< as NodeAgentOptions
  std::vector<std::string> preload, dns_forward;
  ForwardProxies image_proxies;
  std::shared_ptr<Metrics> registry = {};  ///< of the process; null: one of this node alone
  std::function<void(const std::string&)> notice;
};

/// The level that pods get here, chosen before anything else, since ranges depend on it. It opens the
/// runtime of this instance, which stays open in the answer.
struct ChosenRuntime {
  std::shared_ptr<PodRuntime> runtime;
  Isolation isolation = Isolation::full;
  std::string name;  ///< "full", "process"
};
Result<ChosenRuntime> open_runtime(Engine& engine, const std::string& data_dir, const std::string& instance,
                                   const std::string& isolation);
/// What runs RUN steps of image builds, at the same kind of level ("best", "full", "process").
/// Its folder of /run goes with the last copy of the answer. `id` empty: a name of its own.
Result<ImageStepRunner> make_image_steps(Engine& engine, const std::string& isolation, std::string id = {});

/// Removes the folder of /run of an instance that has no pods; for starts that failed early.
void remove_empty_state(const std::string& instance);

class Node {
 public:
  Node(Engine& engine, Client client, NodeOptions options, ChosenRuntime runtime);
  ~Node();
  Result<void> start();
  void stop();
  /// Ends all pods, then takes links, routes, tables and folders of /run off the machine.
  Result<void> remove_everything(Duration deadline);
  /// After a start() that failed: the same, unless pods of an earlier process of this instance run here;
  /// those keep their network.
  void undo_start();

  bool connected() const { return agent_ && agent_->connected(); }
  std::shared_ptr<PodStreams> streams() const { return agent_->streams(); }
  std::shared_ptr<MetricsSource> metrics() const { return agent_->metrics(); }
  /// Counters of DNS, ingress and Service proxy. Since start(), any thread.
  void collect(MetricSink& sink) const;
  std::shared_ptr<ImageStore> images() const { return images_; }
  /// The node's address in the pod network; empty: none.
  std::string gateway() const;
  std::string ingress_address() const;
  /// This node's part of the pods' addresses; empty at levels without addresses of their own.
  const std::string& pod_range() const { return pod_range_; }
  std::string dns_address() const;
  std::string proxy_mode() const { return proxy_ ? proxy_->mode() : ""; }
  const std::vector<std::string>& degraded() const { return degraded_; }

 private:
  Result<void> open_images();
  /// This node's part of the pods' addresses: what it had before, else what its Node object is given.
  Result<std::string> claim_range();
  std::string pod_range6() const;
  Result<void> open_network();
  /// Where --cni says so, and for pods of an earlier process that have their network from plugins.
  Result<void> open_cni(const std::set<std::string>& live);
  Result<void> open_services();
  void open_policies();
  Result<void> open_dns();
  Result<void> open_ingress();
  void apply_services(std::shared_ptr<const NetworkSnapshot> snapshot);
  void apply_policies(std::shared_ptr<const NetworkSnapshot> snapshot);
  /// A Warning event on the object, once for each reason and message.
  void report(const NetworkRejection& one);
  void publish_ingress_status();
  void notice(const std::string& line) const {
    if (options_.notice) options_.notice(line);
  }
  /// Levels without a network of their own for each pod: addresses of 127.0.0.0/8 instead.
  bool loopback_network() const { return runtime_.isolation != Isolation::full; }

  Engine& engine_;
  Client client_;
  NodeOptions options_;
  ChosenRuntime runtime_;
  std::string pod_range_;  ///< of this node; empty at levels without addresses of their own
  std::vector<std::string> degraded_;
  std::shared_ptr<ImageStore> images_;
  std::shared_ptr<PodNetwork> network_;
  std::shared_ptr<CniRuntime> cni_;  ///< none: pods are attached by network_
  std::shared_ptr<PodAttacher> attacher_;
  std::shared_ptr<PodDialer> dialer_;
  std::shared_ptr<ServiceProxy> proxy_;
  std::optional<Histogram> sync_seconds_;
  net::ConntrackAlarm conntrack_alarm_;
  std::shared_ptr<PolicyEnforcer> policies_;  ///< none: policies are not enforced here, and say so
  std::unique_ptr<EventRecorder> events_;
  std::mutex report_mutex_;
  std::set<std::string> reported_;  ///< guarded by report_mutex_; at most kReportsMax
  std::string second_name_server_;  ///< guarded by report_mutex_
  std::shared_ptr<DnsServer> dns_;
  std::shared_ptr<HttpProxy> ingress_;
  std::shared_ptr<PeerRoutes> peers_;  ///< none: pods of other nodes are not routed here
  std::shared_ptr<NetworkFeed> feed_;
  std::unique_ptr<NodeAgent> agent_;
  std::vector<std::shared_ptr<void>> collecting_;  ///< into a registry of its own
  bool stopped_ = false;
};

}  // namespace orchestra::cluster
