#pragma once
// Stored versions as Objects, decoded once and shared by all readers in this process.
//
// Two generations: what was used lately is in the young one; when that is full the old one is dropped and
// the young one ages. Bounded by the bytes of JSON it holds.
#include <mutex>
#include <unordered_map>

#include "orchestra/object.hpp"
#include "orchestra/state_store.hpp"

namespace orchestra::apiserver {

class ObjectCache {
 public:
  static constexpr std::size_t kGenerationBytesMax = 4 << 20;  // trees take about four times as much

  /// The object of a stored value at its revision.
  Result<Object> get(const Value& stored, Revision revision);

 private:
  struct Entry {
    Value stored;  // keeps the address that is the key
    Revision revision = 0;
    Object object;
  };
  using Generation = std::unordered_map<const char*, Entry>;
  std::mutex mutex_;
  Generation young_, old_;
  std::size_t young_bytes_ = 0;
};

}  // namespace orchestra::apiserver
