#pragma once
// Who a joined node is: the authority that it trusts, its key and its certificate, kept in DIR/pki.
//
// The token file names the authority by the hash of its public key (as kubeadm's
// discovery-token-ca-cert-hash), so the first, unverified connection can only fetch what that hash proves.
// With the token the node asks for a client certificate through the CertificateSigningRequest API (signer
// kubernetes.io/kube-apiserver-client-kubelet, CN=system:node:NAME, O=system:nodes); from then on it asks
// with that. At two thirds of its life the certificate is renewed with a new key.
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/http_client.hpp"
#include "orchestra/client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"

namespace orchestra::cluster {

/// DIR/node-token: how a node joins.
struct JoinToken {
  std::string token;    ///< "abcdef.0123456789abcdef"
  std::string ca_hash;  ///< "sha256:" and 64 hex digits
};
std::string write_join_token(const JoinToken& token);
/// `invalid` says what is wrong; empty lines and # comments are skipped.
Result<JoinToken> parse_join_token(const std::string& text);

/// "sha256:..." of the public key (SubjectPublicKeyInfo, DER) of a certificate in PEM.
Result<std::string> ca_hash(const std::string& certificate_pem);

struct CertificateRequest {
  std::string key_pem, request_pem;  ///< PKCS #8 and PKCS #10
};
/// A fresh P-256 key and the request of a node for it.
Result<CertificateRequest> make_node_request(const std::string& node_name);

/// What a certificate says; `corrupt` if it is none.
struct CertificateFacts {
  std::string common_name;
  std::int64_t not_before_ns = 0, not_after_ns = 0;  ///< wall
};
Result<CertificateFacts> read_certificate(const std::string& certificate_pem);
/// `conflict` if `key_pem` is not its key.
Result<void> check_pair(const std::string& certificate_pem, const std::string& key_pem);

/// The authority of the server at `server` (https://host:port), fetched without verification and proven by
/// `hash`. `denied` if it is another one. Blocks.
Result<std::string> fetch_ca(HttpClient& http, const std::string& server, const std::string& hash);

/// Sends the request and waits until it is signed; `denied` if it was refused, `deadline_exceeded` names the
/// object that waits for approval. Blocks.
Result<std::string> request_certificate(Engine& engine, const Client& client, const std::string& request_pem,
                                        Duration deadline);

/// DIR/pki/{ca.crt,node.crt,node.key}: read by whoever connects, replaced when renewed.
class NodeIdentity {
 public:
  NodeIdentity(std::string folder, std::string node_name)
      : folder_(std::move(folder)), node_name_(std::move(node_name)) {}
  /// What an earlier start kept. False: nothing usable (none, expired, or of another node).
  Result<bool> load(std::int64_t now_wall_ns);
  Result<void> keep(const std::string& ca_pem, const std::string& certificate_pem,
                    const std::string& key_pem);
  std::string ca_pem() const;
  /// Certificate and key.
  std::pair<std::string, std::string> pair() const;
  /// Wall time at which two thirds of the certificate's life are over.
  std::int64_t renew_at_ns() const;

 private:
  const std::string folder_, node_name_;
  mutable std::mutex mutex_;
  std::string ca_, certificate_, key_;
};

}  // namespace orchestra::cluster
