#pragma once
// What every namespace has: the ServiceAccount "default" and the ConfigMap "kube-root-ca.crt". Pure.
#include <memory>
#include <string>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {
std::shared_ptr<const Reconciler> make_service_account_reconciler();
/// `pem`: the certificates that verify the API server.
std::shared_ptr<const Reconciler> make_root_ca_reconciler(std::string pem);
}  // namespace orchestra::controllers
