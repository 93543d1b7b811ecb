#pragma once
// Which NetworkPolicies are not enforced, for a Warning event on each: never silence. Pure.
#include <string>
#include <vector>

#include "net/snapshot.hpp"

namespace orchestra::net {

struct UnenforcedPolicy {
  NetworkRejection report;           ///< about the policy: reason NetworkPolicyNotEnforced
  std::vector<NamespacedName> pods;  ///< unfinished pods it selects, which stay open
};
/// Every policy of the snapshot, with the pods whose traffic it was meant to limit. A policy whose selector
/// cannot be read selects every pod of its namespace: the report errs on the loud side.
std::vector<UnenforcedPolicy> unenforced_policies(const NetworkSnapshot& snapshot);

}  // namespace orchestra::net
