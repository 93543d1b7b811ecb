#include "node/network_wishes.hpp"

#include "orchestra/quantity.hpp"

namespace orchestra::node {
namespace {

// Kubernetes' own bounds (pkg/util/bandwidth, ExtractPodBandwidthResources).
constexpr std::int64_t kBitsMin = 1'000, kBitsMax = 1'000'000'000'000'000;

std::string annotation(const json::value& pod, const char* name) {
  const json::object* all = object_at(pod, "/metadata/annotations");
  const json::value* value = all == nullptr ? nullptr : all->if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

Result<std::uint64_t> bits_of(const json::value& pod, const char* name) {
  const std::string text = annotation(pod, name);
  if (text.empty()) return std::uint64_t{0};
  const auto quantity = Quantity::parse(text);
  const std::int64_t bits = quantity ? quantity->value() : 0;
  if (bits < kBitsMin || bits > kBitsMax) {
    return Error(Error::invalid, "node",
                 std::string("annotation ") + name + " is \"" + text +
                     "\"; want bits per second from 1k to 1P, like \"10M\"");
  }
  return static_cast<std::uint64_t>(bits);
}

void add_ports(const json::value& container, std::vector<HostPort>& out) {
  const json::array* ports = array_at(container, "/ports");
  if (ports == nullptr) return;
  for (const json::value& item : *ports) {
    HostPort port;
    port.host_port = static_cast<std::uint16_t>(int_at(item, "/hostPort"));
    port.pod_port = static_cast<std::uint16_t>(int_at(item, "/containerPort"));
    if (port.host_port == 0 || port.pod_port == 0) continue;
    const std::string protocol = string_at(item, "/protocol", "TCP");
    port.protocol = protocol == "UDP"    ? IpProtocol::udp
                    : protocol == "SCTP" ? IpProtocol::sctp
                                         : IpProtocol::tcp;
    port.host_address = string_at(item, "/hostIP");
    if (port.host_address == "0.0.0.0" || port.host_address == "::") port.host_address.clear();
    out.push_back(std::move(port));
  }
}

}  // namespace

Result<void> add_network_wishes(const json::value& pod, AttachRequest& request) {
  ORC_ASSIGN(request.ingress_bits, bits_of(pod, "kubernetes.io/ingress-bandwidth"));
  ORC_ASSIGN(request.egress_bits, bits_of(pod, "kubernetes.io/egress-bandwidth"));
  request.binds_pod_address = annotation(pod, "orchestra.dev/binds-pod-ip") == "true";
  for (const char* list : {"/spec/containers", "/spec/initContainers"}) {
    const json::array* containers = array_at(pod, list);
    if (containers == nullptr) continue;
    for (const json::value& container : *containers) {
      const bool runs_on =
          std::string_view(list) == "/spec/containers" || string_at(container, "/restartPolicy") == "Always";
      if (runs_on) add_ports(container, request.host_ports);
    }
  }
  return {};
}

}  // namespace orchestra::node
