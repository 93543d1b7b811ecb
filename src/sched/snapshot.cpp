// SchedulingSnapshot: see snapshot.hpp.
//
// Invariant: the sums of a node equal the sums over the pods that name it, also while the node itself is
// missing; a node that comes back finds its pods counted.
#include "sched/snapshot.hpp"

#include "base/assert.hpp"

namespace orchestra {

namespace {

template <class Key>
void count(std::map<Key, int>& counts, const Key& key, int by) {
  const auto it = counts.try_emplace(key, 0).first;
  it->second += by;
  ORC_ASSERT(it->second >= 0);
  if (it->second == 0) counts.erase(it);
}

std::int64_t amount_of(const Amounts& amounts, const char* resource) {
  const auto found = amounts.find(resource);
  return found == amounts.end() ? 0 : found->second;
}

void apply(NodeState& node, const PodShape& pod, int sign) {
  for (const auto& [resource, amount] : pod.requests) node.requested[resource] += sign * amount;
  node.cpu_used = amount_of(node.requested, "cpu");
  node.memory_used = amount_of(node.requested, "memory");
  node.score_millicores += sign * pod.score_millicores;
  node.score_memory_bytes += sign * pod.score_memory_bytes;
  node.pods += sign;
  for (const PodPort& port : pod.host_ports) count(node.host_ports, port, sign);
  for (const PodPort& port : pod.container_ports) count(node.container_ports, port, sign);
  count(node.priorities, pod.priority, sign);
}

}  // namespace

SchedulingSnapshot::SchedulingSnapshot() : impl_(std::make_unique<Impl>()) {}
SchedulingSnapshot::~SchedulingSnapshot() = default;
SchedulingSnapshot::SchedulingSnapshot(const SchedulingSnapshot& other)
    : impl_(std::make_unique<Impl>(*other.impl_)) {}
SchedulingSnapshot& SchedulingSnapshot::operator=(const SchedulingSnapshot& other) {
  if (this != &other) impl_ = std::make_unique<Impl>(*other.impl_);
  return *this;
}
SchedulingSnapshot::SchedulingSnapshot(SchedulingSnapshot&&) noexcept = default;
SchedulingSnapshot& SchedulingSnapshot::operator=(SchedulingSnapshot&&) noexcept = default;

SchedulingSnapshot SchedulingSnapshot::from_objects(const std::vector<Object>& nodes,
                                                    const std::vector<Object>& pods) {
  SchedulingSnapshot snapshot;
  for (const Object& node : nodes) snapshot.set_node(NodeShape::from_object(node));
  for (const Object& pod : pods) {
    const std::string phase = pod.get("/status/phase").value_or("");
    if (phase == "Succeeded" || phase == "Failed") continue;
    const PodShape shape = PodShape::from_object(pod);
    if (!shape.node_name.empty()) snapshot.set_pod(shape, shape.node_name);
  }
  return snapshot;
}

bool SchedulingSnapshot::set_node(const NodeShape& node) {
  NodeState& state = impl_->nodes[node.name];
  if (state.present && state.shape == node) return false;
  if (!state.present) ++impl_->present;
  state.present = true;
  state.shape = node;
  state.cpu_total = amount_of(node.allocatable, "cpu");
  state.memory_total = amount_of(node.allocatable, "memory");
  const auto pods = node.allocatable.find("pods");
  state.pods_total = pods == node.allocatable.end() ? std::nullopt : std::optional(pods->second);
  return true;
}

bool SchedulingSnapshot::remove_node(const std::string& name) {
  const auto found = impl_->nodes.find(name);
  if (found == impl_->nodes.end() || !found->second.present) return false;
  found->second.present = false;
  --impl_->present;
  if (found->second.pods == 0) impl_->nodes.erase(found);
  return true;
}

void SchedulingSnapshot::set_pod(const PodShape& pod, const std::string& node) {
  (void)remove_pod(pod.uid);
  NodeState& state = impl_->nodes[node];
  if (!state.present) state.shape.name = node;
  apply(state, pod, 1);
  impl_->pods.insert_or_assign(pod.uid, Impl::Placed{pod, node});
}

std::string SchedulingSnapshot::remove_pod(const std::string& uid) {
  const auto found = impl_->pods.find(uid);
  if (found == impl_->pods.end()) return {};
  const Impl::Placed placed = std::move(found->second);
  impl_->pods.erase(found);
  const auto node = impl_->nodes.find(placed.node);
  ORC_ASSERT(node != impl_->nodes.end());
  apply(node->second, placed.pod, -1);
  if (node->second.pods == 0 && !node->second.present) impl_->nodes.erase(node);
  return placed.node;
}

std::size_t SchedulingSnapshot::node_count() const { return impl_->present; }
std::size_t SchedulingSnapshot::pod_count() const { return impl_->pods.size(); }

std::vector<std::string> SchedulingSnapshot::node_names() const {
  std::vector<std::string> names;
  for (const auto& [name, state] : impl_->nodes) {
    if (state.present) names.push_back(name);
  }
  return names;
}

Amounts SchedulingSnapshot::used(const std::string& node) const {
  const auto found = impl_->nodes.find(node);
  if (found == impl_->nodes.end()) return {};
  Amounts used = found->second.requested;
  std::erase_if(used, [](const auto& entry) { return entry.second == 0; });
  used["pods"] = found->second.pods;
  return used;
}

std::string SchedulingSnapshot::node_of(const std::string& uid) const {
  const auto found = impl_->pods.find(uid);
  return found == impl_->pods.end() ? std::string() : found->second.node;
}

}  // namespace orchestra
