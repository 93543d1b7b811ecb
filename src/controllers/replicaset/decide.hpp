#pragma once
// ReplicaSet: keeps `spec.replicas` pods of one template. Pure; see decide.cpp.
#include <memory>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
inline constexpr std::int64_t kReplicaSetBurst = 500;  ///< pods created or deleted by one decision
std::shared_ptr<const Reconciler> make_replica_set_reconciler();
/// ReplicationController: the same rules, another selector.
std::shared_ptr<const Reconciler> make_replication_controller_reconciler();
}  // namespace orchestra::controllers
