// LocalStore, following: the state of a store elsewhere, change by change, for readers and watches here.
#include "store/local_store.hpp"

namespace orchestra::store {

/// Wakes who waits for what was published; no lock is held.
void LocalStore::announce(WatchHub::Wake wake) {
  std::vector<Core::Waiter> reached;
  {
    std::lock_guard lock(core_->mutex);
    while (!core_->waiters.empty() && core_->waiters.begin()->first.first <= core_->state.revision()) {
      reached.push_back(std::move(core_->waiters.begin()->second));
      core_->waiters.erase(core_->waiters.begin());
    }
  }
  for (const auto& watcher : wake) watcher->signal();
  for (const Core::Waiter& waiter : reached) {
    engine_.cancel_timer(waiter.timer);
    waiter.promise.set({});
  }
}

void LocalStore::follow(const std::vector<KeyValue>& changes) {
  WatchHub::Wake wake;
  {
    std::lock_guard lock(core_->mutex);
    MvccState& state = core_->state;
    for (std::size_t i = 0; i < changes.size(); ++i) {
      if (changes[i].mod_revision <= state.revision()) continue;  // known already
      const Sequence at = state.history().end();
      state.follow(changes[i]);
      core_->hub.match(state.history().at(at), at, wake);
      const bool whole = i + 1 == changes.size() || changes[i + 1].mod_revision != changes[i].mod_revision;
      if (whole) state.follow_to(changes[i].mod_revision);
    }
    const History& history = state.history();
    if (history.bytes() > limits_.history_bytes_max.value && history.begin() != history.end()) {
      // The older half of the changes goes.
      const Sequence middle = history.begin() + (history.end() - history.begin()) / 2;
      (void)state.apply(Compact{history.at(middle).revision});
    }
    core_->changed_locked();
  }
  announce(std::move(wake));
}

void LocalStore::follow_to(Revision revision) {
  {
    std::lock_guard lock(core_->mutex);
    if (revision <= core_->state.revision()) return;
    core_->state.follow_to(revision);
    core_->changed_locked();
  }
  announce({});
}

void LocalStore::follow_compaction(Revision revision) {
  std::lock_guard lock(core_->mutex);
  if (revision <= core_->state.compacted() || revision > core_->state.revision()) return;
  (void)core_->state.apply(Compact{revision});
  core_->changed_locked();
}

void LocalStore::follow_from(std::vector<RecordRef> records, Revision revision) {
  WatchHub::Wake wake;
  {
    std::lock_guard lock(core_->mutex);
    const Error gap = compacted_error(core_->state.revision(), revision, revision);
    core_->hub.end_all(gap, wake);
    core_->old_trees.clear();
    core_->state.follow_from(std::move(records), revision);
    core_->changed_locked();
  }
  announce(std::move(wake));
}

}  // namespace orchestra::store
