#include "net/podnet/host_ports.hpp"

#include <set>

namespace orchestra::net {
namespace {

constexpr const char* kLoopback = "127.0.0.1";

const char* nft_protocol(IpProtocol protocol) {
  return protocol == IpProtocol::tcp ? "tcp" : protocol == IpProtocol::udp ? "udp" : "sctp";
}

/// What the table holds, each list as nftables writes elements.
struct Elements {
  std::set<std::string> any, one, loopback, itself;
};

Elements elements_of(const std::vector<AddressPool::Lease>& leases) {
  Elements out;
  for (const auto& lease : leases) {
    const std::string pod = lease.address.to_string();
    for (const HostPort& port : lease.host_ports) {
      const std::string key =
          std::string(nft_protocol(port.protocol)) + " . " + std::to_string(port.host_port);
      const std::string value = " : " + pod + " . " + std::to_string(port.pod_port);
      if (port.host_address.empty()) {
        out.any.insert(key + value);
      } else {
        out.one.insert(port.host_address + " . " + key + value);
      }
      if (port.host_address.empty() || port.host_address == kLoopback) out.loopback.insert(key);
      out.itself.insert(pod + " . " + pod);
    }
  }
  return out;
}

std::string declare(const char* kind, const char* name, const char* type, const std::set<std::string>& all) {
  std::string list;
  for (const std::string& element : all) list += (list.empty() ? "" : ", ") + element;
  return std::string(" ") + kind + " " + name + " { type " + type + ";" +
         (list.empty() ? "" : " elements = { " + list + " }") + " }\n";
}

}  // namespace

std::string host_port_table_text(const std::string& table, const IpAddress& node_gateway,
                                 const std::vector<AddressPool::Lease>& leases) {
  const std::string head = "table ip " + table;
  const Elements elements = elements_of(leases);
  std::string out = head + "\ndelete " + head + "\n";
  if (elements.itself.empty()) return out;
  const std::string gateway = node_gateway.to_string();
  const std::string key = "ip protocol . th dport";
  out += head + " {\n";
  out += declare("map", "any", "inet_proto . inet_service : ipv4_addr . inet_service", elements.any);
  out +=
      declare("map", "one", "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service", elements.one);
  out += declare("set", "loopback", "inet_proto . inet_service", elements.loopback);
  out += declare("set", "itself", "ipv4_addr . ipv4_addr", elements.itself);
  out += " chain publish {\n  ip daddr 127.0.0.0/8 ip daddr != 127.0.0.1 return\n";
  out += "  dnat ip to ip daddr . " + key + " map @one\n";
  out += "  fib daddr type local dnat ip to " + key + " map @any\n }\n";
  // Before the Services' hooks: a port that a pod was given by number is its own.
  out += " chain hook_pre {\n  type nat hook prerouting priority dstnat - 1; policy accept;\n";
  out += "  jump publish\n }\n";
  out += " chain hook_out {\n  type nat hook output priority -101; policy accept;\n  jump publish\n }\n";
  out += " chain hook_post {\n  type nat hook postrouting priority srcnat - 1; policy accept;\n";
  out += "  ip saddr . ip daddr @itself ct status dnat snat to " + gateway + "\n }\n";
  out += " chain hook_loopback {\n  type filter hook output priority raw; policy accept;\n";
  out += "  ip saddr 127.0.0.1 ip daddr 127.0.0.1 " + key + " @loopback ip saddr set " + gateway + "\n }\n";
  // Behind the translation back, which is at 100 here.
  out += " chain hook_answer {\n  type filter hook input priority 101; policy accept;\n";
  out += "  ip saddr 127.0.0.1 ip daddr " + gateway + " ct direction reply ct status dnat ip daddr set ";
  return out + "127.0.0.1\n }\n}\n";
}

}  // namespace orchestra::net
