// Conversions between the versions of builtin kinds: see versions.hpp.
//
// Events: pkg/apis/events/v1/conversion.go, the same fields under other names. HorizontalPodAutoscaler:
// pkg/apis/autoscaling/v1/conversion.go; what v1 cannot say travels in annotations, so nothing is lost.
#include "api/versions.hpp"

#include <utility>

#include "api/tree.hpp"
#include "api/walker.hpp"
#include "base/assert.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

void rename(json::object& object, std::string_view from, std::string_view to) {
  const auto found = object.find(from);
  if (found == object.end()) return;
  json::value value = std::move(found->value());
  object.stable_erase(object.find(from));
  object[to] = std::move(value);
}

constexpr std::pair<const char*, const char*> kEventNames[] = {{"involvedObject", "regarding"},
                                                               {"message", "note"},
                                                               {"source", "deprecatedSource"},
                                                               {"firstTimestamp", "deprecatedFirstTimestamp"},
                                                               {"count", "deprecatedCount"},
                                                               {"lastTimestamp", "deprecatedLastTimestamp"},
                                                               {"reportingComponent", "reportingController"}};

void event_to_stored(json::object& event) {
  for (const auto& [core, ours] : kEventNames) rename(event, ours, core);
}
void event_from_stored(json::object& event) {
  for (const auto& [core, ours] : kEventNames) rename(event, core, ours);
}

constexpr const char* kMetrics = "autoscaling.alpha.kubernetes.io/metrics";
constexpr const char* kCurrentMetrics = "autoscaling.alpha.kubernetes.io/current-metrics";
constexpr const char* kConditions = "autoscaling.alpha.kubernetes.io/conditions";
constexpr const char* kBehavior = "autoscaling.alpha.kubernetes.io/behavior";

/// Names of a metric's parts in v1, beside those of v2: source type, then (v2 path, v1 name).
struct MetricShape {
  const char* source;
  std::vector<std::pair<const char*, const char*>> fields;
};
const std::vector<MetricShape>& metric_shapes() {
  static const std::vector<MetricShape> kShapes = {
      {"resource",
       {{"/name", "name"},
        {"/target/averageUtilization", "targetAverageUtilization"},
        {"/target/averageValue", "targetAverageValue"},
        {"/current/averageUtilization", "currentAverageUtilization"},
        {"/current/averageValue", "currentAverageValue"}}},
      {"containerResource",
       {{"/name", "name"},
        {"/container", "container"},
        {"/target/averageUtilization", "targetAverageUtilization"},
        {"/target/averageValue", "targetAverageValue"},
        {"/current/averageUtilization", "currentAverageUtilization"},
        {"/current/averageValue", "currentAverageValue"}}},
      {"pods",
       {{"/metric/name", "metricName"},
        {"/metric/selector", "selector"},
        {"/target/averageValue", "targetAverageValue"},
        {"/current/averageValue", "currentAverageValue"}}},
      {"object",
       {{"/describedObject", "target"},
        {"/metric/name", "metricName"},
        {"/metric/selector", "selector"},
        {"/target/value", "targetValue"},
        {"/target/averageValue", "averageValue"},
        {"/current/value", "currentValue"},
        {"/current/averageValue", "averageValue"}}},
      {"external",
       {{"/metric/name", "metricName"},
        {"/metric/selector", "metricSelector"},
        {"/target/value", "targetValue"},
        {"/target/averageValue", "targetAverageValue"},
        {"/current/value", "currentValue"},
        {"/current/averageValue", "currentAverageValue"}}},
  };
  return kShapes;
}

/// "/current/..." belongs to a status, "/target/..." to a spec; what is neither belongs to both.
bool belongs(std::string_view pointer, bool status) {
  return !pointer.starts_with(status ? "/target/" : "/current/");
}

json::array metrics_as_v1(const json::array& metrics, bool status) {
  json::array out;
  for (const json::value& metric : metrics) {
    json::object flat{{"type", string_at(metric, "/type")}};
    for (const MetricShape& shape : metric_shapes()) {
      const json::value* source = find(metric, std::string("/") + shape.source);
      if (source == nullptr) continue;
      json::object fields;
      for (const auto& [pointer, name] : shape.fields) {
        const json::value* value = belongs(pointer, status) ? find(*source, pointer) : nullptr;
        if (value != nullptr) fields[name] = *value;
      }
      flat[shape.source] = std::move(fields);
    }
    out.push_back(std::move(flat));
  }
  return out;
}

json::array metrics_from_v1(const json::array& metrics, bool status) {
  json::array out;
  for (const json::value& metric : metrics) {
    json::value full = json::object{{"type", string_at(metric, "/type")}};
    for (const MetricShape& shape : metric_shapes()) {
      const json::value* source = find(metric, std::string("/") + shape.source);
      if (source == nullptr) continue;
      json::value fields = json::object();
      for (const auto& [pointer, name] : shape.fields) {
        const json::value* value =
            belongs(pointer, status) ? find(*source, std::string("/") + name) : nullptr;
        if (value != nullptr) set_at(fields, pointer, *value);
      }
      if (!status) {
        const char* kind = find(fields, "/target/averageUtilization") != nullptr ? "Utilization"
                           : find(fields, "/target/averageValue") != nullptr     ? "AverageValue"
                                                                                 : "Value";
        set_at(fields, "/target/type", json::value(kind));
      }
      full.get_object()[shape.source] = std::move(fields);
    }
    out.push_back(std::move(full));
  }
  return out;
}

bool is_cpu_utilization(const json::value& metric, const char* field) {
  return string_at(metric, "/type") == "Resource" && string_at(metric, "/resource/name") == "cpu" &&
         find(metric, std::string("/resource/") + field + "/averageUtilization") != nullptr;
}

json::object& member_object(json::object& parent, const char* name) {
  json::value& value = parent[name];
  if (!value.is_object()) value.emplace_object();
  return value.get_object();
}

/// Takes an annotation out and parses it; null where there is none or it is no JSON.
json::value take_annotation(json::object& object, const char* name) {
  json::object* meta = object_of(object, "metadata");
  json::object* annotations = meta == nullptr ? nullptr : object_of(*meta, "annotations");
  const json::value* text = annotations == nullptr ? nullptr : annotations->if_contains(name);
  if (text == nullptr) return nullptr;
  Result<json::value> parsed =
      text->is_string() ? parse_json(std::string_view(text->get_string())) : Result<json::value>(nullptr);
  annotations->stable_erase(annotations->find(name));
  if (annotations->empty()) meta->stable_erase(meta->find("annotations"));
  return parsed ? std::move(*parsed) : json::value(nullptr);
}

void put_annotation(json::object& object, const char* name, const json::value& value) {
  member_object(member_object(object, "metadata"), "annotations")[name] = to_json(value);
}

void hpa_to_stored(json::object& hpa) {
  json::object& spec = member_object(hpa, "spec");
  json::array metrics;
  if (const json::value* percent = spec.if_contains("targetCPUUtilizationPercentage")) {
    const json::object target{{"type", "Utilization"}, {"averageUtilization", *percent}};
    metrics.push_back(
        json::object{{"type", "Resource"}, {"resource", json::object{{"name", "cpu"}, {"target", target}}}});
    spec.stable_erase(spec.find("targetCPUUtilizationPercentage"));
  }
  if (const json::value more = take_annotation(hpa, kMetrics); more.is_array()) {
    for (json::value& metric : metrics_from_v1(more.get_array(), false)) metrics.push_back(std::move(metric));
  }
  if (!metrics.empty()) spec["metrics"] = std::move(metrics);
  if (json::value behavior = take_annotation(hpa, kBehavior); behavior.is_object())
    spec["behavior"] = std::move(behavior);
  json::object* status = object_of(hpa, "status");
  json::array current;
  if (status != nullptr && status->contains("currentCPUUtilizationPercentage")) {
    const json::value percent = status->at("currentCPUUtilizationPercentage");
    status->stable_erase(status->find("currentCPUUtilizationPercentage"));
    const json::object value{{"averageUtilization", percent}};
    current.push_back(
        json::object{{"type", "Resource"}, {"resource", json::object{{"name", "cpu"}, {"current", value}}}});
  }
  if (const json::value more = take_annotation(hpa, kCurrentMetrics); more.is_array()) {
    for (json::value& metric : metrics_from_v1(more.get_array(), true)) current.push_back(std::move(metric));
  }
  if (!current.empty()) member_object(hpa, "status")["currentMetrics"] = std::move(current);
  if (json::value conditions = take_annotation(hpa, kConditions); conditions.is_array())
    member_object(hpa, "status")["conditions"] = std::move(conditions);
}

/// The first cpu utilization has a field of its own in v1, the rest goes into the annotation.
void split_metrics(json::object& hpa, json::object& part, const char* list, bool status, const char* field,
                   const char* annotation) {
  const json::value* found = part.if_contains(list);
  if (found == nullptr || !found->is_array()) return;
  const json::value all = *found;
  part.stable_erase(part.find(list));
  json::array rest;
  const char* where = status ? "current" : "target";
  for (const json::value& metric : all.get_array()) {
    if (!part.contains(field) && is_cpu_utilization(metric, where)) {
      part[field] = *find(metric, std::string("/resource/") + where + "/averageUtilization");
    } else {
      rest.push_back(metric);
    }
  }
  if (!rest.empty()) put_annotation(hpa, annotation, metrics_as_v1(rest, status));
}

void hpa_from_stored(json::object& hpa) {
  json::object& spec = member_object(hpa, "spec");
  split_metrics(hpa, spec, "metrics", false, "targetCPUUtilizationPercentage", kMetrics);
  if (const auto behavior = spec.find("behavior"); behavior != spec.end()) {
    const json::value copy = behavior->value();
    spec.stable_erase(spec.find("behavior"));
    put_annotation(hpa, kBehavior, copy);
  }
  json::object& status = member_object(hpa, "status");
  split_metrics(hpa, status, "currentMetrics", true, "currentCPUUtilizationPercentage", kCurrentMetrics);
  if (const auto conditions = status.find("conditions"); conditions != status.end()) {
    const json::value copy = conditions->value();
    status.stable_erase(status.find("conditions"));
    put_annotation(hpa, kConditions, copy);
  }
  for (const char* field : {"currentReplicas", "desiredReplicas"}) {
    if (!status.contains(field)) status[field] = std::int64_t{0};
  }
}

constexpr VersionConversion kEvent{event_to_stored, event_from_stored};
constexpr VersionConversion kHpa{hpa_to_stored, hpa_from_stored};

}  // namespace

const VersionConversion* conversion_named(std::string_view name) {
  if (name == "event") return &kEvent;
  ORC_ASSERT_MSG(name == "hpa", "unknown conversion in a kind block of a .types file");
  return &kHpa;
}

bool stored_as(const TypeRecord& record, const TypeVersion& version) {
  // A custom object may have been written when another version was the stored one.
  if (!record.builtin && record.versions.size() > 1) return false;
  return version.storage && version.conversion == nullptr && !record.complete_on_read;
}

namespace {
/// By the type's converter, where the object is in another version.
Result<void> convert(const TypeRecord& record, const std::string& api_version, json::value& object) {
  const std::string now = string_at(object, "/apiVersion");
  if (record.converter == nullptr || now.empty() || now == api_version) return {};
  ORC_ASSIGN(std::vector<json::value> converted, record.converter->convert({object}, api_version));
  object = std::move(converted.front());
  return {};
}
}  // namespace

Result<void> to_stored(const TypeRecord& record, const TypeVersion& version, json::value& object) {
  if (version.conversion != nullptr) {
    version.conversion->to_stored(object.get_object());
    apply_defaults(record.stored_schema(), object);
  }
  if (record.converter != nullptr) {
    ORC_TRY(convert(record, record.stored_api_version(), object));
    (void)prune_unknown(record.stored_schema(), object);
    apply_defaults(record.stored_schema(), object);
  }
  object.get_object()["apiVersion"] = record.stored_api_version();
  return {};
}

Result<void> from_stored(const TypeRecord& record, const TypeVersion& version, json::value& object) {
  if (version.conversion != nullptr) version.conversion->from_stored(object.get_object());
  const std::string api_version = record.gvk(version.name).api_version();
  ORC_TRY(convert(record, api_version, object));
  object.get_object()["apiVersion"] = api_version;
  if (record.builtin) return {};
  // Written under an older definition, or in another version: what this one knows, completed.
  (void)prune_unknown(version.schema, object);
  apply_defaults(version.schema, object);
  return {};
}

}  // namespace orchestra::api
