#pragma once
// When changes were seen, for reconcilers that judge by time.
//
// A time that an object tells is a reading of somebody else's clock, and between two readings of one wall
// clock that clock may have been set. What a controller saw itself, by a clock that never steps, is neither.
// Kept for each source that asks for it (Source::observes); pure, the caller locks.
#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

class Observations {
 public:
  /// One change of the resource of `source`, in the order of its revisions.
  void change(const Source& source, const Object& old, const Object& now, Now at);
  std::optional<Observed> find(const ResourceRef& resource, const ObjectKey& key) const;
  /// Remembered objects.
  std::size_t size() const;

 private:
  std::map<ResourceRef, std::map<ObjectKey, Observed>> seen_;
};

/// How long ago an object came to what its source observes (Source::observes), whatever became of the wall
/// clock since; where that was not seen, by the time that the object tells.
Duration age_of(const View& view, const ResourceRef& resource, const Object& object, std::int64_t stamp_ns,
                Now now);

}  // namespace orchestra::controllers
