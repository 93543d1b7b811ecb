#pragma once
// What was made of stored versions, shared by all readers in this process, for a while.
//
// Two generations: what was made lately is in the young one; when that is full the old one is dropped and the
// young one ages. Bounded by the bytes that its users count.
#include <map>
#include <mutex>
#include <optional>
#include <utility>

namespace orchestra::apiserver {

template <class Key, class Entry>
class Generations {
 public:
  explicit Generations(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  std::optional<Entry> find(const Key& key) {
    std::lock_guard lock(mutex_);
    for (const Map* generation : {&young_, &old_}) {
      if (const auto found = generation->find(key); found != generation->end()) return found->second;
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
  using Map = std::map<Key, Entry>;
  const std::size_t bytes_max_;
  std::mutex mutex_;
  Map young_, old_;
  std::size_t young_bytes_ = 0;
};

}  // namespace orchestra::apiserver
