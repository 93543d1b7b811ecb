#pragma once
// place_gang(): pods that are of use only together (PodGroup): all of them get nodes, or none does.
//
// Nothing is held in between: two gangs that compete never have half of their pods placed each. Since 0.1.
#include <string>
#include <utility>
#include <vector>

#include "orchestra/scheduling_snapshot.hpp"

namespace orchestra {

struct Gang {
  bool placed = false;
  std::vector<std::pair<std::string, Placement>> placements;  ///< UID, where; assumed in the snapshot
  std::vector<std::string> left;                              ///< UIDs that found no node
  std::string message;  ///< not placed: how many would fit, and why no more
};

/// Places the pods in their order, each counted for the next. If fewer than `minimum` (with the `already`
/// bound ones) find a node, the snapshot is as before. Else all that did are assumed.
ORC_API Gang place_gang(SchedulingSnapshot& snapshot, const std::vector<PodShape>& pods, std::size_t already,
                        std::size_t minimum, const PlaceOptions& options = {});

}  // namespace orchestra
