#pragma once
// PluginGuard: calls into plugins of the host, on a worker thread and with a deadline.
//
// A call cannot be interrupted: one that overruns is left behind with data of its own, and until it returns
// every further call is refused at once, so a plugin that blocks for good costs one thread and no more.
#include <condition_variable>
#include <memory>
#include <mutex>

#include "orchestra/engine.hpp"

namespace orchestra::sched {

class PluginGuard {
 public:
  /// `alive` is kept as long as a call runs. deadline 0: calls run on the caller's thread, without a bound.
  PluginGuard(Engine& engine, Duration deadline, std::shared_ptr<void> alive)
      : engine_(engine), deadline_(deadline), alive_(std::move(alive)), state_(std::make_shared<State>()) {}

  /// False: it did not end in time, or an earlier one has not ended yet. May block for the deadline.
  bool run(std::function<void()> call, int deadlines = 1) {
    if (deadline_ == Duration::zero()) {
      call();
      return true;
    }
    std::unique_lock lock(state_->mutex);
    if (state_->running) return false;
    state_->running = true;
    const auto queued = engine_.post_blocking([state = state_, alive = alive_, call = std::move(call)] {
      call();
      std::lock_guard done(state->mutex);
      state->running = false;
      state->ended.notify_all();
    });
    if (!queued) {
      state_->running = false;
      return false;
    }
    return state_->ended.wait_for(lock, deadline_ * deadlines, [this] { return !state_->running; });
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable ended;
    bool running = false;
  };
  Engine& engine_;
  const Duration deadline_;
  const std::shared_ptr<void> alive_;
  const std::shared_ptr<State> state_;
};

}  // namespace orchestra::sched
