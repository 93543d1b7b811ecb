#pragma once
// WorkQueue: which key to look at next.
//
// Keys, never payloads: a hundred changes of one object are one entry. A key is never handed out twice at
// the same time; a key that is added while it is worked on comes again afterwards. A key that fails comes
// back after a delay that doubles from 5 ms to 1000 s, and a token bucket over all failures keeps a broken
// cluster from being hammered. The queue is passive: it reads the clock it was given and calls `wake` when
// there may be something to take; the owner decides on which thread the work runs. Any thread. Since 0.1.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "orchestra/env.hpp"

namespace orchestra {

struct WorkQueueOptions {
  std::size_t keys_max =
      1'000'000;  ///< more: the key is dropped and take_overflow() answers true: list again
  Duration backoff_min = std::chrono::milliseconds(5);
  Duration backoff_max = std::chrono::seconds(1000);
  double failures_per_second = 10;  ///< token bucket over the failures of all keys
  double failures_burst = 100;
  /// Where the queue is measured, by the names of Kubernetes' client-go: workqueue_depth, _adds_total,
  /// _retries_total, _queue_duration_seconds (between ready and taken) and _work_duration_seconds (between
  /// taken and done), with the label name="`name`". Empty: nowhere. Since 0.2.
  std::shared_ptr<class Metrics> metrics = {};
  std::string name = {};
};

struct WorkQueueStats {
  std::size_t depth = 0;    ///< ready now, or when their rest is over
  std::size_t delayed = 0;  ///< waiting for their time
  std::size_t working = 0;
  std::uint64_t adds = 0;
  std::uint64_t retries = 0;
  std::int64_t longest_wait_ns = 0;  ///< of a key between ready and taken
};

class ORC_API WorkQueue {
 public:
  explicit WorkQueue(Clock& clock, WorkQueueOptions options = {});
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  /// Called (any thread, not under a lock of the queue) after a key became ready or an earlier time is due.
  void on_wake(std::function<void()> wake);

  void add(const std::string& key);
  /// At the earliest after `delay`; of several delays of one key the earliest counts.
  void add_after(const std::string& key, Duration delay);
  /// After the key's own back-off, which doubles with each call.
  void add_failed(const std::string& key);
  /// The key went well: its next back-off starts at the minimum.
  void forget(const std::string& key);

  /// The next ready key, which then counts as worked on until done(); nullopt when none is ready.
  std::optional<std::string> take();
  /// Ends the work on a key; if it was added meanwhile it is ready again, at the earliest after `rest` (which
  /// is since 0.2).
  void done(const std::string& key, Duration rest = {});
  /// Time until the first delayed key is due or the first rest is over; nullopt when there is neither.
  std::optional<Duration> next_due() const;
  /// True once after keys had to be dropped: the owner adds every key again from its caches.
  bool take_overflow();
  std::uint32_t failures(const std::string& key) const;
  WorkQueueStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orchestra
