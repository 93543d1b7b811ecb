#pragma once
// metrics.k8s.io/v1beta1 objects of what a MetricsSource says. Pure.
#include "base/json.hpp"
#include "orchestra/metrics_source.hpp"

namespace orchestra::metrics {

/// PodMetrics.
json::value pod_metrics(const PodUse& pod);
/// NodeMetrics.
json::value node_metrics(const NodeUse& node);

}  // namespace orchestra::metrics
