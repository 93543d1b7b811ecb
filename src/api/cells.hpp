#pragma once
// Cells of table rows by kind, after the leading Name: what pkg/printers/internalversion/printers.go prints.
#include <string>
#include <string_view>
#include <utility>

#include "api/tree.hpp"
#include "orchestra/env.hpp"

namespace orchestra::api {

// --- shared
// --------------------------------------------------------------------------------------------------
std::string age_of(const json::object& object, Now now);  ///< of creationTimestamp
std::string or_none(std::string_view text);               ///< "<none>" where empty
std::string join(const std::vector<std::string>& words, std::string_view separator);
std::string format_labels(const json::object& labels);  ///< "a=b,c=d", "<none>"
std::string format_selector(const json::object& spec);  ///< of spec.selector, a LabelSelector
/// Names and images of the containers of a pod spec, each joined by commas.
std::pair<std::string, std::string> container_words(const json::object& pod_spec);

// --- one per kind
// ----------------------------------------------------------------------------------------------
std::pair<std::string, std::string> pod_row_completed(const json::object& object);
#define ORC_CELLS(name) void name##_cells(const json::object& object, Now now, json::array& cells)
ORC_CELLS(pod);
ORC_CELLS(pod_template);
ORC_CELLS(deployment);
ORC_CELLS(replica_set);
ORC_CELLS(stateful_set);
ORC_CELLS(daemon_set);
ORC_CELLS(controller_revision);
ORC_CELLS(job);
ORC_CELLS(cron_job);
ORC_CELLS(node);
ORC_CELLS(namespace);
ORC_CELLS(configmap);
ORC_CELLS(secret);
ORC_CELLS(service_account);
ORC_CELLS(event);
ORC_CELLS(created_at);
ORC_CELLS(pod_explanation);
ORC_CELLS(persistent_volume);
ORC_CELLS(persistent_volume_claim);
ORC_CELLS(resource_quota);
ORC_CELLS(storage_class);
ORC_CELLS(priority_class);
ORC_CELLS(runtime_class);
ORC_CELLS(role_binding);
ORC_CELLS(lease);
ORC_CELLS(hpa);
ORC_CELLS(pdb);
ORC_CELLS(service);
ORC_CELLS(endpoints);
ORC_CELLS(endpoint_slice);
ORC_CELLS(ingress);
ORC_CELLS(ingress_class);
ORC_CELLS(network_policy);
ORC_CELLS(webhook);
ORC_CELLS(admission_policy);
ORC_CELLS(admission_policy_binding);
ORC_CELLS(api_service);
ORC_CELLS(component_status);
ORC_CELLS(csi_driver);
ORC_CELLS(csi_node);
ORC_CELLS(csi_storage_capacity);
ORC_CELLS(csr);
ORC_CELLS(flow_schema);
ORC_CELLS(priority_level);
ORC_CELLS(ip_address);
ORC_CELLS(service_cidr);
ORC_CELLS(volume_attachment);
ORC_CELLS(volume_attributes_class);
#undef ORC_CELLS

}  // namespace orchestra::api
