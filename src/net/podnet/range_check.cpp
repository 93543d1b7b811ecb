#include "net/podnet/range_check.hpp"

#include <linux/rtnetlink.h>

#include <cstdio>

namespace orchestra::net {

std::string gateway_link_name(const std::string& instance) { return "orc-" + instance; }

std::string tunnel_link_name(const std::string& instance) { return "orv-" + instance; }

std::string pod_link_name(const std::string& instance, const IpAddress& address) {
  // The lower 16 bits tell all pods of a node apart (its range is a /16 or smaller).
  char suffix[5] = {};
  std::snprintf(suffix, sizeof suffix, "%04x", address.v4_number() & 0xffffu);
  return "orc" + instance + suffix;
}

std::string rate_link_of(const std::string& pod_link) { return "orb" + pod_link.substr(3); }

bool is_pod_link(const std::string& instance, const std::string& link) {
  const std::string prefix = "orc" + instance;
  if (link.size() != prefix.size() + 4) return false;
  return link.starts_with(prefix) || link.starts_with(rate_link_of(prefix));
}

bool is_peer_route(const Route& route, const IpRange& cluster) {
  return route.protocol == kRouteProtocol && route.type == RTN_UNICAST && route.gateway &&
         route.table == RT_TABLE_MAIN && cluster.contains(route.destination.base) &&
         route.destination.prefix >= cluster.prefix;
}

namespace {
const Link* link_of(const Route& route, const std::vector<Link>& links) {
  for (const auto& link : links) {
    if (link.index == route.link) return &link;
  }
  return nullptr;
}
}  // namespace

std::string describe_route(const Route& route, const std::vector<Link>& links) {
  std::string text = route.type == RTN_UNREACHABLE ? "unreachable " : "";
  text += route.destination.to_string();
  if (route.gateway) text += " via " + route.gateway->to_string();
  if (const Link* link = link_of(route, links); link != nullptr && route.type != RTN_UNREACHABLE) {
    text += " dev " + link->name;
  }
  if (route.protocol == kRouteProtocol) text += " (of another Orchestra instance)";
  return text;
}

std::optional<std::string> find_overlap(const IpRange& range, const std::vector<Route>& routes,
                                        const std::vector<Link>& links, const std::string& own_instance) {
  for (const auto& route : routes) {
    if (route.destination.prefix == 0 || !route.destination.overlaps(range)) continue;
    const Link* link = link_of(route, links);
    const bool on_our_link =
        !own_instance.empty() && link != nullptr &&
        (link->name == gateway_link_name(own_instance) || is_pod_link(own_instance, link->name));
    const bool our_cover = !own_instance.empty() && route.protocol == kRouteProtocol &&
                           route.type == RTN_UNREACHABLE && route.destination == range;
    const bool our_peer = !own_instance.empty() && is_peer_route(route, range);
    if (on_our_link || our_cover || our_peer) continue;
    return describe_route(route, links);
  }
  return std::nullopt;
}

}  // namespace orchestra::net
