// Waiting on an engine that is driven by hand: whoever waits lets the world go on.
#include "base/engine_manual.hpp"
#include "orchestra/env.hpp"
#include "sim/sim_env.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
struct World {
  sim::SimClock clock;
  Engine engine{[this] {
    EngineOptions options;
    options.event_threads = 0;
    options.clock = &clock;
    return options;
  }()};
  World() {
    set_pump(engine, [this](std::int64_t until) {
      if (run_ready(engine) != 0) return true;
      const auto next = next_timer_ns(engine);
      if (!next || *next > until) return false;
      clock.advance(Duration(*next - clock.now().steady_ns));
      return true;
    });
  }
};
}  // namespace

TEST_CASE("a task that waits is answered by tasks and timers behind it, in virtual time") {
  World world;
  std::string order;
  const Promise<int> promise;
  world.engine.post([&] {
    order += "a";
    const auto answer = wait_on(world.engine, promise.pending(), 10s);
    order += answer && *answer == 7 ? "d" : "x";
  });
  world.engine.post([&] { order += "b"; });
  world.engine.after(3s, [&] {
    order += "c";
    promise.set(7);
  });
  const std::int64_t begin = world.clock.now().steady_ns;
  (void)run_ready(world.engine);
  CHECK(order == "abcd");
  CHECK(world.clock.now().steady_ns - begin == Duration(3s).count());
}

TEST_CASE("waiting by hand ends at its deadline, when nothing can happen any more") {
  World world;
  const Promise<int> promise;
  world.engine.after(20s, [&] { promise.set(7); });
  const auto answer = wait_on(world.engine, promise.pending(), 10s);
  CHECK(answer.error().is(Error::deadline_exceeded));
}

TEST_CASE("two timers of one moment: the one that waits does not hold the other back") {
  World world;
  const Promise<int> promise;
  int got = 0;
  world.engine.after(1s, [&] { got = wait_on(world.engine, promise.pending(), 5s).value_or(-1); });
  world.engine.after(1s, [&] { promise.set(3); });
  world.clock.advance(1s);
  (void)run_ready(world.engine);
  CHECK(got == 3);
}
