#include "node/allocation.hpp"

#include <algorithm>

#include "orchestra/quantity.hpp"

namespace orchestra::node {
namespace {

constexpr const char* kResizable[] = {"/spec/initContainers", "/spec/containers"};

std::int64_t amount(const json::value& at, const std::string& pointer, bool milli) {
  const auto quantity = Quantity::parse(string_at(at, pointer, "0"));
  if (!quantity) return 0;
  return milli ? quantity->milli_value() : quantity->value();
}

Requests of_container(const json::value& container) {
  return {amount(container, "/resources/requests/cpu", true),
          amount(container, "/resources/requests/memory", false)};
}

Requests operator+(const Requests& a, const Requests& b) {
  return {a.cpu_milli + b.cpu_milli, a.memory_bytes + b.memory_bytes};
}
Requests larger(const Requests& a, const Requests& b) {
  return {std::max(a.cpu_milli, b.cpu_milli), std::max(a.memory_bytes, b.memory_bytes)};
}

const json::value& member(const json::value& resources, const std::string& pointer) {
  static const json::value kNone;
  const json::value* found = find(resources, pointer);
  return found == nullptr ? kNone : *found;
}

}  // namespace

Requests requests_of(const json::value& pod) {
  Requests sidecars, init, mains;
  if (const json::array* all = array_at(pod, "/spec/initContainers")) {
    for (const json::value& container : *all) {
      const Requests own = of_container(container);
      init = larger(init, sidecars + own);
      if (string_at(container, "/restartPolicy") == "Always") sidecars = sidecars + own;
    }
  }
  if (const json::array* all = array_at(pod, "/spec/containers")) {
    for (const json::value& container : *all) mains = mains + of_container(container);
  }
  const Requests overhead{amount(pod, "/spec/overhead/cpu", true),
                          amount(pod, "/spec/overhead/memory", false)};
  return larger(mains + sidecars, init) + overhead;
}

json::value resources_of(const json::value& container) {
  const json::value* resources = find(container, "/resources");
  return resources == nullptr || !resources->is_object() ? json::value(json::object()) : *resources;
}

json::object resources_by_container(const json::value& pod) {
  json::object out;
  for (const char* list : kResizable) {
    const json::array* all = array_at(pod, list);
    if (all == nullptr) continue;
    for (const json::value& container : *all) out[string_at(container, "/name")] = resources_of(container);
  }
  return out;
}

json::value with_resources(const json::value& pod, const json::object& resources) {
  json::value copy = pod;
  for (const char* list : kResizable) {
    json::array* all = const_cast<json::array*>(array_at(copy, list));
    if (all == nullptr) continue;
    for (json::value& container : *all) {
      const json::value* own = resources.if_contains(string_at(container, "/name"));
      if (own != nullptr && container.is_object()) container.get_object()["resources"] = *own;
    }
  }
  return copy;
}

bool resize_restarts(const json::value& container, const json::value& before, const json::value& after) {
  const json::array* policies = array_at(container, "/resizePolicy");
  if (policies == nullptr) return false;
  return std::any_of(policies->begin(), policies->end(), [&](const json::value& policy) {
    if (string_at(policy, "/restartPolicy") != "RestartContainer") return false;
    const std::string resource = string_at(policy, "/resourceName");
    return member(before, "/requests/" + resource) != member(after, "/requests/" + resource) ||
           member(before, "/limits/" + resource) != member(after, "/limits/" + resource);
  });
}

std::string Shortfall::text() const {
  return "Node didn't have enough resource: " + resource + ", requested: " + std::to_string(requested) +
         ", used: " + std::to_string(used) + ", capacity: " + std::to_string(capacity);
}

std::string Shortfall::capacity_text() const {
  return "Node didn't have enough capacity: " + resource + ", requested: " + std::to_string(requested) +
         ", capacity: " + std::to_string(capacity);
}

void Allocations::set_capacity(Requests capacity, std::size_t pods_max) {
  std::lock_guard lock(mutex_);
  capacity_ = capacity;
  pods_max_ = pods_max;
}

std::optional<Shortfall> Allocations::claim(const std::string& uid, Requests wanted) {
  std::lock_guard lock(mutex_);
  Requests others;
  std::size_t count = 0;
  for (const auto& [other, has] : pods_) {
    if (other == uid) continue;
    others = others + has;
    ++count;
  }
  if (count + 1 > pods_max_) {
    const auto used = static_cast<std::int64_t>(count), most = static_cast<std::int64_t>(pods_max_);
    return Shortfall{"pods", 1, used, most, false};
  }
  // A pod that asks for nothing of a resource is never refused for it.
  if (wanted.cpu_milli > 0 && others.cpu_milli + wanted.cpu_milli > capacity_.cpu_milli) {
    return Shortfall{"cpu", wanted.cpu_milli, others.cpu_milli, capacity_.cpu_milli,
                     wanted.cpu_milli > capacity_.cpu_milli};
  }
  if (wanted.memory_bytes > 0 && others.memory_bytes + wanted.memory_bytes > capacity_.memory_bytes) {
    return Shortfall{"memory", wanted.memory_bytes, others.memory_bytes, capacity_.memory_bytes,
                     wanted.memory_bytes > capacity_.memory_bytes};
  }
  pods_[uid] = wanted;
  return std::nullopt;
}

bool Allocations::claim_ports(const std::string& uid, std::vector<PortClaim> wanted) {
  if (wanted.empty()) return true;
  std::lock_guard lock(mutex_);
  for (const auto& [other, taken] : ports_) {
    if (other == uid) continue;
    for (const PortClaim& theirs : taken) {
      if (std::any_of(wanted.begin(), wanted.end(), [&](const auto& ours) { return clash(ours, theirs); }))
        return false;
    }
  }
  ports_[uid] = std::move(wanted);
  return true;
}

void Allocations::adopt(const std::string& uid, Requests has, std::vector<PortClaim> ports) {
  std::lock_guard lock(mutex_);
  pods_[uid] = has;
  if (!ports.empty()) ports_[uid] = std::move(ports);
}

void Allocations::release(const std::string& uid) {
  std::lock_guard lock(mutex_);
  pods_.erase(uid);
  ports_.erase(uid);
}

}  // namespace orchestra::node
