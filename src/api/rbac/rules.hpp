#pragma once
// Policy rules: reading, matching, covering. Pure.
#include "api/tree.hpp"
#include "base/json.hpp"
#include "orchestra/rbac_authorizer.hpp"

namespace orchestra::api::rbac {

PolicyRule rule_of(const json::object& rule);
std::vector<PolicyRule> rules_of(const json::value& role);
json::object rule_json(const PolicyRule& rule);
bool allows(const PolicyRule& rule, const AccessRequest& request);

/// The roles and bindings that every cluster has (upstream bootstrappolicy), as whole objects.
const std::vector<json::value>& default_objects();

}  // namespace orchestra::api::rbac
