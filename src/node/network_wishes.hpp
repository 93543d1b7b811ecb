#pragma once
// What a pod asks of the network besides an address: hostPorts and the bandwidth annotations. Pure.
#include "api/pod_attacher.hpp"
#include "base/json.hpp"

namespace orchestra::node {

/// Fills host_ports, ingress_bits, egress_bits and binds_pod_address of `request` from the pod's object.
/// `invalid` names the annotation and its value (1k to 1P bits per second, as upstream allows).
Result<void> add_network_wishes(const json::value& pod, AttachRequest& request);

}  // namespace orchestra::node
