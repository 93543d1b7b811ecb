// SchedulingQueue: see queue.hpp. Invariant: a pod is in exactly one of the sets that its `where` names.
#include "controllers/scheduler/queue.hpp"

#include <algorithm>

namespace orchestra::sched {

void SchedulingQueue::leave(const std::string& uid, Entry& entry) {
  switch (entry.where) {
    case Where::active:
      active_.erase(rank(uid, entry));
      break;
    case Where::delayed:
      delayed_.erase({entry.due, uid});
      break;
    case Where::waiting:
      waiting_.erase(uid);
      flushes_.erase({entry.due, uid});
      break;
    case Where::taken:
      break;
  }
  entry.where = Where::taken;
}

void SchedulingQueue::activate(const std::string& uid, std::int64_t now) {
  Entry& entry = pods_.at(uid);
  leave(uid, entry);
  if (entry.not_before > now) {
    entry.where = Where::delayed;
    entry.due = entry.not_before;
    delayed_.insert({entry.due, uid});
  } else {
    entry.where = Where::active;
    active_.insert(rank(uid, entry));
  }
}

void SchedulingQueue::set_backoff(Entry& entry, std::int64_t now) {
  ++entry.attempts;
  std::int64_t pause = options_.backoff_min_ns;
  for (std::uint32_t i = 1; i < entry.attempts && pause < options_.backoff_max_ns; ++i) pause *= 2;
  entry.not_before = now + std::min(pause, options_.backoff_max_ns);
}

void SchedulingQueue::add(const PodShape& pod, std::int64_t now) {
  const auto [it, fresh] = pods_.try_emplace(pod.uid);
  Entry& entry = it->second;
  if (fresh) {
    entry.since = now;
  } else {
    leave(pod.uid, entry);
  }
  entry.pod = pod;
  activate(pod.uid, now);
}

void SchedulingQueue::remove(const std::string& uid) {
  const auto found = pods_.find(uid);
  if (found == pods_.end()) return;
  leave(uid, found->second);
  pods_.erase(found);
}

std::optional<PodShape> SchedulingQueue::take(std::int64_t now) {
  while (!delayed_.empty() && delayed_.begin()->first <= now)
    activate(std::string(delayed_.begin()->second), now);
  while (!flushes_.empty() && flushes_.begin()->first <= now)
    activate(std::string(flushes_.begin()->second), now);
  if (active_.empty()) return std::nullopt;
  const std::string uid = active_.begin()->uid;
  Entry& entry = pods_.at(uid);
  leave(uid, entry);
  entry.seen_changes = changes_;
  return entry.pod;
}

void SchedulingQueue::retry(const std::string& uid, std::int64_t now) {
  const auto found = pods_.find(uid);
  if (found == pods_.end() || found->second.where != Where::taken) return;
  set_backoff(found->second, now);
  activate(uid, now);
}

void SchedulingQueue::park(const std::string& uid, std::int64_t now) {
  const auto found = pods_.find(uid);
  if (found == pods_.end() || found->second.where != Where::taken) return;
  Entry& entry = found->second;
  set_backoff(entry, now);
  if (entry.seen_changes != changes_) return activate(uid, now);
  entry.where = Where::waiting;
  entry.due = now + options_.flush_ns;
  waiting_.insert(uid);
  flushes_.insert({entry.due, uid});
}

std::optional<std::int64_t> SchedulingQueue::next_due() const {
  std::optional<std::int64_t> due;
  if (!delayed_.empty()) due = delayed_.begin()->first;
  if (!flushes_.empty() && (!due || flushes_.begin()->first < *due)) due = flushes_.begin()->first;
  return due;
}

}  // namespace orchestra::sched
