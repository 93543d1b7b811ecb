#pragma once
// Certificate signing requests: approved where they are a node's own, signed, forgotten. See decide.cpp.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/reconciler.hpp"

namespace orchestra::controllers {

/// Signs a request (PEM) for these usages and this life with the cluster's authority; answers the
/// certificate. The one thing here that is not pure. Any thread; must not block.
using CertificateSign = std::function<Result<std::string>(
    const std::string& request_pem, const std::vector<std::string>& usages, Duration life)>;

/// Approves client certificates of nodes for those who hold nodeclient or selfnodeclient.
std::shared_ptr<const Reconciler> make_certificate_approver();
/// Signs what is approved. Without `sign` nothing is signed: there is no authority here.
std::shared_ptr<const Reconciler> make_certificate_signer(CertificateSign sign);
/// Removes requests that are done, denied, or were never answered.
std::shared_ptr<const Reconciler> make_certificate_cleaner();

}  // namespace orchestra::controllers
