#include "sim/cluster/book.hpp"

#include <algorithm>

#include "controllers/common/pods.hpp"

namespace orchestra::sim {

using namespace controllers;

namespace {

constexpr std::size_t kViolationsMax = 100;
// Of one object; and two more (spec and status) for each replica that it stood for within the minute: a
// rollout writes a workload and its ReplicaSets as pods come and go.
constexpr std::int64_t kWritesPerMinuteMax = 120;
// Decisions that were made on what an owner said just before.
constexpr Duration kOwnerSlack = std::chrono::seconds(5);

const std::map<std::string, ResourceRef>& workload_kinds() {
  static const std::map<std::string, ResourceRef> kKinds{
      {"deployment", deployments()},
      {"replicaset", replica_sets()},
      {"statefulset", stateful_sets()},
      {"daemonset", daemon_sets()},
      {"job", jobs()},
      {"replicationcontroller", replication_controllers()}};
  return kKinds;
}

std::string lower(std::string text) {
  for (char& letter : text) letter = static_cast<char>(letter >= 'A' && letter <= 'Z' ? letter + 32 : letter);
  return text;
}

std::array<std::string, 3> parts_of(const std::string& key) {
  const auto first = key.find('/');
  const auto second = key.find('/', first + 1);
  return {key.substr(0, first), key.substr(first + 1, second - first - 1), key.substr(second + 1)};
}

}  // namespace

std::string clock_text(Duration at) {
  const std::int64_t ms = at.count() / 1'000'000;
  char text[48];
  std::snprintf(text, sizeof text, "%02lld:%02lld:%02lld.%03lld", static_cast<long long>(ms / 3'600'000),
                static_cast<long long>(ms / 60'000 % 60), static_cast<long long>(ms / 1000 % 60),
                static_cast<long long>(ms % 1000));
  return text;
}

std::string workload_key(const std::string& target) {
  return std::count(target.begin(), target.end(), '/') >= 2
             ? lower(target.substr(0, target.find('/'))) + target.substr(target.find('/'))
             : "deployment/" + target;
}

std::optional<ResourceRef> resource_of_workload(const std::string& key) {
  const auto found = workload_kinds().find(parts_of(key)[0]);
  if (found == workload_kinds().end()) return std::nullopt;
  return found->second;
}

void Book::note(const std::string& line) {
  for (const char letter : line) {
    hash_ ^= static_cast<unsigned char>(letter);
    hash_ *= 1099511628211ULL;
  }
  hash_ ^= '\n';
  hash_ *= 1099511628211ULL;
}

void Book::broke(const std::string& what, Duration at) {
  if (violations_.size() < kViolationsMax) violations_.push_back(clock_text(at) + " " + what);
}

// "deployment/shop/web" for a pod of a ReplicaSet of it.
std::string Book::workload_of(const Object& pod) {
  const OwnerReference* owner = pod.controller();
  if (owner == nullptr) return "pod/" + pod.ns() + "/" + pod.name();
  const auto known = workloads_.find(owner->uid);
  if (known != workloads_.end()) return known->second;
  std::string key = lower(owner->kind) + "/" + pod.ns() + "/" + owner->name;
  if (owner->kind == "ReplicaSet") {
    const Object set = view_.get(replica_sets(), pod.ns(), owner->name);
    if (!set) return key;  // not yet seen: asked again
    if (const OwnerReference* above = set.controller())
      key = lower(above->kind) + "/" + pod.ns() + "/" + above->name;
  }
  workloads_.emplace(owner->uid, key);
  return key;
}

void Book::count(const Pod& pod, int by) {
  if (!pod.counted) return;
  total_ += by;
  if (pod.done) {
    done_ += by;
  } else if (pod.failed) {
    failed_ += by;
  } else if (pod.ending) {
    ending_ += by;
  } else if (pod.pending) {
    pending_ += by;
  } else {
    (pod.ready ? ready_ : unready_) += by;
  }
  if (!pod.owner.empty()) owners_[pod.owner].active += by;
}

void Book::leave(Pod& pod, const std::string& uid) {
  const auto node = nodes_.find(pod.node);
  if (pod.node.empty() || node == nodes_.end() || pod.requests.empty()) return;
  for (const auto& [name, amount] : pod.requests) node->second.used[name] -= amount;
  for (const PodPort& port : pod.ports) {
    const auto held = node->second.ports.find(port);
    if (held != node->second.ports.end() && held->second == uid) node->second.ports.erase(held);
  }
  pod.requests.clear();
}

void Book::place(Pod& pod, const Object& object, Duration at) {
  ++bound;
  const std::string what = object.ns() + "/" + object.name();
  const auto found = nodes_.find(pod.node);
  if (found == nodes_.end())
    return broke("pod " + what + " was bound to " + pod.node + ", which is not there", at);
  Node& node = found->second;
  const PodShape shape = PodShape::from_object(object);
  pod.requests = shape.requests;
  pod.requests["pods"] = 1;
  for (const auto& [name, amount] : pod.requests) {
    std::int64_t& used = node.used[name];
    used += amount;
    const auto there = node.shape.allocatable.find(name);
    const std::int64_t total = there == node.shape.allocatable.end() ? 0 : there->second;
    if (amount > 0 && used > total)
      broke("node " + pod.node + " was given more " + name + " than it has (" + std::to_string(used) +
                " of " + std::to_string(total) + ") with pod " + what,
            at);
  }
  pod.ports = shape.host_ports;
  for (const PodPort& port : pod.ports) {
    if (!node.ports.emplace(port, object.uid()).second)
      broke("two pods of node " + pod.node + " have the host port " + std::to_string(port.port) + ": " + what,
            at);
  }
}

void Book::pod_changed(const Object& old, const Object& now, Duration at) {
  const Object& object = now ? now : old;
  Pod& pod = pods_[object.uid()];
  const std::string what = object.ns() + "/" + object.name();
  if (!now) {
    count(pod, -1);
    leave(pod, object.uid());
    pods_.erase(object.uid());
    note(clock_text(at) + " gone " + what);
    return;
  }
  written(now, at);
  const bool fresh = !pod.counted;
  count(pod, -1);
  const std::string phase = string_at(tree(now), "/status/phase");
  const std::string node = string_at(tree(now), "/spec/nodeName");
  if (!pod.node.empty() && node != pod.node)
    broke("pod " + what + " was bound twice: to " + pod.node + ", then to " + node, at);
  const bool newly_bound = pod.node.empty() && !node.empty();
  pod.node = node;
  pod.counted = true;
  pod.done = phase == "Succeeded";
  pod.failed = phase == "Failed";
  pod.ending = now.deleting();
  pod.ready = pod_ready(now);
  pod.pending = !pod.ready && (node.empty() || phase == "Pending" || phase.empty());
  const OwnerReference* owner = now.controller();
  pod.owner = owner != nullptr && pod_active(now) ? owner->uid : std::string();
  count(pod, 1);
  if (newly_bound) place(pod, now, at);
  if (pod.done || pod.failed) leave(pod, object.uid());
  if (fresh) {
    ++created;
    if (!pod.owner.empty()) {
      const Owner& above = owners_[pod.owner];
      const std::int64_t most =
          at - above.changed < kOwnerSlack ? std::max(above.wanted, above.wanted_before) : above.wanted;
      if (above.known && above.active > most)
        broke(above.name + " has " + std::to_string(above.active) + " pods, and may have " +
                  std::to_string(most) + ", after " + what + " was made",
              at);
    }
  }
  note(clock_text(at) + " pod " + what + " " + node + " " + phase + (pod.ready ? " ready" : "") +
       (pod.ending ? " ending" : "") + " " + now.resource_version());
}

void Book::node_changed(const Object& old, const Object& now, Duration at) {
  if (!now) {
    const auto found = nodes_.find(old.name());
    if (found == nodes_.end()) return;
    if (found->second.ready) --nodes_ready_;
    nodes_.erase(found);
    return note(clock_text(at) + " node gone " + old.name());
  }
  written(now, at);
  Node& node = nodes_[now.name()];
  node.shape = NodeShape::from_object(now);
  const json::object* condition = find_condition(tree(now), "Ready");
  const bool ready = condition != nullptr && string_at(*condition, "/status") == "True";
  if (std::exchange(node.ready, ready) != ready) nodes_ready_ += ready ? 1 : -1;
  note(clock_text(at) + " node " + now.name() + (ready ? " ready" : " not ready") + " " +
       now.resource_version());
}

void Book::owner_changed(const Object& old, const Object& now, Duration at) {
  if (!now) {
    owners_.erase(old.uid());
    workloads_.erase(old.uid());
    return;
  }
  written(now, at);
  Owner& owner = owners_[now.uid()];
  const bool job = now.kind() == "Job";
  const std::int64_t wanted = int_at(tree(now), job ? "/spec/parallelism" : "/spec/replicas", 1);
  if (!owner.known) owner.wanted_before = wanted;
  if (owner.known && wanted != owner.wanted) {
    owner.wanted_before =
        at - owner.changed < kOwnerSlack ? std::max(owner.wanted, owner.wanted_before) : owner.wanted;
    owner.changed = at;
  }
  owner.wanted = wanted;
  owner.known = true;
  owner.name = now.kind() + " " + now.ns() + "/" + now.name();
}

void Book::written(const Object& now, Duration at) {
  if (!now) return;
  const std::int64_t minute = at.count() / 60'000'000'000;
  if (std::exchange(minute_, minute) != minute) writes_.clear();
  Writes& writes = writes_[now.uid()];
  if (++writes.count < kWritesPerMinuteMax || writes.told) return;
  writes.replicas = std::max(writes.replicas, int_at(tree(now), "/spec/replicas"));
  if (writes.count < kWritesPerMinuteMax + 2 * writes.replicas) return;
  writes.told = true;
  broke(now.kind() + " " + now.ns() + "/" + now.name() + " was written " + std::to_string(writes.count) +
            " times within a minute",
        at);
}

void Book::serving(const Object& pod, bool serving) {
  // Its owner may be gone before the pod is.
  std::string& key = serves_[pod.uid()];
  if (key.empty()) key = workload_of(pod);
  serving_[key] += serving ? 1 : -1;
  serving_total_ += serving ? 1 : -1;
  touched_.insert(key);
  if (!serving) serves_.erase(pod.uid());
}

void Book::fill(SimSample& sample) const {
  const auto size = [](std::int64_t number) {
    return static_cast<std::size_t>(std::max<std::int64_t>(0, number));
  };
  sample.nodes_ready = size(nodes_ready_);
  sample.pods = size(total_);
  sample.pending = size(pending_);
  sample.ready = size(ready_);
  sample.serving = size(serving_total_);
  sample.ending = size(ending_);
  sample.done = size(done_);
  sample.failed = size(failed_);
}

std::int64_t Book::serving_of(const std::string& key) const {
  const auto found = serving_.find(key);
  return found == serving_.end() ? 0 : found->second;
}

std::optional<std::int64_t> Book::wanted_of(const std::string& key) const {
  const auto resource = resource_of_workload(key);
  if (!resource) return std::nullopt;
  const auto [kind, ns, name] = parts_of(key);
  const Object object = view_.get(*resource, ns, name);
  if (!object) return std::nullopt;
  if (kind == "daemonset") return int_at(tree(object), "/status/desiredNumberScheduled");
  if (kind == "job") return int_at(tree(object), "/spec/completions", 1);
  return int_at(tree(object), "/spec/replicas", 1);
}

std::vector<Object> Book::pods_of(const std::string& key, const std::vector<Object>& pods) {
  std::vector<Object> found;
  for (const Object& pod : pods) {
    if (workload_of(pod) == key) found.push_back(pod);
  }
  return found;
}

}  // namespace orchestra::sim
