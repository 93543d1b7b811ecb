#pragma once
// Whose state is wrong, when peers compare theirs? Pure.
//
// Peers that applied the same log hold the same state; one that does not has a broken memory or disk, or met
// a mistake of ours. What more than half of the voters hold counts; whoever differs from that is wrong.
// Without such a majority nobody is: then all are named, and nothing is overwritten.
#include <cstdint>
#include <map>
#include <vector>

#include "store/raft/types.hpp"

namespace orchestra::store {

struct Agreement {
  std::vector<PeerId> wrong;
  bool split = false;  ///< they differ, and no half is large enough
};

/// `hashes`: of those who answered; the others are neither right nor wrong.
inline Agreement judge(const Configuration& configuration, const std::map<PeerId, std::uint64_t>& hashes) {
  Agreement result;
  std::size_t voters = 0;
  std::map<std::uint64_t, std::size_t> votes;
  for (const Member& member : configuration.members) {
    if (!member.voter) continue;
    ++voters;
    const auto told = hashes.find(member.id);
    if (told != hashes.end()) ++votes[told->second];
  }
  bool differ = false;
  for (const auto& [peer, hash] : hashes) differ |= hash != hashes.begin()->second;
  if (!differ) return result;
  for (const auto& [right, count] : votes) {
    if (count <= voters / 2) continue;
    for (const auto& [peer, hash] : hashes) {
      if (hash != right) result.wrong.push_back(peer);
    }
    return result;
  }
  result.split = true;
  return result;
}

}  // namespace orchestra::store
