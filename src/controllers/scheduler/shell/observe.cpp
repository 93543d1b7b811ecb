// Events in: what changes in the cluster changes the snapshot, and wakes those whom it may help.
#include <algorithm>

#include "controllers/scheduler/shell/impl.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

namespace {
constexpr std::size_t kRetoldMax = 1000;  // waiting pods that a new node gives another look
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

void Scheduler::Impl::forget_waiting(const std::string& uid) {
  queue->remove(uid);
  told.erase(uid);
  in_flight.erase(uid);
  gated.erase(uid);
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
           *find(tree(old), "/spec") != *find(tree(pod), "/spec"));
      if (moved || altered) {
        snapshot.set_pod(PodShape::from_object(pod), node);
        queue->changed(Hint::topology | Hint::plugin |
                       (old && !moved ? std::uint32_t{Hint::room} : std::uint32_t{0}));
      }
    } else if (wants_node(pod) && has_gates(pod)) {
      queue->remove(pod.uid());
      gate = gated.insert(pod.uid()).second;
    } else if (wants_node(pod)) {
      gated.erase(pod.uid());
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
