#pragma once
// Pods that wait for a node: active (by priority, then since when), backing off, or unschedulable until
// something changes. Pure; time is an argument. Semantics: pkg/scheduler/backend/queue.
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "orchestra/scheduling_snapshot.hpp"

namespace orchestra::sched {

struct QueueOptions {
  std::int64_t backoff_min_ns = 1'000'000'000;
  std::int64_t backoff_max_ns = 10'000'000'000;
  std::int64_t flush_ns = 300'000'000'000;
};

class SchedulingQueue {
 public:
  explicit SchedulingQueue(QueueOptions options) : options_(options) {}

  /// A new pod, or a new version of one: it may fit now, so it is active at once (unless it backs off).
  void add(const PodShape& pod, std::int64_t now);
  void remove(const std::string& uid);
  bool contains(const std::string& uid) const { return pods_.contains(uid); }

  /// The next pod to place; it is in nobody's hands until retry(), park() or remove().
  std::optional<PodShape> take(std::int64_t now);
  /// The attempt failed by an error: again after its back-off.
  void retry(const std::string& uid, std::int64_t now);
  /// Fits nowhere: waits for a change. If changes came since take(), it is tried again after its back-off.
  void park(const std::string& uid, std::int64_t now);
  /// Waiting pods for which `helps` holds become active after what is left of their back-off.
  template <class Helps>
  void wake(std::int64_t now, Helps helps) {
    ++changes_;
    std::vector<std::string> woken;
    for (const std::string& uid : waiting_) {
      if (helps(pods_.at(uid).pod)) woken.push_back(uid);
    }
    for (const std::string& uid : woken) activate(uid, now);
  }

  /// Steady time at which something becomes active by itself.
  std::optional<std::int64_t> next_due() const;
  std::size_t active() const { return active_.size(); }
  std::size_t backing_off() const { return delayed_.size(); }
  std::size_t waiting() const { return waiting_.size(); }

 private:
  enum class Where : std::uint8_t { active, delayed, waiting, taken };
  struct Entry {
    PodShape pod;
    Where where = Where::taken;
    std::int64_t since = 0;       // in the queue
    std::int64_t due = 0;         // delayed: when; waiting: when it is flushed
    std::int64_t not_before = 0;  // end of the back-off
    std::uint32_t attempts = 0;
    std::uint64_t seen_changes = 0;  // when it was taken
  };
  struct Rank {
    std::int64_t minus_priority, since;
    std::string uid;
    friend auto operator<=>(const Rank&, const Rank&) = default;
  };
  void leave(const std::string& uid, Entry& entry);
  void activate(const std::string& uid, std::int64_t now);
  void set_backoff(Entry& entry, std::int64_t now);
  static Rank rank(const std::string& uid, const Entry& entry) {
    return {-entry.pod.priority, entry.since, uid};
  }

  const QueueOptions options_;
  std::unordered_map<std::string, Entry> pods_;
  std::set<Rank> active_;
  std::set<std::pair<std::int64_t, std::string>> delayed_;  // (due, uid)
  std::set<std::string> waiting_;
  std::set<std::pair<std::int64_t, std::string>> flushes_;  // of waiting ones
  std::uint64_t changes_ = 0;
};

}  // namespace orchestra::sched
