#pragma once
// PKCS#10 certificate requests (RFC 2986): what a CertificateSigningRequest carries, read, judged and made.
//
// Reading gives plain values, so that approval and signing rules need no OpenSSL; the key and the names stay
// in the text, which the signer reads again. Pure, but for the random numbers of a new key.
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra::api {

struct CertificateRequest {
  std::string common_name;
  std::vector<std::string> organizations;
  std::vector<std::string> dns_names, ip_addresses, emails, uris;  ///< subjectAltName
};

/// The first PEM block of `pem`, which must be of type CERTIFICATE REQUEST and signed by its own key;
/// `invalid` with the reason. At most 64 KiB.
ORC_API Result<CertificateRequest> read_certificate_request(std::string_view pem);

/// `invalid` if `pem` holds anything but at least one certificate, without PEM headers. Empty is fine.
ORC_API Result<void> check_certificate_chain(std::string_view pem);

struct NewCertificateRequest {
  std::string key_pem;      ///< ECDSA P-256, PKCS#8
  std::string request_pem;  ///< signed by it
};
/// A new key and the request for a certificate of it.
ORC_API Result<NewCertificateRequest> make_certificate_request(const CertificateRequest& wanted);

// The signers that a control plane has, and what they ask of a request (upstream
// pkg/apis/certificates/helpers.go and pkg/controller/certificates/signer/signer.go).
inline constexpr const char* kSignerClient = "kubernetes.io/kube-apiserver-client";
inline constexpr const char* kSignerKubeletClient = "kubernetes.io/kube-apiserver-client-kubelet";
inline constexpr const char* kSignerKubeletServing = "kubernetes.io/kubelet-serving";

/// Why the signer refuses this request, in upstream's words; empty: it signs. Unknown signers sign nothing.
ORC_API std::string signer_objection(std::string_view signer, const CertificateRequest& request,
                                     const std::vector<std::string>& usages);
/// Is this one of the three?
ORC_API bool known_signer(std::string_view signer);

}  // namespace orchestra::api
