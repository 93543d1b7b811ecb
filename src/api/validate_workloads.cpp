// Rules of Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController: pkg/apis/apps/validation
// and pkg/apis/core/validation (ReplicationController).
#include <algorithm>

#include "api/meta.hpp"
#include "api/select.hpp"
#include "api/tree.hpp"
#include "api/type_hooks.hpp"
#include "api/validate_hooks.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

/// What the messages of a kind say about it.
struct Words {
  const char* empty_selector;  ///< "empty selector is invalid for deployment"
  const char* deadline;        ///< the kind in "activeDeadlineSeconds in ReplicaSet is not Supported"
  const char* bad_selector;    ///< beside a selector that cannot be read; null: nothing
};
constexpr Words kReplicas{"empty selector is invalid for deployment", "ReplicaSet", "invalid label selector"};
constexpr Words kStateful{"empty selector is invalid for statefulset", "StatefulSet", ""};
constexpr Words kDaemon{"empty selector is invalid for daemonset", "DaemonSet", nullptr};

/// The selector selects something, and the template's labels are selected by it.
void check_selector(const json::object& spec, const Words& words, const FieldPath& path,
                    FieldErrors& errors) {
  const json::value* selector = spec.if_contains("selector");
  if (selector == nullptr || !selector->is_object()) return;  // `required` is reported by the schema
  if (selector->get_object().empty()) errors.invalid(path / "selector", *selector, words.empty_selector);
  const Result<Selector> parsed = selector_of(selector);
  if (!parsed) {
    if (words.bad_selector != nullptr) errors.invalid(path / "selector", *selector, words.bad_selector);
    return;
  }
  const json::value* pod = spec.if_contains("template");
  if (pod == nullptr || parsed->matches(labels_of(*pod))) return;
  const FieldPath at = path / "template";
  const json::value* found = find(*pod, "/metadata/labels");
  errors.invalid(at / "metadata" / "labels", found == nullptr ? json::value(nullptr) : *found,
                 "`selector` does not match template `labels`");
}

/// Pods of a long-running workload always restart.
void check_template(const json::object& spec, const Words& words, const FieldPath& path,
                    FieldErrors& errors) {
  const json::object& pod_spec = object_or_empty(object_or_empty(spec, "template"), "spec");
  const FieldPath at = path / "template";
  const FieldPath below = at / "spec";
  const json::value* policy = pod_spec.if_contains("restartPolicy");
  if (policy != nullptr && text_of(pod_spec, "restartPolicy") != "Always")
    errors.not_supported(below / "restartPolicy", *policy, {"Always"});
  if (pod_spec.contains("activeDeadlineSeconds")) {
    errors.forbidden(below / "activeDeadlineSeconds",
                     std::string("activeDeadlineSeconds in ") + words.deadline + " is not Supported");
  }
}

/// A type that the schema lets pass and the messages call by the whole strategy.
void check_strategy_type(const json::object& strategy, std::initializer_list<std::string_view> valid,
                         const FieldPath& path, FieldErrors& errors) {
  const std::string_view type = text_of(strategy, "type");
  if (std::find(valid.begin(), valid.end(), type) == valid.end())
    errors.not_supported(path, json::value(strategy), valid);
}

const json::value& value_or_zero(const json::object& object, const char* field) {
  static const json::value kZero(0);
  const json::value* found = object.if_contains(field);
  return found == nullptr ? kZero : *found;
}

void check_collisions(const json::object& status, const json::object& old, const FieldPath& path,
                      FieldErrors& errors) {
  const std::int64_t now = int_of(status, "collisionCount");
  if (old.contains("collisionCount") &&
      (!status.contains("collisionCount") || now < int_of(old, "collisionCount")))
    errors.invalid(path / "collisionCount", json::value(now), "cannot be decremented");
}

/// Counts of a status: none negative, each at most `replicas`, available at most ready.
void check_counts(const json::object& status, std::initializer_list<const char*> fields,
                  std::string_view ready_words, const FieldPath& path, FieldErrors& errors) {
  const std::int64_t replicas = int_of(status, "replicas");
  for (const char* field :
       {"observedGeneration", "replicas", "unavailableReplicas", "terminatingReplicas", "collisionCount"})
    check_not_negative(status, field, path, errors);
  for (const char* field : fields) {
    check_not_negative(status, field, path, errors);
    if (int_of(status, field) > replicas)
      errors.invalid(path / field, json::value(int_of(status, field)),
                     "cannot be greater than status.replicas");
  }
  const std::int64_t available = int_of(status, "availableReplicas");
  if (available > int_of(status, "readyReplicas"))
    errors.invalid(path / "availableReplicas", json::value(available), ready_words);
}

}  // namespace

void validate_deployment(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  check_not_negative(spec, "replicas", path, errors);
  check_selector(spec, kReplicas, path, errors);
  check_template(spec, kReplicas, path, errors);
  const json::object& strategy = object_or_empty(spec, "strategy");
  const FieldPath at = path / "strategy";
  const FieldPath below = at / "rollingUpdate";
  const json::object* rolling = object_of(strategy, "rollingUpdate");
  check_strategy_type(strategy, {"Recreate", "RollingUpdate"}, at, errors);
  if (text_of(strategy, "type") == "Recreate") {
    if (rolling != nullptr)
      errors.forbidden(below, "may not be specified when strategy `type` is 'Recreate'");
  } else if (rolling != nullptr && text_of(strategy, "type") == "RollingUpdate") {
    check_int_or_percent(*rolling, "maxUnavailable", below, errors);
    check_int_or_percent(*rolling, "maxSurge", below, errors);
    if (int_or_percent_value(*rolling, "maxUnavailable") == 0 &&
        int_or_percent_value(*rolling, "maxSurge") == 0) {
      errors.invalid(below / "maxUnavailable", value_or_zero(*rolling, "maxUnavailable"),
                     "may not be 0 when `maxSurge` is 0");
    }
    check_at_most_100_percent(*rolling, "maxUnavailable", below, errors);
  }
  for (const char* field : {"minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"})
    check_not_negative(spec, field, path, errors);
  const json::value* deadline = spec.if_contains("progressDeadlineSeconds");
  if (deadline != nullptr && deadline->is_int64() && deadline->get_int64() <= int_of(spec, "minReadySeconds"))
    errors.invalid(path / "progressDeadlineSeconds", *deadline, "must be greater than minReadySeconds");
}

void validate_replica_set(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  for (const char* field : {"replicas", "minReadySeconds"}) check_not_negative(spec, field, path, errors);
  check_selector(spec, kReplicas, path, errors);
  check_template(spec, kReplicas, path, errors);
}

void validate_replication_controller(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  for (const char* field : {"minReadySeconds", "replicas"}) check_not_negative(spec, field, path, errors);
  const json::object& selector = object_or_empty(spec, "selector");
  const json::object* pod = object_of(spec, "template");
  if (selector.empty()) errors.required(path / "selector");
  if (pod == nullptr) return errors.required(path / "template");
  const json::object& labels = object_or_empty(object_or_empty(*pod, "metadata"), "labels");
  const bool matches = std::all_of(selector.begin(), selector.end(), [&](const auto& member) {
    const json::value* value = labels.if_contains(member.key());
    return value != nullptr && *value == member.value();
  });
  const FieldPath at = path / "template";
  if (!matches) {
    errors.invalid(at / "metadata" / "labels", json::value(labels),
                   "`selector` does not match template `labels`");
  }
  check_template(spec, Words{"", "ReplicationController", nullptr}, path, errors);
}

void validate_stateful_set(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  const std::string_view management = text_of(spec, "podManagementPolicy");
  if (management != "OrderedReady" && management != "Parallel")
    errors.invalid(path / "podManagementPolicy", management, "must be 'OrderedReady' or 'Parallel'");
  const json::object& strategy = object_or_empty(spec, "updateStrategy");
  const FieldPath at = path / "updateStrategy";
  const FieldPath below = at / "rollingUpdate";
  const std::string_view type = text_of(strategy, "type");
  const json::object* rolling = object_of(strategy, "rollingUpdate");
  if (type == "OnDelete") {
    if (rolling != nullptr)
      errors.invalid(below, json::value(*rolling), "only allowed for updateStrategy 'RollingUpdate'");
  } else if (type != "RollingUpdate") {
    errors.invalid(at, json::value(strategy), "must be 'RollingUpdate' or 'OnDelete'");
  } else if (rolling != nullptr) {
    check_not_negative(*rolling, "partition", below, errors);
    if (rolling->contains("maxUnavailable")) {
      check_int_or_percent(*rolling, "maxUnavailable", below, errors);
      if (int_or_percent_value(*rolling, "maxUnavailable") == 0)
        errors.invalid(below / "maxUnavailable", rolling->at("maxUnavailable"), "cannot be 0");
      check_at_most_100_percent(*rolling, "maxUnavailable", below, errors);
    }
  }
  for (const char* field : {"replicas", "minReadySeconds"}) check_not_negative(spec, field, path, errors);
  if (int_of(object_or_empty(spec, "ordinals"), "start") < 0) {
    errors.invalid(path / "ordinals.start", json::value(int_of(object_or_empty(spec, "ordinals"), "start")),
                   kNotNegativeText);
  }
  check_selector(spec, kStateful, path, errors);
  check_template(spec, kStateful, path, errors);
}

void validate_stateful_set_create(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  const std::string_view service = text_of(spec, "serviceName");
  if (!service.empty()) check_text(service, check_dns1123_label(service), path / "serviceName", errors);
  const FieldPath claims = path / "volumeClaimTemplates";
  for_each_object(spec, "volumeClaimTemplates", [&](std::size_t i, const json::object& claim) {
    const FieldPath at = claims[i];
    check_claim_spec(object_or_empty(claim, "spec"), at / "spec", errors);
  });
}

void validate_daemon_set(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath path("spec");
  check_selector(spec, kDaemon, path, errors);
  check_template(spec, kDaemon, path, errors);
  for (const char* field : {"minReadySeconds", "revisionHistoryLimit"})
    check_not_negative(spec, field, path, errors);
  const json::object& strategy = object_or_empty(spec, "updateStrategy");
  const FieldPath at = path / "updateStrategy";
  const FieldPath below = at / "rollingUpdate";
  check_strategy_type(strategy, {"RollingUpdate", "OnDelete"}, at, errors);
  const json::object* rolling = object_of(strategy, "rollingUpdate");
  if (text_of(strategy, "type") != "RollingUpdate") return;
  if (rolling == nullptr) return errors.required(below);
  for (const char* field : {"maxUnavailable", "maxSurge"})
    check_int_or_percent(*rolling, field, below, errors);
  for (const char* field : {"maxUnavailable", "maxSurge"})
    check_at_most_100_percent(*rolling, field, below, errors);
  const bool missing = int_or_percent_value(*rolling, "maxUnavailable") != 0;
  const bool surging = int_or_percent_value(*rolling, "maxSurge") != 0;
  if (missing && surging) {
    errors.invalid(below / "maxSurge", rolling->at("maxSurge"),
                   "may not be set when maxUnavailable is non-zero");
  } else if (!missing && !surging) {
    errors.required(below / "maxUnavailable", "cannot be 0 when maxSurge is 0");
  }
}

void validate_selector_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath path("spec");
  require_same(object_or_empty(object, "spec").if_contains("selector"),
               object_or_empty(old, "spec").if_contains("selector"), path / "selector", errors);
}

void validate_stateful_set_update(const json::object& object, const json::object& old, FieldErrors& errors) {
  json::object now = object_or_empty(object, "spec"), before = object_or_empty(old, "spec");
  // Sets stored by earlier versions have claims without a kind.
  run_default_hook(TypeHook::stateful_set_spec, before);
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

void validate_deployment_status(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath path("status");
  const json::object& status = object_or_empty(object, "status");
  check_counts(status, {"updatedReplicas", "readyReplicas", "availableReplicas"},
               "cannot be greater than readyReplicas", path, errors);
  check_collisions(status, object_or_empty(old, "status"), path, errors);
}

void validate_replica_set_status(const json::object& object, const json::object&, FieldErrors& errors) {
  check_counts(object_or_empty(object, "status"),
               {"fullyLabeledReplicas", "readyReplicas", "availableReplicas"},
               "cannot be greater than readyReplicas", FieldPath("status"), errors);
}

void validate_stateful_set_status(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath path("status");
  const json::object& status = object_or_empty(object, "status");
  check_counts(status, {"readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"},
               "cannot be greater than status.readyReplicas", path, errors);
  check_collisions(status, object_or_empty(old, "status"), path, errors);
}

void validate_daemon_set_status(const json::object& object, const json::object& old, FieldErrors& errors) {
  const FieldPath path("status");
  const json::object& status = object_or_empty(object, "status");
  for (const char* field : {"currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled",
                            "numberReady", "observedGeneration", "updatedNumberScheduled", "numberAvailable",
                            "numberUnavailable", "collisionCount"})
    check_not_negative(status, field, path, errors);
  check_collisions(status, object_or_empty(old, "status"), path, errors);
}

void validate_label_selector(const json::object& selector, const FieldPath& path, FieldErrors& errors) {
  validate_labels(selector.if_contains("matchLabels"), path / "matchLabels", errors);
  const FieldPath list = path / "matchExpressions";
  for_each_object(selector, "matchExpressions", [&](std::size_t i, const json::object& expression) {
    const FieldPath at = list[i];
    const FieldPath values_path = at / "values";
    const std::string_view key = text_of(expression, "key"), op = text_of(expression, "operator");
    const json::array& values = array_or_empty(expression, "values");
    if (op == "In" || op == "NotIn") {
      if (values.empty())
        errors.required(values_path, "must be specified when `operator` is 'In' or 'NotIn'");
    } else if (op == "Exists" || op == "DoesNotExist") {
      if (!values.empty()) {
        errors.forbidden(values_path, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
      }
    } else {
      errors.invalid(at / "operator", op, "not a valid selector operator");
    }
    check_text(key, check_qualified_name(key), at / "key", errors);
    std::size_t index = 0;
    for (const json::value& value : values) {
      const FieldPath here = values_path[index++];
      if (value.is_string())
        check_text(value.get_string(), check_label_value(value.get_string()), here, errors);
    }
  });
}

void require_same(const json::value* now, const json::value* before, const FieldPath& path,
                  FieldErrors& errors) {
  const bool same = now == nullptr || before == nullptr ? now == before : *now == *before;
  if (!same) errors.invalid(path, now == nullptr ? json::value(nullptr) : *now, "field is immutable");
}

}  // namespace orchestra::api
