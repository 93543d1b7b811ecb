#pragma once
// IPv6 addresses of pods and nodes, made of their IPv4 ones. Pure.
//
// The cluster's IPv6 range holds an IPv4 address in its last 32 bits: 10.244.1.5 is fd00:10:244::af4:105. So
// there is one pool, one journal and one range for a node, and whoever knows an address of one family knows
// the other.
#include <optional>

#include "net/snapshot.hpp"

namespace orchestra::net {

/// `cluster6` is a /96 or larger.
IpAddress with_prefix(const IpRange& cluster6, const IpAddress& v4);
/// 10.244.1.0/24 becomes a /120.
IpRange with_prefix(const IpRange& cluster6, const IpRange& v4);
/// Empty text: no IPv6.
Result<std::optional<IpRange>> parse_cluster6(const std::string& text);

}  // namespace orchestra::net
