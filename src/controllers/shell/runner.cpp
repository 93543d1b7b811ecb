// ControllerRunner: queue, decide, execute, remember; see reconciler.hpp.
//
// Life of a key: queued -> (parked until the view has its own last writes) -> decided -> executed -> done, or
// queued again after a pause. At most parallel_keys() keys are worked on at a time, each on a worker thread.
// Parking is what other systems call expectations, but exact: a decision is never made on a view that lacks
// what this key wrote before, however late the watch is.
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <unordered_map>

#include "controllers/common/objects.hpp"
#include "controllers/common/observations.hpp"
#include "controllers/shell/executor.hpp"
#include "orchestra/metrics.hpp"

namespace orchestra {

namespace {
constexpr Duration kCostly = std::chrono::milliseconds(1);  // a decision

// A host with another family of this name is not measured.
std::optional<MetricFamily<Counter>> error_counters(const WorkQueueOptions& options) {
  if (!options.metrics) return std::nullopt;
  auto family =
      options.metrics->counter("orchestra_reconcile_errors_total",
                               "Reconciles that failed, by the code of the error.", {"controller", "reason"});
  if (!family) return std::nullopt;
  return std::move(*family);
}
}  // namespace

struct ControllerRunner::Impl : View, std::enable_shared_from_this<ControllerRunner::Impl> {
  Engine& engine;
  const Client client;
  InformerSet& informers;
  EventRecorder& events;
  const std::shared_ptr<const Reconciler> reconciler;
  const RunnerOptions options;
  const std::string name;
  WorkQueue queue;
  const std::optional<MetricFamily<Counter>> errors_by_reason;
  std::vector<Source> sources;
  std::vector<InformerCore*> inputs;

  mutable std::mutex observed_mutex;
  controllers::Observations observations;  // under observed_mutex

  mutable std::mutex mutex;
  std::condition_variable ended;
  std::unordered_map<std::string, OwnWrites> own_writes;
  std::unordered_map<std::string, std::int64_t> status_written_ns;
  std::unordered_map<std::string, ReconcileDecision> decisions;
  std::deque<std::string> decision_order;
  std::function<void(const ReconcileDecision&)> on_decision;
  std::optional<Engine::TimerId> timer;
  std::int64_t timer_at_ns = 0;
  std::size_t running = 0;
  std::size_t parked = 0;
  bool rescan = false;  // the queue has dropped keys
  bool started = false;
  bool stopped = false;
  RunnerStats stats;

  Impl(Engine& engine, Client client, InformerSet& informers, EventRecorder& events,
       std::shared_ptr<const Reconciler> reconciler, RunnerOptions options)
      : engine(engine),
        client(std::move(client)),
        informers(informers),
        events(events),
        reconciler(std::move(reconciler)),
        options(std::move(options)),
        name(this->reconciler->name()),
        queue(engine.clock(), this->options.queue),
        errors_by_reason(error_counters(this->options.queue)) {}

  // What a reconciler sees: the objects of all, and what this runner observed of them.
  const ObjectCache* cache(const ResourceRef& resource) const override { return informers.cache(resource); }
  std::optional<Observed> observed(const ResourceRef& resource, const ObjectKey& key) const override {
    std::optional<Observed> seen;
    {
      std::lock_guard lock(observed_mutex);
      seen = observations.find(resource, key);
    }
    const auto told = options.also_observed ? options.also_observed(resource, key) : std::nullopt;
    return told && (!seen || told->at.steady_ns > seen->at.steady_ns) ? told : seen;
  }

  bool is_stopped() const {
    std::lock_guard lock(mutex);
    return stopped;
  }

  template <class F>
  std::function<void()> step(F run) {
    return [weak = weak_from_this(), run = std::move(run)]() mutable {
      if (const auto self = weak.lock()) run(*self);
    };
  }

  void start() {
    sources = reconciler->sources();
    queue.on_wake(step([](Impl& impl) { impl.pump(); }));
    for (const Source& source : sources) {
      InformerCore& informer = informers.informer(source.resource);
      inputs.push_back(&informer);
    }
    {
      std::lock_guard lock(mutex);
      started = true;
    }
    for (std::size_t i = 0; i < sources.size(); ++i) {
      if (sources[i].keys || sources[i].observes) {
        inputs[i]->on_event([weak = weak_from_this(), i](const Object& old, const Object& now) {
          if (const auto self = weak.lock()) self->changed(i, old, now);
        });
      }
      inputs[i]->wait_synced().on_ready([weak = weak_from_this()](const Result<void>&) {
        if (const auto self = weak.lock()) self->pump();
      });
    }
  }

  void changed(std::size_t source, const Object& old, const Object& now) {
    if (sources[source].observes) {
      const Now at = engine.clock().now();
      std::lock_guard lock(observed_mutex);
      observations.change(sources[source], old, now, at);
    }
    if (sources[source].keys) map_change(source, old, now);
  }

  void map_change(std::size_t source, const Object& old, const Object& now) {
    sources[source].keys(*this, old, now, [this](const std::string& key) { queue.add(key); });
  }

  bool synced() const {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!sources[i].optional && !inputs[i]->synced()) return false;
    }
    return true;
  }

  // Starts work for ready keys as far as there is room, and the timer for the next delayed one. Once stopped,
  // nothing outside of this object may be touched: stop() has returned and the informers may be gone.
  void pump() {
    std::unique_lock lock(mutex);
    if (!started || stopped || !synced()) return;
    rescan = queue.take_overflow() || rescan;
    if (rescan) {
      rescan = false;
      rescan = !begin(lock, [self = shared_from_this()] {
        self->add_all();
        self->ended_one();
        self->pump();
      });
    }
    while (!stopped && running < reconciler->parallel_keys()) {
      const auto key = queue.take();
      if (!key) break;
      if (begin(lock, [self = shared_from_this(), key = *key] { self->work(key); })) continue;
      lock.unlock();
      queue.add_failed(*key);
      queue.done(*key);
      lock.lock();
    }
    arm_timer();
  }

  // Runs `task`, which ends with ended_one(), on a worker; false: the engine has no room. `lock` is let go
  // meanwhile.
  bool begin(std::unique_lock<std::mutex>& lock, std::function<void()> task) {
    ++running;
    lock.unlock();
    const bool queued = engine.post_blocking(std::move(task)).has_value();
    lock.lock();
    if (!queued) --running;
    return queued;
  }

  void ended_one() {
    {
      std::lock_guard lock(mutex);
      --running;
    }
    ended.notify_all();
  }

  // The caller holds the mutex. Where there is no room, whoever ends makes some and looks again: a timer for
  // a key that is due already would only fire and be armed again until then.
  void arm_timer() {
    if (stopped || running >= reconciler->parallel_keys()) return;
    const auto due = queue.next_due();
    if (!due) return;
    const std::int64_t at = engine.clock().now().steady_ns + due->count();
    if (timer) {
      if (timer_at_ns <= at) return;
      engine.cancel_timer(*timer);
    }
    timer_at_ns = at;
    timer = engine.after(*due, step([](Impl& impl) {
      {
        std::lock_guard lock(impl.mutex);
        impl.timer.reset();
      }
      impl.pump();
    }));
  }

  // The queue had to drop keys: every object says again which keys it concerns.
  void add_all() {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      if (!sources[i].keys) continue;
      for (const Object& object : inputs[i]->cache().list()) map_change(i, {}, object);
    }
  }

  void work(const std::string& key) {
    Duration rest{};
    if (!is_stopped() && !park(key)) rest = reconcile(key);
    queue.done(key, rest);
    ended_one();
    pump();
  }

  // True: the view lacks something that this key wrote; the key comes back when it is there.
  bool park(const std::string& key) {
    OwnWrites writes;
    {
      std::lock_guard lock(mutex);
      const auto found = own_writes.find(key);
      if (found == own_writes.end()) return false;
      writes = found->second;
    }
    std::optional<Pending<void>> wait;
    for (const auto& [resource, version] : writes.revisions) {
      InformerCore* informer = informers.find_informer(resource);
      if (informer == nullptr || wait) continue;
      if (informer->revision() < controllers::to_int(version).value_or(0)) wait = informer->wait_for(version);
    }
    for (const auto& [resource, uid] : writes.gone) {
      InformerCore* informer = informers.find_informer(resource);
      if (informer == nullptr || wait) continue;
      const Object object = informer->cache().by_uid(uid);
      if (object && !object.deleting()) wait = informer->wait_gone(uid);
    }
    if (!wait) {
      std::lock_guard lock(mutex);
      own_writes.erase(key);
      return false;
    }
    {
      std::lock_guard lock(mutex);
      ++parked;
    }
    wait->on_ready([weak = weak_from_this(), key](const Result<void>&) {
      const auto self = weak.lock();
      if (!self) return;
      self->queue.add(key);
      std::lock_guard lock(self->mutex);
      --self->parked;
    });
    return true;
  }

  // Answers for how long the key may rest: of one whose decisions are costly and change nothing, as that of a
  // set with thousands of pods that become ready one after another, a fifth of a thread is enough.
  Duration reconcile(const std::string& key) {
    const Now begin = engine.clock().now();
    ReconcileDecision decision{name, key, begin, {}, {}, {}, {}, {}};
    for (const InformerCore* input : inputs) {
      decision.seen.emplace_back(input->resource().resource, input->revision());
    }
    std::optional<Error> error;
    Duration rest{};
    try {
      Actions actions = reconciler->decide(key, *this, begin);
      const Duration took(engine.clock().now().steady_ns - begin.steady_ns);
      decision.reason = actions.reason;
      hold_status(key, actions, begin);
      if (actions.list.empty() && took >= kCostly) rest = std::min(4 * took, options.status_interval);
      error = execute(key, actions, decision);
      decision.requeue_after = actions.requeue_after;
    } catch (const std::exception& thrown) {
      error = Error(Error::internal, "controllers", name + " " + key + ": " + thrown.what());
    }
    if (error) decision.error = error->to_string();
    if (error) {
      if (errors_by_reason) errors_by_reason->with({name, to_string(error->code())}).add();
      queue.add_failed(key);
      if (engine.logs(LogLevel::info))
        engine.log(LogLevel::info, "controllers", name + " " + key + ": " + decision.error);
    } else {
      queue.forget(key);
      if (decision.requeue_after) queue.add_after(key, *decision.requeue_after);
    }
    remember(std::move(decision), error.has_value(), engine.clock().now().steady_ns - begin.steady_ns);
    return error ? Duration() : rest;
  }

  // Counts may change many times in a moment; one write per status_interval tells them all.
  void hold_status(const std::string& key, Actions& actions, Now now) {
    std::lock_guard lock(mutex);
    for (auto it = actions.list.begin(); it != actions.list.end();) {
      if (!it->coalesce) {
        ++it;
        continue;
      }
      std::int64_t& last = status_written_ns[key];
      const Duration since(now.steady_ns - last);
      if (last != 0 && since < options.status_interval) {
        actions.requeue(options.status_interval - since);
        it = actions.list.erase(it);
      } else {
        last = now.steady_ns;
        ++it;
      }
    }
    if (status_written_ns.size() > options.decisions_kept * 4) status_written_ns.clear();
  }

  std::optional<Error> execute(const std::string& key, Actions& actions, ReconcileDecision& decision) {
    if (options.dry_run) {
      for (const Action& action : actions.list) {
        if (decision.actions.size() < kOutcomesMax) decision.actions.push_back("would " + action.describe());
      }
      return std::nullopt;
    }
    Executor executor(engine, client, events, name + "-controller", options, [this] { return is_stopped(); });
    const std::size_t count = std::min(actions.list.size(), options.actions_max);
    if (count < actions.list.size()) actions.requeue(Duration::zero());
    Execution execution = executor.run(actions.list, count);
    if (execution.error && execution.failed != nullptr && !execution.error->is(Error::cancelled)) {
      const Actions after =
          reconciler->failed(key, *this, engine.clock().now(), *execution.failed, *execution.error);
      Execution second = executor.run(after.list, after.list.size());
      for (auto& [resource, version] : second.writes.revisions)
        execution.writes.revisions[resource] = version;
    }
    decision.actions = std::move(execution.outcomes);
    std::lock_guard lock(mutex);
    stats.writes += execution.written;
    if (!execution.writes.revisions.empty() || !execution.writes.gone.empty()) {
      own_writes[key] = std::move(execution.writes);
    }
    return execution.error;
  }

  void remember(ReconcileDecision decision, bool failed, std::int64_t took_ns) {
    std::function<void(const ReconcileDecision&)> tell;
    {
      std::lock_guard lock(mutex);
      ++stats.reconciles;
      if (failed) ++stats.errors;
      stats.work_ns += took_ns;
      tell = on_decision;
      const std::string key = decision.key;
      const bool fresh = (tell ? decisions.insert_or_assign(key, decision)
                               : decisions.insert_or_assign(key, std::move(decision)))
                             .second;
      if (fresh) decision_order.push_back(key);
      while (decision_order.size() > options.decisions_kept) {
        decisions.erase(decision_order.front());
        decision_order.pop_front();
      }
    }
    if (tell) tell(decision);
  }

  void stop() {
    std::unique_lock lock(mutex);
    stopped = true;
    if (timer) engine.cancel_timer(*timer);
    timer.reset();
    ended.wait(lock, [this] { return running == 0; });
  }
};

ControllerRunner::ControllerRunner(Engine& engine, Client client, InformerSet& informers,
                                   EventRecorder& events, std::shared_ptr<const Reconciler> reconciler,
                                   RunnerOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(client), informers, events, std::move(reconciler),
                                   std::move(options))) {}

ControllerRunner::~ControllerRunner() { stop(); }

void ControllerRunner::on_decision(std::function<void(const ReconcileDecision&)> callback) {
  std::lock_guard lock(impl_->mutex);
  impl_->on_decision = std::move(callback);
}

Result<void> ControllerRunner::start() {
  if (!impl_->client) {
    return Error(Error::invalid, "controllers", "controller " + impl_->name + ": it has no client");
  }
  impl_->start();
  return {};
}

void ControllerRunner::stop() { impl_->stop(); }
void ControllerRunner::wake(const std::string& key) { impl_->queue.add(key); }

std::optional<ReconcileDecision> ControllerRunner::decision(const std::string& key) const {
  std::lock_guard lock(impl_->mutex);
  const auto found = impl_->decisions.find(key);
  if (found == impl_->decisions.end()) return std::nullopt;
  return found->second;
}

std::string ControllerRunner::explain(const std::string& key) const {
  const auto last = decision(key);
  return last ? last->explain() : impl_->name + " " + key + ": has not been looked at";
}

bool ControllerRunner::idle() const {
  std::lock_guard lock(impl_->mutex);
  const WorkQueueStats queue = impl_->queue.stats();
  return impl_->running == 0 && impl_->parked == 0 && queue.depth == 0 && queue.working == 0;
}

RunnerStats ControllerRunner::stats() const {
  std::lock_guard lock(impl_->mutex);
  RunnerStats stats = impl_->stats;
  stats.queue = impl_->queue.stats();
  return stats;
}

const Reconciler& ControllerRunner::reconciler() const { return *impl_->reconciler; }

}  // namespace orchestra
