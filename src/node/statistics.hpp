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
#include "base/json.hpp"

namespace orchestra::node {

struct ContainerSample {
  std::string pod_uid, ns, pod, container, id;
  std::map<std::string, std::string> labels;  ///< of the pod
  ContainerUsage usage;
};

struct ContainerRate {
  std::string container;
  std::int64_t nanocores = 0;
  std::int64_t working_set = 0;  // bytes
};
struct PodRates {
  std::string uid, ns, name;
  std::map<std::string, std::string> labels;
  std::int64_t at_ns = 0, window_ns = 0;  // wall; between the two samples
  std::vector<ContainerRate> containers;
  std::int64_t working_set = 0;
};

class Statistics {
 public:
  /// One whole pass: what is not in it is forgotten.
  void pass(std::vector<ContainerSample> samples);
  /// Pods of a namespace (empty: all) of which every container has a rate.
  std::vector<PodRates> pods(const std::string& ns) const;
  std::optional<PodRates> pod(const std::string& uid) const;

 private:
  struct Known {
    ContainerSample last;
    std::optional<ContainerRate> rate;
    std::int64_t window_ns = 0;
  };
  std::vector<PodRates> collect() const;
  mutable std::mutex mutex_;
  std::map<std::string, Known> containers_;  // by id
};

/// metrics.k8s.io/v1beta1 PodMetrics.
json::value pod_metrics(const PodRates& pod);
/// NodeMetrics from what the machine itself says between two looks.
json::value node_metrics(const std::string& node, std::int64_t at_ns, std::int64_t window_ns,
                         std::int64_t nanocores, std::int64_t working_set);

}  // namespace orchestra::node
