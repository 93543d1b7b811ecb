#pragma once
// ControllerRevisions: the templates that a StatefulSet or DaemonSet has had
// (kubernetes/pkg/controller/history). `kubectl rollout history` and `undo` read them.
#include <optional>
#include <string>
#include <vector>

#include "controllers/common/objects.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

struct History {
  std::vector<Object> revisions;  ///< of this owner, oldest first
  Object update;                  ///< of the present template; may be about to be created
  bool changed = false;           ///< writes were ordered that the next decision must have seen
};

/// The revisions that `owner` controls; a revision for its present template is found by equal data, moved to
/// the top or created. Adopts orphans that match `selector`. The name is <owner>-<hash>; a name taken by
/// other data raises `collisions` and nothing is created.
History sync_history(const Object& owner, const LabelSelector& selector, const View& view,
                     const char* hash_label, std::int64_t& collisions, Actions& actions);
/// Removes the oldest revisions beyond `limit` that are not in `live` (names).
void prune_revisions(const History& history, const std::vector<std::string>& live, std::int64_t limit,
                     Actions& actions);
/// The pod template of a revision.
json::value template_of(const Object& revision);

}  // namespace orchestra::controllers
