#include "node/eviction.hpp"

#include <algorithm>
#include <tuple>

#include "orchestra/quantity.hpp"

namespace orchestra::node {

namespace {

constexpr std::int64_t kCritical = 2'000'000'000;  // priority of system classes

std::string amount(Shortage::Kind kind, std::int64_t value) {
  const bool bytes = kind == Shortage::Kind::memory || kind == Shortage::Kind::disk;
  if (!bytes) return std::to_string(value);
  return std::to_string(value / 1024) + "Ki";
}

}  // namespace

const char* Shortage::resource() const {
  switch (kind) {
    case Kind::memory:
      return "memory";
    case Kind::disk:
      return "ephemeral-storage";
    case Kind::inodes:
      return "inodes";
    case Kind::pids:
      return "pids";
  }
  return "";
}

const char* Shortage::condition() const {
  switch (kind) {
    case Kind::memory:
      return "MemoryPressure";
    case Kind::disk:
    case Kind::inodes:
      return "DiskPressure";
    case Kind::pids:
      return "PIDPressure";
  }
  return "";
}

std::vector<Shortage> shortages(const PressureSignals& signals, const EvictionThresholds& thresholds) {
  std::vector<Shortage> out;
  const auto check = [&](Shortage::Kind kind, std::int64_t threshold, std::int64_t available,
                         std::int64_t capacity) {
    // What could not be read is not short.
    if (capacity > 0 && available < threshold) out.push_back({kind, threshold, available});
  };
  const auto part = [](std::int64_t whole, int percent) { return whole / 100 * percent; };
  check(Shortage::Kind::memory, thresholds.memory_available_bytes, signals.memory_available,
        signals.memory_capacity);
  check(Shortage::Kind::disk, part(signals.disk_capacity, thresholds.disk_free_percent),
        signals.disk_available, signals.disk_capacity);
  check(Shortage::Kind::inodes, part(signals.inodes, thresholds.inodes_free_percent), signals.inodes_free,
        signals.inodes);
  check(Shortage::Kind::pids, part(signals.pids, thresholds.pids_free_percent), signals.pids_available,
        signals.pids);
  return out;
}

std::vector<Shortage> SoftShortages::lasting(const std::vector<Shortage>& now_short, std::int64_t steady_ns,
                                             Duration grace) {
  std::map<Shortage::Kind, std::int64_t> since;
  std::vector<Shortage> out;
  for (const Shortage& shortage : now_short) {
    const auto before = since_.find(shortage.kind);
    const std::int64_t first = before == since_.end() ? steady_ns : before->second;
    since.emplace(shortage.kind, first);
    if (steady_ns - first >= grace.count()) out.push_back(shortage);
  }
  since_ = std::move(since);
  return out;
}

void PressureMemory::note(const std::vector<Shortage>& now_short, std::int64_t steady_ns) {
  for (const Shortage& shortage : now_short) last_[shortage.condition()] = steady_ns;
}

bool PressureMemory::holds(const std::string& condition, std::int64_t steady_ns) const {
  const auto found = last_.find(condition);
  return found != last_.end() && steady_ns - found->second < stays_.count();
}

std::optional<std::size_t> choose_victim(const std::vector<EvictionCandidate>& pods) {
  std::optional<std::size_t> best;
  // Smaller goes first.
  const auto rank = [&](std::size_t i) {
    const EvictionCandidate& pod = pods[i];
    const std::int64_t excess = pod.usage - pod.request;
    return std::tuple(excess <= 0, pod.priority, -excess, pod.uid);
  };
  for (std::size_t i = 0; i < pods.size(); ++i) {
    if (pods[i].exempt) continue;
    if (!best || rank(i) < rank(*best)) best = i;
  }
  return best;
}

std::string eviction_message(const Shortage& shortage, const EvictionCandidate& victim) {
  std::string text = std::string("The node was low on resource: ") + shortage.resource() +
                     ". Threshold quantity: " + amount(shortage.kind, shortage.threshold) +
                     ", available: " + amount(shortage.kind, shortage.available) + ". ";
  if (!victim.main_container.empty() && victim.container_usage > victim.container_request) {
    text += "Container " + victim.main_container + " was using " +
            amount(shortage.kind, victim.container_usage) + ", request is " +
            amount(shortage.kind, victim.container_request) + ", has larger consumption of " +
            shortage.resource() + ". ";
  }
  return text;
}

std::int64_t requested(const json::value& pod, const char* resource) {
  std::int64_t sum = 0;
  const json::array* all = array_at(pod, "/spec/containers");
  if (all == nullptr) return 0;
  for (const json::value& container : *all) {
    const auto one =
        Quantity::parse(string_at(container, std::string("/resources/requests/") + resource, "0"));
    if (one) sum += one->value();
  }
  return sum;
}

bool eviction_exempt(const json::value& pod) {
  const json::object* notes = object_at(pod, "/metadata/annotations");
  const bool from_file = notes != nullptr && (notes->if_contains("kubernetes.io/config.mirror") != nullptr ||
                                              notes->if_contains("kubernetes.io/config.source") != nullptr);
  return from_file || int_at(pod, "/spec/priority") >= kCritical;
}

}  // namespace orchestra::node
