// The queue of keys: a FIFO of ready keys, a heap of delayed ones, and two sets that keep a key from being
// queued or worked on twice. Semantics are those of client-go's workqueue (queue.go, delaying_queue.go,
// default_rate_limiters.go), in one passive object.
//
// Invariants: a key is in `ready` at most once; one in `working` or at rest is never in `ready`.
#include "orchestra/work_queue.hpp"

#include <algorithm>
#include <deque>
#include <mutex>
#include <set>
#include <unordered_map>

#include "orchestra/metrics.hpp"

namespace orchestra {

namespace {

std::vector<double> tenfold(double first, int count) {
  std::vector<double> bounds;
  for (double bound = first; count > 0; bound *= 10, --count) bounds.push_back(bound);
  return bounds;
}

// The queue's own series (component-base/metrics/prometheus/workqueue/metrics.go). Two queues of one name, as
// a set of controllers that follows another, count together.
struct QueueMeter {
  Gauge depth;
  Counter adds, retries;
  Histogram waits, works;

  static std::optional<QueueMeter> of(const WorkQueueOptions& options) {
    if (!options.metrics) return std::nullopt;
    Metrics& registry = *options.metrics;
    const std::vector<std::string> label{"name"};
    const std::vector<double> bounds = tenfold(1e-8, 12);
    const auto depth = registry.gauge("workqueue_depth", "Current depth of workqueue", label);
    const auto adds =
        registry.counter("workqueue_adds_total", "Total number of adds handled by workqueue", label);
    const auto retries =
        registry.counter("workqueue_retries_total", "Total number of retries handled by workqueue", label);
    const auto waits = registry.histogram(
        "workqueue_queue_duration_seconds",
        "How long in seconds an item stays in workqueue before being requested.", bounds, label);
    const auto works =
        registry.histogram("workqueue_work_duration_seconds",
                           "How long in seconds processing an item from workqueue takes.", bounds, label);
    // A host with other families of these names is not measured.
    if (!depth || !adds || !retries || !waits || !works) return std::nullopt;
    const std::vector<std::string> name{options.name};
    return QueueMeter{depth->with(name), adds->with(name), retries->with(name), waits->with(name),
                      works->with(name)};
  }
};

double seconds(std::int64_t ns) { return static_cast<double>(ns) / 1e9; }

}  // namespace

struct WorkQueue::Impl {
  Clock& clock;
  const WorkQueueOptions options;
  mutable std::mutex mutex;
  std::function<void()> wake;
  std::deque<std::string> ready;
  struct Waiting {
    std::int64_t ready, added;  // steady: a key that is added while worked on is ready only after that
  };
  std::unordered_map<std::string, Waiting> ready_since;    // exactly the keys in `ready`
  std::unordered_map<std::string, std::int64_t> working;   // since when
  std::unordered_map<std::string, std::int64_t> again;     // added while worked on or at rest, and when
  std::set<std::pair<std::int64_t, std::string>> rests;    // (steady end, key)
  std::unordered_map<std::string, std::int64_t> rest_end;  // exactly the keys in `rests`
  std::set<std::pair<std::int64_t, std::string>> due;      // (steady time, key)
  std::unordered_map<std::string, std::int64_t> due_time;  // exactly the keys in `due`
  std::unordered_map<std::string, std::uint32_t> failures;
  double tokens;
  std::int64_t tokens_at = 0;
  bool overflow = false;
  WorkQueueStats stats;
  const std::optional<QueueMeter> meter;

  Impl(Clock& clock, const WorkQueueOptions& options)
      : clock(clock), options(options), tokens(options.failures_burst), meter(QueueMeter::of(options)) {}
  ~Impl() {
    if (meter) meter->depth.add(-static_cast<double>(ready.size() + again.size()));
  }

  bool full() const { return ready_since.size() + due_time.size() + again.size() >= options.keys_max; }

  void note_added() const {
    if (!meter) return;
    meter->adds.add();
    meter->depth.add(1);
  }

  // True when the key became ready.
  bool make_ready(const std::string& key, std::int64_t now) {
    if (working.contains(key) || rest_end.contains(key)) {
      if (again.try_emplace(key, now).second) note_added();
      return false;
    }
    if (!ready_since.try_emplace(key, Waiting{now, now}).second) return false;
    ready.push_back(key);
    note_added();
    return true;
  }

  // A key that was added while it could not be handed out is ready. True: it was.
  bool bring_back(const std::string& key, std::int64_t now) {
    const auto added = again.extract(key);
    if (!added) return false;
    ready_since.emplace(key, Waiting{now, added.mapped()});
    ready.push_back(key);
    return true;
  }

  void promote_due(std::int64_t now) {
    while (!rests.empty() && rests.begin()->first <= now) {
      const std::string key = rests.begin()->second;
      rests.erase(rests.begin());
      rest_end.erase(key);
      bring_back(key, now);
    }
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
  if (impl_->meter) impl_->meter->retries.add();
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
  impl_->stats.longest_wait_ns = std::max(impl_->stats.longest_wait_ns, now - since->second.ready);
  if (impl_->meter) {
    impl_->meter->depth.add(-1);
    impl_->meter->waits.observe(seconds(now - since->second.added));
  }
  impl_->ready_since.erase(since);
  impl_->working.emplace(key, now);
  return key;
}

void WorkQueue::done(const std::string& key, Duration rest) {
  std::function<void()> wake;
  {
    std::lock_guard lock(impl_->mutex);
    const std::int64_t now = impl_->clock.now().steady_ns;
    if (const auto began = impl_->working.find(key); began != impl_->working.end()) {
      if (impl_->meter) impl_->meter->works.observe(seconds(now - began->second));
      impl_->working.erase(began);
    }
    if (rest > Duration::zero()) {
      if (impl_->rest_end.try_emplace(key, now + rest.count()).second)
        impl_->rests.emplace(now + rest.count(), key);
    } else if (impl_->bring_back(key, now)) {
      wake = impl_->wake;
    }
  }
  if (wake) wake();
}

std::optional<Duration> WorkQueue::next_due() const {
  std::lock_guard lock(impl_->mutex);
  if (impl_->due.empty() && impl_->rests.empty()) return std::nullopt;
  std::int64_t first = INT64_MAX;
  for (const auto* times : {&impl_->due, &impl_->rests}) {
    if (!times->empty()) first = std::min(first, times->begin()->first);
  }
  return Duration(std::max<std::int64_t>(0, first - impl_->clock.now().steady_ns));
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
  for (const auto& [key, end] : impl_->rest_end) stats.depth += impl_->again.contains(key) ? 1 : 0;
  stats.delayed = impl_->due.size();
  stats.working = impl_->working.size();
  return stats;
}

}  // namespace orchestra
