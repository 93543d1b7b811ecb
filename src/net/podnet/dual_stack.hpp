#pragma once
// IPv6 addresses of pods and nodes, made of their IPv4 ones. Pure.
//
// The cluster's IPv6 range holds an IPv4 address in its last 32 bits: 10.244.1.5 is fd00:10:244::af4:105. So
// there is one pool, one journal and one range for a node, and whoever knows an address of one family knows
// the other. Pods that have IPv6 alone are numbered the same way; then nobody has the IPv4 addresses.
#include <optional>

#include "net/snapshot.hpp"

namespace orchestra::net {

/// `cluster6` is a /96 or larger.
IpAddress with_prefix(const IpRange& cluster6, const IpAddress& v4);
/// 10.244.1.0/24 becomes a /120.
IpRange with_prefix(const IpRange& cluster6, const IpRange& v4);
/// The other way: the IPv4 address that an IPv6 one is made of.
IpAddress number_of(const IpAddress& address);
/// fd00:10:244::af4:100/120 becomes 10.244.1.0/24. Nothing: a range of IPv6 that is larger than a /96.
std::optional<IpRange> numbers_of(const IpRange& range);
/// Empty text: no IPv6.
Result<std::optional<IpRange>> parse_cluster6(const std::string& text);

}  // namespace orchestra::net
