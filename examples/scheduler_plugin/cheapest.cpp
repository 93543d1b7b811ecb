// A scheduler whose host adds a rule of its own: among the nodes that will do, the cheapest is the best.
//   cheapest            places three pods on machines of its own, without a cluster
//
// In a cluster the same plugin goes into SchedulerOptions::plugins.
#include <iostream>

#include <orchestra/scheduler_plugin.hpp>

namespace {

// Reads the label example.com/price-per-hour of a node, in cents; unknown prices are no bargain.
class Cheapest : public orchestra::SchedulerPlugin {
 public:
  std::string name() const override { return "Cheapest"; }
  std::int64_t weight() const override { return 5; }
  bool scores() const override { return true; }
  std::int64_t score(const orchestra::PodShape&, const orchestra::NodeView& node) override {
    const auto price = node.shape.labels.find("example.com/price-per-hour");
    if (price == node.shape.labels.end()) return 0;
    return std::max(0, 100 - std::stoi(price->second));  // a price that is no number fails this pod, by name
  }
};

orchestra::NodeShape machine(const std::string& name, const std::string& price, std::int64_t millicores) {
  orchestra::NodeShape node;
  node.name = name;
  node.labels["example.com/price-per-hour"] = price;
  node.allocatable = {{"cpu", millicores}, {"memory", 8LL << 30}, {"pods", 10}};
  return node;
}

}  // namespace

int main() {
  orchestra::SchedulingSnapshot snapshot;
  snapshot.set_node(machine("on-demand", "40", 4000));
  snapshot.set_node(machine("spot", "9", 1000));
  snapshot.set_node(machine("reserved", "20", 2000));
  Cheapest cheapest;
  orchestra::PlaceOptions options;
  options.plugins = {&cheapest};
  for (int i = 0; i < 5; ++i) {
    orchestra::PodShape pod;
    pod.ns = "farm";
    pod.name = pod.uid = "job-" + std::to_string(i);
    pod.requests["cpu"] = 1000;
    pod.score_millicores = 1000;
    const orchestra::Decision decision = orchestra::place(snapshot, pod, options);
    if (const orchestra::Placement* at = decision.placement()) {
      std::cout << pod.name << " -> " << at->node << "\n";
      snapshot.assume(pod, at->node);
    } else {
      std::cout << pod.name << ": " << decision.unschedulable()->message() << "\n";
    }
  }
  return 0;
}
