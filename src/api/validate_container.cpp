// Rules of containers and what they hold: validateContainerCommon, validateContainers, validateInitContainers
// and validateEphemeralContainers of pkg/apis/core/validation/validation.go.
#include <algorithm>
#include <map>
#include <set>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

using Mounts = std::map<std::string_view, std::string_view>;  ///< volume -> path

void check_ports(const json::object& container, const FieldPath& path, FieldErrors& errors) {
  const FieldPath ports = path / "ports";
  std::set<std::string_view> names;
  for_each_object(container, "ports", [&](std::size_t index, const json::object& port) {
    const FieldPath at = ports[index];
    const std::string_view name = text_of(port, "name");
    if (!name.empty()) {
      if (const std::string wrong = check_port_name(name); !wrong.empty()) {
        errors.invalid(at / "name", name, wrong);
      } else if (!names.insert(name).second) {
        errors.duplicate(at / "name", json::string(name));
      }
    }
    const std::int64_t number = int_of(port, "containerPort"), host = int_of(port, "hostPort");
    if (number == 0) {
      errors.required(at / "containerPort");
    } else if (number < 1 || number > 65535) {
      errors.invalid(at / "containerPort", json::value(number), kPortRangeText);
    }
    if (host != 0 && (host < 1 || host > 65535))
      errors.invalid(at / "hostPort", json::value(host), kPortRangeText);
  });
}

void check_key_ref(const json::object& reference, const FieldPath& path, FieldErrors& errors) {
  const std::string_view name = text_of(reference, "name"), key = text_of(reference, "key");
  check_text(name, check_dns1123_subdomain(name), path / "name", errors);
  if (!key.empty()) check_text(key, check_config_map_key(key), path / "key", errors);
}

void check_file_ref(const json::object& reference, const FieldPath& path, FieldErrors& errors) {
  const std::string_view key = text_of(reference, "key"), volume = text_of(reference, "volumeName");
  const std::string_view where = text_of(reference, "path");
  for (const char* field : {"key", "volumeName", "path"}) check_required(reference, field, path, errors);
  if (!key.empty()) check_text(key, check_env_var_name(key), path / "key", errors);
  if (!volume.empty()) check_text(volume, check_dns1123_label(volume), path / "volumeName", errors);
  check_no_backsteps(where, path / "path", errors);
}

void check_env(const json::object& container, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "env";
  for_each_object(container, "env", [&](std::size_t index, const json::object& variable) {
    const FieldPath at = list[index];
    const std::string_view name = text_of(variable, "name");
    if (!name.empty()) check_text(name, check_env_var_name(name), at / "name", errors);
    const json::object* from = object_of(variable, "valueFrom");
    if (from == nullptr) return;
    const FieldPath below = at / "valueFrom";
    int sources = 0;
    if (const json::object* field = object_of(*from, "fieldRef")) {
      ++sources;
      check_field_ref(*field, false, below / "fieldRef", errors);
    }
    if (const json::object* resource = object_of(*from, "resourceFieldRef")) {
      ++sources;
      check_resource_field_ref(*resource, false, below / "resourceFieldRef", errors);
    }
    for (const char* kind : {"configMapKeyRef", "secretKeyRef"}) {
      const json::object* reference = object_of(*from, kind);
      if (reference == nullptr) continue;
      ++sources;
      check_key_ref(*reference, below / kind, errors);
    }
    if (const json::object* file = object_of(*from, "fileKeyRef")) {
      ++sources;
      check_file_ref(*file, below / "fileKeyRef", errors);
    }
    if (sources == 0) {
      errors.invalid(
          below, "",
          "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or "
          "`fileKeyRef`");
    } else if (!text_of(variable, "value").empty()) {
      errors.invalid(below, "", "may not be specified when `value` is not empty");
    } else if (sources > 1) {
      errors.invalid(below, "", "may not have more than one field specified at a time");
    }
  });
}

void check_env_from(const json::object& container, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "envFrom";
  for_each_object(container, "envFrom", [&](std::size_t index, const json::object& source) {
    const FieldPath at = list[index];
    const std::string_view prefix = text_of(source, "prefix");
    if (!prefix.empty()) check_text(prefix, check_env_var_name(prefix), at / "prefix", errors);
    int sources = 0;
    for (const char* kind : {"configMapRef", "secretRef"}) {
      const json::object* reference = object_of(source, kind);
      if (reference == nullptr) continue;
      ++sources;
      std::string name(text_of(*reference, "name"));
      const FieldPath below = at / kind;
      if (name.empty()) {
        errors.required(below / "name");
        continue;
      }
      // As upstream: a name that could be the beginning of a generated one.
      const std::string shown = name;
      if (name.back() == '-') name += 'a';
      check_text(shown, check_dns1123_subdomain(name), below / "name", errors);
    }
    // Upstream leaves the index out.
    if (sources == 0) errors.invalid(list, "", "must specify one of: `configMapRef` or `secretRef`");
    if (sources > 1) errors.invalid(list, "", "may not have more than one field specified at a time");
  });
}

void check_propagation(const json::object& mount, bool privileged, const FieldPath& list,
                       FieldErrors& errors) {
  const std::string_view propagation = text_of(mount, "mountPropagation");
  const std::string_view recursive = text_of(mount, "recursiveReadOnly");
  if (mount.contains("mountPropagation")) {
    if (propagation != "Bidirectional" && propagation != "HostToContainer" && propagation != "None") {
      errors.not_supported(list / "mountPropagation", json::string(propagation),
                           {"Bidirectional", "HostToContainer", "None"});
    }
    if (propagation == "Bidirectional" && !privileged) {
      errors.forbidden(list / "mountPropagation",
                       "Bidirectional mount propagation is available only to privileged containers");
    }
  }
  if (!mount.contains("recursiveReadOnly") || recursive == "Disabled") return;
  if (recursive != "Enabled" && recursive != "IfPossible") {
    errors.not_supported(list / "recursiveReadOnly", json::string(recursive),
                         {"Disabled", "Enabled", "IfPossible"});
    return;
  }
  if (!flag_of(mount, "readOnly"))
    errors.forbidden(list / "recursiveReadOnly", "may only be specified when readOnly is true");
  if (!propagation.empty() && propagation != "None") {
    errors.forbidden(list / "recursiveReadOnly",
                     "may only be specified when mountPropagation is None or not specified");
  }
}

Mounts paths_of(const json::object& container, const char* list, const char* field) {
  Mounts out;
  for_each_object(container, list, [&](std::size_t, const json::object& each) {
    out[text_of(each, "name")] = text_of(each, field);
  });
  return out;
}
bool has_path(const Mounts& mounts, std::string_view path) {
  return std::any_of(mounts.begin(), mounts.end(), [&](const auto& each) { return each.second == path; });
}

void check_mounts(const json::object& container, const Volumes& volumes, const FieldPath& path,
                  FieldErrors& errors) {
  const FieldPath list = path / "volumeMounts";
  const Mounts devices = paths_of(container, "volumeDevices", "devicePath");
  const bool privileged = flag_of(object_or_empty(container, "securityContext"), "privileged");
  std::set<std::string_view> paths;
  for_each_object(container, "volumeMounts", [&](std::size_t index, const json::object& mount) {
    const FieldPath at = list[index];
    const std::string_view name = text_of(mount, "name"), where = text_of(mount, "mountPath");
    if (volumes.count(name) == 0) errors.not_found(at / "name", json::string(name));
    if (!paths.insert(where).second) errors.invalid(at / "mountPath", where, "must be unique");
    if (devices.count(name) > 0) errors.invalid(at / "name", name, "must not already exist in volumeDevices");
    if (has_path(devices, where))
      errors.invalid(at / "mountPath", where, "must not already exist as a path in volumeDevices");
    const std::string_view sub = text_of(mount, "subPath"), expression = text_of(mount, "subPathExpr");
    // Upstream leaves the index out of the paths below.
    if (!sub.empty()) check_descending_path(sub, list / "subPath", errors);
    if (!expression.empty()) {
      if (!sub.empty())
        errors.invalid(at / "subPathExpr", expression, "subPathExpr and subPath are mutually exclusive");
      check_descending_path(expression, list / "subPathExpr", errors);
    }
    check_propagation(mount, privileged, list, errors);
  });
}

void check_devices(const json::object& container, const Volumes& volumes, const FieldPath& path,
                   FieldErrors& errors) {
  const FieldPath list = path / "volumeDevices";
  const Mounts mounts = paths_of(container, "volumeMounts", "mountPath");
  std::set<std::string_view> names, paths;
  for_each_object(container, "volumeDevices", [&](std::size_t index, const json::object& device) {
    const FieldPath at = list[index];
    const std::string_view name = text_of(device, "name"), where = text_of(device, "devicePath");
    if (name.empty()) errors.required(at / "name");
    if (names.count(name) > 0) errors.invalid(at / "name", name, "must be unique");
    const auto volume = volumes.find(name);
    if (volume == volumes.end()) {
      errors.not_found(at / "name", json::string(name));
    } else if (!volume->second->contains("persistentVolumeClaim") && !volume->second->contains("ephemeral")) {
      errors.invalid(at / "name", name,
                     "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode");
    }
    if (where.empty()) errors.required(at / "devicePath");
    if (paths.count(where) > 0) errors.invalid(at / "devicePath", where, "must be unique");
    const std::vector<std::string_view> parts = split_words(where, '/');
    if (std::find(parts.begin(), parts.end(), "..") != parts.end()) {
      errors.invalid(at / "devicePath", where, "can not contain backsteps ('..')");
    } else {
      paths.insert(where);
    }
    if (mounts.count(name) > 0) errors.invalid(at / "name", name, "must not already exist in volumeMounts");
    if (has_path(mounts, where))
      errors.invalid(at / "devicePath", where, "must not already exist as a path in volumeMounts");
    if (!name.empty()) names.insert(name);
  });
}

void check_http(const json::object& action, const FieldPath& path, FieldErrors& errors) {
  check_port(action.if_contains("port"), path / "port", errors);
  for_each_object(action, "httpHeaders", [&](std::size_t, const json::object& header) {
    const std::string_view name = text_of(header, "name");
    const bool good = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
    });
    if (good) return;
    errors.invalid(path / "httpHeaders", name,
                   "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. "
                   "'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')");
  });
}

void check_handler(const json::object& handler, const json::value* grace, const FieldPath& path,
                   FieldErrors& errors) {
  int handlers = 0;
  for (const char* kind : {"exec", "httpGet", "tcpSocket", "grpc", "sleep"}) {
    const json::object* found = object_of(handler, kind);
    if (found == nullptr) continue;
    const FieldPath at = path / kind;
    const std::string_view name = kind;
    if (++handlers > 1) {
      errors.forbidden(at, "may not specify more than 1 handler type");
    } else if (name == "httpGet") {
      check_http(*found, at, errors);
    } else if (name == "tcpSocket" || name == "grpc") {
      check_port(found->if_contains("port"), at / "port", errors);
    } else if (name == "sleep" && grace != nullptr && grace->is_int64()) {
      const std::int64_t seconds = int_of(*found, "seconds");
      if (seconds < 0 || seconds > grace->get_int64()) {
        errors.invalid(at, json::value(seconds),
                       "must be non-negative and less than terminationGracePeriodSeconds (" +
                           std::to_string(grace->get_int64()) + ")");
      }
    }
  }
  if (handlers == 0) errors.required(path, "must specify a handler type");
}

void check_probe(const json::object& container, const char* which, const FieldPath& parent,
                 FieldErrors& errors) {
  const json::object* probe = object_of(container, which);
  if (probe == nullptr) return;
  const FieldPath path = parent / which;
  check_handler(*probe, nullptr, path, errors);
  for (const char* field :
       {"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"})
    check_not_negative(*probe, field, path, errors);
  const json::value* grace = probe->if_contains("terminationGracePeriodSeconds");
  if (grace != nullptr && grace->is_int64() && grace->get_int64() <= 0)
    errors.invalid(path / "terminationGracePeriodSeconds", *grace, "must be greater than 0");
  const std::int64_t success = int_of(*probe, "successThreshold", 1);
  if (std::string_view(which) != "readinessProbe") {
    if (success != 1) errors.invalid(path / "successThreshold", json::value(success), "must be 1");
  } else if (grace != nullptr) {
    errors.invalid(path / "terminationGracePeriodSeconds", *grace, "must not be set for readinessProbes");
  }
}

constexpr std::size_t kRestartRulesMax = 20, kRestartExitCodesMax = 255;

void check_restart_rules(const json::object& container, bool is_init, const FieldPath& path,
                         FieldErrors& errors) {
  const json::array* rules = array_of(container, "restartPolicyRules");
  if (rules == nullptr || rules->empty()) return;
  const FieldPath at = path / "restartPolicyRules";
  if (text_of(container, "restartPolicy").empty()) {
    errors.required(path / "restartPolicy", "must specify restartPolicy when restart rules are used");
    if (is_init) return;
  }
  if (is_init && text_of(container, "restartPolicy") == "Always") {
    errors.forbidden(at, "restartPolicyRules are not allowed for init containers with restart policy Always");
    return;
  }
  if (rules->size() > kRestartRulesMax) errors.too_many(at, rules->size(), kRestartRulesMax);
  for (std::size_t i = 0; i < rules->size(); ++i) {
    const json::object* rule = (*rules)[i].if_object();
    if (rule == nullptr) continue;
    // RestartAllContainers needs a gate that is off at 1.35.
    if (text_of(*rule, "action") != "Restart")
      errors.not_supported(at[i] / "action", json::value(text_of(*rule, "action")), {"Restart"});
    const json::object* codes = object_of(*rule, "exitCodes");
    if (codes == nullptr) {
      errors.required(at[i] / "exitCodes", "must be specified");
      continue;
    }
    const std::string_view op = text_of(*codes, "operator");
    if (op != "In" && op != "NotIn")
      errors.not_supported(at[i] / "exitCodes" / "operator", json::value(op), {"In", "NotIn"});
    if (const json::array* values = array_of(*codes, "values");
        values != nullptr && values->size() > kRestartExitCodesMax)
      errors.too_many(at[i] / "exitCodes" / "values", values->size(), kRestartExitCodesMax);
  }
}

void check_resize_policy(const json::object& container, const ContainerContext& context,
                         const FieldPath& path, FieldErrors& errors) {
  const FieldPath at = path / "resizePolicy";
  std::set<std::string_view> seen;
  for_each_object(container, "resizePolicy", [&](std::size_t i, const json::object& policy) {
    const std::string_view resource = text_of(policy, "resourceName"),
                           restart = text_of(policy, "restartPolicy");
    if (!seen.insert(resource).second) errors.duplicate(at[i], json::string(resource));
    if (resource.empty()) {
      errors.required(at);
    } else if (resource != "cpu" && resource != "memory") {
      errors.not_supported(at, json::string(resource), {"cpu", "memory"});
    }
    if (restart.empty()) {
      errors.required(at);
    } else if (restart != "NotRequired" && restart != "RestartContainer") {
      errors.not_supported(at, json::string(restart), {"NotRequired", "RestartContainer"});
    }
    if (context.restart_policy == "Never" && restart != "NotRequired")
      errors.invalid(at, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
  });
}

/// What every kind of container must keep.
void check_common(const json::object& container, const ContainerContext& context, const FieldPath& path,
                  FieldErrors& errors) {
  const std::string_view name = text_of(container, "name");
  if (!name.empty()) check_text(name, check_dns1123_label(name), path / "name", errors);
  const std::string_view image = text_of(container, "image");
  constexpr std::string_view kSpace = " \t\n\r\v\f";
  if (image.empty()) {
    errors.required(path / "image");
  } else if (context.is_pod && (kSpace.find(image.front()) != std::string_view::npos ||
                                kSpace.find(image.back()) != std::string_view::npos)) {
    errors.invalid(path / "image", image, "must not have leading or trailing whitespace");
  }
  check_ports(container, path, errors);
  check_env(container, path, errors);
  check_env_from(container, path, errors);
  check_mounts(container, context.volumes, path, errors);
  check_devices(container, context.volumes, path, errors);
  if (const json::object* resources = object_of(container, "resources"))
    check_resource_requirements(*resources, context.claims, false, path / "resources", errors);
  check_resize_policy(container, context, path, errors);
  check_security_context(container, context.host_users, path, errors);
}

void check_lifecycle(const json::object& container, const ContainerContext& context, const FieldPath& path,
                     FieldErrors& errors) {
  if (const json::object* lifecycle = object_of(container, "lifecycle")) {
    const FieldPath at = path / "lifecycle";
    for (const char* hook : {"postStart", "preStop"}) {
      if (const json::object* handler = object_of(*lifecycle, hook))
        check_handler(*handler, context.grace, at / hook, errors);
    }
  }
  for (const char* probe : {"livenessProbe", "readinessProbe", "startupProbe"})
    check_probe(container, probe, path, errors);
}

constexpr std::string_view kEnvFields[] = {
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs",     "status.podIP", "status.podIPs"};
constexpr std::string_view kVolumeFields[] = {"metadata.annotations", "metadata.labels", "metadata.name",
                                              "metadata.namespace", "metadata.uid"};
/// What the conversion of field labels knows: everything else is an error of its own.
constexpr std::string_view kKnownFields[] = {
    "metadata.annotations", "metadata.labels", "metadata.name",      "metadata.namespace",
    "metadata.uid",         "spec.nodeName",   "spec.restartPolicy", "spec.serviceAccountName",
    "spec.schedulerName",   "status.phase",    "status.hostIP",      "status.hostIPs",
    "status.podIP",         "status.podIPs",   "spec.host"};
constexpr std::string_view kResourceFields[] = {
    "limits.cpu",   "limits.ephemeral-storage",   "limits.memory",
    "requests.cpu", "requests.ephemeral-storage", "requests.memory"};
template <class List>
bool contains(const List& list, std::string_view word) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

}  // namespace

void check_field_ref(const json::object& reference, bool in_volume, const FieldPath& path,
                     FieldErrors& errors) {
  const std::string_view field = text_of(reference, "fieldPath");
  if (field.empty()) return;  // told by the schema
  const std::size_t open = field.find("['");
  const bool subscripted = open != std::string_view::npos && field.ends_with("']");
  const std::string_view base = subscripted ? field.substr(0, open) : field;
  const FieldPath at = path / "fieldPath";
  const std::string_view version = text_of(reference, "apiVersion");
  if (version != "v1") {
    return errors.invalid(at, field,
                          "error converting fieldPath: unsupported pod version: " + std::string(version));
  }
  if (subscripted && base != "metadata.annotations" && base != "metadata.labels") {
    return errors.invalid(
        at, field,
        "error converting fieldPath: field label does not support subscript: " + std::string(field));
  }
  if (!contains(kKnownFields, base)) {
    return errors.invalid(at, field,
                          "error converting fieldPath: field label not supported: " + std::string(field));
  }
  if (subscripted) {
    std::string key(field.substr(open + 2, field.size() - open - 4));
    if (base == "metadata.annotations") {
      std::transform(key.begin(), key.end(), key.begin(),
                     [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    }
    return check_text(key, check_qualified_name(key), path, errors);
  }
  const std::string_view internal = base == "spec.host" ? "spec.nodeName" : base;
  if (in_volume ? contains(kVolumeFields, internal) : contains(kEnvFields, internal)) return;
  if (in_volume) {
    errors.not_supported(at, json::string(internal), {std::begin(kVolumeFields), std::end(kVolumeFields)});
  } else {
    errors.not_supported(at, json::string(internal), {std::begin(kEnvFields), std::end(kEnvFields)});
  }
}

void check_resource_field_ref(const json::object& reference, bool in_volume, const FieldPath& path,
                              FieldErrors& errors) {
  const std::string_view resource = text_of(reference, "resource");
  const bool pages = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
  if (in_volume && text_of(reference, "containerName").empty()) {
    errors.required(path / "containerName");
  } else if (!resource.empty() && !contains(kResourceFields, resource) && !pages) {
    errors.not_supported(path / "resource", json::string(resource),
                         {std::begin(kResourceFields), std::end(kResourceFields)});
  }
  const auto divisor = quantity_of(reference, "divisor");
  if (!divisor || divisor->is_zero()) return;
  const std::string text = divisor->to_string();
  static constexpr std::string_view kBytes[] = {"1",   "1k",  "1M",  "1G",  "1T",  "1P", "1E",
                                                "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"};
  if (resource.ends_with(".cpu")) {
    if (text != "1m" && text != "1") {
      errors.invalid(path / "divisor", resource,
                     "only divisor's values 1m and 1 are supported with the cpu resource");
    }
    return;
  }
  const char* name = resource.ends_with(".memory")              ? "memory"
                     : resource.ends_with(".ephemeral-storage") ? "local ephemeral storage"
                     : pages                                    ? "hugepages"
                                                                : nullptr;
  if (name == nullptr || contains(kBytes, text)) return;
  errors.invalid(
      path / "divisor", resource,
      std::string("only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are "
                  "supported with the ") +
          name + " resource");
}

void validate_container(const json::object& container, const ContainerContext& context, const FieldPath& path,
                        FieldErrors& errors) {
  check_common(container, context, path, errors);
  check_lifecycle(container, context, path, errors);
  check_restart_rules(container, false, path, errors);
}

void validate_init_container(const json::object& container, const ContainerContext& context,
                             const FieldPath& path, FieldErrors& errors) {
  check_common(container, context, path, errors);
  check_restart_rules(container, true, path, errors);
  if (text_of(container, "restartPolicy") == "Always")
    return check_lifecycle(container, context, path, errors);
  for (const char* field : {"lifecycle", "livenessProbe", "readinessProbe", "startupProbe"}) {
    if (container.contains(field))
      errors.forbidden(path / field, "may not be set for init containers without restartPolicy=Always");
  }
}

void validate_ephemeral_container(const json::object& container, const ContainerContext& context,
                                  const FieldPath& path, FieldErrors& errors) {
  ContainerContext pod = context;
  pod.is_pod = true;
  check_common(container, pod, path, errors);
  constexpr const char* kText = "cannot be set for an Ephemeral Container";
  for (const char* field : {"ports", "resources", "resizePolicy", "restartPolicy", "restartPolicyRules",
                            "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"}) {
    const json::value* value = container.if_contains(field);
    const bool empty =
        value == nullptr || (value->is_array() && value->get_array().empty()) ||
        (std::string_view(field) == "resources" && value->is_object() && value->get_object().empty());
    if (!empty) errors.forbidden(path / field, kText);
  }
  const FieldPath list = path / "volumeMounts";
  for_each_object(container, "volumeMounts", [&](std::size_t i, const json::object& mount) {
    for (const char* field : {"subPath", "subPathExpr"}) {
      if (!text_of(mount, field).empty()) errors.forbidden(list[i] / field, kText);
    }
  });
}

}  // namespace orchestra::api
