#include "net/policy/unenforced.hpp"

#include <algorithm>

#include "api/object_tree.hpp"

namespace orchestra::net {
namespace {

bool expression_matches(const json::value& expression, const std::map<std::string, std::string>& labels) {
  const auto label = labels.find(string_at(expression, "/key"));
  const bool present = label != labels.end();
  const std::string how = string_at(expression, "/operator");
  if (how == "Exists") return present;
  if (how == "DoesNotExist") return !present;
  bool listed = false;
  if (const auto* values = array_at(expression, "/values"); values != nullptr && present) {
    for (const auto& value : *values)
      listed = listed || (value.is_string() && value.as_string() == label->second);
  }
  if (how == "In") return listed;
  if (how == "NotIn") return !listed;
  return true;  // unreadable
}

bool selects(const json::value& policy, const NetworkPod& pod) {
  if (const auto* wanted = object_at(policy, "/spec/podSelector/matchLabels")) {
    for (const auto& item : *wanted) {
      const auto label = pod.labels.find(std::string(item.key()));
      if (label == pod.labels.end()) return false;
      if (item.value().is_string() && item.value().as_string() != label->second) return false;
    }
  }
  if (const auto* expressions = array_at(policy, "/spec/podSelector/matchExpressions")) {
    return std::all_of(expressions->begin(), expressions->end(),
                       [&](const json::value& item) { return expression_matches(item, pod.labels); });
  }
  return true;
}

}  // namespace

std::vector<UnenforcedPolicy> unenforced_policies(const NetworkSnapshot& snapshot) {
  std::vector<UnenforcedPolicy> out;
  for (const auto& policy : snapshot.network_policies) {
    UnenforcedPolicy entry;
    for (const auto& [name, pod] : snapshot.pods) {
      if (name.ns != policy.ns() || pod->finished || pod->host_network) continue;
      if (selects(tree(policy), *pod)) entry.pods.push_back(name);
    }
    entry.report = {"NetworkPolicy",
                    policy.ns(),
                    policy.name(),
                    policy.uid(),
                    "NetworkPolicyNotEnforced",
                    "this network does not enforce policies: " + std::to_string(entry.pods.size()) +
                        " selected pods stay open to all traffic"};
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace orchestra::net
