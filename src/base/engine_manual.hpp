#pragma once
// Driving an engine by hand: with EngineOptions::event_threads = 0 nothing runs by itself. The simulator
// (and tests with a virtual clock) call these from one thread; blocking work then runs there as well.
//
// Code of ours that waits on a worker thread waits with wait_on(): on an engine that is driven by hand there
// is no other thread that could bring the answer, so the waiting call itself lets the world go on, one event
// at a time, until the answer is there or the deadline has passed on the engine's clock.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "orchestra/engine.hpp"

namespace orchestra {
/// Runs what is queued and every timer that is due by the engine's clock; returns the number of tasks.
ORC_API std::size_t run_ready(Engine& engine);
/// Steady time of the earliest timer.
ORC_API std::optional<std::int64_t> next_timer_ns(Engine& engine);

/// How the world of a hand-driven engine goes on by one event, not past this steady time of the engine's
/// clock: false when nothing happened until then (the clock shows it now). Without one, wait_on() runs what
/// is ready and never moves the clock.
using Pump = std::function<bool(std::int64_t until_steady_ns)>;
ORC_API void set_pump(Engine& engine, Pump pump);
/// False: the engine has threads of its own, and nobody has to be pumped.
ORC_API bool driven_by_hand(Engine& engine);
/// One step of the pump; false when the deadline has come, or there is nothing that could happen.
ORC_API bool pump_once(Engine& engine, std::int64_t until_steady_ns);
ORC_API std::int64_t steady_now_ns(Engine& engine);

/// pending.wait(deadline), also where the engine is driven by hand.
template <class T>
Result<T> wait_on(Engine& engine, Pending<T> pending, Duration deadline) {
  if (!driven_by_hand(engine)) return pending.wait(deadline);
  const std::int64_t until = steady_now_ns(engine) + deadline.count();
  while (!pending.is_ready() && pump_once(engine, until)) {
  }
  return pending.is_ready() ? pending.wait(Duration::zero()) : Result<T>(detail::deadline_error(deadline));
}
}  // namespace orchestra
