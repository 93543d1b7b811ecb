#pragma once
// Our own CNI plugin: the routed pod network behind another runtime's calls (SPEC.md 1.1).
//
// Each call is a process: it opens the pod network of the configuration's `dataDir`, does one thing and ends;
// links, routes and tables stay, and the journals there know them. A lock file makes calls take turns.
#include <string>

#include "orchestra/engine.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra::net {

struct CniCall {
  std::string command, container_id, net_namespace, interface_name;  ///< CNI_COMMAND, CNI_CONTAINERID, ...
  std::string input;                                                 ///< stdin
  NetworkNamespace node;                                             ///< where the pods' links end
};
struct CniAnswer {
  int exit_code = 0;
  std::string output;  ///< for stdout
};
/// Blocks; not on event threads.
ORC_API CniAnswer answer_cni_call(Engine& engine, const CniCall& call);

}  // namespace orchestra::net
