#pragma once
// What a port of the pods' bridge lets through: frames with the addresses that the pod was given. As text for
// nftables, family bridge; pure.
//
// A chain per port: its hardware address, its IPv4 address in packets and in ARP, its IPv6 addresses, and no
// router's words. A port that has no chain (yet, any more) passes nothing either way. Without it a pod could
// answer for the gateway or for its neighbours: on one link nobody else is asked.
#include <optional>
#include <string>
#include <vector>

#include "net/snapshot.hpp"

namespace orchestra::net {

struct BridgePort {
  std::string link;  ///< the host's end
  std::string mac;   ///< 6 bytes, of the pod's end
  IpAddress address;
  std::optional<IpAddress> address6;
};

/// The whole table, in place of the one that is there.
std::string bridge_guard_text(const std::string& table, const std::string& instance,
                              const std::vector<BridgePort>& ports);
/// One port more, in a table that has no such port.
std::string open_port_text(const std::string& table, const BridgePort& port);
/// Closes a port that is open.
std::string close_port_text(const std::string& table, const std::string& link);

}  // namespace orchestra::net
