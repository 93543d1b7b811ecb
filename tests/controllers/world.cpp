// The test cluster: see world.hpp.
#include "tests/controllers/world.hpp"

#include <algorithm>
#include <stdexcept>

namespace orchestra::test {

using namespace controllers;

const ObjectCache* World::cache(const ResourceRef& resource) const {
  return &const_cast<World*>(this)->objects(resource);
}

ObjectCache& World::objects(const ResourceRef& resource) {
  auto& slot = caches_[resource];
  if (!slot) slot = std::make_unique<ObjectCache>();
  return *slot;
}

void World::see(const Object& object) {
  history_.push_back({objects(resource_of_object(object)).put(object), object, now()});
}

void World::restart() {
  history_.clear();
  for (const auto& [resource, cache] : caches_) {
    for (const Object& object : cache->list()) history_.push_back({{}, object, now()});
  }
}

void World::observe(const std::vector<Source>& sources) {
  observations_ = {};
  for (const Seen& seen : history_) {
    for (const Source& source : sources) {
      if (source.resource == resource_of_object(seen.now))
        observations_.change(source, seen.old, seen.now, seen.at);
    }
  }
}

Object World::add(Object object) {
  json::value copy = tree(object);
  json::object& metadata = object_in(copy, "/metadata");
  if (!metadata.contains("uid")) metadata["uid"] = "uid-" + std::to_string(next_uid_++);
  if (!metadata.contains("creationTimestamp")) metadata["creationTimestamp"] = format_time(wall_ns);
  if (!metadata.contains("generation")) metadata["generation"] = 1;
  metadata["resourceVersion"] = std::to_string(++revision_);
  Object stored = object_from_tree(std::move(copy));
  objects(resource_of_object(stored)).put(stored);
  ++writes;
  return stored;
}

void World::edit(const ResourceRef& resource, const std::string& ns, const std::string& name,
                 const std::function<void(json::value&)>& change) {
  const Object old = objects(resource).get(ns, name);
  if (!old) throw std::runtime_error("no " + resource.text() + " " + name);
  json::value copy = tree(old);
  change(copy);
  if (!same_meaning(orchestra::find(copy, "/spec"), orchestra::find(tree(old), "/spec"))) {
    set_at(copy, "/metadata/generation", old.generation() + 1);
  }
  set_at(copy, "/metadata/resourceVersion", json::value(std::to_string(++revision_)));
  ++writes;
  Object stored = object_from_tree(std::move(copy));
  if (stored.deleting() && stored.finalizers().empty() && resource != pods()) {
    objects(resource).erase(ObjectKey::of(stored));
  } else {
    objects(resource).put(stored);
  }
}

void World::edit_status(const ResourceRef& resource, const Object& object,
                        const std::function<void(json::value&)>& change) {
  edit(resource, object.ns(), object.name(), [&](json::value& root) {
    json::value status = orchestra::find(root, "/status") != nullptr ? *orchestra::find(root, "/status")
                                                                     : json::value(json::object());
    change(status);
    set_at(root, "/status", std::move(status));
  });
}

void World::erase(const ResourceRef& resource, const Object& object) {
  objects(resource).erase(ObjectKey::of(object));
  ++revision_;
  ++writes;
}

void World::finish_pods() {
  for (const Object& pod : objects(pods()).list()) {
    if (pod.deleting()) erase(pods(), pod);
  }
}

Result<void> World::apply(const Actions& actions) {
  for (const Action& action : actions.list) ORC_TRY(apply(action));
  return {};
}

Result<void> World::apply_some(const Actions& actions, std::size_t count) {
  for (std::size_t i = 0; i < std::min(count, actions.list.size()); ++i) ORC_TRY(apply(actions.list[i]));
  return {};
}

Result<void> World::apply(const Action& action) {
  const auto fail = [&](Error::Code code) { return Error(code, "test", action.describe()); };
  if (action.verb == Action::Verb::event) {
    events.push_back(action.event_reason + ": " + action.event_message);
    return {};
  }
  ObjectCache& cache = objects(action.resource);
  const Object old = cache.get(action.ns, action.name);
  if (action.verb == Action::Verb::create) {
    Object object = action.object;
    if (action.name.empty()) {
      const std::string name = string_at(tree(object), "/metadata/generateName") + std::to_string(next_uid_);
      object = *object.with("/metadata/name", to_json(json::value(name)));
    } else if (old) {
      return fail(Error::already_exists);
    }
    add(std::move(object));
    return {};
  }
  if (!old) return fail(Error::not_found);
  if (!action.uid.empty() && action.uid != old.uid()) return fail(Error::conflict);
  if (action.verb == Action::Verb::remove) {
    if (!action.resource_version.empty() && action.resource_version != old.resource_version()) {
      return fail(Error::conflict);
    }
    const std::string finalizer = action.propagation == "Orphan"       ? "orphan"
                                  : action.propagation == "Foreground" ? "foregroundDeletion"
                                                                       : "";
    const bool stays =
        (pods_linger && action.resource == pods()) || !old.finalizers().empty() || !finalizer.empty();
    if (!stays) {
      erase(action.resource, old);
    } else if (!old.deleting()) {
      edit(action.resource, old.ns(), old.name(), [&](json::value& root) {
        set_at(root, "/metadata/deletionTimestamp", json::value(format_time(wall_ns)));
        if (!finalizer.empty()) array_in(root, "/metadata/finalizers").push_back(json::value(finalizer));
      });
    }
    return {};
  }
  if (action.verb == Action::Verb::update) {
    edit(action.resource, action.ns, action.name, [&](json::value& root) {
      if (action.subresource == "status") {
        const json::value* status = orchestra::find(tree(action.object), "/status");
        set_at(root, "/status", status != nullptr ? *status : json::value(json::object()));
      } else {
        const json::value* status = orchestra::find(root, "/status");
        json::value keep = status != nullptr ? *status : json::value();
        root = tree(action.object);
        if (!keep.is_null()) set_at(root, "/status", std::move(keep));
      }
    });
    return {};
  }
  return fail(Error::unsupported);
}

void World::settle(const std::vector<std::shared_ptr<const Reconciler>>& reconcilers, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t before = writes;
    for (const auto& reconciler : reconcilers) {
      std::set<std::string> keys;
      for (const Source& source : reconciler->sources()) {
        if (!source.keys) continue;
        for (const Object& object : objects(source.resource).list()) {
          source.keys(*this, {}, object, [&](const std::string& key) { keys.insert(key); });
        }
      }
      for (const std::string& key : keys) {
        const auto done = apply(reconciler->decide(key, *this, now()));
        if (!done) throw std::runtime_error(reconciler->name() + " " + key + ": " + done.error().to_string());
      }
    }
    if (writes == before) return;
  }
  throw std::runtime_error("the controllers did not come to rest");
}

}  // namespace orchestra::test
