#include "controllers/common/observations.hpp"

namespace orchestra::controllers {

void Observations::change(const Source& source, const Object& old, const Object& now, Now at) {
  if (!source.observes) return;
  if (!now) {
    if (const auto objects = seen_.find(source.resource); objects != seen_.end())
      objects->second.erase(ObjectKey::of(old));
  } else if (source.observes(old, now)) {
    seen_[source.resource].insert_or_assign(ObjectKey::of(now), Observed{at, static_cast<bool>(old)});
  }
}

std::optional<Observed> Observations::find(const ResourceRef& resource, const ObjectKey& key) const {
  const auto objects = seen_.find(resource);
  if (objects == seen_.end()) return std::nullopt;
  const auto found = objects->second.find(key);
  if (found == objects->second.end()) return std::nullopt;
  return found->second;
}

std::size_t Observations::size() const {
  std::size_t count = 0;
  for (const auto& [resource, objects] : seen_) count += objects.size();
  return count;
}

Duration age_of(const View& view, const ResourceRef& resource, const Object& object, std::int64_t stamp_ns,
                Now now) {
  const std::optional<Observed> seen = view.observed(resource, ObjectKey::of(object));
  return seen.value_or(Observed{now, false}).elapsed(now, stamp_ns);
}

}  // namespace orchestra::controllers
