#pragma once
// Engine: the threads and the environment of everything else.
//
// A host declares one Engine first and lets it die last. It owns the event threads (sockets, timers),
// a bounded pool of worker threads for work that blocks, the log sink and the assertion handler, and
// the environment: every shell takes its Clock, Random, Disk and Transport from the engine it was
// given, so the simulator hands out an engine with one thread and simulated ones.
// No signal handler, no global state: several engines may live in one process. Since 0.1.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestra/pending.hpp"

namespace orchestra {

class Clock;
class Random;
class Disk;
class Transport;

enum class LogLevel : std::uint8_t { debug, info, warning, error };

struct LogRecord {
  LogLevel level = LogLevel::info;
  std::int64_t wall_ns = 0;  ///< since the Unix epoch
  std::string_view component;
  std::string_view message;
  std::vector<std::pair<std::string_view, std::string>> fields;
};
/// Called from any thread, one call at a time per engine; must not call back into the library.
using LogSink = std::function<void(const LogRecord&)>;
/// klog-like line without the newline: `I1123 14:44:01.123456 store] message key=value`.
ORC_API std::string format_log_text(const LogRecord& record);
ORC_API std::string format_log_json(const LogRecord& record);

/// What ORC_ASSERT calls before the process aborts. Process-wide; nullptr restores the default
/// (message on stderr). Set before the first engine is made.
using AssertionHandler = void (*)(const char* expression, const char* file, int line, const char* message);
ORC_API void set_assertion_handler(AssertionHandler handler);

struct EngineOptions {
  std::size_t event_threads = 2;       ///< run callbacks, sockets and timers; never block
  std::size_t worker_threads_max = 64; ///< made when needed, ended after 10 s without work
  std::size_t worker_queue_max = 65536;///< more queued blocking work answers `overloaded`
  LogSink log_sink;                    ///< none: the library logs nothing
  LogLevel log_level = LogLevel::info;
  // The environment; nullptr means the real one. They must outlive the engine.
  Clock* clock = nullptr;
  Random* random = nullptr;
  Disk* disk = nullptr;
  Transport* transport = nullptr;
};

class ORC_API Engine {
 public:
  explicit Engine(EngineOptions options = {});
  /// stop(), then joins all threads.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Stops accepting work, lets running tasks end, joins the threads. Idempotent, any thread but ours.
  void stop();

  Clock& clock() const;
  Random& random() const;
  Disk& disk() const;
  Transport& transport() const;

  /// Runs `task` soon on an event thread. It must not block.
  void post(std::function<void()> task);
  /// Runs `task` on a worker thread, where blocking (files, child processes, Pending::wait) is fine.
  /// Answers `overloaded` when the queue is full, `cancelled` after stop(); `task` is then not run.
  Result<void> post_blocking(std::function<void()> task);
  /// The same with an answer: `run_blocking([]() -> Result<int> { ... })` gives Pending<int>.
  template <class F>
  auto run_blocking(F work) -> Pending<typename decltype(work())::value_type> {
    using T = typename decltype(work())::value_type;
    Promise<T> promise;
    Pending<T> pending = promise.pending();
    auto queued = post_blocking([promise, work = std::move(work)]() mutable { promise.set(work()); });
    if (!queued) return queued.error();
    return pending;
  }

  /// Calls `task` on an event thread after `delay`; cancel_timer() ends it before. 0: stopped, never called.
  using TimerId = std::uint64_t;
  TimerId after(Duration delay, std::function<void()> task);
  /// True if the task will certainly not run.
  bool cancel_timer(TimerId timer);

  bool logs(LogLevel level) const;
  void log(LogLevel level, std::string_view component, std::string_view message,
           std::vector<std::pair<std::string_view, std::string>> fields = {});

  struct Impl;
  Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace orchestra
