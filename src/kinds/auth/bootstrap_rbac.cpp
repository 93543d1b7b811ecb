// The default roles and bindings, reconciled: upstream component-helpers/auth/rbac/reconciliation.
//
// Missing ones are made; of those there, missing rules, subjects, labels and annotations are added and what
// somebody added stays, unless the annotation autoupdate says "false". A binding whose roleRef differs is
// made anew, for a roleRef cannot change. Aggregated roles get the sum of what they select.
#include <algorithm>
#include <map>

#include "api/object_tree.hpp"
#include "api/rbac/rules.hpp"
#include "apiserver/auth/access.hpp"
#include "apiserver/bootstrap.hpp"

namespace orchestra::apiserver {
namespace {
constexpr const char* kVersion = "rbac.authorization.k8s.io/v1";
constexpr const char* kAutoUpdate = "/metadata/annotations/rbac.authorization.kubernetes.io~1autoupdate";

constexpr const char* kOnce = "once ";

using Known = std::map<std::string, Object>;  // KIND/NS/NAME

std::string key_of(const std::string& kind, const std::string& ns, const std::string& name) {
  return kind + "/" + ns + "/" + name;
}

Result<Known> known_objects(const Asking& ask) {
  Known known;
  for (const char* resource : {"clusterroles", "clusterrolebindings", "roles", "rolebindings"}) {
    ORC_ASSIGN(const ObjectList list, ask(ask.client.list(kVersion, resource)));
    for (const Object& object : list.items) known[key_of(object.kind(), object.ns(), object.name())] = object;
  }
  return known;
}

bool add_metadata(json::value& object, const json::value& wanted, const char* pointer) {
  const json::object* from = object_at(wanted, pointer);
  if (from == nullptr) return false;
  bool changed = false;
  for (const auto& [key, value] : *from) {
    const json::object* own = object_at(object, pointer);
    if (own != nullptr && own->contains(key)) continue;
    json::object merged = own != nullptr ? *own : json::object();
    merged[key] = value;
    set_at(object, pointer, std::move(merged));
    changed = true;
  }
  return changed;
}

// True if `object` lacked something of `wanted`.
bool complete(json::value& object, const json::value& wanted) {
  bool changed = add_metadata(object, wanted, "/metadata/labels");
  changed = add_metadata(object, wanted, "/metadata/annotations") || changed;
  if (const json::value* rule = find(wanted, "/aggregationRule")) {
    if (find(object, "/aggregationRule") != nullptr) return changed;
    object.get_object()["aggregationRule"] = *rule;
    return true;
  }
  if (find(wanted, "/roleRef") == nullptr) {
    const auto missing = rules_not_covered(api::rbac::rules_of(object), api::rbac::rules_of(wanted));
    if (missing.empty()) return changed;
    json::value& rules = object.get_object()["rules"];
    if (!rules.is_array()) rules = json::array();
    for (const PolicyRule& rule : missing) rules.get_array().push_back(api::rbac::rule_json(rule));
    return true;
  }
  const json::array* subjects = array_at(wanted, "/subjects");
  if (subjects == nullptr) return changed;
  json::array own = array_at(object, "/subjects") != nullptr ? *array_at(object, "/subjects") : json::array();
  for (const json::value& subject : *subjects) {
    const auto same = [&](const json::value& one) {
      return string_at(one, "/kind") == string_at(subject, "/kind") &&
             string_at(one, "/name") == string_at(subject, "/name") &&
             string_at(one, "/namespace") == string_at(subject, "/namespace");
    };
    if (std::any_of(own.begin(), own.end(), same)) continue;
    own.push_back(subject);
    changed = true;
  }
  if (changed) object.get_object()["subjects"] = std::move(own);
  return changed;
}

ApiRequest request_for(const char* verb, const json::value& object) {
  ApiRequest request;
  request.verb = verb;
  request.api_version = kVersion;
  request.resource = resource_of_kind(kVersion, string_at(object, "/kind"));
  request.ns = string_at(object, "/metadata/namespace");
  if (std::string_view(verb) != "create") request.name = string_at(object, "/metadata/name");
  if (std::string_view(verb) != "delete") request.object = object_from_tree(object);
  return request;
}

// A default that somebody changed to something that cannot be mended is his; what is made elsewhere at the
// same time is fine.
Result<void> write(const Asking& ask, std::vector<ApiRequest> requests) {
  if (requests.empty()) return {};
  std::vector<std::string> names;
  for (const ApiRequest& request : requests) {
    names.push_back(request.object ? request.object.kind() + " \"" + request.object.name() + "\""
                                   : request.name);
  }
  ORC_ASSIGN(const auto results, ask(ask.client.batch(std::move(requests))));
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i] || results[i].error().is(Error::already_exists) || results[i].error().is(Error::conflict))
      continue;
    return results[i].error().with_context("bootstrap object " + names[i]);
  }
  return {};
}

std::string versions_of(const Known& known) {
  std::string text;
  for (const auto& [key, object] : known) text += key + "@" + object.resource_version() + "\n";
  return text;
}

// False: there was nothing to sum up.
Result<bool> sum_up(const Asking& ask, Access& access, const Known& known) {
  std::vector<ApiRequest> updates;
  for (const auto& [name, rules] : access.aggregated()) {
    const auto found = known.find(key_of("ClusterRole", "", name));
    if (found == known.end()) continue;
    if (api::rbac::rules_of(tree(found->second)) == rules) continue;
    json::value object = tree(found->second);
    json::array list;
    for (const PolicyRule& rule : rules) list.push_back(api::rbac::rule_json(rule));
    object.get_object()["rules"] = std::move(list);
    updates.push_back(request_for("update", object));
  }
  const bool any = !updates.empty();
  ORC_TRY(write(ask, std::move(updates)));
  return any;
}
}  // namespace

Result<void> bootstrap_rbac(const std::shared_ptr<ApiCore>& core, std::string* seen) {
  const Asking ask(core);
  ORC_ASSIGN(Known known, known_objects(ask));
  const std::string versions = seen == nullptr ? std::string() : versions_of(known);
  if (seen != nullptr && !seen->empty() && *seen == versions) return {};
  std::vector<ApiRequest> removals;
  std::vector<ApiRequest> writes;
  for (const json::value& wanted : api::rbac::default_objects()) {
    const auto found = known.find(key_of(string_at(wanted, "/kind"), string_at(wanted, "/metadata/namespace"),
                                         string_at(wanted, "/metadata/name")));
    if (found == known.end()) {
      writes.push_back(request_for("create", wanted));
      continue;
    }
    json::value object = tree(found->second);
    if (string_at(object, kAutoUpdate) == "false") continue;
    const bool rebind = string_at(object, "/roleRef/name") != string_at(wanted, "/roleRef/name");
    if (rebind) {
      removals.push_back(request_for("delete", object));
      writes.push_back(request_for("create", wanted));
    } else if (complete(object, wanted)) {
      writes.push_back(request_for("update", object));
    }
  }
  const bool changed = !writes.empty() || !removals.empty();
  ORC_TRY(write(ask, std::move(removals)));
  ORC_TRY(write(ask, std::move(writes)));
  if (changed) {
    ORC_ASSIGN(known, known_objects(ask));
  }
  ORC_ASSIGN(const bool summed, sum_up(ask, core->access(), known));
  // What aggregated roles select is read through a watch, which may be behind: twice the same is sure.
  if (seen != nullptr)
    *seen = changed || summed ? "" : *seen == kOnce + versions ? versions : kOnce + versions;
  return {};
}

}  // namespace orchestra::apiserver
