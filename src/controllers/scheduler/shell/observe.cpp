// Events in: what changes in the cluster changes the snapshot, and wakes those whom it may help.
#include <algorithm>

#include "controllers/scheduler/shell/impl.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

namespace {
constexpr std::size_t kStrangersMax = 10'000;  // beyond these nobody is told
constexpr std::size_t kRetoldMax = 1000;       // waiting pods that a new node gives another look

// Whether its node says another thing of the containers' resources than before: a pod that is resized.
bool resized(const Object& old, const Object& now) {
  for (const char* list : {"/status/containerStatuses", "/status/initContainerStatuses"}) {
    const json::array* before = array_at(tree(old), list);
    const json::array* after = array_at(tree(now), list);
    const std::size_t count = after == nullptr ? 0 : after->size();
    for (std::size_t i = 0; i < count; ++i) {
      const json::value* same = before != nullptr && i < before->size() ? &(*before)[i] : nullptr;
      for (const char* member : {"/resources", "/allocatedResources"}) {
        const json::value* is = find((*after)[i], member);
        const json::value* was = same == nullptr ? nullptr : find(*same, member);
        if ((is == nullptr) != (was == nullptr) || (is != nullptr && *is != *was)) return true;
      }
    }
  }
  const json::object* was = find_condition(tree(old), "PodResizePending");
  const json::object* is = find_condition(tree(now), "PodResizePending");
  return (was == nullptr) != (is == nullptr) || (is != nullptr && *is != *was);
}
}  // namespace

void Scheduler::Impl::watch(const ResourceRef& resource, Handler handler) {
  informers.informer(resource).on_event(
      [weak = weak_from_this(), handler](const Object& old, const Object& now) {
        if (const auto self = weak.lock()) ((*self).*handler)(old, now);
      });
}

void Scheduler::Impl::node_changed(const Object& old, const Object& now_object) {
  {
    std::lock_guard lock(mutex);
    const std::size_t before = snapshot.node_count();
    if (!now_object) {
      snapshot.remove_node(old.name());
      queue->changed(Hint::topology);
    } else {
      NodeShape shape = NodeShape::from_object(now_object);
      shape.shares_ports = shape.shares_ports || options.process_level;
      if (snapshot.set_node(shape)) queue->changed(Hint::all);
    }
    // Their number is part of what waiting pods are told ("0/2 nodes ...").
    if (snapshot.node_count() != before && queue->waiting() <= kRetoldMax) queue->wake_all(now());
  }
  pump();
}

void Scheduler::Impl::namespace_changed(const Object& old, const Object& now_object) {
  {
    std::lock_guard lock(mutex);
    const Object& it = now_object ? now_object : old;
    if (snapshot.set_namespace(it.name(), now_object ? it.labels() : LabelMap()))
      queue->changed(Hint::topology);
  }
  pump();
}

void Scheduler::Impl::volume_changed(const Object& old, const Object& now_object) {
  {
    std::lock_guard lock(mutex);
    const bool changed = now_object ? snapshot.set_volume(VolumeShape::from_object(now_object))
                                    : snapshot.remove_volume(old.name());
    if (changed) queue->changed(Hint::volume);
  }
  pump();
}

void Scheduler::Impl::claim_changed(const Object& old, const Object& now_object) {
  {
    std::lock_guard lock(mutex);
    const bool changed = now_object ? snapshot.set_claim(ClaimShape::from_object(now_object))
                                    : snapshot.remove_claim(old.ns(), old.name());
    if (changed) queue->changed(Hint::volume);
  }
  check_volumes();
  pump();
}

void Scheduler::Impl::class_changed(const Object& old, const Object& now_object) {
  {
    std::lock_guard lock(mutex);
    const bool changed = now_object ? snapshot.set_storage_class(StorageClassShape::from_object(now_object))
                                    : snapshot.remove_storage_class(old.name());
    if (changed) queue->changed(Hint::volume);
  }
  pump();
}

void Scheduler::Impl::csi_node_changed(const Object& old, const Object& now_object) {
  {
    std::lock_guard lock(mutex);
    std::map<std::string, std::int64_t> limits;
    if (now_object) limits = csi_limits_of(now_object);
    if (snapshot.set_volume_limits(now_object ? now_object.name() : old.name(), limits))
      queue->changed(Hint::volume);
  }
  pump();
}

void Scheduler::Impl::csi_driver_changed(const Object& old, const Object& now_object) {
  {
    std::lock_guard lock(mutex);
    const bool tells = now_object && bool_at(tree(now_object), "/spec/storageCapacity");
    if (snapshot.set_driver(now_object ? now_object.name() : old.name(), tells)) queue->changed(Hint::volume);
  }
  pump();
}

void Scheduler::Impl::capacity_changed(const Object& old, const Object& now_object) {
  {
    std::lock_guard lock(mutex);
    const bool changed = now_object ? snapshot.set_capacity(CapacityShape::from_object(now_object))
                                    : snapshot.remove_capacity(old.ns(), old.name());
    if (changed) queue->changed(Hint::volume);
  }
  pump();
}

void Scheduler::Impl::owner_changed(const Object& old, const Object& now_object) {
  if (old && now_object &&
      same_meaning(find(tree(old), "/spec/selector"), find(tree(now_object), "/spec/selector"))) {
    return;
  }
  std::lock_guard lock(mutex);
  selectors.clear();
}

void Scheduler::Impl::budget_changed(const Object&, const Object&) {
  std::lock_guard lock(mutex);
  budgets_stale = true;
}

const SchedulingProfile* Scheduler::Impl::profile_of(const Object& pod) const {
  const std::string name = string_at(tree(pod), "/spec/schedulerName");
  if (name.empty()) return &profiles.front();
  for (const SchedulingProfile& profile : profiles) {
    if (profile.name == name) return &profile;
  }
  return nullptr;
}

bool Scheduler::Impl::has_gates(const Object& pod) {
  const json::array* gates = array_at(tree(pod), "/spec/schedulingGates");
  return gates != nullptr && !gates->empty();
}

bool Scheduler::Impl::wants_node(const Object& pod) const {
  return string_at(tree(pod), "/spec/nodeName").empty() && !pod.deleting() && !pod_terminal(pod) &&
         profile_of(pod) != nullptr;
}

void Scheduler::Impl::note_stranger(const std::string& uid, const Object& pod) {
  const bool waits = pod && profile_of(pod) == nullptr && string_at(tree(pod), "/spec/nodeName").empty() &&
                     !pod.deleting() && !pod_terminal(pod) && !has_gates(pod) &&
                     find_condition(tree(pod), "PodScheduled") == nullptr;
  const auto known = strangers.find(uid);
  if (known != strangers.end() && !waits) {
    stranger_due.erase({known->second.first, uid});
    strangers.erase(known);
  } else if (known == strangers.end() && waits && strangers.size() < kStrangersMax) {
    const std::int64_t until = now() + options.unserved_after.count();
    strangers.emplace(uid, std::pair(until, pod));
    stranger_due.emplace(until, uid);
  }
}

void Scheduler::Impl::tell_strangers() {
  std::vector<Object> silent;
  {
    std::lock_guard lock(mutex);
    while (!stopped && !stranger_due.empty() && stranger_due.begin()->first <= now()) {
      auto& [until, pod] = strangers.at(stranger_due.begin()->second);
      silent.push_back(std::exchange(pod, {}));
      until = 0;  // said once
      stranger_due.erase(stranger_due.begin());
    }
  }
  for (const Object& pod : silent) {
    events.record(options.name, pod, "Warning", "FailedScheduling",
                  "no scheduler of this name is running, or it says nothing: " +
                      string_at(tree(pod), "/spec/schedulerName"));
  }
}

void Scheduler::Impl::forget_waiting(const std::string& uid) {
  queue->remove(uid);
  told.erase(uid);
  in_flight.erase(uid);
  gated.erase(uid);
  if (measures) measures->pod_left(uid);
  awaiting_permit.erase(uid);
  awaiting_volumes.erase(uid);
  snapshot.remove_nomination(uid);
}

void Scheduler::Impl::pod_changed(const Object& old, const Object& now_object) {
  bool gate = false;
  {
    std::lock_guard lock(mutex);
    const Object& pod = now_object ? now_object : old;
    const std::string node = string_at(tree(pod), "/spec/nodeName");
    note_stranger(pod.uid(), now_object);
    if (!now_object || pod.deleting()) leaving.erase(pod.uid());
    if (!now_object || pod_terminal(pod)) {
      forget_waiting(pod.uid());
      if (!snapshot.remove_pod(pod.uid()).empty())
        queue->changed(Hint::room | Hint::topology | Hint::volume | Hint::plugin);
    } else if (!node.empty()) {
      forget_waiting(pod.uid());
      const bool moved = snapshot.node_of(pod.uid()) != node;
      const bool altered =
          !old || old.labels() != pod.labels() || old.deleting() != pod.deleting() ||
          string_at(tree(old), "/status/startTime") != string_at(tree(pod), "/status/startTime") ||
          (!string_at(tree(old), "/spec/nodeName").empty() &&
           *find(tree(old), "/spec") != *find(tree(pod), "/spec")) ||
          (resized(old, pod) && PodShape::from_object(old).requests != PodShape::from_object(pod).requests);
      if (moved || altered) {
        snapshot.set_pod(PodShape::from_object(pod), node);
        queue->changed(Hint::topology | Hint::plugin |
                       (old && !moved ? std::uint32_t{Hint::room} : std::uint32_t{0}));
      }
    } else if (wants_node(pod) && has_gates(pod)) {
      queue->remove(pod.uid());
      gate = gated.insert(pod.uid()).second;
      if (measures) measures->pod_refused(pod.uid(), profile_of(pod)->name, {"SchedulingGates"});
    } else if (wants_node(pod)) {
      if (gated.erase(pod.uid()) != 0 && measures) measures->pod_left(pod.uid());
      const bool same = old && old.labels() == pod.labels() &&
                        same_meaning(find(tree(old), "/spec"), find(tree(pod), "/spec"));
      if (!in_flight.contains(pod.uid()) && !(same && queue->contains(pod.uid())))
        queue->add(shape_of(pod), now());
      const std::string promised = string_at(tree(pod), "/status/nominatedNodeName");
      if (!old && !promised.empty()) snapshot.nominate(shape_of(pod), promised);
    } else {
      forget_waiting(pod.uid());
    }
  }
  if (gate) {
    tell(now_object, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates", {}, false);
  }
  pump();
}

}  // namespace orchestra
