// Rules of Job and CronJob: pkg/apis/batch/validation/validation.go.
#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

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

using Interval = std::pair<std::int64_t, std::int64_t>;

/// "3" or "3-5", both below `completions`; else what is wrong.
std::optional<Interval> parse_interval(std::string_view interval, std::int64_t completions,
                                       std::string& wrong) {
  const std::vector<std::string_view> limits = split_words(interval, '-');
  if (limits.size() > 2) {
    wrong = "the fragment \"" + std::string(interval) +
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
  if (limits.size() == 2 && bounds[0] >= bounds[1]) {
    wrong = "non-increasing order, previous: " + number(bounds[0]) + ", current: " + number(bounds[1]);
    return std::nullopt;
  }
  return Interval{bounds[0], limits.size() == 2 ? bounds[1] : bounds[0]};
}

/// "1,3-5": how many, all below `completions` and rising; else what is wrong.
std::optional<std::int64_t> count_indexes(std::string_view text, std::int64_t completions,
                                          std::string& wrong) {
  if (text.empty()) return 0;
  std::int64_t total = 0;
  std::optional<std::int64_t> last;
  for (const std::string_view part : split_words(text, ',')) {
    const auto interval = parse_interval(part, completions, wrong);
    if (!interval) return std::nullopt;
    if (last && *last >= interval->first) {
      wrong = "non-increasing order, previous: " + number(*last) + ", current: " + number(interval->first);
      return std::nullopt;
    }
    last = interval->second;
    total += interval->second - interval->first + 1;
  }
  return total;
}

/// The first index that is in both lists; intervals that are none are told elsewhere.
std::optional<std::int64_t> common_index(std::string_view completed, std::string_view failed,
                                         std::int64_t completions) {
  const auto intervals = [&](std::string_view text) {
    std::vector<Interval> out;
    std::string ignored;
    if (text.empty()) return out;
    for (const std::string_view part : split_words(text, ',')) {
      if (const auto interval = parse_interval(part, completions, ignored)) out.push_back(*interval);
    }
    return out;
  };
  const std::vector<Interval> good = intervals(completed), bad = intervals(failed);
  for (std::size_t g = 0, b = 0; g < good.size() && b < bad.size();) {
    if (good[g].first <= bad[b].second && bad[b].first <= good[g].second)
      return std::max(good[g].first, bad[b].first);
    good[g].first <= bad[b].first ? ++g : ++b;
  }
  return std::nullopt;
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

namespace {

bool is(const json::object& status, const char* type) {
  const json::object* condition = condition_of(status, type);
  return condition != nullptr && text_of(*condition, "status") == "True";
}
bool is_finished(const json::object& status) { return is(status, "Complete") || is(status, "Failed"); }

/// Pods that have ended and are in no counter yet: each once.
void check_uncounted(const json::object& status, const FieldPath& path, FieldErrors& errors) {
  const json::object& uncounted = object_or_empty(status, "uncountedTerminatedPods");
  const FieldPath at = path / "uncountedTerminatedPods";
  std::set<std::string_view> seen;
  for (const char* list : {"succeeded", "failed"}) {
    const FieldPath here = at / list;
    const json::array& uids = array_or_empty(uncounted, list);
    for (std::size_t i = 0; i < uids.size(); ++i) {
      if (!uids[i].is_string()) continue;
      const std::string_view uid = uids[i].get_string();
      if (uid.empty()) errors.invalid(here[i], "", "must not be empty");
      if (!uid.empty() && !seen.insert(uid).second) errors.duplicate(here[i], uids[i]);
    }
  }
}

/// Upstream's JobStatusValidationOptions (pkg/registry/batch/job/strategy.go): most rules look only at what
/// this write changes, so that a status from before, or one that a change of the spec has overtaken, may be
/// mended.
class StatusChange {
 public:
  StatusChange(const json::object& object, const json::object& old)
      : spec_(object_or_empty(object, "spec")),
        now_(object_or_empty(object, "status")),
        was_(object_or_empty(old, "status")) {}
  void check(FieldErrors& errors) {
    errors_ = &errors;
    conditions();
    finished();
    indexes();
    exclusions();
    history();
  }

 private:
  bool changed(const char* field) const {
    const json::value* now = now_.if_contains(field);
    const json::value* was = was_.if_contains(field);
    return now == nullptr || was == nullptr ? now != was : *now != *was;
  }
  bool counter_changed(const char* field) const { return int_of(now_, field) != int_of(was_, field); }
  bool turned(const char* type) const { return is(now_, type) != is(was_, type); }
  void refuse(std::string why) {
    errors_->add({FieldErrorType::invalid, (path_ / "conditions").to_string(), "", std::move(why)});
  }

  void conditions() {
    const bool complete = is(now_, "Complete"), timed = now_.contains("completionTime");
    const bool completing = turned("Complete") || changed("completionTime");
    if ((turned("Complete") || turned("Failed")) && complete && is(now_, "Failed"))
      refuse("cannot set Complete=True and Failed=true conditions");
    if ((turned("Complete") || turned("FailureTarget")) && complete && is(now_, "FailureTarget"))
      refuse("cannot set Complete=True and FailureTarget=true conditions");
    if (completing && timed && !complete) {
      errors_->invalid(path_ / "completionTime", now_.at("completionTime"),
                       "cannot set completionTime when there is no Complete=True condition");
    }
    if (completing && !timed && complete)
      errors_->required(path_ / "completionTime", "completionTime is required for Complete jobs");
    if ((changed("startTime") || changed("completionTime")) && timed && now_.contains("startTime") &&
        text_of(now_, "completionTime") < text_of(now_, "startTime")) {  // RFC 3339 in UTC
      errors_->invalid(path_ / "completionTime", now_.at("completionTime"),
                       "completionTime cannot be set before startTime");
    }
    if ((turned("Failed") || turned("FailureTarget")) && is(now_, "Failed") && !is(now_, "FailureTarget"))
      refuse("cannot set Failed=True condition without the FailureTarget=true condition");
    if ((turned("Complete") || turned("SuccessCriteriaMet")) && complete && !is(now_, "SuccessCriteriaMet"))
      refuse("cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
  }

  void finished() {
    const bool ended = is_finished(now_), ending = ended != is_finished(was_);
    if (!ended) return;
    if ((ending || counter_changed("active")) && int_of(now_, "active") > 0) {
      errors_->invalid(path_ / "active", now_.at("active"), "active>0 is invalid for finished job");
    }
    if ((ending || changed("startTime")) && !now_.contains("startTime"))
      errors_->required(path_ / "startTime", "startTime is required for finished job");
    const json::object& uncounted = object_or_empty(now_, "uncountedTerminatedPods");
    if ((ending || changed("uncountedTerminatedPods")) &&
        !(array_or_empty(uncounted, "succeeded").empty() && array_or_empty(uncounted, "failed").empty())) {
      errors_->invalid(path_ / "uncountedTerminatedPods", json::value(uncounted),
                       "uncountedTerminatedPods needs to be empty for finished job");
    }
  }

  void indexes() {
    const bool good = changed("completedIndexes"), bad = changed("failedIndexes");
    const std::string_view completed = text_of(now_, "completedIndexes"),
                           failed = text_of(now_, "failedIndexes");
    const bool counted = spec_.contains("completions"), told = now_.contains("failedIndexes");
    const bool limited = spec_.contains("backoffLimitPerIndex");
    const std::int64_t completions = int_of(spec_, "completions");
    std::string wrong;
    if (good && counted && !count_indexes(completed, completions, wrong))
      errors_->invalid(path_ / "completedIndexes", completed, "error parsing completedIndexes: " + wrong);
    if (bad && counted && limited && told && !count_indexes(failed, completions, wrong))
      errors_->invalid(path_ / "failedIndexes", failed, "error parsing failedIndexes: " + wrong);
    if (good && !completed.empty() && text_of(spec_, "completionMode") != "Indexed") {
      errors_->invalid(path_ / "completedIndexes", completed,
                       "cannot set non-empty completedIndexes when non-indexed completion mode");
    }
    if (bad && !limited && told) {
      errors_->invalid(path_ / "failedIndexes", failed,
                       "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    }
    if (!(good || bad) || !counted || !told) return;
    if (const auto both = common_index(completed, failed, completions)) {
      errors_->invalid(path_ / "failedIndexes", failed,
                       "failedIndexes and completedIndexes overlap at index: " + number(*both));
    }
  }

  void exclusions() {
    const bool ended = is_finished(now_), ending = ended != is_finished(was_);
    if ((ending || counter_changed("terminating")) && ended && int_of(now_, "terminating") > 0) {
      errors_->invalid(path_ / "terminating", now_.at("terminating"),
                       "terminating>0 is invalid for finished job");
    }
    if ((counter_changed("ready") || counter_changed("active")) &&
        int_of(now_, "ready") > int_of(now_, "active")) {
      errors_->invalid(path_ / "ready", now_.at("ready"), "cannot set more ready pods than active");
    }
    const bool met = is(now_, "SuccessCriteriaMet");
    if (met && is(now_, "Failed")) refuse("cannot set SuccessCriteriaMet=True and Failed=true conditions");
    if (met && is(now_, "FailureTarget"))
      refuse("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    if (spec_.contains("successPolicy") && !met && is(now_, "Complete"))
      refuse("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
  }

  void history() {
    for (const char* type : {"Failed", "Complete", "FailureTarget"}) {
      if (is(was_, type) && !is(now_, type))
        refuse(std::string("cannot disable the terminal ") + type + "=True condition");
    }
    if (int_of(now_, "failed") < int_of(was_, "failed")) {
      errors_->invalid(path_ / "failed", json::value(int_of(now_, "failed")),
                       "cannot decrease the failed counter");
    }
    // Indexed Jobs that are as wide as they are long may be scaled down.
    const json::value* completions = spec_.if_contains("completions");
    const json::value* parallelism = spec_.if_contains("parallelism");
    const bool equal = completions == nullptr || parallelism == nullptr ? completions == parallelism
                                                                        : *completions == *parallelism;
    const bool shrinks = text_of(spec_, "completionMode") == "Indexed" && equal;
    if (!shrinks && int_of(now_, "succeeded") < int_of(was_, "succeeded")) {
      errors_->invalid(path_ / "succeeded", json::value(int_of(now_, "succeeded")),
                       "cannot decrease the succeeded counter");
    }
    if (now_.contains("completionTime") && was_.contains("completionTime") && changed("completionTime")) {
      errors_->invalid(path_ / "completionTime", now_.at("completionTime"),
                       "completionTime cannot be mutated");
    }
    if (was_.contains("startTime") && changed("startTime") && !flag_of(spec_, "suspend"))
      errors_->required(path_ / "startTime", "startTime cannot be removed for unsuspended job");
    const bool met = is(now_, "SuccessCriteriaMet"), was_met = is(was_, "SuccessCriteriaMet");
    if (was_met && !met) refuse("cannot disable the SuccessCriteriaMet=True condition");
    if (is(was_, "Complete") && !was_met && met)
      refuse("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions");
  }

  const json::object& spec_;
  const json::object& now_;
  const json::object& was_;
  const FieldPath path_{"status"};
  FieldErrors* errors_ = nullptr;
};

}  // namespace

void validate_job_status(const json::object& object, const json::object& old_object, FieldErrors& errors) {
  const json::object& status = object_or_empty(object, "status");
  const FieldPath path("status");
  for (const char* field : {"active", "succeeded", "failed", "ready", "terminating"})
    check_not_negative(status, field, path, errors);
  check_uncounted(status, path, errors);
  StatusChange(object, old_object).check(errors);
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
