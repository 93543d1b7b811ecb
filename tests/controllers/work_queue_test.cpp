// The work queue alone, on a clock that the test moves.
#include "orchestra/work_queue.hpp"

#include "orchestra/metrics.hpp"
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

TEST_CASE("a key at rest is handed out when its rest is over, and only if it was added") {
  TestClock clock;
  WorkQueue queue(clock);
  queue.add("a");
  REQUIRE(queue.take() == "a");
  queue.add("a");  // while it is worked on
  queue.done("a", 100ms);
  queue.add("a");  // while it rests
  CHECK(queue.stats().depth == 1);
  CHECK_FALSE(queue.take().has_value());
  CHECK(queue.next_due() == 100ms);
  queue.add("b");
  CHECK(queue.take() == "b");
  clock.advance(100ms);
  CHECK(queue.take() == "a");
  queue.done("a", 100ms);
  CHECK(queue.stats().depth == 0);
  clock.advance(100ms);
  CHECK_FALSE(queue.take().has_value());
  CHECK_FALSE(queue.next_due().has_value());
  queue.add("a");
  CHECK(queue.take() == "a");
}

TEST_CASE("a delayed key that is due while it rests waits for the end of its rest") {
  TestClock clock;
  WorkQueue queue(clock);
  queue.add("a");
  REQUIRE(queue.take() == "a");
  queue.add_after("a", 10ms);
  queue.done("a", 50ms);
  clock.advance(20ms);
  CHECK_FALSE(queue.take().has_value());
  CHECK(queue.next_due() == 30ms);
  clock.advance(30ms);
  CHECK(queue.take() == "a");
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

TEST_CASE("a queue is measured by upstream's names: depth, adds, waits, work, retries") {
  const auto registry = Metrics::create();
  const auto line = [&](const std::string& name) {
    const std::string page = registry->text();
    const std::string series = name + "{name=\"shop\"} ";
    const std::size_t at = page.find("\n" + series);
    if (at == std::string::npos) return std::string("none");
    const std::size_t begin = at + 1 + series.size();
    return page.substr(begin, page.find('\n', begin) - begin);
  };
  TestClock clock;
  {
    WorkQueue queue(clock, {.metrics = registry, .name = "shop"});
    queue.add("a");
    queue.add("a");  // is there already
    queue.add("b");
    CHECK(line("workqueue_depth") == "2");
    CHECK(line("workqueue_adds_total") == "2");
    clock.advance(250ms);
    REQUIRE(queue.take() == "a");
    CHECK(line("workqueue_depth") == "1");
    CHECK(line("workqueue_queue_duration_seconds_sum") == "0.25");
    clock.advance(500ms);
    queue.add("a");  // waits from now, though it is worked on
    CHECK(line("workqueue_adds_total") == "3");
    CHECK(line("workqueue_depth") == "2");
    clock.advance(500ms);
    queue.done("a");
    CHECK(line("workqueue_work_duration_seconds_sum") == "1");
    REQUIRE(queue.take() == "b");
    REQUIRE(queue.take() == "a");
    CHECK(line("workqueue_queue_duration_seconds_count") == "3");
    CHECK(line("workqueue_queue_duration_seconds_sum") == "2");  // 0.25 + 1.25 + 0.5
    CHECK(line("workqueue_depth") == "0");
    queue.add_failed("b");
    queue.add_after("c", 1s);
    CHECK(line("workqueue_retries_total") == "2");
    CHECK(line("workqueue_adds_total") == "3");
    queue.done("a");
    queue.done("b");
    clock.advance(2s);
    REQUIRE(queue.take().has_value());
    CHECK(line("workqueue_adds_total") == "5");
    CHECK(line("workqueue_depth") == "1");
    const std::string page = registry->text();
    CHECK(page.find("workqueue_queue_duration_seconds_bucket{name=\"shop\",le=\"1e-08\"}") !=
          std::string::npos);
    CHECK(page.find("workqueue_queue_duration_seconds_bucket{name=\"shop\",le=\"1000\"} 4") !=
          std::string::npos);
  }
  CHECK(line("workqueue_depth") == "0");  // what was left in it went with it
}
