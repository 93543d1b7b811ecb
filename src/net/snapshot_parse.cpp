// Services, EndpointSlices, pods and nodes as the network sees them.
//
// The API server has validated these objects when they were written, but a snapshot may also be built from
// a host's own objects or an old store: every number and address is checked again, and what is wrong is
// left out with a reason instead of spoiling the rest.
#include "net/snapshot_parse.hpp"

#include <algorithm>

#include "api/object_tree.hpp"

namespace orchestra::net {
namespace {

constexpr std::string_view kZoneLabel = "topology.kubernetes.io/zone";

std::optional<std::uint16_t> to_port(std::int64_t number) {
  if (number < 1 || number > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(number);
}

std::optional<IpProtocol> to_protocol(std::string_view text) {
  if (text.empty() || text == "TCP") return IpProtocol::tcp;
  if (text == "UDP") return IpProtocol::udp;
  if (text == "SCTP") return IpProtocol::sctp;
  return std::nullopt;
}

/// Canonical addresses of an array of strings; bad ones are refused.
std::vector<std::string> parse_addresses(const Object& object, std::string_view pointer,
                                         Rejections& rejections) {
  std::vector<std::string> out;
  const auto* array = array_at(tree(object), pointer);
  if (array == nullptr) return out;
  for (const auto& item : *array) {
    if (!item.is_string()) continue;
    const std::string text(item.as_string());
    if (text == "None" || text.empty()) continue;
    if (const auto address = IpAddress::parse(text)) {
      out.push_back(address->to_string());
    } else {
      rejections.add(object, "InvalidAddress",
                     "\"" + text + "\" in " + std::string(pointer.substr(1)) + " is not an IP address");
    }
  }
  return out;
}

void parse_service_port(const Object& object, const json::value& item, NetworkService& service,
                        Rejections& rejections) {
  NetworkServicePort port;
  port.name = string_at(item, "/name");
  const auto number = to_port(int_at(item, "/port"));
  const auto protocol = to_protocol(string_at(item, "/protocol"));
  if (!number || !protocol) {
    rejections.add(object, "InvalidPort",
                   "port \"" + port.name + "\" has number " + std::to_string(int_at(item, "/port")) +
                       " and protocol \"" + string_at(item, "/protocol") +
                       "\"; want 1-65535 and TCP, UDP or SCTP");
    return;
  }
  port.port = *number;
  port.protocol = *protocol;
  port.target_number = *number;
  if (const auto* target = find(item, "/targetPort")) {
    if (target->is_string()) {
      port.target_name = std::string(target->as_string());
      port.target_number = 0;
    } else {
      port.target_number = to_port(int_at(item, "/targetPort")).value_or(*number);
    }
  }
  port.node_port = to_port(int_at(item, "/nodePort")).value_or(0);
  port.app_protocol = string_at(item, "/appProtocol");
  service.ports.push_back(std::move(port));
}

std::vector<std::string> hinted(const json::value& item, std::string_view pointer) {
  std::vector<std::string> out;
  const auto* list = array_at(item, pointer);
  if (list == nullptr) return out;
  for (const auto& hint : *list) out.push_back(string_at(hint, "/name"));
  return out;
}

NetworkEndpoint parse_endpoint(const json::value& item) {
  NetworkEndpoint endpoint;
  // An absent condition means: ready and serving (the API's own default).
  endpoint.ready = bool_at(item, "/conditions/ready", true);
  endpoint.serving = bool_at(item, "/conditions/serving", endpoint.ready);
  endpoint.terminating = bool_at(item, "/conditions/terminating", false);
  endpoint.node = string_at(item, "/nodeName");
  endpoint.zone = string_at(item, "/zone");
  endpoint.hostname = string_at(item, "/hostname");
  endpoint.for_nodes = hinted(item, "/hints/forNodes");
  endpoint.for_zones = hinted(item, "/hints/forZones");
  if (string_at(item, "/targetRef/kind") == "Pod") {
    endpoint.pod_ns = string_at(item, "/targetRef/namespace");
    endpoint.pod_name = string_at(item, "/targetRef/name");
    endpoint.pod_uid = string_at(item, "/targetRef/uid");
  }
  return endpoint;
}

bool is_loopback_pod(const IpAddress& address, const std::vector<IpRange>& loopback) {
  return std::any_of(loopback.begin(), loopback.end(),
                     [&](const IpRange& range) { return range.contains(address); });
}

/// The slice's ports that some port of the Service names, as (Service port, number of the endpoints).
std::vector<std::pair<NetworkServicePort*, std::uint16_t>> match_ports(NetworkService& service,
                                                                       const Object& slice,
                                                                       Rejections& rejections) {
  std::vector<std::pair<NetworkServicePort*, std::uint16_t>> out;
  const auto* ports = array_at(tree(slice), "/ports");
  if (ports == nullptr) return out;
  for (const auto& item : *ports) {
    const auto protocol = to_protocol(string_at(item, "/protocol"));
    const auto number = to_port(int_at(item, "/port"));
    if (!protocol || !number) {
      rejections.add(slice, "InvalidPort",
                     "port \"" + string_at(item, "/name") + "\" has number " +
                         std::to_string(int_at(item, "/port")) + "; want 1-65535");
      continue;
    }
    for (auto& port : service.ports) {
      if (port.name == string_at(item, "/name") && port.protocol == *protocol)
        out.emplace_back(&port, *number);
    }
  }
  return out;
}

/// Of two reports about one address the more hopeful one counts: a pod that moves between slices is in
/// both for a moment, and the older one says "not ready".
void merge_duplicates(std::vector<NetworkEndpoint>& endpoints) {
  std::stable_sort(endpoints.begin(), endpoints.end(),
                   [](const NetworkEndpoint& a, const NetworkEndpoint& b) {
                     if (a.address != b.address) return a.address < b.address;
                     if (a.port != b.port) return a.port < b.port;
                     if (a.ready != b.ready) return a.ready;
                     return a.serving && !b.serving;
                   });
  const auto same = [](const NetworkEndpoint& a, const NetworkEndpoint& b) {
    return a.address == b.address && a.port == b.port;
  };
  endpoints.erase(std::unique(endpoints.begin(), endpoints.end(), same), endpoints.end());
}

}  // namespace

std::shared_ptr<NetworkService> parse_service(const Object& object, Rejections& rejections) {
  const auto& root = tree(object);
  auto service = std::make_shared<NetworkService>();
  service->ns = object.ns();
  service->name = object.name();
  service->uid = object.uid();
  service->resource_version = object.resource_version();
  service->labels = object.labels();
  service->annotations = object.annotations();
  service->type = string_at(root, "/spec/type", "ClusterIP");
  service->external_name = service->type == "ExternalName" ? string_at(root, "/spec/externalName") : "";
  service->cluster_ips = parse_addresses(object, "/spec/clusterIPs", rejections);
  const auto first = string_at(root, "/spec/clusterIP");
  service->headless = first == "None" && service->type != "ExternalName";
  if (service->cluster_ips.empty() && !service->headless && !first.empty()) {
    if (const auto address = IpAddress::parse(first)) service->cluster_ips.push_back(address->to_string());
  }
  service->external_ips = parse_addresses(object, "/spec/externalIPs", rejections);
  if (const auto* ingress = array_at(root, "/status/loadBalancer/ingress")) {
    for (const auto& item : *ingress) {
      const auto address = IpAddress::parse(string_at(item, "/ip"));
      if (address && string_at(item, "/ipMode", "VIP") == "VIP") {
        service->load_balancer_ips.push_back(address->to_string());
      }
    }
  }
  if (const auto* ranges = array_at(root, "/spec/loadBalancerSourceRanges")) {
    for (const auto& item : *ranges) {
      if (item.is_string()) service->source_ranges.emplace_back(item.as_string());
    }
  }
  service->publish_not_ready = bool_at(root, "/spec/publishNotReadyAddresses");
  service->foreign_proxy = service->labels.contains("service.kubernetes.io/service-proxy-name");
  service->affinity_client_ip = string_at(root, "/spec/sessionAffinity") == "ClientIP";
  service->affinity_seconds =
      static_cast<int>(int_at(root, "/spec/sessionAffinityConfig/clientIP/timeoutSeconds", 10800));
  service->internal_local = string_at(root, "/spec/internalTrafficPolicy") == "Local";
  service->external_local = string_at(root, "/spec/externalTrafficPolicy") == "Local";
  if (service->type == "LoadBalancer" && service->external_local)
    service->health_check_port = to_port(int_at(root, "/spec/healthCheckNodePort")).value_or(0);
  if (const auto* ports = array_at(root, "/spec/ports")) {
    for (const auto& item : *ports) parse_service_port(object, item, *service, rejections);
  }
  return service;
}

void merge_slice(NetworkService& service, const Object& slice, const std::vector<IpRange>& loopback,
                 Rejections& rejections) {
  const auto& root = tree(slice);
  if (string_at(root, "/addressType") == "FQDN") return;
  const auto* endpoints = array_at(root, "/endpoints");
  if (endpoints == nullptr) return;
  const auto ports = match_ports(service, slice, rejections);
  for (const auto& item : *endpoints) {
    const auto* addresses = array_at(item, "/addresses");
    if (addresses == nullptr || addresses->empty() || !addresses->front().is_string()) continue;
    const std::string text(
        addresses->front().as_string());  // only the first one means anything (the API says)
    const auto address = IpAddress::parse(text);
    const char* refusal = address ? endpoint_address_refusal(*address) : "is not an IP address";
    if (refusal != nullptr && !(address && is_loopback_pod(*address, loopback))) {
      rejections.add(slice, "InvalidEndpointAddress",
                     "endpoint address " + text + " " + refusal + "; nothing is sent there");
      continue;
    }
    NetworkEndpoint endpoint = parse_endpoint(item);
    endpoint.address = address->to_string();
    service.endpoints.push_back(endpoint);
    for (const auto& [port, number] : ports) {
      endpoint.port = number;
      port->endpoints.push_back(endpoint);
    }
  }
}

void finish_endpoints(NetworkService& service) {
  merge_duplicates(service.endpoints);
  for (auto& port : service.ports) merge_duplicates(port.endpoints);
}

std::shared_ptr<NetworkPod> parse_pod(const Object& object) {
  const auto& root = tree(object);
  auto pod = std::make_shared<NetworkPod>();
  pod->ns = object.ns();
  pod->name = object.name();
  pod->uid = object.uid();
  pod->resource_version = object.resource_version();
  pod->labels = object.labels();
  pod->node = string_at(root, "/spec/nodeName");
  pod->hostname = string_at(root, "/spec/hostname");
  pod->subdomain = string_at(root, "/spec/subdomain");
  pod->host_network = bool_at(root, "/spec/hostNetwork");
  const auto phase = string_at(root, "/status/phase");
  pod->finished = phase == "Succeeded" || phase == "Failed";
  const auto add = [&](std::string_view text) {
    const auto address = IpAddress::parse(text);
    if (!address) return;
    auto canonical = address->to_string();
    auto& all = pod->addresses;
    if (std::find(all.begin(), all.end(), canonical) == all.end()) all.push_back(std::move(canonical));
  };
  add(string_at(root, "/status/podIP"));
  if (const auto* addresses = array_at(root, "/status/podIPs")) {
    for (const auto& item : *addresses) add(string_at(item, "/ip"));
  }
  for (const char* list : {"/spec/containers", "/spec/initContainers"}) {
    const auto* containers = array_at(root, list);
    if (containers == nullptr) continue;
    for (const auto& container : *containers) {
      const auto* ports = array_at(container, "/ports");
      if (ports == nullptr) continue;
      for (const auto& item : *ports) {
        const auto number = to_port(int_at(item, "/containerPort"));
        const auto protocol = to_protocol(string_at(item, "/protocol"));
        if (!number || !protocol || string_at(item, "/name").empty()) continue;
        pod->ports.push_back({string_at(item, "/name"), *protocol, *number});
      }
    }
  }
  return pod;
}

std::shared_ptr<NetworkNode> parse_node(const Object& object) {
  const auto& root = tree(object);
  auto node = std::make_shared<NetworkNode>();
  node->name = object.name();
  node->uid = object.uid();
  node->resource_version = object.resource_version();
  node->labels = object.labels();
  node->annotations = object.annotations();
  if (const auto zone = node->labels.find(std::string(kZoneLabel)); zone != node->labels.end()) {
    node->zone = zone->second;
  }
  if (const auto* addresses = array_at(root, "/status/addresses")) {
    for (const auto& item : *addresses) {
      const auto address = IpAddress::parse(string_at(item, "/address"));
      if (!address) continue;
      const auto type = string_at(item, "/type");
      if (type == "InternalIP") node->internal_addresses.push_back(address->to_string());
      if (type == "ExternalIP") node->external_addresses.push_back(address->to_string());
    }
  }
  const auto* ranges = array_at(root, "/spec/podCIDRs");
  if (ranges != nullptr && !ranges->empty()) {
    for (const auto& item : *ranges) {
      if (item.is_string()) node->pod_cidrs.emplace_back(item.as_string());
    }
  } else if (auto range = string_at(root, "/spec/podCIDR"); !range.empty()) {
    node->pod_cidrs.push_back(std::move(range));
  }
  if (const auto* conditions = array_at(root, "/status/conditions")) {
    for (const auto& item : *conditions) {
      if (string_at(item, "/type") == "Ready") node->ready = string_at(item, "/status") == "True";
    }
  }
  return node;
}

}  // namespace orchestra::net
