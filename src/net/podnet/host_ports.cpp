#include "net/podnet/host_ports.hpp"

#include <optional>
#include <set>

#include "net/lb/nft_transaction.hpp"
#include "net/podnet/dual_stack.hpp"

namespace orchestra::net {
namespace {

/// How one family is written.
struct Words {
  std::string ip, type, protocol, loopback;
  explicit Words(bool six)
      : ip(six ? "ip6" : "ip"),
        type(six ? "ipv6_addr" : "ipv4_addr"),
        protocol(six ? "meta l4proto" : "ip protocol"),
        loopback(six ? "::1" : "127.0.0.1") {}
};

/// What the table holds, each list as nftables writes elements.
struct Elements {
  std::set<std::string> any, one, loopback, itself;
};

Elements elements_of(const std::vector<AddressPool::Lease>& leases, const std::optional<IpRange>& cluster6) {
  Elements out;
  const std::string loopback = Words(cluster6.has_value()).loopback;
  for (const auto& lease : leases) {
    const std::string pod = (cluster6 ? with_prefix(*cluster6, lease.address) : lease.address).to_string();
    for (const HostPort& port : lease.host_ports) {
      const bool of_six = port.host_address.find(':') != std::string::npos;
      if (!port.host_address.empty() && of_six != cluster6.has_value()) continue;
      const std::string key = std::string(nft_word(port.protocol)) + " . " + std::to_string(port.host_port);
      const std::string value = " : " + pod + " . " + std::to_string(port.pod_port);
      if (port.host_address.empty()) {
        out.any.insert(key + value);
      } else {
        out.one.insert(port.host_address + " . " + key + value);
      }
      if (port.host_address.empty() || port.host_address == loopback) out.loopback.insert(key);
      out.itself.insert(pod + " . " + pod);
    }
  }
  return out;
}

std::string declare(const char* kind, const char* name, const std::string& type,
                    const std::set<std::string>& all) {
  std::string list;
  for (const std::string& element : all) list += (list.empty() ? "" : ", ") + element;
  return std::string(" ") + kind + " " + name + " { type " + type + ";" +
         (list.empty() ? "" : " elements = { " + list + " }") + " }\n";
}

}  // namespace

std::string host_port_table_text(const std::string& table, const IpAddress& node_gateway,
                                 const std::vector<AddressPool::Lease>& leases,
                                 const std::optional<IpRange>& cluster6) {
  const Words words(cluster6.has_value());
  const std::string& ip = words.ip;
  const std::string head = "table " + ip + " " + table;
  const Elements elements = elements_of(leases, cluster6);
  std::string out = head + "\ndelete " + head + "\n";
  if (elements.itself.empty()) return out;
  const std::string gateway = (cluster6 ? with_prefix(*cluster6, node_gateway) : node_gateway).to_string();
  const std::string key = words.protocol + " . th dport", port = "inet_proto . inet_service";
  const std::string to = " : " + words.type + " . inet_service";
  const std::string saddr = ip + " saddr ", daddr = ip + " daddr ";
  out += head + " {\n";
  out += declare("map", "any", port + to, elements.any);
  out += declare("map", "one", words.type + " . " + port + to, elements.one);
  out += declare("set", "loopback", port, elements.loopback);
  out += declare("set", "itself", words.type + " . " + words.type, elements.itself);
  out += " chain publish {\n";
  if (!cluster6) out += "  ip daddr 127.0.0.0/8 ip daddr != 127.0.0.1 return\n";
  out += "  dnat " + ip + " to " + daddr + ". " + key + " map @one\n";
  out += "  fib daddr type local dnat " + ip + " to " + key + " map @any\n }\n";
  // Before the Services' hooks: a port that a pod was given by number is its own.
  out += " chain hook_pre {\n  type nat hook prerouting priority dstnat - 1; policy accept;\n";
  out += "  jump publish\n }\n";
  out += " chain hook_out {\n  type nat hook output priority -101; policy accept;\n  jump publish\n }\n";
  out += " chain hook_post {\n  type nat hook postrouting priority srcnat - 1; policy accept;\n";
  out += "  " + saddr + ". " + daddr + "@itself ct status dnat snat to " + gateway + "\n }\n";
  out += " chain hook_loopback {\n  type filter hook output priority raw; policy accept;\n";
  out += "  " + saddr + words.loopback + " " + daddr + words.loopback + " " + key + " @loopback " + saddr +
         "set " + gateway + "\n }\n";
  // Behind the translation back, which is at 100 here.
  out += " chain hook_answer {\n  type filter hook input priority 101; policy accept;\n";
  out += "  " + saddr + words.loopback + " " + daddr + gateway + " ct direction reply ct status dnat " +
         daddr + "set ";
  return out + words.loopback + "\n }\n}\n";
}

}  // namespace orchestra::net
