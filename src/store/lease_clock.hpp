#pragma once
// When each lease expires, on this peer's clock (CLOCK_BOOTTIME). Pure: `now` is an argument.
//
// Deadlines are local: keep-alives do not go through the log. A peer that becomes leader, or a store that
// opens again, starts each lease with its full time to live.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "orchestra/state_store.hpp"

namespace orchestra::store {

class LeaseClock {
 public:
  /// Starts, renews or postpones.
  void set(LeaseId id, std::int64_t deadline_ns) {
    forget(id);
    deadlines_[id] = deadline_ns;
    order_.emplace(deadline_ns, id);
  }
  void forget(LeaseId id) {
    const auto found = deadlines_.find(id);
    if (found == deadlines_.end()) return;
    order_.erase({found->second, id});
    deadlines_.erase(found);
  }
  std::optional<std::int64_t> deadline(LeaseId id) const {
    const auto found = deadlines_.find(id);
    if (found == deadlines_.end()) return std::nullopt;
    return found->second;
  }
  std::optional<std::int64_t> next() const {
    if (order_.empty()) return std::nullopt;
    return order_.begin()->first;
  }
  /// The expired ones, oldest first; each is postponed by `again_ns`, in case its removal fails.
  std::vector<LeaseId> take_expired(std::int64_t now_ns, std::int64_t again_ns, std::size_t max) {
    std::vector<LeaseId> expired;
    for (const auto& [deadline, id] : order_) {
      if (deadline > now_ns || expired.size() == max) break;
      expired.push_back(id);
    }
    for (LeaseId id : expired) set(id, now_ns + again_ns);
    return expired;
  }

 private:
  std::map<LeaseId, std::int64_t> deadlines_;
  std::set<std::pair<std::int64_t, LeaseId>> order_;
};

}  // namespace orchestra::store
