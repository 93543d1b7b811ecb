#pragma once
// What pods look like to the controllers that count them.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "controllers/common/objects.hpp"
#include "orchestra/env.hpp"

namespace orchestra::controllers {

/// Not Succeeded, not Failed, not being deleted: it stands for one replica.
bool pod_active(const Object& pod);
bool pod_terminal(const Object& pod);  ///< Succeeded or Failed
bool pod_ready(const Object& pod);
/// Ready for at least `min_ready`; `due` is lowered to the time at which it will be.
bool pod_available(const Object& pod, std::int64_t min_ready_seconds, Now now, std::optional<Duration>& due);

/// Whether a pod is over, or is to end, and was not so before.
bool pod_came_to_end(const Object& old, const Object& now);

/// A new pod from a template (`spec.template`), controlled by `owner`, named by generateName.
Object pod_from_template(const json::value& pod_template, const Object& owner);

/// Pods in the order in which a controller should give them up (controller_utils.go, ActivePodsWithRanks):
/// unassigned, Pending < Unknown < Running, not ready, lower pod-deletion-cost, more siblings on the node,
/// ready for a shorter time, more restarts, younger. A total order; UIDs break ties.
std::vector<Object> deletion_order(std::vector<Object> pods, const std::vector<Object>& siblings, Now now);

}  // namespace orchestra::controllers
