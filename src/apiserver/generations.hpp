#pragma once
// What was made of stored versions, shared by all readers in this process, for a while.
//
// Two generations: what was made lately is in the young one; when that is full the old one is dropped and the
// young one ages. Bounded by the bytes that its users count.
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

namespace orchestra::apiserver {

/// `Key` has a std::size_t hash() const.
template <class Key, class Entry>
class Generations {
 public:
  explicit Generations(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  /// The part of the entry that the reader wants.
  template <class Part>
  std::optional<Part> find(const Key& key, Part Entry::*part) {
    std::lock_guard lock(mutex_);
    for (const Map* generation : {&young_, &old_}) {
      if (const auto found = generation->find(key); found != generation->end()) return found->second.*part;
    }
    return std::nullopt;
  }
  void keep(Key key, Entry entry, std::size_t bytes) {
    Map dropped;  // freed without the lock
    std::lock_guard lock(mutex_);
    if (young_bytes_ + bytes > bytes_max_) {
      dropped = std::exchange(old_, std::exchange(young_, {}));
      young_bytes_ = 0;
    }
    young_bytes_ += bytes;
    young_.insert_or_assign(std::move(key), std::move(entry));
  }

 private:
  struct Hash {
    std::size_t operator()(const Key& key) const { return key.hash(); }
  };
  using Map = std::unordered_map<Key, Entry, Hash>;
  const std::size_t bytes_max_;
  std::mutex mutex_;
  Map young_, old_;
  std::size_t young_bytes_ = 0;
};

}  // namespace orchestra::apiserver
