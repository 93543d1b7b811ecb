#include "net/policy/unenforced.hpp"

#include "net/policy/policy.hpp"

namespace orchestra::net {

std::vector<UnenforcedPolicy> unenforced_policies(const NetworkSnapshot& snapshot) {
  std::vector<UnenforcedPolicy> out;
  for (const auto& [policy_name, policy] : snapshot.network_policies) {
    UnenforcedPolicy entry;
    std::vector<NetworkRejection> unreadable;  // such a policy selects all: the report errs on the loud side
    const Policy read = parse_policy(policy, unreadable);
    for (const auto& [name, pod] : snapshot.pods) {
      if (name.ns != policy.ns() || pod->finished || pod->host_network) continue;
      if (read.pods.matches(pod->labels)) entry.pods.push_back(name);
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
