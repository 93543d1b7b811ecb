// Gangs: pods of one PodGroup are decided on together, all or nothing (orchestra/gang.hpp).
#include <algorithm>
#include <limits>

#include "controllers/scheduler/shell/impl.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

Scheduler::Impl::GroupRef Scheduler::Impl::group_of(const Object& pod) {
  if (const json::value* workload = find(tree(pod), "/spec/workloadRef")) {
    return {{"scheduling.k8s.io/v1alpha1", "workloads"},
            string_at(*workload, "/name"),
            string_at(*workload, "/podGroup"),
            string_at(*workload, "/podGroupReplicaKey")};
  }
  const auto label = pod.labels().find("scheduling.x-k8s.io/pod-group");
  if (label != pod.labels().end() && !label->second.empty())
    return {{"scheduling.x-k8s.io/v1alpha1", "podgroups"}, label->second, {}, {}};
  const auto named = pod.annotations().find("scheduling.k8s.io/group-name");
  if (named != pod.annotations().end() && !named->second.empty())
    return {{"scheduling.volcano.sh/v1beta1", "podgroups"}, named->second, {}, {}};
  return {};
}

Object Scheduler::Impl::pod_group(const std::string& ns, const GroupRef& group) {
  if (groups.cache(group.resource) == nullptr) {
    groups.informer(group.resource).on_event([weak = weak_from_this()](const Object&, const Object&) {
      const auto self = weak.lock();
      if (!self) return;
      // Posted: the informer tells with its own lock held, and it was made with the mutex held.
      self->engine.post([weak] {
        const auto still = weak.lock();
        if (!still) return;
        {
          std::lock_guard lock(still->mutex);
          still->queue->changed(Hint::all);
          still->queue->wake_all(still->now());
        }
        still->pump();
      });
    });
  }
  return groups.get(group.resource, ns, group.name);
}

Scheduler::Impl::GroupRules Scheduler::Impl::rules_of(const std::string& ns, const GroupRef& group) {
  GroupRules rules;
  const bool workload = group.resource.resource == "workloads";
  const Object record = pod_group(ns, group);
  if (!record) {
    // Upstream's words (plugins/gangscheduling), its grammar too.
    rules.missing = workload
                        ? "waiting for pods's workload \"" + group.name + "\" to appear in scheduling queue"
                        : "the PodGroup " + ns + "/" + group.name + " of the pod is not there";
    return rules;
  }
  rules.id = record.uid() + "/" + group.part + "/" + group.replica;
  if (!workload) {
    rules.minimum =
        static_cast<std::size_t>(std::max<std::int64_t>(1, int_at(tree(record), "/spec/minMember", 1)));
    return rules;
  }
  if (const json::array* parts = array_at(tree(record), "/spec/podGroups")) {
    for (const json::value& part : *parts) {
      if (string_at(part, "/name") != group.part) continue;
      if (const json::value* gang = find(part, "/policy/gang"))
        rules.minimum = static_cast<std::size_t>(std::max<std::int64_t>(1, int_at(*gang, "/minCount", 1)));
      return rules;
    }
  }
  rules.missing = "pod group \"" + group.part + "\" doesn't exist for a workload \"" + group.name + "\"";
  return rules;
}

bool Scheduler::Impl::decide_gang(const Object& object, const PodShape& pod, const PlaceOptions& how,
                                  Outcome& outcome, SchedulingDecision& decision) {
  const GroupRef group = group_of(object);
  if (group.name.empty()) return false;
  const GroupRules rules = rules_of(object.ns(), group);
  if (rules.missing.empty() && !rules.minimum) return false;  // a group of the policy "basic"
  Unschedulable why;
  why.nodes = snapshot.node_count();
  const auto refuse_all = [&](std::string message) {
    ++stats.unschedulable;
    why.for_all = message;
    decision.decision = {why};
    std::optional<std::string> promised;
    if (const auto own = outcome.promised_nodes.find(pod.uid); own != outcome.promised_nodes.end())
      promised = own->second;
    park_and_tell(object, pod, std::move(message), Hint::all, std::move(promised), outcome);
  };
  if (asks_extenders(object)) {
    refuse_all(
        "an extender has to be asked about the pod, and they are not asked about members of a PodGroup");
    return true;
  }
  if (!rules.missing.empty()) {
    refuse_all(rules.missing);
    return true;
  }
  if (const auto failed = outcome.failed_gangs.find(rules.id); failed != outcome.failed_gangs.end()) {
    refuse_all(failed->second);
    return true;
  }
  const std::size_t minimum = *rules.minimum;
  std::size_t bound = 0;
  std::vector<PodShape> waiting;
  std::map<std::string, Object> members;
  for (const Object& other : informers.informer(pods()).cache().list(object.ns())) {
    if (!(group_of(other) == group) || pod_terminal(other) || other.deleting()) continue;
    if (!string_at(tree(other), "/spec/nodeName").empty() || in_flight.contains(other.uid())) {
      ++bound;
    } else if (wants_node(other) && !has_gates(other) && queue->contains(other.uid())) {
      waiting.push_back(shape_of(other));
      members[other.uid()] = other;
    }
  }
  if (bound + waiting.size() < minimum) {
    refuse_all("the group " + group.name + " has " + std::to_string(bound + waiting.size()) + " of the " +
               std::to_string(minimum) + " pods that it needs");
    return true;
  }
  Gang gang = place_gang(snapshot, waiting, bound, minimum, how);
  if (!gang.placed) {
    outcome.failed_gangs[rules.id] = gang.message;
    make_room_for_gang(object, waiting, bound, minimum, how, outcome, decision);
    refuse_all(std::move(gang.message));
    return true;
  }
  std::map<std::string, const PodShape*> shapes;
  for (const PodShape& each : waiting) shapes[each.uid] = &each;
  bool own = false;
  for (auto& [uid, at] : gang.placements) {
    if (uid == pod.uid) {
      own = true;
      decision.decision = {at};
    } else {
      queue->hold(uid);
    }
    in_flight[uid] = at.node;
    assume_volumes(*shapes.at(uid), at.volumes);
    outcome.placed.push_back(
        {members.at(uid), *shapes.at(uid), at.node, at.volumes, now(), 0, queue->history(uid)});
  }
  if (!own) refuse_all("the group " + group.name + " has enough pods, and there is no room for this one");
  return true;
}

void Scheduler::Impl::make_room_for_gang(const Object& object, const std::vector<PodShape>& waiting,
                                         std::size_t bound, std::size_t minimum, const PlaceOptions& how,
                                         Outcome& outcome, SchedulingDecision& decision) {
  if (how.profile->disabled_filters.contains("DefaultPreemption")) return;
  // The usual case is that nobody is less important: then no copy is made.
  std::int64_t highest = std::numeric_limits<std::int64_t>::min();
  for (const PodShape& pod : waiting) highest = std::max(highest, pod.priority);
  const auto& records = snapshot.impl().records;
  if (std::none_of(records.begin(), records.end(), [&](const sched::Record& record) {
        return record.users > 0 && record.rules.priority < highest;
      })) {
    return;
  }
  const GangPreemption plan = preempt_gang(snapshot, waiting, bound, minimum, current_budgets(), how);
  if (!plan.helps) return;
  ++stats.preemptions;
  std::map<std::string, const PodShape*> shapes;
  for (const PodShape& each : waiting) shapes[each.uid] = &each;
  for (const auto& [uid, node] : plan.nodes) {
    promise(*shapes.at(uid), node);
    outcome.promised_nodes[uid] = node;
    decision.preempted_on = node;
  }
  make_way(plan.victims, object, outcome);
}

}  // namespace orchestra
