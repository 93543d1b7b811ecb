// The cache of decoded objects: see object_cache.hpp.
#include "apiserver/object_cache.hpp"

#include "apiserver/stored_object.hpp"

namespace orchestra::apiserver {

Result<Object> ObjectCache::get(const Value& stored, Revision revision) {
  const char* address = stored.bytes().data();
  {
    std::lock_guard lock(mutex_);
    for (Generation* generation : {&young_, &old_}) {
      const auto found = generation->find(address);
      if (found != generation->end() && found->second.revision == revision) return found->second.object;
    }
  }
  ORC_ASSIGN(StoredView view, decode_stored_frame(stored.bytes()));
  ORC_ASSIGN(Object object, Object::from_json(json_with_revision(view, revision)));
  std::lock_guard lock(mutex_);
  if (young_bytes_ + stored.size() > kGenerationBytesMax) {
    old_ = std::move(young_);
    young_.clear();
    young_bytes_ = 0;
  }
  young_bytes_ += stored.size();
  young_[address] = {stored, revision, object};
  return object;
}

}  // namespace orchestra::apiserver
