// Rules of ConfigMap, Secret, Namespace, Node, Event, Lease and small cluster kinds: pkg/apis/*/validation.
#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
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
  if (total > kDataBytesMax) errors.too_long(FieldPath(), kDataBytesMax);
}

void validate_config_map_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  check_immutable(object, old, {"data", "binaryData"}, errors);
}

void validate_secret(const json::object& object, FieldErrors& errors) {
  std::size_t total = 0;
  check_keys(object, "data", FieldPath(), total, errors);
  if (total / 4 * 3 > kDataBytesMax) errors.too_long(FieldPath("data"), kDataBytesMax);
  const std::string_view type = text_of(object, "type");
  if (type == "kubernetes.io/service-account-token") {
    const FieldPath meta("metadata");
    const FieldPath annotations = meta / "annotations";
    const json::object& found = object_or_empty(object_or_empty(object, "metadata"), "annotations");
    if (text_of(found, "kubernetes.io/service-account.name").empty()) {
      errors.required(annotations.key("kubernetes.io/service-account.name"));
    }
  } else if (type == "kubernetes.io/dockercfg") {
    require_key(object, ".dockercfg", errors);
  } else if (type == "kubernetes.io/dockerconfigjson") {
    require_key(object, ".dockerconfigjson", errors);
  } else if (type == "kubernetes.io/basic-auth") {
    const json::object& data = object_or_empty(object, "data");
    if (!data.contains("username") && !data.contains("password")) {
      require_key(object, "username", errors);
      require_key(object, "password", errors);
    }
  } else if (type == "kubernetes.io/ssh-auth") {
    require_key(object, "ssh-privatekey", errors);
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
  const FieldPath path("spec");
  const FieldPath list = path / "taints";
  for_each_object(spec, "taints", [&](std::size_t i, const json::object& taint) {
    const FieldPath at = list[i];
    const std::string_view key = text_of(taint, "key"), value = text_of(taint, "value");
    if (const std::string wrong = key.empty() ? "" : check_qualified_name(key); !wrong.empty())
      errors.invalid(at / "key", key, wrong);
    if (const std::string wrong = check_label_value(value); !wrong.empty())
      errors.invalid(at / "value", value, wrong);
    for_each_object(spec, "taints", [&](std::size_t j, const json::object& other) {
      if (j < i && text_of(other, "key") == key && text_of(other, "effect") == text_of(taint, "effect")) {
        errors.duplicate(at, json::value(taint));
      }
    });
  });
}

void validate_event(const json::object& object, FieldErrors& errors) {
  const std::string_view ns = text_of(object_or_empty(object, "metadata"), "namespace");
  const json::object& involved = object_or_empty(object, "involvedObject");
  const std::string_view about = text_of(involved, "namespace");
  const FieldPath path("involvedObject");
  if (about.empty()) {
    // Objects of the cluster scope have their events in `default`.
    if (ns != "default" && ns != "kube-system")
      errors.invalid(path / "namespace", about, "does not match event.namespace");
  } else if (about != ns) {
    errors.invalid(path / "namespace", about, "does not match event.namespace");
  }
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

void validate_storage_class_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  for (const char* field : {"parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"}) {
    const json::value* now = object.if_contains(field);
    const json::value* before = old.if_contains(field);
    const bool same = now == nullptr || before == nullptr ? now == before : *now == *before;
    if (!same) errors.forbidden(FieldPath(field), std::string("updates to ") + field + " are forbidden.");
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
