#pragma once
// BoundedQueue: a queue that says what it does when it is full, because every queue of ours must.
//
// One owner (a strand, or whoever holds the lock around it). A full queue refuses the newest with
// `resource_exhausted` naming the queue and its bound, or lets the oldest go, as the caller asks for.
#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "orchestra/result.hpp"

namespace orchestra {

template <class T>
class BoundedQueue {
 public:
  /// `what` names the waiting things in errors: "requests for shop/web". At most `count_max` of them.
  BoundedQueue(std::string what, std::size_t count_max) : what_(std::move(what)), count_max_(count_max) {}

  Result<void> push(T item) {
    if (full()) {
      return Error(Error::resource_exhausted, "base",
                   "more than " + std::to_string(count_max_) + " " + what_ + " wait");
    }
    items_.push_back(std::move(item));
    return {};
  }
  /// The oldest when there was no room; nothing is ever refused.
  std::optional<T> push_or_drop_oldest(T item) {
    std::optional<T> dropped;
    if (full()) dropped = pop();
    if (count_max_ == 0) return item;
    items_.push_back(std::move(item));
    return dropped;
  }
  std::optional<T> pop() {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    return item;
  }
  /// Everything, oldest first; the queue is empty afterwards.
  std::deque<T> take_all() { return std::exchange(items_, {}); }
  std::size_t count() const { return items_.size(); }
  std::size_t count_max() const { return count_max_; }
  bool empty() const { return items_.empty(); }
  bool full() const { return items_.size() >= count_max_; }

 private:
  std::string what_;
  std::size_t count_max_;
  std::deque<T> items_;
};

}  // namespace orchestra
