// VolumeBinding's part of a binding: volumes are promised, bound, and waited for.
#include <algorithm>

#include "controllers/scheduler/shell/impl.hpp"

namespace orchestra {

using namespace controllers;
using sched::Hint;

void Scheduler::Impl::assume_volumes(const PodShape& pod, const std::vector<VolumeChoice>& choices) {
  for (const VolumeChoice& choice : choices) {
    const auto found = snapshot.impl().volumes.find(choice.volume);
    if (found == snapshot.impl().volumes.end()) continue;
    VolumeShape taken = found->second;
    taken.claim = pod.ns + "/" + choice.claim;
    snapshot.set_volume(taken);
  }
}

void Scheduler::Impl::forget_volumes(const std::vector<VolumeChoice>& choices, const std::string&) {
  for (const VolumeChoice& choice : choices) {
    const Object volume = informers.get(persistent_volumes(), {}, choice.volume);
    if (volume) snapshot.set_volume(VolumeShape::from_object(volume));
  }
}

void Scheduler::Impl::bind_volumes(Placed placed) {
  const std::string uid = placed.pod.uid();
  const Placed copy = placed;
  {
    std::lock_guard lock(mutex);
    placed.deadline_ns = now() + options.volume_deadline.count();
    awaiting_volumes.insert_or_assign(uid, std::move(placed));
  }
  WriteOptions write;
  write.fence = options.fence;
  for (const VolumeChoice& choice : copy.volumes) {
    const Object claim = informers.get(persistent_volume_claims(), copy.pod.ns(), choice.claim);
    if (!claim) continue;
    const auto done = [weak = weak_from_this(), uid, choice](const Result<Object>& result) {
      const auto self = weak.lock();
      if (self && !result) self->volume_failed(uid, choice, result.error());
    };
    if (choice.volume.empty()) {
      const json::object body{
          {"metadata",
           {{"uid", claim.uid()}, {"annotations", {{"volume.kubernetes.io/selected-node", copy.node}}}}}};
      client
          .patch("v1", "persistentvolumeclaims", claim.name(), claim.ns(), PatchType::merge, to_json(body),
                 write)
          .on_ready(done);
    } else {
      const Object volume = informers.get(persistent_volumes(), {}, choice.volume);
      if (!volume) continue;
      const json::object body{{"metadata", {{"resourceVersion", volume.resource_version()}}},
                              {"spec",
                               {{"claimRef",
                                 {{"apiVersion", "v1"},
                                  {"kind", "PersistentVolumeClaim"},
                                  {"namespace", claim.ns()},
                                  {"name", claim.name()},
                                  {"uid", claim.uid()}}}}}};
      client.patch("v1", "persistentvolumes", volume.name(), {}, PatchType::merge, to_json(body), write)
          .on_ready(done);
    }
  }
  check_volumes();
}

void Scheduler::Impl::volume_failed(const std::string& uid, const VolumeChoice& choice, const Error& error) {
  std::optional<Placed> placed;
  {
    std::lock_guard lock(mutex);
    const auto found = awaiting_volumes.find(uid);
    if (found == awaiting_volumes.end()) return;
    placed = std::move(found->second);
    awaiting_volumes.erase(found);
  }
  give_up(*placed, "binding volumes: claim " + choice.claim + ": " + error.message());
  pump();
}

void Scheduler::Impl::check_volumes() {
  std::vector<Placed> ready;
  std::vector<Placed> late;
  {
    std::lock_guard lock(mutex);
    for (auto it = awaiting_volumes.begin(); it != awaiting_volumes.end();) {
      const Placed& placed = it->second;
      const bool bound =
          std::all_of(placed.shape.claims.begin(), placed.shape.claims.end(), [&](const std::string& claim) {
            const auto found = snapshot.impl().claims.find(placed.shape.ns + "/" + claim);
            return found != snapshot.impl().claims.end() && found->second.bound;
          });
      const bool over = placed.deadline_ns <= now();
      if (!bound && !over) {
        ++it;
        continue;
      }
      (bound ? ready : late).push_back(std::move(it->second));
      it = awaiting_volumes.erase(it);
    }
  }
  for (const auto& [list, status] : {std::pair(&ready, "Success"), std::pair(&late, "Error")}) {
    for (const Placed& placed : *list)
      measure_point(placed.pod, "PreBind", status, placed.deadline_ns - options.volume_deadline.count());
  }
  for (const Placed& placed : late) give_up(placed, "binding volumes: timed out waiting for the condition");
  if (ready.empty()) return;
  if (options.plugins.empty()) return bind(std::move(ready));
  // Plugins may take their time: not on an event thread.
  auto shared = std::make_shared<std::vector<Placed>>(std::move(ready));
  (void)engine.post_blocking([weak = weak_from_this(), shared] {
    const auto self = weak.lock();
    if (!self) return;
    std::vector<Placed> bindable;
    for (Placed& placed : *shared) {
      if (self->pre_bind(placed)) bindable.push_back(std::move(placed));
    }
    self->bind(std::move(bindable));
  });
}

}  // namespace orchestra
