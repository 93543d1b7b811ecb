#pragma once
// The builtin controllers by name.
#include <memory>
#include <string>
#include <vector>

#include "controllers/certificates/decide.hpp"
#include "controllers/common/catalog.hpp"
#include "controllers/cronjob/decide.hpp"
#include "controllers/nodeipam/decide.hpp"
#include "controllers/nodelifecycle/decide.hpp"
#include "controllers/podgc/decide.hpp"
#include "controllers/volumes/decide.hpp"
#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

struct BuiltinOptions {
  std::string root_ca_pem = {};             ///< what kube-root-ca.crt holds; empty: no such ConfigMaps
  std::vector<KnownResource> catalog = {};  ///< for the garbage collector and the namespace controller
  NodeLifecycleOptions node_lifecycle = {};
  PodGcOptions pod_gc = {};
  NodeIpamOptions node_ipam = {};
  VolumeOptions volumes = {};
  CertificateSign sign_certificate = {};  ///< empty: certificate requests are approved and not signed
  ZoneSource zones = [](const std::string& name) { return TimeZone::load(name); };
};

/// Names of all builtin reconcilers, in the order in which they are started.
const std::vector<std::string>& builtin_names();
/// nullptr: no controller of this name.
std::shared_ptr<const Reconciler> make_reconciler(const std::string& name, const BuiltinOptions& options);

}  // namespace orchestra::controllers
