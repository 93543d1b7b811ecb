#pragma once
// When each lease expires, on this peer's clock (CLOCK_BOOTTIME). Pure: `now` is an argument.
//
// Deadlines are local: keep-alives do not go through the log. So that a peer that becomes leader, or a store
// that opens again, does not begin each lease anew, what is left of one is recorded there when it has not
// been kept alive for `every` (half its time to live, five minutes at most): by so much a lease may last
// longer, and it never ends early. A lease that is kept alive in time is never recorded.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "orchestra/state_store.hpp"

namespace orchestra::store {

class LeaseClock {
 public:
  /// Starts or renews: it ends `left_ns` from now; `every_ns` 0: its rest is never recorded.
  void set(LeaseId id, std::int64_t now_ns, std::int64_t left_ns, std::int64_t every_ns) {
    forget(id);
    Entry& entry = entries_[id];
    entry.deadline_ns = now_ns + left_ns;
    entry.every_ns = every_ns;
    if (every_ns != 0) entry.record_ns = now_ns + every_ns;
    order_.emplace(entry.next(), id);
  }
  void forget(LeaseId id) {
    const auto found = entries_.find(id);
    if (found == entries_.end()) return;
    order_.erase({found->second.next(), id});
    entries_.erase(found);
  }
  std::optional<std::int64_t> deadline(LeaseId id) const {
    const auto found = entries_.find(id);
    if (found == entries_.end()) return std::nullopt;
    return found->second.deadline_ns;
  }
  /// A rest was handed out to be recorded since the last set(): it may be in the log, or come there yet.
  bool recorded(LeaseId id) const {
    const auto found = entries_.find(id);
    return found != entries_.end() && found->second.recorded;
  }
  /// Its end was handed out: nobody may count on it any more.
  bool ending(LeaseId id) const {
    const auto found = entries_.find(id);
    return found != entries_.end() && found->second.ending;
  }
  /// When take_due() has something.
  std::optional<std::int64_t> next() const {
    if (order_.empty()) return std::nullopt;
    return order_.begin()->first;
  }

  struct Due {
    std::vector<LeaseId> expired;  ///< oldest first
    struct Rest {
      LeaseId id = 0;
      std::int64_t left_ns = 0;
    };
    std::vector<Rest> record;
  };
  /// At most `max` in all. The expired ones are postponed by `again_ns`, in case their removal fails.
  Due take_due(std::int64_t now_ns, std::int64_t again_ns, std::size_t max) {
    Due due;
    while (!order_.empty() && order_.begin()->first <= now_ns &&
           due.expired.size() + due.record.size() < max) {
      const LeaseId id = order_.begin()->second;
      Entry& entry = entries_.at(id);
      order_.erase(order_.begin());
      if (entry.deadline_ns <= now_ns) {
        due.expired.push_back(id);
        entry = {now_ns + again_ns, kNever, 0, false, true};
      } else {
        due.record.push_back({id, entry.deadline_ns - now_ns});
        entry.record_ns = now_ns + entry.every_ns;
        entry.recorded = true;
      }
      order_.emplace(entry.next(), id);
    }
    return due;
  }

 private:
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  struct Entry {
    std::int64_t deadline_ns = 0;
    std::int64_t record_ns = kNever;
    std::int64_t every_ns = 0;
    bool recorded = false;
    bool ending = false;
    std::int64_t next() const { return std::min(deadline_ns, record_ns); }
  };
  std::map<LeaseId, Entry> entries_;
  std::set<std::pair<std::int64_t, LeaseId>> order_;
};

}  // namespace orchestra::store
