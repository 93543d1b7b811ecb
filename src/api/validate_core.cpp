// Rules of ConfigMap, Secret, Namespace, Node, Event, Lease and small cluster kinds: pkg/apis/*/validation.
#include <algorithm>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/base64.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::size_t kDataBytesMax = 1 << 20;  ///< of a ConfigMap or Secret; upstream MaxSecretSize

void check_keys(const json::object& object, const char* field, const FieldPath& root, std::size_t& total,
                FieldErrors& errors) {
  const FieldPath path = root / field;
  for (const auto& [key, value] : object_or_empty(object, field)) {
    if (const std::string wrong = check_config_map_key(key); !wrong.empty()) {
      errors.invalid(path.key(key), std::string_view(key), wrong);
    }
    if (value.is_string()) total += value.get_string().size();
  }
}

/// `immutable: true` freezes the data and itself.
void check_immutable(const json::object& object, const json::object& old,
                     std::initializer_list<const char*> fields, FieldErrors& errors) {
  if (!flag_of(old, "immutable")) return;
  static constexpr const char* kText = "field is immutable when `immutable` is set";
  if (!flag_of(object, "immutable")) errors.forbidden(FieldPath("immutable"), kText);
  for (const char* field : fields) {
    if (object_or_empty(object, field) != object_or_empty(old, field))
      errors.forbidden(FieldPath(field), kText);
  }
}

void require_key(const json::object& secret, const char* key, FieldErrors& errors) {
  const FieldPath data("data");
  if (!object_or_empty(secret, "data").contains(key)) errors.required(data.key(key));
}

/// A key that holds a JSON object; what it holds is never told.
void check_json_key(const json::object& secret, const char* key, FieldErrors& errors) {
  require_key(secret, key, errors);
  const json::object& data = object_or_empty(secret, "data");
  if (!data.contains(key)) return;
  const FieldPath path("data");
  const auto bytes = decode_base64_text(text_of(data, key));
  const std::string text = bytes.value_or(std::string());
  if (text.empty()) {
    errors.invalid(path.key(key), "<secret contents redacted>", "unexpected end of JSON input");
    return;
  }
  const auto parsed = parse_json(text);
  if (!parsed)
    errors.invalid(path.key(key), "<secret contents redacted>", "the value is not JSON");
  else if (!parsed->is_object() && !parsed->is_null())
    errors.invalid(path.key(key), "<secret contents redacted>", "the value is not a JSON object");
}

}  // namespace

void validate_config_map(const json::object& object, FieldErrors& errors) {
  std::size_t total = 0;
  check_keys(object, "data", FieldPath(), total, errors);
  check_keys(object, "binaryData", FieldPath(), total, errors);
  const FieldPath data("data");
  for (const auto& member : object_or_empty(object, "binaryData")) {
    if (object_or_empty(object, "data").contains(member.key())) {
      errors.invalid(data.key(member.key()), std::string_view(member.key()),
                     "duplicate of key present in binaryData");
    }
  }
  // The whole object: a path without a name.
  if (total > kDataBytesMax) errors.too_long(FieldPath(""), kDataBytesMax);
}

void validate_config_map_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  check_immutable(object, old, {"data", "binaryData"}, errors);
}

void validate_secret(const json::object& object, FieldErrors& errors) {
  std::size_t coded = 0, total = 0;
  check_keys(object, "data", FieldPath(), coded, errors);
  for (const auto& member : object_or_empty(object, "data")) {
    const std::string_view text = text_of(object_or_empty(object, "data"), member.key());
    std::size_t padding = 0;
    while (padding < text.size() && padding < 2 && text[text.size() - 1 - padding] == '=') ++padding;
    total += text.size() / 4 * 3 - padding;
  }
  if (total > kDataBytesMax) errors.too_long(FieldPath("data"), kDataBytesMax);
  const std::string_view type = text_of(object, "type");
  if (type == "kubernetes.io/service-account-token") {
    const FieldPath meta("metadata");
    const FieldPath annotations = meta / "annotations";
    const json::object& found = object_or_empty(object_or_empty(object, "metadata"), "annotations");
    if (text_of(found, "kubernetes.io/service-account.name").empty()) {
      errors.required(annotations.key("kubernetes.io/service-account.name"));
    }
  } else if (type == "kubernetes.io/dockercfg") {
    check_json_key(object, ".dockercfg", errors);
  } else if (type == "kubernetes.io/dockerconfigjson") {
    check_json_key(object, ".dockerconfigjson", errors);
  } else if (type == "kubernetes.io/basic-auth") {
    const json::object& data = object_or_empty(object, "data");
    if (!data.contains("username") && !data.contains("password")) {
      require_key(object, "username", errors);
      require_key(object, "password", errors);
    }
  } else if (type == "kubernetes.io/ssh-auth") {
    const FieldPath data("data");
    if (text_of(object_or_empty(object, "data"), "ssh-privatekey").empty())
      errors.required(data.key("ssh-privatekey"));
  } else if (type == "kubernetes.io/tls") {
    require_key(object, "tls.crt", errors);
    require_key(object, "tls.key", errors);
  }
}

void validate_secret_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  require_same(object.if_contains("type"), old.if_contains("type"), FieldPath("type"), errors);
  check_immutable(object, old, {"data"}, errors);
}

namespace {
/// Taints and preferences from before they were fields: annotations that hold JSON
/// (ValidateNodeSpecificAnnotations).
void check_node_annotations(const json::object& object, FieldErrors& errors) {
  constexpr const char* kTaints = "scheduler.alpha.kubernetes.io/taints";
  constexpr const char* kAvoid = "scheduler.alpha.kubernetes.io/preferAvoidPods";
  const json::object& all = object_or_empty(object_or_empty(object, "metadata"), "annotations");
  const FieldPath meta("metadata");
  const FieldPath path = meta / "annotations";
  if (const std::string_view text = text_of(all, kTaints); !text.empty()) {
    const auto parsed = parse_json(text);
    if (!parsed || !parsed->is_array()) {
      errors.invalid(path, kTaints, parsed ? "the value is not a list" : "the value is not JSON");
    } else {
      check_taints(json::object{{"taints", *parsed}}, path / kTaints, errors);
    }
  }
  if (const std::string_view text = text_of(all, kAvoid); !text.empty()) {
    const auto parsed = parse_json(text);
    if (!parsed || !parsed->is_object()) {
      return errors.invalid(path / "AvoidPods", kAvoid,
                            parsed ? "the value is not a JSON object" : "the value is not JSON");
    }
    const FieldPath list = path / kAvoid;
    for_each_object(parsed->get_object(), "preferAvoidPods", [&](std::size_t i, const json::object& entry) {
      const FieldPath at = list[i];
      const FieldPath signature = at / "PodSignature";
      const json::object* controller = object_of(object_or_empty(entry, "podSignature"), "podController");
      if (controller == nullptr) return errors.required(signature);
      if (flag_of(*controller, "controller")) return;
      const FieldPath below = signature / "PodController";
      errors.invalid(below / "Controller", json::value(false), "must point to a controller");
    });
  }
}

/// A reference to the configuration of a kubelet, which nothing reads any more; `observed`: as a status says
/// it.
void check_config_source(const json::object* source, bool observed, const FieldPath& path,
                         FieldErrors& errors) {
  if (source == nullptr) return;
  const json::object* map = object_of(*source, "configMap");
  if (map == nullptr)
    return errors.invalid(path, json::value(*source), "exactly one reference subfield must be non-nil");
  const FieldPath at = path / "configMap";
  for (const char* field : {"uid", "resourceVersion"}) {
    const bool given = !text_of(*map, field).empty();
    if (observed && !given) errors.required(at / field, std::string(field) + " must be set in status");
    if (!observed && given) errors.forbidden(at / field, std::string(field) + " must not be set in spec");
  }
  const auto check = [&](const char* field, std::string (*rule)(std::string_view)) {
    const std::string_view text = text_of(*map, field);
    if (text.empty()) return errors.required(at / field, std::string(field) + " must be set");
    check_text(text, rule(text), at / field, errors);
  };
  check("namespace", check_dns1123_label);
  check("name", check_dns1123_subdomain);
  check("kubeletConfigKey", check_config_map_key);
}
}  // namespace

void validate_node(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  // Upstream tells them below metadata.
  const FieldPath meta("metadata"), path("spec"), of_status("status");
  check_node_annotations(object, errors);
  check_taints(spec, meta / "taints", errors);
  for (const char* list : {"capacity", "allocatable"}) {
    const FieldPath at = of_status / list;
    for (const auto& [name, amount] : object_or_empty(status, list))
      check_quantity(name, amount, at / name, errors);
  }
  const json::array& ranges = array_or_empty(spec, "podCIDRs");
  const FieldPath list = path / "podCIDRs";
  std::size_t six = 0;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const std::string_view range =
        ranges[i].is_string() ? std::string_view(ranges[i].get_string()) : std::string_view();
    if (!is_cidr(range)) errors.invalid(list[i], range, kCidrText);
    six += range.find(':') != std::string_view::npos ? 1 : 0;
  }
  if (ranges.size() > 1 && (ranges.size() > 2 || six != 1))
    errors.invalid(list, json::value(ranges), "may specify no more than one CIDR for each IP family");
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const auto here = ranges.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(ranges.begin(), here, ranges[i]) != here) errors.duplicate(list[i], ranges[i]);
  }
}

void validate_node_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const json::object& now = object_or_empty(object, "spec");
  const json::object& before = object_or_empty(old, "spec");
  const FieldPath path("spec");
  const json::array& ranges = array_or_empty(before, "podCIDRs");
  if (!ranges.empty() && ranges != array_or_empty(now, "podCIDRs"))
    errors.forbidden(path / "podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
  const std::string_view provider = text_of(before, "providerID");
  if (!provider.empty() && provider != text_of(now, "providerID"))
    errors.forbidden(path / "providerID", "node updates may not change providerID except from \"\" to valid");
  if (text_of(now, "externalID") != text_of(before, "externalID"))
    errors.forbidden(path / "externalID", "may not be updated");
  check_config_source(object_of(now, "configSource"), false, path / "configSource", errors);
}

void validate_node_status(const json::object& object, const json::object&, FieldErrors& errors) {
  validate_node(object, errors);
  const FieldPath status("status");
  const FieldPath list = status / "addresses";
  const json::array& all = array_or_empty(object_or_empty(object, "status"), "addresses");
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto here = all.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(all.begin(), here, all[i]) != here) errors.duplicate(list[i], all[i]);
  }
  const json::object& config = object_or_empty(object_or_empty(object, "status"), "config");
  const FieldPath used = status / "config";
  for (const char* which : {"assigned", "active", "lastKnownGood"})
    check_config_source(object_of(config, which), true, used / which, errors);
}

void validate_namespace(const json::object& object, FieldErrors& errors) {
  const FieldPath path("spec");
  for (const json::value& each : array_or_empty(object_or_empty(object, "spec"), "finalizers")) {
    if (!each.is_string()) continue;
    const std::string_view name = each.get_string();
    if (const std::string wrong = check_qualified_name(name); !wrong.empty()) {
      errors.invalid(path / "finalizers", name, wrong);
    } else if (name.find('/') == std::string_view::npos && name != "kubernetes" && name != "orphan" &&
               name != "foregroundDeletion") {
      errors.invalid(path / "finalizers", name,
                     "name is neither a standard finalizer name nor is it fully qualified");
    }
  }
}

void validate_namespace_status(const json::object& object, const json::object& old, FieldErrors& errors) {
  validate_namespace(object, errors);
  const json::object& status = object_or_empty(object, "status");
  if (status == object_or_empty(old, "status")) return;  // written through /finalize
  const bool ending = object_or_empty(object, "metadata").contains("deletionTimestamp");
  const std::string_view phase = text_of(status, "phase");
  const FieldPath path("status");
  if (!ending && phase != "Active") {
    errors.invalid(path / "Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty");
  } else if (ending && phase != "Terminating") {
    errors.invalid(path / "Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
  }
}

namespace {
/// pkg/apis/core/validation/events.go, legacyValidateEvent: what events of both groups keep to. Of what is
/// reported each group has its own name, told by its own word.
void check_event(const json::object& object, const char* reporter, FieldErrors& errors) {
  constexpr std::size_t kWordMax = 128, kMessageMax = 1024;
  const std::string_view ns = text_of(object_or_empty(object, "metadata"), "namespace");
  const std::string_view about = text_of(object_or_empty(object, "involvedObject"), "namespace");
  const FieldPath path("involvedObject");
  constexpr const char* kText = "does not match event.namespace";
  const bool old_kind = text_of(object, "eventTime").empty();
  if (old_kind) {
    // Objects of the cluster scope have their events in `default`.
    if (about.empty() ? ns != "default" : about != ns) errors.invalid(path / "namespace", about, kText);
    return;
  }
  if (about.empty() && ns != "default" && ns != "kube-system")
    errors.invalid(path / "namespace", about, kText);
  const std::string_view controller = text_of(object, "reportingComponent");
  if (controller.empty()) errors.required(FieldPath(reporter));
  check_text(controller, check_qualified_name(controller), FieldPath(reporter), errors);
  for (const char* field : {"reportingInstance", "action", "reason"}) {
    const std::string_view text = text_of(object, field);
    if (text.empty()) errors.required(FieldPath(field));
    if (text.size() > kWordMax) errors.invalid(FieldPath(field), "", "can have at most 128 characters");
  }
  if (text_of(object, "message").size() > kMessageMax)
    errors.invalid(FieldPath("message"), "", "can have at most 1024 characters");
}

void check_event_series(const json::object& object, FieldErrors& errors) {
  const json::object* series = object_of(object, "series");
  if (series == nullptr) return;
  if (int_of(*series, "count") < 2) errors.invalid(FieldPath("series.count"), "", "should be at least 2");
  if (text_of(*series, "lastObservedTime").empty()) errors.required(FieldPath("series.lastObservedTime"));
}
}  // namespace

void validate_event(const json::object& object, FieldErrors& errors) {
  check_event(object, "reportingComponent", errors);
}

void validate_event_v1(const json::object& object, FieldErrors& errors) {
  check_event(object, "reportingController", errors);
}

// Through events.k8s.io a new event has the times and counters of that group only.
void validate_event_v1_create(const json::object& object, FieldErrors& errors) {
  check_event_series(object, errors);
  if (text_of(object, "eventTime").empty()) errors.required(FieldPath("eventTime"));
  const std::string_view type = text_of(object, "type");
  if (type != "Normal" && type != "Warning")
    errors.invalid(FieldPath("type"), "", "has invalid value: " + std::string(type));
  for (const char* field : {"firstTimestamp", "lastTimestamp"}) {
    if (!text_of(object, field).empty()) errors.invalid(FieldPath(field), "", "needs to be unset");
  }
  if (int_of(object, "count") != 0) errors.invalid(FieldPath("count"), "", "needs to be unset");
  const json::object& source = object_or_empty(object, "source");
  if (!text_of(source, "component").empty() || !text_of(source, "host").empty())
    errors.invalid(FieldPath("source"), "", "needs to be unset");
}

// Through events.k8s.io the series alone goes on.
void validate_event_v1_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  if (object_or_empty(object, "series") != object_or_empty(old, "series")) check_event_series(object, errors);
  for (const char* field : {"involvedObject", "reason", "message", "source", "firstTimestamp",
                            "lastTimestamp", "count", "type", "eventTime", "action", "related"})
    require_same(object.if_contains(field), old.if_contains(field), FieldPath(field), errors);
  require_same(object.if_contains("reportingComponent"), old.if_contains("reportingComponent"),
               FieldPath("reportingController"), errors);
  require_same(object.if_contains("reportingInstance"), old.if_contains("reportingInstance"),
               FieldPath("reportingInstance"), errors);
}

void validate_lease(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  const json::value* duration = spec.if_contains("leaseDurationSeconds");
  if (duration != nullptr && duration->is_int64() && duration->get_int64() <= 0) {
    errors.invalid(path / "leaseDurationSeconds", *duration, "must be greater than 0");
  }
  const json::value* transitions = spec.if_contains("leaseTransitions");
  if (transitions != nullptr && transitions->is_int64() && transitions->get_int64() < 0) {
    errors.invalid(path / "leaseTransitions", *transitions, "must be greater than or equal to 0");
  }
}

void validate_role_binding_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const json::value* now = object.if_contains("roleRef");
  const json::value* before = old.if_contains("roleRef");
  if (now != nullptr && before != nullptr && *now != *before) {
    errors.invalid(FieldPath("roleRef"), *now, "cannot change roleRef");
  }
}

void validate_priority_class_update(const json::object& object, const json::object& old,
                                    FieldErrors& errors) {
  if (int_of(object, "value") != int_of(old, "value")) {
    errors.forbidden(FieldPath("value"), "may not be changed in an update.");
  }
  require_same(object.if_contains("preemptionPolicy"), old.if_contains("preemptionPolicy"),
               FieldPath("preemptionPolicy"), errors);
}

}  // namespace orchestra::api
