// Objects to shapes: what a pod's owners say of it, what a profile asks, which budgets there are.
#include <algorithm>

#include "api/select.hpp"
#include "controllers/scheduler/shell/impl.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

namespace {
constexpr std::size_t kSelectorsMax = 4096;  // remembered default selectors
}  // namespace

std::optional<Selector> Scheduler::Impl::default_selector(const Object& pod) {
  const OwnerReference* owner = pod.controller();
  std::string key = pod.ns() + '\n' + (owner == nullptr ? std::string() : owner->uid);
  for (const auto& [name, value] : pod.labels()) key += '\n' + name + '=' + value;
  if (const auto found = selectors.find(key); found != selectors.end()) return found->second;
  std::map<std::string, std::string> merged;
  for (const Object& service : informers.informer(services()).cache().list(pod.ns())) {
    const json::object* selector = object_at(tree(service), "/spec/selector");
    if (selector == nullptr || selector->empty()) continue;
    std::map<std::string, std::string> wanted;
    for (const auto& [name, value] : *selector) {
      if (value.is_string()) wanted[std::string(name)] = value.get_string();
    }
    if (Selector::from_map(wanted).matches(pod.labels())) merged.insert(wanted.begin(), wanted.end());
  }
  bool found_owner = owner == nullptr;
  std::vector<Selector::Requirement> more;
  if (owner != nullptr && owner->kind == "ReplicationController") {
    const Object controller = informers.get(replication_controllers(), pod.ns(), owner->name);
    const json::object* selector = controller ? object_at(tree(controller), "/spec/selector") : nullptr;
    found_owner = selector != nullptr;
    if (selector != nullptr) {
      for (const auto& [name, value] : *selector) {
        if (value.is_string()) merged[std::string(name)] = value.get_string();
      }
    }
  } else if (owner != nullptr && (owner->kind == "ReplicaSet" || owner->kind == "StatefulSet")) {
    const Object controller =
        informers.get(owner->kind == "ReplicaSet" ? replica_sets() : stateful_sets(), pod.ns(), owner->name);
    const json::value* selector = controller ? find(tree(controller), "/spec/selector") : nullptr;
    if (selector != nullptr) {
      if (auto parsed = api::selector_of(selector)) more = parsed->requirements();
      found_owner = true;
    }
  } else {
    found_owner = true;
  }
  std::vector<Selector::Requirement> all = Selector::from_map(merged).requirements();
  all.insert(all.end(), more.begin(), more.end());
  std::optional<Selector> made;
  if (!all.empty()) made = Selector::from_requirements(std::move(all));
  // An owner whose object is not here yet is looked for again.
  if (found_owner) {
    if (selectors.size() >= kSelectorsMax) selectors.clear();
    selectors.emplace(std::move(key), made);
  }
  return made;
}

PodShape Scheduler::Impl::shape_of(const Object& pod) {
  PodShape shape = PodShape::from_object(pod);
  const SchedulingProfile* profile = profile_of(pod);
  if (shape.spread.empty() && profile != nullptr && !profile->default_constraints.empty())
    shape.default_spread = default_selector(pod);
  return shape;
}

PlaceOptions Scheduler::Impl::how_to_place(const SchedulingProfile& profile) {
  PlaceOptions how;
  how.tie_seed = options.tie_seed;
  how.profile = &profile;
  for (const auto& plugin : options.plugins) {
    if (!profile.disabled_filters.contains(plugin->name())) how.plugins.push_back(plugin.get());
  }
  if (!how.plugins.empty()) {
    how.guard = [this](std::function<void()> call) { return guard.run(std::move(call)); };
  }
  return how;
}

PlaceOptions Scheduler::Impl::how_to_decide(const SchedulingProfile& profile) {
  PlaceOptions how = how_to_place(profile);
  if (!measures) return how;
  how.clock = [this] { return now(); };
  how.on_point = [this, &profile](const char* point, const char* status, std::int64_t took_ns) {
    measures->point(point, status, profile.name, took_ns);
  };
  return how;
}

void Scheduler::Impl::measure_point(const Object& pod, const char* point, const char* status,
                                    std::int64_t begun) {
  if (!measures) return;
  const SchedulingProfile* profile = profile_of(pod);
  measures->point(point, status, profile == nullptr ? options.name : profile->name, now() - begun);
}

const std::vector<DisruptionBudget>& Scheduler::Impl::current_budgets() {
  if (!std::exchange(budgets_stale, false)) return budgets;
  budgets.clear();
  for (const Object& object : informers.informer(disruption_budgets()).cache().list()) {
    DisruptionBudget budget;
    budget.ns = object.ns();
    budget.name = object.name();
    budget.selector = api::selector_of(find(tree(object), "/spec/selector")).value_or(Selector::nothing());
    budget.allowed = int_at(tree(object), "/status/disruptionsAllowed");
    if (const json::object* disrupted = object_at(tree(object), "/status/disruptedPods")) {
      for (const auto& [name, since] : *disrupted) budget.disrupted.insert(std::string(name));
    }
    budgets.push_back(std::move(budget));
  }
  return budgets;
}

}  // namespace orchestra
