#pragma once
// TLS settings from PEM text: the one place that configures OpenSSL.
//
// TLS 1.2 and later, AEAD suites with forward secrecy, no renegotiation, no compression. Certificates
// and keys come as PEM text and never touch a file.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

struct ssl_ctx_st;

namespace orchestra::http {

enum class TlsRole : std::uint8_t { client, server };

/// Who a verified client certificate speaks for.
struct TlsPeer {
  std::string common_name;
  std::vector<std::string> organizations;
};

/// A configured SSL_CTX; immutable once shared.
class TlsContext {
 public:
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  ssl_ctx_st* get() const { return context_; }

 private:
  ssl_ctx_st* context_;
};
using SharedTlsContext = std::shared_ptr<const TlsContext>;

/// With `client_ca_pem`: asks for a client certificate and fails the handshake of a wrong one. With
/// `http2`: clients that offer it by ALPN get it.
Result<SharedTlsContext> make_server_context(const std::string& certificate_pem, const std::string& key_pem,
                                             const std::string& client_ca_pem, bool http2 = false);
/// Picks the context of a server name, called in the handshake; nullptr keeps the default one.
using PickContext = std::function<SharedTlsContext(std::string_view server_name)>;
/// A server context that hands each handshake over to the one that `pick` answers.
Result<SharedTlsContext> make_sni_context(SharedTlsContext fallback, PickContext pick);

struct ClientTls {
  bool verify = true;
  std::string ca_pem;  ///< empty: the system's bundle
  std::string certificate_pem, key_pem;
};
Result<SharedTlsContext> make_client_context(const ClientTls& options);

/// Subject alternative names (DNS) of the first certificate, and when it ends (seconds since the epoch).
struct CertificateInfo {
  std::vector<std::string> dns_names;
  std::int64_t not_after = 0;
};
Result<CertificateInfo> read_certificate(const std::string& certificate_pem);
/// A self-signed certificate for `name`, made on the spot: certificate PEM and key PEM.
Result<std::pair<std::string, std::string>> make_self_signed(const std::string& name);

}  // namespace orchestra::http
