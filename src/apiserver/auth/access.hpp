#pragma once
// Who may do what: the rules of nodes, then the RBAC objects of the store, both never older than what this
// process has committed.
//
// Watches on the keys are polled before each decision, so a binding counts for the very next request and
// nothing has to run between requests. What nodes need (pods, volumes) is followed from the first request of
// a node on: a control plane without remote nodes pays nothing.
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/rbac/node_authorizer.hpp"
#include "apiserver/auth/store_feed.hpp"
#include "apiserver/call.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/rbac_authorizer.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

class Access {
 public:
  Access(Engine& engine, std::shared_ptr<StateStore> store);

  /// Reads what exists. Blocks.
  Result<void> open();
  AccessDecision decide(const Identity& user, const RequestInfo& info);
  RbacAuthorizer::Rules rules_for(const Identity& user, const std::string& ns);
  std::optional<std::vector<PolicyRule>> rules_of_role(const std::string& kind, const std::string& ns,
                                                       const std::string& name);
  /// Rules that aggregated ClusterRoles should store, where they store something else.
  std::vector<std::pair<std::string, std::vector<PolicyRule>>> aggregated();

 private:
  AccessDecision decide_as_node(const AccessRequest& request);
  void take_role(const std::string& key, const Value* value);
  void take_pod(const std::string& key, const Value* value);
  void take_volume(const std::string& key, const Value* value);
  void take_attachment(const std::string& key, const Value* value);

  Engine& engine_;
  std::mutex mutex_;  ///< guards roles
  RbacAuthorizer rbac_;
  StoreFeed roles_;
  std::mutex node_mutex_;  ///< guards what follows
  api::NodeAuthorizer nodes_;
  std::vector<StoreFeed> node_feeds_;
  bool nodes_open_ = false;
};

/// The 403 of a decision.
Error refusal(const Identity& user, const RequestInfo& info, const AccessDecision& decision);

}  // namespace orchestra::apiserver
