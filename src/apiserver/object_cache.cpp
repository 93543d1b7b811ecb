// The caches of what was made of stored versions: see object_cache.hpp.
#include "apiserver/object_cache.hpp"

#include <algorithm>

#include "api/object_parts.hpp"
#include "api/versions.hpp"
#include "apiserver/stored_object.hpp"

namespace orchestra::apiserver {

namespace {
constexpr std::uint32_t kHitsUnaged = 64;  ///< to look at the clock costs more than a hit

/// What only an Object itself can tell.
struct Sharer : Object {
  explicit Sharer(const Object& object) : Object(object) {}
  std::weak_ptr<const Data> weak() const { return data_; }
};
}  // namespace

Result<Object> ObjectCache::get(const Value& stored, Revision revision) {
  if (auto found = find(stored, revision)) return std::move(*found);
  ORC_ASSIGN(const StoredView view, decode_stored_frame(stored.bytes()));
  ORC_ASSIGN(Object object, object_from_canonical(json_with_revision(view, revision)));
  keep(stored, revision, object, false);
  return object;
}

Result<Object> ObjectCache::get(const Value& stored, Revision revision, const json::value& written) {
  auto tree = canonical_tree(written, revision);
  if (!tree) return get(stored, revision);
  ORC_ASSIGN(const StoredView view, decode_stored_frame(stored.bytes()));
  Object object = object_from_parts(std::move(*tree), json_with_revision(view, revision));
  keep(stored, revision, object, true);
  return object;
}

std::optional<Object> ObjectCache::find(const Value& stored, Revision revision) {
  auto found = find_entry(stored, revision);
  return found ? std::optional(std::move(found->object)) : std::nullopt;
}

bool ObjectCache::is_own(const Value& stored, Revision revision) {
  const auto found = find_entry(stored, revision);
  return found && found->own;
}

std::size_t ObjectCache::known_count() {
  std::lock_guard lock(mutex_);
  return known_.size();
}

std::optional<ObjectCache::Entry> ObjectCache::find_entry(const Value& stored, Revision revision) {
  const Key key{stored.bytes().data(), revision};
  Entries dropped;  // freed without the lock
  std::lock_guard lock(mutex_);
  for (const Entries* generation : {&young_, &old_}) {
    const auto found = generation->find(key);
    if (found == generation->end()) continue;
    if (++hits_ % kHitsUnaged != 0) return found->second;
    Entry entry = found->second;
    age(dropped);
    return entry;
  }
  age(dropped);
  const auto known = known_.find(key);
  if (known == known_.end()) return std::nullopt;
  if (auto data = known->second.data.lock()) {
    // Nobody keeps that value at its address any more. What lies there now is the same object if it is of the
    // same revision and uid.
    const auto view = decode_stored_frame(stored.bytes());
    Object object(std::move(data));
    if (view && !view->uid.empty() && object.uid() == view->uid)
      return Entry{stored, std::move(object), known->second.own};
  }
  known_.erase(known);
  return std::nullopt;
}

void ObjectCache::keep(const Value& stored, Revision revision, const Object& object, bool own) {
  Entries dropped;
  std::lock_guard lock(mutex_);
  age(dropped);
  young_bytes_ += stored.size();
  young_.insert_or_assign(Key{stored.bytes().data(), revision}, Entry{stored, object, own});
}

/// The old generation goes when the young one is full or has had its time.
void ObjectCache::age(Entries& dropped) {
  const std::int64_t now_ns = clock_.now().steady_ns;
  if (young_bytes_ < kGenerationBytesMax && now_ns - young_since_ns_ < kGenerationNsMax) return;
  young_since_ns_ = now_ns;
  young_bytes_ = 0;
  if (young_.empty() && old_.empty()) return;
  dropped = std::exchange(old_, std::exchange(young_, {}));
  for (const auto& [key, entry] : dropped) {
    if (known_.size() < kKnownMax)
      known_.insert_or_assign(key, Known{Sharer(entry.object).weak(), entry.own});
  }
  if (known_.size() < sweep_at_) return;
  std::erase_if(known_, [](const auto& each) { return each.second.data.expired(); });
  sweep_at_ = std::max(kSweepMin, std::min(2 * known_.size(), kKnownMax));
}

bool EventTexts::keeps(const api::TypeRecord& type, std::string_view version, const Representation& want) {
  if (want.form == Form::table) return false;
  if (want.form != Form::json || want.protobuf) return true;
  const api::TypeVersion* found = type.version(version);
  return found != nullptr && !api::stored_as(type, *found);
}

}  // namespace orchestra::apiserver
