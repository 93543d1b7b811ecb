#pragma once
// Highest index that a majority has reached.
//
// This only counts; the caller checks the term (Raft, section 3.6.2).
// Invariant: raising one of them never lowers the result.
#include <algorithm>
#include <functional>
#include <vector>

#include "base/assert.hpp"
#include "store/raft/types.hpp"

namespace orchestra::store {

inline Index majority_index(std::vector<Index> reached) {
  ORC_ASSERT(!reached.empty());
  std::sort(reached.begin(), reached.end(), std::greater<>());
  return reached[reached.size() / 2];
}

}  // namespace orchestra::store
