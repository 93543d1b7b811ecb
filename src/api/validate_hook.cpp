// Which validation a message type has wherever it occurs.
#include "api/type_hooks.hpp"
#include "api/validate_hooks.hpp"

namespace orchestra::api {

void run_validate_hook(TypeHook hook, const json::object& object, const FieldPath& path,
                       FieldErrors& errors) {
  switch (hook) {
    case TypeHook::label_selector:
      return validate_label_selector(object, path, errors);
    case TypeHook::pod_spec:
      return validate_pod_spec(object, path, errors);
    case TypeHook::pod_template:
      return validate_pod_template(object, path, errors);
    case TypeHook::service_spec:
      return validate_service_spec(object, path, errors);
    default:
      return;
  }
}

}  // namespace orchestra::api
