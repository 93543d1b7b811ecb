#pragma once
// What nodes may do (upstream plugin/pkg/auth/authorizer/node): each only what concerns itself.
//
// A node reads its own Node, the pods bound to it, and the Secrets, ConfigMaps, claims and volumes that those
// pods name; it asks for tokens of their accounts. Everything else follows the static rules of the
// ClusterRole system:node. Where upstream keeps a graph, here each node has the list of its pods, and each
// pod the list of what it names, read from the pod at the first question after a change: a pod that changes
// its status a hundred times between two questions is read once, and pods of nodes that never ask are never
// read.
//
// Pure; no lock: the caller excludes.
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "orchestra/rbac_authorizer.hpp"

namespace orchestra::api {

/// The node of a user system:node:NAME of group system:nodes; nullopt: no node. Empty: a node without a name.
std::optional<std::string> node_of_user(const std::string& user, const std::vector<std::string>& groups);

class NodeAuthorizer {
 public:
  /// The object as it is stored; called at most once.
  using Load = std::function<std::optional<json::value>()>;

  /// A pod that is bound to `node`. An empty node forgets the pod.
  void put_pod(const std::string& ns, const std::string& name, const std::string& node, Load load);
  void remove_pod(const std::string& ns, const std::string& name);
  void forget_pods();
  void put_volume(const json::value& volume);  ///< PersistentVolume
  void remove_volume(const std::string& name);
  void forget_volumes() { volumes_.clear(); }
  void put_attachment(const std::string& name, const std::string& node);
  void remove_attachment(const std::string& name);
  void forget_attachments() { attachments_.clear(); }

  /// Denials are "no opinion": RBAC is asked next. The reason is upstream's.
  AccessDecision decide(const AccessRequest& request);

 private:
  struct Pod {
    std::string node;
    Load load;                    ///< empty once read
    std::set<std::string> names;  ///< "secret/NS/NAME", ...
  };
  struct Volume {
    std::string claim;              ///< "claim/NS/NAME"; empty: not bound
    std::set<std::string> secrets;  ///< "secret/NS/NAME" that a node sees
  };
  bool names(const std::string& node, const std::string& what);
  bool related(const std::string& node, std::string_view kind, const std::string& ns,
               const std::string& name);
  AccessDecision by_relation(const std::string& node, std::string_view kind, const AccessRequest& request);
  AccessDecision of_pods(const std::string& node, const AccessRequest& request);

  std::map<std::string, Pod> pods_;                       // by NS/NAME
  std::map<std::string, std::set<std::string>> by_node_;  // node -> NS/NAME
  std::map<std::string, Volume> volumes_;                 // by name
  std::map<std::string, std::string> attachments_;        // name -> node
};

/// "secret/NS/NAME", "configmap/..", "claim/..", "account/.." of all that a pod names; nothing for mirror
/// pods, which a node makes itself.
std::set<std::string> names_in_pod(const json::value& pod);

}  // namespace orchestra::api
