#pragma once
// Majorities, plain and joint (Raft, section 4.3): a joint configuration agrees when the old voters do and
// the new voters do.
//
// This only counts; the caller checks the term (section 3.6.2). No voters: nothing is ever agreed.
// Invariant: one more "yes" or a higher index never lowers a result.
#include <algorithm>
#include <functional>
#include <map>
#include <vector>

#include "base/assert.hpp"
#include "store/raft/types.hpp"

namespace orchestra::store {

/// Highest index that more than half have reached; Index{0} of nobody.
inline Index majority_index(std::vector<Index> reached) {
  if (reached.empty()) return {};
  std::sort(reached.begin(), reached.end(), std::greater<>());
  return reached[reached.size() / 2];
}

/// Highest index that the configuration agrees on; `reached(PeerId) -> Index`.
template <class Reached>
Index agreed_index(const Configuration& configuration, Reached reached) {
  std::vector<Index> now, before;
  for (const Member& member : configuration.members) {
    if (member.voter) now.push_back(reached(member.id));
    if (configuration.joint && member.was_voter) before.push_back(reached(member.id));
  }
  const Index agreed = majority_index(std::move(now));
  return configuration.joint ? std::min(agreed, majority_index(std::move(before))) : agreed;
}

enum class VoteCount : std::uint8_t { open, won, lost };

inline VoteCount count_half(const Configuration& configuration, const std::map<PeerId, bool>& votes,
                            bool Member::*half) {
  std::size_t all = 0, yes = 0, no = 0;
  for (const Member& member : configuration.members) {
    if (!(member.*half)) continue;
    ++all;
    const auto vote = votes.find(member.id);
    if (vote != votes.end()) ++(vote->second ? yes : no);
  }
  if (yes > all / 2) return VoteCount::won;
  return all - no > all / 2 ? VoteCount::open : VoteCount::lost;
}
inline VoteCount count_votes(const Configuration& configuration, const std::map<PeerId, bool>& votes) {
  const VoteCount now = count_half(configuration, votes, &Member::voter);
  if (!configuration.joint) return now;
  const VoteCount before = count_half(configuration, votes, &Member::was_voter);
  if (now == VoteCount::lost || before == VoteCount::lost) return VoteCount::lost;
  return now == VoteCount::won && before == VoteCount::won ? VoteCount::won : VoteCount::open;
}

/// Do those for whom `yes(PeerId)` holds suffice?
template <class Yes>
bool has_quorum(const Configuration& configuration, Yes yes) {
  return agreed_index(configuration, [&](PeerId id) { return Index{yes(id) ? 1u : 0u}; }).value == 1;
}

}  // namespace orchestra::store
