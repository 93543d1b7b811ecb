// Validation of limits, budgets, autoscalers, classes and bindings: the rules of pkg/apis/{core,policy,
// autoscaling,networking,rbac,scheduling,node,apps,storage}/validation that concern one object alone.
#include <algorithm>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

const json::object& spec_of(const json::object& object) { return object_or_empty(object, "spec"); }

template <class List>
bool contains(const List& list, std::string_view word) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

// --- RBAC --------------------------------------------------------------------------------------------------

void check_subject(const json::object& subject, bool cluster, const FieldPath& at, FieldErrors& errors) {
  const std::string_view kind = text_of(subject, "kind"), name = text_of(subject, "name");
  const std::string_view group = text_of(subject, "apiGroup"), ns = text_of(subject, "namespace");
  if (name.empty()) errors.required(at / "name");
  if (kind == "ServiceAccount") {
    if (!name.empty()) check_text(name, check_dns1123_subdomain(name), at / "name", errors);
    if (!group.empty()) errors.not_supported(at / "apiGroup", json::string(group), {""});
    if (ns.empty() && cluster) errors.required(at / "namespace");
  } else if (kind == "User" || kind == "Group") {
    if (group != "rbac.authorization.k8s.io")
      errors.not_supported(at / "apiGroup", json::string(group), {"rbac.authorization.k8s.io"});
  } else {
    errors.not_supported(at / "kind", json::string(kind), {"ServiceAccount", "User", "Group"});
  }
}

void check_role_ref(const json::object& object, const std::vector<std::string_view>& kinds, bool cluster,
                    FieldErrors& errors) {
  const FieldPath path("roleRef");
  const json::object& role = object_or_empty(object, "roleRef");
  const std::string_view kind = text_of(role, "kind"), group = text_of(role, "apiGroup");
  const std::string_view name = text_of(role, "name");
  if (group != "rbac.authorization.k8s.io")
    errors.not_supported(path / "apiGroup", json::string(group), {"rbac.authorization.k8s.io"});
  if (!contains(kinds, kind)) errors.not_supported(path / "kind", json::string(kind), kinds);
  if (name.empty()) {
    errors.required(path / "name");
  } else {
    check_text(name, check_path_segment(name), path / "name", errors);
  }
  const FieldPath subjects("subjects");
  for_each_object(object, "subjects", [&](std::size_t index, const json::object& subject) {
    check_subject(subject, cluster, subjects[index], errors);
  });
}

void check_rules(const json::object& object, bool namespaced, FieldErrors& errors) {
  const FieldPath list("rules");
  for_each_object(object, "rules", [&](std::size_t i, const json::object& rule) {
    const FieldPath at = list[i];
    const json::array& urls = array_or_empty(rule, "nonResourceURLs");
    const bool groups = !array_or_empty(rule, "apiGroups").empty();
    const bool resources = !array_or_empty(rule, "resources").empty();
    const bool names = !array_or_empty(rule, "resourceNames").empty();
    if (array_or_empty(rule, "verbs").empty())
      errors.required(at / "verbs", "verbs must contain at least one value");
    if (!urls.empty()) {
      if (namespaced) {
        errors.invalid(at / "nonResourceURLs", json::value(urls),
                       "namespaced rules cannot apply to non-resource URLs");
      }
      if (groups || resources || names) {
        errors.invalid(at / "nonResourceURLs", json::value(urls),
                       "rules cannot apply to both regular resources and non-resource URLs");
      }
      return;
    }
    if (!groups) errors.required(at / "apiGroups", "resource rules must supply at least one api group");
    if (!resources) errors.required(at / "resources", "resource rules must supply at least one resource");
  });
}

// --- quotas ------------------------------------------------------------------------------------------------

constexpr std::string_view kPodResources[] = {"cpu",  "limits.cpu",   "limits.memory",  "memory",
                                              "pods", "requests.cpu", "requests.memory"};
constexpr std::string_view kScopes[] = {
    "BestEffort",  "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass",
    "Terminating", "VolumeAttributesClass"};

bool fits_scope(std::string_view scope, std::string_view resource) {
  if (scope == "BestEffort") return resource == "pods";
  if (scope == "VolumeAttributesClass")
    return resource == "persistentvolumeclaims" || resource == "requests.storage";
  return !contains(kScopes, scope) || contains(kPodResources, resource);
}

void check_amounts(const json::object& of, const char* field, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / field;
  for (const auto& [name, amount] : object_or_empty(of, field)) {
    const FieldPath at = list.key(name);
    check_resource_name(name, at, errors);
    if (name.find('/') == json::string_view::npos && !is_quota_resource(name))
      errors.invalid(at, std::string_view(name), "must be a standard resource for quota");
    check_quantity(name, amount, at, errors);
  }
}

/// Pairs that no pod can have both of.
void check_scope_pairs(const std::set<std::string_view>& scopes, const json::array& shown,
                       const FieldPath& path, FieldErrors& errors) {
  for (const auto& [one, other] :
       {std::pair<std::string_view, std::string_view>{"BestEffort", "NotBestEffort"},
        {"Terminating", "NotTerminating"}}) {
    if (scopes.count(one) > 0 && scopes.count(other) > 0)
      errors.invalid(path, json::value(shown), "conflicting scopes");
  }
}

void check_scopes(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::array& scopes = array_or_empty(spec, "scopes");
  const FieldPath at = path / "scopes";
  std::set<std::string_view> seen;
  for (const json::value& each : scopes) {
    const std::string_view scope =
        each.is_string() ? std::string_view(each.get_string()) : std::string_view();
    if (!contains(kScopes, scope)) errors.invalid(at, json::value(scopes), "unsupported scope");
    for (const auto& member : object_or_empty(spec, "hard")) {
      if (is_quota_resource(member.key()) && !fits_scope(scope, member.key()))
        errors.invalid(at, json::value(scopes), "unsupported scope applied to resource");
    }
    seen.insert(scope);
  }
  check_scope_pairs(seen, scopes, at, errors);
}

void check_scope_selector(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object* selector = object_of(spec, "scopeSelector");
  if (selector == nullptr) return;
  const FieldPath of_selector = path / "scopeSelector";
  const FieldPath at = of_selector / "matchExpressions";
  std::set<std::string_view> seen;
  for_each_object(*selector, "matchExpressions", [&](std::size_t, const json::object& expression) {
    const std::string_view scope = text_of(expression, "scopeName"), op = text_of(expression, "operator");
    const json::array& values = array_or_empty(expression, "values");
    if (!contains(kScopes, scope)) errors.invalid(at / "scopeName", scope, "unsupported scope");
    for (const auto& member : object_or_empty(spec, "hard")) {
      if (is_quota_resource(member.key()) && !fits_scope(scope, member.key()))
        errors.invalid(at, json::value(*selector), "unsupported scope applied to resource");
    }
    const bool plain =
        contains(kScopes, scope) && scope != "PriorityClass" && scope != "VolumeAttributesClass";
    if (plain && op != "Exists") {
      errors.invalid(at / "operator", op,
                     "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                     "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
                     "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
    }
    if (op == "In" || op == "NotIn") {
      if (values.empty()) {
        errors.required(at / "values",
                        "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
      }
    } else if (op == "Exists" || op == "DoesNotExist") {
      if (!values.empty()) {
        errors.invalid(at / "values", json::value(values),
                       "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector");
      }
    } else {
      errors.invalid(at / "operator", op, "not a valid selector operator");
    }
    seen.insert(scope);
  });
  check_scope_pairs(seen, array_or_empty(spec, "scopes"), at, errors);
}

// --- limit ranges ------------------------------------------------------------------------------------------

void check_limit_names(const json::object& limit, const char* field, const FieldPath& path,
                       FieldErrors& errors) {
  const FieldPath list = path / field;
  const std::string_view type = text_of(limit, "type");
  for (const auto& member : object_or_empty(limit, field)) {
    if (type == "Pod" || type == "Container") {
      check_container_resource_name(member.key(), list.key(member.key()), errors);
    } else {
      check_resource_name(member.key(), list.key(member.key()), errors);
    }
  }
}

std::string fixed(double number) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%f", number);
  return buffer;
}

void check_limit(const json::object& limit, std::string_view name, const FieldPath& path,
                 FieldErrors& errors) {
  const bool pod = text_of(limit, "type") == "Pod";
  const auto amount = [&](const char* field) { return quantity_of(object_or_empty(limit, field), name); };
  const auto least = amount("min"), most = amount("max"), ratio = amount("maxLimitRequestRatio");
  const auto usual = pod ? std::nullopt : amount("default");
  const auto request = pod ? std::nullopt : amount("defaultRequest");
  const auto above = [&](const std::optional<Quantity>& low, const std::optional<Quantity>& high,
                         const char* field, const Quantity& shown, const char* one, const char* other) {
    if (!low || !high || *low <= *high) return;
    const FieldPath list = path / field;
    errors.invalid(list.key(name), shown.to_string(),
                   std::string(one) + " value " + low->to_string() + " is greater than " + other + " value " +
                       high->to_string());
  };
  const Quantity none;
  above(least, most, "min", least.value_or(none), "min", "max");
  above(least, request, "defaultRequest", request.value_or(none), "min", "default request");
  above(request, most, "defaultRequest", request.value_or(none), "default request", "max");
  above(request, usual, "defaultRequest", request.value_or(none), "default request", "default limit");
  above(least, usual, "default", least.value_or(none), "min", "default");
  above(usual, most, "default", most.value_or(none), "default", "max");
  const FieldPath ratios = path / "maxLimitRequestRatio";
  if (ratio && *ratio < Quantity::from_int(1)) {
    errors.invalid(ratios.key(name), ratio->to_string(), "ratio " + ratio->to_string() + " is less than 1");
  }
  if (ratio && least && most && least->as_double() > 0) {
    const double bound = most->as_double() / least->as_double();
    if (ratio->as_double() > bound) {
      errors.invalid(ratios.key(name), ratio->to_string(),
                     "ratio " + ratio->to_string() + " is greater than max/min = " + fixed(bound));
    }
  }
  const bool native =
      name.find('/') == std::string_view::npos || name.find("kubernetes.io/") != std::string_view::npos;
  if ((!native || is_huge_page(name)) && usual && request && *usual != *request) {
    const FieldPath requests = path / "defaultRequest";
    errors.invalid(requests.key(name), request->to_string(),
                   "default value " + usual->to_string() + " must equal to defaultRequest value " +
                       request->to_string() + " in " + std::string(name));
  }
}

}  // namespace

void validate_limit_range(const json::object& object, FieldErrors& errors) {
  const FieldPath spec("spec");
  const FieldPath limits = spec / "limits";
  std::set<std::string_view> types;
  for_each_object(spec_of(object), "limits", [&](std::size_t index, const json::object& limit) {
    const FieldPath at = limits[index];
    const std::string_view type = text_of(limit, "type");
    if (const std::string wrong = check_qualified_name(type); !wrong.empty()) {
      errors.invalid(at / "type", type, wrong);
    } else if (type.find('/') == std::string_view::npos && type != "Pod" && type != "Container" &&
               type != "PersistentVolumeClaim") {
      errors.invalid(at / "type", type, "must be a standard limit type or fully qualified");
    }
    if (!types.insert(type).second) errors.duplicate(at / "type", json::string(type));
    std::set<std::string_view> names;
    for (const char* field : {"max", "min", "default", "defaultRequest", "maxLimitRequestRatio"}) {
      const json::object& amounts = object_or_empty(limit, field);
      const bool of_default = std::string_view(field).starts_with("default");
      if (of_default && type == "Pod") {
        if (!amounts.empty()) errors.forbidden(at / field, "may not be specified when `type` is 'Pod'");
        continue;
      }
      check_limit_names(limit, field, at, errors);
      for (const auto& member : amounts) names.insert(member.key());
    }
    if (type == "PersistentVolumeClaim" && !object_or_empty(limit, "min").contains("storage") &&
        !object_or_empty(limit, "max").contains("storage")) {
      errors.required(at / "limits",
                      "either minimum or maximum storage value is required, but neither was provided");
    }
    for (const std::string_view name : names) check_limit(limit, name, at, errors);
  });
}

void validate_resource_quota(const json::object& object, FieldErrors& errors) {
  const FieldPath path("spec");
  check_amounts(spec_of(object), "hard", path, errors);
  check_scopes(spec_of(object), path, errors);
  check_scope_selector(spec_of(object), path, errors);
}

void validate_resource_quota_update(const json::object& object, const json::object& old,
                                    FieldErrors& errors) {
  const auto set_of = [](const json::object& quota) {
    std::set<std::string_view> out;
    for (const json::value& scope : array_or_empty(spec_of(quota), "scopes")) {
      if (scope.is_string()) out.insert(scope.get_string());
    }
    return out;
  };
  if (set_of(object) != set_of(old)) {
    errors.invalid(FieldPath("spec") / "scopes", json::value(array_or_empty(spec_of(object), "scopes")),
                   "field is immutable");
  }
}

void validate_resource_quota_status(const json::object& object, const json::object&, FieldErrors& errors) {
  const FieldPath path("status");
  for (const char* field : {"hard", "used"})
    check_amounts(object_or_empty(object, "status"), field, path, errors);
}

void validate_controller_revision(const json::object& object, FieldErrors& errors) {
  check_not_negative(object, "revision", FieldPath(), errors);
}
void validate_controller_revision_create(const json::object& object, FieldErrors& errors) {
  const json::value* data = object.if_contains("data");
  if (data == nullptr || data->is_null()) {
    errors.required(FieldPath("data"), "data is mandatory");
  } else if (!data->is_object()) {
    errors.required(FieldPath("data"), "data must be a valid JSON object");
  }
}
void validate_controller_revision_update(const json::object& object, const json::object& old,
                                         FieldErrors& errors) {
  require_same(object.if_contains("data"), old.if_contains("data"), FieldPath("data"), errors);
}

void validate_disruption_budget(const json::object& object, FieldErrors& errors) {
  const json::object& spec = spec_of(object);
  const FieldPath path("spec");
  if (spec.contains("minAvailable") && spec.contains("maxUnavailable"))
    errors.invalid(path, json::value(spec), "minAvailable and maxUnavailable cannot be both set");
  for (const char* field : {"minAvailable", "maxUnavailable"}) {
    check_int_or_percent(spec, field, path, errors);
    check_at_most_100_percent(spec, field, path, errors);
  }
}

void validate_disruption_budget_status(const json::object& object, const json::object&, FieldErrors& errors) {
  for (const char* field : {"disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"})
    check_not_negative(object_or_empty(object, "status"), field, FieldPath("status"), errors);
}

void validate_ingress_class(const json::object& object, FieldErrors& errors) {
  constexpr std::size_t kControllerMax = 250;
  const FieldPath path("spec");
  const json::object& spec = spec_of(object);
  const std::string_view controller = text_of(spec, "controller");
  if (controller.size() > kControllerMax) errors.too_long(path / "controller", kControllerMax);
  check_domain_path(controller, path / "controller", errors);
  const json::object* parameters = object_of(spec, "parameters");
  if (parameters == nullptr) return;
  const FieldPath at = path / "parameters";
  check_typed_reference(*parameters, at, errors);
  const std::string_view scope = text_of(*parameters, "scope"), ns = text_of(*parameters, "namespace");
  const bool has_namespace = parameters->contains("namespace");
  if (scope == "Namespace") {
    if (!has_namespace) {
      errors.required(at / "namespace", "`parameters.scope` is set to 'Namespace'");
    } else {
      check_text(ns, check_dns1123_label(ns), at / "namespace", errors);
    }
  } else if (scope == "Cluster") {
    if (has_namespace) errors.forbidden(at / "namespace", "`parameters.scope` is set to 'Cluster'");
  } else if (scope.empty()) {
    errors.required(at / "scope");
  } else {
    errors.not_supported(at / "scope", json::string(scope), {"Cluster", "Namespace"});
  }
}

void validate_role(const json::object& object, FieldErrors& errors) { check_rules(object, true, errors); }
void validate_cluster_role(const json::object& object, FieldErrors& errors) {
  check_rules(object, false, errors);
  const json::object* aggregation = object_of(object, "aggregationRule");
  if (aggregation == nullptr) return;
  const FieldPath path("aggregationRule");
  if (array_or_empty(*aggregation, "clusterRoleSelectors").empty()) {
    errors.required(path / "clusterRoleSelectors",
                    "at least one clusterRoleSelector required if aggregationRule is non-nil");
  }
}
void validate_role_binding(const json::object& object, FieldErrors& errors) {
  check_role_ref(object, {"Role", "ClusterRole"}, false, errors);
}
void validate_cluster_role_binding(const json::object& object, FieldErrors& errors) {
  check_role_ref(object, {"ClusterRole"}, true, errors);
}

void validate_priority_class(const json::object& object, FieldErrors& errors) {
  constexpr std::int64_t kUserMax = 1'000'000'000;
  const std::string_view name = text_of(object_or_empty(object, "metadata"), "name");
  const std::int64_t value = int_of(object, "value");
  if (!name.starts_with("system-")) {
    if (value > kUserMax) {
      errors.forbidden(FieldPath("value"),
                       "maximum allowed value of a user defined priority is " + std::to_string(kUserMax));
    }
    return;
  }
  // The two of the system are as they are.
  const bool global = flag_of(object, "globalDefault");
  const std::int64_t known = name == "system-node-critical"      ? 2'000'001'000
                             : name == "system-cluster-critical" ? 2'000'000'000
                                                                 : 0;
  if (known != 0 && known == value && !global) return;
  std::string why = "priority class names with 'system-' prefix are reserved for system use only. error: ";
  if (known == 0) {
    why += std::string(name) + " is not a known system priority class";
  } else if (known != value) {
    why += "value of " + std::string(name) + " PriorityClass must be " + std::to_string(known);
  } else {
    why += "globalDefault of " + std::string(name) + " PriorityClass must be false";
  }
  errors.forbidden(FieldPath("metadata") / "name", why);
}

void validate_runtime_class(const json::object& object, FieldErrors& errors) {
  const std::string_view handler = text_of(object, "handler");
  check_text(handler, check_dns1123_label(handler), FieldPath("handler"), errors);
  if (const json::object* overhead = object_of(object, "overhead")) {
    const FieldPath path("overhead");
    const json::object as_limits{{"limits", object_or_empty(*overhead, "podFixed")}};
    check_resource_requirements(as_limits, {}, false, path / "podFixed", errors);
  }
  const json::object* scheduling = object_of(object, "scheduling");
  if (scheduling == nullptr) return;
  const FieldPath path("scheduling");
  validate_labels(scheduling->if_contains("nodeSelector"), path / "nodeSelector", errors);
  check_tolerations(*scheduling, path, errors);
  const json::array& all = array_or_empty(*scheduling, "tolerations");
  const FieldPath list = path / "tolerations";
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto here = all.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(all.begin(), here, all[i]) != here) errors.duplicate(list[i], all[i]);
  }
}

void validate_runtime_class_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  require_same(object.if_contains("handler"), old.if_contains("handler"), FieldPath("handler"), errors);
}

}  // namespace orchestra::api
