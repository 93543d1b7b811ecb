#pragma once
// A shared_ptr that one thread replaces while others read it.
//
// std::atomic<std::shared_ptr> of libstdc++ 12 lets go of its lock in load() by a relaxed operation, so that
// a store() after it is not ordered behind the read: a race by the memory model, and ThreadSanitizer says so.
#include <memory>
#include <mutex>
#include <utility>

namespace orchestra {

template <class T>
class SharedSlot {
 public:
  std::shared_ptr<T> load() const {
    std::lock_guard lock(mutex_);
    return value_;
  }
  void store(std::shared_ptr<T> value) {
    {
      std::lock_guard lock(mutex_);
      value_.swap(value);
    }
    // What was there before ends here, outside of the lock.
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<T> value_;
};

}  // namespace orchestra
