// Addresses and ports of Services: allocated, kept and freed in the transaction of the write itself.
//
// One key per allocation, below /orchestra/allocations/: a free one is guarded by "does not exist", so two
// writers that choose the same address cannot both commit; the loser chooses again on a newer view. The
// first address of each range is never chosen: that of the first range belongs to the service `kubernetes`.
// Which families a Service has addresses of is decided in service_families.cpp.
#include <algorithm>
#include <set>

#include "api/meta.hpp"
#include "api/status.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/service_range.hpp"
#include "kinds/service_families.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::string_view kAddresses = "clusterips";
constexpr std::string_view kPorts = "nodeports";
constexpr const char* kTakenText = "provided port is already allocated";
constexpr int kChoices = 4096;  // tried addresses or ports before the range counts as full

json::object& spec_of(json::value& object) {
  json::value& spec = object.get_object()["spec"];
  if (!spec.is_object()) spec = json::object();
  return spec.get_object();
}
std::string type_of(const json::value& service) { return string_at(service, "/spec/type", "ClusterIP"); }
bool wants_address(const json::value& service) { return type_of(service) != "ExternalName"; }
bool wants_ports(const json::value& service) {
  const std::string type = type_of(service);
  return type == "NodePort" ||
         (type == "LoadBalancer" && bool_at(service, "/spec/allocateLoadBalancerNodePorts", true));
}
std::set<std::int64_t> ports_of(const json::value& service) {
  std::set<std::int64_t> ports;
  if (const json::array* list = array_at(service, "/spec/ports")) {
    for (const json::value& port : *list) {
      if (const std::int64_t number = int_at(port, "/nodePort"); number != 0) ports.insert(number);
    }
  }
  if (const std::int64_t health = int_at(service, "/spec/healthCheckNodePort"); health != 0)
    ports.insert(health);
  return ports;
}

Error refuse(const Admission& admission, const api::FieldErrors& errors) {
  const api::TypeRecord& type = *admission.input.type;
  return api::invalid(type.group, type.kind, api::meta_string(*admission.object, "name"), errors);
}
Value owner_of(const Admission& admission) {
  return Value(admission.input.ns() + "/" + std::string(api::meta_string(*admission.object, "name")));
}

// True if the key was free and is now taken by this change.
Result<bool> take(Admission& admission, std::string_view pool, const std::string& what) {
  const std::string key = allocation_key(pool, what);
  ORC_ASSIGN(std::optional<KeyValue> held, admission.view.get(key));
  if (held) return false;
  admission.change.expect(key, std::nullopt);
  admission.change.put(key, owner_of(admission));
  return true;
}

/// The one that was asked for, or any of the range of its family.
Result<std::string> allocate_address(Admission& admission, const ServiceRange& range,
                                     const std::string& asked) {
  if (!asked.empty()) {
    const auto fail = [&](const std::string& why) -> Error {
      api::FieldErrors errors;
      errors.invalid(api::FieldPath("spec") / "clusterIPs", *find(*admission.object, "/spec/clusterIPs"),
                     "failed to allocate IP " + asked + ": " + why);
      return refuse(admission, errors);
    };
    if (!range.contains(asked)) {
      return fail("the provided IP (" + asked + ") is not in the valid range. The range of valid IPs is " +
                  range.text);
    }
    ORC_ASSIGN(const bool taken, take(admission, kAddresses, canonical_address(asked)));
    return taken ? Result<std::string>(asked) : fail("provided IP is already allocated");
  }
  Random& random = admission.input.core->engine().random();
  for (int i = 0; i < kChoices && range.usable() > 1; ++i) {
    // The first address is never chosen: it is asked for by name.
    const std::string address = range.address(2 + random.below(range.usable() - 1));
    ORC_ASSIGN(const bool taken, take(admission, kAddresses, address));
    if (taken) return address;
  }
  return api::internal_error("failed to allocate a serviceIP: range " + range.text + " is full");
}

/// Addresses for the families that have none; what the old object (null: none) held and the new one does not
/// is freed.
Result<void> allocate_addresses(Admission& admission, const json::value* old) {
  json::object& spec = spec_of(*admission.object);
  const std::vector<std::string> before = old == nullptr ? std::vector<std::string>() : held_addresses(*old);
  std::vector<std::string> addresses = texts_of(spec, "clusterIPs");
  const bool wanted =
      wants_address(*admission.object) && string_at(*admission.object, "/spec/clusterIP") != "None";
  if (wanted) {
    const std::vector<ServiceRange> ranges =
        ServiceRange::parse_all(admission.input.core->options().service_cidr);
    const std::vector<std::string> families = texts_of(spec, "ipFamilies");
    for (std::size_t i = 0; i < families.size(); ++i) {
      if (i == addresses.size()) addresses.emplace_back();
      if (std::find(before.begin(), before.end(), addresses[i]) != before.end()) continue;
      // A family that the cluster does not have was refused before.
      const int family = families[i] == "IPv6" ? 6 : 4;
      const ServiceRange& range = ranges[ranges.front().family == family ? 0 : ranges.size() - 1];
      ORC_ASSIGN(addresses[i], allocate_address(admission, range, addresses[i]));
    }
    json::array list;
    for (const std::string& address : addresses) list.emplace_back(address);
    if (!addresses.empty()) spec["clusterIP"] = addresses.front();
    spec["clusterIPs"] = std::move(list);
  }
  const std::vector<std::string> after = held_addresses(*admission.object);
  for (const std::string& address : before) {
    if (std::find(after.begin(), after.end(), address) == after.end())
      admission.change.remove(allocation_key(kAddresses, canonical_address(address)));
  }
  return {};
}

Result<void> complete_families(Admission& admission, const json::value* old) {
  const std::vector<ServiceRange> ranges =
      ServiceRange::parse_all(admission.input.core->options().service_cidr);
  const ClusterFamilies cluster{ranges.front().family == 6 ? "IPv6" : "IPv4", ranges.size() > 1};
  api::FieldErrors errors;
  complete_service_families(*admission.object, old, cluster, errors);
  return errors.empty() ? Result<void>() : Result<void>(refuse(admission, errors));
}

bool in_port_range(const CoreOptions& options, std::int64_t number) {
  return number >= options.node_port_min && number <= options.node_port_max;
}
std::string out_of_range(const CoreOptions& options) {
  return "provided port is not in the valid range. The range of valid ports is " +
         std::to_string(options.node_port_min) + "-" + std::to_string(options.node_port_max);
}

/// Did this change take it already?
bool chosen_here(const Admission& admission, std::int64_t number) {
  const std::string key = allocation_key(kPorts, std::to_string(number));
  return std::any_of(admission.change.ops.begin(), admission.change.ops.end(),
                     [&](const TxnOp& op) { return op.range.begin == key; });
}

/// A free one of the range, taken; 0: there is none.
Result<std::int64_t> choose_port(Admission& admission, const std::set<std::int64_t>& own) {
  const CoreOptions& options = admission.input.core->options();
  Random& random = admission.input.core->engine().random();
  const auto width = static_cast<std::uint64_t>(options.node_port_max - options.node_port_min + 1);
  for (int i = 0; i < kChoices; ++i) {
    const std::int64_t number = options.node_port_min + static_cast<std::int64_t>(random.below(width));
    if (own.contains(number) || chosen_here(admission, number)) continue;
    ORC_ASSIGN(const bool taken, take(admission, kPorts, std::to_string(number)));
    if (taken) return number;
  }
  return 0;
}

Result<void> allocate_port(Admission& admission, json::object& port, std::size_t index,
                           const std::set<std::int64_t>& own) {
  const CoreOptions& options = admission.input.core->options();
  const json::value* given = port.if_contains("nodePort");
  const std::int64_t asked = given != nullptr && given->is_int64() ? given->get_int64() : 0;
  const api::FieldPath spec("spec");
  const api::FieldPath ports = spec / "ports";
  const api::FieldPath at = ports[index];
  if (asked != 0) {
    if (own.contains(asked)) return {};
    api::FieldErrors errors;
    if (!in_port_range(options, asked)) {
      errors.invalid(at / "nodePort", json::value(asked), out_of_range(options));
      return refuse(admission, errors);
    }
    ORC_ASSIGN(const bool taken, take(admission, kPorts, std::to_string(asked)));
    if (taken) return {};
    errors.invalid(at / "nodePort", json::value(asked), kTakenText);
    return refuse(admission, errors);
  }
  ORC_ASSIGN(const std::int64_t number, choose_port(admission, own));
  if (number == 0) return api::internal_error("failed to allocate a nodePort: range is full");
  port["nodePort"] = number;
  return {};
}

// Ports of the new object that have none take what the old one had for the same port.
void keep_ports(const json::value& old, json::value& next) {
  const json::array* before = array_at(old, "/spec/ports");
  json::value* after = const_cast<json::value*>(find(next, "/spec/ports"));
  if (before == nullptr || after == nullptr || !after->is_array()) return;
  for (json::value& port : after->get_array()) {
    if (!port.is_object() || int_at(port, "/nodePort") != 0) continue;
    for (const json::value& candidate : *before) {
      if (int_at(candidate, "/port") != int_at(port, "/port") ||
          string_at(candidate, "/protocol") != string_at(port, "/protocol")) {
        continue;
      }
      if (const std::int64_t number = int_at(candidate, "/nodePort"); number != 0)
        port.get_object()["nodePort"] = number;
    }
  }
}

Result<void> allocate_ports(Admission& admission, const std::set<std::int64_t>& own) {
  json::value* ports = const_cast<json::value*>(find(*admission.object, "/spec/ports"));
  if (ports == nullptr || !ports->is_array()) return {};
  std::size_t index = 0;
  for (json::value& port : ports->get_array()) {
    if (port.is_object()) ORC_TRY(allocate_port(admission, port.get_object(), index, own));
    ++index;
  }
  return {};
}

void clear_ports(json::value& service) {
  json::value* ports = const_cast<json::value*>(find(service, "/spec/ports"));
  if (ports == nullptr || !ports->is_array()) return;
  for (json::value& port : ports->get_array()) {
    if (port.is_object()) port.get_object().erase("nodePort");
  }
}

bool is_balanced(const json::value& service) { return string_at(service, "/spec/type") == "LoadBalancer"; }

bool is_reachable(const json::value& service) {
  const std::string type = string_at(service, "/spec/type", "ClusterIP");
  const json::array* addresses = array_at(service, "/spec/externalIPs");
  return type == "NodePort" || type == "LoadBalancer" ||
         (type == "ClusterIP" && addresses != nullptr && !addresses->empty());
}

bool needs_health_check(const json::value& service) {
  return is_balanced(service) && string_at(service, "/spec/externalTrafficPolicy") == "Local";
}

/// A balancer that sends only to nodes with endpoints asks each node on a port of its own. It is given once,
/// or asked for, and stays.
Result<void> allocate_health_check(Admission& admission, const json::value* old) {
  constexpr const char* kField = "healthCheckNodePort";
  json::value& next = *admission.object;
  if (!needs_health_check(next)) return {};
  json::object& spec = spec_of(next);
  const std::int64_t asked = int_at(next, "/spec/healthCheckNodePort");
  const std::int64_t before =
      old != nullptr && needs_health_check(*old) ? int_at(*old, "/spec/healthCheckNodePort") : 0;
  if (before != 0) {
    if (asked == 0) spec[kField] = before;
    return {};  // another one is refused by validation
  }
  const CoreOptions& options = admission.input.core->options();
  const std::set<std::int64_t> own = old == nullptr ? std::set<std::int64_t>() : ports_of(*old);
  if (asked == 0) {
    ORC_ASSIGN(const std::int64_t number, choose_port(admission, own));
    if (number == 0) return api::internal_error("failed to allocate a HealthCheck NodePort 0: range is full");
    spec[kField] = number;
    return {};
  }
  const std::string failed =
      "failed to allocate requested HealthCheck NodePort " + std::to_string(asked) + ": ";
  if (!in_port_range(options, asked)) return api::internal_error(failed + out_of_range(options));
  if (own.contains(asked) || chosen_here(admission, asked)) return api::internal_error(failed + kTakenText);
  ORC_ASSIGN(const bool taken, take(admission, kPorts, std::to_string(asked)));
  return taken ? Result<void>() : Result<void>(api::internal_error(failed + kTakenText));
}

/// What the type of before needed and that of now does not goes, unless it was changed: a client that changes
/// the type only is not refused for what it did not say.
void drop_type_fields(const json::value& old, json::value& next) {
  json::value* spec = const_cast<json::value*>(find(next, "/spec"));
  const json::value* before = find(old, "/spec");
  if (spec == nullptr || before == nullptr || !spec->is_object() || !before->is_object()) return;
  const auto drop = [&](const char* field) {
    const json::value* now = spec->get_object().if_contains(field);
    const json::value* was = before->get_object().if_contains(field);
    if (now != nullptr && was != nullptr && *now == *was) spec->get_object().erase(field);
  };
  if (needs_health_check(old) && !needs_health_check(next)) drop("healthCheckNodePort");
  if (is_balanced(old) && !is_balanced(next)) {
    drop("allocateLoadBalancerNodePorts");
    drop("loadBalancerClass");
  }
  if (is_reachable(old) && !is_reachable(next)) drop("externalTrafficPolicy");
  const auto is_name = [](const json::value& service) {
    return string_at(service, "/spec/type") == "ExternalName";
  };
  if (!is_name(old) && is_name(next)) drop("internalTrafficPolicy");
}

Result<void> create_service(Admission& admission) {
  ORC_TRY(complete_families(admission, nullptr));
  ORC_TRY(allocate_addresses(admission, nullptr));
  if (wants_ports(*admission.object)) ORC_TRY(allocate_ports(admission, {}));
  return allocate_health_check(admission, nullptr);
}

Result<void> update_service(Admission& admission) {
  json::value& next = *admission.object;
  const json::value& old = *admission.old;
  drop_type_fields(old, next);
  ORC_TRY(complete_families(admission, &old));
  ORC_TRY(allocate_addresses(admission, &old));
  const std::set<std::int64_t> before = ports_of(old);
  if (wants_ports(next)) {
    keep_ports(old, next);
    ORC_TRY(allocate_ports(admission, before));
  } else {
    clear_ports(next);
  }
  ORC_TRY(allocate_health_check(admission, &old));
  const std::set<std::int64_t> after = ports_of(next);
  for (const std::int64_t port : before) {
    if (!after.contains(port)) admission.change.remove(allocation_key(kPorts, std::to_string(port)));
  }
  return {};
}

Result<void> free_service(Admission& admission) {
  const json::value& old = *admission.old;
  for (const std::string& address : held_addresses(old))
    admission.change.remove(allocation_key(kAddresses, canonical_address(address)));
  for (const std::int64_t port : ports_of(old)) {
    admission.change.remove(allocation_key(kPorts, std::to_string(port)));
  }
  return {};
}
}  // namespace

const std::vector<KindHooks>& network_hooks() {
  static const std::vector<KindHooks> kHooks = {
      {.group = "",
       .resource = "services",
       .on_create = create_service,
       .on_update = update_service,
       .on_removed = free_service},
  };
  return kHooks;
}

}  // namespace orchestra::apiserver
