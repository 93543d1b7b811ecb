#pragma once
// In-place resize of pods (KEP-1287): what a write through /resize may change. Implemented in
// validate_pod.cpp.
#include "api/field_error.hpp"

namespace orchestra::api {

/// Upstream's ValidatePodResize. Both are valid pods; the new one differs in containers only.
ORC_API void validate_pod_resize(const json::object& pod, const json::object& old, FieldErrors& errors);

}  // namespace orchestra::api
