// In-place resize of pods (KEP-1287): what a write through /resize may change, and that it stays within limit
// ranges. The quota is charged behind all other checks (admit_validating_subresource).
#include "api/meta.hpp"
#include "api/pod_resize.hpp"
#include "api/status.hpp"
#include "api/walker.hpp"
#include "apiserver/admission/plugins.hpp"

namespace orchestra::apiserver {

Result<void> admit_resize(Admission& admission) {
  if (!resizes(admission) || !is_type(admission, "", "pods")) return {};
  const WriteInput& input = admission.input;
  api::FieldErrors errors = api::validate_object(*input.type, input.work_schema(), *admission.object);
  api::validate_pod_resize(admission.object->get_object(), admission.old->get_object(), errors);
  if (!errors.empty()) return api::invalid(input.type->group, input.type->kind, input.name(), errors);
  return admit_limit_ranges(admission);
}

}  // namespace orchestra::apiserver
