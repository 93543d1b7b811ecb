#pragma once
// Builtin admission plug-ins, in upstream's order: pure functions of (request, view) that change the object,
// add to the transaction, or refuse with a reason.
//
// Mutating ones run after the hook of the kind and before validation; validating ones after validation, the
// quota last, so that what is refused for another reason is never charged.
#include <map>
#include <string>

#include "apiserver/admission.hpp"
#include "orchestra/quantity.hpp"

namespace orchestra::apiserver {

Result<void> admit_mutating(Admission& admission);
Result<void> admit_validating(Admission& admission);
/// Of writes through /status, /approval and their like, whatever the kind.
Result<void> admit_subresource(Admission& admission);
Result<void> admit_validating_subresource(Admission& admission);
/// Of what is sent to a subresource with a kind of its own: policies and webhooks, and of ours the labels of
/// bindings.
Result<void> admit_document(Admission& admission);
/// Of deletions and evictions.
Result<void> admit_deletion(Admission& admission);

// Single plug-ins; each looks only at what it knows.
Result<void> admit_service_account(Admission& admission);
Result<void> admit_runtime_class(Admission& admission);
Result<void> admit_limit_ranges(Admission& admission);
Result<void> admit_default_class(Admission& admission);
/// Claims grow only when they are bound, and where their class allows it.
Result<void> admit_claim_growth(Admission& admission);
Result<void> admit_node_taint(Admission& admission);
Result<void> admit_topology_labels(Admission& admission);  ///< of pods with a node and of bindings
Result<void> admit_quota(Admission& admission);
Result<void> admit_pod_security(Admission& admission);
Result<void> admit_node_restriction(Admission& admission);  ///< also of deletions and subresources
/// Upstream's ValidatePodResize, and LimitRanger; of the subresource `resize` alone.
Result<void> admit_resize(Admission& admission);
/// Who may approve and sign: CertificateApproval, CertificateSigning.
Result<void> admit_certificates(Admission& admission);
Result<void> admit_policies(Admission& admission);  ///< also of deletions
Result<void> check_policy(Admission& admission);
// Webhooks; these wait, so only where ApiCore chose a worker thread (kinds/webhook/admission.cpp).
Result<void> mutate_by_webhooks(Admission& admission);
Result<void> judge_by_webhooks(Admission& admission);
Result<void> check_webhooks(Admission& admission);

/// What a new namespace gets in the same transaction: account `default` and ConfigMap `kube-root-ca.crt`.
Result<void> furnish_namespace(Admission& admission);

/// Takes one disruption from the budget of the pod, or refuses (429). Adds to `change`.
Result<void> spend_budget(const View& view, const json::value& pod, std::int64_t wall_ns, Change& change);

using Usage = std::map<std::string, Quantity>;
/// What an object counts for in quotas: {pods: 1, requests.cpu: 500m, count/pods: 1, ...}.
Usage usage_of(const api::TypeRecord& type, const json::value& object);
/// Do the scopes of a quota's spec select this object?
bool quota_selects(const json::value& quota, const api::TypeRecord& type, const json::value& object);

inline bool is_type(const Admission& admission, std::string_view group, std::string_view resource) {
  return admission.input.type->group == group && admission.input.type->plural == resource;
}
inline bool creates(const Admission& admission) {
  return admission.object != nullptr && admission.old == nullptr;
}
inline bool resizes(const Admission& admission) {
  return admission.input.sub != nullptr && admission.input.sub->name == "resize";
}
/// 403 `pods "p" is forbidden: WHY`.
Error deny(const Admission& admission, const std::string& why);

}  // namespace orchestra::apiserver
