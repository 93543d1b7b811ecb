// Index lists and policies of Jobs (kubernetes/pkg/controller/job/{indexed_job_utils,pod_failure_policy,
// success_policy,backoff_utils}.go); see model.hpp.
#include "controllers/job/model.hpp"

#include <algorithm>

namespace orchestra::controllers {

IndexSet parse_indexes(std::string_view text, std::int64_t completions) {
  IndexSet indexes;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    const auto dash = part.find('-');
    const auto first = to_int(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : to_int(part.substr(dash + 1));
    if (!first || !last || *first < 0) return {};
    for (std::int64_t i = *first; i <= *last && i < completions; ++i) indexes.insert(i);
  }
  return indexes;
}

std::string format_indexes(const IndexSet& indexes) {
  std::string text;
  for (auto it = indexes.begin(); it != indexes.end();) {
    const std::int64_t first = *it;
    std::int64_t last = first;
    while (++it != indexes.end() && *it == last + 1) last = *it;
    if (!text.empty()) text += ",";
    text += std::to_string(first);
    // Two neighbours are a list, three and more a range, as upstream writes them.
    if (last == first + 1) text += "," + std::to_string(last);
    if (last > first + 1) text += "-" + std::to_string(last);
  }
  return text;
}

bool has_tracking(const Object& pod) {
  const auto& list = pod.finalizers();
  return std::find(list.begin(), list.end(), kTracking) != list.end();
}

Object without_tracking(const Object& pod) {
  json::value copy = tree(pod);
  json::array& list = array_in(copy, "/metadata/finalizers");
  for (auto it = list.begin(); it != list.end();) {
    it = it->is_string() && it->get_string() == kTracking ? list.erase(it) : it + 1;
  }
  if (list.empty()) object_in(copy, "/metadata").erase("finalizers");
  return object_from_tree(std::move(copy));
}

std::optional<std::int64_t> index_of(const Object& pod, std::int64_t completions) {
  const auto text = annotation(pod, kIndexAnnotation);
  if (!text) return std::nullopt;
  const auto index = to_int(*text);
  if (!index || *index < 0 || *index >= completions) return std::nullopt;
  return index;
}

std::int64_t finished_ns(const Object& pod) {
  const json::value& root = tree(pod);
  std::int64_t latest = 0;
  for (const char* list : {"/status/initContainerStatuses", "/status/containerStatuses"}) {
    if (const json::array* statuses = array_at(root, list)) {
      for (const json::value& status : *statuses)
        latest = std::max(latest, time_at(status, "/state/terminated/finishedAt").value_or(0));
    }
  }
  if (latest != 0) return latest;
  if (const json::object* ready = find_condition(root, "Ready")) {
    if (const auto at = time_at(*ready, "/lastTransitionTime")) return *at;
  }
  if (const auto at = time_at(root, "/metadata/deletionTimestamp")) return *at;
  return time_at(root, "/metadata/creationTimestamp").value_or(0);
}

Duration job_pause(std::int64_t failures) {
  if (failures <= 0) return Duration::zero();
  const std::int64_t seconds = failures > 7 ? 600 : std::min<std::int64_t>(600, 10LL << (failures - 1));
  return std::chrono::seconds(seconds);
}

namespace {

PolicyAction action_named(const std::string& name) {
  if (name == "FailJob") return PolicyAction::fail_job;
  if (name == "FailIndex") return PolicyAction::fail_index;
  if (name == "Ignore") return PolicyAction::ignore;
  if (name == "Count") return PolicyAction::count;
  return PolicyAction::none;
}

bool listed(const json::value& requirement, std::int64_t code) {
  const json::array* values = array_at(requirement, "/values");
  return values != nullptr && std::any_of(values->begin(), values->end(), [&](const json::value& v) {
           return v.is_number() && int_at(v, "") == code;
         });
}

// The container that a rule on exit codes matches, with its code.
std::optional<std::pair<std::string, std::int64_t>> match_exit(const json::value& requirement,
                                                               const Object& pod) {
  const std::string wanted = string_at(requirement, "/containerName");
  const bool in = string_at(requirement, "/operator") == "In";
  for (const char* list : {"/status/containerStatuses", "/status/initContainerStatuses"}) {
    const json::array* statuses = array_at(tree(pod), list);
    if (statuses == nullptr) continue;
    for (const json::value& status : *statuses) {
      const std::string name = string_at(status, "/name");
      if (!wanted.empty() && wanted != name) continue;
      if (object_at(status, "/state/terminated") == nullptr) continue;
      const std::int64_t code = int_at(status, "/state/terminated/exitCode");
      if (code != 0 && listed(requirement, code) == in) return std::pair(name, code);
    }
  }
  return std::nullopt;
}

std::optional<std::string> match_conditions(const json::array& patterns, const Object& pod) {
  for (const json::value& pattern : patterns) {
    const std::string type = string_at(pattern, "/type");
    const json::object* condition = find_condition(tree(pod), type);
    if (condition != nullptr && string_at(*condition, "/status") == string_at(pattern, "/status", "True"))
      return type;
  }
  return std::nullopt;
}

}  // namespace

PolicyMatch match_failure_policy(const json::value& job, const Object& pod) {
  const json::array* rules = array_at(job, "/spec/podFailurePolicy/rules");
  if (rules == nullptr || string_at(tree(pod), "/status/phase") != "Failed") return {};
  const std::string of_pod = " pod " + pod.ns() + "/" + pod.name();
  for (std::size_t i = 0; i < rules->size(); ++i) {
    const json::value& rule = (*rules)[i];
    const PolicyAction action = action_named(string_at(rule, "/action"));
    const std::string matching =
        " matching " + string_at(rule, "/action") + " rule at index " + std::to_string(i);
    if (const json::value* requirement = find(rule, "/onExitCodes");
        requirement && requirement->is_object()) {
      if (const auto exit = match_exit(*requirement, pod)) {
        return {action, "Container " + exit->first + " for" + of_pod + " failed with exit code " +
                            std::to_string(exit->second) + matching};
      }
    } else if (const json::array* patterns = array_at(rule, "/onPodConditions")) {
      if (const auto type = match_conditions(*patterns, pod))
        return {action, "Pod " + pod.ns() + "/" + pod.name() + " has condition " + *type + matching};
    }
  }
  return {};
}

std::optional<std::string> match_success_policy(const json::value& job, const IndexSet& succeeded,
                                                std::int64_t completions) {
  const json::array* rules = array_at(job, "/spec/successPolicy/rules");
  if (rules == nullptr || succeeded.empty()) return std::nullopt;
  for (std::size_t i = 0; i < rules->size(); ++i) {
    const json::value& rule = (*rules)[i];
    const json::value* count = find(rule, "/succeededCount");
    const bool counts = count != nullptr && count->is_number();
    const std::string text = string_at(rule, "/succeededIndexes");
    std::int64_t matched = static_cast<std::int64_t>(succeeded.size());
    std::int64_t needed = counts ? int_at(rule, "/succeededCount") : 0;
    if (!text.empty()) {
      const IndexSet wanted = parse_indexes(text, completions);
      matched =
          std::count_if(wanted.begin(), wanted.end(), [&](auto index) { return succeeded.contains(index); });
      if (!counts) needed = static_cast<std::int64_t>(wanted.size());
      if (wanted.empty()) continue;
    } else if (!counts) {
      continue;
    }
    if (matched >= needed) return "Matched rules at index " + std::to_string(i);
  }
  return std::nullopt;
}

const json::object* true_condition(const json::value& root, std::string_view type) {
  const json::object* condition = find_condition(root, type);
  return condition != nullptr && string_at(*condition, "/status") == "True" ? condition : nullptr;
}

bool job_finished(const Object& job) {
  return true_condition(tree(job), "Complete") != nullptr || true_condition(tree(job), "Failed") != nullptr;
}

}  // namespace orchestra::controllers
