#pragma once
// What the containers of this node use: one pass over all of them each ten seconds, which eviction,
// metrics.k8s.io and autoscaling read.
//
// A rate needs two samples of the same container; a container that was restarted is another one, so a rate is
// never negative and a pod without two samples is absent, not zero. Pure but for the lock: samples in,
// numbers out.
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/pod_runtime.hpp"
#include "orchestra/metrics_source.hpp"

namespace orchestra::node {

struct ContainerSample {
  std::string pod_uid, ns, pod, container, id;
  std::map<std::string, std::string> labels;  ///< of the pod
  ContainerUsage usage;
};
struct MeasuredContainer {
  ContainerSample sample;  ///< the last
  std::optional<std::int64_t> nanocores = std::nullopt;
};

class Statistics {
 public:
  /// One whole pass: what is not in it is forgotten.
  void pass(std::vector<ContainerSample> samples);
  /// Pods of a namespace (empty: all) of which every container has a rate.
  std::vector<PodUse> pods(const std::string& ns) const;
  std::optional<PodUse> pod(const std::string& uid) const;
  /// Each container of the last pass, with or without a rate, by namespace, pod and name.
  std::vector<MeasuredContainer> containers() const;

 private:
  struct Known {
    ContainerSample last;
    std::optional<ContainerUse> rate;
    std::int64_t window_ns = 0;
  };
  std::vector<PodUse> collect() const;
  mutable std::mutex mutex_;
  std::map<std::string, Known> containers_;  // by id
};

}  // namespace orchestra::node
