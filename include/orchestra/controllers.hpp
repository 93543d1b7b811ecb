#pragma once
// Controllers: the builtin set, one class. Turns what users wrote (Deployments, Services, namespaces...) into
// what must exist, against any Client: an API server in this process or any Kubernetes over HTTPS.
//
//   Controllers controllers(engine, server.client(), {.enable = {"deployment", "replicaset"}});
//   controllers.on_decision([](const ReconcileDecision& d) { log(d.explain()); });
//   if (auto started = controllers.start(); !started) return report(started.error());
//   print(controllers.explain("deployment", "shop/web"));
//
// Since 0.1.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/reconciler.hpp"

namespace orchestra {

struct ControllersOptions {
  /// Names to run; empty: all of Controllers::names().
  std::vector<std::string> enable = {};
  /// Names not to run.
  std::vector<std::string> disable = {};
  /// The CA certificates (PEM) that pods find in the ConfigMap kube-root-ca.crt; empty: no such ConfigMap.
  std::string root_ca_pem = {};
  /// Signs approved CertificateSigningRequests (PKCS#10 as PEM, usages, life) with the cluster's authority
  /// and answers the certificate: ApiServer::sign_certificate. Any thread; must not block. Empty: nothing is
  /// signed. Since 0.2.
  std::function<Result<std::string>(const std::string& request_pem, const std::vector<std::string>& usages,
                                    Duration life)>
      sign_certificate = {};
  /// Where the folders of volumes of the class local-path lie on every node, unless the class says otherwise.
  std::string local_volume_root = "/var/lib/orchestra/volumes";
  /// Decisions only, to on_decision; nothing is written.
  bool dry_run = false;
  /// The token of a won leader election: writes of a deposed leader fail in their transaction.
  std::string fence = {};
  /// Range of pod addresses that nodes get their parts of (node-ipam), "10.244.0.0/16" or of both families,
  /// "10.244.0.0/16,fd00:10:244::/96"; empty: they get none. Since 0.2.
  std::string pod_cidr = {};
  /// Where the controllers are measured: their work queues (WorkQueueOptions::metrics) and failed reconciles
  /// (RunnerOptions::queue) by each controller's name, and what their informers hold by resource:
  /// orchestra_informer_bytes, orchestra_informer_objects. Empty: nowhere. Since 0.2.
  std::shared_ptr<class Metrics> metrics = {};
  /// A node of which no sign of life was seen for this long is Unknown.
  Duration node_grace = std::chrono::seconds(50);
  /// For hosts that hear of their nodes in other ways than by Leases: when that was last so, by the engine's
  /// steady clock (Now::steady_ns); nullopt: never. The later of that and of what the controllers saw counts.
  /// Any thread; must not block. Since 0.2.
  std::function<std::optional<std::int64_t>(const std::string& node)> node_heard = {};
  /// Between two nodes whose pods have to leave.
  Duration node_eviction_interval = std::chrono::seconds(10);
};

class ORC_API Controllers {
 public:
  Controllers(Engine& engine, Client client, ControllersOptions options = {});
  ~Controllers();  ///< stop()
  Controllers(const Controllers&) = delete;
  Controllers& operator=(const Controllers&) = delete;

  /// "namespace", "deployment", "replicaset", ...
  static const std::vector<std::string>& names();

  /// Before start(): called from worker threads after each decision; must not block.
  void on_decision(std::function<void(const ReconcileDecision&)> callback);
  /// Before start(): a controller of the host's own; it replaces the builtin one of the same name.
  void add(std::shared_ptr<const Reconciler> reconciler);
  /// `invalid` names an unknown controller. Returns at once; work begins when the first lists are there.
  Result<void> start();
  /// No write is made after this has returned. Idempotent, any thread but the engine's.
  void stop();

  /// The last decision on a key and why, e.g. ("deployment", "shop/web"). Any thread.
  std::string explain(const std::string& controller, const std::string& key) const;
  std::optional<ReconcileDecision> decision(const std::string& controller, const std::string& key) const;
  /// True when every informer is synced and nothing is queued or running.
  bool idle() const;
  /// Counts of one controller; zeros if it does not run.
  RunnerStats stats(const std::string& controller) const;
  std::vector<std::string> running() const;
  /// The informers, for reading what the controllers read.
  InformerSet& informers();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
