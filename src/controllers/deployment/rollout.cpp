// One step of a rollout (kubernetes/pkg/controller/deployment/rolling.go and recreate.go).
//
// At every instant: pods <= replicas + maxSurge, available pods >= replicas - maxUnavailable. Either the new
// set grows or the old ones shrink in one decision, never both, because the second needs counts that the
// first has changed. Stricter than upstream in one thing: counts are believed only when the set has acted on
// its present size (observedGeneration); else a rollback in the middle of a rollout could count pods that are
// on their way out as available, or as gone while they still run.
#include <algorithm>

#include "controllers/common/pods.hpp"
#include "controllers/deployment/model.hpp"

namespace orchestra::controllers {

namespace {

bool resize_new_set(DeploymentModel& model) {
  if (!model.new_set) return false;
  ReplicaSetModel& set = *model.new_set;
  if (set.replicas > model.replicas) return model.scale(set, model.replicas);
  return model.scale(set, set.replicas + std::min(model.growth_room(), model.replicas - set.replicas));
}

// Old pods that are not available serve nobody: they go first, and free room for the surge.
std::int64_t shrink_unhealthy(DeploymentModel& model, std::int64_t budget) {
  std::int64_t freed = 0;
  for (ReplicaSetModel& set : model.old_sets) {
    const std::int64_t unhealthy = set.replicas - set.usable();
    if (set.replicas == 0 || unhealthy <= 0) continue;
    const std::int64_t take = std::min(budget - freed, unhealthy);
    if (take <= 0) break;
    model.scale(set, set.replicas - take);
    freed += take;
  }
  return freed;
}

std::int64_t shrink_available(DeploymentModel& model) {
  const std::int64_t budget = model.total_usable() - model.min_available();
  std::int64_t freed = 0;
  for (ReplicaSetModel& set : model.old_sets) {
    if (freed >= budget) break;
    if (set.replicas == 0) continue;
    const std::int64_t take = std::min(set.replicas, budget - freed);
    model.scale(set, set.replicas - take);
    freed += take;
  }
  return freed;
}

bool shrink_old_sets(DeploymentModel& model) {
  if (model.old_replicas() == 0) return false;
  bool settled = true;
  model.each_set([&](const ReplicaSetModel& set) { settled = settled && set.settled(); });
  if (!settled) return false;
  const std::int64_t new_unavailable = model.new_set ? model.new_set->replicas - model.new_set->usable() : 0;
  const std::int64_t budget = model.total_replicas() - model.min_available() - new_unavailable;
  if (budget <= 0) return false;
  const std::int64_t unhealthy = shrink_unhealthy(model, budget);
  return unhealthy + shrink_available(model) > 0;
}

// Pods of old sets that still run; terminating ones count until they are gone.
bool old_pods_running(const DeploymentModel& model, const View& view) {
  for (const ReplicaSetModel& set : model.old_sets) {
    for (const Object& pod : view.find(pods(), ObjectCache::kOwner, set.uid)) {
      if (!pod_terminal(pod)) return true;
    }
  }
  return false;
}

}  // namespace

void roll(DeploymentModel& model) {
  if (resize_new_set(model)) {
    model.actions.reason = "rollout: the new set has a new size";
  } else if (shrink_old_sets(model)) {
    model.actions.reason = "rollout: old sets shrink";
  } else if (complete(model, model.status)) {
    prune_history(model);
  }
}

void recreate(DeploymentModel& model, const View& view) {
  bool shrunk = false;
  for (ReplicaSetModel& set : model.old_sets) {
    if (set.replicas > 0) shrunk |= model.scale(set, 0);
  }
  if (shrunk) {
    model.actions.reason = "recreate: old sets end first";
    return;
  }
  if (old_pods_running(model, view)) {
    model.actions.reason = "recreate: waits until old pods are gone";
    return;
  }
  if (!sync_new_set(model, view, true)) return;
  if (model.new_set) model.scale(*model.new_set, model.replicas);
  if (complete(model, model.status)) prune_history(model);
}

}  // namespace orchestra::controllers
