// The hooks of builtin kinds: which functions validate, prepare and print them.
#include "api/kinds.hpp"

#include "api/cells.hpp"
#include "api/crd/definition.hpp"
#include "api/prepare.hpp"
#include "api/validate_hooks.hpp"
#include "base/assert.hpp"

namespace orchestra::api {
namespace {

struct NamedHooks {
  std::string_view name;
  TypeHooks hooks;
};

const NamedHooks kHooks[] = {
    {"admission_policy", {.validate = validate_admission_policy, .cells = admission_policy_cells}},
    {"admission_policy_binding",
     {.validate = validate_admission_policy_binding, .cells = admission_policy_binding_cells}},
    {"api_service", {.validate = validate_api_service, .cells = api_service_cells}},
    {"component_status", {.cells = component_status_cells}},
    {"crd",
     {.prepare_create = prepare_definition,
      .validate = validate_definition,
      .validate_update = validate_definition_update,
      .cells = created_at_cells}},
    {"csi_driver", {.cells = csi_driver_cells}},
    {"csi_node", {.cells = csi_node_cells}},
    {"csr",
     {.prepare_create = prepare_csr_create,
      .prepare_update = prepare_csr_update,
      .validate = validate_csr,
      .validate_status_update = validate_csr_status,
      .cells = csr_cells}},
    {"configmap",
     {.validate = validate_config_map,
      .validate_update = validate_config_map_update,
      .cells = configmap_cells}},
    {"controllerrevision", {.validate = validate_controller_revision, .cells = controller_revision_cells}},
    {"created_at", {.cells = created_at_cells}},
    {"cronjob", {.validate = validate_cron_job, .cells = cron_job_cells}},
    {"daemonset",
     {.validate = validate_daemon_set,
      .validate_update = validate_selector_update,
      .cells = daemon_set_cells}},
    {"deployment",
     {.validate = validate_deployment,
      .validate_update = validate_selector_update,
      .cells = deployment_cells}},
    {"endpoints", {.validate = validate_endpoints, .cells = endpoints_cells}},
    {"endpointslice",
     {.validate = validate_endpoint_slice,
      .validate_update = validate_endpoint_slice_update,
      .cells = endpoint_slice_cells}},
    {"event", {.validate = validate_event, .cells = event_cells}},
    {"event_v1", {.validate = validate_event_v1, .cells = event_cells}},
    {"flow_schema", {.validate = validate_flow_schema, .cells = flow_schema_cells}},
    {"hpa", {.validate = validate_autoscaler, .cells = hpa_cells}},
    {"ingress", {.validate = validate_ingress, .cells = ingress_cells}},
    {"ingressclass",
     {.validate = validate_ingress_class,
      .validate_update = validate_ingress_class_update,
      .cells = ingress_class_cells}},
    {"ip_address", {.validate = validate_ip_address, .cells = ip_address_cells}},
    {"job",
     {.prepare_create = prepare_job,
      .validate = validate_job,
      .validate_update = validate_job_update,
      .cells = job_cells}},
    {"lease", {.validate = validate_lease, .cells = lease_cells}},
    {"namespace",
     {.prepare_create = prepare_namespace_create,
      .prepare_update = prepare_namespace_update,
      .cells = namespace_cells}},
    {"networkpolicy", {.cells = network_policy_cells}},
    {"node", {.validate = validate_node, .cells = node_cells}},
    {"pdb", {.validate = validate_disruption_budget, .cells = pdb_cells}},
    {"persistentvolume", {.validate = validate_persistent_volume, .cells = persistent_volume_cells}},
    {"persistentvolumeclaim",
     {.validate = validate_persistent_volume_claim, .cells = persistent_volume_claim_cells}},
    {"pod",
     {.prepare_create = prepare_pod,
      .validate_update = validate_pod_update,
      .cells = pod_cells,
      .row_completed = pod_row_completed}},
    {"podtemplate", {.cells = pod_template_cells}},
    {"priority_level", {.validate = validate_priority_level, .cells = priority_level_cells}},
    {"priorityclass",
     {.validate = validate_priority_class,
      .validate_update = validate_priority_class_update,
      .cells = priority_class_cells}},
    {"replicaset",
     {.validate = validate_replica_set,
      .validate_update = validate_selector_update,
      .cells = replica_set_cells}},
    {"replicationcontroller", {.cells = replica_set_cells}},
    {"resourcequota", {.validate = validate_resource_quota, .cells = resource_quota_cells}},
    {"rolebinding",
     {.validate = validate_role_binding,
      .validate_update = validate_role_binding_update,
      .cells = role_binding_cells}},
    {"clusterrolebinding",
     {.validate = validate_cluster_role_binding,
      .validate_update = validate_role_binding_update,
      .cells = role_binding_cells}},
    {"limitrange", {.validate = validate_limit_range, .cells = created_at_cells}},
    {"runtimeclass", {.validate = validate_runtime_class, .cells = runtime_class_cells}},
    {"secret",
     {.validate = validate_secret, .validate_update = validate_secret_update, .cells = secret_cells}},
    {"service", {.validate_update = validate_service_update, .cells = service_cells}},
    {"service_cidr",
     {.validate = validate_service_cidr,
      .validate_update = validate_service_cidr_update,
      .cells = service_cidr_cells}},
    {"serviceaccount", {.cells = service_account_cells}},
    {"statefulset",
     {.validate = validate_stateful_set,
      .validate_update = validate_stateful_set_update,
      .cells = stateful_set_cells}},
    {"storageclass", {.validate_update = validate_storage_class_update, .cells = storage_class_cells}},
    {"volume_attachment", {.validate_update = validate_spec_immutable, .cells = volume_attachment_cells}},
    {"webhooks", {.validate = validate_webhooks, .cells = webhook_cells}},
};

}  // namespace

TypeHooks hooks_named(std::string_view name) {
  for (const NamedHooks& each : kHooks) {
    if (each.name == name) return each.hooks;
  }
  ORC_ASSERT_MSG(false, "unknown hooks in a kind block of a .types file");
  return {};
}

}  // namespace orchestra::api
