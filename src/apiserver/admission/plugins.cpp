// The order of the plug-ins: see plugins.hpp.
#include "apiserver/admission/plugins.hpp"

#include "api/meta.hpp"
#include "api/status.hpp"

namespace orchestra::apiserver {

Error deny(const Admission& admission, const std::string& why) {
  const json::value& object = admission.object != nullptr ? *admission.object : *admission.old;
  return api::forbidden(*admission.input.type, std::string(api::meta_string(object, "name")), why);
}

void note(const Admission& admission, const std::string& key, std::string value) {
  if (const auto& notes = admission.input.call->notes) notes->admission[key] = std::move(value);
}

void show_managers(Admission& admission) {
  if (admission.managers == nullptr) return;
  json::value& object = *admission.object;
  api::metadata(object)["managedFields"] = api::print_managers(*admission.managers, object.storage());
  admission.managers = nullptr;
}

Result<void> admit_mutating(Admission& admission) {
  if (admission.input.type->virtual_only) return {};
  ORC_TRY(admit_limit_ranges(admission));
  ORC_TRY(admit_service_account(admission));
  ORC_TRY(admit_node_restriction(admission));
  ORC_TRY(admit_node_taint(admission));
  ORC_TRY(admit_default_class(admission));
  ORC_TRY(admit_runtime_class(admission));
  ORC_TRY(admit_topology_labels(admission));
  return mutate_by_webhooks(admission);
}

Result<void> admit_subresource(Admission& admission) {
  ORC_TRY(admit_resize(admission));
  ORC_TRY(admit_node_restriction(admission));
  ORC_TRY(mutate_by_webhooks(admission));
  return admit_certificates(admission);
}

Result<void> admit_validating_subresource(Admission& admission) {
  ORC_TRY(admit_policies(admission));
  ORC_TRY(judge_by_webhooks(admission));
  return resizes(admission) ? admit_quota(admission) : Result<void>();
}

Result<void> admit_document(Admission& admission) {
  admission.document = true;
  ORC_TRY(admit_topology_labels(admission));
  ORC_TRY(mutate_by_webhooks(admission));
  ORC_TRY(admit_policies(admission));
  return judge_by_webhooks(admission);
}

Result<void> admit_deletion(Admission& admission) {
  if (admission.input.type->virtual_only) return {};
  ORC_TRY(admit_node_restriction(admission));
  ORC_TRY(mutate_by_webhooks(admission));
  ORC_TRY(admit_policies(admission));
  return judge_by_webhooks(admission);
}

Result<void> admit_validating(Admission& admission) {
  if (admission.input.type->virtual_only) return {};
  ORC_TRY(admit_claim_growth(admission));
  ORC_TRY(check_policy(admission));
  ORC_TRY(check_webhooks(admission));
  ORC_TRY(admit_pod_security(admission));
  ORC_TRY(admit_policies(admission));
  ORC_TRY(judge_by_webhooks(admission));
  return admit_quota(admission);
}

}  // namespace orchestra::apiserver
