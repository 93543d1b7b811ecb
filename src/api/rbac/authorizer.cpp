// RbacAuthorizer: bindings indexed by subject, so that a decision looks only at the bindings of the user
// and of his groups, however many there are in the cluster.
//
// Upstream: plugin/pkg/auth/authorizer/rbac/rbac.go and pkg/registry/rbac/validation/rule.go. Cluster
// bindings are asked first, then those of the request's namespace. Aggregated ClusterRoles hold, besides
// their stored rules, those of the roles that their selectors match: upstream's controller copies them,
// here they count at once.
#include <algorithm>
#include <functional>
#include <unordered_map>

#include "api/object_tree.hpp"
#include "api/rbac/rules.hpp"
#include "api/select.hpp"
#include "orchestra/rbac_authorizer.hpp"

namespace orchestra {
namespace {
using api::rbac::rules_of;
constexpr int kAggregationDepthMax = 16;

struct RoleEntry {
  std::vector<PolicyRule> rules;
  std::map<std::string, std::string> labels;
  std::vector<Selector> aggregates;
};
struct SubjectEntry {
  std::string kind, ns, name;
};
struct BindingEntry {
  std::string ns;  ///< empty: ClusterRoleBinding
  std::string name, role_kind, role_name;
  std::vector<SubjectEntry> subjects;
};
using BindingPtr = std::shared_ptr<const BindingEntry>;

std::string subject_key(const SubjectEntry& subject, const std::string& binding_ns) {
  if (subject.kind == "User") return "u:" + subject.name;
  if (subject.kind == "Group") return "g:" + subject.name;
  return "u:system:serviceaccount:" + (subject.ns.empty() ? binding_ns : subject.ns) + ":" + subject.name;
}
std::string described(const BindingEntry& binding, const SubjectEntry& subject) {
  const auto quoted = [](const std::string& text) { return "\"" + text + "\""; };
  std::string out = binding.ns.empty() ? "ClusterRoleBinding " + quoted(binding.name)
                                       : "RoleBinding " + quoted(binding.name + "/" + binding.ns);
  out += " of " + binding.role_kind + " " + quoted(binding.role_name) + " to " + subject.kind + " ";
  if (subject.kind != "ServiceAccount") return out + quoted(subject.name);
  return out + quoted(subject.name + "/" + (subject.ns.empty() ? binding.ns : subject.ns));
}
}  // namespace

struct RbacAuthorizer::State {
  std::map<std::string, RoleEntry> cluster_roles;
  std::map<std::pair<std::string, std::string>, RoleEntry> roles;
  std::map<std::pair<std::string, std::string>, BindingPtr> bindings;  ///< ns "" = cluster
  /// Scope (namespace or "") and subject -> bindings, ordered by name for stable reasons.
  std::unordered_map<std::string, std::map<std::string, BindingPtr>> by_subject;

  static std::string scoped(const std::string& ns, const std::string& subject) { return ns + "\n" + subject; }

  void put_role(const Object& object) {
    RoleEntry entry{.rules = rules_of(tree(object)), .labels = object.labels(), .aggregates = {}};
    if (object.kind() == "Role") {
      roles[{object.ns(), object.name()}] = std::move(entry);
      return;
    }
    if (const json::array* list = array_at(tree(object), "/aggregationRule/clusterRoleSelectors")) {
      for (const json::value& one : *list) {
        if (auto selector = api::selector_of(&one)) entry.aggregates.push_back(std::move(*selector));
      }
    }
    cluster_roles[object.name()] = std::move(entry);
  }

  void drop_binding(const std::string& ns, const std::string& name) {
    const auto found = bindings.find({ns, name});
    if (found == bindings.end()) return;
    for (const SubjectEntry& subject : found->second->subjects) {
      const auto at = by_subject.find(scoped(ns, subject_key(subject, ns)));
      if (at == by_subject.end()) continue;
      at->second.erase(name);
      if (at->second.empty()) by_subject.erase(at);
    }
    bindings.erase(found);
  }

  void put_binding(const Object& object) {
    const json::value& value = tree(object);
    auto entry = std::make_shared<BindingEntry>();
    if (object.kind() == "RoleBinding") entry->ns = object.ns();
    entry->name = object.name();
    entry->role_kind = string_at(value, "/roleRef/kind");
    entry->role_name = string_at(value, "/roleRef/name");
    if (const json::array* subjects = array_at(value, "/subjects")) {
      for (const json::value& one : *subjects) {
        entry->subjects.push_back(
            {string_at(one, "/kind"), string_at(one, "/namespace"), string_at(one, "/name")});
      }
    }
    drop_binding(entry->ns, entry->name);
    bindings[{entry->ns, entry->name}] = entry;
    for (const SubjectEntry& subject : entry->subjects) {
      by_subject[scoped(entry->ns, subject_key(subject, entry->ns))][entry->name] = entry;
    }
  }

  /// Calls `each(rule)` until it returns false; false if it was stopped.
  template <class Each>
  bool cluster_role_rules(const std::string& name, Each& each, std::set<std::string>& seen, int depth) const {
    const auto found = cluster_roles.find(name);
    if (found == cluster_roles.end() || depth > kAggregationDepthMax || !seen.insert(name).second)
      return true;
    // Of an aggregated role the selectors alone decide: what it stores is an earlier sum.
    if (found->second.aggregates.empty()) {
      return std::all_of(found->second.rules.begin(), found->second.rules.end(), std::ref(each));
    }
    for (const Selector& selector : found->second.aggregates) {
      for (const auto& [other, entry] : cluster_roles) {
        if (!selector.matches(entry.labels)) continue;
        if (!cluster_role_rules(other, each, seen, depth + 1)) return false;
      }
    }
    return true;
  }

  /// Calls `each(binding, subject, rule)` until it returns false, for all that the user holds.
  template <class Each>
  void visit(const std::string& user, const std::vector<std::string>& groups, const std::string& ns,
             Each each, std::vector<std::string>& errors) const {
    std::vector<std::string> keys{"u:" + user};
    for (const std::string& group : groups) keys.push_back("g:" + group);
    std::vector<std::string> scopes{""};
    if (!ns.empty()) scopes.push_back(ns);
    for (const std::string& scope : scopes) {
      for (const std::string& key : keys) {
        const auto found = by_subject.find(scoped(scope, key));
        if (found == by_subject.end()) continue;
        for (const auto& [name, binding] : found->second) {
          if (!visit_binding(*binding, key, each, errors)) return;
        }
      }
    }
  }

  template <class Each>
  bool visit_binding(const BindingEntry& binding, const std::string& key, Each& each,
                     std::vector<std::string>& errors) const {
    const auto subject =
        std::find_if(binding.subjects.begin(), binding.subjects.end(),
                     [&](const SubjectEntry& one) { return subject_key(one, binding.ns) == key; });
    if (subject == binding.subjects.end()) return true;
    auto rule_of_binding = [&](const PolicyRule& rule) { return each(binding, *subject, rule); };
    if (binding.role_kind == "ClusterRole") {
      if (!cluster_roles.contains(binding.role_name)) {
        errors.push_back("clusterrole.rbac.authorization.k8s.io \"" + binding.role_name + "\" not found");
        return true;
      }
      std::set<std::string> seen;
      return cluster_role_rules(binding.role_name, rule_of_binding, seen, 0);
    }
    const auto role = roles.find({binding.ns, binding.role_name});
    if (role == roles.end()) {
      errors.push_back("role.rbac.authorization.k8s.io \"" + binding.role_name + "\" not found");
      return true;
    }
    return std::all_of(role->second.rules.begin(), role->second.rules.end(), std::ref(rule_of_binding));
  }
};

RbacAuthorizer::RbacAuthorizer() : state_(std::make_unique<State>()) {}
RbacAuthorizer::~RbacAuthorizer() = default;
RbacAuthorizer::RbacAuthorizer(RbacAuthorizer&&) noexcept = default;
RbacAuthorizer& RbacAuthorizer::operator=(RbacAuthorizer&&) noexcept = default;

Result<void> RbacAuthorizer::put(const Object& object) {
  const std::string& kind = object.kind();
  if (kind == "Role" || kind == "ClusterRole") {
    state_->put_role(object);
  } else if (kind == "RoleBinding" || kind == "ClusterRoleBinding") {
    state_->put_binding(object);
  } else {
    return Error(Error::invalid, "rbac",
                 kind + " \"" + object.name() + "\" is no role and no binding of rbac.authorization.k8s.io");
  }
  return {};
}

void RbacAuthorizer::remove(const std::string& kind, const std::string& ns, const std::string& name) {
  if (kind == "Role") state_->roles.erase({ns, name});
  if (kind == "ClusterRole") state_->cluster_roles.erase(name);
  if (kind == "RoleBinding") state_->drop_binding(ns, name);
  if (kind == "ClusterRoleBinding") state_->drop_binding("", name);
}

AccessDecision RbacAuthorizer::decide(const AccessRequest& request) const {
  if (std::find(request.groups.begin(), request.groups.end(), "system:masters") != request.groups.end())
    return {true, ""};
  AccessDecision decision;
  std::vector<std::string> errors;
  state_->visit(
      request.user, request.groups, request.is_resource ? request.ns : std::string(),
      [&](const BindingEntry& binding, const SubjectEntry& subject, const PolicyRule& rule) {
        if (!api::rbac::allows(rule, request)) return true;
        decision = {true, "RBAC: allowed by " + described(binding, subject)};
        return false;
      },
      errors);
  if (decision.allowed || errors.empty()) return decision;
  decision.reason = "RBAC: ";
  if (errors.size() > 1) decision.reason += "[";
  for (std::size_t i = 0; i < errors.size(); ++i) decision.reason += (i > 0 ? ", " : "") + errors[i];
  if (errors.size() > 1) decision.reason += "]";
  return decision;
}

RbacAuthorizer::Rules RbacAuthorizer::rules_for(const std::string& user,
                                                const std::vector<std::string>& groups,
                                                const std::string& ns) const {
  Rules out;
  state_->visit(
      user, groups, ns,
      [&](const BindingEntry&, const SubjectEntry&, const PolicyRule& rule) {
        out.rules.push_back(rule);
        return true;
      },
      out.errors);
  return out;
}

std::optional<std::vector<PolicyRule>> RbacAuthorizer::rules_of_role(const std::string& kind,
                                                                     const std::string& ns,
                                                                     const std::string& name) const {
  if (kind == "Role") {
    const auto found = state_->roles.find({ns, name});
    if (found == state_->roles.end()) return std::nullopt;
    return found->second.rules;
  }
  const auto found = state_->cluster_roles.find(name);
  if (found == state_->cluster_roles.end()) return std::nullopt;
  std::vector<PolicyRule> rules;
  auto collect = [&](const PolicyRule& rule) {
    if (std::find(rules.begin(), rules.end(), rule) == rules.end()) rules.push_back(rule);
    return true;
  };
  std::set<std::string> seen;
  state_->cluster_role_rules(name, collect, seen, 0);
  return rules;
}

std::vector<std::string> RbacAuthorizer::aggregated_roles() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : state_->cluster_roles) {
    if (!entry.aggregates.empty()) names.push_back(name);
  }
  return names;
}

}  // namespace orchestra
