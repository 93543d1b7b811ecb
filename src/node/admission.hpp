#pragma once
// What a node asks of a pod that was given to it, besides its resources (allocation.hpp): the system that its
// programs are for, the node's labels, its NoExecute taints and the ports of the machine. The scheduler asked
// the same; who names a node himself, or a label that went meanwhile, is told here.
//
// Words and order are the kubelet's (kubernetes pkg/kubelet/lifecycle/predicate.go and AdmissionCheck of
// pkg/scheduler/eventhandlers.go): the first that fails is the reason of the pod. Not here: making room for
// critical pods.
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "orchestra/object.hpp"

namespace orchestra::node {

/// Reason and message of the pod that was refused.
struct Refusal {
  std::string reason, message;
  friend bool operator==(const Refusal&, const Refusal&) = default;
};

/// Programs of another system than ours: spec.os, or the label kubernetes.io/os.
std::optional<Refusal> refuse_system(const json::value& pod);
/// nodeSelector and required node affinity.
std::optional<Refusal> refuse_labels(const json::value& pod, const Object& node);
/// NoExecute taints that the pod does not tolerate; static pods are not asked.
std::optional<Refusal> refuse_taints(const json::value& pod, const Object& node);
/// The annotation orchestra.dev/network-isolation: required (a network namespace of its own, and
/// NetworkPolicies that hold), of a pod that would not have it: `lacks` is what the node has not got, empty
/// if nothing.
std::optional<Refusal> refuse_network(const json::value& pod, const std::string& lacks);
/// Of a pod whose ports are taken.
Refusal ports_taken();

/// One hostPort of a pod.
struct PortClaim {
  std::string protocol;  ///< "TCP"
  std::string address;   ///< "0.0.0.0" where none is named: every address of the machine
  int port = 0;
};
/// Of its containers and sidecars.
std::vector<PortClaim> host_ports_of(const json::value& pod);
/// Same port and protocol, and the same address or every one on either side.
bool clash(const PortClaim& one, const PortClaim& other);

}  // namespace orchestra::node
