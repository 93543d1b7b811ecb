// Rules of Service, Endpoints, EndpointSlice and Ingress: pkg/apis/{core,discovery,networking}/validation.
#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::size_t kEndpointAddressesMax = 100, kEndpointsMax = 1000, kEndpointPortsMax = 20000;
constexpr std::size_t kZoneHintsMax = 8, kTopologyLabelsMax = 16;
constexpr std::int64_t kAffinitySecondsMax = 86400;

bool is_address(int family, std::string_view text) {
  if (text.size() >= INET6_ADDRSTRLEN) return false;
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  text.copy(buffer.data(), buffer.size() - 1);
  std::array<unsigned char, 16> out{};
  return ::inet_pton(family, buffer.data(), out.data()) == 1;
}

/// Addresses that reach nobody else. IPv4 inside of IPv6 counts as IPv4, as in Go.
void check_special_ip(std::string_view text, bool endpoint, const FieldPath& path, FieldErrors& errors) {
  std::string bytes = address_bytes(text);
  if (bytes.empty()) return errors.invalid(path, text, "must be a valid IP address");
  static const std::string kMapped("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
  if (bytes.size() == 16 && bytes.starts_with(kMapped)) bytes = bytes.substr(12);
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const bool four = bytes.size() == 4;
  const bool zero = std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; });
  const bool one =
      !four && at(15) == 1 && std::all_of(bytes.begin(), bytes.end() - 1, [](char c) { return c == 0; });
  if (zero) errors.invalid(path, text, "may not be unspecified (" + std::string(text) + ")");
  // Pods without a network of their own have addresses of 127.0.0.0/8, which upstream has no pods at.
  if (four ? at(0) == 127 && !endpoint : one)
    errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
  if (four ? at(0) == 169 && at(1) == 254 : at(0) == 0xfe && (at(1) & 0xc0) == 0x80)
    errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
  if (four ? at(0) == 224 && at(1) == 0 && at(2) == 0 : at(0) == 0xff && (at(1) & 0x0f) == 2)
    errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
}

void check_app_protocol(const json::object& port, const FieldPath& path, FieldErrors& errors) {
  if (!port.contains("appProtocol")) return;
  const std::string_view protocol = text_of(port, "appProtocol");
  check_text(protocol, check_qualified_name(protocol), path / "appProtocol", errors);
}

void check_service_ports(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "ports";
  const std::string_view type = text_of(spec, "type");
  const bool several = array_or_empty(spec, "ports").size() > 1;
  std::set<std::string_view> names;
  std::set<std::pair<std::int64_t, std::string_view>> numbers, node_ports;
  for_each_object(spec, "ports", [&](std::size_t i, const json::object& port) {
    const FieldPath at = list[i];
    const std::string_view name = text_of(port, "name");
    if (name.empty()) {
      if (several) errors.required(at / "name");
    } else if (const std::string wrong = check_dns1123_label(name); !wrong.empty()) {
      errors.invalid(at / "name", name, wrong);
    } else if (!names.insert(name).second) {
      errors.duplicate(at / "name", *port.if_contains("name"));
    }
    const std::int64_t number = int_of(port, "port");
    if (number < 1 || number > 65535) errors.invalid(at / "port", json::value(number), kPortRangeText);
    check_port(port.if_contains("targetPort"), at / "targetPort", errors);
    check_app_protocol(port, at, errors);
    const std::int64_t node_port = int_of(port, "nodePort");
    const std::string_view protocol = text_of(port, "protocol");
    if (node_port != 0 && type == "ClusterIP")
      errors.forbidden(at / "nodePort", "may not be used when `type` is 'ClusterIP'");
    if (node_port != 0 && !node_ports.insert({node_port, protocol}).second)
      errors.duplicate(at / "nodePort", json::value(node_port));
    if (!numbers.insert({number, protocol}).second) {
      // The whole port as upstream prints it, with its other fields empty.
      errors.duplicate(at, json::object{{"Name", ""},
                                        {"Protocol", json::string(protocol)},
                                        {"AppProtocol", nullptr},
                                        {"Port", number},
                                        {"TargetPort", 0},
                                        {"NodePort", 0}});
    }
  });
}

void check_endpoint_address(const json::object& address, const FieldPath& path, FieldErrors& errors) {
  const std::string_view ip = text_of(address, "ip"), host = text_of(address, "hostname");
  if (!is_ipv4(ip) && !is_ipv6(ip)) errors.invalid(path / "ip", ip, kIpText);
  if (!host.empty()) check_text(host, check_dns1123_label(host), path / "hostname", errors);
  if (address.contains("nodeName")) {
    const std::string_view node = text_of(address, "nodeName");
    check_text(node, check_dns1123_subdomain(node), path / "nodeName", errors);
  }
  check_special_ip(ip, true, path / "ip", errors);
}

void check_endpoint_port(const json::object& port, bool name_needed, const FieldPath& path,
                         FieldErrors& errors) {
  const std::string_view name = text_of(port, "name");
  if (name.empty() && name_needed) errors.required(path / "name");
  if (!name.empty()) check_text(name, check_dns1123_label(name), path / "name", errors);
  check_app_protocol(port, path, errors);
}

void check_backend(const json::object& backend, const FieldPath& path, FieldErrors& errors) {
  const json::object* service = object_of(backend, "service");
  const bool resource = backend.contains("resource");
  if (service != nullptr && resource)
    return errors.invalid(path, "", "cannot set both resource and service backends");
  if (resource) return check_typed_reference(object_or_empty(backend, "resource"), path / "resource", errors);
  if (service == nullptr) return errors.invalid(path, "", "resource or service backend is required");
  const FieldPath at = path / "service";
  const std::string_view name = text_of(*service, "name");
  if (!name.empty()) check_text(name, check_dns1035_label(name), at / "name", errors);
  const json::object& port = object_or_empty(*service, "port");
  const FieldPath port_path = at / "port";
  const std::string_view port_name = text_of(port, "name");
  const std::int64_t number = int_of(port, "number");
  if (!port_name.empty() && number != 0) {
    errors.invalid(path, "", "cannot set both port name & port number");
  } else if (!port_name.empty()) {
    if (const std::string wrong = check_port_name(port_name); !wrong.empty())
      errors.invalid(port_path / "name", port_name, wrong);
  } else if (number == 0) {
    errors.required(path, "port name or number is required");
  } else if (number < 1 || number > 65535) {
    errors.invalid(port_path / "number", json::value(number), kPortRangeText);
  }
}

void check_ingress_path(const json::object& entry, const FieldPath& path, FieldErrors& errors) {
  const std::string_view type = text_of(entry, "pathType"), where = text_of(entry, "path");
  if (type.empty()) return errors.required(path / "pathType", "pathType must be specified");
  const bool plain = type == "Exact" || type == "Prefix";
  if (!plain && type != "ImplementationSpecific") {
    errors.not_supported(path / "pathType", json::string(type),
                         {"Exact", "ImplementationSpecific", "Prefix"});
  } else if (!where.starts_with("/") && (plain || !where.empty())) {
    errors.invalid(path / "path", where, "must be an absolute path");
  }
  if (plain) {
    for (const char* bad : {"//", "/./", "/../", "%2f", "%2F"}) {
      if (where.find(bad) != std::string_view::npos)
        errors.invalid(path / "path", where, "must not contain '" + std::string(bad) + "'");
    }
    for (const char* bad : {"/..", "/."}) {
      if (where.ends_with(bad))
        errors.invalid(path / "path", where, "cannot end with '" + std::string(bad) + "'");
    }
  }
  const json::object* backend = object_of(entry, "backend");
  check_backend(backend != nullptr ? *backend : json::object(), path / "backend", errors);
}

/// A host of a rule or of TLS; `*.` stands for one label.
void check_host(std::string_view host, const FieldPath& path, FieldErrors& errors) {
  if (host.find('*') == std::string_view::npos)
    return check_text(host, check_dns1123_subdomain(host), path, errors);
  if (host.starts_with("*.") && check_dns1123_subdomain(host.substr(2)).empty()) return;
  errors.invalid(
      path, host,
      "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must "
      "consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character "
      "(e.g. '*.example.com', regex used for validation is "
      "'\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')");
}

bool accessible(const json::object& spec) {
  const std::string_view type = text_of(spec, "type");
  return type == "LoadBalancer" || type == "NodePort" ||
         (type == "ClusterIP" && !array_or_empty(spec, "externalIPs").empty());
}
bool needs_health_check(const json::object& spec) {
  return text_of(spec, "type") == "LoadBalancer" && text_of(spec, "externalTrafficPolicy") == "Local";
}

void check_affinity(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object* config = object_of(spec, "sessionAffinityConfig");
  const FieldPath at = path / "sessionAffinityConfig";
  const std::string_view affinity = text_of(spec, "sessionAffinity");
  constexpr const char* kText = "when session affinity type is ClientIP";
  if (affinity == "None" && config != nullptr) {
    errors.forbidden(at, "must not be set when session affinity is None");
  }
  if (affinity != "ClientIP") return;
  if (config == nullptr) return errors.required(at, kText);
  const json::object* client = object_of(*config, "clientIP");
  if (client == nullptr) return errors.required(at / "clientIP", kText);
  if (!client->contains("timeoutSeconds")) return errors.required(at / "clientIP" / "timeoutSeconds", kText);
  const std::int64_t seconds = int_of(*client, "timeoutSeconds");
  if (seconds <= 0 || seconds > kAffinitySecondsMax) {
    errors.invalid(at / "clientIP" / "timeoutSeconds", json::value(seconds),
                   "must be greater than 0 and less than 86400");
  }
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

void check_balancer(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  constexpr const char* kText = "may only be used when `type` is 'LoadBalancer'";
  const bool balanced = text_of(spec, "type") == "LoadBalancer";
  const json::array& ranges = array_or_empty(spec, "loadBalancerSourceRanges");
  const FieldPath list = path / "LoadBalancerSourceRanges";
  if (!ranges.empty() && !balanced) errors.forbidden(list, kText);
  std::size_t index = 0;
  for (const json::value& range : ranges) {
    const std::string_view text = range.is_string() ? trimmed(range.get_string()) : std::string_view();
    const FieldPath at = list[index++];
    if (!is_cidr(text)) errors.invalid(at, text, kCidrText);
  }
  if (spec.contains("allocateLoadBalancerNodePorts") && !balanced)
    errors.forbidden(path / "allocateLoadBalancerNodePorts", kText);
  if (spec.contains("loadBalancerClass")) {
    const std::string_view name = text_of(spec, "loadBalancerClass");
    if (balanced) {
      check_text(name, check_qualified_name(name), path / "loadBalancerClass", errors);
    } else {
      errors.forbidden(path / "loadBalancerClass", kText);
    }
  }
}

void check_traffic(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const std::string_view policy = text_of(spec, "externalTrafficPolicy");
  if (!policy.empty() && !accessible(spec)) {
    errors.invalid(path / "externalTrafficPolicy", policy,
                   "may only be set for externally-accessible services");
  }
  const std::int64_t health = int_of(spec, "healthCheckNodePort");
  if (health != 0 && !needs_health_check(spec)) {
    errors.invalid(path / "healthCheckNodePort", json::value(health),
                   "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
  } else if (health < 0 || health > 65535) {
    errors.invalid(path / "healthCheckNodePort", json::value(health), kPortRangeText);
  }
  if (!spec.contains("trafficDistribution")) return;
  const std::string_view spread = text_of(spec, "trafficDistribution");
  if (spread != "PreferClose" && spread != "PreferSameZone" && spread != "PreferSameNode") {
    errors.not_supported(path / "trafficDistribution", json::string(spread),
                         {"PreferClose", "PreferSameZone", "PreferSameNode"});
  }
}

void check_policy_port(const json::object& port, const FieldPath& path, FieldErrors& errors) {
  const json::value* number = port.if_contains("port");
  const json::value* end = port.if_contains("endPort");
  if (number != nullptr) check_port(number, path / "port", errors);
  if (end == nullptr || !end->is_int64()) return;
  if (number == nullptr) {
    errors.invalid(path / "endPort", *end, "may not be specified when `port` is not specified");
  } else if (!number->is_int64()) {
    errors.invalid(path / "endPort", *end, "may not be specified when `port` is non-numeric");
  } else {
    if (end->get_int64() < number->get_int64())
      errors.invalid(path / "endPort", *number, "must be greater than or equal to `port`");
    check_port(end, path / "endPort", errors);
  }
}

/// Is the block `inner` a part of `outer` and smaller? Both are valid.
bool strict_subset(std::string_view inner, std::string_view outer) {
  const std::size_t a = inner.find('/'), b = outer.find('/');
  const std::string small = address_bytes(inner.substr(0, a)), large = address_bytes(outer.substr(0, b));
  const int small_bits = std::stoi(std::string(inner.substr(a + 1)));
  const int large_bits = std::stoi(std::string(outer.substr(b + 1)));
  if (small.size() != large.size() || small_bits <= large_bits) return false;
  for (int bit = 0; bit < large_bits; ++bit) {
    const auto i = static_cast<std::size_t>(bit / 8);
    const int mask = 0x80 >> (bit % 8);
    if ((small[i] & mask) != (large[i] & mask)) return false;
  }
  return true;
}

void check_ip_block(const json::object& block, const FieldPath& path, FieldErrors& errors) {
  const std::string_view cidr = text_of(block, "cidr");
  if (cidr.empty()) return errors.required(path / "cidr");
  if (!is_cidr(cidr)) return errors.invalid(path / "cidr", cidr, kCidrText);
  const FieldPath list = path / "except";
  std::size_t index = 0;
  for (const json::value& each : array_or_empty(block, "except")) {
    const std::string_view text = each.is_string() ? std::string_view(each.get_string()) : std::string_view();
    const FieldPath at = list[index++];
    if (!is_cidr(text)) {
      errors.invalid(at, text, kCidrText);
    } else if (!strict_subset(text, cidr)) {
      errors.invalid(at, text, "must be a strict subset of `cidr`");
    }
  }
}

void check_policy_rules(const json::object& spec, const char* direction, const char* peers,
                        const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / direction;
  for_each_object(spec, direction, [&](std::size_t i, const json::object& rule) {
    const FieldPath at = list[i];
    const FieldPath ports = at / "ports", of_peers = at / peers;
    for_each_object(rule, "ports", [&](std::size_t j, const json::object& port) {
      check_policy_port(port, ports[j], errors);
    });
    for_each_object(rule, peers, [&](std::size_t j, const json::object& peer) {
      const bool selects = peer.contains("podSelector") || peer.contains("namespaceSelector");
      const json::object* block = object_of(peer, "ipBlock");
      if (block != nullptr) check_ip_block(*block, of_peers[j] / "ipBlock", errors);
      if (!selects && block == nullptr) errors.required(of_peers[j], "must specify a peer");
      if (selects && block != nullptr)
        errors.forbidden(of_peers[j], "may not specify both ipBlock and another peer");
    });
  });
}

}  // namespace

bool is_ipv4(std::string_view text) { return is_address(AF_INET, text); }
bool is_ipv6(std::string_view text) { return is_address(AF_INET6, text); }

std::string address_bytes(std::string_view text) {
  if (text.size() >= INET6_ADDRSTRLEN) return {};
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  text.copy(buffer.data(), buffer.size() - 1);
  std::array<char, 16> out{};
  if (::inet_pton(AF_INET, buffer.data(), out.data()) == 1) return {out.data(), 4};
  if (::inet_pton(AF_INET6, buffer.data(), out.data()) == 1) return {out.data(), 16};
  return {};
}

void validate_service_spec(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const std::string_view type = text_of(spec, "type"), cluster_ip = text_of(spec, "clusterIP");
  const bool headless = cluster_ip == "None";
  if (type == "ExternalName") {
    const std::string_view name = text_of(spec, "externalName");
    if (name.empty()) {
      errors.required(path / "externalName");
    } else {
      const std::string_view plain = name.ends_with('.') ? name.substr(0, name.size() - 1) : name;
      check_text(plain, check_dns1123_subdomain(plain), path / "externalName", errors);
    }
    if ((!cluster_ip.empty() && !headless) || !array_or_empty(spec, "clusterIPs").empty())
      errors.forbidden(path / "clusterIPs", "may not be set for ExternalName services");
    if (!array_or_empty(spec, "ipFamilies").empty())
      errors.forbidden(path / "ipFamilies", "may not be set for ExternalName services");
    if (!text_of(spec, "ipFamilyPolicy").empty())
      errors.forbidden(path / "ipFamilyPolicy", "may not be set for ExternalName services");
  } else if (array_or_empty(spec, "ports").empty() && !headless) {
    errors.required(path / "ports");
  }
  if (headless && (type == "NodePort" || type == "LoadBalancer")) {
    const FieldPath ips = path / "clusterIPs";
    errors.invalid(ips[0], "None", "may not be set to 'None' for " + std::string(type) + " services");
  }
  if (type != "ExternalName") validate_service_families(spec, path, errors);
  check_service_ports(spec, path, errors);
  validate_labels(spec.if_contains("selector"), path / "selector", errors);
  const FieldPath external = path / "externalIPs";
  std::size_t index = 0;
  for (const json::value& ip : array_or_empty(spec, "externalIPs")) {
    const FieldPath at = external[index++];
    if (!ip.is_string()) continue;
    if (!is_ipv4(ip.get_string()) && !is_ipv6(ip.get_string())) {
      errors.invalid(at, ip, kIpText);
    } else {
      check_special_ip(ip.get_string(), false, at, errors);
    }
  }
  check_affinity(spec, path, errors);
  check_balancer(spec, path, errors);
  check_traffic(spec, path, errors);
}

namespace {

/// The list, or the single address where only that is told.
json::array cluster_ips_of(const json::object& spec) {
  const json::array& all = array_or_empty(spec, "clusterIPs");
  const std::string_view single = text_of(spec, "clusterIP");
  return all.empty() && !single.empty() ? json::array{json::value(json::string(single))} : all;
}
std::string_view text(const json::value& value) {
  return value.is_string() ? std::string_view(value.get_string()) : std::string_view();
}
bool is_headless(const json::object& spec) {
  const json::array ips = cluster_ips_of(spec);
  return ips.size() == 1 && text(ips[0]) == "None";
}

/// False when one of them is no address.
bool check_cluster_ips(const json::array& ips, const FieldPath& path, FieldErrors& errors) {
  bool good = true;
  for (std::size_t i = 0; i < ips.size(); ++i) {
    if (i == 0 && text(ips[0]) == "None") {
      if (ips.size() == 1) continue;
      errors.invalid(path, ips, "'None' must be the first and only value");
      good = false;
    } else if (!is_ipv4(text(ips[i])) && !is_ipv6(text(ips[i]))) {
      errors.invalid(path[i], ips[i], kIpText);
      good = false;
    }
  }
  if (ips.size() > 2) errors.invalid(path, ips, "may only hold up to 2 values");
  return good;
}

/// A second entry may come and go; the first stays, and none changes.
void check_list_update(const char* field, const json::array& before, const json::array& now,
                       const json::value& policy, FieldErrors& errors) {
  const FieldPath spec("spec");
  const FieldPath list = spec / field;
  const bool ips = std::string_view(field) == "clusterIPs";
  if (before.empty()) return;
  if (now.empty()) {
    errors.invalid(list[0], now,
                   ips ? "primary clusterIP can not be unset" : "primary ipFamily can not be unset");
    return;
  }
  if (before.size() == now.size()) {
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (before[i] != now[i]) errors.invalid(list[ips ? i : 0], now, "may not change once set");
    }
    return;
  }
  if (before[0] != now[0]) errors.invalid(list[0], now, "may not change once set");
  if (before.size() > now.size() && now.size() == 1 && text(policy) != "SingleStack") {
    errors.invalid(spec / "ipFamilyPolicy", policy,
                   ips ? "must be set to 'SingleStack' when releasing the secondary clusterIP"
                       : "must be set to 'SingleStack' when releasing the secondary ipFamily");
  }
}

}  // namespace

void validate_service_families(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const std::string_view single = text_of(spec, "clusterIP");
  const json::array ips = cluster_ips_of(spec);
  const FieldPath list = path / "clusterIPs";
  if (single.empty() && !ips.empty()) {
    errors.invalid(list, ips, "must be empty when `clusterIP` is not specified");
  } else if (!ips.empty() && text(ips[0]) != single) {
    errors.invalid(list, ips, "first value must match `clusterIP`");
  }
  const json::array& families = array_or_empty(spec, "ipFamilies");
  const FieldPath of_families = path / "ipFamilies";
  for (std::size_t i = 0; i < families.size(); ++i) {
    if (std::find(families.begin(), families.begin() + static_cast<std::ptrdiff_t>(i), families[i]) !=
        families.begin() + static_cast<std::ptrdiff_t>(i))
      errors.duplicate(of_families[i], families[i]);
  }
  if (!check_cluster_ips(ips, list, errors)) return;
  if (ips.size() > 1) {
    std::size_t six = 0;
    for (const json::value& ip : ips) six += is_ipv6(text(ip)) ? 1 : 0;
    if (six != 1 || ips.size() != 2)
      errors.invalid(list, ips, "may specify no more than one IP for each IP family");
  }
  if (is_headless(spec)) return;
  for (std::size_t i = 0; i < std::min(ips.size(), families.size()); ++i) {
    const std::string_view family = text(families[i]);
    if ((family == "IPv6") == is_ipv6(text(ips[i]))) continue;
    errors.invalid(list[i], ips[i],
                   "expected an " + std::string(family) + " value as indicated by `ipFamilies[" +
                       std::to_string(i) + "]`");
  }
}

void validate_service(const json::object& object, FieldErrors& errors) {
  constexpr std::string_view kMode = "service.kubernetes.io/topology-mode";
  constexpr std::string_view kHints = "service.kubernetes.io/topology-aware-hints";
  constexpr std::string_view kRanges = "service.beta.kubernetes.io/load-balancer-source-ranges";
  const json::object& notes = object_or_empty(object_or_empty(object, "metadata"), "annotations");
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath meta("metadata");
  const FieldPath path = meta / "annotations";
  if (notes.contains(kMode) && notes.contains(kHints) && text_of(notes, kMode) != text_of(notes, kHints)) {
    errors.invalid(path.key(kMode), text_of(notes, kMode),
                   "must match annotations[" + std::string(kHints) + "] when both are specified");
  }
  if (!notes.contains(kRanges) || !array_or_empty(spec, "loadBalancerSourceRanges").empty()) return;
  if (text_of(spec, "type") != "LoadBalancer")
    errors.forbidden(path.key(kRanges), "may only be used when `type` is 'LoadBalancer'");
  const std::string_view ranges = trimmed(text_of(notes, kRanges));
  if (ranges.empty()) return;
  for (const std::string_view range : split_words(ranges, ',')) {
    if (!is_cidr(trimmed(range))) errors.invalid(path.key(kRanges), trimmed(range), kCidrText);
  }
}

void validate_service_status(const json::object& object, const json::object&, FieldErrors& errors) {
  const json::object& balancer = object_or_empty(object_or_empty(object, "status"), "loadBalancer");
  const FieldPath status("status");
  const FieldPath path = status / "loadBalancer";
  const FieldPath list = path / "ingress";
  if (text_of(object_or_empty(object, "spec"), "type") != "LoadBalancer") {
    if (!array_or_empty(balancer, "ingress").empty())
      errors.forbidden(list, "may only be used when `spec.type` is 'LoadBalancer'");
    return;
  }
  for_each_object(balancer, "ingress", [&](std::size_t i, const json::object& ingress) {
    const FieldPath at = list[i];
    const std::string_view ip = text_of(ingress, "ip"), mode = text_of(ingress, "ipMode");
    const std::string_view host = text_of(ingress, "hostname");
    if (!ip.empty() && !is_ipv4(ip) && !is_ipv6(ip)) errors.invalid(at / "ip", ip, kIpText);
    if (ingress.contains("ipMode") && ip.empty()) {
      errors.forbidden(at / "ipMode", "may not be specified when `ip` is not set");
    } else if (ingress.contains("ipMode") && mode != "VIP" && mode != "Proxy") {
      errors.not_supported(at / "ipMode", json::string(mode), {"Proxy", "VIP"});
    }
    if (host.empty()) return;
    check_text(host, check_dns1123_subdomain(host), at / "hostname", errors);
    if (is_ipv4(host) || is_ipv6(host))
      errors.invalid(at / "hostname", host, "must be a DNS name, not an IP address");
  });
}

void validate_service_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const json::object& now = object_or_empty(object, "spec");
  const json::object& before = object_or_empty(old, "spec");
  const FieldPath path("spec");
  if (text_of(now, "type") == "LoadBalancer" && text_of(before, "type") == "LoadBalancer") {
    const json::value* name = now.if_contains("loadBalancerClass");
    const json::value* was = before.if_contains("loadBalancerClass");
    const bool same = name == nullptr || was == nullptr ? name == was : *name == *was;
    if (!same) {
      errors.invalid(path / "loadBalancerClass", name == nullptr ? json::value() : *name,
                     "may not change once set");
    }
  }
  // One that was stored before there were such ports gets it with its next write.
  const std::int64_t health = int_of(before, "healthCheckNodePort");
  if (needs_health_check(now) && needs_health_check(before) && health != 0 &&
      int_of(now, "healthCheckNodePort") != health)
    errors.forbidden(path / "healthCheckNodePort", "field is immutable");
  // A change to or from ExternalName frees or takes addresses; else the first stays for life.
  if (text_of(before, "type") == "ExternalName" || text_of(now, "type") == "ExternalName") return;
  const json::value* policy = now.if_contains("ipFamilyPolicy");
  const json::value shown = policy == nullptr ? json::value() : *policy;
  const bool was_headless = is_headless(before), headless = is_headless(now);
  if (!was_headless || !headless)
    check_list_update("clusterIPs", cluster_ips_of(before), cluster_ips_of(now), shown, errors);
  if (!was_headless && !headless)
    check_list_update("ipFamilies", array_or_empty(before, "ipFamilies"), array_or_empty(now, "ipFamilies"),
                      shown, errors);
}

void validate_endpoints(const json::object& object, FieldErrors& errors) {
  const FieldPath list("subsets");
  for_each_object(object, "subsets", [&](std::size_t i, const json::object& subset) {
    const FieldPath at = list[i];
    const json::array& ready = array_or_empty(subset, "addresses");
    const json::array& not_ready = array_or_empty(subset, "notReadyAddresses");
    if (ready.empty() && not_ready.empty())
      errors.required(at, "must specify `addresses` or `notReadyAddresses`");
    for (const char* which : {"addresses", "notReadyAddresses"}) {
      const FieldPath addresses = at / which;
      for_each_object(subset, which, [&](std::size_t j, const json::object& each) {
        check_endpoint_address(each, addresses[j], errors);
      });
    }
    const bool several = array_or_empty(subset, "ports").size() > 1;
    const FieldPath ports = at / "ports";
    for_each_object(subset, "ports", [&](std::size_t j, const json::object& port) {
      check_endpoint_port(port, several, ports[j], errors);
      check_port(port.if_contains("port"), ports[j] / "port", errors);
    });
  });
}

namespace {
/// A name of at least two labels, which may end with a dot.
void check_full_name(std::string_view name, const FieldPath& path, FieldErrors& errors) {
  if (name.empty()) return errors.required(path);
  const std::string_view plain = name.ends_with('.') ? name.substr(0, name.size() - 1) : name;
  if (const std::string wrong = check_dns1123_subdomain(plain); !wrong.empty())
    return errors.invalid(path, plain, wrong);
  if (plain.find('.') == std::string_view::npos)
    errors.invalid(path, plain, "should be a domain with at least two segments separated by dots");
}

void check_endpoint(const json::object& endpoint, const FieldPath& path, FieldErrors& errors) {
  if (endpoint.contains("nodeName")) {
    const std::string_view node = text_of(endpoint, "nodeName");
    check_text(node, check_dns1123_subdomain(node), path / "nodeName", errors);
  }
  const std::size_t labels = object_or_empty(endpoint, "deprecatedTopology").size();
  if (labels > kTopologyLabelsMax) errors.too_many(path / "deprecatedTopology", labels, kTopologyLabelsMax);
  validate_labels(endpoint.if_contains("deprecatedTopology"), path / "deprecatedTopology", errors);
  if (endpoint.contains("hostname")) {
    const std::string_view host = text_of(endpoint, "hostname");
    check_text(host, check_dns1123_label(host), path / "hostname", errors);
  }
  const json::object& hints = object_or_empty(endpoint, "hints");
  const FieldPath at = path / "hints";
  for (const char* field : {"forZones", "forNodes"}) {
    const FieldPath list = at / field;
    const std::size_t count = array_or_empty(hints, field).size();
    if (count > kZoneHintsMax) {
      errors.too_many(list, count, kZoneHintsMax);
      continue;
    }
    std::set<std::string_view> names;
    for_each_object(hints, field, [&](std::size_t i, const json::object& hint) {
      const std::string_view name = text_of(hint, "name");
      const bool zone = std::string_view(field) == "forZones";
      if (!names.insert(name).second) errors.duplicate(list[i] / "name", json::string(name));
      check_text(name, zone ? check_label_value(name) : check_dns1123_subdomain(name), list[i] / "name",
                 errors);
    });
  }
}
}  // namespace

void validate_endpoint_slice(const json::object& object, FieldErrors& errors) {
  const std::string_view type = text_of(object, "addressType");
  const FieldPath list("endpoints");
  if (array_or_empty(object, "endpoints").size() > kEndpointsMax) {
    errors.too_many(list, array_or_empty(object, "endpoints").size(), kEndpointsMax);
  }
  for_each_object(object, "endpoints", [&](std::size_t i, const json::object& endpoint) {
    const FieldPath at = list[i];
    const FieldPath addresses = at / "addresses";
    const json::array& found = array_or_empty(endpoint, "addresses");
    if (found.empty()) errors.required(addresses, "must contain at least 1 address");
    if (found.size() > kEndpointAddressesMax) errors.too_many(addresses, found.size(), kEndpointAddressesMax);
    for (std::size_t j = 0; j < found.size(); ++j) {
      const std::string_view text =
          found[j].is_string() ? std::string_view(found[j].get_string()) : std::string_view();
      if (type == "IPv4" && !is_ipv4(text))
        errors.invalid(addresses[j], text, is_ipv6(text) ? "must be an IPv4 address" : kIpText);
      if (type == "IPv6" && !is_ipv6(text))
        errors.invalid(addresses[j], text, is_ipv4(text) ? "must be an IPv6 address" : kIpText);
      if (type == "IPv4" || type == "IPv6") check_special_ip(text, true, addresses[j], errors);
      if (type == "FQDN") check_full_name(text, addresses[j], errors);
    }
    check_endpoint(endpoint, at, errors);
  });
  const FieldPath ports("ports");
  if (array_or_empty(object, "ports").size() > kEndpointPortsMax) {
    errors.too_many(ports, array_or_empty(object, "ports").size(), kEndpointPortsMax);
  }
  std::set<std::string_view> names;
  for_each_object(object, "ports", [&](std::size_t i, const json::object& port) {
    check_endpoint_port(port, false, ports[i], errors);
    if (!names.insert(text_of(port, "name")).second)
      errors.duplicate(ports[i] / "name", json::value(json::string(text_of(port, "name"))));
  });
}

void validate_endpoint_slice_update(const json::object& object, const json::object& old,
                                    FieldErrors& errors) {
  require_same(object.if_contains("addressType"), old.if_contains("addressType"), FieldPath("addressType"),
               errors);
}

void check_typed_reference(const json::object& reference, const FieldPath& path, FieldErrors& errors) {
  if (reference.contains("apiGroup")) {
    const std::string_view group = text_of(reference, "apiGroup");
    check_text(group, check_dns1123_subdomain(group), path / "apiGroup", errors);
  }
  for (const char* field : {"kind", "name"}) {
    const std::string_view text = text_of(reference, field);
    if (text.empty()) {
      errors.required(path / field, std::string(field) + " is required");
    } else {
      check_text(text, check_path_segment(text), path / field, errors);
    }
  }
}

void validate_ingress(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  if (!spec.contains("defaultBackend") && array_or_empty(spec, "rules").empty()) {
    // The value is the list of rules, which Go prints as null.
    errors.add({FieldErrorType::invalid, path.to_string(), "null",
                "either `defaultBackend` or `rules` must be specified"});
  }
  if (const json::object* backend = object_of(spec, "defaultBackend"))
    check_backend(*backend, path / "defaultBackend", errors);
  const FieldPath rules = path / "rules", tls = path / "tls";
  for_each_object(spec, "rules", [&](std::size_t i, const json::object& rule) {
    const FieldPath at = rules[i];
    const std::string_view host = text_of(rule, "host");
    if (is_ipv4(host) || is_ipv6(host))
      errors.invalid(at / "host", host, "must be a DNS name, not an IP address");
    if (!host.empty()) check_host(host, at / "host", errors);
    const json::object* http = object_of(rule, "http");
    if (http == nullptr) return;
    const FieldPath http_path = at / "http";
    const FieldPath paths = http_path / "paths";
    if (array_or_empty(*http, "paths").empty()) errors.required(paths);
    for_each_object(*http, "paths", [&](std::size_t j, const json::object& entry) {
      check_ingress_path(entry, paths[j], errors);
    });
  });
  for_each_object(spec, "tls", [&](std::size_t i, const json::object& entry) {
    const FieldPath at = tls[i];
    const FieldPath hosts = at / "hosts";
    std::size_t index = 0;
    for (const json::value& host : array_or_empty(entry, "hosts")) {
      const FieldPath here = hosts[index++];
      if (host.is_string()) check_host(host.get_string(), here, errors);
    }
    const std::string_view secret = text_of(entry, "secretName");
    if (!secret.empty()) check_text(secret, check_dns1123_subdomain(secret), at / "secretName", errors);
  });
  if (!spec.contains("ingressClassName")) return;
  const std::string_view name = text_of(spec, "ingressClassName");
  check_text(name, check_dns1123_subdomain(name), path / "ingressClassName", errors);
}

void validate_ingress_create(const json::object& object, FieldErrors& errors) {
  constexpr std::string_view kClass = "kubernetes.io/ingress.class";
  const json::object& notes = object_or_empty(object_or_empty(object, "metadata"), "annotations");
  const json::object& spec = object_or_empty(object, "spec");
  if (notes.contains(kClass) && spec.contains("ingressClassName") &&
      text_of(notes, kClass) != text_of(spec, "ingressClassName")) {
    errors.invalid(FieldPath("annotations") / kClass, text_of(notes, kClass),
                   "must match `ingressClassName` when both are specified");
  }
}

void validate_ingress_status(const json::object& object, const json::object&, FieldErrors& errors) {
  const json::object& balancer = object_or_empty(object_or_empty(object, "status"), "loadBalancer");
  const FieldPath status("status");
  const FieldPath path = status / "loadBalancer";
  const FieldPath list = path / "ingress";
  for_each_object(balancer, "ingress", [&](std::size_t i, const json::object& ingress) {
    const FieldPath at = list[i];
    const std::string_view ip = text_of(ingress, "ip"), host = text_of(ingress, "hostname");
    if (!ip.empty() && !is_ipv4(ip) && !is_ipv6(ip)) errors.invalid(at / "ip", ip, kIpText);
    if (host.empty()) return;
    check_text(host, check_dns1123_subdomain(host), at / "hostname", errors);
    if (is_ipv4(host) || is_ipv6(host))
      errors.invalid(at / "hostname", host, "must be a DNS name, not an IP address");
  });
}

void validate_network_policy(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  check_policy_rules(spec, "ingress", "from", path, errors);
  check_policy_rules(spec, "egress", "to", path, errors);
  const json::array& types = array_or_empty(spec, "policyTypes");
  if (types.size() > 2)
    errors.invalid(path / "policyTypes", json::value(types), "may not specify more than two policyTypes");
}

void validate_ingress_class_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath path("spec");
  require_same(object_or_empty(object, "spec").if_contains("controller"),
               object_or_empty(old, "spec").if_contains("controller"), path / "controller", errors);
}

}  // namespace orchestra::api
