#pragma once
// What upstream's strategies do to an object before it is created (PrepareForCreate).
#include "api/tree.hpp"

namespace orchestra::api {
void prepare_pod(json::object& object);               ///< status.phase Pending, qosClass
void prepare_namespace_create(json::object& object);  ///< spec.finalizers, status.phase Active
void prepare_job(json::object& object);               ///< selector and labels from the uid
/// Guaranteed, Burstable or BestEffort.
const char* pod_qos_class(const json::object& pod);
}  // namespace orchestra::api
