// The queue of keys: a FIFO of ready keys, a heap of delayed ones, and two sets that keep a key from being
// queued or worked on twice. Semantics are those of client-go's workqueue (queue.go, delaying_queue.go,
// default_rate_limiters.go), in one passive object.
//
// Invariants: a key is in `ready` at most once; a key in `working` is never in `ready`.
#include "orchestra/work_queue.hpp"

#include <algorithm>
#include <deque>
#include <mutex>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace orchestra {

struct WorkQueue::Impl {
  Clock& clock;
  const WorkQueueOptions options;
  mutable std::mutex mutex;
  std::function<void()> wake;
  std::deque<std::string> ready;
  std::unordered_map<std::string, std::int64_t> ready_since;  // exactly the keys in `ready`
  std::unordered_set<std::string> working;
  std::unordered_set<std::string> again;                   // added while worked on
  std::set<std::pair<std::int64_t, std::string>> due;      // (steady time, key)
  std::unordered_map<std::string, std::int64_t> due_time;  // exactly the keys in `due`
  std::unordered_map<std::string, std::uint32_t> failures;
  double tokens;
  std::int64_t tokens_at = 0;
  bool overflow = false;
  WorkQueueStats stats;

  Impl(Clock& clock, const WorkQueueOptions& options)
      : clock(clock), options(options), tokens(options.failures_burst) {}

  bool full() const { return ready_since.size() + due_time.size() + again.size() >= options.keys_max; }

  // True when the key became ready.
  bool make_ready(const std::string& key, std::int64_t now) {
    if (working.contains(key)) {
      again.insert(key);
      return false;
    }
    if (!ready_since.try_emplace(key, now).second) return false;
    ready.push_back(key);
    return true;
  }

  void promote_due(std::int64_t now) {
    while (!due.empty() && due.begin()->first <= now) {
      const std::string key = due.begin()->second;
      due.erase(due.begin());
      due_time.erase(key);
      make_ready(key, now);
    }
  }

  // True when the key is due earlier than before, so that somebody's timer may be too late.
  bool delay(const std::string& key, std::int64_t at) {
    const auto [entry, fresh] = due_time.try_emplace(key, at);
    if (!fresh) {
      if (entry->second <= at) return false;
      due.erase({entry->second, key});
      entry->second = at;
    }
    due.insert({at, key});
    return true;
  }

  // Seconds a failure has to wait for its token; tokens may be borrowed, so that order is kept.
  Duration token_delay(std::int64_t now) {
    if (tokens_at != 0) {
      const double refilled = static_cast<double>(now - tokens_at) * 1e-9 * options.failures_per_second;
      tokens = std::min(options.failures_burst, tokens + refilled);
    }
    tokens_at = now;
    tokens -= 1;
    if (tokens >= 0) return Duration::zero();
    return Duration(static_cast<std::int64_t>(-tokens / options.failures_per_second * 1e9));
  }
};

WorkQueue::WorkQueue(Clock& clock, WorkQueueOptions options)
    : impl_(std::make_unique<Impl>(clock, options)) {}
WorkQueue::~WorkQueue() = default;

void WorkQueue::on_wake(std::function<void()> wake) {
  std::lock_guard lock(impl_->mutex);
  impl_->wake = std::move(wake);
}

void WorkQueue::add(const std::string& key) {
  std::function<void()> wake;
  {
    std::lock_guard lock(impl_->mutex);
    ++impl_->stats.adds;
    if (impl_->full() && !impl_->ready_since.contains(key)) {
      impl_->overflow = true;
      return;
    }
    if (impl_->make_ready(key, impl_->clock.now().steady_ns)) wake = impl_->wake;
  }
  if (wake) wake();
}

void WorkQueue::add_after(const std::string& key, Duration delay) {
  if (delay <= Duration::zero()) return add(key);
  std::function<void()> wake;
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->full() && !impl_->due_time.contains(key)) {
      impl_->overflow = true;
      return;
    }
    if (impl_->delay(key, impl_->clock.now().steady_ns + delay.count())) wake = impl_->wake;
  }
  if (wake) wake();
}

void WorkQueue::add_failed(const std::string& key) {
  Duration delay{};
  {
    std::lock_guard lock(impl_->mutex);
    const std::uint32_t count = impl_->failures[key]++;
    ++impl_->stats.retries;
    delay = impl_->options.backoff_max;
    if (count < 40) delay = std::min(delay, impl_->options.backoff_min * (std::int64_t{1} << count));
    delay = std::max(delay, impl_->token_delay(impl_->clock.now().steady_ns));
  }
  add_after(key, delay);
}

void WorkQueue::forget(const std::string& key) {
  std::lock_guard lock(impl_->mutex);
  impl_->failures.erase(key);
}

std::optional<std::string> WorkQueue::take() {
  std::lock_guard lock(impl_->mutex);
  const std::int64_t now = impl_->clock.now().steady_ns;
  impl_->promote_due(now);
  if (impl_->ready.empty()) return std::nullopt;
  std::string key = std::move(impl_->ready.front());
  impl_->ready.pop_front();
  const auto since = impl_->ready_since.find(key);
  impl_->stats.longest_wait_ns = std::max(impl_->stats.longest_wait_ns, now - since->second);
  impl_->ready_since.erase(since);
  impl_->working.insert(key);
  return key;
}

void WorkQueue::done(const std::string& key) {
  std::function<void()> wake;
  {
    std::lock_guard lock(impl_->mutex);
    impl_->working.erase(key);
    if (impl_->again.erase(key) != 0 && impl_->make_ready(key, impl_->clock.now().steady_ns))
      wake = impl_->wake;
  }
  if (wake) wake();
}

std::optional<Duration> WorkQueue::next_due() const {
  std::lock_guard lock(impl_->mutex);
  if (impl_->due.empty()) return std::nullopt;
  const std::int64_t wait = impl_->due.begin()->first - impl_->clock.now().steady_ns;
  return Duration(std::max<std::int64_t>(0, wait));
}

bool WorkQueue::take_overflow() {
  std::lock_guard lock(impl_->mutex);
  return std::exchange(impl_->overflow, false);
}

std::uint32_t WorkQueue::failures(const std::string& key) const {
  std::lock_guard lock(impl_->mutex);
  const auto found = impl_->failures.find(key);
  return found == impl_->failures.end() ? 0 : found->second;
}

WorkQueueStats WorkQueue::stats() const {
  std::lock_guard lock(impl_->mutex);
  WorkQueueStats stats = impl_->stats;
  stats.depth = impl_->ready.size();
  stats.delayed = impl_->due.size();
  stats.working = impl_->working.size();
  return stats;
}

}  // namespace orchestra
