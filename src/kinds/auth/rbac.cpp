// Nobody grants more than he holds: writes of roles and bindings.
//
// Upstream pkg/registry/rbac/*/policybased and validation/rule.go: a role may hold what its writer holds in
// that scope, or the writer has the verb `escalate` on it; a binding may name a role whose rules the writer
// holds, or on which he has `bind`. An aggregationRule needs everything, for what it will sum up is open.
#include "api/meta.hpp"
#include "api/rbac/rules.hpp"
#include "api/status.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/auth/access.hpp"

namespace orchestra::apiserver {
namespace {
constexpr const char* kGroup = "rbac.authorization.k8s.io";

bool has_verb(const Admission& admission, const char* verb, const char* resource, const std::string& name) {
  RequestInfo info;
  info.is_resource = true;
  info.verb = verb;
  info.group = kGroup;
  info.version = "v1";
  info.resource = resource;
  info.name = name;
  info.ns = admission.input.ns();
  return admission.input.core->access().decide(admission.input.call->user, info).allowed;
}

Result<void> confirm(const Admission& admission, const std::vector<PolicyRule>& wanted) {
  const Identity& user = admission.input.call->user;
  if (user.in_group("system:masters")) return {};
  const auto held = admission.input.core->access().rules_for(user, admission.input.ns());
  const auto missing = rules_not_covered(held.rules, wanted);
  if (missing.empty()) return {};
  std::string why = "user \"" + user.user + "\" (groups=[";
  for (std::size_t i = 0; i < user.groups.size(); ++i) why += (i > 0 ? " \"" : "\"") + user.groups[i] + "\"";
  why += "]) is attempting to grant RBAC permissions not currently held:";
  for (const PolicyRule& rule : missing) why += "\n" + rule_text(rule);
  if (!held.errors.empty()) {
    why += "; resolution errors: [";
    for (std::size_t i = 0; i < held.errors.size(); ++i) why += (i > 0 ? " " : "") + held.errors[i];
    why += "]";
  }
  return api::forbidden(*admission.input.type, std::string(api::meta_string(*admission.object, "name")), why);
}

Result<void> write_role(Admission& admission) {
  const json::value& role = *admission.object;
  const auto same = [&](const char* pointer) {
    if (admission.old == nullptr) return false;
    const json::value* before = find(*admission.old, pointer);
    const json::value* after = find(role, pointer);
    return before != nullptr && after != nullptr ? *before == *after : before == after;
  };
  if (same("/rules") && same("/aggregationRule")) return {};
  const bool cluster = !admission.input.type->namespaced;
  const std::string name(api::meta_string(role, "name"));
  if (has_verb(admission, "escalate", cluster ? "clusterroles" : "roles", name)) return {};
  ORC_TRY(confirm(admission, api::rbac::rules_of(role)));
  if (find(role, "/aggregationRule") == nullptr || same("/aggregationRule")) return {};
  return confirm(admission, {{.verbs = {"*"}, .api_groups = {"*"}, .resources = {"*"}},
                             {.verbs = {"*"}, .non_resource_urls = {"*"}}});
}

Result<void> write_binding(Admission& admission) {
  const json::value& binding = *admission.object;
  if (admission.input.call->user.in_group("system:masters")) return {};
  const std::string kind = string_at(binding, "/roleRef/kind");
  const std::string name = string_at(binding, "/roleRef/name");
  const bool cluster = kind == "ClusterRole";
  const char* resource = cluster ? "clusterroles" : "roles";
  if (has_verb(admission, "bind", resource, name)) return {};
  const auto rules = admission.input.core->access().rules_of_role(kind, admission.input.ns(), name);
  if (!rules) return api::not_found(api::ResourceName(kGroup, resource), name);
  return confirm(admission, *rules);
}
}  // namespace

const std::vector<KindHooks>& rbac_hooks() {
  static const std::vector<KindHooks> kHooks = {
      {.group = kGroup, .resource = "roles", .on_create = write_role, .on_update = write_role},
      {.group = kGroup, .resource = "clusterroles", .on_create = write_role, .on_update = write_role},
      {.group = kGroup, .resource = "rolebindings", .on_create = write_binding, .on_update = write_binding},
      {.group = kGroup,
       .resource = "clusterrolebindings",
       .on_create = write_binding,
       .on_update = write_binding},
  };
  return kHooks;
}

}  // namespace orchestra::apiserver
