// Rules of Service, Endpoints, EndpointSlice and Ingress: pkg/apis/{core,discovery,networking}/validation.
#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <set>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kPortRange = "must be between 1 and 65535, inclusive";
constexpr const char* kIpText = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
constexpr std::size_t kEndpointAddressesMax = 100, kEndpointsMax = 1000, kEndpointPortsMax = 20000;

bool is_address(int family, std::string_view text) {
  if (text.size() >= INET6_ADDRSTRLEN) return false;
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  text.copy(buffer.data(), buffer.size() - 1);
  std::array<unsigned char, 16> out{};
  return ::inet_pton(family, buffer.data(), out.data()) == 1;
}

void check_target_port(const json::object& port, const FieldPath& path, FieldErrors& errors) {
  const json::value* target = port.if_contains("targetPort");
  if (target == nullptr) return;
  if (target->is_int64()) {
    if (target->get_int64() < 1 || target->get_int64() > 65535)
      errors.invalid(path / "targetPort", *target, kPortRange);
  } else if (target->is_string()) {
    const std::string wrong = check_port_name(target->get_string());
    if (!wrong.empty()) errors.invalid(path / "targetPort", *target, wrong);
  }
}

void check_service_ports(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "ports";
  const std::string_view type = text_of(spec, "type");
  const bool several = array_or_empty(spec, "ports").size() > 1;
  std::set<std::string_view> names;
  std::set<std::pair<std::int64_t, std::string_view>> numbers;
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
    if (number < 1 || number > 65535) errors.invalid(at / "port", json::value(number), kPortRange);
    check_target_port(port, at, errors);
    const std::int64_t node_port = int_of(port, "nodePort");
    if (node_port != 0 && type != "NodePort" && type != "LoadBalancer") {
      errors.forbidden(at / "nodePort", "may not be used when `type` is '" + std::string(type) + "'");
    }
    if (!numbers.insert({number, text_of(port, "protocol")}).second) {
      errors.duplicate(at,
                       json::object{{"port", number}, {"protocol", json::string(text_of(port, "protocol"))}});
    }
  });
}

void check_endpoint_address(const json::object& address, const FieldPath& path, FieldErrors& errors) {
  const std::string_view ip = text_of(address, "ip");
  if (ip.empty()) return;
  if (!is_ipv4(ip) && !is_ipv6(ip)) errors.invalid(path / "ip", ip, kIpText);
}

void check_endpoint_port(const json::object& port, bool name_needed, const FieldPath& path,
                         FieldErrors& errors) {
  const std::string_view name = text_of(port, "name");
  if (name.empty() && name_needed) errors.required(path / "name");
  if (const std::string wrong = name.empty() ? "" : check_dns1123_label(name); !wrong.empty())
    errors.invalid(path / "name", name, wrong);
  const json::value* number = port.if_contains("port");
  if (number != nullptr && number->is_int64() && (number->get_int64() < 1 || number->get_int64() > 65535)) {
    errors.invalid(path / "port", *number, kPortRange);
  }
}

void check_backend(const json::object& backend, const FieldPath& path, FieldErrors& errors) {
  const json::object* service = object_of(backend, "service");
  const bool resource = backend.contains("resource");
  if (service != nullptr && resource)
    return errors.invalid(path, "", "cannot set both resource and service backends");
  if (service == nullptr) {
    if (!resource) errors.invalid(path, "", "resource or service backend is required");
    return;
  }
  const FieldPath at = path / "service";
  if (const std::string_view name = text_of(*service, "name"); !name.empty()) {
    if (const std::string wrong = check_dns1035_label(name); !wrong.empty())
      errors.invalid(at / "name", name, wrong);
  }
  const json::object& port = object_or_empty(*service, "port");
  const FieldPath port_path = at / "port";
  const std::string_view port_name = text_of(port, "name");
  const std::int64_t number = int_of(port, "number");
  if (!port_name.empty() && number != 0) {
    errors.invalid(at, "", "cannot set both port name & port number");
  } else if (!port_name.empty()) {
    if (const std::string wrong = check_port_name(port_name); !wrong.empty())
      errors.invalid(port_path / "name", port_name, wrong);
  } else if (number == 0) {
    errors.required(at, "port name or number is required");
  } else if (number < 1 || number > 65535) {
    errors.invalid(port_path / "number", json::value(number), kPortRange);
  }
}

void check_ingress_path(const json::object& entry, const FieldPath& path, FieldErrors& errors) {
  const std::string_view type = text_of(entry, "pathType"), where = text_of(entry, "path");
  if (type.empty()) {
    errors.required(path / "pathType", "pathType must be specified");
  } else if (type != "ImplementationSpecific" && !where.starts_with("/")) {
    errors.invalid(path / "path", where, "must be an absolute path");
  } else if (!where.empty() && !where.starts_with("/")) {
    errors.invalid(path / "path", where, "must be an absolute path");
  }
  if (type == "Exact" || type == "Prefix") {
    for (const char* bad : {"//", "/./", "/../", "%2f", "%2F"}) {
      if (where.find(bad) != std::string_view::npos)
        errors.invalid(path / "path", where, "must not contain '" + std::string(bad) + "'");
    }
  }
  const json::object* backend = object_of(entry, "backend");
  check_backend(backend != nullptr ? *backend : json::object(), path / "backend", errors);
}

}  // namespace

bool is_ipv4(std::string_view text) { return is_address(AF_INET, text); }
bool is_ipv6(std::string_view text) { return is_address(AF_INET6, text); }

void validate_service_spec(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const std::string_view type = text_of(spec, "type"), cluster_ip = text_of(spec, "clusterIP");
  const bool headless = cluster_ip == "None";
  if (type == "ExternalName") {
    const std::string_view name = text_of(spec, "externalName");
    if (name.empty()) {
      errors.required(path / "externalName");
    } else if (const std::string wrong = check_dns1123_subdomain(name); !wrong.empty()) {
      errors.invalid(path / "externalName", name, wrong);
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
    if (ip.is_string() && !is_ipv4(ip.get_string()) && !is_ipv6(ip.get_string()))
      errors.invalid(at, ip, kIpText);
  }
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

void validate_service_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const json::object& now = object_or_empty(object, "spec");
  const json::object& before = object_or_empty(old, "spec");
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
      if (!port.contains("port")) errors.required(ports[j] / "port");
      check_endpoint_port(port, several, ports[j], errors);
    });
  });
}

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
    if (found.size() > kEndpointAddressesMax) errors.too_many(addresses, found.size(), kEndpointAddressesMax);
    for (std::size_t j = 0; j < found.size(); ++j) {
      const std::string_view text =
          found[j].is_string() ? std::string_view(found[j].get_string()) : std::string_view();
      if (type == "IPv4" && !is_ipv4(text)) errors.invalid(addresses[j], text, "must be an IPv4 address");
      if (type == "IPv6" && !is_ipv6(text)) errors.invalid(addresses[j], text, "must be an IPv6 address");
      if (type == "FQDN" && !check_dns1123_subdomain(text).empty())
        errors.invalid(addresses[j], text, check_dns1123_subdomain(text));
    }
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

void validate_ingress(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  if (!spec.contains("defaultBackend") && array_or_empty(spec, "rules").empty()) {
    errors.invalid(path, json::value(spec), "either `defaultBackend` or `rules` must be specified");
  }
  if (const json::object* backend = object_of(spec, "defaultBackend"))
    check_backend(*backend, path / "defaultBackend", errors);
  if (const std::string_view name = text_of(spec, "ingressClassName"); !name.empty()) {
    if (const std::string wrong = check_dns1123_subdomain(name); !wrong.empty())
      errors.invalid(path / "ingressClassName", name, wrong);
  }
  const FieldPath rules = path / "rules";
  for_each_object(spec, "rules", [&](std::size_t i, const json::object& rule) {
    const FieldPath at = rules[i];
    const std::string_view host = text_of(rule, "host");
    if (is_ipv4(host) || is_ipv6(host))
      errors.invalid(at / "host", host, "must be a DNS name, not an IP address");
    const std::string_view plain = host.starts_with("*.") ? host.substr(2) : host;
    if (const std::string wrong = host.empty() ? "" : check_dns1123_subdomain(plain); !wrong.empty())
      errors.invalid(at / "host", host, wrong);
    const json::object* http = object_of(rule, "http");
    if (http == nullptr) return;
    const FieldPath http_path = at / "http";
    const FieldPath paths = http_path / "paths";
    if (array_or_empty(*http, "paths").empty()) errors.required(paths);
    for_each_object(*http, "paths", [&](std::size_t j, const json::object& entry) {
      check_ingress_path(entry, paths[j], errors);
    });
  });
}

void validate_ingress_class_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath path("spec");
  require_same(object_or_empty(object, "spec").if_contains("controller"),
               object_or_empty(old, "spec").if_contains("controller"), path / "controller", errors);
}

}  // namespace orchestra::api
