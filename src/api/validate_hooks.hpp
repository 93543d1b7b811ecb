#pragma once
// The validation rules of single messages and of kinds, by file: validate_container.cpp, validate_pod.cpp,
// validate_workloads.cpp, validate_core.cpp, validate_network.cpp. Called from type_hooks and kinds.cpp.
#include <map>
#include <set>
#include <string_view>

#include "api/field_error.hpp"

namespace orchestra::api {

/// What the rules of a container look at beyond it.
struct ContainerContext {
  std::map<std::string_view, const json::object*, std::less<>> volumes;  ///< of the pod, by name
  std::set<std::string_view> claims;                                     ///< names of spec.resourceClaims
  std::string_view restart_policy;                                       ///< of the pod
  const json::value* grace = nullptr;                                    ///< terminationGracePeriodSeconds
  bool host_users = true;
  bool is_pod = false;  ///< not a template
};
void validate_container(const json::object& container, const ContainerContext& context, const FieldPath& path,
                        FieldErrors& errors);
void validate_init_container(const json::object& container, const ContainerContext& context,
                             const FieldPath& path, FieldErrors& errors);
void validate_ephemeral_container(const json::object& container, const ContainerContext& context,
                                  const FieldPath& path, FieldErrors& errors);
void validate_pod(const json::object& pod, FieldErrors& errors);
void validate_pod_create(const json::object& pod, FieldErrors& errors);
void validate_pod_status(const json::object& pod, const json::object& old, FieldErrors& errors);
/// Claims, devices and users in it.
void check_pod_status_details(const json::object& status, const json::object& spec, const FieldPath& path,
                              FieldErrors& errors);
void validate_pod_template(const json::object& pod, const FieldPath& path, FieldErrors& errors);
void validate_pod_spec(const json::object& spec, const FieldPath& path, FieldErrors& errors);
void validate_pod_update(const json::object& pod, const json::object& old, FieldErrors& errors);
void validate_label_selector(const json::object& selector, const FieldPath& path, FieldErrors& errors);
void validate_service_spec(const json::object& spec, const FieldPath& path, FieldErrors& errors);
/// Both must match in everything but the fields named; else `field is immutable` at `path`.
void require_same(const json::value* now, const json::value* before, const FieldPath& path,
                  FieldErrors& errors);
/// True for 1.2.3.4 and 1:2::3.
bool is_ipv4(std::string_view text);
bool is_ipv6(std::string_view text);

// Whole kinds: (object, errors) on create and update, (object, old, errors) on update.
void validate_deployment(const json::object& object, FieldErrors& errors);
void validate_replica_set(const json::object& object, FieldErrors& errors);
void validate_stateful_set(const json::object& object, FieldErrors& errors);
void validate_daemon_set(const json::object& object, FieldErrors& errors);
void validate_job(const json::object& object, FieldErrors& errors);
void validate_cron_job(const json::object& object, FieldErrors& errors);
void validate_selector_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_stateful_set_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_job_update(const json::object& object, const json::object& old, FieldErrors& errors);

void validate_replication_controller(const json::object& object, FieldErrors& errors);
void validate_stateful_set_create(const json::object& object, FieldErrors& errors);
void validate_deployment_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_replica_set_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_stateful_set_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_daemon_set_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_job_create(const json::object& object, FieldErrors& errors);
void validate_job_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_cron_job_create(const json::object& object, FieldErrors& errors);

void validate_config_map(const json::object& object, FieldErrors& errors);
void validate_config_map_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_secret(const json::object& object, FieldErrors& errors);
void validate_secret_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_node(const json::object& object, FieldErrors& errors);
void validate_node_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_node_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_namespace(const json::object& object, FieldErrors& errors);
void validate_namespace_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_event(const json::object& object, FieldErrors& errors);
void validate_lease(const json::object& object, FieldErrors& errors);
void validate_role_binding_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_storage_class(const json::object& object, FieldErrors& errors);
void validate_volume_attributes_class(const json::object& object, FieldErrors& errors);
void validate_volume_attributes_class_update(const json::object& object, const json::object& old,
                                             FieldErrors& errors);
void validate_volume_attachment(const json::object& object, FieldErrors& errors);
void validate_volume_attachment_status(const json::object& object, const json::object& old,
                                       FieldErrors& errors);
void validate_csi_driver(const json::object& object, FieldErrors& errors);
void validate_csi_driver_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_csi_node(const json::object& object, FieldErrors& errors);
void validate_csi_node_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_storage_capacity(const json::object& object, FieldErrors& errors);
void validate_storage_capacity_update(const json::object& object, const json::object& old,
                                      FieldErrors& errors);
void validate_storage_class_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_priority_class_update(const json::object& object, const json::object& old, FieldErrors& errors);

void validate_event_v1(const json::object& object, FieldErrors& errors);
void validate_event_v1_create(const json::object& object, FieldErrors& errors);
void validate_event_v1_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_admission_policy(const json::object& object, FieldErrors& errors);
void validate_admission_policy_status(const json::object& object, const json::object& old,
                                      FieldErrors& errors);
void validate_admission_policy_binding(const json::object& object, FieldErrors& errors);
void validate_api_service(const json::object& object, FieldErrors& errors);
void validate_api_service_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_flow_schema(const json::object& object, FieldErrors& errors);
void validate_priority_level(const json::object& object, FieldErrors& errors);
/// Of both kinds of flow control.
void validate_flow_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_ip_address(const json::object& object, FieldErrors& errors);
void validate_ip_address_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_service_cidr(const json::object& object, FieldErrors& errors);
void validate_service_cidr_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_spec_immutable(const json::object& object, const json::object& old, FieldErrors& errors);
/// url or service of a webhook.
void validate_client_config(const json::object& config, const FieldPath& path, FieldErrors& errors);
void validate_webhooks(const json::object& object, FieldErrors& errors);
/// admissionReviewVersions, conversionReviewVersions: labels, each once, one that we speak among them.
void check_review_versions(const json::array& versions, std::string_view when_none, const FieldPath& path,
                           FieldErrors& errors);
void validate_persistent_volume(const json::object& object, FieldErrors& errors);
void validate_persistent_volume_update(const json::object& object, const json::object& old,
                                       FieldErrors& errors);
void validate_persistent_volume_claim(const json::object& object, FieldErrors& errors);
void validate_persistent_volume_claim_update(const json::object& object, const json::object& old,
                                             FieldErrors& errors);
void validate_limit_range(const json::object& object, FieldErrors& errors);
void validate_resource_quota(const json::object& object, FieldErrors& errors);
void validate_resource_quota_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_resource_quota_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_csr(const json::object& object, FieldErrors& errors);
void validate_csr_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_controller_revision(const json::object& object, FieldErrors& errors);
void validate_controller_revision_create(const json::object& object, FieldErrors& errors);
void validate_controller_revision_update(const json::object& object, const json::object& old,
                                         FieldErrors& errors);
void validate_autoscaler(const json::object& object, FieldErrors& errors);
void validate_autoscaler_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_disruption_budget(const json::object& object, FieldErrors& errors);
void validate_disruption_budget_status(const json::object& object, const json::object& old,
                                       FieldErrors& errors);
void validate_role(const json::object& object, FieldErrors& errors);
void validate_cluster_role(const json::object& object, FieldErrors& errors);
void validate_ingress_class(const json::object& object, FieldErrors& errors);
void validate_role_binding(const json::object& object, FieldErrors& errors);
void validate_cluster_role_binding(const json::object& object, FieldErrors& errors);
void validate_priority_class(const json::object& object, FieldErrors& errors);
void validate_runtime_class(const json::object& object, FieldErrors& errors);
void validate_runtime_class_update(const json::object& object, const json::object& old, FieldErrors& errors);

/// clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy of a Service that is no ExternalName fit each other.
void validate_service_families(const json::object& spec, const FieldPath& path, FieldErrors& errors);
void validate_service(const json::object& object, FieldErrors& errors);
void validate_service_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_service_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_endpoints(const json::object& object, FieldErrors& errors);
void validate_endpoint_slice(const json::object& object, FieldErrors& errors);
void validate_endpoint_slice_update(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_ingress(const json::object& object, FieldErrors& errors);
void validate_ingress_create(const json::object& object, FieldErrors& errors);
void validate_ingress_status(const json::object& object, const json::object& old, FieldErrors& errors);
void validate_network_policy(const json::object& object, FieldErrors& errors);
void validate_ingress_class_update(const json::object& object, const json::object& old, FieldErrors& errors);

}  // namespace orchestra::api
