// The watch hub of watch_hub.hpp.
#include "store/watch_hub.hpp"

#include <algorithm>

namespace orchestra::store {

void Watcher::signal() {
  std::function<void()> call;
  {
    std::lock_guard lock(mutex_);
    signalled_ = true;
    changed_.notify_all();
    if (!ready_ || quiet_) return;
    call = std::exchange(ready_, nullptr);
    calling_ = std::this_thread::get_id();
  }
  call();
  std::lock_guard lock(mutex_);
  calling_ = {};
  changed_.notify_all();
}

void Watcher::arm(std::function<void()> ready) {
  std::lock_guard lock(mutex_);
  if (!quiet_) ready_ = std::move(ready);
}

void Watcher::wait_signal(Duration deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, deadline, [this] { return signalled_ || quiet_; });
}

void Watcher::clear_signal() {
  std::lock_guard lock(mutex_);
  signalled_ = false;
}

void Watcher::quiesce() {
  std::function<void()> dropped;
  std::unique_lock lock(mutex_);
  quiet_ = true;
  dropped = std::exchange(ready_, nullptr);
  changed_.notify_all();
  changed_.wait(lock,
                [this] { return calling_ == std::thread::id() || calling_ == std::this_thread::get_id(); });
  lock.unlock();
}

namespace {
bool is_prefix(const KeyRange& range) {
  const KeyRange prefix = KeyPrefix(range.begin);
  return !range.single && range.to_the_end == prefix.to_the_end &&
         (range.to_the_end || range.end == prefix.end);
}
}  // namespace

WatchHub::List& WatchHub::list_of(const KeyRange& range) {
  if (range.single) return by_key_[range.begin];
  if (is_prefix(range)) return by_prefix_[range.begin.size()][range.begin];
  return others_;
}

void WatchHub::add(std::shared_ptr<Watcher> watcher) {
  list_of(watcher->range).push_back(watcher.get());
  all_.emplace(watcher.get(), watcher);
}

void WatchHub::remove(Watcher* watcher) {
  const auto found = all_.find(watcher);
  if (found == all_.end()) return;
  List& list = list_of(watcher->range);
  const auto at = std::find(list.begin(), list.end(), watcher);
  *at = list.back();
  list.pop_back();
  if (list.empty()) drop_if_empty(watcher->range);
  all_.erase(found);
}

void WatchHub::drop_if_empty(const KeyRange& range) {
  if (range.single) {
    by_key_.erase(range.begin);
  } else if (is_prefix(range)) {
    Table& table = by_prefix_[range.begin.size()];
    table.erase(range.begin);
    if (table.empty()) by_prefix_.erase(range.begin.size());
  }
}

void WatchHub::match_list(const List& list, const Change& change, Sequence sequence, Wake& wake) const {
  for (Watcher* watcher : list) {
    if (watcher->cursor || watcher->ended || !watcher->wants(change)) continue;
    watcher->cursor = sequence;
    wake.push_back(all_.at(watcher));
  }
}

void WatchHub::match(const Change& change, Sequence sequence, Wake& wake) const {
  if (all_.empty()) return;
  const std::string_view key = change.now->key();
  if (const auto found = by_key_.find(key); found != by_key_.end())
    match_list(found->second, change, sequence, wake);
  for (const auto& [length, table] : by_prefix_) {
    if (length > key.size()) break;
    const auto found = table.find(key.substr(0, length));
    if (found != table.end()) match_list(found->second, change, sequence, wake);
  }
  match_list(others_, change, sequence, wake);
}

void WatchHub::end_all(const Error& error, Wake& wake) {
  for (auto& [watcher, shared] : all_) {
    if (watcher->ended) continue;
    watcher->ended = error;
    watcher->cursor.reset();
    wake.push_back(shared);
  }
}

void WatchHub::move_to(const MvccState& before, const MvccState& after, Wake& wake) {
  for (auto& [watcher, shared] : all_) {
    if (watcher->ended) continue;
    const History& old = before.history();
    Revision seen = before.revision();
    if (watcher->cursor) {
      // Where it fell off the ring already, the next read says so.
      if (*watcher->cursor < old.begin())
        seen = 0;
      else
        seen = old.at(*watcher->cursor).revision - 1;
    }
    seen = std::max(seen, watcher->floor);
    watcher->cursor.reset();
    if (seen < after.compacted()) {
      watcher->ended = compacted_error(seen, after.compacted(), after.revision());
    } else if (const Sequence next = after.history().after(seen); next < after.history().end()) {
      watcher->cursor = next;
    } else {
      continue;
    }
    wake.push_back(shared);
  }
}

}  // namespace orchestra::store
