#pragma once
// SerialQueue: blocking work, one piece at a time and in order, on the engine's workers.
//
// Netlink writers of one namespace must not overlap, and must not each hold a worker thread while they
// wait for one another: the queue holds the waiting work and at most one worker. Bounded.
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "orchestra/engine.hpp"

namespace orchestra::net {

class SerialQueue : public std::enable_shared_from_this<SerialQueue> {
 public:
  static constexpr std::size_t kQueuedMax = 1024;
  explicit SerialQueue(Engine& engine) : engine_(engine) {}

  /// `work` returns Result<T>; the answer is `overloaded` when the queue is full.
  template <class F>
  auto run(F work) -> Pending<typename decltype(work())::value_type> {
    using T = typename decltype(work())::value_type;
    Promise<T> promise;
    auto pending = promise.pending();
    auto queued = push([promise, work = std::move(work)]() mutable { promise.set(work()); });
    if (!queued) return queued.error();
    return pending;
  }

 private:
  Result<void> push(std::function<void()> task) {
    std::lock_guard lock(mutex_);
    if (tasks_.size() >= kQueuedMax) {
      return Error(Error::overloaded, "net",
                   "more than " + std::to_string(kQueuedMax) + " network changes wait");
    }
    tasks_.push_back(std::move(task));
    if (running_) return {};
    auto started = engine_.post_blocking([self = shared_from_this()] { self->drain(); });
    if (!started) {
      tasks_.pop_back();
      return started;
    }
    running_ = true;
    return {};
  }
  void drain() {
    while (true) {
      std::function<void()> task;
      {
        std::lock_guard lock(mutex_);
        if (tasks_.empty()) {
          running_ = false;
          return;
        }
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  Engine& engine_;
  std::mutex mutex_;
  std::deque<std::function<void()>> tasks_;
  bool running_ = false;
};

}  // namespace orchestra::net
