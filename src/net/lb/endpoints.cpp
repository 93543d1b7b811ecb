// Which endpoints of a Service port are used: one pure function.
//
// The rules are those of Kubernetes' pkg/proxy/topology.go: ready endpoints; when none is ready, those
// that terminate but still serve (better a pod that is about to go than nobody); a Local policy keeps to
// this node and then prefers silence to a reset, because another node may have an answer. A pod or the node
// itself that uses an outside address is under no policy: it stands for a client behind a load balancer,
// which would have sent it to a node that has endpoints. Hints (trafficDistribution) narrow what no policy
// narrows: they count only where all ready endpoints have them, so that a client that is not up to date with
// a change is not sent to a few of them.
#include "orchestra/service_proxy.hpp"

#include <algorithm>

namespace orchestra {
namespace {

std::string not_ready_reason(const NetworkEndpoint& endpoint) {
  if (endpoint.terminating) return endpoint.serving ? "terminating, and others are ready" : "terminating";
  return "not ready";
}

bool lists(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

enum class Nearness : std::uint8_t { any, same_node, same_zone };

/// pkg/proxy/topology.go, topologyModeFromHints.
Nearness nearness(const std::vector<NetworkEndpoint>& endpoints, std::string_view node,
                  std::string_view zone) {
  bool all_nodes = true, all_zones = true, this_node = false, this_zone = false, any = false;
  for (const NetworkEndpoint& endpoint : endpoints) {
    if (!endpoint.ready) continue;
    any = true;
    all_nodes = all_nodes && !endpoint.for_nodes.empty();
    all_zones = all_zones && !endpoint.for_zones.empty();
    this_node = this_node || lists(endpoint.for_nodes, node);
    this_zone = this_zone || lists(endpoint.for_zones, zone);
  }
  if (!any) return Nearness::any;
  if (all_nodes && this_node) return Nearness::same_node;
  return all_zones && this_zone ? Nearness::same_zone : Nearness::any;
}

}  // namespace

EndpointChoice usable_endpoints(const NetworkService& service, const NetworkServicePort& port,
                                std::string_view node, TrafficOrigin origin, std::string_view zone) {
  EndpointChoice choice;
  if (service.foreign_proxy || service.headless || service.type == "ExternalName") {
    choice.not_ours = true;
    choice.why_none = service.foreign_proxy
                          ? "the label service.kubernetes.io/service-proxy-name gives it to another proxy"
                      : service.headless ? "headless: clients ask DNS for the pods' own addresses"
                                         : "ExternalName: DNS answers with another name";
    return choice;
  }
  const bool local_only = origin == TrafficOrigin::internal   ? service.internal_local
                          : origin == TrafficOrigin::external ? service.external_local
                                                              : false;
  const char* policy = origin == TrafficOrigin::internal ? "internalTrafficPolicy" : "externalTrafficPolicy";
  std::vector<const NetworkEndpoint*> candidates;
  std::size_t usable_elsewhere = 0;
  for (const auto& endpoint : port.endpoints) {
    if (local_only && endpoint.node != node) {
      if (endpoint.ready || endpoint.serving) ++usable_elsewhere;
      choice.excluded.push_back({endpoint, "on node \"" + endpoint.node + "\" (" + policy + ": Local)"});
      continue;
    }
    candidates.push_back(&endpoint);
  }
  const Nearness near = local_only ? Nearness::any : nearness(port.endpoints, node, zone);
  bool any_ready = false;
  for (const auto* endpoint : candidates) any_ready = any_ready || endpoint->ready;
  for (const auto* endpoint : candidates) {
    const bool fallback = !any_ready && endpoint->serving && endpoint->terminating;
    const bool far = (near == Nearness::same_node && !lists(endpoint->for_nodes, node)) ||
                     (near == Nearness::same_zone && !lists(endpoint->for_zones, zone));
    if (endpoint->ready && far) {
      choice.excluded.push_back({*endpoint, near == Nearness::same_node
                                                ? "for clients on other nodes (hints)"
                                                : "for clients of other zones (hints)"});
    } else if (endpoint->ready || fallback) {
      choice.chosen.push_back(*endpoint);
    } else {
      choice.excluded.push_back({*endpoint, not_ready_reason(*endpoint)});
    }
  }
  if (!choice.chosen.empty()) return choice;
  choice.drop = usable_elsewhere > 0;
  if (choice.drop) {
    choice.why_none = std::string(policy) + ": Local, and no usable endpoint is on this node";
  } else if (port.endpoints.empty()) {
    choice.why_none = "no pod matches the selector, or none has an address yet";
  } else {
    choice.why_none = "no endpoint is ready";
  }
  return choice;
}

}  // namespace orchestra
