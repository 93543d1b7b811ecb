#pragma once
// RemoteNode: what `orchestra join` runs, as a class: a machine whose pods another machine's control plane
// decides on.
//
//   RemoteNode node(engine, {.server = "https://192.0.2.1:6443", .token_file = "node-token"});
//   if (auto started = node.start(); !started) return report(started.error());
//
// Runtime, images, pod network, Service proxy, DNS and node agent in this process; the API over HTTPS. The
// first start asks for a client certificate with the bootstrap token; later ones use what is kept in the
// folder, and the certificate is renewed at two thirds of its life. No port is opened for the control plane:
// the agent keeps a tunnel to it. While the control plane is away pods run on, restarts and probes go on, and
// what is to be said waits. Pods outlive the process: stop() and even kill -9 leave them running, the next
// start() adopts them; down() ends them and takes everything of this instance off the machine. Since 0.2.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/forward_proxies.hpp"

namespace orchestra {

struct RemoteNodeOptions {
  /// https://HOST:PORT of the control plane, or several of one control plane between commas: the node goes on
  /// with another when one is away, and all reach its pods. Empty: what the last start had.
  std::string server = {};
  std::string token_file = {};  ///< DIR/node-token of the control plane; needed until a certificate is there
  std::string data_dir = {};   ///< empty: /var/lib/orchestra-node, without root ~/.local/share/orchestra-node
  std::string node_name = {};  ///< empty: that of the last start, else the host's name
  std::string node_ip =
      {};  ///< this machine's address for other nodes; empty: the one that it reaches `server` from
  std::string isolation = "best";         ///< best full rootless process; must suit the cluster's
  std::string dns = {};                   ///< further address of the DNS server; it always serves the pods
  std::string pod_network = {};           ///< as ClusterOptions::pod_network. Since 0.2.
  std::string cni = {};                   ///< as ClusterOptions::cni. Since 0.2.
  std::vector<std::string> preload = {};  ///< files and folders of images, imported at start
  ForwardProxies image_proxies = {};      ///< for pulls. Since 0.2.
  std::vector<std::string> dns_forward = {};  ///< upstream name servers; empty: those of /etc/resolv.conf
  /// How long start() waits for a control plane that is away, once a certificate is here. Pods run meanwhile.
  Duration server_wait = std::chrono::hours(24 * 365);
  /// Told in one line each: what was chosen, what is degraded. Called on the thread of start().
  std::function<void(const std::string&)> notice = {};
};

struct RemoteNodeInfo {
  std::string data_dir, instance, server, node_name, node_ip, isolation, pod_cidr, dns_address;
  std::int64_t ready_ms = 0;
  std::vector<std::string> degraded;
};

class ORC_API RemoteNode {
 public:
  RemoteNode(Engine& engine, RemoteNodeOptions options);
  ~RemoteNode();  ///< stop()
  RemoteNode(const RemoteNode&) = delete;
  RemoteNode& operator=(const RemoteNode&) = delete;

  /// Returns when the Node is registered and pods may come. `busy` names the process that owns the folder, or
  /// says that another agent has this node's name; `denied`: another certificate authority than the token
  /// file says, or no right. A failed start leaves nothing running. Blocks; not on an event thread; stop()
  /// from another thread ends the wait.
  Result<void> start();
  /// Pods run on. Idempotent, any thread but the engine's.
  void stop();
  /// Ends all pods and removes everything of this instance from the machine (data stay), then stop(). Also
  /// without start(): then the control plane is not asked. The Node object stays; `kubectl delete node`
  /// removes it.
  Result<void> down(Duration deadline);

  /// Acts as this node. Valid from start() on.
  Client client() const;
  RemoteNodeInfo info() const;
  /// The tunnel to the control plane is open.
  bool connected() const;
  /// True once somebody asked over control.sock that this process end (`orchestra down`).
  bool stop_requested() const;
  void on_stop_requested(std::function<void()> call);
  /// `data_dir` was made by a RemoteNode.
  static bool owns(const std::string& data_dir);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The folder that RemoteNodeOptions::data_dir means when it is empty.
ORC_API std::string default_node_data_dir();

}  // namespace orchestra
