#include "net/http/tls_context.hpp"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <ctime>

#include "base/openssl.hpp"

namespace orchestra::http {
namespace {

using openssl::BioHandle;
using openssl::CertificateHandle;
using openssl::KeyHandle;

constexpr char kCiphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr char kGroups[] = "X25519:P-256:P-384";
constexpr unsigned char kSessionIdContext[] = "orchestra";
constexpr long kSelfSignedSeconds = 365L * 24 * 3600;

Error tls_error(const std::string& what) { return {Error::invalid, "tls", what + ": " + openssl::reasons()}; }

// No passphrase prompt on the host's terminal: an encrypted key is an error.
int no_passphrase(char*, int, int, void*) { return 0; }

Result<std::shared_ptr<TlsContext>> new_context(TlsRole role) {
  ::ERR_clear_error();
  SSL_CTX* raw = ::SSL_CTX_new(role == TlsRole::server ? ::TLS_server_method() : ::TLS_client_method());
  if (raw == nullptr) return tls_error("SSL_CTX_new");
  auto context = std::make_shared<TlsContext>(raw);
  ::SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  ::SSL_CTX_set_cipher_list(raw, kCiphers);
  ::SSL_CTX_set1_groups_list(raw, kGroups);
  ::SSL_CTX_set_options(raw,
                        SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  ::SSL_CTX_set_mode(
      raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  ::SSL_CTX_set_session_id_context(raw, kSessionIdContext, sizeof kSessionIdContext - 1);
  return context;
}

Result<void> use_certificate(SSL_CTX* context, const std::string& certificate_pem,
                             const std::string& key_pem) {
  const BioHandle chain = openssl::reader(certificate_pem);
  const CertificateHandle leaf(::PEM_read_bio_X509_AUX(chain.get(), nullptr, no_passphrase, nullptr));
  if (!leaf) return tls_error("the certificate is not a PEM certificate");
  if (::SSL_CTX_use_certificate(context, leaf.get()) != 1) return tls_error("the certificate cannot be used");
  while (X509* issuer = ::PEM_read_bio_X509(chain.get(), nullptr, no_passphrase, nullptr)) {
    if (::SSL_CTX_add0_chain_cert(context, issuer) != 1) {
      ::X509_free(issuer);
      return tls_error("the certificate chain cannot be used");
    }
  }
  ::ERR_clear_error();  // the end of the chain reads as an error
  const BioHandle key_text = openssl::reader(key_pem);
  const KeyHandle key(::PEM_read_bio_PrivateKey(key_text.get(), nullptr, no_passphrase, nullptr));
  if (!key) return tls_error("the private key is not an unencrypted PEM key");
  if (::SSL_CTX_use_PrivateKey(context, key.get()) != 1 || ::SSL_CTX_check_private_key(context) != 1) {
    return tls_error("the private key does not belong to the certificate");
  }
  return {};
}

Result<void> trust(SSL_CTX* context, const std::string& ca_pem, bool announce) {
  const BioHandle text = openssl::reader(ca_pem);
  X509_STORE* store = ::SSL_CTX_get_cert_store(context);
  int count = 0;
  while (true) {
    const CertificateHandle certificate(::PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr));
    if (!certificate) break;
    ::X509_STORE_add_cert(store, certificate.get());
    if (announce) ::SSL_CTX_add_client_CA(context, certificate.get());
    ++count;
  }
  if (count == 0) return tls_error("the certificate authority holds no PEM certificate");
  ::ERR_clear_error();
  return {};
}

void free_pick(void*, void* pick, CRYPTO_EX_DATA*, int, long, void*) {
  delete static_cast<PickContext*>(pick);
}

int pick_index() {
  static const int index = ::SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, free_pick);
  return index;
}

int on_server_name(SSL* ssl, int*, void*) {
  const char* name = ::SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  const auto* pick = static_cast<PickContext*>(::SSL_CTX_get_ex_data(::SSL_get_SSL_CTX(ssl), pick_index()));
  if (name == nullptr || pick == nullptr) return SSL_TLSEXT_ERR_NOACK;
  // SSL_set_SSL_CTX takes its own reference on the context.
  if (const SharedTlsContext context = (*pick)(name)) ::SSL_set_SSL_CTX(ssl, context->get());
  return SSL_TLSEXT_ERR_OK;
}

// ALPN (RFC 7301): ours in our order; a client that offers none of them is served HTTP/1.1 all the same.
constexpr unsigned char kProtocols[] = "\x02h2\x08http/1.1";

int on_protocols(SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                 unsigned int offered_size, void*) {
  unsigned char* found = nullptr;
  if (::SSL_select_next_proto(&found, size, kProtocols, sizeof kProtocols - 1, offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

TlsContext::~TlsContext() { ::SSL_CTX_free(context_); }

Result<SharedTlsContext> make_server_context(const std::string& certificate_pem, const std::string& key_pem,
                                             const std::string& client_ca_pem, bool http2) {
  ORC_ASSIGN(auto context, new_context(TlsRole::server));
  if (http2) ::SSL_CTX_set_alpn_select_cb(context->get(), on_protocols, nullptr);
  ORC_TRY(use_certificate(context->get(), certificate_pem, key_pem));
  if (!client_ca_pem.empty()) {
    ORC_TRY(trust(context->get(), client_ca_pem, true));
    ::SSL_CTX_set_verify(context->get(), SSL_VERIFY_PEER, nullptr);
  }
  return SharedTlsContext(context);
}

Result<SharedTlsContext> make_sni_context(SharedTlsContext fallback, PickContext pick) {
  SSL_CTX* context = fallback->get();
  if (::SSL_CTX_get_ex_data(context, pick_index()) != nullptr) {
    return Error(Error::already_exists, "tls", "this TLS context chooses by server name already");
  }
  ::SSL_CTX_set_ex_data(context, pick_index(), new PickContext(std::move(pick)));
  ::SSL_CTX_set_tlsext_servername_callback(context, on_server_name);
  // Resumption would skip the choice of the certificate by name.
  ::SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  return fallback;
}

Result<SharedTlsContext> make_client_context(const ClientTls& options) {
  ORC_ASSIGN(auto context, new_context(TlsRole::client));
  if (!options.certificate_pem.empty()) {
    ORC_TRY(use_certificate(context->get(), options.certificate_pem, options.key_pem));
  }
  if (!options.verify) {
    ::SSL_CTX_set_verify(context->get(), SSL_VERIFY_NONE, nullptr);
    return SharedTlsContext(context);
  }
  if (options.ca_pem.empty()) {
    ::SSL_CTX_set_default_verify_paths(context->get());
  } else {
    ORC_TRY(trust(context->get(), options.ca_pem, false));
  }
  ::SSL_CTX_set_verify(context->get(), SSL_VERIFY_PEER, nullptr);
  return SharedTlsContext(context);
}

Result<CertificateInfo> read_certificate(const std::string& certificate_pem) {
  ::ERR_clear_error();
  const BioHandle text = openssl::reader(certificate_pem);
  const CertificateHandle certificate(::PEM_read_bio_X509(text.get(), nullptr, no_passphrase, nullptr));
  if (!certificate) return tls_error("the certificate is not a PEM certificate");
  CertificateInfo info;
  std::tm end{};
  if (::ASN1_TIME_to_tm(::X509_get0_notAfter(certificate.get()), &end) == 1) info.not_after = ::timegm(&end);
  auto* names = static_cast<GENERAL_NAMES*>(
      ::X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_DNS) continue;
    const auto* bytes = reinterpret_cast<const char*>(::ASN1_STRING_get0_data(name->d.dNSName));
    info.dns_names.emplace_back(bytes, static_cast<std::size_t>(::ASN1_STRING_length(name->d.dNSName)));
  }
  ::GENERAL_NAMES_free(names);
  return info;
}

Result<std::pair<std::string, std::string>> make_self_signed(const std::string& name) {
  ::ERR_clear_error();
  const KeyHandle key(::EVP_EC_gen("P-256"));
  const CertificateHandle certificate(::X509_new());
  if (!key || !certificate) return tls_error("a self-signed certificate cannot be made");
  X509* raw = certificate.get();
  ::X509_set_version(raw, X509_VERSION_3);
  unsigned char serial[8];
  ::RAND_bytes(serial, sizeof serial);
  serial[0] &= 0x7f;
  BIGNUM* number = ::BN_bin2bn(serial, sizeof serial, nullptr);
  ::BN_to_ASN1_INTEGER(number, ::X509_get_serialNumber(raw));
  ::BN_free(number);
  ::X509_gmtime_adj(::X509_getm_notBefore(raw), -3600);
  ::X509_gmtime_adj(::X509_getm_notAfter(raw), kSelfSignedSeconds);
  X509_NAME* subject = ::X509_get_subject_name(raw);
  ::X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  ::X509_set_issuer_name(raw, subject);
  const std::string alternative = "DNS:" + name;
  X509_EXTENSION* extension =
      ::X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, alternative.c_str());
  if (extension == nullptr) return tls_error("\"" + name + "\" is no name for a certificate");
  ::X509_add_ext(raw, extension, -1);
  ::X509_EXTENSION_free(extension);
  ::X509_set_pubkey(raw, key.get());
  if (::X509_sign(raw, key.get(), ::EVP_sha256()) == 0) return tls_error("X509_sign");
  const BioHandle certificate_text = openssl::writer(), key_text = openssl::writer();
  ::PEM_write_bio_X509(certificate_text.get(), raw);
  ::PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return std::pair{openssl::text_of(certificate_text), openssl::text_of(key_text)};
}

}  // namespace orchestra::http
