#include "net/podnet/bridge_guard.hpp"

#include <cstdio>

namespace orchestra::net {
namespace {

std::string mac_text(const std::string& mac) {
  std::string out;
  for (const char byte : mac) {
    char two[4];
    std::snprintf(two, sizeof two, "%s%02x", out.empty() ? "" : ":",
                  static_cast<unsigned>(static_cast<unsigned char>(byte)));
    out += two;
  }
  return out;
}

/// The link-local address that the kernel makes of a hardware address (RFC 4291, appendix A).
IpAddress link_local_of(const std::string& mac) {
  IpAddress out = *IpAddress::parse("fe80::ff:fe00:0");
  for (std::size_t i = 0; i < 3; ++i) {
    out.bytes[8 + i] = static_cast<std::uint8_t>(mac[i]);
    out.bytes[13 + i] = static_cast<std::uint8_t>(mac[3 + i]);
  }
  out.bytes[8] ^= 2;
  return out;
}

std::string hex_of(const IpAddress& address) {
  std::string out = "0x";
  for (const auto byte : address.bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", unsigned{byte});
    out += two;
  }
  return out;
}

std::string chain_of(const std::string& link) { return "p_" + link; }

std::vector<std::string> rules_of(const BridgePort& port) {
  const std::string mac = mac_text(port.mac), address = port.address.to_string();
  std::vector<std::string> out{"ether saddr != " + mac + " drop", "ip saddr " + address + " accept",
                               "arp saddr ether " + mac + " arp saddr ip " + address + " accept"};
  if (port.address6) {
    const IpAddress local = link_local_of(port.mac);
    out.push_back("icmpv6 type { nd-router-advert, nd-redirect } drop");
    // Behind 8 bytes of head: whom the answer is about.
    out.push_back("icmpv6 type nd-neighbor-advert @th,64,128 != " + hex_of(*port.address6) +
                  " @th,64,128 != " + hex_of(local) + " drop");
    out.push_back("ip6 saddr { ::, " + local.to_string() + ", " + port.address6->to_string() + " } accept");
  }
  out.push_back("drop");
  return out;
}

}  // namespace

std::string open_port_text(const std::string& table, const BridgePort& port) {
  const std::string of_table = " bridge " + table + " ", chain = chain_of(port.link);
  std::string out = "add chain" + of_table + chain + "\nflush chain" + of_table + chain + "\n";
  for (const std::string& rule : rules_of(port)) out += "add rule" + of_table + chain + " " + rule + "\n";
  out += "add element" + of_table + "from { \"" + port.link + "\" : goto " + chain + " }\n";
  return out + "add element" + of_table + "to { \"" + port.link + "\" }\n";
}

std::string close_port_text(const std::string& table, const std::string& link) {
  const std::string of_table = " bridge " + table + " ";
  return "delete element" + of_table + "from { \"" + link + "\" }\ndelete element" + of_table + "to { \"" +
         link + "\" }\nflush chain" + of_table + chain_of(link) + "\ndelete chain" + of_table +
         chain_of(link) + "\n";
}

std::string bridge_guard_text(const std::string& table, const std::string& instance,
                              const std::vector<BridgePort>& ports) {
  const std::string head = "table bridge " + table, pods = "\"orc" + instance + "*\" ";
  std::string out = head + "\ndelete " + head + "\n" + head + " {\n";
  out += " map from { type ifname : verdict; }\n set to { type ifname; }\n chain pre {\n";
  // Before the frames reach the tables of IPv4 and IPv6 (br_netfilter, priority 0).
  out += "  type filter hook prerouting priority -300; policy accept;\n";
  out += "  iifname vmap @from\n  iifname " + pods + "drop\n }\n chain post {\n";
  out += "  type filter hook postrouting priority 0; policy accept;\n";
  out += "  oifname " + pods + "oifname != @to drop\n }\n}\n";
  for (const BridgePort& port : ports) out += open_port_text(table, port);
  return out;
}

}  // namespace orchestra::net
