// Garbage collection by owner (kubernetes/pkg/controller/garbagecollector/garbagecollector.go).
//
// An owner is its UID: a new object under an old name keeps nothing alive and kills nothing. Three ways:
//   background  an object all of whose owners are gone is deleted
//   foreground  an owner with finalizer `foregroundDeletion` deletes its dependants, waits for those that
//               block it (blockOwnerDeletion), then goes
//   orphan      an owner with finalizer `orphan` is taken off its dependants' lists, then goes
// The cache may be late in either direction, so an owner that it does not have is looked up live before
// anything is deleted, and deletes carry UID and resourceVersion. An owner of a kind that is not in the
// catalog counts as there: what cannot be seen must not kill. One in another namespace is an Event.
//
// A key is "apiVersion|resource|namespace|name".
#include "controllers/garbage/decide.hpp"

#include <algorithm>
#include <map>
#include <optional>

#include "controllers/common/objects.hpp"

namespace orchestra::controllers {

namespace {

constexpr const char* kForeground = "foregroundDeletion";
constexpr const char* kOrphan = "orphan";

std::string key_of(const ResourceRef& resource, const Object& object) {
  return resource.api_version + "|" + resource.resource + "|" + object.ns() + "|" + object.name();
}

struct Place {
  ResourceRef resource;
  std::string ns, name;
};
std::optional<Place> place_of(const std::string& key) {
  const auto first = key.find('|');
  const auto second = key.find('|', first + 1);
  const auto third = key.find('|', second + 1);
  if (first == std::string::npos || second == std::string::npos || third == std::string::npos)
    return std::nullopt;
  return Place{{key.substr(0, first), key.substr(first + 1, second - first - 1)},
               key.substr(second + 1, third - second - 1),
               key.substr(third + 1)};
}

bool has_finalizer(const Object& object, const char* finalizer) {
  const auto& all = object.finalizers();
  return std::find(all.begin(), all.end(), finalizer) != all.end();
}

// Dependants deleted in the foreground keep their way of being deleted for what depends on them.
std::string propagation_of(const Object& object) {
  if (has_finalizer(object, kOrphan)) return "Orphan";
  if (has_finalizer(object, kForeground)) return "Foreground";
  return "Background";
}

Object without_finalizer(const Object& object, const char* finalizer) {
  json::value copy = tree(object);
  json::array& all = array_in(copy, "/metadata/finalizers");
  all.erase(std::remove(all.begin(), all.end(), json::value(finalizer)), all.end());
  return object_from_tree(std::move(copy));
}

Object without_owners(const Object& object, const std::vector<std::string>& uids) {
  Object copy = object;
  for (const std::string& uid : uids) copy = released(copy, uid);
  return copy;
}

class GarbageCollector final : public Reconciler {
 public:
  explicit GarbageCollector(std::vector<KnownResource> catalog) : catalog_(std::move(catalog)) {
    for (const KnownResource& known : catalog_)
      by_kind_[group_of(known.ref.api_version) + "/" + known.kind] = &known;
  }

  std::string name() const override { return "garbage-collector"; }
  std::size_t parallel_keys() const override { return 8; }

  std::vector<Source> sources() const override {
    std::vector<Source> sources;
    for (const KnownResource& known : catalog_) {
      sources.push_back(
          {known.ref, true,
           [this, ref = known.ref](const View& view, const Object& old, const Object& now,
                                   const KeySink& wake) { map_change(ref, view, old, now, wake); }});
    }
    return sources;
  }

  Actions decide(const std::string& key, const View& view, Now) const override {
    Actions actions;
    const auto place = place_of(key);
    if (!place) return actions;
    const Object object = view.get(place->resource, place->ns, place->name);
    if (!object) return actions;
    if (object.deleting() && has_finalizer(object, kOrphan)) {
      orphan_dependants(place->resource, object, view, actions);
    } else if (object.deleting() && has_finalizer(object, kForeground)) {
      delete_dependants(place->resource, object, view, actions);
    } else if (!object.deleting()) {
      judge(place->resource, object, view, actions);
    }
    return actions;
  }

 private:
  struct Dependant {
    ResourceRef resource;
    Object object;
  };

  static std::string group_of(const std::string& api_version) {
    const auto slash = api_version.find('/');
    return slash == std::string::npos ? "" : api_version.substr(0, slash);
  }

  void map_change(const ResourceRef& ref, const View& view, const Object& old, const Object& now,
                  const KeySink& wake) const {
    if (!now) {
      for (const Dependant& dependant : dependants_of(old.uid(), view)) {
        wake(key_of(dependant.resource, dependant.object));
      }
      wake_owners(old, view, wake);
      return;
    }
    const bool began_to_end = now.deleting() && (!old || !old.deleting());
    const bool changed = !old || began_to_end || old.finalizers() != now.finalizers() ||
                         !same_meaning(find(tree(old), "/metadata/ownerReferences"),
                                       find(tree(now), "/metadata/ownerReferences"));
    if (!changed) return;
    if (now.deleting() ? !now.finalizers().empty() : !well_owned(now, view)) wake(key_of(ref, now));
    // An owner that waits for this one may go on, or stop waiting.
    if (!now.owners().empty() && (began_to_end || old)) wake_owners(now, view, wake);
    if (began_to_end && has_finalizer(now, kForeground)) {
      for (const Dependant& dependant : dependants_of(now.uid(), view)) {
        wake(key_of(dependant.resource, dependant.object));
      }
    }
  }

  // Whether there is nothing to decide about an object that stays: an owner that goes later wakes it then.
  bool well_owned(const Object& object, const View& view) const {
    return std::all_of(object.owners().begin(), object.owners().end(), [&](const OwnerReference& owner) {
      return judge_owner(owner, object, view) == Owner::solid;
    });
  }

  void wake_owners(const Object& object, const View& view, const KeySink& wake) const {
    for (const OwnerReference& owner : object.owners()) {
      const KnownResource* known = resource_of(owner);
      const ObjectCache* cache = known == nullptr ? nullptr : view.cache(known->ref);
      const Object there = cache == nullptr ? Object() : cache->by_uid(owner.uid);
      if (there && there.deleting()) wake(key_of(known->ref, there));
    }
  }

  const KnownResource* resource_of(const OwnerReference& owner) const {
    const auto found = by_kind_.find(group_of(owner.api_version) + "/" + owner.kind);
    return found == by_kind_.end() ? nullptr : found->second;
  }

  std::vector<Dependant> dependants_of(const std::string& uid, const View& view) const {
    std::vector<Dependant> dependants;
    for (const KnownResource& known : catalog_) {
      for (Object& object : view.find(known.ref, ObjectCache::kOwner, uid)) {
        dependants.push_back({known.ref, std::move(object)});
      }
    }
    return dependants;
  }

  void orphan_dependants(const ResourceRef& resource, const Object& owner, const View& view,
                         Actions& actions) const {
    for (const Dependant& dependant : dependants_of(owner.uid(), view)) {
      actions.update(dependant.resource, released(dependant.object, owner.uid()),
                     "its owner leaves it as an orphan");
    }
    actions.update(resource, without_finalizer(owner, kOrphan), "all dependants are orphans");
    actions.reason = "deleted with propagation Orphan";
  }

  void delete_dependants(const ResourceRef& resource, const Object& owner, const View& view,
                         Actions& actions) const {
    bool blocked = false;
    for (const Dependant& dependant : dependants_of(owner.uid(), view)) {
      for (const OwnerReference& reference : dependant.object.owners()) {
        if (reference.uid == owner.uid() && reference.block_owner_deletion) blocked = true;
      }
    }
    // The dependants' own keys delete them: each may have other owners that keep it.
    if (blocked) {
      actions.reason = "waits for dependants that block its deletion";
      return;
    }
    actions.update(resource, without_finalizer(owner, kForeground), "no dependant blocks its deletion");
  }

  enum class Owner { solid, absent, waiting, foreign };

  Owner judge_owner(const OwnerReference& reference, const Object& object, const View& view) const {
    const KnownResource* known = resource_of(reference);
    const ObjectCache* cache = known == nullptr ? nullptr : view.cache(known->ref);
    if (cache == nullptr) return Owner::solid;
    const Object owner = cache->by_uid(reference.uid);
    if (!owner) return Owner::absent;
    if (known->namespaced && owner.ns() != object.ns()) return Owner::foreign;
    const bool waiting =
        owner.deleting() && has_finalizer(owner, kForeground) && reference.block_owner_deletion;
    return waiting ? Owner::waiting : Owner::solid;
  }

  void judge(const ResourceRef& resource, const Object& object, const View& view, Actions& actions) const {
    std::vector<std::string> gone;
    std::vector<LiveCheck> checks;
    bool solid = false;
    bool waiting = false;
    for (const OwnerReference& reference : object.owners()) {
      switch (judge_owner(reference, object, view)) {
        case Owner::solid:
          solid = true;
          break;
        case Owner::foreign:
          actions.event(object, "Warning", "OwnerRefInvalidNamespace",
                        "ownerRef [" + reference.api_version + "/" + reference.kind + ", namespace: " +
                            object.ns() + ", name: " + reference.name + ", uid: " + reference.uid +
                            "] does not exist in namespace \"" + object.ns() + "\"");
          return;
        case Owner::absent: {
          const KnownResource* known = resource_of(reference);
          checks.push_back({known->ref, known->namespaced ? object.ns() : "", reference.name, reference.uid,
                            LiveCheck::Expect::absent});
          gone.push_back(reference.uid);
          break;
        }
        case Owner::waiting:
          waiting = true;
          gone.push_back(reference.uid);
          break;
      }
    }
    if (gone.empty()) return;
    if (solid) {
      Action& update = actions.update(resource, without_owners(object, gone), "other owners keep it");
      update.checks = std::move(checks);
      return;
    }
    const std::string reason = waiting ? "its owner is deleted in the foreground" : "its owners are gone";
    Action& remove = actions.remove(resource, object, reason, true);
    remove.checks = std::move(checks);
    // What depends on it goes first when somebody waits for all of it.
    const bool deep = waiting && !dependants_of(object.uid(), view).empty();
    remove.propagation = deep ? "Foreground" : propagation_of(object);
  }

  const std::vector<KnownResource> catalog_;
  std::map<std::string, const KnownResource*> by_kind_;  // "apps/ReplicaSet"
};

}  // namespace

std::shared_ptr<const Reconciler> make_garbage_collector(std::vector<KnownResource> catalog) {
  return std::make_shared<GarbageCollector>(std::move(catalog));
}

}  // namespace orchestra::controllers
