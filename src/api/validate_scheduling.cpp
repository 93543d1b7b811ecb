// Where a pod may run: node selectors, affinity, topology spread, tolerations, taints.
// pkg/apis/core/validation/validation.go: validateAffinity, validateTopologySpreadConstraints and theirs.
#include <algorithm>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

std::string_view text(const json::value& value) {
  return value.is_string() ? std::string_view(value.get_string()) : std::string_view();
}

void check_requirement(const json::object& requirement, bool values_checked, const FieldPath& path,
                       FieldErrors& errors) {
  const std::string_view op = text_of(requirement, "operator"), key = text_of(requirement, "key");
  const json::array& values = array_or_empty(requirement, "values");
  const FieldPath at = path / "values";
  if (op == "In" || op == "NotIn") {
    if (values.empty()) errors.required(at, "must be specified when `operator` is 'In' or 'NotIn'");
  } else if (op == "Exists" || op == "DoesNotExist") {
    if (!values.empty())
      errors.forbidden(at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
  } else if (op == "Gt" || op == "Lt") {
    if (values.size() != 1)
      errors.required(at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
  } else {
    errors.invalid(path / "operator", op, "not a valid selector operator");
  }
  check_text(key, check_qualified_name(key), path / "key", errors);
  for (std::size_t i = 0; values_checked && i < values.size(); ++i)
    check_text(text(values[i]), check_label_value(text(values[i])), at[i], errors);
}

void check_field_requirement(const json::object& requirement, const FieldPath& path, FieldErrors& errors) {
  const std::string_view op = text_of(requirement, "operator"), key = text_of(requirement, "key");
  const json::array& values = array_or_empty(requirement, "values");
  const FieldPath at = path / "values";
  if (op != "In" && op != "NotIn") {
    errors.invalid(path / "operator", op, "not a valid selector operator");
  } else if (values.size() != 1) {
    errors.required(at, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
  }
  if (key != "metadata.name") return errors.invalid(path / "key", key, "not a valid field selector key");
  for (std::size_t i = 0; i < values.size(); ++i)
    check_text(text(values[i]), check_dns1123_subdomain(text(values[i])), at[i], errors);
}

void check_node_term(const json::object& term, bool values_checked, const FieldPath& path,
                     FieldErrors& errors) {
  const FieldPath expressions = path / "matchExpressions", fields = path / "matchFields";
  for_each_object(term, "matchExpressions", [&](std::size_t i, const json::object& each) {
    check_requirement(each, values_checked, expressions[i], errors);
  });
  for_each_object(term, "matchFields", [&](std::size_t i, const json::object& each) {
    check_field_requirement(each, fields[i], errors);
  });
}

/// Each of `keys` is in the selector once, put there by the strategy (prepare_pod); twice is one too many.
void check_keys_in_selector(const json::object& selector, const json::array& keys, const FieldPath& path,
                            FieldErrors& errors) {
  std::set<std::string_view> seen;
  for (const auto& member : object_or_empty(selector, "matchLabels")) seen.insert(member.key());
  for_each_object(selector, "matchExpressions", [&](std::size_t, const json::object& expression) {
    const std::string_view key = text_of(expression, "key");
    const auto found =
        std::find_if(keys.begin(), keys.end(), [&](const json::value& each) { return text(each) == key; });
    if (found != keys.end() && seen.count(key) > 0) {
      errors.invalid(path[static_cast<std::size_t>(found - keys.begin())], key,
                     "exists in both matchLabelKeys and labelSelector");
    }
    seen.insert(key);
  });
}

void check_label_keys(const json::object& term, const char* field, const FieldPath& path,
                      FieldErrors& errors) {
  const json::array& keys = array_or_empty(term, field);
  const FieldPath at = path / field;
  if (keys.empty()) return;
  if (!term.contains("labelSelector"))
    return errors.forbidden(at, "must not be specified when labelSelector is not set");
  for (std::size_t i = 0; i < keys.size(); ++i)
    check_text(text(keys[i]), check_qualified_name(text(keys[i])), at[i], errors);
}

void check_pod_term(const json::object& term, const FieldPath& path, FieldErrors& errors) {
  for (const json::value& name : array_or_empty(term, "namespaces"))
    check_text(text(name), check_dns1123_label(text(name)), path / "namespace", errors);
  check_label_keys(term, "matchLabelKeys", path, errors);
  check_label_keys(term, "mismatchLabelKeys", path, errors);
  const json::array& keys = array_or_empty(term, "matchLabelKeys");
  const json::array& others = array_or_empty(term, "mismatchLabelKeys");
  check_keys_in_selector(object_or_empty(term, "labelSelector"), keys, path, errors);
  const FieldPath list = path / "matchLabelKeys";
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (std::find(others.begin(), others.end(), keys[i]) != others.end())
      errors.invalid(list[i], keys[i], "exists in both matchLabelKeys and mismatchLabelKeys");
  }
  const std::string_view key = text_of(term, "topologyKey");
  if (key.empty()) errors.required(path / "topologyKey", "can not be empty");
  check_text(key, check_qualified_name(key), path / "topologyKey", errors);
}

void check_weight(const json::object& term, const FieldPath& path, FieldErrors& errors) {
  const std::int64_t weight = int_of(term, "weight");
  if (weight < 1 || weight > 100)
    errors.invalid(path / "weight", json::value(weight), "must be in the range 1-100");
}

constexpr const char* kRequired = "requiredDuringSchedulingIgnoredDuringExecution";
constexpr const char* kPreferred = "preferredDuringSchedulingIgnoredDuringExecution";

void check_affinity(const json::object& affinity, const FieldPath& path, FieldErrors& errors) {
  if (const json::object* node = object_of(affinity, "nodeAffinity")) {
    const FieldPath at = path / "nodeAffinity";
    if (const json::object* required = object_of(*node, kRequired))
      check_node_selector(*required, at / kRequired, errors);
    const FieldPath list = at / kPreferred;
    for_each_object(*node, kPreferred, [&](std::size_t i, const json::object& term) {
      check_weight(term, list[i], errors);
      check_node_term(object_or_empty(term, "preference"), false, list[i] / "preference", errors);
    });
  }
  for (const char* which : {"podAffinity", "podAntiAffinity"}) {
    const json::object& pod = object_or_empty(affinity, which);
    const FieldPath at = path / which;
    const FieldPath required = at / kRequired, preferred = at / kPreferred;
    for_each_object(pod, kRequired, [&](std::size_t i, const json::object& term) {
      check_pod_term(term, required[i], errors);
    });
    for_each_object(pod, kPreferred, [&](std::size_t i, const json::object& term) {
      check_weight(term, preferred[i], errors);
      check_pod_term(object_or_empty(term, "podAffinityTerm"), preferred[i] / "podAffinityTerm", errors);
    });
  }
}

void check_spread(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "topologySpreadConstraints";
  const json::array& all = array_or_empty(spec, "topologySpreadConstraints");
  for_each_object(spec, "topologySpreadConstraints", [&](std::size_t i, const json::object& constraint) {
    const FieldPath at = list[i];
    const std::int64_t skew = int_of(constraint, "maxSkew");
    const std::string_view key = text_of(constraint, "topologyKey");
    const std::string_view action = text_of(constraint, "whenUnsatisfiable");
    if (skew <= 0) errors.invalid(at / "maxSkew", json::value(skew), kPositiveText);
    if (key.empty()) errors.required(at / "topologyKey", "can not be empty");
    if (action.empty()) {
      errors.not_supported(at / "whenUnsatisfiable", json::string(action),
                           {"DoNotSchedule", "ScheduleAnyway"});
    }
    for (std::size_t j = i + 1; j < all.size(); ++j) {
      if (!all[j].is_object() || text_of(all[j].get_object(), "topologyKey") != key ||
          text_of(all[j].get_object(), "whenUnsatisfiable") != action)
        continue;
      errors.duplicate(at / "{topologyKey, whenUnsatisfiable}",
                       json::string("{" + std::string(key) + ", " + std::string(action) + "}"));
      break;
    }
    if (constraint.contains("minDomains")) {
      const json::value domains(int_of(constraint, "minDomains"));
      if (domains.get_int64() <= 0) errors.invalid(at / "minDomains", domains, kPositiveText);
      if (action != "DoNotSchedule") {
        errors.invalid(
            at / "minDomains", domains,
            "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not " + std::string(action));
      }
    }
    const json::array& keys = array_or_empty(constraint, "matchLabelKeys");
    if (keys.empty()) return;
    const FieldPath of_keys = at / "matchLabelKeys";
    const json::object* selector = object_of(constraint, "labelSelector");
    if (selector == nullptr) errors.forbidden(of_keys, "must not be specified when labelSelector is not set");
    for (std::size_t j = 0; j < keys.size(); ++j)
      check_text(text(keys[j]), check_qualified_name(text(keys[j])), of_keys[j], errors);
    if (selector != nullptr) check_keys_in_selector(*selector, keys, of_keys, errors);
  });
}

}  // namespace

void check_node_selector(const json::object& selector, const FieldPath& path, FieldErrors& errors) {
  const FieldPath terms = path / "nodeSelectorTerms";
  if (array_or_empty(selector, "nodeSelectorTerms").empty())
    return errors.required(terms, "must have at least one node selector term");
  for_each_object(selector, "nodeSelectorTerms", [&](std::size_t i, const json::object& term) {
    check_node_term(term, true, terms[i], errors);
  });
}

void check_scheduling(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  validate_labels(spec.if_contains("nodeSelector"), path / "nodeSelector", errors);
  if (const json::object* affinity = object_of(spec, "affinity"))
    check_affinity(*affinity, path / "affinity", errors);
  const FieldPath gates = path / "schedulingGates";
  std::set<std::string_view> names;
  for_each_object(spec, "schedulingGates", [&](std::size_t i, const json::object& gate) {
    const std::string_view name = text_of(gate, "name");
    check_text(name, check_qualified_name(name), gates[i], errors);
    if (!names.insert(name).second) errors.duplicate(gates[i], json::string(name));
  });
  check_spread(spec, path, errors);
}

void check_tolerations(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "tolerations";
  for_each_object(spec, "tolerations", [&](std::size_t i, const json::object& toleration) {
    const FieldPath at = list[i];
    const std::string_view key = text_of(toleration, "key"), op = text_of(toleration, "operator");
    const std::string_view effect = text_of(toleration, "effect"), value = text_of(toleration, "value");
    if (!key.empty()) check_text(key, check_qualified_name(key), at / "key", errors);
    if (key.empty() && op != "Exists") {
      errors.invalid(
          at / "operator", op,
          "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
    }
    if (toleration.contains("tolerationSeconds") && effect != "NoExecute")
      errors.invalid(at / "effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    // Another operator is told by the schema.
    if (op == "Exists" && !value.empty()) {
      errors.invalid(at / "operator", value, "value must be empty when `operator` is 'Exists'");
    } else if (op.empty() || op == "Equal") {
      check_text(value, check_label_value(value), at / "operator", errors);
    }
  });
}

void check_taints(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for_each_object(spec, "taints", [&](std::size_t i, const json::object& taint) {
    const FieldPath at = path[i];
    const std::string_view key = text_of(taint, "key"), value = text_of(taint, "value");
    const std::string_view effect = text_of(taint, "effect");
    check_text(key, check_qualified_name(key), at / "key", errors);
    check_text(value, check_label_value(value), at / "value", errors);
    if (effect.empty()) {
      errors.required(at / "effect");
    } else if (effect != "NoSchedule" && effect != "PreferNoSchedule" && effect != "NoExecute") {
      errors.not_supported(at / "effect", json::string(effect),
                           {"NoSchedule", "PreferNoSchedule", "NoExecute"});
    }
    if (!seen.insert({effect, key}).second) {
      errors.add({FieldErrorType::duplicate, at.to_string(), to_json(json::value(taint)),
                  "taints must be unique by key and effect pair"});
    }
  });
}

void check_topology_term(const json::object& term, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "matchLabelExpressions";
  std::set<std::string_view> keys;
  for_each_object(term, "matchLabelExpressions", [&](std::size_t i, const json::object& requirement) {
    const FieldPath at = list[i];
    const FieldPath values_path = at / "values";
    const json::array& values = array_or_empty(requirement, "values");
    if (values.empty()) errors.required(values_path);
    for (std::size_t j = 0; j < values.size(); ++j) {
      if (std::find(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(j), values[j]) !=
          values.begin() + static_cast<std::ptrdiff_t>(j))
        errors.duplicate(values_path[j], values[j]);
    }
    const std::string_view key = text_of(requirement, "key");
    check_text(key, check_qualified_name(key), at / "key", errors);
    if (!keys.insert(key).second) errors.duplicate(at / "key", json::string(key));
  });
}

}  // namespace orchestra::api
