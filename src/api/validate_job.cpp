// Rules of Job and CronJob: pkg/apis/batch/validation/validation.go.
#include <algorithm>
#include <charconv>
#include <optional>

#include "api/meta.hpp"
#include "api/select.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"
#include "orchestra/cron_schedule.hpp"

namespace orchestra::api {
namespace {

constexpr std::int64_t kIndexedParallelismMax = 100'000, kFailedIndexesMax = 100'000;
constexpr std::int64_t kManyCompletions = 100'000, kManyLimit = 10'000;
constexpr std::size_t kPolicyRulesMax = 20, kExitCodesMax = 255, kPatternsMax = 20;
constexpr std::size_t kManagedByMax = 63, kIndexesTextMax = 64 << 10, kCronJobNameMax = 52;

std::string number(std::int64_t value) { return std::to_string(value); }

void check_indexed(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const bool counted = spec.contains("completions"), limited = spec.contains("maxFailedIndexes");
  const std::int64_t completions = int_of(spec, "completions"), parallelism = int_of(spec, "parallelism");
  const std::int64_t failed = int_of(spec, "maxFailedIndexes");
  if (!counted) errors.required(path / "completions", "when completion mode is Indexed");
  if (parallelism > kIndexedParallelismMax) {
    errors.invalid(path / "parallelism", json::value(parallelism),
                   "must be less than or equal to 100000 when completion mode is Indexed");
  }
  if (counted && limited && failed > completions)
    errors.invalid(path / "maxFailedIndexes", json::value(failed),
                   "must be less than or equal to completions");
  if (failed > kFailedIndexesMax)
    errors.invalid(path / "maxFailedIndexes", json::value(failed), "must be less than or equal to 100000");
  if (completions <= kManyCompletions || !spec.contains("backoffLimitPerIndex")) return;
  constexpr const char* kText =
      "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per "
      "index";
  if (!limited)
    errors.required(path / "maxFailedIndexes", "must be specified when completions is above 100000");
  if (parallelism > kManyLimit) errors.invalid(path / "parallelism", json::value(parallelism), kText);
  if (failed > kManyLimit) errors.invalid(path / "maxFailedIndexes", json::value(failed), kText);
}

void check_exit_codes(const json::object& codes, const json::object& pod, const FieldPath& path,
                      FieldErrors& errors) {
  const std::string_view op = text_of(codes, "operator");
  if (op.empty()) {
    errors.required(path / "operator", "valid values: [\"In\" \"NotIn\"]");
  } else if (op != "In" && op != "NotIn") {
    errors.not_supported(path / "operator", json::string(op), {"In", "NotIn"});
  }
  if (codes.contains("containerName")) {
    const std::string_view name = text_of(codes, "containerName");
    bool known = false;
    for (const char* list : {"containers", "initContainers"}) {
      for_each_object(pod, list, [&](std::size_t, const json::object& container) {
        known = known || text_of(container, "name") == name;
      });
    }
    if (!known) {
      errors.invalid(path / "containerName", name,
                     "must be one of the container or initContainer names in the pod template");
    }
  }
  const json::array& values = array_or_empty(codes, "values");
  const FieldPath at = path / "values";
  if (values.empty()) {
    errors.invalid(at, json::value(values), "at least one value is required");
  } else if (values.size() > kExitCodesMax) {
    errors.too_many(at, values.size(), kExitCodesMax);
  }
  bool ordered = true;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!values[i].is_int64()) continue;
    const auto here = values.begin() + static_cast<std::ptrdiff_t>(i);
    if (op == "In" && values[i].get_int64() == 0)
      errors.invalid(at[i], values[i], "must not be 0 for the In operator");
    if (std::find(values.begin(), here, values[i]) != here) errors.duplicate(at[i], values[i]);
    if (i > 0 && values[i - 1].is_int64() && values[i - 1].get_int64() > values[i].get_int64())
      ordered = false;
  }
  if (!ordered) errors.invalid(at, json::value(values), "must be ordered");
}

void check_patterns(const json::object& rule, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "onPodConditions";
  const std::size_t count = array_or_empty(rule, "onPodConditions").size();
  if (count > kPatternsMax) errors.too_many(list, count, kPatternsMax);
  for_each_object(rule, "onPodConditions", [&](std::size_t i, const json::object& pattern) {
    const FieldPath at = list[i];
    const std::string_view type = text_of(pattern, "type"), status = text_of(pattern, "status");
    check_text(type, check_qualified_name(type), at / "type", errors);
    if (status.empty()) {
      errors.required(at / "status", "valid values: [\"False\" \"True\" \"Unknown\"]");
    } else if (status != "True" && status != "False" && status != "Unknown") {
      errors.not_supported(at / "status", json::string(status), {"False", "True", "Unknown"});
    }
  });
}

void check_failure_policy(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object* policy = object_of(spec, "podFailurePolicy");
  if (policy == nullptr) return;
  const FieldPath at = path / "podFailurePolicy";
  const FieldPath rules = at / "rules";
  const json::object& pod = object_or_empty(object_or_empty(spec, "template"), "spec");
  const std::size_t count = array_or_empty(*policy, "rules").size();
  if (count > kPolicyRulesMax) errors.too_many(rules, count, kPolicyRulesMax);
  for_each_object(*policy, "rules", [&](std::size_t i, const json::object& rule) {
    const FieldPath here = rules[i];
    const std::string_view action = text_of(rule, "action");
    if (action.empty()) {
      errors.required(here / "action", "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]");
    } else if (action == "FailIndex") {
      if (!spec.contains("backoffLimitPerIndex"))
        errors.invalid(here / "action", action, "requires the backoffLimitPerIndex to be set");
    } else if (action != "Count" && action != "FailJob" && action != "Ignore") {
      errors.not_supported(here / "action", json::string(action),
                           {"Count", "FailIndex", "FailJob", "Ignore"});
    }
    const json::object* codes = object_of(rule, "onExitCodes");
    const bool patterns = !array_or_empty(rule, "onPodConditions").empty();
    if (codes != nullptr) check_exit_codes(*codes, pod, here / "onExitCodes", errors);
    if (patterns) check_patterns(rule, here, errors);
    if ((codes != nullptr) == patterns) {
      errors.add({FieldErrorType::invalid, here.to_string(), "",
                  patterns ? "specifying both OnExitCodes and OnPodConditions is not supported"
                           : "specifying one of OnExitCodes and OnPodConditions is required"});
    }
  });
}

/// "1,3-5": how many, all below `completions` and rising; else what is wrong.
std::optional<std::int64_t> count_indexes(std::string_view text, std::int64_t completions,
                                          std::string& wrong) {
  if (text.empty()) return 0;
  std::int64_t total = 0, last = -1;
  bool first = true;
  for (const std::string_view interval : split_words(text, ',')) {
    const std::vector<std::string_view> limits = split_words(interval, '-');
    if (limits.size() > 2 || interval.empty()) {
      wrong =
          "the fragment \"" + std::string(interval) +
          "\" violates the requirement that an index interval can have at most two parts separated by '-'";
      return std::nullopt;
    }
    std::int64_t bounds[2] = {0, 0};
    for (std::size_t i = 0; i < limits.size(); ++i) {
      const auto [end, failed] =
          std::from_chars(limits[i].data(), limits[i].data() + limits[i].size(), bounds[i]);
      if (failed != std::errc() || end != limits[i].data() + limits[i].size()) {
        wrong = "cannot convert string to integer for index: \"" + std::string(limits[i]) + "\"";
        return std::nullopt;
      }
      if (bounds[i] >= completions) {
        wrong = "too large index: \"" + std::string(limits[i]) + "\"";
        return std::nullopt;
      }
    }
    if (!first && bounds[0] <= last) {
      wrong = "non-increasing order, previous: " + number(last) + ", current: " + number(bounds[0]);
      return std::nullopt;
    }
    if (limits.size() == 2 && bounds[0] >= bounds[1]) {
      wrong = "non-increasing order, previous: " + number(bounds[0]) + ", current: " + number(bounds[1]);
      return std::nullopt;
    }
    last = limits.size() == 2 ? bounds[1] : bounds[0];
    total += last - bounds[0] + 1;
    first = false;
  }
  return total;
}

void check_success_policy(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object* policy = object_of(spec, "successPolicy");
  if (policy == nullptr) return;
  const FieldPath at = path / "successPolicy";
  if (text_of(spec, "completionMode") != "Indexed")
    return errors.invalid(at, json::value(*policy), "requires indexed completion mode");
  const FieldPath rules = at / "rules";
  const std::int64_t completions = int_of(spec, "completions");
  const std::size_t count = array_or_empty(*policy, "rules").size();
  if (count == 0)
    errors.required(rules, "at least one rules must be specified when the successPolicy is specified");
  if (count > kPolicyRulesMax) errors.too_many(rules, count, kPolicyRulesMax);
  for_each_object(*policy, "rules", [&](std::size_t i, const json::object& rule) {
    const FieldPath here = rules[i];
    const bool counted = rule.contains("succeededCount"), indexed = rule.contains("succeededIndexes");
    if (!counted && !indexed)
      errors.required(here, "at least one of succeededCount or succeededIndexes must be specified");
    std::int64_t total = 0;
    if (indexed) {
      const std::string_view indexes = text_of(rule, "succeededIndexes");
      if (indexes.size() > kIndexesTextMax) errors.too_long(here / "succeededIndexes", kIndexesTextMax);
      std::string wrong;
      const auto found = count_indexes(indexes, completions, wrong);
      if (!found)
        errors.invalid(here / "succeededIndexes", indexes, "error parsing succeededIndexes: " + wrong);
      total = found.value_or(0);
    }
    if (!counted) return;
    check_not_negative(rule, "succeededCount", here, errors);
    const std::int64_t wanted = int_of(rule, "succeededCount");
    if (wanted > completions) {
      errors.invalid(
          here / "succeededCount", json::value(wanted),
          "must be less than or equal to " + number(completions) + " (the number of specified completions)");
    }
    if (indexed && wanted > total) {
      errors.invalid(here / "succeededCount", json::value(wanted),
                     "must be less than or equal to " + number(total) +
                         " (the number of indexes in the specified succeededIndexes field)");
    }
  });
}

void check_restart_policy(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object& pod = object_or_empty(object_or_empty(spec, "template"), "spec");
  const FieldPath at = path / "template";
  const FieldPath below = at / "spec";
  const std::string_view policy = text_of(pod, "restartPolicy");
  if (policy == "Always" || policy.empty()) {
    errors.required(below / "restartPolicy", "valid values: \"OnFailure\", \"Never\"");
  } else if (policy != "OnFailure" && policy != "Never") {
    errors.not_supported(below / "restartPolicy", json::string(policy), {"OnFailure", "Never"});
  } else if (spec.contains("podFailurePolicy") && policy != "Never") {
    errors.invalid(below / "restartPolicy", policy,
                   "only \"Never\" is supported when podFailurePolicy is specified");
  }
}

void check_job_spec(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  for (const char* field : {"parallelism", "completions", "activeDeadlineSeconds", "backoffLimit",
                            "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes"})
    check_not_negative(spec, field, path, errors);
  if (spec.contains("maxFailedIndexes") && !spec.contains("backoffLimitPerIndex"))
    errors.required(path / "backoffLimitPerIndex", "when maxFailedIndexes is specified");
  if (spec.contains("managedBy")) {
    const std::string_view manager = text_of(spec, "managedBy");
    check_domain_path(manager, path / "managedBy", errors);
    if (manager.size() > kManagedByMax) errors.too_long(path / "managedBy", kManagedByMax);
  }
  if (text_of(spec, "completionMode") == "Indexed") {
    check_indexed(spec, path, errors);
  } else {
    for (const char* field : {"backoffLimitPerIndex", "maxFailedIndexes"}) {
      if (spec.contains(field))
        errors.invalid(path / field, spec.at(field), "requires indexed completion mode");
    }
  }
  check_failure_policy(spec, path, errors);
  check_success_policy(spec, path, errors);
  const std::string_view replacement = text_of(spec, "podReplacementPolicy");
  if (spec.contains("podFailurePolicy") && replacement == "TerminatingOrFailed")
    errors.not_supported(path / "podReplacementPolicy", json::string(replacement), {"Failed"});
  check_restart_policy(spec, path, errors);
}

void check_time_zone(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  if (!spec.contains("timeZone")) return;
  const std::string_view zone = text_of(spec, "timeZone");
  const FieldPath at = path / "timeZone";
  if (zone.empty()) return errors.invalid(at, zone, "timeZone must be nil or non-empty string");
  for (const std::string_view part : split_words(zone, '/')) {
    const bool good = !part.empty() && part.size() <= 14 && part != "." && part != ".." && part[0] != '-' &&
                      std::all_of(part.begin(), part.end(), [](char c) {
                        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                               c == '.' || c == '-' || c == '_' || c == '+';
                      });
    if (!good) return errors.invalid(at, zone, "unknown time zone " + std::string(zone));
  }
  std::string lower(zone);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (lower == "local") {
    errors.invalid(at, zone,
                   "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    return;
  }
  if (const auto loaded = TimeZone::load(std::string(zone)); !loaded)
    errors.invalid(at, zone, "unknown time zone " + std::string(zone));
}

/// What a template may still change while its job is suspended and was never started.
void relax_template(json::object& pod, const json::object& old) {
  const auto keep = [](json::object& to, const json::object& from, const char* field) {
    if (const json::value* value = from.if_contains(field)) {
      to[field] = *value;
    } else {
      to.erase(field);
    }
  };
  json::object meta = object_or_empty(pod, "metadata");
  for (const char* field : {"labels", "annotations"}) keep(meta, object_or_empty(old, "metadata"), field);
  pod["metadata"] = std::move(meta);
  json::object spec = object_or_empty(pod, "spec");
  const json::object& old_spec = object_or_empty(old, "spec");
  for (const char* field : {"nodeSelector", "tolerations", "schedulingGates"}) keep(spec, old_spec, field);
  json::object affinity = object_or_empty(spec, "affinity");
  keep(affinity, object_or_empty(old_spec, "affinity"), "nodeAffinity");
  if (affinity.empty() && !old_spec.contains("affinity")) {
    spec.erase("affinity");
  } else {
    spec["affinity"] = std::move(affinity);
  }
  pod["spec"] = std::move(spec);
}

const json::object* condition_of(const json::object& status, std::string_view type) {
  for (const json::value& each : array_or_empty(status, "conditions")) {
    if (each.is_object() && text_of(each.get_object(), "type") == type) return &each.get_object();
  }
  return nullptr;
}

}  // namespace

void validate_job(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  check_job_spec(spec, path, errors);
  const std::int64_t completions = int_of(spec, "completions");
  const std::string name(text_of(object_or_empty(object, "metadata"), "name"));
  if (text_of(spec, "completionMode") == "Indexed" && completions > 0) {
    const std::string last = name + "-" + number(completions - 1);
    if (!check_dns1123_label(last).empty()) {
      errors.invalid(FieldPath("metadata") / "name", name,
                     "will not able to create pod with invalid DNS label: " + last);
    }
  }
  const json::value* selector = spec.if_contains("selector");
  if (selector == nullptr) return;
  const auto parsed = selector_of(selector);
  const json::value* pod = spec.if_contains("template");
  if (!parsed || pod == nullptr || parsed->matches(labels_of(*pod))) return;
  const FieldPath at = path / "template";
  const json::value* labels = find(*pod, "/metadata/labels");
  errors.invalid(at / "metadata" / "labels", labels == nullptr ? json::value() : *labels,
                 "`selector` does not match template `labels`");
}

void validate_job_create(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  const json::value* selector = spec.if_contains("selector");
  const std::string uid(text_of(object_or_empty(object, "metadata"), "uid"));
  // Without a uid nothing was generated yet: the object is looked at outside of a server.
  if (uid.empty()) return;
  if (selector == nullptr) return errors.required(path / "selector");
  if (flag_of(spec, "manualSelector")) return;
  const std::string name(text_of(object_or_empty(object, "metadata"), "name"));
  const FieldPath at = path / "template";
  const FieldPath meta = at / "metadata";
  const FieldPath labels_path = meta / "labels";
  const json::object& labels =
      object_or_empty(object_or_empty(object_or_empty(spec, "template"), "metadata"), "labels");
  for (const auto& [key, wanted] : {std::pair<const char*, std::string>{"controller-uid", uid},
                                    {"job-name", name},
                                    {"batch.kubernetes.io/controller-uid", uid},
                                    {"batch.kubernetes.io/job-name", name}}) {
    if (!labels.contains(key)) {
      errors.required(labels_path.key(key), "must be '" + wanted + "'");
    } else if (text_of(labels, key) != wanted) {
      errors.invalid(labels_path.key(key), json::value(labels), "must be '" + wanted + "'");
    }
  }
  const json::object expected{{"controller-uid", uid},
                              {"job-name", name},
                              {"batch.kubernetes.io/controller-uid", uid},
                              {"batch.kubernetes.io/job-name", name}};
  const json::value as_pod{{"metadata", {{"labels", expected}}}};
  const auto parsed = selector_of(selector);
  if (parsed && !parsed->matches(labels_of(as_pod)))
    errors.invalid(path / "selector", *selector, "`selector` not auto-generated");
}

void validate_job_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const json::object& now = object_or_empty(object, "spec");
  const json::object& before = object_or_empty(old, "spec");
  const FieldPath path("spec");
  const bool indexed = text_of(now, "completionMode") == "Indexed";
  if (!indexed) {
    require_same(now.if_contains("completions"), before.if_contains("completions"), path / "completions",
                 errors);
  } else if (now.contains("completions") && int_of(now, "completions") != int_of(before, "completions") &&
             int_of(now, "completions") != int_of(now, "parallelism")) {
    errors.invalid(path / "completions", now.at("completions"),
                   "can only be modified in tandem with spec.parallelism");
  }
  require_same(now.if_contains("selector"), before.if_contains("selector"), path / "selector", errors);
  json::object pod = object_or_empty(now, "template");
  const json::object& old_pod = object_or_empty(before, "template");
  const json::object& status = object_or_empty(old, "status");
  const bool open = flag_of(before, "suspend") && !status.contains("startTime");
  if (open) relax_template(pod, old_pod);
  if (pod != old_pod)
    errors.invalid(path / "template", json::value(object_or_empty(now, "template")), "field is immutable");
  for (const char* field :
       {"completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"})
    require_same(now.if_contains(field), before.if_contains(field), path / field, errors);
}

void validate_job_status(const json::object& object, const json::object& old_object, FieldErrors& errors) {
  const json::object& status = object_or_empty(object, "status");
  const json::object& old = object_or_empty(old_object, "status");
  const FieldPath path("status");
  for (const char* field : {"active", "succeeded", "failed", "ready", "terminating"})
    check_not_negative(status, field, path, errors);
  const auto is = [](const json::object& of, const char* type) {
    const json::object* condition = condition_of(of, type);
    return condition != nullptr && text_of(*condition, "status") == "True";
  };
  const auto refuse = [&](const char* why) {
    errors.add({FieldErrorType::invalid, (path / "conditions").to_string(), "", why});
  };
  if (is(status, "Complete") && is(status, "Failed"))
    refuse("cannot set Complete=True and Failed=true conditions");
  if (is(status, "Complete") && is(status, "FailureTarget"))
    refuse("cannot set Complete=True and FailureTarget=true conditions");
  if (status.contains("completionTime") && !is(status, "Complete")) {
    errors.invalid(path / "completionTime", status.at("completionTime"),
                   "cannot set completionTime when there is no Complete=True condition");
  }
  for (const char* type : {"Failed", "Complete", "FailureTarget"}) {
    if (is(old, type) && !is(status, type))
      refuse((std::string("cannot disable the terminal ") + type + "=True condition").c_str());
  }
  if (is(old, "SuccessCriteriaMet") && !is(status, "SuccessCriteriaMet"))
    refuse("cannot disable the SuccessCriteriaMet=True condition");
}

void validate_cron_job(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  const std::string_view schedule = text_of(spec, "schedule");
  if (!schedule.empty()) {
    const bool zoned = schedule.find("TZ") != std::string_view::npos;
    std::string_view plain = schedule;
    if (zoned && plain.find(' ') != std::string_view::npos) plain.remove_prefix(plain.find(' ') + 1);
    if (const auto parsed = CronSchedule::parse(plain); !parsed)
      errors.invalid(path / "schedule", schedule, parsed.error().message());
    if (zoned) {
      errors.invalid(path / "schedule", schedule,
                     "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    }
  }
  check_not_negative(spec, "startingDeadlineSeconds", path, errors);
  check_time_zone(spec, path, errors);
  const json::object& job = object_or_empty(object_or_empty(spec, "jobTemplate"), "spec");
  const FieldPath made = path / "jobTemplate";
  const FieldPath below = made / "spec";
  check_job_spec(job, below, errors);
  if (const json::value* selector = job.if_contains("selector"))
    errors.invalid(below / "selector", *selector, "`selector` will be auto-generated");
  if (flag_of(job, "manualSelector"))
    errors.not_supported(below / "manualSelector", json::value(true), {"nil", "false"});
  for (const char* field : {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"})
    check_not_negative(spec, field, path, errors);
}

void validate_cron_job_create(const json::object& object, FieldErrors& errors) {
  // The Job's name is the CronJob's and eleven more characters.
  const std::string_view name = text_of(object_or_empty(object, "metadata"), "name");
  if (name.size() > kCronJobNameMax)
    errors.invalid(FieldPath("metadata") / "name", name, "must be no more than 52 characters");
}

}  // namespace orchestra::api
