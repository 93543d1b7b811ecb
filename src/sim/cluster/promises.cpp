#include "sim/cluster/promises.hpp"

#include <algorithm>

#include "api/object_tree.hpp"
#include "api/select.hpp"
#include "controllers/common/pods.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::sim {

using namespace controllers;

namespace {

// Decisions that were made on what was true just before.
constexpr Duration kSlack = std::chrono::seconds(5);

bool healthy(const Object& pod) { return pod_ready(pod) && !pod.deleting(); }

}  // namespace

// What a quota counts it for; nothing when it ends or has ended. Pods that are being deleted count until
// their grace is over upstream; here not, so that what is summed is never more than that.
Amounts Promises::amounts_of(const Object& pod) {
  if (!pod || pod_terminal(pod) || pod.deleting()) return {};
  Amounts all{{"pods", 1}, {"count/pods", 1}};
  for (const auto& [name, amount] : PodShape::from_object(pod).requests) {
    all["requests." + name] = amount;
    if (name == "cpu" || name == "memory" || name == "ephemeral-storage") all[name] = amount;
  }
  return all;
}

void Promises::count(Space& space, const std::string& uid, Amounts amounts) {
  Amounts& known = space.pods[uid];
  for (const auto& [name, amount] : known) space.used[name] -= amount;
  for (const auto& [name, amount] : amounts) space.used[name] += amount;
  known = std::move(amounts);
  if (known.empty()) space.pods.erase(uid);
}

void Promises::pod_changed(const Object& old, const Object& now, Duration at) {
  const Object& pod = now ? now : old;
  if (const auto found = spaces_.find(pod.ns()); found != spaces_.end()) {
    Space& space = found->second;
    const bool fresh = !old && !space.pods.contains(pod.uid());
    count(space, pod.uid(), amounts_of(now));
    const auto counted = space.pods.find(pod.uid());
    if (fresh && counted != space.pods.end()) {
      for (const auto& [name, quota] : space.quotas) {
        if (at - quota.changed < kSlack) continue;
        for (const auto& [resource, hard] : quota.hard) {
          const auto own = counted->second.find(resource);
          if (own == counted->second.end() || own->second == 0 || space.used[resource] <= hard) continue;
          hooks_.broke("pod " + pod.ns() + "/" + pod.name() + " was made past the quota " + name + ": " +
                           std::to_string(space.used[resource]) + " of " + std::to_string(hard) + " " +
                           resource,
                       at);
        }
      }
    }
  }
  const auto budgets = budgets_.find(pod.ns());
  if (budgets == budgets_.end() || !old || !healthy(old) || (now && healthy(now))) return;
  for (auto& [name, budget] : budgets->second) {
    if (!budget.disrupted.contains(pod.name()) && budget.selector.matches(old.labels())) budget.lost = at;
  }
}

void Promises::quota_changed(const Object& old, const Object& now, Duration at) {
  const Object& it = now ? now : old;
  const bool scoped =
      find(tree(it), "/spec/scopes") != nullptr || find(tree(it), "/spec/scopeSelector") != nullptr;
  const bool first = !spaces_.contains(it.ns());
  if (!now || scoped) {
    if (first) return;
    Space& space = spaces_[it.ns()];
    space.quotas.erase(it.name());
    if (space.quotas.empty()) spaces_.erase(it.ns());
    return;
  }
  Space& space = spaces_[it.ns()];
  if (first) {
    for (const Object& pod : hooks_.pods(it.ns())) count(space, pod.uid(), amounts_of(pod));
  }
  Quota quota{{}, at};
  if (const json::object* hard = object_at(tree(now), "/spec/hard")) {
    for (const auto& [name, written] : *hard) {
      const auto amount =
          Quantity::parse(written.is_string() ? std::string(written.get_string()) : to_json(written));
      const bool cpu = name == "cpu" || name == "requests.cpu";
      if (amount) quota.hard[std::string(name)] = cpu ? amount->milli_value() : amount->value();
    }
  }
  const auto known = space.quotas.find(it.name());
  if (known != space.quotas.end() && known->second.hard == quota.hard) return;
  space.quotas[it.name()] = std::move(quota);
}

void Promises::budget_changed(const Object& old, const Object& now, Duration at) {
  if (!now) {
    budgets_[old.ns()].erase(old.name());
    return;
  }
  Budget& budget = budgets_[now.ns()][now.name()];
  budget.selector = api::selector_of(find(tree(now), "/spec/selector")).value_or(Selector::nothing());
  std::set<std::string> disrupted;
  if (const json::object* names = object_at(tree(now), "/status/disruptedPods")) {
    for (const auto& [name, since] : *names) disrupted.insert(std::string(name));
  }
  // Whoever is new among them was evicted just now.
  std::string evicted;
  for (const std::string& name : disrupted) {
    if (!budget.disrupted.contains(name)) evicted = name;
  }
  budget.disrupted = std::move(disrupted);
  if (evicted.empty() || (budget.lost != Duration::min() && at - budget.lost < kSlack)) return;
  const json::value* least = find(tree(now), "/spec/minAvailable");
  const std::int64_t desired = least != nullptr && least->is_int64()
                                   ? least->get_int64()
                                   : int_at(tree(now), "/status/desiredHealthy");
  std::int64_t left = 0;
  for (const Object& pod : hooks_.pods(now.ns())) {
    if (budget.selector.matches(pod.labels()) && healthy(pod) && !budget.disrupted.contains(pod.name()))
      ++left;
  }
  if (left >= desired) return;
  hooks_.broke("the eviction of " + now.ns() + "/" + evicted + " leaves " + std::to_string(left) +
                   " healthy pods, and the budget " + now.name() + " asks for " + std::to_string(desired),
               at);
}

std::vector<std::string> wrong_endpoints(const std::vector<Object>& services,
                                         const std::vector<Object>& slices, const std::vector<Object>& pods) {
  std::vector<std::string> wrong;
  for (const Object& service : services) {
    const json::object* selector = object_at(tree(service), "/spec/selector");
    if (selector == nullptr || selector->empty() || service.deleting() ||
        bool_at(tree(service), "/spec/publishNotReadyAddresses") ||
        string_at(tree(service), "/spec/type") == "ExternalName") {
      continue;
    }
    std::map<std::string, std::string> wanted;
    for (const auto& [name, value] : *selector) {
      if (value.is_string()) wanted[std::string(name)] = value.get_string();
    }
    const Selector matches = Selector::from_map(wanted);
    std::set<std::string> ready;
    for (const Object& pod : pods) {
      if (pod.ns() == service.ns() && matches.matches(pod.labels()) && healthy(pod) && !pod_terminal(pod) &&
          !string_at(tree(pod), "/status/podIP").empty()) {
        ready.insert(pod.name());
      }
    }
    std::set<std::string> listed;
    for (const Object& slice : slices) {
      const auto label = slice.labels().find("kubernetes.io/service-name");
      if (slice.ns() != service.ns() || label == slice.labels().end() || label->second != service.name())
        continue;
      const json::array* endpoints = array_at(tree(slice), "/endpoints");
      if (endpoints == nullptr) continue;
      for (const json::value& endpoint : *endpoints) {
        if (bool_at(endpoint, "/conditions/ready", true) && string_at(endpoint, "/targetRef/kind") == "Pod")
          listed.insert(string_at(endpoint, "/targetRef/name"));
      }
    }
    for (const auto& [from, other, how] : {std::tuple(&ready, &listed, " lack the pod "),
                                           std::tuple(&listed, &ready, " list as ready the pod ")}) {
      for (const std::string& name : *from) {
        if (other->contains(name)) continue;
        wrong.push_back("the endpoints of Service " + service.ns() + "/" + service.name() + how + name);
        break;
      }
    }
  }
  return wrong;
}

}  // namespace orchestra::sim
