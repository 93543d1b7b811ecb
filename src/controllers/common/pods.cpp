// Pod states, pods from templates, and the order in which replicas are given up; see pods.hpp.
#include "controllers/common/pods.hpp"

#include <algorithm>
#include <bit>
#include <tuple>

#include "api/object_memo.hpp"

namespace orchestra::controllers {

namespace {
// Of memo_of().
constexpr std::uint32_t kPodRead = 1, kPodTerminal = 2, kPodReady = 4;

std::uint32_t read_pod_facts(const Object& pod) {
  std::uint32_t facts = kPodRead;
  const json::value* phase = find(tree(pod), "/status/phase");
  if (phase != nullptr && phase->is_string()) {
    const std::string_view name(phase->get_string());
    if (name == "Succeeded" || name == "Failed") facts |= kPodTerminal;
  }
  const json::object* condition = find_condition(tree(pod), "Ready");
  const json::value* status = condition == nullptr ? nullptr : condition->if_contains("status");
  if (status != nullptr && status->is_string() && std::string_view(status->get_string()) == "True")
    facts |= kPodReady;
  return facts;
}

bool pod_fact(const Object& pod, std::uint32_t fact) {
  std::atomic<std::uint32_t>* memo = memo_of(pod);
  if (memo == nullptr) return false;
  std::uint32_t facts = memo->load(std::memory_order_relaxed);
  if (facts == 0) memo->store(facts = read_pod_facts(pod), std::memory_order_relaxed);
  return (facts & fact) != 0;
}
}  // namespace

bool pod_terminal(const Object& pod) { return pod_fact(pod, kPodTerminal); }

bool pod_active(const Object& pod) { return !pod.deleting() && !pod_terminal(pod); }

bool pod_ready(const Object& pod) { return pod_fact(pod, kPodReady); }

bool pod_available(const Object& pod, std::int64_t min_ready_seconds, Now now, std::optional<Duration>& due) {
  if (!pod_ready(pod)) return false;
  if (min_ready_seconds == 0) return true;
  const auto since = time_at(*find_condition(tree(pod), "Ready"), "/lastTransitionTime");
  if (!since) return false;
  const Duration rest(*since + min_ready_seconds * 1'000'000'000 - now.wall_ns);
  if (rest <= Duration::zero()) return true;
  if (!due || rest < *due) due = rest;
  return false;
}

bool pod_came_to_end(const Object& old, const Object& now) {
  const auto ends = [](const Object& pod) { return pod.deleting() || pod_terminal(pod); };
  return ends(now) && !(old && ends(old));
}

Object pod_from_template(const json::value& pod_template, const Object& owner) {
  json::object metadata;
  metadata["generateName"] = owner.name() + "-";
  metadata["namespace"] = owner.ns();
  for (const char* name : {"labels", "annotations", "finalizers"}) {
    if (const json::value* value = find(pod_template, std::string("/metadata/") + name))
      metadata[name] = *value;
  }
  metadata["ownerReferences"] = json::array{controller_reference(owner)};
  const json::value* spec = find(pod_template, "/spec");
  return object_from_tree(json::object{{"apiVersion", "v1"},
                                       {"kind", "Pod"},
                                       {"metadata", std::move(metadata)},
                                       {"spec", spec != nullptr ? *spec : json::value(json::object())}});
}

namespace {

// Ages compare by powers of two, so that pods of one rollout count as equally old and ties are spread.
int log2_bucket(std::int64_t nanoseconds) {
  return nanoseconds <= 0 ? 0 : std::bit_width(static_cast<std::uint64_t>(nanoseconds));
}

std::int64_t restarts(const json::value& pod) {
  std::int64_t most = 0;
  for (const char* list : {"/status/containerStatuses", "/status/initContainerStatuses"}) {
    if (const json::array* statuses = array_at(pod, list)) {
      for (const json::value& status : *statuses) most = std::max(most, int_at(status, "/restartCount"));
    }
  }
  return most;
}

std::int64_t deletion_cost(const Object& pod) {
  const auto text = annotation(pod, "controller.kubernetes.io/pod-deletion-cost");
  if (!text) return 0;
  const auto cost = to_int(*text);
  // Upstream parses an int32 and ignores what is not one.
  if (!cost || *cost < INT32_MIN || *cost > INT32_MAX) return 0;
  return *cost;
}

// Smaller goes first.
using Rank = std::tuple<bool, int, bool, std::int64_t, std::int64_t, int, std::int64_t, int, std::string>;

Rank rank_of(const Object& pod, const std::map<std::string, std::int64_t>& siblings_on, Now now) {
  const json::value& root = tree(pod);
  const std::string node = string_at(root, "/spec/nodeName");
  const std::string phase = string_at(root, "/status/phase");
  const int phase_rank = phase == "Running" ? 2 : phase == "Unknown" ? 1 : 0;
  const bool ready = pod_ready(pod);
  const auto on_node = siblings_on.find(node);
  const std::int64_t siblings = node.empty() || on_node == siblings_on.end() ? 0 : on_node->second;
  int ready_for = 0;
  if (ready) {
    const auto since = time_at(*find_condition(root, "Ready"), "/lastTransitionTime");
    ready_for = log2_bucket(since ? now.wall_ns - *since : 0);
  }
  const auto created = time_at(root, "/metadata/creationTimestamp");
  const int age = log2_bucket(created ? now.wall_ns - *created : 0);
  return {!node.empty(), phase_rank,      ready, deletion_cost(pod), -siblings,
          ready_for,     -restarts(root), age,   pod.uid()};
}

}  // namespace

std::vector<Object> deletion_order(std::vector<Object> pods, const std::vector<Object>& siblings, Now now) {
  std::map<std::string, std::int64_t> siblings_on;
  for (const Object& pod : siblings) ++siblings_on[string_at(tree(pod), "/spec/nodeName")];
  std::vector<std::pair<Rank, Object>> ranked;
  ranked.reserve(pods.size());
  for (Object& pod : pods) {
    Rank rank = rank_of(pod, siblings_on, now);
    ranked.emplace_back(std::move(rank), std::move(pod));
  }
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Object> ordered;
  ordered.reserve(ranked.size());
  for (auto& [rank, pod] : ranked) ordered.push_back(std::move(pod));
  return ordered;
}

}  // namespace orchestra::controllers
