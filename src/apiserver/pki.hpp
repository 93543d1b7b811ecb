#pragma once
// The server's own certificate authority and what it signs: ECDSA P-256 throughout.
//
// The CA lives ten years in DIR/ca.crt and DIR/ca.key (0600) and is made at the first start. The serving
// certificate is made anew at every start, because its names follow the options, and again at two
// thirds of its life. Client certificates carry the user in CN and the groups in O. Without a folder
// everything stays in memory.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/env.hpp"
#include "orchestra/result.hpp"

namespace orchestra::apiserver {

struct KeyPair {
  std::string certificate_pem, key_pem;
};

struct PkiOptions {
  std::string directory;  ///< empty: in memory
  Duration certificate_life = std::chrono::hours(24 * 365);
};

class Pki {
 public:
  static Result<std::shared_ptr<Pki>> open(Clock& clock, Random& random, PkiOptions options);
  ~Pki();
  Pki(const Pki&) = delete;
  Pki& operator=(const Pki&) = delete;

  const std::string& ca_pem() const { return ca_.certificate_pem; }
  /// For a server: `names` are DNS names or IP addresses.
  Result<KeyPair> issue_server(const std::string& common_name, const std::vector<std::string>& names) const;
  Result<KeyPair> issue_client(const std::string& user, const std::vector<std::string>& groups) const;
  /// For somebody else's key: a PKCS#10 request's subject and DNS, IP, e-mail and URI names (upstream
  /// pkg/controller/certificates/authority/policies.go).
  Result<std::string> sign_request(const std::string& request_pem, const std::vector<std::string>& usages,
                                   Duration life) const;
  /// 32 random bytes that outlive restarts: seals continue tokens.
  const std::string& secret() const { return secret_; }
  /// The private key of service account tokens, made at the first start (sa.key, 0600).
  const std::string& token_key() const { return token_key_; }
  /// A random bearer token of the administrator, made at the first start.
  const std::string& admin_token() const { return admin_token_; }

 private:
  struct Impl;
  Pki(Clock& clock, Random& random, PkiOptions options);
  Result<void> load();
  Result<void> make_ca();
  Result<std::string> load_or_make_secret(const std::string& name) const;
  Result<std::string> load_or_make_token_key() const;
  Result<KeyPair> issue(const std::string& common_name, const std::vector<std::string>& organizations,
                        const std::vector<std::string>& names, bool server) const;

  Clock& clock_;
  Random& random_;
  PkiOptions options_;
  std::unique_ptr<Impl> impl_;
  KeyPair ca_;
  std::string secret_, admin_token_, token_key_;
};

struct KubeconfigOptions {
  std::string server;  ///< https://127.0.0.1:6443 or http://...
  std::string ca_pem;  ///< empty for http
  KeyPair client;
  std::string token;  ///< used when there is no client certificate
  std::string cluster = "orchestra", user = "kubernetes-admin";
};
std::string kubeconfig_text(const KubeconfigOptions& options);

}  // namespace orchestra::apiserver
