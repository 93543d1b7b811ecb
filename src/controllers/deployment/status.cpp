// Counts and conditions of a Deployment (kubernetes/pkg/controller/deployment/progress.go, sync.go).
#include <algorithm>

#include "controllers/deployment/model.hpp"

namespace orchestra::controllers {

json::value counted_status(const DeploymentModel& model) {
  std::int64_t observed = 0;
  std::int64_t ready = 0;
  std::int64_t specified = 0;
  std::optional<std::int64_t> terminating = 0;  // known when each set that was ever counted says it
  model.each_set([&](const ReplicaSetModel& set) {
    const bool counted = set.object && int_at(tree(set.object), "/status/observedGeneration") != 0;
    if (set.terminating && terminating) {
      *terminating += *set.terminating;
    } else if (counted) {
      terminating.reset();
    }
    observed += set.observed;
    ready += set.ready;
    specified += set.replicas;
  });
  const std::int64_t available = model.total_available();
  json::value status = model.status;
  json::object& fields = status.get_object();
  const auto put = [&](const char* name, std::int64_t value) {
    if (value != 0) {
      fields[name] = value;
    } else {
      fields.erase(name);
    }
  };
  put("observedGeneration", model.object.generation());
  put("replicas", observed);
  put("updatedReplicas", model.new_set ? model.new_set->observed : 0);
  put("readyReplicas", ready);
  put("availableReplicas", available);
  put("unavailableReplicas", std::max<std::int64_t>(0, specified - available));
  if (terminating) {
    fields["terminatingReplicas"] = *terminating;
  } else {
    fields.erase("terminatingReplicas");
  }
  return status;
}

bool complete(const DeploymentModel& model, const json::value& status) {
  return int_at(status, "/updatedReplicas") == model.replicas &&
         int_at(status, "/replicas") == model.replicas &&
         int_at(status, "/availableReplicas") == model.replicas &&
         int_at(status, "/observedGeneration") >= model.object.generation();
}

namespace {

// More pods of the new template, fewer of the old ones, more ready or more available than before.
bool progressed(const json::value& before, const json::value& after) {
  const auto old_pods = [](const json::value& s) {
    return int_at(s, "/replicas") - int_at(s, "/updatedReplicas");
  };
  return int_at(after, "/updatedReplicas") > int_at(before, "/updatedReplicas") ||
         old_pods(after) < old_pods(before) ||
         int_at(after, "/readyReplicas") > int_at(before, "/readyReplicas") ||
         int_at(after, "/availableReplicas") > int_at(before, "/availableReplicas");
}

const json::object* progressing(const json::value& status) {
  const json::array* conditions = array_at(status, "/conditions");
  if (conditions == nullptr) return nullptr;
  for (const json::value& condition : *conditions) {
    if (string_at(condition, "/type") == "Progressing") return condition.if_object();
  }
  return nullptr;
}

// Steady progress keeps its transition time but moves its update time: that is the deadline's clock.
void refresh_progress(DeploymentModel& model, const std::string& message) {
  json::array& conditions = array_in(model.status, "/conditions");
  const json::object* current = progressing(model.status);
  const bool was_true = current != nullptr && string_at(*current, "/status") == "True";
  const std::string since = was_true ? string_at(*current, "/lastTransitionTime") : "";
  remove_condition(conditions, "Progressing");
  set_condition(conditions, {"Progressing", "True", "ReplicaSetUpdated", message}, model.now.wall_ns, true);
  if (!since.empty()) conditions.back().get_object()["lastTransitionTime"] = since;
}

// Time until the progress deadline; nullopt when no clock runs.
std::optional<Duration> deadline_left(const DeploymentModel& model) {
  const json::object* current = progressing(model.status);
  if (!model.progress_deadline || current == nullptr) return std::nullopt;
  const std::string reason = string_at(*current, "/reason");
  if (reason == "NewReplicaSetAvailable" || reason == "ProgressDeadlineExceeded" ||
      reason == "DeploymentPaused") {
    return std::nullopt;
  }
  const auto since = time_at(*current, "/lastUpdateTime");
  if (!since) return std::nullopt;
  // What this decision just wrote is as old as it is.
  const json::object* on_record = find_condition(tree(model.object), "Progressing");
  const bool known = on_record != nullptr &&
                     string_at(*on_record, "/lastUpdateTime") == string_at(*current, "/lastUpdateTime");
  return Duration(*model.progress_deadline * 1'000'000'000) - (known ? model.progress_age : Duration::zero());
}

void judge_progress(DeploymentModel& model, const json::value& before) {
  const std::string subject = model.new_set ? "ReplicaSet \"" + model.new_set->name + "\""
                                            : "Deployment \"" + model.object.name() + "\"";
  const json::object* current = progressing(model.status);
  const bool was_complete = int_at(model.status, "/replicas") == int_at(model.status, "/updatedReplicas") &&
                            current != nullptr && string_at(*current, "/reason") == "NewReplicaSetAvailable";
  if (was_complete) return;
  const auto left = deadline_left(model);
  if (complete(model, model.status)) {
    model.condition("Progressing", "True", "NewReplicaSetAvailable",
                    subject + " has successfully progressed.");
  } else if (progressed(before, model.status)) {
    refresh_progress(model, subject + " is progressing.");
  } else if (left && *left < Duration::zero()) {
    model.condition("Progressing", "False", "ProgressDeadlineExceeded",
                    subject + " has timed out progressing.");
  }
}

// A set that cannot create its pods is the deployment's trouble too.
void copy_replica_failure(DeploymentModel& model) {
  const json::object* failure =
      model.new_set ? find_condition(tree(model.new_set->object), "ReplicaFailure") : nullptr;
  for (const ReplicaSetModel& set : model.old_sets) {
    if (failure == nullptr) failure = find_condition(tree(set.object), "ReplicaFailure");
  }
  if (failure == nullptr) {
    if (find_condition(tree(model.object), "ReplicaFailure") != nullptr) {
      remove_condition(array_in(model.status, "/conditions"), "ReplicaFailure");
    }
    return;
  }
  const std::string status = string_at(*failure, "/status");
  const std::string reason = string_at(*failure, "/reason");
  model.condition("ReplicaFailure", status.c_str(), reason.c_str(), string_at(*failure, "/message"));
}

}  // namespace

void write_progress(DeploymentModel& model) {
  const json::value before = model.status;
  model.status = counted_status(model);
  if (model.total_available() >= model.min_available()) {
    model.condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.");
  } else {
    model.condition("Available", "False", "MinimumReplicasUnavailable",
                    "Deployment does not have minimum availability.");
  }
  if (!model.progress_deadline) {
    if (progressing(model.status) != nullptr)
      remove_condition(array_in(model.status, "/conditions"), "Progressing");
  } else if (!model.paused) {
    judge_progress(model, before);
  }
  copy_replica_failure(model);
  if (model.paused) return;
  // One second more: times in conditions are whole seconds.
  if (const auto left = deadline_left(model)) {
    model.actions.requeue(std::max(*left, Duration::zero()) + std::chrono::seconds(1));
  }
}

}  // namespace orchestra::controllers
