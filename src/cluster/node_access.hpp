#pragma once
// What a control plane needs so that nodes can join it: rights for joining and for nodes, the ConfigMap
// kube-public/cluster-info (as kubeadm has it), and a bootstrap token in DIR/node-token.
#include <string>

#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::cluster {

struct NodeAccessOptions {
  std::string data_dir;
  std::string server;  ///< https://host:port
  std::string ca_pem;
  std::string pod_cidr, service_cidr, api_host;
  bool loopback_network = false;  ///< pods of this cluster have addresses of 127.0.0.0/8: level process
};

inline constexpr Duration kTokenLife = std::chrono::hours(24);

/// Makes what is missing. Blocks.
Result<void> make_node_access(Engine& engine, const Client& client, const NodeAccessOptions& options);
/// Writes a new DIR/node-token (0600) with its Secret unless the one there is good for half its life or more.
Result<void> refresh_join_token(Engine& engine, const Client& client, const NodeAccessOptions& options);

/// What a node learns from the ConfigMap cluster-info.
struct ClusterFacts {
  std::string pod_cidr, service_cidr, api_host;
  bool loopback_network = false;
};
Result<ClusterFacts> read_cluster_facts(const Client& client);

}  // namespace orchestra::cluster
