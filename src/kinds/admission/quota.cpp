// ResourceQuota, atomic with the write: the quota's new status.used is put in the transaction that makes the
// object, so two writers cannot both take the last piece.
//
// Upstream plugin/pkg/admission/resourcequota/controller.go; its texts. What status says is believed while
// it leaves room, for it is never below the truth: only this code adds to it. Before a refusal, and where
// status does not know a resource yet, the truth is counted from the namespace itself; so no refusal waits
// for a controller that takes deletions back into account.
#include <algorithm>

#include "api/meta.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kQuotasMax = 1000;

std::optional<Quantity> quantity_at(const json::value& object, const std::string& list,
                                    const std::string& name) {
  const json::object* found = object_at(object, list);
  const json::value* value = found == nullptr ? nullptr : found->if_contains(name);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  auto parsed = Quantity::parse(value->get_string());
  return parsed ? std::optional<Quantity>(*parsed) : std::nullopt;
}

std::string listed(const Usage& usage) {
  std::string out;
  for (const auto& [name, amount] : usage) out += (out.empty() ? "" : ",") + name + "=" + amount.to_string();
  return out;
}

// Compute resources that a quota bounds and a container does not state.
std::string unstated(const json::value& pod, const json::object& hard) {
  std::string out;
  for (const auto& entry : hard) {
    const std::string name(entry.key());
    std::string kind = "requests";
    std::string resource = name;
    if (name.starts_with("requests.")) resource = name.substr(9);
    if (name.starts_with("limits.")) {
      kind = "limits";
      resource = name.substr(7);
    }
    if (resource != "cpu" && resource != "memory") continue;
    std::string containers;
    for (const char* list : {"/spec/containers", "/spec/initContainers"}) {
      const json::array* all = array_at(pod, list);
      if (all == nullptr) continue;
      for (const json::value& container : *all) {
        const json::object* stated = object_at(container, "/resources/" + kind);
        if (stated != nullptr && stated->contains(resource)) continue;
        containers += (containers.empty() ? "" : ",") + string_at(container, "/name");
      }
    }
    if (!containers.empty()) out += (out.empty() ? "" : "; ") + name + " for: " + containers;
  }
  return out;
}

// Which type a name of a quota speaks of; null: none that is stored here.
api::TypePtr type_of_resource(const api::TypeRegistry& registry, const std::string& name) {
  if (name.starts_with("count/")) {
    const std::string rest = name.substr(6);
    const std::size_t dot = rest.find('.');
    return registry.find_any_version(dot == std::string::npos ? "" : rest.substr(dot + 1),
                                     rest.substr(0, dot));
  }
  if (name.starts_with("services")) return registry.find_any_version("", "services");
  if (name == "persistentvolumeclaims" || name == "requests.storage" ||
      name.find(".storageclass.storage.k8s.io/") != std::string::npos) {
    return registry.find_any_version("", "persistentvolumeclaims");
  }
  for (const char* plural : {"secrets", "configmaps", "replicationcontrollers", "resourcequotas"}) {
    if (name == plural) return registry.find_any_version("", plural);
  }
  return registry.find_any_version("", "pods");
}

class Quota {
 public:
  Quota(Admission& admission, Loaded loaded, json::value tree)
      : admission_(admission), loaded_(std::move(loaded)), tree_(std::move(tree)) {}

  /// Charges `delta` (only what is positive counts); refuses where it does not fit.
  Result<void> charge(const Usage& delta) {
    const json::object* hard = object_at(tree_, "/spec/hard");
    if (hard == nullptr) return {};
    Usage asked;
    for (const auto& entry : *hard) {
      const auto found = delta.find(std::string(entry.key()));
      if (found != delta.end() && found->second.sign() > 0) asked[found->first] = found->second;
    }
    if (creates(admission_) && is_type(admission_, "", "pods")) {
      const std::string missing = unstated(*admission_.object, *hard);
      if (!missing.empty()) return deny(admission_, "failed quota: " + name() + ": must specify " + missing);
    }
    if (asked.empty()) return {};
    ORC_TRY(know(asked));
    Usage over = exceeded(asked);
    if (!over.empty()) {
      ORC_TRY(count(asked));
      over = exceeded(asked);
    }
    if (!over.empty()) {
      Usage requested;
      Usage used;
      Usage limited;
      for (const auto& [resource, amount] : over) {
        requested[resource] = asked[resource];
        used[resource] = used_[resource];
        limited[resource] = amount;
      }
      return deny(admission_, "exceeded quota: " + name() + ", requested: " + listed(requested) +
                                  ", used: " + listed(used) + ", limited: " + listed(limited));
    }
    write(asked);
    return {};
  }

 private:
  std::string name() const { return std::string(api::meta_string(tree_, "name")); }

  // What is used now of the resources that matter.
  Result<void> know(const Usage& asked) {
    Usage unknown;
    for (const auto& [resource, amount] : asked) {
      const auto used = quantity_at(tree_, "/status/used", resource);
      if (used && quantity_at(tree_, "/status/hard", resource)) {
        used_[resource] = *used;
      } else {
        unknown[resource] = amount;
      }
    }
    return unknown.empty() ? Result<void>() : count(unknown);
  }

  Usage exceeded(const Usage& asked) {
    Usage over;
    for (const auto& [resource, amount] : asked) {
      const auto bound = quantity_at(tree_, "/spec/hard", resource);
      if (bound && used_[resource] + amount > *bound) over[resource] = *bound;
    }
    return over;
  }

  // The truth: every object of the namespace that counts.
  Result<void> count(const Usage& resources) {
    const auto registry = admission_.input.core->registry();
    std::map<std::string, api::TypePtr> types;
    for (const auto& [resource, amount] : resources) {
      used_[resource] = Quantity();
      if (auto type = type_of_resource(*registry, resource)) types[type->qualified_resource()] = type;
    }
    for (const auto& [qualified, type] : types) {
      ORC_ASSIGN(const auto items,
                 admission_.view.range(objects_range(place_of(*type), admission_.input.ns())));
      for (const KeyValue& kv : items) {
        ORC_ASSIGN(const StoredView stored, decode_stored_frame(kv.value.bytes()));
        ORC_ASSIGN(const json::value object, parse_json(stored.json));
        if (!quota_selects(tree_, *type, object)) continue;
        for (const auto& [resource, amount] : usage_of(*type, object)) {
          if (resources.contains(resource)) used_[resource] += amount;
        }
      }
    }
    return {};
  }

  void write(const Usage& asked) {
    if (admission_.input.dry_run) return;
    for (const auto& [resource, amount] : asked) {
      json::object used =
          object_at(tree_, "/status/used") != nullptr ? *object_at(tree_, "/status/used") : json::object();
      used[resource] = (used_[resource] + amount).to_string();
      set_at(tree_, "/status/used", std::move(used));
      json::object hard =
          object_at(tree_, "/status/hard") != nullptr ? *object_at(tree_, "/status/hard") : json::object();
      hard[resource] = *object_at(tree_, "/spec/hard")->if_contains(resource);
      set_at(tree_, "/status/hard", std::move(hard));
    }
    const api::TypePtr type = admission_.input.core->registry()->find_any_version("", "resourcequotas");
    admission_.change.expect(loaded_.kv.key, loaded_.kv);
    admission_.change.put(loaded_.kv.key, Value(encode_object(*type, tree_)));
  }

  Admission& admission_;
  Loaded loaded_;
  json::value tree_;
  Usage used_;
};
}  // namespace

Result<void> admit_quota(Admission& admission) {
  const api::TypeRecord& type = *admission.input.type;
  // What expires by itself is not counted: its lease would take the quota with it.
  if (!type.namespaced || admission.object == nullptr || type.ttl_seconds > 0) return {};
  ORC_ASSIGN(const auto found,
             admission.view.range(objects_range({"", "resourcequotas"}, admission.input.ns()), kQuotasMax));
  if (found.empty()) return {};
  Usage delta = usage_of(type, *admission.object);
  if (admission.old != nullptr) {
    for (const auto& [name, amount] : usage_of(type, *admission.old)) delta[name] -= amount;
  }
  // Its own write is no quota's to charge twice.
  const std::string own = type.plural == "resourcequotas" && type.group.empty()
                              ? std::string(api::meta_string(*admission.object, "name"))
                              : std::string();
  for (const KeyValue& kv : found) {
    auto view = decode_stored(kv.value.bytes());
    if (!view) return view.error();
    Loaded loaded{kv, *view};
    // The view points into the value, which the copy shares.
    ORC_ASSIGN(json::value tree, loaded.tree());
    if (!own.empty() && api::meta_string(tree, "name") == own) continue;
    if (!quota_selects(tree, type, *admission.object)) continue;
    Quota quota(admission, std::move(loaded), std::move(tree));
    ORC_TRY(quota.charge(delta));
  }
  return {};
}

}  // namespace orchestra::apiserver
