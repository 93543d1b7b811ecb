#include "net/lb/explain.hpp"

#include <algorithm>
#include <charconv>

namespace orchestra::net {
namespace {

struct Target {
  std::string address;  ///< "nodeport" or canonical
  std::uint16_t port = 0;
  IpProtocol protocol = IpProtocol::tcp;
};

Result<Target> parse_target(std::string_view text) {
  const auto bad = [&] {
    return Error(
        Error::invalid, "net",
        "\"" + std::string(text) + "\" is not a target; want 10.96.0.1:80/tcp or nodeport:30080/tcp");
  };
  Target target;
  const auto slash = text.rfind('/');
  const auto protocol = slash == std::string_view::npos ? "tcp" : text.substr(slash + 1);
  if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") return bad();
  target.protocol = protocol == "tcp"   ? IpProtocol::tcp
                    : protocol == "udp" ? IpProtocol::udp
                                        : IpProtocol::sctp;
  const auto rest = text.substr(0, slash);
  const auto colon = rest.rfind(':');
  if (colon == std::string_view::npos) return bad();
  const auto number = rest.substr(colon + 1);
  const auto parsed = std::from_chars(number.data(), number.data() + number.size(), target.port);
  if (parsed.ec != std::errc() || parsed.ptr != number.data() + number.size() || target.port == 0)
    return bad();
  target.address = std::string(rest.substr(0, colon));
  if (target.address.size() > 2 && target.address.front() == '[' && target.address.back() == ']')
    target.address = target.address.substr(1, target.address.size() - 2);
  if (target.address == "nodeport") return target;
  const auto address = IpAddress::parse(target.address);
  if (!address) return bad();
  target.address = address->to_string();
  return target;
}

bool contains(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

std::string describe(const NetworkEndpoint& endpoint) {
  std::string out = endpoint.address + ":" + std::to_string(endpoint.port);
  if (!endpoint.pod_name.empty()) out += " pod " + endpoint.pod_ns + "/" + endpoint.pod_name;
  if (!endpoint.node.empty()) out += " on node " + endpoint.node;
  return out;
}

}  // namespace

Result<std::string> explain_target(const NetworkSnapshot& snapshot, std::string_view node,
                                   std::string_view text) {
  ORC_ASSIGN(const Target target, parse_target(text));
  const std::string_view zone = snapshot.zone_of(node);
  const bool node_port = target.address == "nodeport";
  const NetworkService* nearest = nullptr;
  for (const auto& [name, service] : snapshot.services) {
    const bool ours = node_port || contains(service->cluster_ips, target.address) ||
                      contains(service->external_ips, target.address) ||
                      contains(service->load_balancer_ips, target.address);
    if (!ours) continue;
    for (NetworkServicePort port : service->ports) {
      const auto number = node_port ? port.node_port : port.port;
      if (number != target.port || port.protocol != target.protocol) continue;
      if (!node_port) {  // an address leads to endpoints of its own family
        const bool six = target.address.find(':') != std::string::npos;
        std::erase_if(port.endpoints, [&](const NetworkEndpoint& one) {
          return (one.address.find(':') != std::string::npos) != six;
        });
      }
      const bool inside = !node_port && contains(service->cluster_ips, target.address);
      const auto choice = usable_endpoints(*service, port, node,
                                           inside ? TrafficOrigin::internal : TrafficOrigin::external, zone);
      std::string out = std::string(text) + " is Service " + name.to_string() + " port " +
                        (port.name.empty() ? std::to_string(port.port) : port.name) + "\n";
      if (!service->source_ranges.empty() && contains(service->load_balancer_ips, target.address)) {
        out += "only from";
        for (const std::string& range : service->source_ranges) out += " " + range;
        out += " (loadBalancerSourceRanges)\n";
      }
      if (choice.chosen.empty()) {
        out += (choice.not_ours ? "not served: "
                : choice.drop   ? "dropped: "
                                : "refused: ") +
               choice.why_none + "\n";
      }
      for (const auto& endpoint : choice.chosen) out += "  to  " + describe(endpoint) + "\n";
      for (const auto& other : choice.excluded)
        out += "  not " + describe(other.endpoint) + ": " + other.reason + "\n";
      if (!inside && service->external_local) {
        out += "from pods and this node, which no externalTrafficPolicy holds:\n";
        for (const auto& endpoint : usable_endpoints(*service, port, node, TrafficOrigin::near, zone).chosen)
          out += "  to  " + describe(endpoint) + "\n";
      }
      return out;
    }
    if (!node_port) nearest = service.get();
  }
  if (nearest != nullptr) {
    return std::string(text) + ": Service " + nearest->ns + "/" + nearest->name +
           " has this address, but no such port: refused\n";
  }
  return std::string(text) + ": no Service has it\n";
}

}  // namespace orchestra::net
