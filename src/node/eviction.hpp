#pragma once
// Node-pressure eviction (kubernetes/pkg/kubelet/eviction): when the machine runs short, which pod goes.
// Pure.
//
// A signal below its threshold puts the node under pressure; the condition stays for five minutes after the
// last time. Each round ends one pod: first those that use more than they asked for, then lower priority,
// then the largest excess. Static, mirror and critical pods are exempt.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "orchestra/env.hpp"
#include "orchestra/node_agent.hpp"

namespace orchestra::node {

struct PressureSignals {
  std::int64_t memory_available = 0, memory_capacity = 0;  // bytes
  std::int64_t disk_available = 0, disk_capacity = 0;
  std::int64_t inodes_free = 0, inodes = 0;
  std::int64_t pids_available = 0, pids = 0;
};
/// One signal that is below its threshold.
struct Shortage {
  enum class Kind : std::uint8_t { memory, disk, inodes, pids } kind = Kind::memory;
  std::int64_t threshold = 0, available = 0;
  const char* resource() const;   ///< "memory", "ephemeral-storage", "inodes", "pids"
  const char* condition() const;  ///< "MemoryPressure", "DiskPressure", "PIDPressure"
};
std::vector<Shortage> shortages(const PressureSignals& signals, const EvictionThresholds& thresholds);

/// Soft shortages count once they have lasted without a break.
class SoftShortages {
 public:
  /// Those of `now_short` that were there at every call for `grace` at least.
  std::vector<Shortage> lasting(const std::vector<Shortage>& now_short, std::int64_t steady_ns,
                                Duration grace);

 private:
  std::map<Shortage::Kind, std::int64_t> since_;
};

/// Remembers when a condition was last true.
class PressureMemory {
 public:
  explicit PressureMemory(Duration stays = std::chrono::minutes(5)) : stays_(stays) {}
  void note(const std::vector<Shortage>& now_short, std::int64_t steady_ns);
  bool holds(const std::string& condition, std::int64_t steady_ns) const;

 private:
  Duration stays_;
  std::map<std::string, std::int64_t> last_;
};

struct EvictionCandidate {
  std::string uid, name;
  bool exempt = false;  ///< static, mirror, priority >= 2e9
  std::int64_t priority = 0;
  std::int64_t request = 0;  ///< of the resource that is short
  std::int64_t usage = 0;
  std::string main_container;
  std::int64_t container_usage = 0, container_request = 0;
};
/// Index of the pod to go; nullopt: nobody may.
std::optional<std::size_t> choose_victim(const std::vector<EvictionCandidate>& pods);
/// "The node was low on resource: memory. Threshold quantity: 100Mi, available: 20Mi. Container ..."
std::string eviction_message(const Shortage& shortage, const EvictionCandidate& victim);

bool eviction_exempt(const json::value& pod);
/// Sum of the requests of its containers.
std::int64_t requested(const json::value& pod, const char* resource);

}  // namespace orchestra::node
