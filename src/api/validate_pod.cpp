// Rules of a pod's spec, and what of it may change: pkg/apis/core/validation/validation.go, ValidatePodSpec
// and ValidatePodUpdate.
#include <algorithm>
#include <set>

#include "api/meta.hpp"
#include "api/pod_resize.hpp"
#include "api/prepare.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kNotNegative = "must be greater than or equal to 0";

void check_hostpath(const json::object& source, const FieldPath& path, FieldErrors& errors) {
  const std::string_view where = text_of(source, "path");
  for (const std::string_view part : split_words(where, '/')) {
    if (part == "..") return errors.invalid(path / "path", where, "must not contain '..'");
  }
}

void check_mode(const json::object& source, const FieldPath& path, FieldErrors& errors) {
  const json::value* mode = source.if_contains("defaultMode");
  if (mode != nullptr && mode->is_int64() && (mode->get_int64() < 0 || mode->get_int64() > 0777)) {
    errors.invalid(path / "defaultMode", *mode,
                   "must be a number between 0 and 0777 (octal), both inclusive");
  }
}

std::set<std::string_view> check_volumes(const json::object& spec, const FieldPath& path,
                                         FieldErrors& errors) {
  std::set<std::string_view> names;
  const FieldPath list = path / "volumes";
  for_each_object(spec, "volumes", [&](std::size_t index, const json::object& volume) {
    const FieldPath at = list[index];
    const std::string_view name = text_of(volume, "name");
    if (!name.empty()) {
      if (const std::string wrong = check_dns1123_label(name); !wrong.empty()) {
        errors.invalid(at / "name", name, wrong);
      } else if (!names.insert(name).second) {
        errors.duplicate(at / "name", *volume.if_contains("name"));
      }
    }
    int sources = 0;
    for (const auto& [kind, value] : volume) {
      if (kind == "name" || !value.is_object()) continue;
      const FieldPath below = at / kind;
      if (++sources > 1) errors.forbidden(below, "may not specify more than 1 volume type");
      check_mode(value.get_object(), below, errors);
      if (kind == "hostPath") check_hostpath(value.get_object(), below, errors);
      if (kind == "configMap" && text_of(value.get_object(), "name").empty()) errors.required(below / "name");
    }
    if (sources == 0) errors.required(at, "must specify a volume type");
  });
  return names;
}

void check_toleration(const json::object& toleration, const FieldPath& path, FieldErrors& errors) {
  const std::string_view key = text_of(toleration, "key"), op = text_of(toleration, "operator");
  const std::string_view effect = text_of(toleration, "effect"), value = text_of(toleration, "value");
  if (const std::string wrong = key.empty() ? "" : check_qualified_name(key); !wrong.empty())
    errors.invalid(path / "key", key, wrong);
  if (key.empty() && op != "Exists") {
    errors.invalid(
        path / "operator", op,
        "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
  }
  if (toleration.contains("tolerationSeconds") && effect != "NoExecute") {
    errors.invalid(path / "effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
  }
  if (op == "Exists" && !value.empty()) {
    errors.invalid(path / "operator", json::value(toleration),
                   "value must be empty when `operator` is 'Exists'");
  } else if (op != "Exists") {
    if (const std::string wrong = check_label_value(value); !wrong.empty())
      errors.invalid(path / "operator", value, wrong);
  }
}

void check_containers(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const std::set<std::string_view> volumes = check_volumes(spec, path, errors);
  std::set<std::string_view> names;
  for (const char* which : {"containers", "initContainers"}) {
    const bool init = std::string_view(which) == "initContainers";
    const FieldPath list = path / which;
    for_each_object(spec, which, [&](std::size_t index, const json::object& container) {
      const FieldPath at = list[index];
      validate_container(container, volumes, init, at, errors);
      const json::value* name = container.if_contains("name");
      if (name != nullptr && name->is_string() && !name->get_string().empty() &&
          !names.insert(name->get_string()).second) {
        errors.duplicate(at / "name", *name);
      }
      if (!flag_of(spec, "hostNetwork")) return;
      const FieldPath ports = at / "ports";
      for_each_object(container, "ports", [&](std::size_t i, const json::object& port) {
        const std::int64_t host = int_of(port, "hostPort");
        if (host != 0 && host != int_of(port, "containerPort")) {
          errors.invalid(ports[i] / "hostPort", json::value(host),
                         "must match `containerPort` when `hostNetwork` is true");
        }
      });
    });
  }
}

void check_dns(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object& config = object_or_empty(spec, "dnsConfig");
  const json::array& servers = array_or_empty(config, "nameservers");
  const FieldPath at = path / "dnsConfig";
  const FieldPath list = at / "nameservers";
  if (text_of(spec, "dnsPolicy") == "None" && servers.empty()) {
    errors.required(spec.contains("dnsConfig") ? list : at,
                    "must provide at least one DNS nameserver when `dnsPolicy` is None");
  }
  if (servers.size() > 3) errors.invalid(list, json::value(servers), "must not have more than 3 nameservers");
  for (std::size_t i = 0; i < servers.size(); ++i) {
    const std::string_view text =
        servers[i].is_string() ? std::string_view(servers[i].get_string()) : std::string_view();
    if (!is_ipv4(text) && !is_ipv6(text))
      errors.invalid(list[i], text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
  }
}

void check_names(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const auto subdomain = [&](const char* field) {
    const std::string_view text = text_of(spec, field);
    if (const std::string wrong = text.empty() ? "" : check_dns1123_subdomain(text); !wrong.empty())
      errors.invalid(path / field, text, wrong);
  };
  const auto label = [&](const char* field) {
    const std::string_view text = text_of(spec, field);
    if (const std::string wrong = text.empty() ? "" : check_dns1123_label(text); !wrong.empty())
      errors.invalid(path / field, text, wrong);
  };
  subdomain("nodeName");
  subdomain("serviceAccountName");
  subdomain("priorityClassName");
  subdomain("runtimeClassName");
  label("hostname");
  label("subdomain");
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
      if (const json::value* image = (*before)[i].get_object().if_contains("image"))
        now[i].get_object()["image"] = *image;
    }
  }
  for (const char* field : {"activeDeadlineSeconds", "tolerations", "schedulingGates"}) {
    copy.erase(field);
    if (const json::value* value = old.if_contains(field)) copy[field] = *value;
  }
  if (int_of(old, "terminationGracePeriodSeconds") < 0 &&
      int_of(spec, "terminationGracePeriodSeconds") == 1) {
    copy["terminationGracePeriodSeconds"] = int_of(old, "terminationGracePeriodSeconds");
  }
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
  for (const json::value& each : array_or_empty(old, "tolerations")) {
    if (std::find(now.begin(), now.end(), each) == now.end()) {
      errors.forbidden(FieldPath("spec") / "tolerations",
                       "existing toleration can not be modified except its tolerationSeconds");
      return;
    }
  }
}

}  // namespace

void validate_pod_spec(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  check_containers(spec, path, errors);
  check_dns(spec, path, errors);
  check_names(spec, path, errors);
  if (const json::value* grace = spec.if_contains("terminationGracePeriodSeconds");
      grace && grace->is_int64() && grace->get_int64() < 0) {
    errors.invalid(path / "terminationGracePeriodSeconds", *grace, kNotNegative);
  }
  if (const json::value* deadline = spec.if_contains("activeDeadlineSeconds");
      deadline && deadline->is_int64()) {
    const std::int64_t seconds = deadline->get_int64();
    if (seconds < 1 || seconds > INT32_MAX) {
      errors.invalid(path / "activeDeadlineSeconds", *deadline,
                     "must be between 1 and 2147483647, inclusive");
    }
  }
  validate_labels(spec.if_contains("nodeSelector"), path / "nodeSelector", errors);
  const FieldPath tolerations = path / "tolerations";
  for_each_object(spec, "tolerations", [&](std::size_t i, const json::object& each) {
    check_toleration(each, tolerations[i], errors);
  });
  const FieldPath aliases = path / "hostAliases";
  for_each_object(spec, "hostAliases", [&](std::size_t i, const json::object& each) {
    const std::string_view ip = text_of(each, "ip");
    if (!is_ipv4(ip) && !is_ipv6(ip))
      errors.invalid(aliases[i] / "ip", ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
  });
}

void validate_pod_update(const json::object& pod, const json::object& old_pod, FieldErrors& errors) {
  const json::object& spec = object_or_empty(pod, "spec");
  const json::object& old = object_or_empty(old_pod, "spec");
  const FieldPath path("spec");
  for (const char* list : {"containers", "initContainers"}) {
    if (array_or_empty(spec, list).size() != array_or_empty(old, list).size()) {
      errors.forbidden(path / list, "pod updates may not add or remove containers");
      return;
    }
  }
  check_tolerations_update(spec, old, errors);
  const json::array& gates = array_or_empty(old, "schedulingGates");
  for (const json::value& gate : array_or_empty(spec, "schedulingGates")) {
    if (std::find(gates.begin(), gates.end(), gate) == gates.end()) {
      errors.forbidden(path / "schedulingGates",
                       "only deletion is allowed, but found new scheduling gate " + to_json(gate));
    }
  }
  const json::object same = without_mutable(spec, old);
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
