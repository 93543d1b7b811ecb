// SchedulingQueue: see queue.hpp. Invariant: a pod is in exactly one of the sets that its `where` names; a
// kind is there exactly while pods of it wait.
#include "controllers/scheduler/queue.hpp"

#include <algorithm>
#include <limits>

namespace orchestra::sched {

std::uint32_t Hint::of(const std::set<std::string>& plugins) {
  std::uint32_t hints = 0;
  for (const std::string& name : plugins) {
    if (name == "NodeUnschedulable" || name == "NodeName" || name == "TaintToleration" ||
        name == "NodeAffinity") {
      hints |= node;
    } else if (name == "NodePorts" || name == "NodeResourcesFit") {
      hints |= room;
    } else if (name == "VolumeBinding" || name == "VolumeZone") {
      hints |= volume;
    } else if (name == "VolumeRestrictions" || name == "NodeVolumeLimits") {
      hints |= volume | room;
    } else if (name == "PodTopologySpread" || name == "InterPodAffinity") {
      hints |= topology;
    } else {
      hints |= all;
    }
  }
  return hints == 0 ? std::uint32_t{all} : hints;
}

void SchedulingQueue::leave(const std::string& uid, Entry& entry) {
  switch (entry.where) {
    case Where::active:
      active_.erase(rank(uid, entry));
      break;
    case Where::delayed:
      delayed_.erase({entry.due, uid});
      break;
    case Where::waiting: {
      const auto kind = kinds_.find(entry.kind);
      kind->second.waiting.erase(rank(uid, entry));
      if (kind->second.waiting.empty()) kinds_.erase(kind);
      flushes_.erase({entry.due, uid});
      --waiting_;
      break;
    }
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
  entry.kind = rules_hash(pod);
  activate(pod.uid, now);
}

void SchedulingQueue::remove(const std::string& uid) {
  const auto found = pods_.find(uid);
  if (found == pods_.end()) return;
  if (found->second.where == Where::taken) {
    // It has its node (or is gone): there may be room for others of its kind.
    const auto kind = kinds_.find(found->second.kind);
    if (kind != kinds_.end()) kind->second.dirty = any_dirty_ = true;
  }
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
  entry.taken_at = changes_;
  return entry.pod;
}

bool SchedulingQueue::hold(const std::string& uid) {
  const auto found = pods_.find(uid);
  if (found == pods_.end() || found->second.where == Where::taken) return false;
  leave(uid, found->second);
  found->second.taken_at = changes_;
  return true;
}

void SchedulingQueue::retry(const std::string& uid, std::int64_t now) {
  const auto found = pods_.find(uid);
  if (found == pods_.end() || found->second.where != Where::taken) return;
  set_backoff(found->second, now);
  activate(uid, now);
}

void SchedulingQueue::park(const std::string& uid, std::int64_t now, std::uint32_t reasons) {
  const auto found = pods_.find(uid);
  if (found == pods_.end() || found->second.where != Where::taken) return;
  Entry& entry = found->second;
  set_backoff(entry, now);
  Kind& kind = kinds_[entry.kind];
  // One that was woken and failed answers for its kind, unless something came since it was taken.
  kind.dirty = false;
  for (std::size_t bit = 0; bit < changed_at_.size(); ++bit)
    kind.dirty = kind.dirty || ((reasons >> bit & 1) != 0 && changed_at_[bit] > entry.taken_at);
  any_dirty_ = any_dirty_ || kind.dirty;
  kind.reasons |= reasons;
  entry.where = Where::waiting;
  entry.due = options_.flush_ns == 0 ? std::numeric_limits<std::int64_t>::max() : now + options_.flush_ns;
  kind.waiting.insert(rank(uid, entry));
  ++waiting_;
  if (options_.flush_ns != 0) flushes_.insert({entry.due, uid});
}

void SchedulingQueue::changed(std::uint32_t hint) {
  ++changes_;
  for (std::size_t bit = 0; bit < changed_at_.size(); ++bit) {
    if ((hint >> bit & 1) != 0) changed_at_[bit] = changes_;
  }
  for (auto& [id, kind] : kinds_) {
    if ((kind.reasons & hint) == 0) continue;
    kind.dirty = true;
    any_dirty_ = true;
  }
}

void SchedulingQueue::wake_some(Kind& kind, std::int64_t now) {
  std::vector<std::string> woken;
  for (const Rank& each : kind.waiting) {
    if (woken.size() == options_.wake_max) break;
    woken.push_back(each.uid);
  }
  // The kind itself is kept until the caller's loop has passed it.
  for (const std::string& uid : woken) {
    Entry& entry = pods_.at(uid);
    kind.waiting.erase(rank(uid, entry));
    flushes_.erase({entry.due, uid});
    --waiting_;
    entry.where = Where::taken;
    activate(uid, now);
  }
}

void SchedulingQueue::wake_all(std::int64_t now) {
  for (auto& [id, kind] : kinds_) {
    while (!kind.waiting.empty()) wake_some(kind, now);
  }
  kinds_.clear();
  any_dirty_ = false;
}

std::optional<std::int64_t> SchedulingQueue::next_due() const {
  std::optional<std::int64_t> due;
  if (!delayed_.empty()) due = delayed_.begin()->first;
  if (!flushes_.empty() && (!due || flushes_.begin()->first < *due)) due = flushes_.begin()->first;
  return due;
}

}  // namespace orchestra::sched
