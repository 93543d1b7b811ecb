// Rules of containers and what they hold: pkg/apis/core/validation/validation.go, validateContainer*.
#include <algorithm>
#include <set>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "base/json.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kNotNegative = "must be greater than or equal to 0";
constexpr const char* kPortRange = "must be between 1 and 65535, inclusive";

bool present(const json::object& object, std::string_view key) { return object.contains(key); }

void check_port_numbers(const json::object& port, const FieldPath& path, FieldErrors& errors) {
  const std::int64_t number = int_of(port, "containerPort"), host = int_of(port, "hostPort");
  if (number == 0) {
    errors.required(path / "containerPort");
  } else if (number < 1 || number > 65535) {
    errors.invalid(path / "containerPort", json::value(number), kPortRange);
  }
  if (host != 0 && (host < 1 || host > 65535))
    errors.invalid(path / "hostPort", json::value(host), kPortRange);
}

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
        errors.duplicate(at / "name", *port.if_contains("name"));
      }
    }
    check_port_numbers(port, at, errors);
  });
}

void check_env(const json::object& container, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "env";
  for_each_object(container, "env", [&](std::size_t index, const json::object& variable) {
    const FieldPath at = list[index];
    const std::string_view name = text_of(variable, "name");
    if (const std::string wrong = name.empty() ? "" : check_env_var_name(name); !wrong.empty()) {
      errors.invalid(at / "name", name, wrong);
    }
    const json::object* from = object_of(variable, "valueFrom");
    if (from == nullptr) return;
    const FieldPath value_from = at / "valueFrom";
    if (!text_of(variable, "value").empty()) {
      errors.invalid(value_from, "", "may not be specified when `value` is not empty");
    }
    const auto sources =
        std::count_if(from->begin(), from->end(), [](const auto& m) { return m.value().is_object(); });
    if (sources == 0) {
      errors.invalid(
          value_from, "",
          "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or "
          "`fileKeyRef`");
    } else if (sources > 1) {
      errors.invalid(value_from, "", "may not have more than one field specified at a time");
    }
    for (const char* ref : {"configMapKeyRef", "secretKeyRef"}) {
      const json::object* source = object_of(*from, ref);
      if (source != nullptr && text_of(*source, "name").empty()) errors.required(value_from / ref / "name");
    }
  });
  const FieldPath from_list = path / "envFrom";
  for_each_object(container, "envFrom", [&](std::size_t index, const json::object& source) {
    const FieldPath at = from_list[index];
    const bool map = present(source, "configMapRef"), secret = present(source, "secretRef");
    if (!map && !secret) errors.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`");
    if (map && secret) errors.invalid(at, "", "may not have more than one field specified at a time");
  });
}

void check_mounts(const json::object& container, const std::set<std::string_view>& volumes,
                  const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "volumeMounts";
  std::set<std::string_view> paths;
  for_each_object(container, "volumeMounts", [&](std::size_t index, const json::object& mount) {
    const FieldPath at = list[index];
    const std::string_view name = text_of(mount, "name"), where = text_of(mount, "mountPath");
    if (!name.empty() && volumes.count(name) == 0) errors.not_found(at / "name", *mount.if_contains("name"));
    if (!where.empty() && !paths.insert(where).second)
      errors.invalid(at / "mountPath", where, "must be unique");
    const std::string_view sub = text_of(mount, "subPath");
    if (sub.starts_with("/")) errors.invalid(at / "subPath", sub, "must be a relative path");
    for (const std::string_view part : split_words(sub, '/')) {
      if (part == "..") errors.invalid(at / "subPath", sub, "must not contain '..'");
    }
  });
}

bool is_standard_resource(std::string_view name) {
  return name == "cpu" || name == "memory" || name == "ephemeral-storage" || name.starts_with("hugepages-");
}

void check_quantities(const json::object& resources, const char* which, const FieldPath& path,
                      FieldErrors& errors) {
  const FieldPath list = path / which;
  for (const auto& [name, text] : object_or_empty(resources, which)) {
    const FieldPath at = list.key(name);
    if (const std::string wrong = check_qualified_name(name); !wrong.empty()) {
      errors.invalid(at, std::string_view(name), wrong);
    } else if (name.find('/') == json::string_view::npos && !is_standard_resource(name)) {
      errors.invalid(at, std::string_view(name), "must be a standard resource type or fully qualified");
      errors.invalid(at, std::string_view(name), "must be a standard resource for containers");
    }
    const Result<Quantity> quantity =
        text.is_string() ? Quantity::parse(std::string_view(text.get_string())) : Quantity();
    if (quantity && quantity->sign() < 0) errors.invalid(at, text, kNotNegative);
  }
}

/// A request may not exceed its limit.
void check_resources(const json::object& container, const FieldPath& path, FieldErrors& errors) {
  const json::object* resources = object_of(container, "resources");
  if (resources == nullptr) return;
  const FieldPath at = path / "resources";
  check_quantities(*resources, "limits", at, errors);
  check_quantities(*resources, "requests", at, errors);
  const json::object& limits = object_or_empty(*resources, "limits");
  for (const auto& [name, text] : object_or_empty(*resources, "requests")) {
    const json::value* limit_text = limits.if_contains(name);
    if (limit_text == nullptr || !limit_text->is_string() || !text.is_string()) continue;
    const Result<Quantity> request = Quantity::parse(std::string_view(text.get_string()));
    const Result<Quantity> limit = Quantity::parse(std::string_view(limit_text->get_string()));
    if (!request || !limit || *request <= *limit) continue;
    errors.invalid(at / "requests", text,
                   "must be less than or equal to " + std::string(name) + " limit of " + limit->to_string());
  }
}

void check_handler_port(const json::object& handler, const FieldPath& path, FieldErrors& errors) {
  const json::value* port = handler.if_contains("port");
  if (port == nullptr) {
    errors.required(path / "port");
  } else if (port->is_int64() && (port->get_int64() < 1 || port->get_int64() > 65535)) {
    errors.invalid(path / "port", *port, kPortRange);
  } else if (port->is_string()) {
    const std::string wrong = check_port_name(port->get_string());
    if (!wrong.empty()) errors.invalid(path / "port", *port, wrong);
  }
}

void check_handler(const json::object& handler, const FieldPath& path, FieldErrors& errors) {
  int handlers = 0;
  for (const char* kind : {"exec", "httpGet", "tcpSocket", "grpc", "sleep"}) {
    const json::object* found = object_of(handler, kind);
    if (found == nullptr) continue;
    if (++handlers > 1) errors.forbidden(path / kind, "may not specify more than 1 handler type");
    if (std::string_view(kind) != "exec" && std::string_view(kind) != "sleep")
      check_handler_port(*found, path / kind, errors);
  }
  if (handlers == 0) errors.required(path, "must specify a handler type");
}

void check_probe(const json::object& container, const char* which, const FieldPath& parent,
                 FieldErrors& errors) {
  const json::object* probe = object_of(container, which);
  if (probe == nullptr) return;
  const FieldPath path = parent / which;
  check_handler(*probe, path, errors);
  for (const char* field :
       {"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"}) {
    const json::value* number = probe->if_contains(field);
    if (number != nullptr && number->is_int64() && number->get_int64() < 0)
      errors.invalid(path / field, *number, kNotNegative);
  }
  const std::int64_t success = int_of(*probe, "successThreshold", 1);
  if (std::string_view(which) != "readinessProbe" && success != 1) {
    errors.invalid(path / "successThreshold", json::value(success), "must be 1");
  }
}

constexpr std::size_t kRestartRulesMax = 20, kExitCodesMax = 255;

void check_restart_rules(const json::object& container, const FieldPath& path, FieldErrors& errors) {
  const json::array* rules = array_of(container, "restartPolicyRules");
  if (rules == nullptr || rules->empty()) return;
  const FieldPath at = path / "restartPolicyRules";
  if (text_of(container, "restartPolicy").empty()) {
    errors.required(path / "restartPolicy", "must specify restartPolicy when restart rules are used");
  }
  if (rules->size() > kRestartRulesMax) errors.too_many(at, rules->size(), kRestartRulesMax);
  for (std::size_t i = 0; i < rules->size(); ++i) {
    const json::object* rule = (*rules)[i].if_object();
    if (rule == nullptr) continue;
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
        values != nullptr && values->size() > kExitCodesMax)
      errors.too_many(at[i] / "exitCodes" / "values", values->size(), kExitCodesMax);
  }
}

void check_security(const json::object& container, const FieldPath& path, FieldErrors& errors) {
  const json::object* context = object_of(container, "securityContext");
  if (context == nullptr) return;
  const FieldPath at = path / "securityContext";
  const json::value* escalation = context->if_contains("allowPrivilegeEscalation");
  if (flag_of(*context, "privileged") && escalation != nullptr && escalation->is_bool() &&
      !escalation->get_bool()) {
    errors.invalid(at, json::value(*context),
                   "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
  }
  for (const char* field : {"runAsUser", "runAsGroup"}) {
    const json::value* id = context->if_contains(field);
    if (id != nullptr && id->is_int64() && (id->get_int64() < 0 || id->get_int64() > INT32_MAX)) {
      errors.invalid(at / field, *id, "must be between 0 and 2147483647, inclusive");
    }
  }
}

}  // namespace

void validate_container(const json::object& container, const std::set<std::string_view>& volumes,
                        bool is_init, const FieldPath& path, FieldErrors& errors) {
  const std::string_view name = text_of(container, "name");
  if (!name.empty()) {
    if (const std::string wrong = check_dns1123_label(name); !wrong.empty())
      errors.invalid(path / "name", name, wrong);
  }
  const std::string_view image = text_of(container, "image");
  if (image.empty()) {
    errors.required(path / "image");
  } else if (image.front() == ' ' || image.back() == ' ' || image.front() == '\t' || image.back() == '\n') {
    errors.invalid(path / "image", image, "must not have leading or trailing whitespace");
  }
  check_ports(container, path, errors);
  check_env(container, path, errors);
  check_mounts(container, volumes, path, errors);
  check_resources(container, path, errors);
  check_security(container, path, errors);
  check_restart_rules(container, path, errors);
  const bool sidecar = text_of(container, "restartPolicy") == "Always";
  for (const char* probe : {"livenessProbe", "readinessProbe", "startupProbe"}) {
    if (is_init && !sidecar && present(container, probe)) {
      errors.forbidden(path / probe, "may not be set for init containers without restartPolicy=Always");
    } else {
      check_probe(container, probe, path, errors);
    }
  }
  if (const json::object* lifecycle = object_of(container, "lifecycle")) {
    const FieldPath at = path / "lifecycle";
    if (is_init && !sidecar) {
      errors.forbidden(at, "may not be set for init containers without restartPolicy=Always");
      return;
    }
    for (const char* hook : {"postStart", "preStop"}) {
      if (const json::object* handler = object_of(*lifecycle, hook))
        check_handler(*handler, at / hook, errors);
    }
  }
}

}  // namespace orchestra::api
