#pragma once
// Persistent volumes: binding of claims, provisioning on local folders, protection, generic ephemeral claims.
// Pure; see binder.cpp, protection.cpp.
#include <memory>
#include <string>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

inline constexpr const char* kLocalProvisioner = "orchestra.dev/local-path";
inline constexpr const char* kProvisionedBy = "pv.kubernetes.io/provisioned-by";

struct VolumeOptions {
  /// Where the folders of the local provisioner lie on every node, unless the StorageClass has the parameter
  /// `path`.
  std::string local_root = "/var/lib/orchestra/volumes";
};

std::shared_ptr<const Reconciler> make_volume_binder(VolumeOptions options);
std::shared_ptr<const Reconciler> make_claim_protection();
std::shared_ptr<const Reconciler> make_volume_protection();
std::shared_ptr<const Reconciler> make_ephemeral_claims();

}  // namespace orchestra::controllers
