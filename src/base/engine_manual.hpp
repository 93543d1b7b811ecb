#pragma once
// Driving an engine by hand: with EngineOptions::event_threads = 0 nothing runs by itself. The simulator
// (and tests with a virtual clock) call these from one thread; blocking work then runs there as well.
#include <cstddef>
#include <cstdint>
#include <optional>

#include "orchestra/engine.hpp"

namespace orchestra {
/// Runs what is queued and every timer that is due by the engine's clock; returns the number of tasks.
ORC_API std::size_t run_ready(Engine& engine);
/// Steady time of the earliest timer.
ORC_API std::optional<std::int64_t> next_timer_ns(Engine& engine);
}  // namespace orchestra
