#pragma once
// The message types that have rules of their own, named in the .types files as `hook=NAME`.
//
// A hook runs wherever its type occurs: a container's defaults are the same in a Pod and in a template.
#include <boost/json.hpp>

#include "api/field_error.hpp"
#include "api/schema.hpp"

namespace orchestra::api {

enum class TypeHook : std::uint8_t {
  none,
  container,
  crd_spec,
  daemon_set_strategy,
  deployment_strategy,
  ephemeral_container,
  hpa_spec,
  job,
  label_selector,
  limit_range_item,
  load_balancer_ingress,
  namespace_object,
  network_policy_spec,
  node_status,
  pod,
  pod_spec,
  pod_template,
  rbac_subject,
  replication_controller,
  replication_controller_spec,
  secret,
  service_port,
  service_spec,
  stateful_set_spec,
  stateful_set_strategy,
  volume,
};

/// Computed defaults of one message, after its constant ones and before those of its children.
void run_default_hook(TypeHook hook, json::object& object);
/// Rules of one message that a table cannot say.
void run_validate_hook(TypeHook hook, const json::object& object, const FieldPath& path, FieldErrors& errors);

}  // namespace orchestra::api
