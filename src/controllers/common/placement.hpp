#pragma once
// Which nodes a pod template accepts: tolerations, node selector and required node affinity, for controllers
// that count nodes themselves (DaemonSet). The scheduler decides on its own tables.
#include "controllers/common/objects.hpp"

namespace orchestra::controllers {

/// core/v1 Toleration.ToleratesTaint.
bool tolerates(const json::value& toleration, const json::value& taint);
bool tolerated(const json::array* tolerations, const json::value& taint);
/// One nodeSelectorTerm: all its matchExpressions (labels) and matchFields (metadata.name) hold. An empty
/// term matches nothing.
bool matches_node_term(const json::value& term, const Object& node);
/// spec.nodeSelector and spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.
bool accepts_node(const json::value& pod_spec, const Object& node);

}  // namespace orchestra::controllers
