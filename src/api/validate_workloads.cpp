// Rules of Deployment, ReplicaSet, StatefulSet, DaemonSet, Job and CronJob: pkg/apis/{apps,batch}/validation.
#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "api/meta.hpp"
#include "api/select.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "base/json.hpp"
#include "orchestra/cron_schedule.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kNotNegative = "must be greater than or equal to 0";
constexpr const char* kPercentText =
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex "
    "used for "
    "validation is '[0-9]+%')";

void not_negative(const json::object& object, std::string_view field, const FieldPath& path,
                  FieldErrors& errors) {
  const json::value* value = object.if_contains(field);
  if (value != nullptr && value->is_int64() && value->get_int64() < 0)
    errors.invalid(path / field, *value, kNotNegative);
}

/// The selector selects something, and the template's labels are selected by it.
void check_selector(const json::object& spec, std::string_view kind, const FieldPath& path,
                    FieldErrors& errors) {
  const json::value* selector = spec.if_contains("selector");
  if (selector == nullptr || !selector->is_object()) return;  // `required` is reported by the schema
  if (selector->get_object().empty()) {
    errors.invalid(path / "selector", *selector, "empty selector is invalid for " + std::string(kind));
    return;
  }
  const json::value* pod = spec.if_contains("template");
  if (pod == nullptr) return;
  const Result<Selector> parsed = selector_of(selector);
  if (!parsed) {
    errors.invalid(path / "selector", *selector, "invalid label selector");
    return;
  }
  const FieldPath labels = path / "template";
  const FieldPath meta = labels / "metadata";
  if (parsed->matches(labels_of(*pod))) return;
  const json::value* found = find(*pod, "/metadata/labels");
  errors.invalid(meta / "labels", found == nullptr ? json::value(nullptr) : *found,
                 "`selector` does not match template `labels`");
}

/// Pods of a long-running workload always restart.
void check_template(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object& pod = object_or_empty(spec, "template");
  const json::object& meta = object_or_empty(pod, "metadata");
  const json::object& pod_spec = object_or_empty(pod, "spec");
  const FieldPath at = path / "template";
  const FieldPath meta_path = at / "metadata", spec_path = at / "spec";
  validate_labels(meta.if_contains("labels"), meta_path / "labels", errors);
  if (!pod.contains("spec") || !pod_spec.contains("containers")) return;
  const json::value* policy = pod_spec.if_contains("restartPolicy");
  if (policy != nullptr && text_of(pod_spec, "restartPolicy") != "Always") {
    errors.not_supported(spec_path / "restartPolicy", *policy, {"Always"});
  }
  if (pod_spec.contains("activeDeadlineSeconds")) {
    errors.forbidden(spec_path / "activeDeadlineSeconds",
                     "activeDeadlineSeconds in ReplicaSet is not Supported");
  }
}

/// An int or a percentage; nullopt (and an error) for other text. A percentage gives its number.
std::optional<std::int64_t> int_or_percent(const json::object& object, std::string_view field,
                                           const FieldPath& path, FieldErrors& errors, bool& percent) {
  const json::value* value = object.if_contains(field);
  percent = false;
  if (value == nullptr) return 0;
  if (value->is_int64()) {
    if (value->get_int64() < 0) errors.invalid(path / field, *value, kNotNegative);
    return value->get_int64();
  }
  const std::string_view text = text_of(object, field);
  std::int64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || number < 0 || end + 1 != text.data() + text.size() || *end != '%') {
    errors.invalid(path / field, text, kPercentText);
    return std::nullopt;
  }
  percent = true;
  return number;
}

void check_rolling_update(const json::object& rolling, const FieldPath& path, FieldErrors& errors) {
  bool percent = false, ignored = false;
  const auto unavailable = int_or_percent(rolling, "maxUnavailable", path, errors, percent);
  const auto surge = int_or_percent(rolling, "maxSurge", path, errors, ignored);
  if (!unavailable || !surge) return;
  const json::value* shown = rolling.if_contains("maxUnavailable");
  const json::value bad = shown == nullptr ? json::value(0) : *shown;
  if (*unavailable == 0 && *surge == 0)
    errors.invalid(path / "maxUnavailable", bad, "may not be 0 when `maxSurge` is 0");
  if (percent && *unavailable > 100)
    errors.invalid(path / "maxUnavailable", bad, "must not be greater than 100%");
}

void check_common(const json::object& spec, std::string_view kind, const FieldPath& path,
                  FieldErrors& errors) {
  for (const char* field : {"replicas", "minReadySeconds", "revisionHistoryLimit"})
    not_negative(spec, field, path, errors);
  check_selector(spec, kind, path, errors);
  check_template(spec, path, errors);
}

}  // namespace

void validate_deployment(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  check_common(spec, "deployment", path, errors);
  const json::object& strategy = object_or_empty(spec, "strategy");
  const FieldPath at = path / "strategy";
  const json::object* rolling = object_of(strategy, "rollingUpdate");
  if (text_of(strategy, "type") == "Recreate" && rolling != nullptr) {
    errors.forbidden(at / "rollingUpdate", "may not be specified when strategy `type` is 'Recreate'");
  } else if (rolling != nullptr) {
    check_rolling_update(*rolling, at / "rollingUpdate", errors);
  }
  not_negative(spec, "progressDeadlineSeconds", path, errors);
  if (const json::value* deadline = spec.if_contains("progressDeadlineSeconds");
      deadline && deadline->is_int64()) {
    if (deadline->get_int64() <= int_of(spec, "minReadySeconds")) {
      errors.invalid(path / "progressDeadlineSeconds", *deadline, "must be greater than minReadySeconds");
    }
  }
}

void validate_replica_set(const json::object& object, FieldErrors& errors) {
  check_common(object_or_empty(object, "spec"), "deployment", FieldPath("spec"), errors);
}

void validate_stateful_set(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  check_common(spec, "statefulset", path, errors);
  const json::object& strategy = object_or_empty(spec, "updateStrategy");
  const FieldPath at = path / "updateStrategy";
  const json::object* rolling = object_of(strategy, "rollingUpdate");
  if (rolling == nullptr) return;
  if (text_of(strategy, "type") == "OnDelete") {
    errors.invalid(at / "rollingUpdate", json::value(*rolling),
                   "only allowed for updateStrategy 'RollingUpdate'");
  }
  not_negative(*rolling, "partition", at / "rollingUpdate", errors);
}

void validate_daemon_set(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  check_common(spec, "daemonset", path, errors);
  const FieldPath at = path / "updateStrategy";
  const json::object* rolling = object_of(object_or_empty(spec, "updateStrategy"), "rollingUpdate");
  if (rolling != nullptr) check_rolling_update(*rolling, at / "rollingUpdate", errors);
}

void validate_selector_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath path("spec");
  require_same(object_or_empty(object, "spec").if_contains("selector"),
               object_or_empty(old, "spec").if_contains("selector"), path / "selector", errors);
}

void validate_stateful_set_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  json::object now = object_or_empty(object, "spec"), before = object_or_empty(old, "spec");
  for (const char* field : {"replicas", "ordinals", "template", "updateStrategy", "minReadySeconds",
                            "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy"}) {
    now.erase(field);
    before.erase(field);
  }
  if (now == before) return;
  errors.forbidden(
      FieldPath("spec"),
      "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
      "'updateStrategy', "
      "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden");
}

void validate_job(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  for (const char* field :
       {"parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"}) {
    not_negative(spec, field, path, errors);
  }
  const json::object& pod_spec = object_or_empty(object_or_empty(spec, "template"), "spec");
  const FieldPath at = path / "template";
  const FieldPath spec_path = at / "spec";
  const json::value* policy = pod_spec.if_contains("restartPolicy");
  if (policy != nullptr && text_of(pod_spec, "restartPolicy") == "Always") {
    errors.not_supported(spec_path / "restartPolicy", *policy, {"OnFailure", "Never"});
  }
}

void validate_job_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const json::object& now = object_or_empty(object, "spec");
  const json::object& before = object_or_empty(old, "spec");
  const FieldPath path("spec");
  for (const char* field :
       {"selector", "completionMode", "completions", "podFailurePolicy", "backoffLimitPerIndex"}) {
    require_same(now.if_contains(field), before.if_contains(field), path / field, errors);
  }
  const bool suspended = flag_of(before, "suspend") && int_of(object_or_empty(old, "status"), "active") == 0;
  if (!suspended)
    require_same(now.if_contains("template"), before.if_contains("template"), path / "template", errors);
}

void validate_cron_job(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  for (const char* field :
       {"successfulJobsHistoryLimit", "failedJobsHistoryLimit", "startingDeadlineSeconds"}) {
    not_negative(spec, field, path, errors);
  }
  const std::string_view schedule = text_of(spec, "schedule");
  if (!schedule.empty()) {
    if (schedule.find("TZ=") != std::string_view::npos) {
      errors.invalid(path / "schedule", schedule,
                     "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if (const auto parsed = CronSchedule::parse(schedule); !parsed) {
      errors.invalid(path / "schedule", schedule, parsed.error().message());
    }
  }
  const std::string_view zone = text_of(spec, "timeZone");
  if (const json::value* given = spec.if_contains("timeZone"); given != nullptr && given->is_string()) {
    if (zone.empty() || zone == "Local") {
      errors.invalid(path / "timeZone", zone, "timeZone must be an explicit time zone as defined in tzdata");
    } else if (const auto loaded = TimeZone::load(std::string(zone)); !loaded) {
      errors.invalid(path / "timeZone", zone, loaded.error().message());
    }
  }
  // The Job's name is the CronJob's and eleven more characters.
  const std::string_view name = text_of(object_or_empty(object, "metadata"), "name");
  if (name.size() > 52)
    errors.invalid(FieldPath("metadata") / "name", name, "must be no more than 52 characters");
}

void validate_label_selector(const json::object& selector, const FieldPath& path, FieldErrors& errors) {
  validate_labels(selector.if_contains("matchLabels"), path / "matchLabels", errors);
  const FieldPath list = path / "matchExpressions";
  for_each_object(selector, "matchExpressions", [&](std::size_t i, const json::object& expression) {
    const FieldPath at = list[i];
    const std::string_view key = text_of(expression, "key"), op = text_of(expression, "operator");
    const bool has_values = !array_or_empty(expression, "values").empty();
    if ((op == "In" || op == "NotIn") && !has_values) {
      errors.required(at / "values", "must be specified when `operator` is 'In' or 'NotIn'");
    } else if ((op == "Exists" || op == "DoesNotExist") && has_values) {
      errors.forbidden(at / "values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    }
    if (const std::string wrong = key.empty() ? "" : check_qualified_name(key); !wrong.empty())
      errors.invalid(at / "key", key, wrong);
  });
}

void require_same(const json::value* now, const json::value* before, const FieldPath& path,
                  FieldErrors& errors) {
  const bool same = now == nullptr || before == nullptr ? now == before : *now == *before;
  if (!same) errors.invalid(path, now == nullptr ? json::value(nullptr) : *now, "field is immutable");
}

}  // namespace orchestra::api
