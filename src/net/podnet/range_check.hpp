#pragma once
// Do our ranges collide with what the machine routes already? Pure.
#include <optional>
#include <string>
#include <vector>

#include "net/podnet/rtnetlink.hpp"

namespace orchestra::net {

/// Links of one instance: the gateway link "orc-1a2b3c4d", veths "orc1a2b3c4d0102", and for pods with a limit
/// on what they send "orb1a2b3c4d0102".
std::string gateway_link_name(const std::string& instance);
/// "orv-1a2b3c4d": to nodes that share no link with this one.
std::string tunnel_link_name(const std::string& instance);
std::string pod_link_name(const std::string& instance, const IpAddress& address);
std::string rate_link_of(const std::string& pod_link);
/// A veth's host end or a rate link.
bool is_pod_link(const std::string& instance, const std::string& link);

/// "10.244.0.0/16 via 192.168.1.1 dev eth0"
std::string describe_route(const Route& route, const std::vector<Link>& links);

/// A route of ours to the pods of another node of this cluster.
bool is_peer_route(const Route& route, const IpRange& cluster);

/// The first route that overlaps `range` and is not ours, described; nullopt: the range is free.
/// `own_instance` empty: nothing is ours yet. Default routes never overlap.
std::optional<std::string> find_overlap(const IpRange& range, const std::vector<Route>& routes,
                                        const std::vector<Link>& links, const std::string& own_instance);

}  // namespace orchestra::net
