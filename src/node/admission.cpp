#include "node/admission.hpp"

#include <algorithm>

#include "api/placement.hpp"

namespace orchestra::node {
namespace {

constexpr const char* kOurSystem = "linux";
constexpr const char* kEveryAddress = "0.0.0.0";

// Without its own labels a node still is what it is.
std::string system_label(const json::value& pod) {
  const json::object* labels = object_at(pod, "/metadata/labels");
  const json::value* label = labels == nullptr ? nullptr : labels->if_contains("kubernetes.io/os");
  return label == nullptr || !label->is_string() ? kOurSystem : std::string(label->get_string());
}

Refusal predicate(const char* name, const char* description) {
  return {name, std::string("Predicate ") + name + " failed: " + description};
}

void add_ports_of(const json::value& container, bool host_network, std::vector<PortClaim>& out) {
  const json::array* ports = array_at(container, "/ports");
  if (ports == nullptr) return;
  for (const json::value& item : *ports) {
    // The API server fills in what a pod of the machine's network leaves out; files are not defaulted.
    const std::int64_t inside = host_network ? int_at(item, "/containerPort") : 0;
    const int port = static_cast<int>(int_at(item, "/hostPort", inside));
    if (port <= 0) continue;
    std::string address = string_at(item, "/hostIP");
    if (address.empty()) address = kEveryAddress;
    out.push_back({string_at(item, "/protocol", "TCP"), address, port});
  }
}

}  // namespace

std::optional<Refusal> refuse_system(const json::value& pod) {
  if (system_label(pod) != kOurSystem)
    return Refusal{"PodOSSelectorNodeLabelDoesNotMatch",
                   "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"};
  if (string_at(pod, "/spec/os/name", kOurSystem) != kOurSystem)
    return Refusal{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"};
  return std::nullopt;
}

std::optional<Refusal> refuse_labels(const json::value& pod, const Object& node) {
  const json::value* spec = find(pod, "/spec");
  if (spec == nullptr || api::accepts_node(*spec, node)) return std::nullopt;
  return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
}

std::optional<Refusal> refuse_taints(const json::value& pod, const Object& node) {
  const json::array* taints = array_at(tree(node), "/spec/taints");
  if (taints == nullptr) return std::nullopt;
  const json::array* tolerations = array_at(pod, "/spec/tolerations");
  const bool unwanted = std::any_of(taints->begin(), taints->end(), [&](const json::value& taint) {
    return string_at(taint, "/effect") == "NoExecute" && !api::tolerated(tolerations, taint);
  });
  if (!unwanted) return std::nullopt;
  return predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate");
}

std::optional<Refusal> refuse_network(const json::value& pod, const std::string& lacks) {
  constexpr const char* kAnnotation = "orchestra.dev/network-isolation";
  const json::object* annotations = object_at(pod, "/metadata/annotations");
  const json::value* wish = annotations == nullptr ? nullptr : annotations->if_contains(kAnnotation);
  if (wish == nullptr || *wish != "required") return std::nullopt;
  const std::string why = bool_at(pod, "/spec/hostNetwork") ? "it asks for the machine's network" : lacks;
  if (why.empty()) return std::nullopt;
  return Refusal{"NetworkIsolation", std::string(kAnnotation) + " is required: " + why};
}

Refusal ports_taken() {
  return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports");
}

std::vector<PortClaim> host_ports_of(const json::value& pod) {
  std::vector<PortClaim> out;
  const bool host_network = bool_at(pod, "/spec/hostNetwork");
  if (const json::array* all = array_at(pod, "/spec/containers")) {
    for (const json::value& container : *all) add_ports_of(container, host_network, out);
  }
  if (const json::array* all = array_at(pod, "/spec/initContainers")) {
    for (const json::value& container : *all) {
      if (string_at(container, "/restartPolicy") == "Always") add_ports_of(container, host_network, out);
    }
  }
  return out;
}

bool clash(const PortClaim& one, const PortClaim& other) {
  return one.port == other.port && one.protocol == other.protocol &&
         (one.address == other.address || one.address == kEveryAddress || other.address == kEveryAddress);
}

}  // namespace orchestra::node
