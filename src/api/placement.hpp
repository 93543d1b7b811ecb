#pragma once
// Which nodes a pod accepts: tolerations, node selector and required node affinity, for those who ask about
// one node: controllers that count nodes themselves (DaemonSet) and a node that is given a pod. The scheduler
// decides on its own tables.
#include "api/object_tree.hpp"

namespace orchestra::api {

/// core/v1 Toleration.ToleratesTaint.
ORC_API bool tolerates(const json::value& toleration, const json::value& taint);
ORC_API bool tolerated(const json::array* tolerations, const json::value& taint);
/// One nodeSelectorTerm: all its matchExpressions (labels) and matchFields (metadata.name) hold. An empty
/// term matches nothing.
ORC_API bool matches_node_term(const json::value& term, const Object& node);
/// spec.nodeSelector and spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.
ORC_API bool accepts_node(const json::value& pod_spec, const Object& node);

}  // namespace orchestra::api
