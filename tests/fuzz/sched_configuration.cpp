// KubeSchedulerConfiguration: any bytes are refused with a path, or give profiles that decisions can be made
// with.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "orchestra/scheduler.hpp"

using namespace orchestra;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kInputMax = 64 * 1024;
  if (size > kInputMax) return 0;
  const auto parsed =
      SchedulerConfiguration::parse({reinterpret_cast<const char*>(data), size}, {"Cheapest"});
  if (!parsed) {
    if (parsed.error().message().empty()) std::abort();
    return 0;
  }
  if (parsed->profiles.empty() || parsed->backoff_max < parsed->backoff_min) std::abort();
  SchedulingSnapshot snapshot;
  for (const char* name : {"a", "b"}) {
    NodeShape node;
    node.name = name;
    node.labels = {{"kubernetes.io/hostname", name}, {"rack", "r"}};
    node.allocatable = {{"cpu", 1000}, {"memory", 1 << 30}, {"pods", 2}, {"example.com/gpu", 1}};
    snapshot.set_node(node);
  }
  PodShape pod;
  pod.ns = "d";
  pod.labels["app"] = "web";
  pod.requests = {{"cpu", 300}, {"example.com/gpu", 1}};
  pod.score_millicores = 300;
  pod.default_spread = Selector::from_map(pod.labels);
  for (const SchedulingProfile& profile : parsed->profiles) {
    PlaceOptions how;
    how.profile = &profile;
    for (int i = 0; i < 3; ++i) {
      pod.name = pod.uid = profile.name + std::to_string(i);
      const Decision decision = place(snapshot, pod, how);
      if (const Placement* at = decision.placement()) {
        if (!fits(snapshot, pod, at->node, how)) std::abort();
        snapshot.assume(pod, at->node);
      } else if (decision.unschedulable()->message().empty()) {
        std::abort();
      }
    }
  }
  return 0;
}
