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

void validate_node(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  // Upstream tells them below metadata.
  const FieldPath meta("metadata"), path("spec"), of_status("status");
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

void validate_event(const json::object& object, FieldErrors& errors) {
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
  if (controller.empty()) errors.required(FieldPath("reportingComponent"));
  check_text(controller, check_qualified_name(controller), FieldPath("reportingComponent"), errors);
  for (const char* field : {"reportingInstance", "action", "reason"}) {
    const std::string_view text = text_of(object, field);
    if (text.empty()) errors.required(FieldPath(field));
    if (text.size() > kWordMax) errors.invalid(FieldPath(field), "", "can have at most 128 characters");
  }
  if (text_of(object, "message").size() > kMessageMax)
    errors.invalid(FieldPath("message"), "", "can have at most 1024 characters");
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
