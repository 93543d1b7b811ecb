#pragma once
// How many pod workers of one agent run at the same time.
//
// A worker waits on its thread for work that needs a thread of the same pool (a sandbox, an address, a
// mount). A hundred pods that start at once would take every thread of the pool and wait for a free one until
// their deadline, then do it again. So at most kRunningMax workers run; the others wait here without a
// thread, in the order they came. A worker is here once at most, so the queue is bounded by the pods of the
// node.
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "orchestra/engine.hpp"

namespace orchestra::node {

class PodRuns {
 public:
  /// Half of an engine's threads (EngineOptions::worker_threads_max): each running worker waits for one
  /// other.
  static constexpr std::size_t kRunningMax = 32;

  explicit PodRuns(Engine& engine) : engine_(engine), state_(std::make_shared<State>()) {}

  /// Runs `task` on a worker thread, now or when its turn comes. An error: it will never run.
  Result<void> post(std::function<void()> task) {
    // The lock is held over the post, so that who waits here has somebody who will call it.
    std::lock_guard lock(state_->mutex);
    if (state_->running == kRunningMax) {
      state_->waiting.push_back(std::move(task));
      return {};
    }
    auto posted = engine_.post_blocking([state = state_, task = std::move(task)] {
      task();
      while (const auto next = state->next()) next();
    });
    if (posted) ++state_->running;
    return posted;
  }

 private:
  struct State {
    std::mutex mutex;
    std::size_t running = 0;
    std::deque<std::function<void()>> waiting;

    std::function<void()> next() {
      std::lock_guard lock(mutex);
      if (waiting.empty()) {
        --running;
        return nullptr;
      }
      auto task = std::move(waiting.front());
      waiting.pop_front();
      return task;
    }
  };
  Engine& engine_;
  std::shared_ptr<State> state_;  // a thread may look for the next one after the agent has gone
};

}  // namespace orchestra::node
