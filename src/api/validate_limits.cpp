// Validation of volumes, limits, budgets, autoscalers, classes and bindings: the rules of pkg/apis/{core,
// policy,autoscaling,networking,rbac,scheduling,node,apps}/validation that concern one object alone.
#include <algorithm>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "base/json.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::api {
namespace {

const json::object& spec_of(const json::object& object) { return object_or_empty(object, "spec"); }

void check_access_modes(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::array& modes = array_or_empty(spec, "accessModes");
  if (modes.empty()) errors.required(path / "accessModes", "at least 1 access mode is required");
  static constexpr std::string_view kModes[] = {"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"};
  for (const json::value& mode : modes) {
    const bool known = mode.is_string() && std::find(std::begin(kModes), std::end(kModes),
                                                     std::string_view(mode.get_string())) != std::end(kModes);
    if (!known) errors.not_supported(path / "accessModes", mode, {std::begin(kModes), std::end(kModes)});
  }
}

int sign_of(const json::value& quantity) {
  const auto parsed = quantity.is_string() ? Quantity::parse(std::string_view(quantity.get_string()))
                                           : Result<Quantity>(Quantity());
  return parsed ? parsed->sign() : 0;
}

void check_role_ref(const json::object& object, const std::vector<std::string_view>& kinds,
                    FieldErrors& errors) {
  const FieldPath path("roleRef");
  const json::object& role = object_or_empty(object, "roleRef");
  const std::string_view kind = text_of(role, "kind"), group = text_of(role, "apiGroup");
  if (group != "rbac.authorization.k8s.io" && !group.empty()) {
    errors.not_supported(path / "apiGroup", json::string(group), {"rbac.authorization.k8s.io"});
  }
  if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end())
    errors.not_supported(path / "kind", json::string(kind), kinds);
  if (text_of(role, "name").empty()) errors.required(path / "name");
  const FieldPath subjects("subjects");
  for_each_object(object, "subjects", [&](std::size_t index, const json::object& subject) {
    const FieldPath at = subjects[index];
    const std::string_view who = text_of(subject, "kind");
    if (text_of(subject, "name").empty()) errors.required(at / "name");
    if (who == "ServiceAccount") {
      if (text_of(subject, "namespace").empty()) errors.required(at / "namespace");
    } else if (who != "User" && who != "Group") {
      errors.not_supported(at / "kind", json::string(who), {"Group", "ServiceAccount", "User"});
    }
  });
}

}  // namespace

void validate_persistent_volume(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  check_access_modes(spec, path, errors);
  const json::object& capacity = object_or_empty(spec, "capacity");
  if (capacity.empty()) {
    errors.required(path / "capacity");
  } else if (!capacity.contains("storage") || capacity.size() > 1) {
    errors.not_supported(path / "capacity", json::value(capacity), {"storage"});
  } else if (sign_of(capacity.at("storage")) <= 0) {
    const FieldPath at = path / "capacity";
    errors.invalid(at.key("storage"), capacity.at("storage"), "must be greater than zero");
  }
  static constexpr std::string_view kPlain[] = {"capacity",         "accessModes",  "claimRef",
                                                "persistentVolumeReclaimPolicy",
                                                "storageClassName", "mountOptions", "volumeMode",
                                                "nodeAffinity",     "volumeAttributesClassName"};
  const bool source = std::any_of(spec.begin(), spec.end(), [&](const auto& member) {
    return std::find(std::begin(kPlain), std::end(kPlain), std::string_view(member.key())) == std::end(kPlain);
  });
  if (!source) errors.required(path, "must specify a volume type");
}

void validate_persistent_volume_claim(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  check_access_modes(spec, path, errors);
  const json::value* storage =
      object_or_empty(object_or_empty(spec, "resources"), "requests").if_contains("storage");
  const FieldPath resources = path / "resources";
  if (storage == nullptr) {
    errors.required(resources.key("storage"));
  } else if (sign_of(*storage) <= 0) {
    const FieldPath requests = resources / "requests";
    errors.invalid(requests.key("storage"), *storage, "must be greater than zero");
  }
}

void validate_limit_range(const json::object& object, FieldErrors& errors) {
  const FieldPath spec("spec");
  const FieldPath limits = spec / "limits";
  std::set<std::string_view> types;
  for_each_object(spec_of(object), "limits", [&](std::size_t index, const json::object& limit) {
    const FieldPath at = limits[index];
    const std::string_view type = text_of(limit, "type");
    if (type.empty()) errors.required(at / "type");
    if (!types.insert(type).second) errors.duplicate(at / "type", json::string(type));
    const json::object& most = object_or_empty(limit, "max");
    for (const auto& [name, least] : object_or_empty(limit, "min")) {
      const json::value* bound = most.if_contains(name);
      if (bound == nullptr || !bound->is_string() || !least.is_string()) continue;
      const auto low = Quantity::parse(std::string_view(least.get_string()));
      const auto high = Quantity::parse(std::string_view(bound->get_string()));
      const FieldPath min = at / "min";
      if (low && high && *high < *low) {
        errors.invalid(min.key(name), least, "min value " + std::string(least.get_string()) +
                                                 " is greater than max value " + std::string(bound->get_string()));
      }
    }
  });
}

void validate_resource_quota(const json::object& object, FieldErrors& errors) {
  const FieldPath spec("spec");
  const FieldPath hard = spec / "hard";
  for (const auto& [name, amount] : object_or_empty(spec_of(object), "hard")) {
    if (sign_of(amount) < 0) errors.invalid(hard.key(name), amount, "must be greater than or equal to 0");
    if (const std::string wrong = check_qualified_name(name); !wrong.empty())
      errors.invalid(hard.key(name), std::string_view(name), wrong);
  }
}

void validate_controller_revision(const json::object& object, FieldErrors& errors) {
  if (!object.contains("data")) errors.required(FieldPath("data"), "data is mandatory");
  if (const std::int64_t revision = int_of(object, "revision"); revision < 0)
    errors.invalid(FieldPath("revision"), json::value(revision), "must be greater than or equal to 0");
}

void validate_autoscaler(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  const std::int64_t least = int_of(spec, "minReplicas", 1), most = int_of(spec, "maxReplicas");
  if (least < 1)
    errors.invalid(path / "minReplicas", json::value(least), "must be greater than or equal to 1");
  if (most < 1) errors.invalid(path / "maxReplicas", json::value(most), "must be greater than 0");
  if (most < least) {
    errors.invalid(path / "maxReplicas", json::value(most), "must be greater than or equal to `minReplicas`");
  }
}

void validate_disruption_budget(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  if (spec.contains("minAvailable") && spec.contains("maxUnavailable")) {
    errors.invalid(FieldPath("spec"), json::value(spec), "minAvailable and maxUnavailable cannot be both set");
  }
  const FieldPath path("spec");
  for (const char* field : {"minAvailable", "maxUnavailable"}) {
    const json::value* value = spec.if_contains(field);
    if (value != nullptr && value->is_int64() && value->get_int64() < 0)
      errors.invalid(path / field, *value, "must be greater than or equal to 0");
  }
}

void validate_ingress_class(const json::object& object, FieldErrors& errors) {
  const FieldPath spec("spec");
  const std::string_view controller = text_of(spec_of(object), "controller");
  const std::size_t slash = controller.find('/');
  if (controller.empty()) return errors.required(spec / "controller");
  if (slash == std::string_view::npos || slash + 1 == controller.size() ||
      !check_dns1123_subdomain(controller.substr(0, slash)).empty()) {
    errors.invalid(spec / "controller", controller, "must be a domain-prefixed path (such as \"acme.io/foo\")");
  }
}

void validate_role_binding(const json::object& object, FieldErrors& errors) {
  check_role_ref(object, {"ClusterRole", "Role"}, errors);
}
void validate_cluster_role_binding(const json::object& object, FieldErrors& errors) {
  check_role_ref(object, {"ClusterRole"}, errors);
}

void validate_priority_class(const json::object& object, FieldErrors& errors) {
  constexpr std::int64_t kUserMax = 1'000'000'000;
  const std::string_view name = text_of(object_or_empty(object, "metadata"), "name");
  if (name == "system-node-critical" || name == "system-cluster-critical") return;
  if (name.starts_with("system-")) {
    errors.forbidden(FieldPath("metadata") / "name",
                     "priority class names with 'system-' prefix are reserved for system use only");
  }
  if (int_of(object, "value") > kUserMax) {
    errors.forbidden(FieldPath("value"),
                     "maximum allowed value of a user defined priority is " + std::to_string(kUserMax));
  }
}

void validate_runtime_class(const json::object& object, FieldErrors& errors) {
  const std::string_view handler = text_of(object, "handler");
  if (const std::string wrong = check_dns1123_label(handler); !wrong.empty())
    errors.invalid(FieldPath("handler"), handler, wrong);
}

}  // namespace orchestra::api
