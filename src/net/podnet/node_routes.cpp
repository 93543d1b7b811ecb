// Routes to the pods of other nodes that share a link with this one: one per node, by the node's own address.
//
// The kernel finds the link by the gateway's address; a gateway that is not on a link of ours is refused by
// it, and the node is reported instead of being sent to by way of strangers. Foreign routes for a node's
// range are reported and stay. Ours are told by their protocol, so what an earlier process made is found and
// goes when its node is gone.
#include <linux/rtnetlink.h>

#include <map>

#include "net/podnet/routed_network.hpp"

namespace orchestra::net {

Pending<std::vector<std::string>> RoutedNetwork::set_peers(std::vector<PodNetworkPeer> peers) {
  return queue_->run(
      [self = shared_from_this(), peers = std::move(peers)] { return self->set_peers_now(peers); });
}

Result<std::vector<std::string>> RoutedNetwork::set_peers_now(const std::vector<PodNetworkPeer>& peers) {
  std::vector<std::string> problems;
  if (torn_down_) return problems;
  ORC_ASSIGN(const std::vector<Route> routes, routes_.routes());
  std::map<std::string, Route> wanted;  // by destination
  std::map<std::string, std::string> names;
  for (const PodNetworkPeer& peer : peers) {
    const auto range = IpRange::parse(peer.pod_cidr);
    const auto gateway = IpAddress::parse(peer.address);
    if (!range || !gateway || !gateway->is_v4()) {
      problems.push_back("node " + peer.name + ": pods " + peer.pod_cidr + " at " + peer.address +
                         " are no IPv4 range and address");
      continue;
    }
    if (!ranges_.cluster.contains(range->base) || range->overlaps(ranges_.pods)) {
      problems.push_back("node " + peer.name + ": its range " + peer.pod_cidr + " is not in the cluster's " +
                         ranges_.cluster.to_string() + ", or is that of this node");
      continue;
    }
    Route route;
    route.destination = *range;
    route.gateway = *gateway;
    route.source = gateway_;  // others know this node's pods, and its gateway among them
    names[range->to_string()] = peer.name;
    wanted.insert_or_assign(range->to_string(), route);
  }
  for (const Route& route : routes) {
    const auto found = wanted.find(route.destination.to_string());
    if (is_peer_route(route, ranges_.cluster)) {
      if (found == wanted.end()) {
        ORC_TRY(routes_.remove_route(route));
      } else if (*route.gateway == *found->second.gateway) {
        wanted.erase(found);  // as it should be
      }
    } else if (found != wanted.end() && route.table == RT_TABLE_MAIN) {
      problems.push_back("node " + names[found->first] + ": this machine has a foreign route for " +
                         found->first + ", which stays");
      wanted.erase(found);
    }
  }
  for (const auto& [range, route] : wanted) {
    auto made = routes_.add_route(route);
    if (made) continue;
    problems.push_back("node " + names[range] + ": no route to its pods " + range + " by " +
                       route.gateway->to_string() + " (" + made.error().message() +
                       "); nodes must share a link, tunnels between networks are not there yet");
  }
  return problems;
}

}  // namespace orchestra::net
