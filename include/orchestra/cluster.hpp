#pragma once
// Cluster: everything `orchestra up` runs, as a class.
//
// A store, the API server, controllers, scheduler, and (unless `node` is off) the node: image store,
// container runtime, pod network, Service proxy, DNS, ingress and node agent, wired together in this
// process. One folder holds all of it; one process owns the folder. Pods outlive the process: stop() and
// even kill -9 leave them running, the next start() adopts them; down() ends them and takes everything of
// this instance off the machine. Several clusters may live in one process, each with its own folder.
// Since 0.1.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/forward_proxies.hpp"
#include "orchestra/metrics_source.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra {

struct ClusterOptions {
  std::string data_dir;            ///< empty: /var/lib/orchestra, without root ~/.local/share/orchestra
  std::string listen = {};         ///< API over HTTPS; empty: 127.0.0.1:6443 or the next free port
  std::string insecure_http = {};  ///< API over plain HTTP, loopback only; empty: none
  std::string dns = {};            ///< further address of the DNS server; it always serves the pods
  std::string ingress = {};        ///< empty: 127.0.0.1:8080 or the next free port
  std::string ingress_tls = {};    ///< empty: none
  std::string node_name = {};      ///< empty: the host's name
  std::string node_ip =
      {};            ///< for other nodes; empty: the address of `listen` if it is one that others reach
  bool node = true;  ///< false: control plane only
  std::string isolation = "best";  ///< best full rootless process
  /// Empty: 10.244.0.0/16 or the next free range. With a second range, of the other family, behind a comma
  /// pods have an address of each, the first range's first: "10.244.0.0/16,fd00:10:244::/96". A range of IPv6
  /// (/16 to /96) alone: pods have IPv6 only (docs/network.md). Since 0.2.
  std::string pod_cidr = {};
  /// Empty: 10.96.0.0/16 or the next free range. With a second range, of the other family (IPv6: /108 to
  /// /126), Services may have addresses of both families: "10.96.0.0/16,fd00:10:96::/112". The first is of
  /// the same family as that of pod_cidr. Since 0.2.
  std::string service_cidr = {};
  /// How this node's pods are attached: "routed" or "bridge" (PodNetworkOptions::mode). Empty: as this
  /// folder's pods are, at first routed. Since 0.2.
  std::string pod_network = {};
  /// Folder of CNI configurations: pods of this node get their addresses from its plugins. Empty: our own
  /// network. Since 0.2.
  std::string cni = {};
  std::vector<std::string> preload = {};      ///< files and folders of images, imported at start
  ForwardProxies image_proxies = {};          ///< for pulls. Since 0.2.
  std::vector<std::string> dns_forward = {};  ///< upstream name servers; empty: those of /etc/resolv.conf
  /// State in an existing etcd cluster instead of in data_dir (EtcdStoreOptions; keys under /orchestra/).
  std::vector<std::string> etcd = {};
  bool etcd_adopt = false;
  std::string etcd_ca_file = {}, etcd_certificate_file = {}, etcd_key_file = {};
  std::string etcd_user = {};  ///< NAME:PASSWORD
  bool memory_store = false;   ///< nothing of the API survives the process (tests)
  /// "NAME=HOST:PORT" of the store's peers on all machines of this control plane, the same list for each; the
  /// first founds it. Each runs an API server; controllers and scheduler run on the elected one. Empty:
  /// alone.
  std::vector<std::string> peers = {};
  std::string name = {};         ///< of this peer in `peers`; empty: the node's name
  std::string peer_listen = {};  ///< where its store listens, if not at its address in `peers`
  std::string token_file = {};   ///< the cluster's token; the first peer makes DIR/token if absent
  bool insecure_peers = false;   ///< peers talk unencrypted, not by TLS made from the token
  /// A node without a sign of life (leases are renewed each 10 s) for this long is Unknown and its pods move.
  /// Since 0.2.
  Duration node_grace = std::chrono::seconds(50);
  bool serve_http = true;  ///< false: no socket for the API, in process only
  /// Answers metrics.k8s.io (`kubectl top`) instead of this node's own statistics. Since 0.2.
  std::shared_ptr<MetricsSource> metrics = nullptr;
  /// What /metrics of the API shows; null: a registry of the cluster's own (metric_registry()). Since 0.2.
  std::shared_ptr<class Metrics> registry = nullptr;
  /// ApiServerOptions::audit_sink and audit_policy: who asked the API what. Since 0.2.
  std::function<void(const std::string& event)> audit_sink = {};
  std::string audit_policy = {};
  /// Told in one line each: what was chosen, what is degraded. Called on the thread of start().
  std::function<void(const std::string&)> notice = {};
};

/// What runs, for the command line and for hosts that print it.
struct ClusterInfo {
  std::string data_dir, instance, api_address, insecure_address, ingress_address, dns_address, node_name;
  std::string isolation, service_proxy, pod_cidr, service_cidr, kubeconfig;
  std::int64_t ready_ms = 0;
  std::vector<std::string> degraded;
};

class ORC_API Cluster {
 public:
  Cluster(Engine& engine, ClusterOptions options);
  ~Cluster();  ///< stop()
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  /// Returns when /readyz is true. `busy` names the process that owns the folder or an address that was
  /// asked for. A failed start leaves nothing running. Blocks; not on an event thread.
  Result<void> start();
  /// Ends the servers; pods run on. Idempotent.
  void stop();
  /// Ends all pods and removes everything of this instance from the machine (data stay), then stop().
  Result<void> down(Duration deadline);

  /// Acts as system:masters. Valid from start() on.
  Client client() const;
  std::shared_ptr<StateStore> store() const;
  /// Counters of every part of this process, and of the host where it adds some. Since 0.2.
  std::shared_ptr<Metrics> metric_registry() const;
  ClusterInfo info() const;
  /// True once somebody asked over control.sock that this process end (`orchestra down`).
  bool stop_requested() const;
  void on_stop_requested(std::function<void()> call);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The folder that options.data_dir means: as given, or the default of this user.
ORC_API std::string default_data_dir();

}  // namespace orchestra
