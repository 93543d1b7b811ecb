// Rules of HorizontalPodAutoscaler: pkg/apis/autoscaling/validation/validation.go.
#include <algorithm>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::int64_t kPeriodSecondsMax = 1800, kWindowSecondsMax = 3600;

void check_reference(const json::object& reference, const FieldPath& path, FieldErrors& errors) {
  for (const char* field : {"kind", "name"}) {
    const std::string_view text = text_of(reference, field);
    // An empty one is told by the schema.
    if (!text.empty()) check_text(text, check_path_segment(text), path / field, errors);
  }
}

void check_target(const json::object& target, const FieldPath& path, FieldErrors& errors) {
  const std::string_view type = text_of(target, "type");
  if (type.empty()) errors.required(path / "type", "must specify a metric target type");
  if (type != "Utilization" && type != "Value" && type != "AverageValue")
    errors.invalid(path / "type", type, "must be either Utilization, Value, or AverageValue");
  for (const char* field : {"value", "averageValue"}) {
    const auto amount = quantity_of(target, field);
    if (amount && amount->sign() != 1) errors.invalid(path / field, amount->to_string(), "must be positive");
  }
  if (target.contains("averageUtilization") && int_of(target, "averageUtilization") < 1)
    errors.invalid(path / "averageUtilization", target.at("averageUtilization"), "must be greater than 0");
}

void check_metric_name(const json::object& source, const FieldPath& path, FieldErrors& errors) {
  const std::string_view name = text_of(object_or_empty(source, "metric"), "name");
  const FieldPath at = path / "metric";
  if (name.empty()) {
    errors.required(at / "name", "must specify a metric name");
  } else {
    check_text(name, check_path_segment(name), at / "name", errors);
  }
}

/// The source that a metric of this kind has.
void check_source(std::string_view kind, const json::object& source, const FieldPath& path,
                  FieldErrors& errors) {
  const json::object& target = object_or_empty(source, "target");
  const FieldPath at = path / "target";
  const bool value = target.contains("value"), average = target.contains("averageValue");
  const bool utilization = target.contains("averageUtilization");
  if (kind == "object")
    check_reference(object_or_empty(source, "describedObject"), path / "describedObject", errors);
  if (kind == "object" || kind == "external" || kind == "pods") {
    check_metric_name(source, path, errors);
  } else {
    const std::string_view name = text_of(source, "name");
    if (name.empty()) errors.required(path / "name", "must specify a resource name");
    if (kind == "containerResource") {
      const std::string_view container = text_of(source, "container");
      if (!name.empty()) check_container_resource_name(name, path / "name", errors);
      if (container.empty()) {
        errors.required(path / "container", "must specify a container");
      } else {
        check_text(container, check_dns1123_label(container), path / "container", errors);
      }
    }
  }
  check_target(target, at, errors);
  if (kind == "object") {
    if (!value && !average)
      errors.required(at / "averageValue", "must set either a target value or averageValue");
  } else if (kind == "external") {
    if (!value && !average) {
      errors.required(at / "averageValue", "must set either a target value for metric or a per-pod target");
    }
    if (value && average) {
      errors.forbidden(at / "value", "may not set both a target value for metric and a per-pod target");
    }
  } else if (kind == "pods") {
    if (!average) errors.required(at / "averageValue", "must specify a positive target averageValue");
  } else {
    if (!utilization && !average) {
      errors.required(at / "averageUtilization",
                      "must set either a target raw value or a target utilization");
    }
    if (utilization && average) {
      errors.forbidden(at / "averageValue", "may not set both a target raw value and a target utilization");
    }
  }
}

void check_metric(const json::object& metric, const FieldPath& path, FieldErrors& errors) {
  const std::string_view type = text_of(metric, "type");
  if (type.empty()) {
    errors.required(path / "type", "must specify a metric source type");
    errors.not_supported(path / "type", json::string(type),
                         {"ContainerResource", "External", "Object", "Pods", "Resource"});
  }
  static constexpr std::pair<std::string_view, std::string_view> kKinds[] = {
      {"Object", "object"},
      {"External", "external"},
      {"Pods", "pods"},
      {"Resource", "resource"},
      {"ContainerResource", "containerResource"}};
  std::vector<std::string_view> present;
  std::string_view expected;
  for (const auto& [word, kind] : kKinds) {
    if (word == type) expected = kind;
    const json::object* source = object_of(metric, kind);
    if (source == nullptr) continue;
    present.push_back(kind);
    if (present.size() == 1) check_source(kind, *source, path / kind, errors);
  }
  if (!expected.empty() && !metric.contains(expected))
    errors.required(path / expected, "must populate information for the given metric source");
  if (present.size() == 1) return;
  for (const std::string_view kind : present) {
    if (kind != expected) errors.forbidden(path / kind, "must populate the given metric source only");
  }
}

void check_scaling(const json::object& behavior, const char* direction, const FieldPath& path,
                   FieldErrors& errors) {
  const json::object* rules = object_of(behavior, direction);
  if (rules == nullptr) return;
  const FieldPath at = path / direction;
  const FieldPath list = at / "policies";
  if (rules->contains("stabilizationWindowSeconds")) {
    const std::int64_t window = int_of(*rules, "stabilizationWindowSeconds");
    if (window < 0) {
      errors.invalid(at / "stabilizationWindowSeconds", json::value(window),
                     "must be greater than or equal to zero");
    } else if (window > kWindowSecondsMax) {
      errors.invalid(at / "stabilizationWindowSeconds", json::value(window),
                     "must be less than or equal to 3600");
    }
  }
  if (array_or_empty(*rules, "policies").empty()) errors.required(list, "must specify at least one Policy");
  for_each_object(*rules, "policies", [&](std::size_t i, const json::object& policy) {
    const FieldPath here = list[i];
    const std::int64_t value = int_of(policy, "value"), period = int_of(policy, "periodSeconds");
    if (text_of(policy, "type").empty())
      errors.not_supported(here / "type", json::string(""), {"Percent", "Pods"});
    if (value <= 0) errors.invalid(here / "value", json::value(value), "must be greater than zero");
    if (period <= 0) errors.invalid(here / "periodSeconds", json::value(period), "must be greater than zero");
    if (period > kPeriodSecondsMax)
      errors.invalid(here / "periodSeconds", json::value(period), "must be less than or equal to 1800");
  });
  const auto tolerance = quantity_of(*rules, "tolerance");
  if (tolerance && tolerance->sign() < 0)
    errors.invalid(at / "tolerance", tolerance->to_string(), kNotNegativeText);
}

}  // namespace

void validate_autoscaler(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  const std::int64_t least = int_of(spec, "minReplicas", 1), most = int_of(spec, "maxReplicas");
  if (least < 1)
    errors.invalid(path / "minReplicas", json::value(least), "must be greater than or equal to 1");
  if (most < 1) errors.invalid(path / "maxReplicas", json::value(most), "must be greater than 0");
  if (most < least) {
    errors.invalid(path / "maxReplicas", json::value(most), "must be greater than or equal to `minReplicas`");
  }
  check_reference(object_or_empty(spec, "scaleTargetRef"), path / "scaleTargetRef", errors);
  const FieldPath metrics = path / "metrics";
  bool outside = false;
  for_each_object(spec, "metrics", [&](std::size_t i, const json::object& metric) {
    check_metric(metric, metrics[i], errors);
    outside = outside || text_of(metric, "type") == "Object" || text_of(metric, "type") == "External";
  });
  if (least == 0 && !outside) {
    errors.forbidden(
        metrics, "must specify at least one Object or External metric to support scaling to zero replicas");
  }
  const json::object* behavior = object_of(spec, "behavior");
  if (behavior == nullptr) return;
  for (const char* direction : {"scaleUp", "scaleDown"})
    check_scaling(*behavior, direction, path / "behavior", errors);
}

void validate_autoscaler_status(const json::object& object, const json::object&, FieldErrors& errors) {
  for (const char* field : {"currentReplicas", "desiredReplicas"})
    check_not_negative(object_or_empty(object, "status"), field, FieldPath("status"), errors);
}

}  // namespace orchestra::api
