#pragma once
// What the node has promised to its pods: admission of new pods, and in-place resize.
//
// A pod that starts here claims its requests, then its host ports; a resize claims the new requests before
// anything changes. Each is one atomic question to the ledger, so two pods never get the last piece. The
// words are the kubelet's (kubernetes pkg/kubelet/lifecycle/predicate.go,
// pkg/kubelet/allocation/allocation_manager.go).
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "node/admission.hpp"

namespace orchestra::node {

struct Requests {
  std::int64_t cpu_milli = 0, memory_bytes = 0;
  friend bool operator==(const Requests&, const Requests&) = default;
};
/// Of the whole pod: containers and sidecars together, or the largest moment of its init containers; and its
/// overhead.
Requests requests_of(const json::value& pod);

/// {} where a container has none.
json::value resources_of(const json::value& container);
/// The `resources` of each container, by name: what a resize may change.
json::object resources_by_container(const json::value& pod);
/// A copy of the pod whose containers have these resources; names that are not there stay as they are.
json::value with_resources(const json::value& pod, const json::object& resources);

/// Does a change of this container's resources restart it? By its resizePolicy; without one it does not.
bool resize_restarts(const json::value& container, const json::value& before, const json::value& after);

struct Shortfall {
  std::string resource;  ///< "cpu", "memory", "pods"
  std::int64_t requested = 0, used = 0, capacity = 0;
  bool never = false;  ///< more than the whole node has
  /// "OutOfcpu", the reason of a pod that was refused.
  std::string reason() const { return "OutOf" + resource; }
  /// "Node didn't have enough resource: cpu, requested: 2000, used: 500, capacity: 2000"
  std::string text() const;
  /// "Node didn't have enough capacity: cpu, requested: 8000, capacity: 2000": of a resize that never fits.
  std::string capacity_text() const;
};

/// Any thread.
class Allocations {
 public:
  /// Before the first claim.
  void set_capacity(Requests capacity, std::size_t pods_max);
  /// Takes `wanted` for the pod, in the place of what it had. What does not fit changes nothing.
  std::optional<Shortfall> claim(const std::string& uid, Requests wanted);
  /// Takes the ports for the pod; false: another one has one of them, and nothing changes.
  bool claim_ports(const std::string& uid, std::vector<PortClaim> wanted);
  /// What runs already is not asked.
  void adopt(const std::string& uid, Requests has, std::vector<PortClaim> ports);
  void release(const std::string& uid);

 private:
  std::mutex mutex_;
  Requests capacity_;
  std::size_t pods_max_ = 0;
  std::map<std::string, Requests> pods_;
  std::map<std::string, std::vector<PortClaim>> ports_;  ///< of those that have any
};

}  // namespace orchestra::node
