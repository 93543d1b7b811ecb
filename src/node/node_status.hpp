#pragma once
// The Node object of this machine: capacity, conditions, addresses, labels. make_node and node_status are
// pure; read_machine asks the kernel.
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "node/eviction.hpp"
#include "orchestra/env.hpp"
#include "orchestra/image.hpp"
#include "orchestra/node_agent.hpp"

namespace orchestra::node {

struct MachineFacts {
  std::int64_t cpu_milli = 0, memory_bytes = 0, memory_available_bytes = 0, memory_free_bytes = 0,
               disk_bytes = 0, disk_free_bytes = 0;
  std::int64_t inodes = 0, inodes_free = 0, pids_max = 0, pids = 0;
  std::uint64_t busy_ns = 0;    ///< of all processors since boot
  std::string network_trouble;  ///< PodAttacher::trouble()
  std::string hostname, kernel, os_image, architecture, machine_id, boot_id;
};
MachineFacts read_machine(const std::string& data_dir);
/// What pods may use of the memory: all but what hard eviction keeps free.
std::int64_t allocatable_memory(const NodeAgentOptions& options, const MachineFacts& facts);
PressureSignals signals_of(const MachineFacts& facts);

json::value make_node(const NodeAgentOptions& options, const MachineFacts& facts);
/// status of the Node; conditions keep their transition times from `before` (the Node as it is).
json::object node_status(const NodeAgentOptions& options, const MachineFacts& facts,
                         const std::string& address, const std::vector<ImageInfo>& images,
                         const PressureMemory& pressure, const json::value& before, Now now);

}  // namespace orchestra::node
