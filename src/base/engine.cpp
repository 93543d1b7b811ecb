// Engine: event threads over one Asio context, a pool of workers that grows on demand, timers.
//
// Three kinds of work, three places: callbacks that never block run on the event threads; work that
// blocks runs on workers, which are made when none is idle and end after ten idle seconds; timers are
// entries of one ordered map and one Asio timer for the earliest. With event_threads = 0 nothing runs by
// itself: the simulator drives the engine with its virtual clock (run_until in src/base/engine_manual.hpp).
// Always true: a task accepted by post_blocking runs exactly once or, after stop(), is destroyed unrun.
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "base/assert.hpp"
#include "base/engine_impl.hpp"
#include "base/engine_manual.hpp"
#include "base/fd.hpp"
#include "orchestra/env.hpp"

namespace orchestra {

namespace asio = boost::asio;

std::unique_ptr<Transport> make_tcp_transport(Engine& engine);

namespace {
thread_local bool t_on_event_thread = false;
constexpr auto kWorkerIdle = std::chrono::seconds(10);
}  // namespace

namespace detail {
bool on_event_thread() { return t_on_event_thread; }
}  // namespace detail

EventThreadScope::EventThreadScope() : before_(std::exchange(t_on_event_thread, true)) {}
EventThreadScope::~EventThreadScope() { t_on_event_thread = before_; }

/// Workers that end when idle. The queue is bounded; full means overloaded.
class WorkerPool {
 public:
  WorkerPool(std::size_t threads_max, std::size_t queue_max)
      : threads_max_(threads_max), queue_max_(queue_max) {}
  ~WorkerPool() { stop(); }

  Result<void> post(std::function<void()> task) {
    std::unique_lock lock(mutex_);
    if (stopping_) return Error(Error::cancelled, "engine", "the engine has been stopped");
    if (tasks_.size() >= queue_max_) {
      return Error(Error::overloaded, "engine",
                   "worker queue is full: " + std::to_string(queue_max_) + " tasks wait (worker_queue_max)");
    }
    tasks_.push_back(std::move(task));
    if (idle_ >= tasks_.size() || threads_ >= threads_max_) {
      wake_.notify_one();
      return {};
    }
    reap(lock);
    ++threads_;
    const std::uint64_t id = next_id_++;
    workers_.emplace(id, std::thread([this, id] { run(id); }));
    return {};
  }

  void stop() {
    std::map<std::uint64_t, std::thread> all;
    std::deque<std::function<void()>> dropped;
    {
      std::unique_lock lock(mutex_);
      stopping_ = true;
      dropped.swap(tasks_);
      wake_.notify_all();
      all_ended_.wait(lock, [&] { return threads_ == 0; });
      all.swap(workers_);
    }
    for (auto& [id, thread] : all) thread.join();
  }

 private:
  void run(std::uint64_t id) {
    std::unique_lock lock(mutex_);
    while (true) {
      if (tasks_.empty()) {
        if (stopping_) break;
        ++idle_;
        const bool woken = wake_.wait_for(lock, kWorkerIdle, [&] { return !tasks_.empty() || stopping_; });
        --idle_;
        if (!woken) break;
        continue;
      }
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;  // what it captured goes before the next wait
      lock.lock();
    }
    finished_.push_back(id);
    --threads_;
    all_ended_.notify_all();
  }

  /// Joins threads that have ended, so that a long life does not collect them.
  void reap(std::unique_lock<std::mutex>& lock) {
    std::vector<std::thread> ended;
    for (const std::uint64_t id : finished_) {
      const auto it = workers_.find(id);
      if (it == workers_.end()) continue;
      ended.push_back(std::move(it->second));
      workers_.erase(it);
    }
    finished_.clear();
    lock.unlock();
    for (std::thread& thread : ended) thread.join();
    lock.lock();
  }

  const std::size_t threads_max_, queue_max_;
  std::mutex mutex_;
  std::condition_variable wake_, all_ended_;
  std::deque<std::function<void()>> tasks_;
  std::map<std::uint64_t, std::thread> workers_;
  std::vector<std::uint64_t> finished_;
  std::uint64_t next_id_ = 1;
  std::size_t threads_ = 0, idle_ = 0;
  bool stopping_ = false;
};

struct Engine::Impl {
  Impl(Engine& owner, EngineOptions given)
      : options(std::move(given)),
        context(static_cast<int>(std::max<std::size_t>(1, options.event_threads))),
        timer(context),
        pool(options.worker_threads_max, options.worker_queue_max) {
    clock = options.clock != nullptr ? options.clock : &real_clock();
    random = options.random != nullptr ? options.random : &real_random();
    disk = options.disk != nullptr ? options.disk : &real_disk();
    if (options.transport != nullptr) {
      transport = options.transport;
    } else {
      own_transport = make_tcp_transport(owner);
      transport = own_transport.get();
    }
    work.emplace(context.get_executor());
    for (std::size_t i = 0; i < options.event_threads; ++i) {
      threads.emplace_back([this] {
        EventThreadScope scope;
        context.run();
      });
    }
  }

  bool manual() const { return options.event_threads == 0; }

  /// Driven by hand: what was posted until now, and what sockets have for us if there ever was one (asking
  /// the kernel costs more than most tasks of a simulation). One task at a time: one that waits (wait_on)
  /// lets those behind it run from there.
  std::size_t run_posted() {
    std::size_t ran = 0;
    for (;; ++ran) {
      std::function<void()> task;
      {
        std::lock_guard lock(posted_mutex);
        if (posted.empty()) break;
        task = std::move(posted.front());
        posted.pop_front();
      }
      task();
    }
    if (!context_used) return ran;
    context.restart();
    return ran + context.poll();
  }

  struct TimerKey {
    std::int64_t due_ns;
    TimerId id;
    auto operator<=>(const TimerKey&) const = default;
  };

  // Called with `timer_mutex` held: arms the Asio timer for the earliest entry.
  void arm() {
    if (manual() || timers.empty()) return;
    const std::int64_t due = timers.begin()->first.due_ns;
    if (armed_for == due) return;
    armed_for = due;
    const std::int64_t wait = std::max<std::int64_t>(0, due - clock->now().steady_ns);
    timer.expires_after(std::chrono::nanoseconds(wait));
    timer.async_wait([this](const boost::system::error_code& failed) {
      if (!failed) fire();
    });
  }

  /// Driven by hand: the timers that are due, in order, also those that a waiting task leaves to us.
  void fire_by_hand() {
    TimerId new_ones;
    {
      std::lock_guard lock(timer_mutex);
      new_ones = next_timer;
    }
    while (true) {
      std::function<void()> task;
      {
        std::lock_guard lock(timer_mutex);
        if (timers.empty() || timers.begin()->first.due_ns > clock->now().steady_ns) return;
        if (timers.begin()->first.id >= new_ones) return;  // next time: nobody keeps us here for ever
        due_of.erase(timers.begin()->first.id);
        task = std::move(timers.begin()->second);
        timers.erase(timers.begin());
      }
      task();
    }
  }

  void fire() {
    std::vector<std::function<void()>> due;
    {
      std::lock_guard lock(timer_mutex);
      armed_for = -1;
      const std::int64_t now = clock->now().steady_ns;
      while (!timers.empty() && timers.begin()->first.due_ns <= now) {
        due_of.erase(timers.begin()->first.id);
        due.push_back(std::move(timers.begin()->second));
        timers.erase(timers.begin());
      }
      arm();
    }
    for (auto& task : due) task();
  }

  EngineOptions options;
  // Before the context: what its end destroys may still post and arm timers.
  std::mutex timer_mutex;
  std::map<TimerKey, std::function<void()>> timers;
  std::map<TimerId, std::int64_t> due_of;
  TimerId next_timer = 1;
  bool timers_over = false;  ///< stopped: none is taken any more
  std::mutex posted_mutex;
  std::deque<std::function<void()>> posted;  ///< manual only
  asio::io_context context;
  std::atomic<bool> context_used{false};
  Pump pump;  ///< manual only
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
  Clock* clock = nullptr;
  Random* random = nullptr;
  Disk* disk = nullptr;
  Transport* transport = nullptr;
  std::int64_t armed_for = -1;
  asio::steady_timer timer;
  std::mutex log_mutex;
  std::mutex stop_mutex;
  bool stopped = false;
  const Fd stopping{::eventfd(0, EFD_CLOEXEC)};
  std::unique_ptr<Transport> own_transport;
  std::vector<std::thread> threads;
  WorkerPool pool;
};

asio::io_context& event_context(Engine& engine) {
  engine.impl().context_used = true;
  return engine.impl().context;
}

int stopping_descriptor(Engine& engine) { return engine.impl().stopping.get(); }

Engine::Engine(EngineOptions options) : impl_(nullptr) {
  impl_ = std::make_unique<Impl>(*this, std::move(options));
}
Engine::~Engine() { stop(); }

void Engine::stop() {
  std::lock_guard lock(impl_->stop_mutex);
  if (impl_->stopped) return;
  impl_->stopped = true;
  const std::uint64_t one = 1;
  (void)!::write(impl_->stopping.get(), &one, sizeof one);
  impl_->pool.stop();
  impl_->work.reset();
  impl_->context.stop();
  for (std::thread& thread : impl_->threads) {
    ORC_ASSERT_MSG(thread.get_id() != std::this_thread::get_id(), "Engine::stop() on its own thread");
    thread.join();
  }
  std::deque<std::function<void()>> dropped;
  {
    std::lock_guard posted(impl_->posted_mutex);
    dropped.swap(impl_->posted);
  }
  std::map<Impl::TimerKey, std::function<void()>>
      abandoned;  // destroyed without the lock: they may arm others
  std::lock_guard timers(impl_->timer_mutex);
  impl_->timers_over = true;
  abandoned.swap(impl_->timers);
  impl_->due_of.clear();
}

Clock& Engine::clock() const { return *impl_->clock; }
Random& Engine::random() const { return *impl_->random; }
Disk& Engine::disk() const { return *impl_->disk; }
Transport& Engine::transport() const { return *impl_->transport; }

void Engine::post(std::function<void()> task) {
  if (!impl_->manual()) return asio::post(impl_->context, std::move(task));
  std::lock_guard lock(impl_->posted_mutex);
  impl_->posted.push_back(std::move(task));
}

Result<void> Engine::post_blocking(std::function<void()> task) {
  if (impl_->manual()) {
    post(std::move(task));
    return {};
  }
  return impl_->pool.post(std::move(task));
}

Engine::TimerId Engine::after(Duration delay, std::function<void()> task) {
  std::lock_guard lock(impl_->timer_mutex);
  if (impl_->timers_over) return 0;
  const TimerId id = impl_->next_timer++;
  const std::int64_t due = impl_->clock->now().steady_ns + std::max<std::int64_t>(0, delay.count());
  impl_->timers.emplace(Impl::TimerKey{due, id}, std::move(task));
  impl_->due_of.emplace(id, due);
  impl_->arm();
  return id;
}

bool Engine::cancel_timer(TimerId timer) {
  std::function<void()> dropped;
  std::lock_guard lock(impl_->timer_mutex);
  const auto it = impl_->due_of.find(timer);
  if (it == impl_->due_of.end()) return false;
  const auto entry = impl_->timers.find({it->second, timer});
  dropped = std::move(entry->second);
  impl_->timers.erase(entry);
  impl_->due_of.erase(it);
  return true;
}

bool Engine::logs(LogLevel level) const {
  return impl_->options.log_sink && level >= impl_->options.log_level;
}

void Engine::log(LogLevel level, std::string_view component, std::string_view message,
                 std::vector<std::pair<std::string_view, std::string>> fields) {
  if (!logs(level)) return;
  LogRecord record{level, impl_->clock->now().wall_ns, component, message, std::move(fields)};
  std::lock_guard lock(impl_->log_mutex);
  impl_->options.log_sink(record);
}

std::size_t run_ready(Engine& engine) {
  ORC_ASSERT(engine.impl().manual());
  const std::size_t ran = engine.impl().run_posted();
  engine.impl().fire_by_hand();
  return ran + engine.impl().run_posted();
}

std::optional<std::int64_t> next_timer_ns(Engine& engine) {
  std::lock_guard lock(engine.impl().timer_mutex);
  if (engine.impl().timers.empty()) return std::nullopt;
  return engine.impl().timers.begin()->first.due_ns;
}

void set_pump(Engine& engine, Pump pump) {
  ORC_ASSERT(engine.impl().manual());
  engine.impl().pump = std::move(pump);
}
bool driven_by_hand(Engine& engine) { return engine.impl().manual(); }
std::int64_t steady_now_ns(Engine& engine) { return engine.clock().now().steady_ns; }

bool pump_once(Engine& engine, std::int64_t until_steady_ns) {
  if (engine.impl().pump) return engine.impl().pump(until_steady_ns);
  return run_ready(engine) != 0;
}

}  // namespace orchestra
