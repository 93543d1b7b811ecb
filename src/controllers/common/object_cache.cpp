// Objects of one resource, ordered by (namespace, name), with indexes from values to objects.
//
// Labels are indexed by whole sets: replicas share one set of labels, so a selector is tried once per set and
// namespace instead of once per pod. The sets are indexed by each of their labels: a selector that asks for a
// value is tried on the sets that have it. What nobody controls has sets of its own: whoever looks for
// something to adopt does not walk over the thousands of replicas that have an owner. Indexes hold the places
// of the objects (a map keeps them where they are), so that what an index finds is read without a search for
// its key; a new version whose values are those of the version before leaves them alone. Every index holds
// exactly the places of the objects that are here.
#include <algorithm>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <unordered_map>
#include <unordered_set>

#include "api/object_tree.hpp"
#include "orchestra/informer.hpp"

namespace orchestra {

ObjectKey ObjectKey::from_text(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return {{}, std::string(text)};
  return {std::string(text.substr(0, slash)), std::string(text.substr(slash + 1))};
}

namespace {

using Place = std::map<ObjectKey, Object>::value_type;
struct ByKey {
  bool operator()(const Place* a, const Place* b) const { return a->first < b->first; }
};
using Places = std::set<const Place*, ByKey>;

struct IndexData {
  ObjectCache::Index values;
  std::unordered_map<std::string, Places> places;

  void add(const Place& place, const std::vector<std::string>& all) {
    for (const std::string& value : all) places[value].insert(&place);
  }
  void remove(const Place& place, const std::vector<std::string>& all) {
    for (const std::string& value : all) {
      const auto found = places.find(value);
      if (found == places.end()) continue;
      found->second.erase(&place);
      if (found->second.empty()) places.erase(found);
    }
  }
};

// The objects of one namespace by their labels.
class LabelSets {
 public:
  using Set = std::map<LabelMap, Places>::value_type;

  void add(const Place& place, const LabelMap& labels) {
    const auto [set, fresh] = sets_.try_emplace(labels);
    set->second.insert(&place);
    if (!fresh) return;
    for (const auto& label : set->first) with_[label].insert(&*set);
  }
  void remove(const Place& place, const LabelMap& labels) {
    const auto set = sets_.find(labels);
    if (set == sets_.end()) return;
    set->second.erase(&place);
    if (!set->second.empty()) return;
    for (const auto& label : set->first) {
      const auto found = with_.find(label);
      found->second.erase(&*set);
      if (found->second.empty()) with_.erase(found);
    }
    sets_.erase(set);
  }
  bool empty() const { return sets_.empty(); }

  /// Calls `use` with each set that has all labels of `having`, and maybe others; in no order.
  template <class F>
  void each(const LabelViews& having, F use) const {
    const std::unordered_set<const Set*>* rarest = nullptr;
    for (const auto& label : having) {
      const auto found = with_.find(label);
      if (found == with_.end()) return;
      if (rarest == nullptr || found->second.size() < rarest->size()) rarest = &found->second;
    }
    if (rarest != nullptr) {
      for (const Set* set : *rarest) use(*set);
    } else {
      for (const Set& set : sets_) use(set);
    }
  }

 private:
  struct ByText {
    using is_transparent = void;
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      const int order = std::string_view(a.first).compare(b.first);
      return order != 0 ? order < 0 : std::string_view(a.second) < std::string_view(b.second);
    }
  };
  std::map<LabelMap, Places> sets_;
  std::map<std::pair<std::string, std::string>, std::unordered_set<const Set*>, ByText> with_;
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
  std::unordered_map<std::string, const Place*> uids;
  std::map<std::string, IndexData> indexes;
  using Spaces = std::map<std::string, LabelSets>;  // by namespace
  Spaces label_sets;
  Spaces orphans;  // of these, what nobody controls
  std::uint64_t bytes = 0;

  static void relink_labels(Spaces& spaces, const Place& place, const Object& old, const Object& now) {
    if (!old && !now) return;
    LabelSets& sets = spaces[place.first.ns];
    if (now) sets.add(place, now.labels());
    if (old) sets.remove(place, old.labels());
    if (sets.empty()) spaces.erase(place.first.ns);
  }

  // What of `spaces` matches. The caller holds the mutex.
  static std::vector<Object> select(const Spaces& spaces, const std::string& ns, const LabelMatcher& matches,
                                    const LabelViews& having) {
    std::vector<const Place*> places;
    std::size_t groups = 0;
    const auto take = [&](const LabelSets::Set& set) {
      if (!matches(set.first)) return;
      places.insert(places.end(), set.second.begin(), set.second.end());
      ++groups;
    };
    if (ns.empty()) {
      for (const auto& [space, sets] : spaces) sets.each(having, take);
    } else if (const auto sets = spaces.find(ns); sets != spaces.end()) {
      sets->second.each(having, take);
    }
    if (groups > 1) std::sort(places.begin(), places.end(), ByKey());
    std::vector<Object> objects;
    objects.reserve(places.size());
    for (const Place* place : places) objects.push_back(place->second);
    return objects;
  }

  // What `place` held before (empty: nothing) makes room for what it holds now, or for nothing.
  void relink(const Place& place, const Object& old, const Object& now) {
    for (auto& [name, index] : indexes) {
      const auto before = old ? index.values(old) : std::vector<std::string>();
      const auto after = now ? index.values(now) : std::vector<std::string>();
      if (before == after) continue;
      index.remove(place, before);
      index.add(place, after);
    }
    const bool same_labels = old && now && old.labels() == now.labels();
    if (!same_labels) relink_labels(label_sets, place, old, now);
    const bool was_orphan = old && old.controller() == nullptr;
    const bool is_orphan = now && now.controller() == nullptr;
    if (!same_labels || was_orphan != is_orphan)
      relink_labels(orphans, place, was_orphan ? old : Object(), is_orphan ? now : Object());
    if (!old || !now || old.uid() != now.uid()) {
      if (old) uids.erase(old.uid());
      if (now) uids[now.uid()] = &place;
    }
    bytes += (now ? now.json().size() : 0) - (old ? old.json().size() : 0);
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
  for (const Place& place : impl_->objects) data.add(place, data.values(place.second));
}

Object ObjectCache::put(Object object) {
  std::unique_lock lock(impl_->mutex);
  const auto place = impl_->objects.try_emplace(ObjectKey::of(object)).first;
  Object old = std::exchange(place->second, std::move(object));
  impl_->relink(*place, old, place->second);
  return old;
}

Object ObjectCache::erase(const ObjectKey& key) {
  std::unique_lock lock(impl_->mutex);
  const auto found = impl_->objects.find(key);
  if (found == impl_->objects.end()) return {};
  Object old = std::move(found->second);
  impl_->relink(*found, old, {});
  impl_->objects.erase(found);
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
  return found == impl_->uids.end() ? Object() : found->second->second;
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
  const auto places = data->second.places.find(value);
  if (places == data->second.places.end()) return objects;
  objects.reserve(places->second.size());
  for (const Place* place : places->second) objects.push_back(place->second);
  return objects;
}

std::vector<Object> ObjectCache::select(const std::string& ns, const LabelMatcher& matches,
                                        const LabelViews& having) const {
  std::shared_lock lock(impl_->mutex);
  return Impl::select(impl_->label_sets, ns, matches, having);
}

std::vector<Object> ObjectCache::select_orphans(const std::string& ns, const LabelMatcher& matches,
                                                const LabelViews& having) const {
  std::shared_lock lock(impl_->mutex);
  return Impl::select(impl_->orphans, ns, matches, having);
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
