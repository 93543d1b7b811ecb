#pragma once
// Objects of a live cluster for simulations: which, and what of them.
#include "base/json.hpp"
#include "sim/command.hpp"

namespace orchestra::sim {

struct ImportedResource {
  const char* api_version;
  const char* resource;
};
/// Besides nodes, in the order in which they have to be made.
inline constexpr ImportedResource kImported[] = {{"v1", "namespaces"},
                                                 {"v1", "serviceaccounts"},
                                                 {"scheduling.k8s.io/v1", "priorityclasses"},
                                                 {"storage.k8s.io/v1", "storageclasses"},
                                                 {"v1", "persistentvolumeclaims"},
                                                 {"v1", "services"},
                                                 {"policy/v1", "poddisruptionbudgets"},
                                                 {"apps/v1", "deployments"},
                                                 {"apps/v1", "statefulsets"},
                                                 {"apps/v1", "daemonsets"},
                                                 {"apps/v1", "replicasets"},
                                                 {"batch/v1", "cronjobs"},
                                                 {"batch/v1", "jobs"},
                                                 {"v1", "pods"}};

SimNodes shape_of(const Object& node);
/// By a controller or at the start: a simulated cluster makes its own.
bool made_by_the_cluster(const Object& object);
/// Without UID, status and what else the server added.
json::value without_life(const Object& object);

}  // namespace orchestra::sim
