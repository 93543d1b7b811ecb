// The work queue alone, on a clock that the test moves.
#include "orchestra/work_queue.hpp"

#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

namespace {
struct TestClock : Clock {
  std::int64_t ns = 1'000'000'000;
  Now now() override { return {ns, ns}; }
  void advance(Duration by) { ns += by.count(); }
};
}  // namespace

TEST_CASE("a key that is added often is handed out once") {
  TestClock clock;
  WorkQueue queue(clock);
  for (int i = 0; i < 100; ++i) queue.add("shop/web");
  CHECK(queue.take() == "shop/web");
  CHECK_FALSE(queue.take().has_value());
}

TEST_CASE("a key is never worked on twice at a time, and comes again if it changed meanwhile") {
  TestClock clock;
  WorkQueue queue(clock);
  queue.add("a");
  REQUIRE(queue.take() == "a");
  queue.add("a");
  CHECK_FALSE(queue.take().has_value());
  queue.done("a");
  CHECK(queue.take() == "a");
  queue.done("a");
  CHECK_FALSE(queue.take().has_value());
}

TEST_CASE("keys come in the order in which they became ready") {
  TestClock clock;
  WorkQueue queue(clock);
  for (const char* key : {"c", "a", "b", "a"}) queue.add(key);
  CHECK(queue.take() == "c");
  CHECK(queue.take() == "a");
  CHECK(queue.take() == "b");
}

TEST_CASE("the pause of a failing key doubles from 5 ms to 1000 s and starts anew after a success") {
  TestClock clock;
  WorkQueue queue(clock);
  const auto pause = [&] {
    queue.add_failed("a");
    const Duration due = *queue.next_due();
    clock.advance(due);
    REQUIRE(queue.take() == "a");
    queue.done("a");
    return due;
  };
  CHECK(pause() == 5ms);
  CHECK(pause() == 10ms);
  CHECK(pause() == 20ms);
  for (int i = 0; i < 60; ++i) pause();
  CHECK(pause() == 1000s);
  CHECK(queue.failures("a") == 64);
  queue.forget("a");
  CHECK(pause() == 5ms);
}

TEST_CASE("many different failing keys are slowed down together") {
  TestClock clock;
  WorkQueue queue(clock);
  for (int i = 0; i < 100; ++i) queue.add_failed("first-" + std::to_string(i));
  clock.advance(5ms);
  int ready = 0;
  while (queue.take()) ++ready;
  CHECK(ready == 100);  // the burst
  for (int i = 0; i < 50; ++i) queue.add_failed("second-" + std::to_string(i));
  clock.advance(1s);
  ready = 0;
  while (queue.take()) ++ready;
  CHECK(ready >= 9);
  CHECK(ready <= 12);  // 10 a second
}

TEST_CASE("of several delays the earliest counts, and an add now does not wait") {
  TestClock clock;
  WorkQueue queue(clock);
  queue.add_after("a", 10s);
  queue.add_after("a", 2s);
  queue.add_after("a", 5s);
  CHECK(*queue.next_due() == 2s);
  queue.add("a");
  CHECK(queue.take() == "a");
  queue.done("a");
  clock.advance(2s);
  CHECK(queue.take() == "a");
  queue.done("a");
  CHECK_FALSE(queue.next_due().has_value());
}

TEST_CASE("a full queue drops keys but says so once") {
  TestClock clock;
  WorkQueueOptions options;
  options.keys_max = 3;
  WorkQueue queue(clock, options);
  for (const char* key : {"a", "b", "c", "d", "a"}) queue.add(key);
  CHECK(queue.take_overflow());
  CHECK_FALSE(queue.take_overflow());
  int ready = 0;
  while (queue.take()) ++ready;
  CHECK(ready == 3);
}

TEST_CASE("the owner is woken when something may be taken, or is due earlier than before") {
  TestClock clock;
  WorkQueue queue(clock);
  int woken = 0;
  queue.on_wake([&] { ++woken; });
  queue.add("a");
  queue.add("a");
  CHECK(woken == 1);
  queue.add_after("b", 5s);
  queue.add_after("b", 9s);
  CHECK(woken == 2);
  queue.add_after("b", 1s);
  CHECK(woken == 3);
  REQUIRE(queue.take() == "a");
  queue.add("a");
  CHECK(woken == 3);
  queue.done("a");
  CHECK(woken == 4);
}
