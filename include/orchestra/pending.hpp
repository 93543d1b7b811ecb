#pragma once
// Pending<T>: the answer of a call that may wait.
//
// The caller picks how to take it: wait(deadline) blocks this thread, on_ready(callback) is called
// once (at once on this thread when the answer is there already, else on the thread that completes
// it), co_await suspends. Dropping a Pending lets the work go on; cancel() asks for its end. There is
// no blocking twin of any call. wait() on an engine's event thread answers would_deadlock.
// Thread safe; a Pending is movable, and has one consumer. Since 0.1.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "orchestra/result.hpp"

namespace orchestra {

/// Deadlines of waiting calls are durations from now.
using Duration = std::chrono::nanoseconds;

namespace detail {
/// True on an engine's event threads, where blocking would stop everything.
ORC_API bool on_event_thread();
ORC_API Error would_deadlock_error();
ORC_API Error deadline_error(Duration waited);
ORC_API Error abandoned_error();
ORC_API Error cancelled_error();

template <class T>
struct PendingState {
  std::mutex mutex;
  std::condition_variable ready;
  std::optional<Result<T>> result;
  std::function<void(Result<T>)> callback;
  std::function<void()> on_cancel;
  bool done = false;  ///< the answer was decided; a callback may have taken it
  bool cancelled = false;
  std::atomic<std::uint32_t> promises{0};  ///< copies of the Promise that are left

  void complete(Result<T> value) {
    std::function<void(Result<T>)> call;
    std::function<void()> unused;  // what it holds goes after the lock
    {
      std::lock_guard lock(mutex);
      if (done) return;
      done = true;
      unused.swap(on_cancel);
      if (callback) {
        call.swap(callback);
      } else {
        result.emplace(std::move(value));
      }
      ready.notify_all();
    }
    if (call) call(std::move(value));
  }
  bool is_done() {
    std::lock_guard lock(mutex);
    return done;
  }
};
}  // namespace detail

template <class T = void>
class [[nodiscard]] Pending {
 public:
  using value_type = T;
  explicit Pending(std::shared_ptr<detail::PendingState<T>> state) : state_(std::move(state)) {}
  /// An answer that is there already.
  Pending(Result<T> ready) : state_(std::make_shared<detail::PendingState<T>>()) {
    state_->result.emplace(std::move(ready));
    state_->done = true;
  }
  Pending(Error error) : Pending(Result<T>(std::move(error))) {}
  Pending(Pending&&) noexcept = default;
  Pending& operator=(Pending&&) noexcept = default;

  /// Waits at most `deadline`. `deadline_exceeded` leaves the work running; wait again or cancel().
  Result<T> wait(Duration deadline) {
    std::unique_lock lock(state_->mutex);
    if (!state_->done) {
      if (detail::on_event_thread()) return detail::would_deadlock_error();
      if (!state_->ready.wait_for(lock, deadline, [&] { return state_->done; })) {
        return detail::deadline_error(deadline);
      }
    }
    if (!state_->result) return detail::abandoned_error();  // a callback took it
    return std::move(*state_->result);
  }

  bool is_ready() const { return state_->is_done(); }

  /// Calls `callback` exactly once with the answer. May be called once, instead of wait().
  void on_ready(std::function<void(Result<T>)> callback) {
    std::unique_lock lock(state_->mutex);
    if (!state_->done) {
      state_->callback = std::move(callback);
      return;
    }
    Result<T> value = state_->result ? std::move(*state_->result) : Result<T>(detail::abandoned_error());
    lock.unlock();
    callback(std::move(value));
  }

  /// A new Pending with `map(value)`, which returns Result<U>; errors pass through.
  template <class F>
  auto then(F map) -> Pending<typename decltype(map(std::declval<Result<T>>()))::value_type>;

  /// Asks the work to end; the answer is then `cancelled` unless it was already decided.
  void cancel() {
    std::function<void()> call;
    {
      std::lock_guard lock(state_->mutex);
      if (state_->done || state_->cancelled) return;
      state_->cancelled = true;
      call = std::move(state_->on_cancel);
    }
    if (call) call();
    state_->complete(detail::cancelled_error());
  }

  // Awaitable from any coroutine: resumes on the thread that completes the work.
  bool await_ready() const { return is_ready(); }
  void await_suspend(std::coroutine_handle<> handle) {
    auto state = state_;
    on_ready([state, handle](Result<T> value) {
      {
        std::lock_guard lock(state->mutex);
        state->result.emplace(std::move(value));
      }
      handle.resume();
    });
  }
  Result<T> await_resume() {
    std::lock_guard lock(state_->mutex);
    return std::move(*state_->result);
  }

 private:
  std::shared_ptr<detail::PendingState<T>> state_;
};

/// The producing side. Copyable; the first set() counts. When the last copy goes without set(), the
/// consumer gets `cancelled` ("abandoned"), so nobody waits for ever.
template <class T = void>
class Promise {
 public:
  Promise() : state_(std::make_shared<detail::PendingState<T>>()) { state_->promises = 1; }
  Promise(const Promise& other) : state_(other.state_) {
    if (state_) state_->promises.fetch_add(1, std::memory_order_relaxed);
  }
  Promise(Promise&&) noexcept = default;
  Promise& operator=(Promise other) noexcept {
    state_.swap(other.state_);
    return *this;
  }
  ~Promise() {
    if (!state_ || state_->promises.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (!state_->is_done()) state_->complete(detail::abandoned_error());
  }
  Pending<T> pending() const { return Pending<T>(state_); }
  void set(Result<T> value) const { state_->complete(std::move(value)); }
  /// Called (once, on the cancelling thread) when the consumer cancels.
  void on_cancel(std::function<void()> call) const {
    std::lock_guard lock(state_->mutex);
    if (!state_->done) state_->on_cancel = std::move(call);
  }
  bool cancelled() const {
    std::lock_guard lock(state_->mutex);
    return state_->cancelled;
  }

 private:
  std::shared_ptr<detail::PendingState<T>> state_;
};

template <class T>
template <class F>
auto Pending<T>::then(F map) -> Pending<typename decltype(map(std::declval<Result<T>>()))::value_type> {
  using U = typename decltype(map(std::declval<Result<T>>()))::value_type;
  Promise<U> promise;
  Pending<U> next = promise.pending();
  on_ready([promise, map = std::move(map)](Result<T> value) mutable { promise.set(map(std::move(value))); });
  return next;
}

}  // namespace orchestra
