#pragma once
// A clock that moves when told, and chance from a seed: what a simulated engine is given.
#include <atomic>

#include "orchestra/env.hpp"

namespace orchestra::sim {

class SimClock final : public Clock {
 public:
  explicit SimClock(std::int64_t wall_ns = 1'700'000'000'000'000'000, std::int64_t steady_ns = 1'000'000'000)
      : wall_offset_ns_(wall_ns - steady_ns), steady_ns_(steady_ns) {}
  Now now() override {
    const std::int64_t steady = steady_ns_.load();
    return {wall_offset_ns_.load() + steady, steady};
  }
  void advance(Duration by) { steady_ns_ += by.count(); }
  /// A step of the wall clock alone, as an administrator or NTP does it.
  void step_wall(Duration by) { wall_offset_ns_ += by.count(); }

 private:
  std::atomic<std::int64_t> wall_offset_ns_;
  std::atomic<std::int64_t> steady_ns_;
};

/// splitmix64 (Steele, Lea, Flood 2014): the same seed gives the same run.
class SimRandom final : public Random {
 public:
  explicit SimRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() override {
    std::uint64_t z = state_.fetch_add(0x9E3779B97F4A7C15ull) + 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  void fill(void* bytes, std::size_t size) override {
    auto* out = static_cast<unsigned char*>(bytes);
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<unsigned char>(next());
  }

 private:
  std::atomic<std::uint64_t> state_;
};

}  // namespace orchestra::sim
