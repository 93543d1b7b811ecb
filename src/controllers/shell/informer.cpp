// InformerCore: list, then watch; see informer.hpp.
//
// One step is in flight at a time: a list, a try to watch, an armed notification, or a timer. Each step ends
// by starting the next one, so the state needs no strand of its own; `mutex` guards what readers and stop()
// touch. Handlers run under `dispatch`, which stop() takes too: after stop() none runs.
#include "orchestra/informer.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <set>

#include "controllers/common/objects.hpp"

namespace orchestra {

namespace {
std::int64_t number_of(const std::string& resource_version) {
  return controllers::to_int(resource_version).value_or(0);
}
constexpr int kBatchesPerStep = 64;  // then other work of the event thread has its turn
// Or so many objects: informers that watch the same read on side by side, while what one has decoded is still
// there for the others (apiserver::ObjectCache).
constexpr std::size_t kObjectsPerStep = 512;
}  // namespace

struct InformerCore::Impl : std::enable_shared_from_this<InformerCore::Impl> {
  Engine& engine;
  const Client client;
  const ResourceRef resource;
  const InformerOptions options;
  ObjectCache cache;

  mutable std::mutex mutex;
  std::mutex dispatch;
  std::vector<Handler> handlers;  // under dispatch
  std::optional<ObjectWatch> watch;
  std::optional<Engine::TimerId> timer, resync_timer;
  std::multimap<std::int64_t, Promise<void>> revision_waiters;
  std::multimap<std::string, Promise<void>> gone_waiters;
  std::vector<Promise<void>> sync_waiters;
  std::string last_error;
  std::string resource_version;
  Duration pause;
  bool started = false;
  bool stopped = false;
  std::atomic<bool> synced{false};
  std::atomic<std::int64_t> revision{0};

  Impl(Engine& engine, Client client, ResourceRef resource, InformerOptions options)
      : engine(engine),
        client(std::move(client)),
        resource(std::move(resource)),
        options(std::move(options)),
        pause(this->options.retry_min) {}

  bool is_stopped() const {
    std::lock_guard lock(mutex);
    return stopped;
  }

  // A callback that does nothing once the informer is gone or stopped.
  template <class F>
  std::function<void()> step(F run) {
    return [weak = weak_from_this(), run = std::move(run)]() mutable {
      const auto self = weak.lock();
      if (self && !self->is_stopped()) run(*self);
    };
  }

  void begin_list() {
    ListOptions list;
    list.ns = options.ns;
    list.labels = options.labels;
    list.fields = options.fields;
    client.list(resource.api_version, resource.resource, list)
        .on_ready([weak = weak_from_this()](Result<ObjectList> result) {
          const auto self = weak.lock();
          if (!self) return;
          auto shared = std::make_shared<Result<ObjectList>>(std::move(result));
          self->engine.post(self->step([shared](Impl& impl) { impl.listed(std::move(*shared)); }));
        });
  }

  void listed(Result<ObjectList> result) {
    if (!result) return retry(result.error(), &Impl::begin_list);
    {
      std::lock_guard lock(dispatch);
      publish(replace_all(std::move(result->items)), result->resource_version);
    }
    std::vector<Promise<void>> waiters;
    {
      std::lock_guard lock(mutex);
      pause = options.retry_min;
      last_error.clear();
      synced = true;
      waiters.swap(sync_waiters);
    }
    for (const Promise<void>& waiter : waiters) waiter.set({});
    begin_watch();
  }

  struct Difference {
    Object old, now;
  };

  // Makes the cache like the list.
  std::vector<Difference> replace_all(std::vector<Object> items) {
    std::vector<Difference> differences;
    std::set<ObjectKey> present;
    for (const Object& item : items) present.insert(ObjectKey::of(item));
    for (const Object& object : cache.list()) {
      if (!present.contains(ObjectKey::of(object)))
        differences.push_back({cache.erase(ObjectKey::of(object)), {}});
    }
    for (Object& item : items) store(std::move(item), differences);
    return differences;
  }

  void store(Object object, std::vector<Difference>& differences) {
    const Object old = cache.get(ObjectKey::of(object));
    if (old && old.uid() == object.uid() && old.resource_version() == object.resource_version()) return;
    cache.put(object);
    if (old && old.uid() != object.uid()) {
      differences.push_back({old, {}});  // same name, another object
      differences.push_back({{}, std::move(object)});
    } else {
      differences.push_back({old, std::move(object)});
    }
  }

  void drop(const Object& object, std::vector<Difference>& differences) {
    const Object old = cache.get(ObjectKey::of(object));
    if (old && old.uid() == object.uid()) differences.push_back({cache.erase(ObjectKey::of(old)), {}});
  }

  // Tells of changes that the cache has. The caller holds `dispatch`. All objects of one revision are in the
  // cache before anybody hears of that revision: a transaction may write several.
  void publish(const std::vector<Difference>& differences, const std::string& version) {
    std::vector<Promise<void>> ready;
    {
      std::lock_guard lock(mutex);
      resource_version = version;
      revision = std::max(revision.load(), number_of(version));
      const auto end = revision_waiters.upper_bound(revision);
      for (auto it = revision_waiters.begin(); it != end; ++it) ready.push_back(std::move(it->second));
      revision_waiters.erase(revision_waiters.begin(), end);
    }
    for (const auto& [old, now] : differences) {
      for (const Handler& handler : handlers) handler(old, now);
      if (old && (!now || now.deleting())) release(gone_waiters, old.uid());
    }
    for (const Promise<void>& waiter : ready) waiter.set({});
  }

  void release(std::multimap<std::string, Promise<void>>& waiters, const std::string& key) {
    std::vector<Promise<void>> ready;
    {
      std::lock_guard lock(mutex);
      const auto [begin, end] = waiters.equal_range(key);
      for (auto it = begin; it != end; ++it) ready.push_back(std::move(it->second));
      waiters.erase(begin, end);
    }
    for (const Promise<void>& waiter : ready) waiter.set({});
  }

  // A watch over a network may have to connect: that is a worker's business.
  void begin_watch() {
    const auto queued = engine.post_blocking(step([](Impl& impl) { impl.try_watch(); }));
    if (!queued) retry(queued.error(), &Impl::begin_watch);
  }

  void try_watch() {
    ListOptions list;
    list.ns = options.ns;
    list.labels = options.labels;
    list.fields = options.fields;
    {
      std::lock_guard lock(mutex);
      list.resource_version = resource_version;
    }
    Result<ObjectWatch> opened = client.watch(resource.api_version, resource.resource, list);
    if (!opened) return lost(opened.error());
    {
      std::lock_guard lock(mutex);
      if (stopped) return opened->cancel();
      watch = std::move(opened).value();
      last_error.clear();
    }
    arm();
  }

  void arm() {
    std::optional<ObjectWatch> current = copy_of_watch();
    if (!current) return;
    current->notify([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->engine.post(self->step([](Impl& impl) { impl.drain(); }));
    });
  }

  std::optional<ObjectWatch> copy_of_watch() const {
    std::lock_guard lock(mutex);
    return stopped ? std::nullopt : watch;
  }

  void drain() {
    std::optional<ObjectWatch> current = copy_of_watch();
    if (!current) return;
    std::size_t objects = 0;
    for (int batches = 0; batches < kBatchesPerStep && objects < kObjectsPerStep; ++batches) {
      auto batch = current->poll();
      if (!batch) {
        if (const auto error = current->error()) return lost(*error);
        return arm();
      }
      objects += batch->size();
      if (!apply(std::move(*batch))) return;
    }
    engine.post(step([](Impl& impl) { impl.drain(); }));
  }

  // False: the server told of an error, and another step has begun.
  bool apply(std::vector<ObjectChange> batch) {
    std::vector<Difference> differences;
    std::string version;
    std::optional<Error> failed;
    {
      std::lock_guard lock(dispatch);
      if (is_stopped()) return false;
      for (ObjectChange& item : batch) {
        if (item.type == ObjectChange::Type::error) {
          failed = error_of(item.object);
          break;
        }
        version = item.object.resource_version();
        if (item.type == ObjectChange::Type::removed) {
          drop(item.object, differences);
        } else if (item.type != ObjectChange::Type::bookmark) {
          store(std::move(item.object), differences);
        }
      }
      if (!version.empty()) publish(differences, version);
    }
    if (failed) {
      lost(*failed);
      return false;
    }
    std::lock_guard lock(mutex);
    pause = options.retry_min;
    return true;
  }

  Error error_of(const Object& status) const {
    const bool forgotten = int_at(tree(status), "/code") == 410;
    return Error(forgotten ? Error::expired : Error::unavailable, "controllers",
                 "watch of " + resource.text() + ": " + string_at(tree(status), "/message"));
  }

  // The watch ended: goes on where it was, or lists again when the server has forgotten that.
  void lost(const Error& error) {
    {
      std::lock_guard lock(mutex);
      if (watch) watch->cancel();
      watch.reset();
    }
    const bool forgotten = error.is(Error::expired) || error.is(Error::compacted) || error.is(Error::future);
    retry(error, forgotten ? &Impl::begin_list : &Impl::begin_watch);
  }

  void retry(const Error& error, void (Impl::*next)()) {
    std::lock_guard lock(mutex);
    if (stopped) return;
    last_error = error.to_string();
    timer = engine.after(pause, step([next](Impl& impl) { (impl.*next)(); }));
    pause = std::min(pause * 2, options.retry_max);
  }

  void arm_resync() {
    if (options.resync <= Duration::zero()) return;
    std::lock_guard lock(mutex);
    if (stopped) return;
    resync_timer = engine.after(options.resync, step([](Impl& impl) {
                                  impl.tell_all();
                                  impl.arm_resync();
                                }));
  }

  void tell_all() {
    std::lock_guard lock(dispatch);
    if (is_stopped()) return;
    for (const Object& object : cache.list()) {
      for (const Handler& handler : handlers) handler(object, object);
    }
  }

  void stop() {
    std::vector<Promise<void>> abandoned;
    {
      std::lock_guard lock(mutex);
      if (stopped) return;
      stopped = true;
      if (watch) watch->cancel();
      watch.reset();
      if (timer) engine.cancel_timer(*timer);
      if (resync_timer) engine.cancel_timer(*resync_timer);
      for (auto& [key, waiter] : revision_waiters) abandoned.push_back(std::move(waiter));
      for (auto& [key, waiter] : gone_waiters) abandoned.push_back(std::move(waiter));
      for (auto& waiter : sync_waiters) abandoned.push_back(std::move(waiter));
      revision_waiters.clear();
      gone_waiters.clear();
      sync_waiters.clear();
    }
    { std::lock_guard running(dispatch); }  // waits for the handler that runs now
    for (const Promise<void>& waiter : abandoned) waiter.set(stopped_error());
  }

  Error stopped_error() const {
    return Error(Error::cancelled, "controllers", "the informer of " + resource.text() + " was stopped");
  }

  bool full() const {
    return revision_waiters.size() + gone_waiters.size() + sync_waiters.size() >= options.waiters_max;
  }
  Error full_error() const {
    return Error(Error::overloaded, "controllers",
                 "too many waiters on the informer of " + resource.text() + " (" +
                     std::to_string(options.waiters_max) + "); wait for fewer versions at a time");
  }
};

InformerCore::InformerCore(Engine& engine, Client client, ResourceRef resource, InformerOptions options)
    : impl_(std::make_shared<Impl>(engine, std::move(client), std::move(resource), std::move(options))) {}

InformerCore::~InformerCore() { stop(); }

void InformerCore::on_event(Handler handler) {
  std::lock_guard lock(impl_->dispatch);
  for (const Object& object : impl_->cache.list()) handler({}, object);
  impl_->handlers.push_back(std::move(handler));
}

Result<void> InformerCore::start() {
  if (!impl_->client) {
    return Error(Error::invalid, "controllers",
                 "informer of " + impl_->resource.text() + ": it has no client");
  }
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->stopped) return impl_->stopped_error();
    if (std::exchange(impl_->started, true)) return {};
  }
  impl_->begin_list();
  impl_->arm_resync();
  return {};
}

void InformerCore::resync() {
  impl_->engine.post(impl_->step([](Impl& impl) { impl.tell_all(); }));
}

void InformerCore::stop() { impl_->stop(); }
const ResourceRef& InformerCore::resource() const { return impl_->resource; }
ObjectCache& InformerCore::cache() { return impl_->cache; }
const ObjectCache& InformerCore::cache() const { return impl_->cache; }
bool InformerCore::synced() const { return impl_->synced; }
std::int64_t InformerCore::revision() const { return impl_->revision; }

Pending<void> InformerCore::wait_synced() {
  std::lock_guard lock(impl_->mutex);
  if (impl_->synced) return Result<void>();
  if (impl_->stopped) return impl_->stopped_error();
  if (impl_->full()) return impl_->full_error();
  return impl_->sync_waiters.emplace_back().pending();
}

Pending<void> InformerCore::wait_for(const std::string& resource_version) {
  const std::int64_t wanted = number_of(resource_version);
  std::lock_guard lock(impl_->mutex);
  if (impl_->revision >= wanted) return Result<void>();
  if (impl_->stopped) return impl_->stopped_error();
  if (impl_->full()) return impl_->full_error();
  return impl_->revision_waiters.emplace(wanted, Promise<void>())->second.pending();
}

Pending<void> InformerCore::wait_gone(const std::string& uid) {
  std::lock_guard lock(impl_->mutex);
  const Object object = impl_->cache.by_uid(uid);
  if (!object || object.deleting()) return Result<void>();
  if (impl_->stopped) return impl_->stopped_error();
  if (impl_->full()) return impl_->full_error();
  return impl_->gone_waiters.emplace(uid, Promise<void>())->second.pending();
}

std::string InformerCore::last_error() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->last_error;
}

}  // namespace orchestra
