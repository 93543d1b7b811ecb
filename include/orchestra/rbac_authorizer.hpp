#pragma once
// RbacAuthorizer: Kubernetes RBAC as a pure class, usable without any server.
//
//   orchestra::RbacAuthorizer rbac;
//   for (const orchestra::Object& object : roles_and_bindings) rbac.put(object);
//   auto answer = rbac.decide({.user = "jane", .verb = "get", .resource = "pods", .ns = "shop"});
//   if (!answer.allowed) ...
//
// It holds Roles, ClusterRoles and their bindings (rbac.authorization.k8s.io/v1) and answers who may do
// what, by which binding, and which rules somebody holds. No clock, no store, no lock: const calls may run
// in parallel, put and remove need the caller's exclusion. Since 0.2.
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "orchestra/object.hpp"

namespace orchestra {

/// One question: may this user do that?
struct AccessRequest {
  std::string user = {};
  std::vector<std::string> groups = {};
  std::string verb = {};
  bool is_resource = true;     ///< false: `path` is asked for, the fields below do not matter
  std::string api_group = {};  ///< "" = core
  std::string resource = {};   ///< plural
  std::string subresource = {};
  std::string ns = {};    ///< empty: cluster scope or all namespaces
  std::string name = {};  ///< empty: a collection
  std::string path = {};
  /// Of list, watch and deletecollection, as it was sent; RBAC does not look at it. Since 0.2.
  std::string field_selector = {};
};

struct AccessDecision {
  bool allowed = false;
  /// Allowed: by which binding. Denied: bindings that name roles which do not exist, else empty.
  std::string reason;
};

struct PolicyRule {
  std::vector<std::string> verbs = {}, api_groups = {}, resources = {}, resource_names = {},
                           non_resource_urls = {};
  friend bool operator==(const PolicyRule&, const PolicyRule&) = default;
};

class ORC_API RbacAuthorizer {
 public:
  RbacAuthorizer();
  ~RbacAuthorizer();
  RbacAuthorizer(RbacAuthorizer&&) noexcept;
  RbacAuthorizer& operator=(RbacAuthorizer&&) noexcept;

  /// Adds or replaces; `invalid` for an object of another kind.
  Result<void> put(const Object& object);
  /// `kind`: Role, ClusterRole, RoleBinding, ClusterRoleBinding. Unknown ones are ignored.
  void remove(const std::string& kind, const std::string& ns, const std::string& name);

  /// The group system:masters may do everything, as upstream.
  AccessDecision decide(const AccessRequest& request) const;

  struct Rules {
    std::vector<PolicyRule> rules;
    std::vector<std::string> errors;  ///< roles that bindings name and that do not exist
  };
  /// All that the user holds: cluster-wide, and in `ns` if it is not empty.
  Rules rules_for(const std::string& user, const std::vector<std::string>& groups,
                  const std::string& ns) const;
  /// Rules of a Role (with `ns`) or a ClusterRole, aggregation resolved; nullopt: there is none.
  std::optional<std::vector<PolicyRule>> rules_of_role(const std::string& kind, const std::string& ns,
                                                       const std::string& name) const;
  /// ClusterRoles with an aggregationRule.
  std::vector<std::string> aggregated_roles() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The part of `wanted` that `held` does not cover, compacted and sorted; empty: nothing is missing.
ORC_API std::vector<PolicyRule> rules_not_covered(const std::vector<PolicyRule>& held,
                                                  const std::vector<PolicyRule>& wanted);
/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`, as refusals print it.
ORC_API std::string rule_text(const PolicyRule& rule);
/// "system:serviceaccount:NS:NAME" -> {NS, NAME}.
ORC_API std::optional<std::pair<std::string, std::string>> split_service_account(const std::string& user);

}  // namespace orchestra
