#pragma once
// The inside of a SchedulingSnapshot: nodes by name, each with the sums of what runs there, kept up to date
// by every add and remove, so that a decision never looks at pods.
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "orchestra/scheduling_snapshot.hpp"

namespace orchestra {

struct NodeState {
  NodeShape shape;
  bool present = false;  ///< false: pods name this node, but it is not there (yet, or any more)
  Amounts requested;
  // The two resources that every decision looks at, out of the maps.
  std::int64_t cpu_total = 0, memory_total = 0, cpu_used = 0, memory_used = 0;
  std::optional<std::int64_t> pods_total;
  std::int64_t score_millicores = 0, score_memory_bytes = 0;
  std::int64_t pods = 0;
  std::map<PodPort, int> host_ports;  ///< how many pods claim it
  std::map<PodPort, int> container_ports;
  std::map<std::int64_t, int> priorities;  ///< how many pods have it
};

struct SchedulingSnapshot::Impl {
  struct Placed {
    PodShape pod;
    std::string node;
  };
  std::map<std::string, NodeState> nodes;  // ordered: iteration reaches decisions
  std::unordered_map<std::string, Placed> pods;
  std::size_t present = 0;
};

}  // namespace orchestra
