#pragma once
// Who may do what: the RBAC objects of the store in an RbacAuthorizer that is never older than what this
// process has committed.
//
// A watch on the RBAC keys is polled before each decision, so a binding counts for the very next request
// and nothing has to run between requests. Impersonation and the checks against escalation are here too.
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "apiserver/call.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/rbac_authorizer.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

class Access {
 public:
  Access(Engine& engine, std::shared_ptr<StateStore> store) : engine_(engine), store_(std::move(store)) {}

  /// Reads what exists. Blocks.
  Result<void> open();
  AccessDecision decide(const Identity& user, const RequestInfo& info);
  RbacAuthorizer::Rules rules_for(const Identity& user, const std::string& ns);
  std::optional<std::vector<PolicyRule>> rules_of_role(const std::string& kind, const std::string& ns,
                                                       const std::string& name);
  /// Rules that aggregated ClusterRoles should store, where they store something else.
  std::vector<std::pair<std::string, std::vector<PolicyRule>>> aggregated();

 private:
  Result<void> load();
  void refresh();
  void take(const std::string& key, const Value* value);

  Engine& engine_;
  std::shared_ptr<StateStore> store_;
  std::mutex mutex_;
  RbacAuthorizer rbac_;
  std::optional<Watch> watch_;
  bool complained_ = false;
};

/// The 403 of a decision.
Error refusal(const Identity& user, const RequestInfo& info, const AccessDecision& decision);

}  // namespace orchestra::apiserver
