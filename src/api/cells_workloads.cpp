// Rows of Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job and CronJob.
#include <algorithm>
#include <set>

#include "api/cells.hpp"
#include "api/meta.hpp"
#include "api/select.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

std::string fraction(std::int64_t a, std::int64_t b) { return std::to_string(a) + "/" + std::to_string(b); }

bool condition_is(const json::object& status, std::string_view type, std::string_view value) {
  bool found = false;
  for_each_object(status, "conditions", [&](std::size_t, const json::object& condition) {
    found = found || (text_of(condition, "type") == type && text_of(condition, "status") == value);
  });
  return found;
}

/// `Signal:9` or `ExitCode:1`.
std::string end_of(const json::object& terminated) {
  const std::int64_t signal = int_of(terminated, "signal");
  return signal != 0 ? "Signal:" + std::to_string(signal)
                     : "ExitCode:" + std::to_string(int_of(terminated, "exitCode"));
}

/// The computed words of a pod's row: printPod, step by step.
class PodWords {
 public:
  explicit PodWords(const json::object& pod)
      : meta_(object_or_empty(pod, "metadata")),
        spec_(object_or_empty(pod, "spec")),
        status_(object_or_empty(pod, "status")) {
    const std::string_view phase = text_of(status_, "phase"), why = text_of(status_, "reason");
    reason_ = why.empty() ? phase : why;
    for_each_object(status_, "conditions", [&](std::size_t, const json::object& condition) {
      if (text_of(condition, "type") == "PodScheduled" && text_of(condition, "reason") == "SchedulingGated")
        reason_ = "SchedulingGated";
    });
    total_ = static_cast<std::int64_t>(array_or_empty(spec_, "containers").size());
    for_each_object(spec_, "initContainers", [&](std::size_t, const json::object& container) {
      if (text_of(container, "restartPolicy") != "Always") return;
      sidecars_.insert(text_of(container, "name"));
      ++total_;
    });
    const bool initializing = read_init_containers();
    if (!initializing || condition_is(status_, "Initialized", "True")) read_containers();
    if (!meta_.contains("deletionTimestamp")) return;
    if (text_of(status_, "reason") == "NodeLost")
      reason_ = "Unknown";
    else if (phase != "Succeeded" && phase != "Failed")
      reason_ = "Terminating";
  }

  std::string ready() const { return fraction(ready_, total_); }
  const std::string& reason() const { return reason_; }
  std::string restarts(Now now) const {
    if (restarts_ == 0 || !last_restart_) return std::to_string(restarts_);
    return std::to_string(restarts_) + " (" + age(format_time(*last_restart_), now) + " ago)";
  }

 private:
  static void note_restart(const json::object& container, std::optional<std::int64_t>& last) {
    const json::object& terminated = object_or_empty(object_or_empty(container, "lastState"), "terminated");
    const std::optional<std::int64_t> end = parse_time(text_of(terminated, "finishedAt"));
    if (end && (!last || *last < *end)) last = end;
  }
  /// True if an init container has not done its part yet.
  bool read_init_containers() {
    const std::size_t count = array_or_empty(spec_, "initContainers").size();
    std::size_t index = 0;
    for (const json::value& item : array_or_empty(status_, "initContainerStatuses")) {
      const std::size_t at = index++;
      if (!item.is_object()) continue;
      const json::object& container = item.get_object();
      const bool sidecar = sidecars_.count(text_of(container, "name")) != 0;
      restarts_ += int_of(container, "restartCount");
      note_restart(container, last_restart_);
      if (sidecar) {
        sidecar_restarts_ += int_of(container, "restartCount");
        note_restart(container, last_sidecar_restart_);
      }
      const json::object& state = object_or_empty(container, "state");
      const json::object* terminated = object_of(state, "terminated");
      if (terminated != nullptr && int_of(*terminated, "exitCode") == 0) continue;
      if (sidecar && flag_of(container, "started")) {
        if (flag_of(container, "ready")) ++ready_;
        continue;
      }
      const std::string_view waiting = text_of(object_or_empty(state, "waiting"), "reason");
      if (terminated != nullptr) {
        const std::string_view why = text_of(*terminated, "reason");
        reason_ = "Init:" + (why.empty() ? end_of(*terminated) : std::string(why));
      } else if (!waiting.empty() && waiting != "PodInitializing") {
        reason_ = "Init:" + std::string(waiting);
      } else {
        reason_ = "Init:" + std::to_string(at) + "/" + std::to_string(count);
      }
      return true;
    }
    return false;
  }
  void read_containers() {
    restarts_ = sidecar_restarts_;
    last_restart_ = last_sidecar_restart_;
    bool running = false;
    const json::array& containers = array_or_empty(status_, "containerStatuses");
    for (auto item = containers.rbegin(); item != containers.rend(); ++item) {
      if (!item->is_object()) continue;
      const json::object& container = item->get_object();
      restarts_ += int_of(container, "restartCount");
      note_restart(container, last_restart_);
      const json::object& state = object_or_empty(container, "state");
      const std::string_view waiting = text_of(object_or_empty(state, "waiting"), "reason");
      const json::object* terminated = object_of(state, "terminated");
      if (!waiting.empty()) {
        reason_ = waiting;
      } else if (terminated != nullptr) {
        const std::string_view why = text_of(*terminated, "reason");
        reason_ = why.empty() ? end_of(*terminated) : std::string(why);
      } else if (flag_of(container, "ready") && state.contains("running")) {
        running = true;
        ++ready_;
      }
    }
    if (reason_ == "Completed" && running)
      reason_ = condition_is(status_, "Ready", "True") ? "Running" : "NotReady";
  }

  const json::object& meta_;
  const json::object& spec_;
  const json::object& status_;
  std::set<std::string_view> sidecars_;
  std::string reason_;
  std::int64_t total_ = 0, ready_ = 0, restarts_ = 0, sidecar_restarts_ = 0;
  std::optional<std::int64_t> last_restart_, last_sidecar_restart_;
};

std::string readiness_gates(const json::object& spec, const json::object& status) {
  std::int64_t gates = 0, met = 0;
  for_each_object(spec, "readinessGates", [&](std::size_t, const json::object& gate) {
    ++gates;
    if (condition_is(status, text_of(gate, "conditionType"), "True")) ++met;
  });
  return gates == 0 ? "<none>" : fraction(met, gates);
}

const json::object& template_spec(const json::object& spec) {
  return object_or_empty(object_or_empty(spec, "template"), "spec");
}

void add_wide(const json::object& spec, bool selector, json::array& cells) {
  const auto [names, images] = container_words(template_spec(spec));
  cells.emplace_back(names);
  cells.emplace_back(images);
  if (selector) cells.emplace_back(format_selector(spec));
}

const char* job_status(const json::object& job, const json::object& status) {
  if (condition_is(status, "Complete", "True")) return "Complete";
  if (condition_is(status, "Failed", "True")) return "Failed";
  if (object_or_empty(job, "metadata").contains("deletionTimestamp")) return "Terminating";
  for (const char* type : {"Suspended", "FailureTarget", "SuccessCriteriaMet"}) {
    if (condition_is(status, type, "True")) return type;
  }
  return "Running";
}

std::string job_completions(const json::object& spec, std::int64_t done) {
  if (spec.contains("completions")) return fraction(done, int_of(spec, "completions"));
  const std::int64_t parallelism = int_of(spec, "parallelism");
  return parallelism > 1 ? fraction(done, 1) + " of " + std::to_string(parallelism) : fraction(done, 1);
}

}  // namespace

void pod_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  const PodWords words(object);
  cells.emplace_back(words.ready());
  cells.emplace_back(words.reason());
  cells.emplace_back(words.restarts(now));
  cells.emplace_back(age_of(object, now));
  cells.emplace_back(or_none(text_of(status, "podIP")));
  cells.emplace_back(or_none(text_of(spec, "nodeName")));
  cells.emplace_back(or_none(text_of(status, "nominatedNodeName")));
  cells.emplace_back(readiness_gates(spec, status));
}

std::pair<std::string, std::string> pod_row_completed(const json::object& object) {
  const std::string_view phase = text_of(object_or_empty(object, "status"), "phase");
  if (phase == "Succeeded") return {"Succeeded", "The pod has completed successfully."};
  if (phase == "Failed") return {"Failed", "The pod failed."};
  return {};
}

void pod_template_cells(const json::object& object, Now, json::array& cells) {
  const json::object& pod = object_or_empty(object, "template");
  const auto [names, images] = container_words(object_or_empty(pod, "spec"));
  cells.emplace_back(names);
  cells.emplace_back(images);
  cells.emplace_back(format_labels(object_or_empty(object_or_empty(pod, "metadata"), "labels")));
}

void deployment_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  cells.emplace_back(fraction(int_of(status, "readyReplicas"), int_of(spec, "replicas")));
  cells.emplace_back(int_of(status, "updatedReplicas"));
  cells.emplace_back(int_of(status, "availableReplicas"));
  cells.emplace_back(age_of(object, now));
  add_wide(spec, true, cells);
}

void replica_set_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  cells.emplace_back(int_of(spec, "replicas"));
  cells.emplace_back(int_of(status, "replicas"));
  cells.emplace_back(int_of(status, "readyReplicas"));
  cells.emplace_back(age_of(object, now));
  // A ReplicationController's selector is a plain map.
  const json::object& selector = object_or_empty(spec, "selector");
  const bool plain =
      !selector.empty() && !selector.contains("matchLabels") && !selector.contains("matchExpressions");
  add_wide(spec, !plain, cells);
  if (plain) cells.emplace_back(format_labels(selector));
}

void stateful_set_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  cells.emplace_back(
      fraction(int_of(object_or_empty(object, "status"), "readyReplicas"), int_of(spec, "replicas")));
  cells.emplace_back(age_of(object, now));
  add_wide(spec, false, cells);
}

void daemon_set_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  for (const char* field : {"desiredNumberScheduled", "currentNumberScheduled", "numberReady",
                            "updatedNumberScheduled", "numberAvailable"}) {
    cells.emplace_back(int_of(status, field));
  }
  cells.emplace_back(format_labels(object_or_empty(template_spec(spec), "nodeSelector")));
  cells.emplace_back(age_of(object, now));
  add_wide(spec, true, cells);
}

void controller_revision_cells(const json::object& object, Now now, json::array& cells) {
  std::string controller = "<none>";
  for_each_object(
      object_or_empty(object, "metadata"), "ownerReferences", [&](std::size_t, const json::object& owner) {
        if (!flag_of(owner, "controller")) return;
        const auto [group, version] = split_api_version(text_of(owner, "apiVersion"));
        std::string kind(text_of(owner, "kind"));
        std::transform(kind.begin(), kind.end(), kind.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
        controller = kind + (group.empty() ? "" : "." + group) + "/" + std::string(text_of(owner, "name"));
      });
  cells.emplace_back(controller);
  cells.emplace_back(int_of(object, "revision"));
  cells.emplace_back(age_of(object, now));
}

void job_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  cells.emplace_back(job_status(object, status));
  cells.emplace_back(job_completions(spec, int_of(status, "succeeded")));
  const std::string_view start = text_of(status, "startTime");
  const std::optional<std::int64_t> end = parse_time(text_of(status, "completionTime"));
  cells.emplace_back(start.empty() ? std::string() : age(start, {.wall_ns = end.value_or(now.wall_ns)}));
  cells.emplace_back(age_of(object, now));
  add_wide(spec, true, cells);
}

void cron_job_cells(const json::object& object, Now now, json::array& cells) {
  const json::object& spec = object_or_empty(object, "spec");
  const json::object& status = object_or_empty(object, "status");
  cells.emplace_back(json::string(text_of(spec, "schedule")));
  cells.emplace_back(or_none(text_of(spec, "timeZone")));
  cells.emplace_back(flag_of(spec, "suspend") ? "True" : "False");
  cells.emplace_back(static_cast<std::int64_t>(array_or_empty(status, "active").size()));
  const std::string_view last = text_of(status, "lastScheduleTime");
  cells.emplace_back(last.empty() ? std::string("<none>") : age(last, now));
  cells.emplace_back(age_of(object, now));
  add_wide(object_or_empty(object_or_empty(spec, "jobTemplate"), "spec"), true, cells);
}

}  // namespace orchestra::api
