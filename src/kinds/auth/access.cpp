// The live authorizers and the 403 of a refusal: see access.hpp.
#include "apiserver/auth/access.hpp"
#include "api/status.hpp"
#include "apiserver/core.hpp"
#include "apiserver/store_key.hpp"
#include "apiserver/stored_object.hpp"

namespace orchestra::apiserver {
namespace {
const std::string kPrefix = "/orchestra/objects/rbac.authorization.k8s.io/";
const std::string kPods = "/orchestra/objects/core/pods/";
const std::string kVolumes = "/orchestra/objects/core/persistentvolumes/";
const std::string kAttachments = "/orchestra/objects/storage.k8s.io/volumeattachments/";

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
  if (info.verb != "list" && info.verb != "watch" && info.verb != "deletecollection") return request;
  request.field_selector = query_value(info.query, "fieldSelector");
  // A list that can only hold one object is a question about that object (upstream requestinfo.go).
  for (const std::string& part : split(request.field_selector, ',')) {
    const std::size_t equals = part.find('=');
    if (!request.name.empty() || part.substr(0, equals) != "metadata.name") continue;
    request.name = part.substr(equals + (part.compare(equals, 2, "==") == 0 ? 2 : 1));
  }
  return request;
}

// The two parts of a key behind its prefix: {NS, NAME}; "-" is no namespace.
std::optional<std::pair<std::string, std::string>> place_in(const std::string& key,
                                                            const std::string& prefix) {
  const std::string_view tail = std::string_view(key).substr(prefix.size());
  const std::size_t slash = tail.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  std::string ns(tail.substr(0, slash));
  if (ns == "-") ns.clear();
  return std::pair(std::move(ns), std::string(tail.substr(slash + 1)));
}

std::optional<json::value> tree_of(const Value& value) {
  const auto view = decode_stored_frame(value.bytes());
  auto parsed = view ? parse_json(view->json) : Result<json::value>(view.error());
  if (!parsed) return std::nullopt;
  return std::move(*parsed);
}
}  // namespace

Access::Access(Engine& engine, std::shared_ptr<StateStore> store)
    : engine_(engine),
      roles_(
          engine, store, kPrefix, [this] { rbac_ = RbacAuthorizer(); },
          [this](const std::string& key, const Value* value) { take_role(key, value); }) {
  const auto follow = [&](const std::string& prefix, void (api::NodeAuthorizer::*forget)(),
                          void (Access::*take)(const std::string&, const Value*)) {
    node_feeds_.emplace_back(
        engine, store, prefix, [this, forget] { (nodes_.*forget)(); },
        [this, take](const std::string& key, const Value* value) { (this->*take)(key, value); });
  };
  follow(kPods, &api::NodeAuthorizer::forget_pods, &Access::take_pod);
  follow(kVolumes, &api::NodeAuthorizer::forget_volumes, &Access::take_volume);
  follow(kAttachments, &api::NodeAuthorizer::forget_attachments, &Access::take_attachment);
}

Result<void> Access::open() {
  std::lock_guard lock(mutex_);
  return roles_.load();
}

// One key that changed; null: removed.
void Access::take_role(const std::string& key, const Value* value) {
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

void Access::take_pod(const std::string& key, const Value* value) {
  const auto place = place_in(key, kPods);
  if (!place) return;
  const auto view = value == nullptr ? Result<StoredView>(Error(Error::not_found, "apiserver", key))
                                     : decode_stored(value->bytes());
  const auto node = view ? view->field("spec.nodeName") : std::nullopt;
  if (!node || node->empty()) return nodes_.remove_pod(place->first, place->second);
  nodes_.put_pod(place->first, place->second, std::string(*node), [kept = *value] { return tree_of(kept); });
}

void Access::take_volume(const std::string& key, const Value* value) {
  const auto place = place_in(key, kVolumes);
  if (!place) return;
  nodes_.remove_volume(place->second);
  if (value == nullptr) return;
  if (const auto tree = tree_of(*value)) nodes_.put_volume(*tree);
}

void Access::take_attachment(const std::string& key, const Value* value) {
  const auto place = place_in(key, kAttachments);
  if (!place) return;
  nodes_.remove_attachment(place->second);
  if (value == nullptr) return;
  if (const auto tree = tree_of(*value))
    nodes_.put_attachment(place->second, string_at(*tree, "/spec/nodeName"));
}

AccessDecision Access::decide_as_node(const AccessRequest& request) {
  std::lock_guard lock(node_mutex_);
  for (StoreFeed& feed : node_feeds_) {
    if (nodes_open_) {
      feed.refresh();
    } else if (auto loaded = feed.load(); !loaded) {
      return {false, "the pods of nodes cannot be read: " + loaded.error().to_string()};
    }
  }
  nodes_open_ = true;
  return nodes_.decide(request);
}

AccessDecision Access::decide(const Identity& user, const RequestInfo& info) {
  if (user.in_group("system:masters")) return {true, ""};
  const AccessRequest request = request_of(user, info);
  AccessDecision as_node;
  if (api::node_of_user(user.user, user.groups)) as_node = decide_as_node(request);
  if (as_node.allowed) return as_node;
  std::lock_guard lock(mutex_);
  roles_.refresh();
  AccessDecision decision = rbac_.decide(request);
  if (decision.allowed || as_node.reason.empty()) return decision;
  if (!decision.reason.empty()) as_node.reason += "\n" + decision.reason;
  return as_node;
}

RbacAuthorizer::Rules Access::rules_for(const Identity& user, const std::string& ns) {
  std::lock_guard lock(mutex_);
  roles_.refresh();
  RbacAuthorizer::Rules rules = rbac_.rules_for(user.user, user.groups, ns);
  if (api::node_of_user(user.user, user.groups))
    rules.errors.emplace_back("node authorizer does not support user rule resolution");
  return rules;
}

std::optional<std::vector<PolicyRule>> Access::rules_of_role(const std::string& kind, const std::string& ns,
                                                             const std::string& name) {
  std::lock_guard lock(mutex_);
  roles_.refresh();
  return rbac_.rules_of_role(kind, ns, name);
}

std::vector<std::pair<std::string, std::vector<PolicyRule>>> Access::aggregated() {
  std::lock_guard lock(mutex_);
  roles_.refresh();
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

Result<void> authorize(const ApiCore& core, const Identity& user, const RequestInfo& info,
                       AuditNotes* notes) {
  const AccessDecision decision = core.access().decide(user, info);
  if (notes != nullptr) {
    notes->authorization["authorization.k8s.io/decision"] = decision.allowed ? "allow" : "forbid";
    notes->authorization["authorization.k8s.io/reason"] = decision.reason;
  }
  if (decision.allowed) return {};
  return refusal(user, info, decision);
}

}  // namespace orchestra::apiserver
