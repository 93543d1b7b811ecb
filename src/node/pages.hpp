#pragma once
// What the agent answers to GET of a path, read-only, as a kubelet's HTTP API does (pkg/kubelet/server):
// /healthz, /pods, /configz, /stats/summary, /metrics, /metrics/resource, /metrics/cadvisor. There is no port
// behind them: the API server asks, for the subresource `proxy` of the node.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/pod_streams.hpp"
#include "node/context.hpp"
#include "node/statistics.hpp"

namespace orchestra::node {

class PodWorker;

/// What the pages are made of.
struct PageSources {
  std::vector<std::shared_ptr<PodWorker>> workers;
  std::vector<MeasuredContainer> containers;  ///< of the last pass
  std::optional<NodeUse> use;
};

/// `path` with its query. 404 names what there is. Blocks: files are read.
NodePage make_page(AgentContext& context, const PageSources& sources, const std::string& path);

}  // namespace orchestra::node
