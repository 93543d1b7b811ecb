// Rules of a pod, its spec and its template, and what of a pod may change: ValidatePodSpec,
// ValidatePodCreate, ValidatePodUpdate, ValidatePodStatusUpdate, ValidatePodResize of
// pkg/apis/core/validation/validation.go.
#include <algorithm>
#include <map>
#include <set>

#include "api/meta.hpp"
#include "api/pod_resize.hpp"
#include "api/prepare.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json_text.hpp"

namespace orchestra::api {
namespace {

constexpr std::string_view kMirror = "kubernetes.io/config.mirror";
constexpr std::size_t kNameserversMax = 3, kSearchesMax = 32, kSearchCharactersMax = 2048, kHostNameMax = 64;

std::string_view text(const json::value& value) {
  return value.is_string() ? std::string_view(value.get_string()) : std::string_view();
}

void check_claims(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "resourceClaims";
  std::set<std::string_view> names;
  for_each_object(spec, "resourceClaims", [&](std::size_t i, const json::object& claim) {
    const FieldPath at = list[i];
    const std::string_view name = text_of(claim, "name");
    if (name.empty()) {
      errors.required(at / "name");
    } else if (!names.insert(name).second) {
      errors.duplicate(at / "name", json::string(name));
    } else {
      check_text(name, check_dns1123_label(name), at / "name", errors);
    }
    const bool direct = claim.contains("resourceClaimName");
    const bool made = claim.contains("resourceClaimTemplateName");
    if (direct && made) {
      errors.invalid(at, json::value(claim),
                     "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified");
    }
    if (!direct && !made) {
      errors.invalid(at, json::value(claim),
                     "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`");
    }
    for (const char* field : {"resourceClaimName", "resourceClaimTemplateName"}) {
      const std::string_view target = text_of(claim, field);
      if (claim.contains(field)) check_text(target, check_dns1123_subdomain(target), at / field, errors);
    }
  });
}

void check_host_ports(const json::object& container, const FieldPath& path, std::set<std::string>& taken,
                      FieldErrors& errors) {
  const FieldPath ports = path / "ports";
  for_each_object(container, "ports", [&](std::size_t i, const json::object& port) {
    const std::int64_t host = int_of(port, "hostPort");
    if (host == 0) return;
    const std::string key = std::string(text_of(port, "protocol")) + "/" +
                            std::string(text_of(port, "hostIP")) + "/" + std::to_string(host);
    if (!taken.insert(key).second) errors.duplicate(ports[i] / "hostPort", json::string(key));
  });
}

void check_containers(const json::object& spec, const ContainerContext& context, const FieldPath& path,
                      FieldErrors& errors) {
  std::set<std::string_view> names, main_names;
  std::set<std::string> host_ports;
  const auto taken = [&](const json::object& container, const FieldPath& at) {
    const std::string_view name = text_of(container, "name");
    if (!name.empty() && !names.insert(name).second) errors.duplicate(at / "name", json::string(name));
  };
  const FieldPath main = path / "containers", init = path / "initContainers";
  const FieldPath ephemeral = path / "ephemeralContainers";
  for_each_object(spec, "containers", [&](std::size_t i, const json::object& container) {
    validate_container(container, context, main[i], errors);
    taken(container, main[i]);
  });
  for_each_object(spec, "containers", [&](std::size_t i, const json::object& container) {
    check_host_ports(container, main[i], host_ports, errors);
  });
  for_each_object(spec, "initContainers", [&](std::size_t i, const json::object& container) {
    std::set<std::string> own;  // one after another: each may have what another had
    validate_init_container(container, context, init[i], errors);
    taken(container, init[i]);
    check_host_ports(container, init[i], own, errors);
  });
  main_names = names;
  for_each_object(spec, "ephemeralContainers", [&](std::size_t i, const json::object& container) {
    const FieldPath at = ephemeral[i];
    validate_ephemeral_container(container, context, at, errors);
    taken(container, at);
    const std::string_view target = text_of(container, "targetContainerName");
    if (!target.empty() && main_names.count(target) == 0)
      errors.not_found(at / "targetContainerName", json::string(target));
  });
  if (!flag_of(spec, "hostNetwork")) return;
  for_each_object(spec, "containers", [&](std::size_t i, const json::object& container) {
    const FieldPath at = main[i];
    const FieldPath ports = at / "ports";
    for_each_object(container, "ports", [&](std::size_t j, const json::object& port) {
      const std::int64_t host = int_of(port, "hostPort");
      if ((context.is_pod || host != 0) && host != int_of(port, "containerPort")) {
        errors.invalid(ports[j] / "hostPort", json::value(host),
                       "must match `containerPort` when `hostNetwork` is true");
      }
    });
  });
}

/// The volume of a fileKeyRef is an emptyDir of the pod.
void check_file_volumes(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::array& volumes = array_or_empty(spec, "volumes");
  for_each_container(spec, path, [&](const json::object& container, const FieldPath& at) {
    const FieldPath list = at / "env";
    for_each_object(container, "env", [&](std::size_t i, const json::object& variable) {
      const json::object* file = object_of(object_or_empty(variable, "valueFrom"), "fileKeyRef");
      if (file == nullptr) return;
      const std::string_view name = text_of(*file, "volumeName");
      const FieldPath below = list[i];
      const auto found = std::find_if(volumes.begin(), volumes.end(), [&](const json::value& each) {
        return each.is_object() && text_of(each.get_object(), "name") == name;
      });
      if (found == volumes.end()) {
        errors.not_found(below / "valueFrom" / "fileKeyRef" / "volumeName", json::string(name));
      } else if (!found->get_object().contains("emptyDir")) {
        errors.invalid(below / "valueFrom" / "fileKeyRef" / "volumeName", name,
                       "referenced volume must be of type emptyDir");
      }
    });
  });
}

using Amounts = std::map<std::string_view, Quantity>;
void add(Amounts& sums, const json::object& container, const char* which) {
  for (const auto& [name, value] : object_or_empty(object_or_empty(container, "resources"), which)) {
    if (const auto amount = quantity_of(value)) sums[name] += *amount;
  }
}

/// What the containers need together: all main ones and sidecars, or one init container with the sidecars
/// that were started before it, whichever is more.
Amounts sum_of_containers(const json::object& spec, const char* which) {
  Amounts sums, sidecars, most;
  for_each_object(spec, "containers",
                  [&](std::size_t, const json::object& container) { add(sums, container, which); });
  for_each_object(spec, "initContainers", [&](std::size_t, const json::object& container) {
    const bool sidecar = text_of(container, "restartPolicy") == "Always";
    Amounts now = sidecars;
    add(now, container, which);
    if (sidecar) {
      sidecars = now;
      add(sums, container, which);
    }
    for (const auto& [name, amount] : now) {
      if (most[name] < amount) most[name] = amount;
    }
  });
  for (const auto& [name, amount] : most) {
    if (sums[name] < amount) sums[name] = amount;
  }
  return sums;
}

void check_pod_resources(const json::object& spec, const std::set<std::string_view>& claims,
                         const FieldPath& path, FieldErrors& errors) {
  const json::object* resources = object_of(spec, "resources");
  if (resources == nullptr) return;
  const FieldPath at = path / "resources";
  if (text_of(object_or_empty(spec, "os"), "name") == "windows")
    return errors.forbidden(at, "may not be set for a windows pod");
  if (resources->contains("claims"))
    errors.forbidden(at / "claims", "claims may not be set for Resources at pod-level");
  check_resource_requirements(*resources, claims, true, at, errors);
  const json::object& requests = object_or_empty(*resources, "requests");
  const json::object& limits = object_or_empty(*resources, "limits");
  const FieldPath of_requests = at / "requests", of_limits = at / "limits", of_containers = at / "containers";
  for (const auto& [name, sum] : sum_of_containers(spec, "requests")) {
    const auto own = quantity_of(requests, name);
    if (own && *own < sum) {
      errors.invalid(of_requests.key(name), own->to_string(),
                     "must be greater than or equal to aggregate container requests of " + sum.to_string());
    }
  }
  for (const auto& [name, sum] : sum_of_containers(spec, "limits")) {
    const auto own = quantity_of(limits, name);
    if (is_huge_page(name) && own && *own < sum) {
      errors.invalid(of_limits.key(name), own->to_string(),
                     "must be greater than or equal to aggregate container limits of " + sum.to_string());
    }
  }
  for_each_object(spec, "containers", [&](std::size_t i, const json::object& container) {
    for (const auto& [name, value] : object_or_empty(object_or_empty(container, "resources"), "limits")) {
      const auto limit = quantity_of(value), own = quantity_of(limits, name);
      if (limit && own && *own < *limit) {
        errors.invalid(of_containers[i].key(name) / "limits", limit->to_string(),
                       "must be less than or equal to pod limits of " + own->to_string());
      }
    }
  });
}

/// A search domain may have underscores, and end with a dot or be one.
std::string check_search(std::string_view search) {
  if (search == ".") return {};
  if (search.ends_with('.')) search.remove_suffix(1);
  std::string plain(search);
  std::replace(plain.begin(), plain.end(), '_', 'x');
  const std::string wrong = check_dns1123_subdomain(plain);
  if (wrong.empty() || search.size() > 253) return wrong;
  return "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or "
         "'.', "
         "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
         "validation "
         "is '[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*')";
}

void check_dns(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object* config = object_of(spec, "dnsConfig");
  const FieldPath at = path / "dnsConfig";
  const FieldPath list = at / "nameservers", domains = at / "searches", options = at / "options";
  const bool none = text_of(spec, "dnsPolicy") == "None";
  if (config == nullptr) {
    if (none) errors.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
    return;
  }
  const json::array& servers = array_or_empty(*config, "nameservers");
  if (none && servers.empty())
    return errors.required(list, "must provide at least one DNS nameserver when `dnsPolicy` is None");
  if (servers.size() > kNameserversMax)
    errors.invalid(list, json::value(servers), "must not have more than 3 nameservers");
  for (std::size_t i = 0; i < servers.size(); ++i) {
    if (!is_ipv4(text(servers[i])) && !is_ipv6(text(servers[i])))
      errors.invalid(list[i], text(servers[i]), kIpText);
  }
  const json::array& searches = array_or_empty(*config, "searches");
  std::size_t characters = searches.empty() ? 0 : searches.size() - 1;
  for (const json::value& search : searches) characters += text(search).size();
  if (searches.size() > kSearchesMax)
    errors.invalid(domains, json::value(searches), "must not have more than 32 search paths");
  if (characters > kSearchCharactersMax) {
    errors.invalid(domains, json::value(searches),
                   "must not have more than 2048 characters (including spaces) in the search list");
  }
  for (std::size_t i = 0; i < searches.size(); ++i) {
    std::string_view shown = text(searches[i]);
    if (shown != "." && shown.ends_with('.')) shown.remove_suffix(1);
    check_text(shown, check_search(text(searches[i])), domains[i], errors);
  }
  for_each_object(*config, "options", [&](std::size_t i, const json::object& option) {
    if (text_of(option, "name").empty()) errors.required(options[i], "must not be empty");
  });
}

void check_names(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  for (const char* field : {"serviceAccountName", "nodeName", "priorityClassName"}) {
    const std::string_view name = text_of(spec, field);
    if (!name.empty()) check_text(name, check_dns1123_subdomain(name), path / field, errors);
  }
  for (const char* field : {"hostname", "subdomain"}) {
    const std::string_view name = text_of(spec, field);
    if (!name.empty()) check_text(name, check_dns1123_label(name), path / field, errors);
  }
  if (spec.contains("runtimeClassName")) {
    const std::string_view name = text_of(spec, "runtimeClassName");
    check_text(name, check_dns1123_subdomain(name), path / "runtimeClassName", errors);
  }
  if (!spec.contains("hostnameOverride")) return;
  const std::string_view name = text_of(spec, "hostnameOverride");
  const FieldPath at = path / "hostnameOverride";
  if (flag_of(spec, "setHostnameAsFQDN"))
    errors.forbidden(at, "may not be specified when setHostnameAsFQDN is true");
  if (flag_of(spec, "hostNetwork")) errors.forbidden(at, "may not be specified when hostNetwork is true");
  if (name.size() > kHostNameMax) errors.too_long(at, kHostNameMax);
  check_text(name, check_dns1123_subdomain(name), at, errors);
}

void check_lists(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const FieldPath gates = path / "readinessGates", aliases = path / "hostAliases";
  for_each_object(spec, "readinessGates", [&](std::size_t i, const json::object& gate) {
    const std::string_view type = text_of(gate, "conditionType");
    check_text(type, check_qualified_name(type), gates[i] / "conditionType", errors);
  });
  for_each_object(spec, "hostAliases", [&](std::size_t i, const json::object& alias) {
    const FieldPath at = aliases[i];
    const FieldPath names = at / "hostnames";
    const std::string_view ip = text_of(alias, "ip");
    if (!is_ipv4(ip) && !is_ipv6(ip)) errors.invalid(at / "ip", ip, kIpText);
    std::size_t index = 0;
    for (const json::value& name : array_or_empty(alias, "hostnames"))
      check_text(text(name), check_dns1123_subdomain(text(name)), names[index++], errors);
  });
  if (const json::object* overhead = object_of(spec, "overhead")) {
    const json::object as_limits{{"limits", *overhead}};
    check_resource_requirements(as_limits, {}, false, path / "overhead", errors);
  }
}

void check_pod_spec(const json::object& spec, std::string_view pod_name, bool is_pod, const FieldPath& path,
                    FieldErrors& errors) {
  ContainerContext context;
  context.is_pod = is_pod;
  context.restart_policy = text_of(spec, "restartPolicy");
  context.grace = spec.if_contains("terminationGracePeriodSeconds");
  const json::value* users = spec.if_contains("hostUsers");
  context.host_users = users == nullptr || !users->is_bool() || users->get_bool();
  for_each_object(spec, "resourceClaims", [&](std::size_t, const json::object& claim) {
    if (!text_of(claim, "name").empty()) context.claims.insert(text_of(claim, "name"));
  });
  check_volumes(spec, pod_name, is_pod, path, errors, context.volumes);
  check_claims(spec, path, errors);
  check_containers(spec, context, path, errors);
  check_pod_resources(spec, context.claims, path, errors);
  check_pod_security_context(spec, path, errors);
  check_scheduling(spec, path, errors);
  check_dns(spec, path, errors);
  check_names(spec, path, errors);
  const json::value* deadline = spec.if_contains("activeDeadlineSeconds");
  if (deadline != nullptr && deadline->is_int64() &&
      (deadline->get_int64() < 1 || deadline->get_int64() > INT32_MAX)) {
    errors.invalid(path / "activeDeadlineSeconds", *deadline, "must be between 1 and 2147483647, inclusive");
  }
  check_tolerations(spec, path, errors);
  check_lists(spec, path, errors);
  check_pod_os(spec, path, errors);
  check_file_volumes(spec, path, errors);
}

// --- updates -----------------------------------------------------------------------------------------------

void set_or_erase(json::object& object, const char* field, const json::value* value) {
  if (value == nullptr) {
    object.erase(field);
  } else {
    object[field] = *value;
  }
}

/// The fields of a pod's spec that may change, put back to what they were.
json::object without_mutable(const json::object& spec, const json::object& old) {
  json::object copy = spec;
  for (const char* list : {"containers", "initContainers"}) {
    json::value* containers = copy.if_contains(list);
    const json::array* before = array_of(old, list);
    if (containers == nullptr || !containers->is_array() || before == nullptr) continue;
    json::array& now = containers->get_array();
    for (std::size_t i = 0; i < std::min(now.size(), before->size()); ++i) {
      if (!now[i].is_object() || !(*before)[i].is_object()) continue;
      set_or_erase(now[i].get_object(), "image", (*before)[i].get_object().if_contains("image"));
    }
  }
  for (const char* field : {"activeDeadlineSeconds", "tolerations", "schedulingGates"})
    set_or_erase(copy, field, old.if_contains(field));
  if (int_of(old, "terminationGracePeriodSeconds") < 0 && int_of(spec, "terminationGracePeriodSeconds") == 1)
    copy["terminationGracePeriodSeconds"] = int_of(old, "terminationGracePeriodSeconds");
  return copy;
}

/// Names of the members that differ, for the end of the message.
std::string changed_members(const json::object& now, const json::object& before) {
  std::string out;
  const auto note = [&](std::string_view name) {
    out += (out.empty() ? "" : ", ") + std::string("spec.") + std::string(name);
  };
  for (const auto& [name, value] : now) {
    const json::value* other = before.if_contains(name);
    if (other == nullptr || *other != value) note(name);
  }
  for (const auto& [name, value] : before) {
    if (!now.contains(name)) note(name);
  }
  return out;
}

void check_tolerations_update(const json::object& spec, const json::object& old, FieldErrors& errors) {
  const json::array& now = array_or_empty(spec, "tolerations");
  const auto without_seconds = [](const json::value& each) {
    json::value copy = each;
    if (copy.is_object()) copy.get_object().erase("tolerationSeconds");
    return copy;
  };
  for (const json::value& each : array_or_empty(old, "tolerations")) {
    const json::value plain = without_seconds(each);
    const bool kept = std::any_of(now.begin(), now.end(),
                                  [&](const json::value& other) { return without_seconds(other) == plain; });
    if (kept) continue;
    return errors.forbidden(FieldPath("spec") / "tolerations",
                            "existing toleration can not be modified except its tolerationSeconds");
  }
}

/// False where upstream says no more.
bool check_deadline_update(const json::object& spec, const json::object& old, FieldErrors& errors) {
  const FieldPath path("spec");
  const json::value* now = spec.if_contains("activeDeadlineSeconds");
  const json::value* before = old.if_contains("activeDeadlineSeconds");
  if (now == nullptr) {
    if (before != nullptr) {
      errors.invalid(path / "activeDeadlineSeconds", json::value(),
                     "must not update from a positive integer to nil value");
    }
    return true;
  }
  const std::int64_t seconds = int_of(spec, "activeDeadlineSeconds");
  if (seconds < 0 || seconds > INT32_MAX) {
    errors.invalid(path / "activeDeadlineSeconds", *now, "must be between 0 and 2147483647, inclusive");
    return false;
  }
  if (before != nullptr && int_of(old, "activeDeadlineSeconds") < seconds) {
    errors.invalid(path / "activeDeadlineSeconds", *now, "must be less than or equal to previous value");
    return false;
  }
  return true;
}

void check_gates_update(const json::object& spec, const json::object& old, FieldErrors& errors) {
  const FieldPath path("spec");
  const FieldPath list = path / "schedulingGates";
  const json::array& gates = array_or_empty(old, "schedulingGates");
  for_each_object(spec, "schedulingGates", [&](std::size_t i, const json::object& gate) {
    if (std::find(gates.begin(), gates.end(), json::value(gate)) != gates.end()) return;
    errors.forbidden(list[i] / "name", "only deletion is allowed, but found new scheduling gate '" +
                                           std::string(text_of(gate, "name")) + "'");
  });
}

/// Only additions to each list of requirements; an empty term selects nothing and stays so.
bool only_added(const json::value& now, const json::value& before) {
  if (!now.is_object() || !before.is_object()) return false;
  const json::object& a = now.get_object();
  const json::object& b = before.get_object();
  const auto size = [](const json::object& term) {
    return array_or_empty(term, "matchExpressions").size() + array_or_empty(term, "matchFields").size();
  };
  if (size(b) == 0 && size(a) > 0) return false;
  for (const char* list : {"matchExpressions", "matchFields"}) {
    const json::array& newer = array_or_empty(a, list);
    const json::array& older = array_or_empty(b, list);
    if (newer.size() < older.size() || !std::equal(older.begin(), older.end(), newer.begin())) return false;
  }
  return true;
}

void check_affinity_update(const json::object& affinity, const json::object& old, FieldErrors& errors) {
  constexpr const char* kRequired = "requiredDuringSchedulingIgnoredDuringExecution";
  const FieldPath spec("spec");
  const FieldPath path = spec / "affinity";
  const FieldPath node = path / "nodeAffinity";
  const FieldPath required = node / kRequired;
  const FieldPath terms = required / "nodeSelectorTerms";
  const json::array& before = array_or_empty(object_or_empty(old, kRequired), "nodeSelectorTerms");
  const json::array& now = array_or_empty(object_or_empty(affinity, kRequired), "nodeSelectorTerms");
  if (before.empty()) return;
  if (before.size() != now.size()) {
    return errors.invalid(terms, json::value(now),
                          "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
  }
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (!only_added(now[i], before[i]))
      errors.invalid(terms[i], now[i], "only additions are allowed (no mutations or deletions)");
  }
}

/// A pod that is not to be scheduled yet may still narrow where it goes.
void relax_gated(json::object& spec, const json::object& old, FieldErrors& errors) {
  const FieldPath path("spec");
  const json::object& selector = object_or_empty(spec, "nodeSelector");
  for (const auto& [key, value] : object_or_empty(old, "nodeSelector")) {
    const json::value* now = selector.if_contains(key);
    if (now != nullptr && *now == value) continue;
    errors.invalid(path / "nodeSelector", json::value(selector),
                   "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
    break;
  }
  set_or_erase(spec, "nodeSelector", old.if_contains("nodeSelector"));
  const json::object& old_affinity = object_or_empty(old, "affinity");
  json::object affinity = object_or_empty(spec, "affinity");
  check_affinity_update(object_or_empty(affinity, "nodeAffinity"),
                        object_or_empty(old_affinity, "nodeAffinity"), errors);
  set_or_erase(affinity, "nodeAffinity", old_affinity.if_contains("nodeAffinity"));
  if (affinity.empty() && !old.contains("affinity")) {
    spec.erase("affinity");
  } else {
    spec["affinity"] = std::move(affinity);
  }
}

void check_annotations_update(const json::object& pod, const json::object& old_pod, FieldErrors& errors) {
  constexpr std::string_view kAppArmor = "container.apparmor.security.beta.kubernetes.io/";
  const json::object& now = object_or_empty(object_or_empty(pod, "metadata"), "annotations");
  const json::object& before = object_or_empty(object_or_empty(old_pod, "metadata"), "annotations");
  const FieldPath meta("metadata");
  const FieldPath path = meta / "annotations";
  for (const auto& [key, value] : before) {
    const json::value* kept = now.if_contains(key);
    if (kept != nullptr && *kept == value) continue;
    if (key.starts_with(kAppArmor))
      errors.forbidden(path.key(key), "may not remove or update AppArmor annotations");
    if (key == kMirror) errors.forbidden(path.key(key), "may not remove or update mirror pod annotation");
  }
  for (const auto& member : now) {
    if (before.contains(member.key())) continue;
    if (member.key().starts_with(kAppArmor))
      errors.forbidden(path.key(member.key()), "may not add AppArmor annotations");
    if (member.key() == kMirror)
      errors.forbidden(path.key(member.key()), "may not add mirror pod annotation");
  }
}

// --- status ------------------------------------------------------------------------------------------------

void check_ips(const json::object& status, const char* field, const FieldPath& path, FieldErrors& errors) {
  const json::array& ips = array_or_empty(status, field);
  const FieldPath list = path / field;
  std::size_t four = 0, six = 0;
  for_each_object(status, field, [&](std::size_t i, const json::object& each) {
    const std::string_view ip = text_of(each, "ip");
    four += is_ipv4(ip) ? 1 : 0;
    six += is_ipv6(ip) ? 1 : 0;
    if (!is_ipv4(ip) && !is_ipv6(ip)) errors.invalid(list[i], ip, kIpText);
  });
  if (ips.size() > 1 && (four != 1 || six != 1))
    errors.invalid(list, json::value(ips), "may specify no more than one IP for each IP family");
}

/// May a container of this exit code start again?
bool restarts(const json::object* container, std::string_view pod_policy, std::int64_t code) {
  std::string_view policy = pod_policy;
  if (container != nullptr && !text_of(*container, "restartPolicy").empty()) {
    policy = text_of(*container, "restartPolicy");
    for (const json::value& rule : array_or_empty(*container, "restartPolicyRules")) {
      if (!rule.is_object()) continue;
      const json::object& codes = object_or_empty(rule.get_object(), "exitCodes");
      const json::array& values = array_or_empty(codes, "values");
      const bool listed = std::find(values.begin(), values.end(), json::value(code)) != values.end();
      if (listed == (text_of(codes, "operator") == "In")) return true;
    }
  }
  return policy == "Always" || (policy == "OnFailure" && code != 0);
}

void check_states(const json::object& status, const json::object& old, const json::object& spec,
                  const char* field, const char* containers, const FieldPath& path, FieldErrors& errors) {
  const bool ephemeral = std::string_view(containers) == "ephemeralContainers";
  const std::string_view policy = ephemeral ? "Never" : text_of(spec, "restartPolicy");
  if (policy == "Always") return;
  const FieldPath list = path / field;
  for_each_object(old, field, [&](std::size_t i, const json::object& before) {
    const json::object* ended = object_of(object_or_empty(before, "state"), "terminated");
    if (ended == nullptr) return;
    const json::object* container = nullptr;
    for (const json::value& each : array_or_empty(spec, containers)) {
      if (each.is_object() && text_of(each.get_object(), "name") == text_of(before, "name"))
        container = &each.get_object();
    }
    if (restarts(container, policy, int_of(*ended, "exitCode"))) return;
    for_each_object(status, field, [&](std::size_t, const json::object& now) {
      if (text_of(now, "name") == text_of(before, "name") &&
          !object_or_empty(now, "state").contains("terminated"))
        errors.forbidden(list[i] / "state", "may not be transitioned to non-terminated state");
    });
  });
}

}  // namespace

void validate_pod_spec(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  // That of a pod itself is judged with the pod (validate_pod), whose name it needs.
  if (path.to_string() != "spec") check_pod_spec(spec, "", false, path, errors);
}

void validate_pod_template(const json::object& pod, const FieldPath& path, FieldErrors& errors) {
  const json::object& meta = object_or_empty(pod, "metadata");
  const json::object& spec = object_or_empty(pod, "spec");
  validate_labels(meta.if_contains("labels"), path / "labels", errors);
  validate_annotations(meta.if_contains("annotations"), path / "annotations", errors);
  check_pod_annotations(meta, spec, path, errors);
  check_profile_annotations(meta, spec, path / "spec", errors);
  if (!array_or_empty(spec, "ephemeralContainers").empty())
    errors.forbidden(path / "spec" / "ephemeralContainers",
                     "ephemeral containers not allowed in pod template");
}

void validate_pod(const json::object& pod, FieldErrors& errors) {
  const json::object& meta = object_or_empty(pod, "metadata");
  const json::object& spec = object_or_empty(pod, "spec");
  const FieldPath path("spec");
  check_pod_annotations(meta, spec, FieldPath("metadata"), errors);
  check_pod_spec(spec, text_of(meta, "name"), true, path, errors);
  if (!text_of(spec, "serviceAccountName").empty()) return;
  const FieldPath volumes = path / "volumes";
  for_each_object(spec, "volumes", [&](std::size_t i, const json::object& volume) {
    const FieldPath at = volumes[i];
    const FieldPath projected = at / "projected";
    const FieldPath sources = projected / "sources";
    for_each_object(object_or_empty(volume, "projected"), "sources",
                    [&](std::size_t j, const json::object& source) {
                      if (source.contains("serviceAccountToken")) {
                        errors.forbidden(sources[j] / "serviceAccountToken",
                                         "must not be specified when serviceAccountName is not set");
                      }
                    });
  });
}

void validate_pod_create(const json::object& pod, FieldErrors& errors) {
  const json::object& spec = object_or_empty(pod, "spec");
  const FieldPath path("spec");
  if (!array_or_empty(spec, "ephemeralContainers").empty())
    errors.forbidden(path / "ephemeralContainers", "cannot be set on create");
  if (!text_of(spec, "nodeName").empty() && !array_or_empty(spec, "schedulingGates").empty())
    errors.forbidden(path / "nodeName", "cannot be set until all schedulingGates have been cleared");
  check_profile_annotations(object_or_empty(pod, "metadata"), spec, path, errors);
}

void validate_pod_update(const json::object& pod, const json::object& old_pod, FieldErrors& errors) {
  const json::object& spec = object_or_empty(pod, "spec");
  const json::object& old = object_or_empty(old_pod, "spec");
  const FieldPath path("spec");
  check_annotations_update(pod, old_pod, errors);
  for (const char* list : {"containers", "initContainers"}) {
    if (array_or_empty(spec, list).size() != array_or_empty(old, list).size()) {
      errors.forbidden(path / list, "pod updates may not add or remove containers");
      return;
    }
  }
  if (!check_deadline_update(spec, old, errors)) return;
  check_tolerations_update(spec, old, errors);
  check_gates_update(spec, old, errors);
  if (same_json(spec, old)) return;
  json::object same = without_mutable(spec, old);
  if (!array_or_empty(old, "schedulingGates").empty()) relax_gated(same, old, errors);
  if (same == old) return;
  errors.forbidden(
      path,
      "pod updates may not change fields other than "
      "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
      "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
      "(allow it to be set to 1 if it was previously negative)\nchanged: " +
          changed_members(same, old));
}

namespace {
/// A write through /ephemeralcontainers: what is there stays as it is, what is new keeps the rules.
void check_ephemeral_update(const json::object& pod, const json::object& old_pod, FieldErrors& errors) {
  const json::object& spec = object_or_empty(pod, "spec");
  const json::object& old = object_or_empty(old_pod, "spec");
  const FieldPath path("spec");
  if (object_or_empty(object_or_empty(old_pod, "metadata"), "annotations").contains(kMirror))
    return errors.forbidden(FieldPath(""), "static pods do not support ephemeral containers");
  check_pod_spec(spec, text_of(object_or_empty(pod, "metadata"), "name"), true, path, errors);
  const json::array& now = array_or_empty(spec, "ephemeralContainers");
  for_each_object(old, "ephemeralContainers", [&](std::size_t, const json::object& before) {
    const std::string name(text_of(before, "name"));
    const auto found = std::find_if(now.begin(), now.end(), [&](const json::value& each) {
      return each.is_object() && text_of(each.get_object(), "name") == name;
    });
    const std::string which = "existing ephemeral containers \"" + name + "\" may not be ";
    if (found == now.end()) {
      errors.forbidden(path / "ephemeralContainers", which + "removed\n");
    } else if (found->get_object() != before) {
      errors.forbidden(path / "ephemeralContainers", which + "changed");
    }
  });
}
}  // namespace

void validate_pod_status(const json::object& pod, const json::object& old_pod, FieldErrors& errors) {
  if (array_or_empty(object_or_empty(pod, "spec"), "ephemeralContainers") !=
      array_or_empty(object_or_empty(old_pod, "spec"), "ephemeralContainers"))
    check_ephemeral_update(pod, old_pod, errors);
  const json::object& status = object_or_empty(pod, "status");
  const json::object& old = object_or_empty(old_pod, "status");
  const json::object& spec = object_or_empty(old_pod, "spec");
  const FieldPath path("status");
  check_annotations_update(pod, old_pod, errors);
  const FieldPath meta("metadata");
  const FieldPath conditions = meta / "conditions";
  for_each_object(status, "conditions", [&](std::size_t i, const json::object& condition) {
    const std::string_view type = text_of(condition, "type");
    check_text(type, check_qualified_name(type), conditions[i] / "Type", errors);
  });
  const std::string_view node = text_of(status, "nominatedNodeName");
  if (!node.empty() && node != text_of(old, "nominatedNodeName"))
    check_text(node, check_dns1123_subdomain(node), path / "nominatedNodeName", errors);
  const std::string_view qos = text_of(status, "qosClass");
  if (!qos.empty() && old.contains("qosClass") && qos != text_of(old, "qosClass"))
    errors.invalid(path / "qosClass", qos, "field is immutable");
  check_states(status, old, spec, "containerStatuses", "containers", path, errors);
  check_states(status, old, spec, "initContainerStatuses", "initContainers", path, errors);
  check_states(status, old, spec, "ephemeralContainerStatuses", "ephemeralContainers", path, errors);
  check_pod_status_details(status, object_or_empty(pod, "spec"), path, errors);
  check_ips(status, "podIPs", path, errors);
  const json::array& hosts = array_or_empty(status, "hostIPs");
  if (hosts.empty() || !hosts[0].is_object()) return;
  const FieldPath list = path / "hostIPs";
  const std::string_view first = text_of(hosts[0].get_object(), "ip");
  if (first != text_of(status, "hostIP")) errors.invalid(list[0] / "ip", first, "must be equal to `hostIP`");
  check_ips(status, "hostIPs", path, errors);
}

namespace {

/// May a resize change this container's resources: a main one or a sidecar.
bool resizable(std::string_view list, const json::object& container) {
  return list == "containers" || text_of(container, "restartPolicy") == "Always";
}

/// cpu and memory of `like`, everything else of `container`.
json::object without_resize(const json::object& container, const json::object& like) {
  json::object out = container;
  json::object resources = object_or_empty(container, "resources");
  const json::object& before = object_or_empty(like, "resources");
  for (const char* list : {"requests", "limits"}) {
    json::object amounts = object_or_empty(resources, list);
    const json::object& old = object_or_empty(before, list);
    for (const char* name : {"cpu", "memory"}) {
      amounts.erase(name);
      if (const json::value* value = old.if_contains(name)) amounts[name] = *value;
    }
    if (amounts.empty() && !before.contains(list)) {
      resources.erase(list);
    } else {
      resources[list] = std::move(amounts);
    }
  }
  if (resources.empty() && !like.contains("resources")) {
    out.erase("resources");
  } else {
    out["resources"] = std::move(resources);
  }
  return out;
}

void check_removed(const json::object& now, const json::object& before, const FieldPath& path,
                   FieldErrors& errors) {
  for (const char* list : {"requests", "limits"}) {
    const json::object& amounts = object_or_empty(object_or_empty(now, "resources"), list);
    bool removed = false;
    for (const auto& entry : object_or_empty(object_or_empty(before, "resources"), list))
      removed = removed || !amounts.contains(entry.key());
    if (removed)
      errors.forbidden(path / "resources" / list, "resource " + std::string(list) + " cannot be removed");
  }
}

}  // namespace

void validate_pod_resize(const json::object& pod, const json::object& old_pod, FieldErrors& errors) {
  const json::object& annotations = object_or_empty(object_or_empty(old_pod, "metadata"), "annotations");
  if (annotations.contains("kubernetes.io/config.mirror"))
    return errors.forbidden(FieldPath(""), "static pods cannot be resized");
  const json::object& spec = object_or_empty(pod, "spec");
  const json::object& old = object_or_empty(old_pod, "spec");
  const FieldPath path("spec");
  const std::string_view qos = pod_qos_class(pod);
  if (qos != pod_qos_class(old_pod))
    errors.invalid(path, qos, "Pod QOS Class may not change as a result of resizing");
  bool other_changes = false;
  for (const char* list : {"containers", "initContainers"}) {
    const json::array& now = array_or_empty(spec, list);
    const json::array& before = array_or_empty(old, list);
    const FieldPath here = path / list;
    if (now.size() != before.size()) {
      errors.forbidden(here, std::string(list) + " may not be added or removed on resize");
      return;
    }
    for (std::size_t i = 0; i < now.size(); ++i) {
      if (!now[i].is_object() || !before[i].is_object()) continue;
      const json::object& each = now[i].get_object();
      const json::object& was = before[i].get_object();
      const FieldPath at = here[i];
      if (text_of(each, "name") != text_of(was, "name")) {
        errors.forbidden(at / "name", std::string(list) + " may not be renamed or reordered on resize");
        continue;
      }
      if (!resizable(list, was)) {
        if (object_or_empty(each, "resources") != object_or_empty(was, "resources"))
          errors.forbidden(at / "resources", "resources for non-sidecar init containers are immutable");
        continue;
      }
      check_removed(each, was, at, errors);
      other_changes = other_changes || without_resize(each, was) != was;
    }
  }
  if (other_changes) errors.forbidden(path, "only cpu and memory resources are mutable");
}

}  // namespace orchestra::api
