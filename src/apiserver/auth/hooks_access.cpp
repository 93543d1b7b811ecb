// The live RbacAuthorizer and the 403 of a refusal: see access.hpp.
#include "api/status.hpp"
#include "apiserver/auth/access.hpp"
#include "apiserver/core.hpp"
#include "apiserver/store_key.hpp"
#include "apiserver/stored_object.hpp"

namespace orchestra::apiserver {
namespace {
constexpr Duration kLoadDeadline = std::chrono::seconds(10);
const std::string kPrefix = "/orchestra/objects/rbac.authorization.k8s.io/";

std::string kind_of_resource(std::string_view resource) {
  if (resource == "roles") return "Role";
  if (resource == "clusterroles") return "ClusterRole";
  if (resource == "rolebindings") return "RoleBinding";
  return "ClusterRoleBinding";
}

AccessRequest request_of(const Identity& user, const RequestInfo& info) {
  AccessRequest request;
  request.user = user.user;
  request.groups = user.groups;
  request.verb = info.verb;
  request.is_resource = info.is_resource;
  request.api_group = info.group;
  request.resource = info.resource;
  request.subresource = info.subresource;
  request.ns = info.ns;
  request.name = info.name;
  request.path = info.path;
  return request;
}
}  // namespace

Result<void> Access::open() {
  std::lock_guard lock(mutex_);
  return load();
}

Result<void> Access::load() {
  ORC_ASSIGN(const Snapshot snapshot, store_->snapshot(0, Consistency::serializable).wait(kLoadDeadline));
  ORC_ASSIGN(RangeResult found, snapshot.try_range(KeyPrefix(kPrefix)));
  WatchOptions options;
  options.range = KeyPrefix(kPrefix);
  options.after = snapshot.revision();
  options.want_previous = false;
  ORC_ASSIGN(Watch watch, store_->watch(std::move(options)));
  rbac_ = RbacAuthorizer();
  for (const KeyValue& kv : found.items) take(kv.key, &kv.value);
  watch_.emplace(std::move(watch));
  complained_ = false;
  return {};
}

// One key that changed; null: removed.
void Access::take(const std::string& key, const Value* value) {
  std::string_view tail = std::string_view(key).substr(kPrefix.size());
  const std::size_t slash = tail.find('/');
  const std::size_t second = tail.find('/', slash + 1);
  if (slash == std::string_view::npos || second == std::string_view::npos) return;
  const std::string kind = kind_of_resource(tail.substr(0, slash));
  std::string ns(tail.substr(slash + 1, second - slash - 1));
  if (ns == "-") ns.clear();
  const std::string name(tail.substr(second + 1));
  rbac_.remove(kind, ns, name);
  if (value == nullptr) return;
  auto view = decode_stored_frame(value->bytes());
  auto object = view ? Object::from_json(view->json) : Result<Object>(view.error());
  auto put = object ? rbac_.put(*object) : Result<void>(object.error());
  if (!put) {
    engine_.log(LogLevel::error, "apiserver", key + " grants nothing: " + put.error().to_string());
  }
}

void Access::refresh() {
  while (watch_) {
    auto batch = watch_->poll();
    if (!batch) {
      if (watch_->error()) break;
      return;
    }
    for (const WatchEvent& event : batch->events) {
      take(event.kv.key, event.type == WatchEvent::Type::put ? &event.kv.value : nullptr);
    }
  }
  // The history that the watch needed is gone, or the store was away: read everything again.
  if (auto loaded = load(); !loaded && !complained_) {
    complained_ = true;
    engine_.log(LogLevel::error, "apiserver",
                "decisions rest on the roles as they were: " + loaded.error().to_string());
  }
}

AccessDecision Access::decide(const Identity& user, const RequestInfo& info) {
  if (user.in_group("system:masters")) return {true, ""};
  std::lock_guard lock(mutex_);
  refresh();
  return rbac_.decide(request_of(user, info));
}

RbacAuthorizer::Rules Access::rules_for(const Identity& user, const std::string& ns) {
  std::lock_guard lock(mutex_);
  refresh();
  return rbac_.rules_for(user.user, user.groups, ns);
}

std::optional<std::vector<PolicyRule>> Access::rules_of_role(const std::string& kind, const std::string& ns,
                                                             const std::string& name) {
  std::lock_guard lock(mutex_);
  refresh();
  return rbac_.rules_of_role(kind, ns, name);
}

std::vector<std::pair<std::string, std::vector<PolicyRule>>> Access::aggregated() {
  std::lock_guard lock(mutex_);
  refresh();
  std::vector<std::pair<std::string, std::vector<PolicyRule>>> out;
  for (const std::string& name : rbac_.aggregated_roles()) {
    out.emplace_back(name, rbac_.rules_of_role("ClusterRole", "", name).value_or(std::vector<PolicyRule>{}));
  }
  return out;
}

Error refusal(const Identity& user, const RequestInfo& info, const AccessDecision& decision) {
  const std::string why = decision.reason.empty() ? std::string() : ": " + decision.reason;
  if (!info.is_resource) {
    return api::status_error(api::make_status(
        403, "Forbidden",
        "forbidden: User \"" + user.user + "\" cannot " + info.verb + " path \"" + info.path + "\"" + why));
  }
  const api::ResourceName resource(info.group, info.resource);
  return api::forbidden(resource, info.name,
                        api::cannot_do(user.user, info.verb, resource, info.subresource, info.ns) + why);
}

Result<void> authorize(const ApiCore& core, const Identity& user, const RequestInfo& info) {
  const AccessDecision decision = core.access().decide(user, info);
  if (decision.allowed) return {};
  return refusal(user, info, decision);
}

}  // namespace orchestra::apiserver
