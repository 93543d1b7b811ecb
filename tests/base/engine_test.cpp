// Engine, Pending and the small kernel helpers.
#include "orchestra/engine.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/engine_manual.hpp"
#include "base/fd.hpp"
#include "orchestra/env.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace std::chrono_literals;

TEST_CASE("a pending answer reaches the waiter, the callback and then()") {
  Engine engine;
  CHECK(engine.run_blocking([]() -> Result<int> { return 7; }).wait(60s).value() == 7);
  auto doubled =
      engine.run_blocking([]() -> Result<int> { return 7; }).then([](Result<int> n) -> Result<int> {
        return *n * 2;
      });
  CHECK(doubled.wait(60s).value() == 14);
  Promise<int> promise;
  auto pending = promise.pending();
  std::atomic<int> seen{0};
  pending.on_ready([&](Result<int> n) { seen = *n; });
  promise.set(3);
  promise.set(4);
  CHECK(seen == 3);
}

TEST_CASE("a promise that is dropped answers cancelled, so nobody waits for ever") {
  auto promise = std::make_unique<Promise<int>>();
  auto pending = promise->pending();
  promise.reset();
  const auto answer = pending.wait(60s);
  REQUIRE_FALSE(answer);
  CHECK(answer.error().is(Error::cancelled));
}

TEST_CASE("cancel() tells the producer once and the consumer gets cancelled") {
  Promise<int> promise;
  int calls = 0;
  promise.on_cancel([&] { ++calls; });
  auto pending = promise.pending();
  pending.cancel();
  pending.cancel();
  CHECK(calls == 1);
  CHECK(promise.cancelled());
  CHECK(pending.wait(60s).error().is(Error::cancelled));
}

TEST_CASE("wait() on an event thread answers would_deadlock instead of hanging") {
  Engine engine;
  Promise<int> never;
  auto pending = std::make_shared<Pending<int>>(never.pending());
  Promise<bool> done;
  auto answer = done.pending();
  engine.post([pending, done] {
    auto result = pending->wait(1s);
    done.set(!result && result.error().is(Error::would_deadlock));
  });
  CHECK(answer.wait(60s).value());
}

TEST_CASE("the worker queue has a bound and says so") {
  Engine engine({.event_threads = 1, .worker_threads_max = 1, .worker_queue_max = 2});
  Promise<void> gate, started;
  auto open = std::make_shared<Pending<void>>(gate.pending());
  auto running = started.pending();
  REQUIRE(engine.post_blocking([open, started] {
    started.set({});
    (void)open->wait(10s);
  }));
  REQUIRE(running.wait(60s));
  REQUIRE(engine.post_blocking([] {}));
  REQUIRE(engine.post_blocking([] {}));
  const auto full = engine.post_blocking([] {});
  REQUIRE_FALSE(full);
  CHECK(full.error().is(Error::overloaded));
  gate.set({});
}

TEST_CASE("timers run in order and a cancelled one does not run") {
  Engine engine;
  std::mutex mutex;
  std::vector<int> order;
  Promise<void> done;
  auto finished = done.pending();
  engine.after(20ms, [&] {
    std::lock_guard lock(mutex);
    order.push_back(2);
    done.set({});
  });
  const auto dropped = engine.after(10ms, [&] {
    std::lock_guard lock(mutex);
    order.push_back(9);
  });
  engine.after(1ms, [&] {
    std::lock_guard lock(mutex);
    order.push_back(1);
  });
  CHECK(engine.cancel_timer(dropped));
  CHECK_FALSE(engine.cancel_timer(dropped));
  REQUIRE(finished.wait(60s));
  CHECK(order == std::vector<int>{1, 2});
}

namespace {
struct ManualClock : Clock {
  std::int64_t ns = 0;
  Now now() override { return {ns, ns}; }
};
}  // namespace

TEST_CASE("an engine without event threads is driven by hand in virtual time") {
  ManualClock clock;
  Engine engine({.event_threads = 0, .clock = &clock});
  int fired = 0;
  engine.after(1h, [&] { ++fired; });
  auto work = engine.run_blocking([&]() -> Result<int> { return ++fired; });
  run_ready(engine);
  CHECK(fired == 1);
  CHECK(next_timer_ns(engine) == 3'600'000'000'000);
  clock.ns = 3'600'000'000'000;
  run_ready(engine);
  CHECK(fired == 2);
  CHECK(work.wait(0s).value() == 1);
}

TEST_CASE("stop() drops queued work and its waiters hear of it") {
  Engine engine;
  engine.stop();
  auto late = engine.run_blocking([]() -> Result<int> { return 1; });
  CHECK(late.wait(60s).error().is(Error::cancelled));
}

TEST_CASE("errors keep code, detail, cause and context") {
  struct Extra {
    int n;
  };
  const Error low(Error::io, "disk", "pwrite log: Input/output error (EIO)");
  const Error high = Error(Error::unavailable, "store", "put /a failed")
                         .because(low)
                         .with_detail(Extra{5})
                         .with_context("api");
  CHECK(high.is(Error::unavailable));
  CHECK(high.message() == "api: put /a failed");
  CHECK(high.to_string() == "api: put /a failed: pwrite log: Input/output error (EIO)");
  REQUIRE(high.detail<Extra>() != nullptr);
  CHECK(high.detail<Extra>()->n == 5);
  CHECK(high.detail<int>() == nullptr);
}

TEST_CASE("open_in_root never leaves the root") {
  test::TempDir dir;
  REQUIRE(make_directories(dir / "root/etc"));
  REQUIRE(write_file(dir / "secret", "outside"));
  REQUIRE(write_file(dir / "root/secret", "inside"));
  REQUIRE(symlink("../../../../secret", (dir / "root/etc/link").c_str()) == 0);
  auto root = open_file(dir / "root", O_PATH | O_DIRECTORY);
  REQUIRE(root);
  auto file = open_in_root(*root, "/etc/link", O_RDONLY);
  REQUIRE(file);
  char text[16] = {};
  CHECK(read(file->get(), text, sizeof text) == 6);
  CHECK(std::string(text) == "inside");
}

TEST_CASE("remove_tree removes links, not what they point to") {
  test::TempDir dir;
  REQUIRE(make_directories(dir / "keep"));
  REQUIRE(write_file(dir / "keep/file", "x"));
  REQUIRE(make_directories(dir / "gone/a/b"));
  REQUIRE(symlink((dir / "keep").c_str(), (dir / "gone/a/link").c_str()) == 0);
  REQUIRE(remove_tree(dir / "gone"));
  REQUIRE(remove_tree(dir / "gone"));
  CHECK(access((dir / "gone").c_str(), F_OK) != 0);
  CHECK(access((dir / "keep/file").c_str(), F_OK) == 0);
}

TEST_CASE("a system error names call, object and errno, and picks the code") {
  const auto missing = open_file("/nonexistent/file", O_RDONLY);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().is(Error::not_found));
  CHECK(missing.error().message() == "open /nonexistent/file: No such file or directory (ENOENT)");
}

TEST_CASE("a second lock of one folder is busy and names the holder") {
  test::TempDir dir;
  auto first = real_disk().lock(dir / "LOCK");
  REQUIRE(first);
  const auto second = real_disk().lock(dir / "LOCK");
  REQUIRE_FALSE(second);
  CHECK(second.error().is(Error::busy));
  CHECK(second.error().message().find(std::to_string(getpid())) != std::string::npos);
}

TEST_CASE("what the end of an engine destroys may arm timers: they are dropped, and nothing stays behind") {
  // Arms a timer when it goes, as the answer to a broken promise may.
  struct ArmsAtItsEnd {
    Engine& engine;
    std::shared_ptr<int> held;
    ~ArmsAtItsEnd() {
      engine.after(1s, [held = std::move(held)] {});
    }
  };
  for (const std::size_t threads : {0, 1}) {
    std::weak_ptr<int> by_timer, by_task;
    {
      Engine engine({.event_threads = threads});
      const auto arming = [&](std::weak_ptr<int>& seen) {
        auto held = std::make_shared<int>();
        seen = held;
        return std::shared_ptr<ArmsAtItsEnd>(new ArmsAtItsEnd{engine, std::move(held)});
      };
      engine.after(1h, [kept = arming(by_timer)] {});
      engine.stop();
      CHECK(by_timer.expired());
      CHECK(engine.after(1s, [] {}) == 0);
      engine.post([kept = arming(by_task)] {});
      CHECK_FALSE(by_task.expired());
    }
    CHECK(by_task.expired());
  }
}

TEST_CASE("uuids have version 4 and differ") {
  const std::string a = real_random().uuid(), b = real_random().uuid();
  CHECK(a.size() == 36);
  CHECK(a[14] == '4');
  CHECK(a != b);
}

TEST_CASE("an address is free when its listener goes, also while every event thread is busy") {
  EngineOptions options;
  options.event_threads = 1;
  Engine busy(options), other;
  auto listener = busy.transport().listen(
      "127.0.0.1:0", [](std::shared_ptr<TransportConnection>) { return TransportHandler{}; });
  REQUIRE(listener);
  const std::string address = (*listener)->address();
  std::promise<void> held, release;
  busy.post([&] {
    held.set_value();
    release.get_future().wait();
  });
  held.get_future().wait();
  listener->reset();
  auto again = other.transport().listen(
      address, [](std::shared_ptr<TransportConnection>) { return TransportHandler{}; });
  CHECK_MESSAGE(again.has_value(), (again ? "" : again.error().to_string()));
  release.set_value();
  busy.stop();
  other.stop();
}

TEST_CASE(
    "the TCP transport delivers a thousand messages that came at once, and what they made the other side "
    "send") {
  Engine engine;
  constexpr std::size_t kMessages = 1000;
  std::atomic<std::size_t> echoed{0}, wrong{0};
  Promise<void> all;
  auto arrived = all.pending();
  std::shared_ptr<TransportConnection> echo;  // a handler that held it would hold itself
  auto listener =
      engine.transport().listen("127.0.0.1:0", [&](std::shared_ptr<TransportConnection> connection) {
        echo = std::move(connection);
        return TransportHandler{[&](std::string message) { (void)echo->send(std::move(message)); }, {}};
      });
  REQUIRE(listener);
  TransportHandler handler;
  handler.on_message = [&](std::string message) {
    const std::size_t number = echoed.fetch_add(1);
    if (message != std::string(number * 7 % 300, 'm')) ++wrong;
    if (number + 1 == kMessages) all.set({});
  };
  auto connection = engine.transport().connect((*listener)->address(), std::move(handler)).wait(60s);
  REQUIRE(connection);
  for (std::size_t i = 0; i < kMessages; ++i) REQUIRE((*connection)->send(std::string(i * 7 % 300, 'm')));
  REQUIRE(arrived.wait(60s));
  CHECK(wrong == 0);
  (*connection)->close();
  engine.stop();
}

TEST_CASE("the TCP transport delivers whole messages in order and tells when the other side goes") {
  Engine engine;
  std::mutex mutex;
  std::vector<std::string> got;
  Promise<void> all, gone;
  auto received = all.pending();
  auto closed = gone.pending();
  auto listener = engine.transport().listen("127.0.0.1:0", [&](std::shared_ptr<TransportConnection>) {
    return TransportHandler{[&](std::string message) {
                              std::lock_guard lock(mutex);
                              got.push_back(std::move(message));
                              if (got.size() == 3) all.set({});
                            },
                            [&](const Error&) { gone.set({}); }};
  });
  REQUIRE(listener);
  auto connection = engine.transport().connect((*listener)->address(), {}).wait(60s);
  REQUIRE(connection);
  const std::string big(1 << 20, 'x');
  REQUIRE((*connection)->send("one"));
  REQUIRE((*connection)->send(""));
  REQUIRE((*connection)->send(big));
  REQUIRE(received.wait(60s));
  CHECK(got == std::vector<std::string>{"one", "", big});
  (*connection)->close();
  CHECK(closed.wait(60s));
  engine.stop();
}
