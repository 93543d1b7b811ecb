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

struct GangPreemption {
  bool helps = false;
  bool waits = false;  ///< room is being made already: pods that were told to go still end on promised nodes
  std::vector<std::pair<std::string, std::string>> nodes;  ///< UID of a member, the node that it would have
  std::vector<std::string> victims;                        ///< UIDs; none of them goes unless the gang fits
  std::size_t violations = 0;                              ///< of disruption budgets
};

/// Who of lower priority would have to end so that enough of these pods fit, all looked at together: each
/// member is placed, or makes room by the rules of preempt(), on the cluster as those before it leave it.
/// `helps` only if `minimum` is reached (with the `already` bound ones); else nobody has to go for nothing.
/// Nothing changes in the snapshot. Costs one copy of it. Since 0.2.
ORC_API GangPreemption preempt_gang(const SchedulingSnapshot& snapshot, const std::vector<PodShape>& pods,
                                    std::size_t already, std::size_t minimum,
                                    std::vector<DisruptionBudget> budgets = {},
                                    const PlaceOptions& options = {});

}  // namespace orchestra
