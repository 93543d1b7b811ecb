// LocalStore, the reading half: newest and old revisions, snapshots, watches, leases, waiting.
#include <algorithm>

#include "base/assert.hpp"
#include "orchestra/env.hpp"
#include "store/local_store.hpp"
#include "store/planted.hpp"

namespace orchestra::store {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

class SnapshotImpl : public Snapshot::Impl {
 public:
  SnapshotImpl(std::shared_ptr<const Root> root, Clock& clock, Duration age_max)
      : root_(std::move(root)),
        clock_(clock),
        age_max_(age_max),
        until_ns_(clock.now().steady_ns + age_max.count()) {}
  Revision revision() const override { return root_->revision; }
  Result<RangeResult> range(const KeyRange& range, const RangeOptions& options) override {
    if (clock_.now().steady_ns > until_ns_) {
      return Error(Error::expired, "store",
                   "the snapshot of revision " + std::to_string(root_->revision) + " is older than " +
                       std::to_string(std::chrono::duration_cast<std::chrono::seconds>(age_max_).count()) +
                       " s; take a new one");
    }
    return read_range(root_->tree, range, options, root_->revision);
  }

 private:
  const std::shared_ptr<const Root> root_;
  Clock& clock_;
  const Duration age_max_;
  const std::int64_t until_ns_;
};

class WatchImpl : public Watch::Impl {
 public:
  WatchImpl(std::shared_ptr<Core> core, std::shared_ptr<Watcher> watcher, Clock& clock)
      : core_(std::move(core)), watcher_(std::move(watcher)), clock_(clock) {}
  ~WatchImpl() override { cancel(); }

  Result<std::optional<WatchBatch>> next(Duration deadline) override {
    const std::int64_t until = clock_.now().steady_ns + deadline.count();
    while (true) {
      watcher_->clear_signal();
      auto batch = poll();
      if (!batch || *batch) return batch;
      const std::int64_t left = until - clock_.now().steady_ns;
      if (left <= 0) return std::optional<WatchBatch>();
      if (detail::on_event_thread()) return detail::would_deadlock_error();
      watcher_->wait_signal(Duration(left));
    }
  }

  Result<std::optional<WatchBatch>> poll() override {
    while (true) {
      Part part;
      {
        std::lock_guard lock(core_->mutex);
        if (watcher_->ended) return *watcher_->ended;
        if (!watcher_->cursor) return std::optional<WatchBatch>();
        const MvccState& state = core_->state;
        if (*watcher_->cursor < state.history().begin()) {
          watcher_->ended = compacted_error(state.compacted() - 1, state.compacted(), state.revision());
          return *watcher_->ended;
        }
        part = read_part(state);
      }
      if (!part.changes.empty()) return std::optional<WatchBatch>(to_batch(part));
    }
  }

  void notify(std::function<void()> ready) override {
    watcher_->arm(std::move(ready));
    bool now = false;
    {
      std::lock_guard lock(core_->mutex);
      now = watcher_->ended.has_value() || watcher_->cursor.has_value();
    }
    if (now) watcher_->signal();
  }

  void cancel() override {
    {
      std::lock_guard lock(core_->mutex);
      core_->hub.remove(watcher_.get());
      if (!watcher_->ended) watcher_->ended = Error(Error::cancelled, "store", "the watch was cancelled");
    }
    watcher_->quiesce();
  }

  Revision progress() override {
    std::lock_guard lock(core_->mutex);
    const MvccState& state = core_->state;
    if (!watcher_->cursor) return watcher_->ended ? delivered_ : std::max(delivered_, state.revision());
    if (*watcher_->cursor < state.history().begin()) return delivered_;
    return state.history().at(*watcher_->cursor).revision - 1;
  }

 private:
  /// Changes looked at under one lock: a long way through the ring is walked in steps.
  static constexpr std::size_t kStep = 16'384;
  struct Part {
    std::vector<Change> changes;
    Revision revision = 0;
  };

  /// Reads on from the cursor, revision by revision; stops at the end, at the credit or after kStep.
  Part read_part(const MvccState& state) {
    const History& history = state.history();
    Part part;
    std::uint64_t bytes = 0;
    const Sequence start = *watcher_->cursor;
    Sequence at = start;
    while (at < history.end() && bytes < watcher_->credit && at - start < kStep) {
      const Revision revision = history.at(at).revision;
      const std::size_t before = part.changes.size();
      Sequence next = at;
      for (; next < history.end() && history.at(next).revision == revision; ++next) {
        if (at - start >= 2 && planted(Bug::drop_watch_event)) continue;
        if (!watcher_->wants(history.at(next))) continue;
        part.changes.push_back(history.at(next));
        bytes += cost(history.at(next));
      }
      if (before != 0 && bytes > watcher_->credit) {  // this revision comes with the next batch
        part.changes.erase(part.changes.begin() + static_cast<std::ptrdiff_t>(before), part.changes.end());
        break;
      }
      part.revision = revision;
      at = next;
    }
    if (at < history.end()) {
      watcher_->cursor = at;
    } else {
      watcher_->cursor.reset();
      part.revision = state.revision();
    }
    delivered_ = part.revision;
    return part;
  }

  std::uint64_t cost(const Change& change) const {
    const bool previous = watcher_->want_previous && change.previous;
    return change.now->bytes() + (previous ? change.previous->bytes() : 0);
  }

  WatchBatch to_batch(const Part& part) const {
    WatchBatch batch;
    batch.revision = part.revision;
    batch.events.reserve(part.changes.size());
    for (const Change& change : part.changes) {
      WatchEvent event;
      event.type = change.now->tombstone() ? WatchEvent::Type::remove : WatchEvent::Type::put;
      event.kv = change.now->to_key_value();
      if (watcher_->want_previous && change.previous) event.previous = change.previous->to_key_value();
      batch.events.push_back(std::move(event));
    }
    return batch;
  }

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Watcher> watcher_;
  Clock& clock_;
  Revision delivered_ = 0;  ///< guarded by core_->mutex
};

}  // namespace

Result<std::shared_ptr<const Root>> LocalStore::root_at(Revision revision) const {
  auto newest = core_->root();
  if (revision == 0 || revision == newest->revision) return newest;
  std::unique_lock lock(core_->mutex);
  auto plan = core_->state.tree_at(revision);
  if (!plan) return plan.error();
  auto& cache = core_->old_trees;
  const auto cached =
      std::find_if(cache.begin(), cache.end(), [&](const auto& old) { return old->revision == revision; });
  if (cached != cache.end()) return *cached;
  auto root = std::make_shared<Root>();
  root->revision = revision;
  root->compacted = core_->state.compacted();
  lock.unlock();
  root->tree = std::move(*plan).build();
  lock.lock();
  if (revision >= core_->state.compacted()) cache.push_front(root);
  if (cache.size() > Core::kOldTreesMax) cache.pop_back();
  return std::shared_ptr<const Root>(std::move(root));
}

/// `read` once this state is current, or the error why it is not.
template <class T>
Pending<T> LocalStore::when_current_then(std::function<Result<T>()> read) {
  if (!reads_need_round()) return Pending<T>(read());
  Promise<T> promise;
  auto pending = promise.pending();
  when_current([promise, read = std::move(read)](std::optional<Error> no) {
    promise.set(no ? Result<T>(std::move(*no)) : read());
  });
  return pending;
}

Result<GetResult> LocalStore::get_here(const std::string& key, const GetOptions& options) const {
  ORC_ASSIGN(const auto root, root_at(options.revision));
  GetResult result;
  result.revision = options.revision == 0 ? root->revision : revision();
  if (const RecordRef record = root->tree.find_ref(key)) result.kv = record->to_key_value();
  return result;
}

Pending<GetResult> LocalStore::get(std::string key, GetOptions options) {
  if (auto ok = check_key(key, capabilities()); !ok) return ok.error();
  if (auto no = refusal()) return std::move(*no);
  if (options.consistency == Consistency::serializable || !reads_need_round())
    return Pending<GetResult>(get_here(key, options));
  return when_current_then<GetResult>(
      [self = shared_from_this(), key = std::move(key), options] { return self->get_here(key, options); });
}

Result<RangeResult> LocalStore::range_here(const KeyRange& range, const RangeOptions& options) const {
  ORC_ASSIGN(const auto root, root_at(options.revision));
  const Revision store = options.revision == 0 ? root->revision : revision();
  return read_range(root->tree, range, options, store);
}

Pending<RangeResult> LocalStore::range(KeyRange range, RangeOptions options) {
  if (auto ok = check_range(range, capabilities()); !ok) return ok.error();
  if (auto no = refusal()) return std::move(*no);
  if (options.consistency == Consistency::serializable || !reads_need_round())
    return Pending<RangeResult>(range_here(range, options));
  return when_current_then<RangeResult>([self = shared_from_this(), range = std::move(range), options] {
    return self->range_here(range, options);
  });
}

Result<Snapshot> LocalStore::snapshot_here(Revision revision) const {
  ORC_ASSIGN(const auto root, root_at(revision));
  return Snapshot(std::make_shared<SnapshotImpl>(root, engine_.clock(), limits_.snapshot_age_max));
}

Pending<Snapshot> LocalStore::snapshot(Revision revision, Consistency consistency) {
  if (auto no = refusal()) return std::move(*no);
  if (consistency == Consistency::serializable || !reads_need_round())
    return Pending<Snapshot>(snapshot_here(revision));
  return when_current_then<Snapshot>(
      [self = shared_from_this(), revision] { return self->snapshot_here(revision); });
}

Result<Watch> LocalStore::watch(WatchOptions options) {
  ORC_TRY(check_range(options.range, capabilities()));
  if (auto no = read_refusal()) return std::move(*no);
  auto watcher = std::make_shared<Watcher>();
  watcher->range = std::move(options.range);
  watcher->no_put = options.no_put;
  watcher->no_remove = options.no_remove;
  watcher->want_previous = options.want_previous;
  watcher->credit = options.credit.value;
  {
    std::lock_guard lock(core_->mutex);
    if (core_->stopped) return Error(Error::unavailable, "store", "the store has been stopped");
    if (core_->hub.size() >= limits_.watchers_max) {
      return Error(Error::resource_exhausted, "store",
                   std::to_string(limits_.watchers_max) + " watches are open (watchers_max); close some");
    }
    const MvccState& state = core_->state;
    watcher->floor = options.after.value_or(state.revision());
    if (watcher->floor < state.compacted()) {
      watcher->ended = compacted_error(watcher->floor, state.compacted(), state.revision());
    } else if (const Sequence first = state.history().after(watcher->floor); first < state.history().end()) {
      watcher->cursor = first;
    }
    core_->hub.add(watcher);
  }
  return Watch(std::make_unique<WatchImpl>(core_, std::move(watcher), engine_.clock()));
}

/// A leader that was paused may be none any more: it asks before it promises.
Pending<void> LocalStore::lease_keep_alive(LeaseId id) {
  if (auto no = refusal()) return std::move(*no);
  if (!leads()) return remote_keep_alive(id);
  Promise<void> promise;
  auto pending = promise.pending();
  const auto renew = [self = shared_from_this(), id, promise](std::optional<Error> no) {
    if (no) return promise.set(std::move(*no));
    const auto renewed = self->keep_alive_here(id, false);
    if (renewed && !*renewed) return self->keep_alive_recorded(id, promise);
    promise.set(renewed ? Result<void>() : Result<void>(renewed.error()));
  };
  if (reads_need_round()) {
    when_current(renew);
  } else {
    renew(std::nullopt);
  }
  return pending;
}

/// What was recorded of its rest goes first: who leads next must not end it before the answer's promise.
void LocalStore::keep_alive_recorded(LeaseId id, const Promise<void>& promise) {
  propose_as_leader(LeaseCheckpoint{{{id, {}}}},
                    [self = shared_from_this(), id, promise](const Outcome& done) {
                      if (!done) return promise.set(done.error());
                      const auto renewed = self->keep_alive_here(id, true);
                      promise.set(renewed ? Result<void>() : Result<void>(renewed.error()));
                    });
}

/// False: not renewed, because a rest is recorded.
Result<bool> LocalStore::keep_alive_here(LeaseId id, bool record_gone) {
  if (!leads()) return Error(Error::unavailable, "store", "leadership has just changed; try again");
  std::lock_guard lock(core_->mutex);
  const auto lease = core_->state.leases().find(id);
  const auto deadline = core_->leases.deadline(id);
  const std::int64_t now = steady_now();
  if (lease == core_->state.leases().end() || !deadline || *deadline <= now ||
      (core_->leases.ending(id) && !planted(Bug::revive_ending_lease))) {
    return Error(Error::not_found, "store",
                 "no lease " + std::to_string(id) + ": it has expired or was revoked");
  }
  const bool recorded = lease->second.checkpoint.count() != 0 || core_->leases.recorded(id);
  if (recorded && !record_gone && !planted(Bug::keep_alive_unrecorded)) return false;
  start_lease_locked(id, lease->second.ttl, lease->second.ttl);
  return true;
}

Pending<void> LocalStore::remote_keep_alive(LeaseId) {
  return Error(Error::unavailable, "store", "no leader is known");
}
Pending<LeaseInfo> LocalStore::remote_time_to_live(LeaseId, bool) {
  return Error(Error::unavailable, "store", "no leader is known");
}
Pending<std::vector<LeaseInfo>> LocalStore::remote_lease_list() {
  return Error(Error::unavailable, "store", "no leader is known");
}

LeaseInfo LocalStore::lease_info_locked(LeaseId id, const LeaseState& lease, bool want_keys) const {
  LeaseInfo info;
  info.id = id;
  info.ttl = lease.ttl;
  const std::int64_t left = core_->leases.deadline(id).value_or(0) - steady_now();
  info.remaining = std::chrono::seconds(left <= 0 ? 0 : (left + kSecond - 1) / kSecond);
  if (want_keys) info.keys.assign(lease.keys.begin(), lease.keys.end());
  return info;
}

Result<LeaseInfo> LocalStore::time_to_live_here(LeaseId id, bool want_keys) const {
  std::lock_guard lock(core_->mutex);
  const auto lease = core_->state.leases().find(id);
  if (lease == core_->state.leases().end()) {
    return Error(Error::not_found, "store",
                 "no lease " + std::to_string(id) + ": it has expired or was revoked");
  }
  return lease_info_locked(id, lease->second, want_keys);
}

Pending<LeaseInfo> LocalStore::lease_time_to_live(LeaseId id, bool want_keys) {
  if (auto no = refusal()) return std::move(*no);
  if (!leads()) return remote_time_to_live(id, want_keys);
  return when_current_then<LeaseInfo>(
      [self = shared_from_this(), id, want_keys] { return self->time_to_live_here(id, want_keys); });
}

Pending<std::vector<LeaseInfo>> LocalStore::lease_list() {
  if (auto no = refusal()) return std::move(*no);
  if (!leads()) return remote_lease_list();
  // A leader that has just been elected may not have applied yet what the one before it granted.
  return when_current_then<std::vector<LeaseInfo>>(
      [self = shared_from_this()]() -> Result<std::vector<LeaseInfo>> {
        std::lock_guard lock(self->core_->mutex);
        std::vector<LeaseInfo> all;
        for (const auto& [id, lease] : self->core_->state.leases())
          all.push_back(self->lease_info_locked(id, lease, false));
        return all;
      });
}

Pending<void> LocalStore::wait_revision(Revision revision, Duration deadline) {
  std::unique_lock lock(core_->mutex);
  if (core_->state.revision() >= revision) return Pending<void>(Result<void>());
  if (core_->stopped) return Error(Error::unavailable, "store", "the store has been stopped");
  Promise<void> promise;
  auto pending = promise.pending();
  const auto key = std::pair(revision, core_->next_waiter++);
  core_->waiters[key].promise = promise;
  const auto give_up = [weak = std::weak_ptr(core_), key](Error error) {
    auto core = weak.lock();
    if (!core) return;
    std::optional<Core::Waiter> waiter;
    {
      std::lock_guard guard(core->mutex);
      const auto found = core->waiters.find(key);
      if (found == core->waiters.end()) return;
      waiter = std::move(found->second);
      core->waiters.erase(found);
    }
    waiter->promise.set(std::move(error));
  };
  core_->waiters[key].timer =
      engine_.after(deadline, [give_up, deadline] { give_up(detail::deadline_error(deadline)); });
  lock.unlock();
  promise.on_cancel([give_up] { give_up(detail::cancelled_error()); });
  return pending;
}

StoreStatus LocalStore::status() const {
  StoreStatus status;
  std::lock_guard lock(core_->mutex);
  const MvccState& state = core_->state;
  status.cluster_id = cluster_id();
  status.revision = state.revision();
  status.compacted_revision = state.compacted();
  status.keys = state.tree().size();
  status.state_bytes = Bytes{state.bytes()};
  status.ring_bytes = Bytes{state.history().bytes()};
  status.watchers = core_->hub.size();
  status.leases = state.leases().size();
  if (state.bytes() > state_bytes_max_ / 10 * 9) {
    status.alarms.push_back("the store holds " + std::to_string(state.bytes()) +
                            " bytes, over 90 % of its limit of " + std::to_string(state_bytes_max_));
  }
  return status;
}

}  // namespace orchestra::store
