#pragma once
// What upstream's strategies do to an object before it is created or updated (PrepareForCreate, -Update).
#include "api/tree.hpp"

namespace orchestra::api {
void prepare_pod(json::object& object);               ///< status.phase Pending, qosClass
void prepare_namespace_create(json::object& object);  ///< spec.finalizers, status.phase Active
/// spec.finalizers change only through /finalize.
void prepare_namespace_update(json::object& object, const json::object& old);
void prepare_lease_create(json::object& object);  ///< without the fields of coordinated leader election
void prepare_lease_update(json::object& object, const json::object& old);
/// Who asks is told by the server, what was answered by /approval and /status.
void prepare_csr_create(json::object& object);
void prepare_csr_update(json::object& object, const json::object& old);  ///< the spec never changes
void prepare_job(json::object& object);                                  ///< selector and labels from the uid
/// dataSource and dataSourceRef say the same; a dataSource of another kind than a claim or a snapshot goes.
void prepare_claim_create(json::object& object);
void prepare_claim_update(json::object& object, const json::object& old);
/// Guaranteed, Burstable or BestEffort.
const char* pod_qos_class(const json::object& pod);
}  // namespace orchestra::api
