#pragma once
// Pods that wait for a node: active (by priority, then since when), backing off, or unschedulable until
// something changes. Pure; time is an argument. Semantics: pkg/scheduler/backend/queue.
//
// Unschedulable pods wait by kind (pods with equal rules share a fate) and by what refused them. An event
// names what it may change (Hint); only kinds that were refused for such a reason are asked about, once per
// kind, and then a bounded number of pods of that kind is woken: a node with room for one pod does not wake
// ten thousand. When one of those found its node, the kind is asked about again.
//
// Pods with equal rules share them, and all of it is bounded in bytes. When that is full, whoever is least
// important is left out, those that wait for a change before those that could be placed: he is somewhere else
// still (in the caches of the caller), and is asked for again when there is room, or nobody else is left.
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "orchestra/scheduling_snapshot.hpp"

namespace orchestra::sched {

struct QueueOptions {
  std::int64_t backoff_min_ns = 1'000'000'000;
  std::int64_t backoff_max_ns = 10'000'000'000;
  std::int64_t flush_ns = 300'000'000'000;  ///< 0: never
  std::size_t wake_max = 256;               ///< pods of one kind at a time
  std::size_t bytes_max = std::size_t{512} << 20;
  std::int64_t relist_ns = 60'000'000'000;  ///< between two looks for those left out, while it is full
};

/// What an event may change, and what a pod was refused for.
struct Hint {
  enum : std::uint32_t {
    node = 1,  ///< labels, taints, names, cordons
    room = 2,  ///< resources, ports, number of pods
    volume = 4,
    topology = 8,  ///< other pods and where they are
    plugin = 16,   ///< of the host
    all = 31,
  };
  /// Of the names of plugins that said no.
  static std::uint32_t of(const std::set<std::string>& plugins);
};

class SchedulingQueue {
 public:
  explicit SchedulingQueue(QueueOptions options) : options_(options) {}

  /// A new pod, or a new version of one: it may fit now, so it is active at once (unless it backs off). Full:
  /// somebody is left out, perhaps this one.
  void add(const PodShape& pod, std::int64_t now);
  void remove(const std::string& uid);
  bool contains(const std::string& uid) const { return pods_.contains(uid); }
  /// It was taken, and nothing has been said of it since.
  bool in_hand(const std::string& uid) const {
    const auto found = pods_.find(uid);
    return found != pods_.end() && found->second.where == Where::taken;
  }
  /// Since when it is here (steady time), and how many attempts have failed.
  std::optional<std::pair<std::int64_t, std::uint32_t>> history(const std::string& uid) const {
    const auto found = pods_.find(uid);
    if (found == pods_.end()) return std::nullopt;
    return std::pair(found->second.since, found->second.attempts);
  }

  /// The next pod to place; it is in nobody's hands until retry(), park() or remove().
  std::optional<PodShape> take(std::int64_t now);
  /// As take(), for this pod, whatever it waits for: its gang is decided on. False: not here, or in hand.
  bool hold(const std::string& uid);
  /// The attempt failed by an error: again after its back-off.
  void retry(const std::string& uid, std::int64_t now);
  /// Fits nowhere, for these reasons: waits for a change.
  void park(const std::string& uid, std::int64_t now, std::uint32_t reasons = Hint::all);
  /// Something changed; the next wake() asks about those whom it may help.
  void changed(std::uint32_t hint);
  /// Waiting pods for whose kind `helps(pod)` holds become active after what is left of their back-off.
  template <class Helps>
  void wake(std::int64_t now, Helps helps) {
    for (auto& [id, kind] : kinds_) {
      if (!kind.dirty || kind.waiting.empty()) continue;
      kind.dirty = false;
      if (helps(pods_.at(kind.waiting.begin()->uid).shape())) wake_some(kind, now);
    }
    std::erase_if(kinds_, [](const auto& entry) { return entry.second.waiting.empty(); });
    any_dirty_ = false;
  }
  bool wants_wake() const { return any_dirty_; }
  /// Everyone who waits.
  void wake_all(std::int64_t now);

  /// Pods were left out, and it is time to add() all that want a node again: first relisted(), then those,
  /// from the first one on that was left out the last time.
  bool wants_relist(std::int64_t now) const {
    return left_out_ > 0 &&
           (bytes_ <= options_.bytes_max / 2 || (active_.empty() && now >= relist_not_before_));
  }
  void relisted(std::int64_t now) {
    left_out_ = 0;
    relist_not_before_ = now + options_.relist_ns;
  }

  /// Steady time at which something becomes active by itself.
  std::optional<std::int64_t> next_due() const;
  std::size_t active() const { return active_.size(); }
  std::size_t backing_off() const { return delayed_.size(); }
  std::size_t waiting() const { return waiting_; }
  /// How many were since the last relisted().
  std::size_t left_out() const { return left_out_; }
  std::size_t bytes() const { return bytes_; }

 private:
  enum class Where : std::uint8_t { active, delayed, waiting, taken };
  struct Shared {
    PodRules rules;
    std::size_t bytes = 0;
  };
  struct Entry {
    std::shared_ptr<const Shared> shared;
    std::string name, uid, node_name;
    std::int64_t started_ns = 0;
    Where where = Where::taken;
    std::uint64_t kind = 0;
    std::int64_t since = 0;       // in the queue
    std::uint64_t arrival = 0;    // one after the other
    std::int64_t due = 0;         // delayed: when; waiting: when it is flushed
    std::int64_t not_before = 0;  // end of the back-off
    std::uint32_t attempts = 0;
    std::uint64_t taken_at = 0;  // the number of changes when it was taken in hand
    PodShape shape() const;
    std::size_t bytes() const;  // without what it shares
  };
  struct Rank {
    std::int64_t minus_priority, since;
    std::uint64_t arrival;
    std::string uid;
    friend auto operator<=>(const Rank&, const Rank&) = default;
  };
  struct Kind {
    std::set<Rank> waiting;
    std::uint32_t reasons = 0;
    bool dirty = false;
  };
  void give_rules(Entry& entry, const PodRules& rules);
  void drop_rules(Entry& entry);
  void leave_out(std::int64_t minus_priority);
  void leave(const std::string& uid, Entry& entry);
  void activate(const std::string& uid, std::int64_t now);
  void set_backoff(Entry& entry, std::int64_t now);
  void wake_some(Kind& kind, std::int64_t now);
  static Rank rank(const std::string& uid, const Entry& entry) {
    return {-entry.shared->rules.priority, entry.since, entry.arrival, uid};
  }

  const QueueOptions options_;
  std::unordered_map<std::string, Entry> pods_;
  std::unordered_map<std::uint64_t, std::shared_ptr<const Shared>> rules_;  // by kind
  std::set<Rank> active_;
  std::set<std::pair<std::int64_t, std::string>> delayed_;  // (due, uid)
  std::map<std::uint64_t, Kind> kinds_;
  std::uint64_t changes_ = 0, arrivals_ = 0;
  std::array<std::uint64_t, 5> changed_at_{};  // by bit of Hint: the last change of this sort
  std::size_t waiting_ = 0, bytes_ = 0, left_out_ = 0;
  std::int64_t relist_not_before_ = 0;
  bool any_dirty_ = false;
  std::set<std::pair<std::int64_t, std::string>> flushes_;  // of waiting ones
};

}  // namespace orchestra::sched
