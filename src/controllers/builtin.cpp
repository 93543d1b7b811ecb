// The table of builtin controllers.
#include "controllers/builtin.hpp"

#include <functional>

#include "controllers/certificates/decide.hpp"
#include "controllers/configrollout/decide.hpp"
#include "controllers/cronjob/decide.hpp"
#include "controllers/daemonset/decide.hpp"
#include "controllers/deployment/decide.hpp"
#include "controllers/disruption/decide.hpp"
#include "controllers/endpointslice/decide.hpp"
#include "controllers/garbage/decide.hpp"
#include "controllers/job/decide.hpp"
#include "controllers/mirroring/decide.hpp"
#include "controllers/namespace/decide.hpp"
#include "controllers/quota/decide.hpp"
#include "controllers/replicaset/decide.hpp"
#include "controllers/serviceaccount/decide.hpp"
#include "controllers/statefulset/decide.hpp"
#include "controllers/volumes/decide.hpp"

namespace orchestra::controllers {

namespace {
struct Builtin {
  std::string name;
  std::function<std::shared_ptr<const Reconciler>(const BuiltinOptions&)> make;
};
const std::vector<Builtin>& builtins() {
  using Options = const BuiltinOptions&;
  static const std::vector<Builtin> all = {
      {"namespace", [](Options o) { return make_namespace_reconciler(o.catalog); }},
      {"serviceaccount", [](Options) { return make_service_account_reconciler(); }},
      {"root-ca-certificate-publisher", [](Options o) { return make_root_ca_reconciler(o.root_ca_pem); }},
      {"certificatesigningrequest-approver", [](Options) { return make_certificate_approver(); }},
      {"certificatesigningrequest-signer",
       [](Options o) { return make_certificate_signer(o.sign_certificate); }},
      {"certificatesigningrequest-cleaner", [](Options) { return make_certificate_cleaner(); }},
      {"deployment", [](Options) { return make_deployment_reconciler(); }},
      {"replicaset", [](Options) { return make_replica_set_reconciler(); }},
      {"replicationcontroller", [](Options) { return make_replication_controller_reconciler(); }},
      {"statefulset", [](Options) { return make_stateful_set_reconciler(); }},
      {"daemonset", [](Options) { return make_daemon_set_reconciler(); }},
      {"job", [](Options) { return make_job_reconciler(); }},
      {"ttl-after-finished", [](Options) { return make_ttl_after_finished_reconciler(); }},
      {"cronjob", [](Options o) { return make_cron_job_reconciler(o.zones); }},
      {"disruption", [](Options) { return make_disruption_reconciler(); }},
      {"persistentvolume-binder", [](Options o) { return make_volume_binder(o.volumes); }},
      {"persistentvolumeclaim-protection", [](Options) { return make_claim_protection(); }},
      {"persistentvolume-protection", [](Options) { return make_volume_protection(); }},
      {"ephemeral-volume", [](Options) { return make_ephemeral_claims(); }},
      {"endpointslice", [](Options) { return make_endpoint_slice_reconciler(); }},
      {"endpoints", [](Options) { return make_endpoints_reconciler(); }},
      {"endpointslice-mirroring", [](Options) { return make_endpoint_slice_mirroring(); }},
      {"config-rollout", [](Options) { return make_config_rollout(); }},
      {"resourcequota", [](Options o) { return make_quota_reconciler(o.catalog); }},
      {"garbage-collector", [](Options o) { return make_garbage_collector(o.catalog); }},
      {"node-lifecycle", [](Options o) { return make_node_lifecycle_reconciler(o.node_lifecycle); }},
      {"node-ipam", [](Options o) { return make_node_ipam_reconciler(o.node_ipam); }},
      {"taint-eviction", [](Options) { return make_taint_eviction_reconciler(); }},
      {"pod-garbage-collector", [](Options o) { return make_pod_gc_reconciler(o.pod_gc); }},
  };
  return all;
}
}  // namespace

const std::vector<std::string>& builtin_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Builtin& builtin : builtins()) list.push_back(builtin.name);
    return list;
  }();
  return names;
}

std::shared_ptr<const Reconciler> make_reconciler(const std::string& name, const BuiltinOptions& options) {
  for (const Builtin& builtin : builtins()) {
    if (builtin.name == name) return builtin.make(options);
  }
  return nullptr;
}

}  // namespace orchestra::controllers
