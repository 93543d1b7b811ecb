// Warnings about addresses and ranges that are valid and still not in the form that everybody writes: those
// of k8s.io/apimachinery/pkg/util/validation/ip.go, for the fields whose rules upstream calls "legacy".
//
// Leading zeros are no matter of warnings here: validation refuses them.
#include <algorithm>
#include <array>

#include "api/tree.hpp"
#include "api/validate_parts.hpp"
#include "api/warnings.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

std::string quoted(std::string_view text) { return to_json(json::value(text)); }

/// An IPv4 address inside of an IPv6 one (RFC 4291 section 2.5.5.2).
bool is_mapped(std::string_view bytes) {
  return bytes.size() == 16 && bytes.starts_with(std::string_view("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12));
}

std::string dotted(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    if (!out.empty()) out += '.';
    out += std::to_string(static_cast<unsigned char>(byte));
  }
  return out;
}

/// RFC 5952 section 4: lower case, no leading zeros, "::" for the first longest run of two zeros or more.
/// inet_ntop() will not do: it writes ::102:304 as ::1.2.3.4, Go does not.
std::string canonical_v6(std::string_view bytes) {
  std::array<unsigned, 8> groups{};
  for (std::size_t i = 0; i < groups.size(); ++i)
    groups[i] =
        static_cast<unsigned char>(bytes[2 * i]) * 256u + static_cast<unsigned char>(bytes[2 * i + 1]);
  std::size_t begin = 0, longest = 0;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    std::size_t run = 0;
    while (i + run < groups.size() && groups[i + run] == 0) ++run;
    if (run > longest) {
      begin = i;
      longest = run;
    }
  }
  std::string out;
  for (std::size_t i = 0; i < groups.size();) {
    if (longest >= 2 && i == begin) {
      out += "::";
      i += longest;
      continue;
    }
    if (!out.empty() && out.back() != ':') out += ':';
    char text[8];
    std::snprintf(text, sizeof text, "%x", groups[i++]);
    out += text;
  }
  return out;
}

/// As Go's net.IP prints it: a mapped address is its IPv4 one.
std::string printed(std::string_view bytes) {
  if (bytes.size() == 4) return dotted(bytes);
  return is_mapped(bytes) ? dotted(bytes.substr(12)) : canonical_v6(bytes);
}

std::string masked(std::string bytes, std::size_t bits) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t kept = std::min<std::size_t>(8, bits - std::min(bits, 8 * i));
    bytes[i] = static_cast<char>(bytes[i] & (0xff00 >> kept));
  }
  return bytes;
}

constexpr const char* kInvalidLater = " will be considered invalid in a future Kubernetes release: use ";

void warn_addresses(const json::object& object, const char* list, const FieldPath& path, Warnings& out) {
  const FieldPath at = path / list;
  std::size_t index = 0;
  for (const json::value& each : array_or_empty(object, list)) {
    if (each.is_string()) warn_address(each.get_string(), at[index], out);
    ++index;
  }
}

void warn_block(const json::object& block, const FieldPath& path, Warnings& out) {
  const FieldPath except = path / "except";
  warn_range(text_of(block, "cidr"), path / "cidr", out);
  std::size_t index = 0;
  for (const json::value& each : array_or_empty(block, "except")) {
    if (each.is_string()) warn_range(each.get_string(), except[index], out);
    ++index;
  }
}

bool managed_by(const json::object& object, const char* label,
                std::initializer_list<std::string_view> names) {
  const std::string_view name =
      text_of(object_or_empty(object_or_empty(object, "metadata"), "labels"), label);
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

void warn_address(std::string_view text, const FieldPath& path, Warnings& out) {
  const std::string bytes = address_bytes(text);
  if (is_mapped(bytes)) {
    out.push_back(path.to_string() + ": non-standard IP address " + quoted(text) + kInvalidLater +
                  quoted(printed(bytes)));
  } else if (bytes.size() == 16 && canonical_v6(bytes) != text) {
    out.push_back(path.to_string() + ": IPv6 address " + quoted(text) +
                  " should be in RFC 5952 canonical format (" + quoted(canonical_v6(bytes)) + ")");
  }
}

void warn_range(std::string_view text, const FieldPath& path, Warnings& out) {
  if (!is_cidr(text)) return;
  const std::size_t slash = text.find('/');
  const std::string bytes = address_bytes(text.substr(0, slash)), digits(text.substr(slash + 1));
  const auto bits = static_cast<std::size_t>(std::stoi(digits));
  const std::string network = masked(bytes, bits);
  const std::string range = printed(network) + "/" + std::to_string(is_mapped(network) ? bits - 96 : bits);
  const std::size_t before = out.size();
  if (network != bytes) {
    out.push_back(path.to_string() + ": CIDR value " + quoted(text) +
                  " is ambiguous in this context (should be " + quoted(range) + " or " +
                  quoted(printed(bytes) + "/" + std::to_string(8 * bytes.size())) + "?)");
  }
  if (is_mapped(bytes) || (digits.size() > 1 && digits.front() == '0')) {
    out.push_back(path.to_string() + ": non-standard CIDR value " + quoted(text) + kInvalidLater +
                  quoted(range));
  }
  if (out.size() == before && bytes.size() == 16 && range != text) {
    out.push_back(path.to_string() + ": IPv6 CIDR value " + quoted(text) +
                  " should be in RFC 5952 canonical format (" + quoted(range) + ")");
  }
}

void warn_service_addresses(const json::object& spec, ServiceAddresses which, Warnings& out) {
  const FieldPath path("spec"), ranges = path / "loadBalancerSourceRanges";
  if (which == ServiceAddresses::own) {
    const bool set = text_of(spec, "clusterIP") != "None" && !text_of(spec, "clusterIP").empty();
    if (set) warn_addresses(spec, "clusterIPs", path, out);
    return;
  }
  warn_addresses(spec, "externalIPs", path, out);
  warn_address(text_of(spec, "loadBalancerIP"), path / "loadBalancerIP", out);
  std::size_t index = 0;
  for (const json::value& each : array_or_empty(spec, "loadBalancerSourceRanges")) {
    if (each.is_string()) warn_range(each.get_string(), ranges[index], out);
    ++index;
  }
}

void warn_pod_addresses(const json::object& spec, const FieldPath& path, Warnings& out) {
  const FieldPath aliases = path / "hostAliases";
  warn_addresses(object_or_empty(spec, "dnsConfig"), "nameservers", path / "dnsConfig", out);
  for_each_object(spec, "hostAliases", [&](std::size_t i, const json::object& alias) {
    const FieldPath at = aliases[i];
    warn_address(text_of(alias, "ip"), at / "ip", out);
  });
}

// Those whom the name of a controller is on have fixed what they write.
void warn_endpoints(const json::object& object, Warnings& out) {
  if (managed_by(object, "endpoints.kubernetes.io/managed-by", {"endpoint-controller"})) return;
  const FieldPath path("subsets");
  for_each_object(object, "subsets", [&](std::size_t i, const json::object& subset) {
    const FieldPath at = path[i];
    for (const char* list : {"addresses", "notReadyAddresses"}) {
      const FieldPath each = at / list;
      for_each_object(subset, list, [&](std::size_t j, const json::object& address) {
        const FieldPath one = each[j];
        warn_address(text_of(address, "ip"), one / "ip", out);
      });
    }
  });
}

void warn_slice(const json::object& object, bool created, Warnings& out) {
  if (created && text_of(object, "addressType") == "FQDN")
    out.emplace_back("spec.addressType: FQDN endpoints are deprecated");
  if (managed_by(object, "endpointslice.kubernetes.io/managed-by",
                 {"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"}))
    return;
  const FieldPath path("endpoints");
  for_each_object(object, "endpoints", [&](std::size_t i, const json::object& endpoint) {
    warn_addresses(endpoint, "addresses", path[i], out);
  });
}

void warn_network_policy(const json::object& object, Warnings& out) {
  const FieldPath path("spec");
  constexpr std::pair<const char*, const char*> kDirections[] = {{"ingress", "from"}, {"egress", "to"}};
  for (const auto& [direction, peers] : kDirections) {
    const FieldPath rules = path / direction;
    const char* list = peers;
    for_each_object(object_or_empty(object, "spec"), direction, [&](std::size_t i, const json::object& rule) {
      const FieldPath at = rules[i], of_peers = at / list;
      for_each_object(rule, list, [&](std::size_t j, const json::object& peer) {
        const FieldPath one = of_peers[j];
        warn_block(object_or_empty(peer, "ipBlock"), one / "ipBlock", out);
      });
    });
  }
}

}  // namespace orchestra::api
