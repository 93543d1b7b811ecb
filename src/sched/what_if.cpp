// WhatIf: see what_if.hpp.
#include "orchestra/what_if.hpp"

namespace orchestra {

WhatIf::WhatIf(std::shared_ptr<const SchedulingSnapshot> base, PlaceOptions options)
    : base_(std::move(base)), options_(std::move(options)) {}

WhatIf& WhatIf::add_node(NodeShape node) {
  std::string name = node.name;
  changes_.push_back(
      {Change::Kind::add_node, std::make_shared<const NodeShape>(std::move(node)), nullptr, std::move(name)});
  return *this;
}
WhatIf& WhatIf::remove_node(std::string name) {
  changes_.push_back({Change::Kind::remove_node, nullptr, nullptr, std::move(name)});
  return *this;
}
WhatIf& WhatIf::add_pod(PodShape pod, std::string node) {
  changes_.push_back(
      {Change::Kind::add_pod, nullptr, std::make_shared<const PodShape>(std::move(pod)), std::move(node)});
  return *this;
}
WhatIf& WhatIf::remove_pod(std::string uid) {
  changes_.push_back({Change::Kind::remove_pod, nullptr, nullptr, std::move(uid)});
  return *this;
}

SchedulingSnapshot WhatIf::snapshot() const {
  SchedulingSnapshot copy = *base_;
  for (const Change& change : changes_) {
    switch (change.kind) {
      case Change::Kind::add_node:
        copy.set_node(*change.node);
        break;
      case Change::Kind::remove_node:
        for (const std::string& uid : copy.pods_on(change.name)) copy.remove_pod(uid);
        copy.remove_node(change.name);
        break;
      case Change::Kind::add_pod:
        copy.set_pod(*change.pod, change.name);
        break;
      case Change::Kind::remove_pod:
        copy.remove_pod(change.name);
        break;
    }
  }
  return copy;
}

WhatIf::Answer WhatIf::schedule_in(SchedulingSnapshot& copy, const std::vector<PodShape>& pods) const {
  Answer answer;
  for (const PodShape& pod : pods) {
    const std::string name = pod.ns + "/" + pod.name;
    const Decision decision = place(copy, pod, options_);
    if (const Placement* at = decision.placement()) {
      answer.placed.emplace_back(name, at->node);
      copy.assume(pod, at->node);
    } else if (const PlacementFailed* failed = decision.failed()) {
      answer.refused.emplace_back(name, "plugin " + failed->plugin + ": " + failed->message);
    } else {
      answer.refused.emplace_back(name, decision.unschedulable()->message());
    }
  }
  return answer;
}

WhatIf::Answer WhatIf::schedule(const std::vector<PodShape>& pods) const {
  SchedulingSnapshot copy = snapshot();
  return schedule_in(copy, pods);
}

WhatIf::Answer WhatIf::drain(const std::string& node) const {
  SchedulingSnapshot copy = snapshot();
  std::vector<PodShape> moved;
  for (const std::string& uid : copy.pods_on(node)) {
    if (auto pod = copy.pod(uid)) moved.push_back(std::move(*pod));
    copy.remove_pod(uid);
  }
  copy.remove_node(node);
  return schedule_in(copy, moved);
}

Preemption WhatIf::preempt(const PodShape& pod, const std::vector<DisruptionBudget>& budgets) const {
  return orchestra::preempt(snapshot(), pod, budgets, options_);
}

std::vector<NodeVerdict> WhatIf::explain(const PodShape& pod) const {
  return orchestra::explain(snapshot(), pod, options_);
}

std::optional<std::size_t> WhatIf::nodes_needed(const std::vector<PodShape>& pods, const NodeShape& shape,
                                                std::size_t most) const {
  SchedulingSnapshot copy = snapshot();
  std::vector<PodShape> left;
  const auto settle = [&](const std::vector<PodShape>& wanted) {
    std::vector<PodShape> refused;
    for (const PodShape& pod : wanted) {
      const Decision decision = place(copy, pod, options_);
      if (const Placement* at = decision.placement()) {
        copy.assume(pod, at->node);
      } else {
        refused.push_back(pod);
      }
    }
    return refused;
  };
  left = settle(pods);
  for (std::size_t added = 0; !left.empty(); ++added) {
    if (added == most) return std::nullopt;
    NodeShape node = shape;
    node.name = shape.name + "-" + std::to_string(added);
    const auto hostname = node.labels.find("kubernetes.io/hostname");
    if (hostname != node.labels.end()) hostname->second = node.name;
    copy.set_node(node);
    std::vector<PodShape> refused = settle(left);
    if (refused.empty()) return added + 1;
    left = std::move(refused);
  }
  return 0;
}

}  // namespace orchestra
