#pragma once
// What a node says of itself in the shapes that are read everywhere: the Summary API of a kubelet
// (k8s.io/kubelet/pkg/apis/stats/v1alpha1) and the metric pages beside it. Pure: numbers in, text out.
//
// A number that is not known is left out, never zero. Not told: rootfs of containers, resident memory, page
// faults, swap, pressure, system containers.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "node/node_status.hpp"
#include "node/statistics.hpp"

namespace orchestra::node {

struct LinkUse {
  std::string name;
  std::uint64_t rx_bytes = 0, rx_errors = 0, tx_bytes = 0, tx_errors = 0;
};
/// Of the text of /proc/net/dev, without the loopback.
std::vector<LinkUse> parse_net_dev(const std::string& text);
/// Of the text of /proc/net/route: the link of the default route; empty: none.
std::string default_link(const std::string& text);

/// One container: what was measured, and what is known of it otherwise.
struct ContainerNumbers {
  MeasuredContainer measured;
  std::int64_t started_ns = 0;    ///< wall
  std::int64_t memory_limit = 0;  ///< bytes; 0: none
  std::int64_t log_bytes = 0;
  std::string image = {};
};
struct VolumeUse {
  std::string name;
  std::int64_t bytes = 0;
};
struct PodNumbers {
  std::string uid, ns, name;
  std::int64_t started_ns = 0;  ///< wall
  std::vector<ContainerNumbers> containers;
  std::vector<VolumeUse> volumes;  ///< emptyDir on disk
  std::vector<LinkUse> links;      ///< of a network of its own
};
struct NodeNumbers {
  std::string node;
  std::int64_t now_ns = 0, booted_ns = 0;  ///< wall
  MachineFacts facts;
  std::optional<NodeUse> use;  ///< there is a rate
  std::int64_t image_bytes = 0;
  std::vector<LinkUse> links;
  std::string main_link;  ///< of the default route
  std::vector<PodNumbers> pods;
};

/// /stats/summary; `only_cpu_and_memory` as the query of that name says.
json::value summary(const NodeNumbers& numbers, bool only_cpu_and_memory);
/// /metrics/resource.
std::string resource_page(const NodeNumbers& numbers);
/// /metrics/cadvisor: its names, of what is measured here.
std::string container_page(const NodeNumbers& numbers);

}  // namespace orchestra::node
