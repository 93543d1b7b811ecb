#pragma once
// Ports of the machine that lead to pods (hostPort), as one nftables table. Pure.
//
// The table is written whole, in one transaction, whenever a pod with such ports comes or goes: they are few.
// Connections from other machines keep the client's address. 127.0.0.1 works without `route_localnet`
// (CVE-2020-8558): the source is made the node's own address before connection tracking sees the packet, so
// that it may leave by the pod's link, and the answer's destination is made 127.0.0.1 again after the
// translation was undone, before a socket is looked for.
#include <optional>
#include <string>
#include <vector>

#include "net/podnet/address_pool.hpp"

namespace orchestra::net {

/// Commands that make `table` ("orc_1a2b3c4d_hp") say what these leases ask for; no ports: no table. With
/// `cluster6` it is that of IPv6, whose addresses are made of the IPv4 ones (dual_stack.hpp); ::1 works as
/// 127.0.0.1 does.
std::string host_port_table_text(const std::string& table, const IpAddress& node_gateway,
                                 const std::vector<AddressPool::Lease>& leases,
                                 const std::optional<IpRange>& cluster6 = {});

}  // namespace orchestra::net
