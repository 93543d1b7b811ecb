// Objects of one resource, ordered by (namespace, name), with indexes from values to keys.
//
// Labels are indexed by whole sets: replicas share one set of labels, so a selector is tried once per set and
// namespace instead of once per pod. Every index holds exactly the keys of the objects that are here.
#include <mutex>
#include <set>
#include <shared_mutex>
#include <unordered_map>

#include "api/object_tree.hpp"
#include "orchestra/informer.hpp"

namespace orchestra {

ObjectKey ObjectKey::from_text(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return {{}, std::string(text)};
  return {std::string(text.substr(0, slash)), std::string(text.substr(slash + 1))};
}

namespace {

struct IndexData {
  ObjectCache::Index values;
  std::unordered_map<std::string, std::set<ObjectKey>> keys;

  void add(const ObjectKey& key, const Object& object) {
    for (const std::string& value : values(object)) keys[value].insert(key);
  }
  void remove(const ObjectKey& key, const Object& object) {
    for (const std::string& value : values(object)) {
      const auto found = keys.find(value);
      if (found == keys.end()) continue;
      found->second.erase(key);
      if (found->second.empty()) keys.erase(found);
    }
  }
};

std::vector<std::string> owner_uids(const Object& object) {
  std::vector<std::string> uids;
  for (const OwnerReference& owner : object.owners()) uids.push_back(owner.uid);
  return uids;
}

std::vector<std::string> node_name(const Object& object) {
  std::string name = string_at(tree(object), "/spec/nodeName");
  if (name.empty()) return {};
  return {std::move(name)};
}

}  // namespace

struct ObjectCache::Impl {
  mutable std::shared_mutex mutex;
  std::map<ObjectKey, Object> objects;
  std::unordered_map<std::string, ObjectKey> uids;
  std::map<std::string, IndexData> indexes;
  // namespace -> set of labels -> names
  std::map<std::string, std::map<LabelMap, std::set<std::string>>> label_sets;
  std::uint64_t bytes = 0;

  void link(const ObjectKey& key, const Object& object) {
    for (auto& [name, index] : indexes) index.add(key, object);
    label_sets[key.ns][object.labels()].insert(key.name);
    uids[object.uid()] = key;
    bytes += object.json().size();
  }

  void unlink(const ObjectKey& key, const Object& object) {
    for (auto& [name, index] : indexes) index.remove(key, object);
    auto& sets = label_sets[key.ns];
    const auto found = sets.find(object.labels());
    if (found != sets.end()) {
      found->second.erase(key.name);
      if (found->second.empty()) sets.erase(found);
    }
    if (sets.empty()) label_sets.erase(key.ns);
    uids.erase(object.uid());
    bytes -= object.json().size();
  }
};

ObjectCache::ObjectCache() : impl_(std::make_unique<Impl>()) {
  add_index(kOwner, owner_uids);
  add_index(kNode, node_name);
}
ObjectCache::~ObjectCache() = default;

void ObjectCache::add_index(const std::string& name, Index index) {
  std::unique_lock lock(impl_->mutex);
  IndexData& data = impl_->indexes[name];
  data = IndexData{std::move(index), {}};
  for (const auto& [key, object] : impl_->objects) data.add(key, object);
}

Object ObjectCache::put(Object object) {
  std::unique_lock lock(impl_->mutex);
  const ObjectKey key = ObjectKey::of(object);
  Object& slot = impl_->objects[key];
  if (slot) impl_->unlink(key, slot);
  Object old = std::exchange(slot, std::move(object));
  impl_->link(key, slot);
  return old;
}

Object ObjectCache::erase(const ObjectKey& key) {
  std::unique_lock lock(impl_->mutex);
  const auto found = impl_->objects.find(key);
  if (found == impl_->objects.end()) return {};
  Object old = std::move(found->second);
  impl_->objects.erase(found);
  impl_->unlink(key, old);
  return old;
}

Object ObjectCache::get(const std::string& ns, const std::string& name) const {
  std::shared_lock lock(impl_->mutex);
  const auto found = impl_->objects.find(ObjectKey{ns, name});
  return found == impl_->objects.end() ? Object() : found->second;
}

Object ObjectCache::by_uid(const std::string& uid) const {
  std::shared_lock lock(impl_->mutex);
  const auto found = impl_->uids.find(uid);
  return found == impl_->uids.end() ? Object() : impl_->objects.at(found->second);
}

std::vector<Object> ObjectCache::list() const {
  std::shared_lock lock(impl_->mutex);
  std::vector<Object> objects;
  objects.reserve(impl_->objects.size());
  for (const auto& [key, object] : impl_->objects) objects.push_back(object);
  return objects;
}

std::vector<Object> ObjectCache::list(const std::string& ns) const {
  std::shared_lock lock(impl_->mutex);
  std::vector<Object> objects;
  for (auto it = impl_->objects.lower_bound({ns, {}}); it != impl_->objects.end() && it->first.ns == ns;
       ++it) {
    objects.push_back(it->second);
  }
  return objects;
}

std::vector<Object> ObjectCache::find(const std::string& index, const std::string& value) const {
  std::shared_lock lock(impl_->mutex);
  std::vector<Object> objects;
  const auto data = impl_->indexes.find(index);
  if (data == impl_->indexes.end()) return objects;
  const auto keys = data->second.keys.find(value);
  if (keys == data->second.keys.end()) return objects;
  for (const ObjectKey& key : keys->second) objects.push_back(impl_->objects.at(key));
  return objects;
}

std::vector<Object> ObjectCache::select(const std::string& ns, const LabelMatcher& matches) const {
  std::shared_lock lock(impl_->mutex);
  std::set<ObjectKey> keys;
  for (const auto& [space, sets] : impl_->label_sets) {
    if (!ns.empty() && space != ns) continue;
    for (const auto& [labels, names] : sets) {
      if (!matches(labels)) continue;
      for (const std::string& name : names) keys.insert({space, name});
    }
  }
  std::vector<Object> objects;
  objects.reserve(keys.size());
  for (const ObjectKey& key : keys) objects.push_back(impl_->objects.at(key));
  return objects;
}

std::size_t ObjectCache::size() const {
  std::shared_lock lock(impl_->mutex);
  return impl_->objects.size();
}

std::uint64_t ObjectCache::bytes() const {
  std::shared_lock lock(impl_->mutex);
  return impl_->bytes;
}

}  // namespace orchestra
