// The filters of kube-scheduler's default plugins (pkg/scheduler/framework/plugins/*); reasons are upstream's
// ErrReason constants, word for word.
#include "sched/filters.hpp"

#include <algorithm>
#include <charconv>

namespace orchestra::sched {

namespace {

constexpr const char* kUnschedulable = "node(s) were unschedulable";
constexpr const char* kNodeName = "node(s) didn't match the requested node name";
constexpr const char* kTaints = "node(s) had untolerated taint(s)";  // without keys and values since 1.34
constexpr const char* kAffinity = "node(s) didn't match Pod's node affinity/selector";
constexpr const char* kPorts = "node(s) didn't have free ports for the requested pod ports";
constexpr const char* kTooManyPods = "Too many pods";

constexpr const char* kUnschedulableTaint = "node.kubernetes.io/unschedulable";

bool tolerated(const PodShape& pod, const NodeTaint& taint) {
  return std::any_of(pod.tolerations.begin(), pod.tolerations.end(),
                     [&](const Toleration& toleration) { return tolerates(toleration, taint); });
}

bool passes_taints(const PodShape& pod, const NodeShape& node) {
  return std::all_of(node.taints.begin(), node.taints.end(), [&](const NodeTaint& taint) {
    const bool hard = taint.effect == "NoSchedule" || taint.effect == "NoExecute";
    return !hard || tolerated(pod, taint);
  });
}

std::optional<std::int64_t> integer(const std::string& text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// `value` is nullptr where the node has no such label.
bool holds(const NodeRequirement& requirement, const std::string* value) {
  const auto& values = requirement.values;
  const bool listed = value != nullptr && std::find(values.begin(), values.end(), *value) != values.end();
  if (requirement.op == "In") return listed;
  if (requirement.op == "NotIn") return !listed;
  if (requirement.op == "Exists") return value != nullptr;
  if (requirement.op == "DoesNotExist") return value == nullptr;
  if (requirement.op != "Gt" && requirement.op != "Lt") return false;
  if (value == nullptr || values.size() != 1) return false;
  const auto left = integer(*value);
  const auto right = integer(values[0]);
  if (!left || !right) return false;
  return requirement.op == "Gt" ? *left > *right : *left < *right;
}

bool passes_affinity(const PodShape& pod, const NodeShape& node) {
  for (const auto& [key, value] : pod.node_selector) {
    const auto label = node.labels.find(key);
    if (label == node.labels.end() || label->second != value) return false;
  }
  if (!pod.required_terms) return true;
  return std::any_of(pod.required_terms->begin(), pod.required_terms->end(),
                     [&](const NodeTerm& term) { return matches(term, node); });
}

bool any_address(const std::string& address) {
  return address.empty() || address == "0.0.0.0" || address == "::";
}

// Equal protocol and port clash unless both name different addresses.
bool clash(const PodPort& a, const PodPort& b) {
  return a.port == b.port && a.protocol == b.protocol &&
         (any_address(a.address) || any_address(b.address) || a.address == b.address);
}

bool any_clash(const std::vector<PodPort>& wanted, const std::map<PodPort, int>& taken) {
  return std::any_of(wanted.begin(), wanted.end(), [&](const PodPort& port) {
    return std::any_of(taken.begin(), taken.end(),
                       [&](const auto& entry) { return clash(port, entry.first); });
  });
}

bool passes_ports(const PodShape& pod, const NodeState& node) {
  if (any_clash(pod.host_ports, node.host_ports)) return false;
  if (!node.shape.shares_ports) return true;
  return !any_clash(pod.container_ports, node.container_ports) &&
         !any_clash(pod.container_ports, node.host_ports) && !any_clash(pod.host_ports, node.container_ports);
}

std::int64_t amount_of(const Amounts& amounts, const std::string& resource) {
  const auto found = amounts.find(resource);
  return found == amounts.end() ? 0 : found->second;
}

void check_resource(std::int64_t wanted, std::int64_t used, std::int64_t total, const std::string& resource,
                    Rejection& rejection) {
  if (wanted <= 0 || wanted <= total - used) return;
  rejection.reasons.push_back("Insufficient " + resource);
  // More than the node has at all: nobody's end would help.
  if (wanted > total) rejection.resolvable = false;
}

Rejection lacking_resources(const Candidate& candidate, const NodeState& node) {
  Rejection rejection;
  if (node.pods_total && node.pods + 1 > *node.pods_total) rejection.reasons.emplace_back(kTooManyPods);
  check_resource(candidate.cpu, node.cpu_used, node.cpu_total, "cpu", rejection);
  check_resource(candidate.memory, node.memory_used, node.memory_total, "memory", rejection);
  for (const auto& [resource, wanted] : candidate.others) {
    check_resource(wanted, amount_of(node.requested, resource), amount_of(node.shape.allocatable, resource),
                   resource, rejection);
  }
  return rejection;
}

}  // namespace

bool tolerates(const Toleration& toleration, const NodeTaint& taint) {
  if (!toleration.effect.empty() && toleration.effect != taint.effect) return false;
  if (!toleration.key.empty() && toleration.key != taint.key) return false;
  if (toleration.op == "Exists") return true;
  if (toleration.key.empty()) return false;
  return toleration.value == taint.value;
}

bool matches(const NodeTerm& term, const NodeShape& node) {
  if (term.labels.empty() && term.fields.empty()) return false;
  for (const NodeRequirement& requirement : term.labels) {
    const auto label = node.labels.find(requirement.key);
    if (!holds(requirement, label == node.labels.end() ? nullptr : &label->second)) return false;
  }
  for (const NodeRequirement& requirement : term.fields) {
    if (requirement.key != "metadata.name" || !holds(requirement, &node.name)) return false;
  }
  return true;
}

Candidate::Candidate(const PodShape& shape) : pod(shape) {
  for (const auto& [resource, amount] : shape.requests) {
    if (resource == "cpu") {
      cpu = amount;
    } else if (resource == "memory") {
      memory = amount;
    } else if (amount > 0) {
      others.emplace_back(resource, amount);
    }
  }
}

Rejection reject(const Candidate& candidate, const NodeState& node) {
  const PodShape& pod = candidate.pod;
  const NodeShape& shape = node.shape;
  if (shape.unschedulable && !tolerated(pod, {kUnschedulableTaint, "", "NoSchedule"}))
    return {{kUnschedulable}, false};
  if (!pod.node_name.empty() && pod.node_name != shape.name) return {{kNodeName}, false};
  if (!passes_taints(pod, shape)) return {{kTaints}, false};
  if (!passes_affinity(pod, shape)) return {{kAffinity}, false};
  if (!passes_ports(pod, node)) return {{kPorts}, true};
  return lacking_resources(candidate, node);
}

}  // namespace orchestra::sched
