#pragma once
// TokenIssuer and TokenVerifier: service account tokens (JWT, RFC 7519) as Kubernetes issues them.
//
//   auto issuer = orchestra::TokenIssuer::create(key_pem, "https://kubernetes.default.svc.cluster.local");
//   orchestra::TokenClaims claims{.subject = "system:serviceaccount:shop:web", ...};
//   auto token = (*issuer)->sign(claims);
//   orchestra::TokenVerifier verifier(issuer_name);
//   verifier.add_key(public_or_private_pem);
//   auto known = verifier.verify(token, now_seconds, {"https://kubernetes.default.svc.cluster.local"});
//
// RS256 and ES256 only. `alg: none`, HMAC, a key id that is not known, another algorithm than that of the
// key: all refused before anything in the token is believed. Whether account and bound object still exist
// is the caller's question. Thread safe once set up. Since 0.2.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra {

/// Times are seconds since 1970.
struct TokenClaims {
  std::string issuer = {};  ///< filled by the issuer
  std::string subject = {};
  std::vector<std::string> audiences = {};
  std::int64_t issued_at = 0, not_before = 0, expires_at = 0;
  std::string id = {};  ///< jti
  std::string ns = {}, account = {}, account_uid = {};
  /// "pod", "secret", "node" or empty.
  std::string bound_kind = {}, bound_name = {}, bound_uid = {};
  std::string node_name = {}, node_uid = {};  ///< of a bound pod
  std::int64_t warn_after = 0;                ///< 0: none
};

class ORC_API TokenIssuer {
 public:
  /// A private key as PEM: P-256 (ES256) or RSA of at least 2048 bits (RS256). `invalid` otherwise.
  static Result<std::shared_ptr<TokenIssuer>> create(const std::string& key_pem, const std::string& issuer);
  /// A new P-256 key as PEM.
  static Result<std::string> make_key();
  Result<std::string> sign(const TokenClaims& claims) const;
  const std::string& issuer() const;
  const std::string& key_id() const;
  const std::string& algorithm() const;  ///< "ES256" or "RS256"
  /// {"keys": [...]}: the public key (RFC 7517).
  const std::string& jwks() const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

class ORC_API TokenVerifier {
 public:
  explicit TokenVerifier(std::string issuer);
  /// A private or public key as PEM; several may be known (rotation).
  Result<void> add_key(const std::string& pem);
  /// `unauthenticated` with the reason. `audiences`: the token must be for one of them; empty: any.
  Result<TokenClaims> verify(const std::string& token, std::int64_t now_seconds,
                             const std::vector<std::string>& audiences) const;
  /// Cheap and unverified: does the token claim to be from this issuer?
  bool is_ours(const std::string& token) const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra
