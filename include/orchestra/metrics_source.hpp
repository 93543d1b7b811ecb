#pragma once
// MetricsSource: what pods and nodes use, as numbers. The node agent is one (its statistics pass, each 10 s);
// a host may bring its own (ClusterOptions::metrics). metrics.k8s.io (`kubectl top`) reads it. Since 0.2.
//
// A rate needs two samples of the same container, so it is never negative, and a pod without two samples of
// each of its containers is absent, not zero. Calls are thread safe and do not wait.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "orchestra/error.hpp"

namespace orchestra {

struct ContainerUse {
  std::string container;
  std::int64_t nanocores = 0;
  std::int64_t working_set = 0;  ///< bytes
};
struct PodUse {
  std::string uid, ns, name;
  std::map<std::string, std::string> labels;
  std::int64_t at_ns = 0, window_ns = 0;  ///< wall; between the two samples
  std::vector<ContainerUse> containers;
  std::int64_t working_set = 0;  ///< bytes, of all containers
};
struct NodeUse {
  std::string name;
  std::int64_t at_ns = 0, window_ns = 0;  ///< wall; between the two samples
  std::int64_t nanocores = 0;
  std::int64_t working_set = 0;  ///< bytes
};

class ORC_API MetricsSource {
 public:
  virtual ~MetricsSource() = default;
  /// Of a namespace (empty: all), by namespace and name.
  virtual std::vector<PodUse> pods(const std::string& ns) const = 0;
  virtual std::vector<NodeUse> nodes() const = 0;
};

}  // namespace orchestra
