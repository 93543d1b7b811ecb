#include "node/pod_status.hpp"

#include <algorithm>

#include "api/meta.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::node {

namespace {
using api::format_time;

const json::array* containers_of(const PodView& view, bool init) {
  return array_at(*view.pod, init ? "/spec/initContainers" : "/spec/containers");
}
bool is_sidecar(const json::value& container) { return string_at(container, "/restartPolicy") == "Always"; }

const ContainerView& view_of(const PodView& view, const json::value& container) {
  static const ContainerView kNone;
  const auto it = view.containers.find(string_at(container, "/name"));
  return it == view.containers.end() ? kNone : it->second;
}
bool running(const ContainerView& c) { return c.current && c.current->state == ContainerState::running; }
bool ended(const ContainerView& c) {
  return c.current &&
         (c.current->state == ContainerState::exited || c.current->state == ContainerState::unknown);
}
bool succeeded(const ContainerView& c) { return ended(c) && c.current->exit_code == 0; }

std::string terminated_reason(const ContainerStatus& status) {
  if (status.oom_killed) return "OOMKilled";
  if (!status.exit_code) return "ContainerStatusUnknown";
  if (!status.reason.empty()) return "StartError";
  return *status.exit_code == 0 ? "Completed" : "Error";
}

json::object terminated(const ContainerStatus& status, const std::string& message) {
  json::object out;
  out["exitCode"] = status.exit_code.value_or(137);
  if (status.signal != 0) out["signal"] = status.signal;
  out["reason"] = terminated_reason(status);
  const std::string text = !message.empty() ? message : status.reason;
  if (!text.empty()) out["message"] = text;
  if (status.started_ns != 0) out["startedAt"] = format_time(status.started_ns);
  if (status.finished_ns != 0) out["finishedAt"] = format_time(status.finished_ns);
  out["containerID"] = "orchestra://" + status.id;
  return out;
}

json::object waiting(const std::string& reason, const std::string& message) {
  json::object out{{"reason", reason}};
  if (!message.empty()) out["message"] = message;
  return out;
}

json::object container_status(const json::value& spec, const ContainerView& c,
                              const std::string& default_reason) {
  json::object out;
  out["name"] = string_at(spec, "/name");
  json::object state, last;
  if (running(c)) {
    state["running"] = json::object{{"startedAt", format_time(c.current->started_ns)}};
  } else if (ended(c) && c.waiting_reason.empty()) {
    state["terminated"] = terminated(*c.current, c.termination_message);
  } else {
    state["waiting"] =
        waiting(c.waiting_reason.empty() ? default_reason : c.waiting_reason, c.waiting_message);
  }
  // A container that waits for its restart shows the end of the attempt before as its last state.
  if (ended(c) && !c.waiting_reason.empty()) {
    last["terminated"] = terminated(*c.current, c.termination_message);
  } else if (c.last) {
    last["terminated"] = terminated(*c.last, c.last_termination_message);
  }
  out["state"] = std::move(state);
  out["lastState"] = std::move(last);
  out["ready"] = c.ready && (running(c) || succeeded(c));
  out["restartCount"] = c.restarts;
  out["image"] = c.current && !c.current->image.empty() ? c.current->image : string_at(spec, "/image");
  out["imageID"] = c.current ? c.current->image_id : "";
  if (c.current) out["containerID"] = "orchestra://" + c.current->id;
  out["started"] = c.started && running(c);
  const json::object* resources = c.resources.if_object();
  if (running(c) && resources != nullptr && !resources->empty()) {
    if (const json::object* requests = object_at(spec, "/resources/requests"))
      out["allocatedResources"] = *requests;
    out["resources"] = *resources;
  }
  return out;
}

/// Sets one condition, keeping its transition time unless the value changes.
void set_condition(json::array& conditions, const char* type, bool value, const std::string& reason,
                   const std::string& message, std::int64_t generation, Now now) {
  const char* text = value ? "True" : "False";
  json::object* found = nullptr;
  for (json::value& condition : conditions) {
    if (string_at(condition, "/type") == type) found = condition.if_object();
  }
  if (found == nullptr) {
    conditions.push_back(json::object{{"type", type}, {"status", ""}, {"lastProbeTime", nullptr}});
    found = &conditions.back().get_object();
  }
  if (string_at(json::value(*found), "/status") != text)
    (*found)["lastTransitionTime"] = format_time(now.wall_ns);
  (*found)["status"] = text;
  if (generation != 0) (*found)["observedGeneration"] = generation;
  found->erase("reason");
  found->erase("message");
  if (!reason.empty()) (*found)["reason"] = reason;
  if (!message.empty()) (*found)["message"] = message;
}

void remove_condition(json::array& conditions, std::string_view type) {
  json::array kept;
  for (json::value& condition : conditions) {
    if (string_at(condition, "/type") != type) kept.push_back(std::move(condition));
  }
  conditions = std::move(kept);
}

std::string unready_names(const PodView& view, bool init) {
  std::string names;
  if (const json::array* all = containers_of(view, init)) {
    for (const json::value& spec : *all) {
      const ContainerView& c = view_of(view, spec);
      const bool fine =
          init ? (is_sidecar(spec) ? c.started && running(c) : succeeded(c)) : (c.ready && running(c));
      if (!fine) names += (names.empty() ? "" : " ") + string_at(spec, "/name");
    }
  }
  return names;
}

json::array statuses(const PodView& view, bool init, bool initialized) {
  json::array out;
  if (const json::array* all = containers_of(view, init)) {
    for (const json::value& spec : *all) {
      json::object status =
          container_status(spec, view_of(view, spec), initialized ? "ContainerCreating" : "PodInitializing");
      if (init && !is_sidecar(spec)) status["ready"] = succeeded(view_of(view, spec));
      out.push_back(std::move(status));
    }
  }
  return out;
}
}  // namespace

bool restarts(const json::value& pod, const json::value& container, bool init, std::optional<int> exit_code) {
  if (const json::array* rules = array_at(container, "/restartPolicyRules"); rules != nullptr && exit_code) {
    for (const json::value& rule : *rules) {
      const json::array* values = array_at(rule, "/exitCodes/values");
      const bool named =
          values != nullptr && std::any_of(values->begin(), values->end(), [&](const json::value& one) {
            return one.is_number() && one.to_number<std::int64_t>() == *exit_code;
          });
      if (string_at(rule, "/action") == "Restart" &&
          named == (string_at(rule, "/exitCodes/operator") == "In"))
        return true;
    }
  }
  const std::string own = string_at(container, "/restartPolicy");
  const std::string policy = !own.empty() ? own : string_at(pod, "/spec/restartPolicy", "Always");
  const bool good = exit_code == 0;
  if (init && own == "Always") return true;
  if (init) return !good && policy != "Never";
  return policy == "Always" || (policy == "OnFailure" && !good);
}

PodSummary summarise(const PodView& view) {
  PodSummary out;
  bool init_failed = false;
  out.initialized = true;
  if (const json::array* init = containers_of(view, true)) {
    for (const json::value& spec : *init) {
      const ContainerView& c = view_of(view, spec);
      const bool done = is_sidecar(spec) ? c.started && running(c) : succeeded(c);
      if (!done) out.initialized = false;
      if (ended(c) && !succeeded(c) && !restarts(*view.pod, spec, true, c.current->exit_code))
        init_failed = true;
    }
  }
  std::size_t total = 0, up = 0, fine = 0, failed = 0, waits = 0, ready = 0, again = 0;
  const bool any_up = std::any_of(view.containers.begin(), view.containers.end(),
                                  [](const auto& each) { return running(each.second); });
  if (const json::array* all = containers_of(view, false)) {
    for (const json::value& spec : *all) {
      const ContainerView& c = view_of(view, spec);
      ++total;
      if (ended(c) && restarts(*view.pod, spec, false, c.current->exit_code)) ++again;
      if (running(c)) {
        ++up;
        if (c.ready) ++ready;
      } else if (succeeded(c)) {
        ++fine;
      } else if (ended(c)) {
        ++failed;
      } else {
        ++waits;
      }
    }
  }
  // Init is not done again while the pod runs: a sidecar that is started anew does not take it back.
  const bool began = up + fine + failed > 0;
  if (began) out.initialized = true;
  out.containers_ready = total > 0 && ready == total;
  const bool stopped = view.terminating && up == 0;
  if (!view.reason.empty()) {
    out.phase = "Failed";
  } else if (init_failed) {
    out.phase = "Failed";
  } else if (fine + failed == 0 && up == 0 && stopped && waits == total && out.initialized) {
    out.phase = "Pending";
  } else if (!out.initialized || (waits > 0 && up + fine + failed == 0)) {
    out.phase = "Pending";
  } else if (up > 0 || waits > 0) {
    out.phase = waits > 0 && up == 0 && fine + failed == 0 ? "Pending" : "Running";
  } else if (again > 0 && !stopped) {
    out.phase = "Running";
  } else {
    out.phase = failed == 0 ? "Succeeded" : "Failed";
  }
  out.over = out.terminal();
  // Its place is free for others only when nothing of it runs any more.
  if (out.over && any_up) out.phase = began ? "Running" : "Pending";
  // What has ended stays so, whoever said it.
  if (const std::string told = string_at(*view.pod, "/status/phase");
      told == "Succeeded" || told == "Failed") {
    out.phase = told;
    out.over = true;
  }
  bool gates = true;
  if (const json::array* wanted = array_at(*view.pod, "/spec/readinessGates")) {
    const json::array* conditions = array_at(*view.pod, "/status/conditions");
    for (const json::value& gate : *wanted) {
      const std::string type = string_at(gate, "/conditionType");
      gates = gates && conditions != nullptr &&
              std::any_of(conditions->begin(), conditions->end(), [&](const json::value& c) {
                return string_at(c, "/type") == type && string_at(c, "/status") == "True";
              });
    }
  }
  out.ready = out.containers_ready && gates && !out.terminal();
  return out;
}

json::object make_status(const PodView& view, Now now) {
  const PodSummary summary = summarise(view);
  const std::int64_t generation = int_at(*view.pod, "/metadata/generation");
  json::object out;
  out["phase"] = summary.phase;
  if (generation != 0) out["observedGeneration"] = generation;
  json::array conditions;
  if (const json::array* before = array_at(*view.pod, "/status/conditions")) conditions = *before;
  const std::string done = summary.phase == "Succeeded" ? "PodCompleted"
                           : summary.phase == "Failed"  ? "PodFailed"
                                                        : "";
  const auto set = [&](const char* type, bool value, const std::string& reason, const std::string& message) {
    set_condition(conditions, type, value, reason, message, generation, now);
  };
  set("PodReadyToStartContainers", view.sandbox_ready, "", "");
  const std::string init_names = unready_names(view, true), names = unready_names(view, false);
  set("Initialized", summary.initialized,
      summary.initialized ? (summary.phase == "Succeeded" ? "PodCompleted" : "") : "ContainersNotInitialized",
      summary.initialized ? "" : "containers with incomplete status: [" + init_names + "]");
  const std::string why = !done.empty() ? done : "ContainersNotReady";
  const std::string text = !done.empty() ? "" : "containers with unready status: [" + names + "]";
  set("Ready", summary.ready, summary.ready ? "" : why, summary.ready ? "" : text);
  set("ContainersReady", summary.containers_ready, summary.containers_ready ? "" : why,
      summary.containers_ready ? "" : text);
  set("PodScheduled", true, "", "");
  if (view.reason == "Evicted" || view.reason == "Terminated")
    set("DisruptionTarget", true, "TerminationByKubelet", view.message);
  if (view.resize_pending.empty()) {
    remove_condition(conditions, "PodResizePending");
  } else {
    set("PodResizePending", true, view.resize_pending, view.resize_pending_message);
  }
  if (view.resizing) {
    set("PodResizeInProgress", true, view.resize_error.empty() ? "" : "Error", view.resize_error);
  } else {
    remove_condition(conditions, "PodResizeInProgress");
  }
  out["conditions"] = std::move(conditions);
  if (!view.reason.empty()) out["reason"] = view.reason;
  if (!view.message.empty()) out["message"] = view.message;
  if (!view.host_ip.empty()) {
    out["hostIP"] = view.host_ip;
    out["hostIPs"] = json::array{json::object{{"ip", view.host_ip}}};
  }
  if (!view.pod_ips.empty()) {
    out["podIP"] = view.pod_ips.front();
    json::array ips;
    for (const std::string& ip : view.pod_ips) ips.push_back(json::object{{"ip", ip}});
    out["podIPs"] = std::move(ips);
  }
  if (!view.start_time.empty()) out["startTime"] = view.start_time;
  json::array init = statuses(view, true, true);
  if (!init.empty()) out["initContainerStatuses"] = std::move(init);
  out["containerStatuses"] = statuses(view, false, summary.initialized);
  if (const json::array* all = array_at(*view.pod, "/spec/ephemeralContainers"); all && !all->empty()) {
    json::array ephemeral;
    for (const json::value& spec : *all)
      ephemeral.push_back(container_status(spec, view_of(view, spec), "ContainerCreating"));
    out["ephemeralContainerStatuses"] = std::move(ephemeral);
  }
  out["qosClass"] = qos_class(*view.pod);
  return out;
}

bool status_differs(const json::value& a, const json::value& b) {
  if (a.kind() != b.kind()) return true;
  if (const json::object* left = a.if_object()) {
    const json::object& right = b.get_object();
    if (left->size() != right.size()) return true;
    for (const auto& entry : *left) {
      const json::value* other = right.if_contains(entry.key());
      if (other == nullptr || status_differs(entry.value(), *other)) return true;
    }
    return false;
  }
  if (const json::array* left = a.if_array()) {
    const json::array& right = b.get_array();
    return left->size() != right.size() ||
           !std::equal(left->begin(), left->end(), right.begin(),
                       [](const auto& x, const auto& y) { return !status_differs(x, y); });
  }
  return a != b;
}

Duration restart_backoff(std::uint32_t restarts, Duration base, Duration max) {
  if (restarts == 0) return Duration::zero();
  const std::uint32_t doublings = std::min<std::uint32_t>(restarts - 1, 30);
  const std::int64_t scale = std::int64_t{1} << doublings;
  return base.count() > max.count() / scale ? max : base * scale;
}

namespace {
std::int64_t amount(const json::value& container, const char* list, const char* resource, bool milli) {
  const std::string text = string_at(container, std::string("/resources/") + list + "/" + resource);
  if (text.empty()) return 0;
  const auto quantity = Quantity::parse(text);
  if (!quantity) return 0;
  return milli ? quantity->milli_value() : quantity->value();
}

template <class F>
void each_container(const json::value& pod, F call) {
  for (const char* kind : {"/spec/initContainers", "/spec/containers"}) {
    if (const json::array* all = array_at(pod, kind)) {
      for (const json::value& container : *all) call(container);
    }
  }
}
}  // namespace

std::string qos_class(const json::value& pod) {
  bool any = false, guaranteed = true;
  each_container(pod, [&](const json::value& container) {
    for (const bool cpu : {true, false}) {
      const char* resource = cpu ? "cpu" : "memory";
      const std::int64_t limit = amount(container, "limits", resource, cpu);
      const bool has_request = find(container, std::string("/resources/requests/") + resource) != nullptr;
      const std::int64_t request = has_request ? amount(container, "requests", resource, cpu) : limit;
      any = any || limit > 0 || request > 0;
      guaranteed = guaranteed && limit > 0 && limit == request;
    }
  });
  return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

ResourceLimits limits_of(const json::value& container, const std::string& qos, std::int64_t memory_capacity) {
  ResourceLimits out;
  std::int64_t cpu = amount(container, "requests", "cpu", true);
  const std::int64_t cpu_limit = amount(container, "limits", "cpu", true);
  if (cpu == 0 && find(container, "/resources/requests/cpu") == nullptr) cpu = cpu_limit;
  out.cpu_shares = std::clamp<std::int64_t>(cpu * 1024 / 1000, 2, 262144);
  if (cpu_limit > 0) out.cpu_quota_us = std::max<std::int64_t>(1000, cpu_limit * out.cpu_period_us / 1000);
  out.memory_bytes = amount(container, "limits", "memory", false);
  const std::int64_t memory = amount(container, "requests", "memory", false);
  if (qos == "Guaranteed") {
    out.oom_score_adj = -997;
  } else if (qos == "BestEffort") {
    out.oom_score_adj = 1000;
  } else {
    const std::int64_t score = memory_capacity > 0 ? 1000 - 1000 * memory / memory_capacity : 1000;
    out.oom_score_adj = static_cast<int>(std::clamp<std::int64_t>(score, 3, 999));
  }
  return out;
}

ResourceLimits pod_limits(const json::value& pod, const std::string& qos) {
  ResourceLimits out;
  bool cpu_limited = true, memory_limited = true;
  std::int64_t shares = 0, quota = 0, memory = 0;
  if (const json::array* all = array_at(pod, "/spec/containers")) {
    for (const json::value& container : *all) {
      const ResourceLimits one = limits_of(container, qos, 0);
      shares += one.cpu_shares;
      quota += one.cpu_quota_us;
      memory += one.memory_bytes;
      cpu_limited = cpu_limited && one.cpu_quota_us > 0;
      memory_limited = memory_limited && one.memory_bytes > 0;
    }
  }
  out.cpu_shares = std::max<std::int64_t>(2, shares);
  if (cpu_limited) out.cpu_quota_us = quota;
  if (memory_limited) out.memory_bytes = memory;
  return out;
}

}  // namespace orchestra::node
