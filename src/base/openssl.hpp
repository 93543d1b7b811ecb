#pragma once
// OpenSSL's objects with owners, and the reasons of its failures as text. Internal: it shows OpenSSL's types.
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <string_view>

namespace orchestra::openssl {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using BioHandle = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using KeyHandle = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using CertificateHandle = std::unique_ptr<X509, Deleter<X509_free>>;
using RequestHandle = std::unique_ptr<X509_REQ, Deleter<X509_REQ_free>>;
using ExtensionHandle = std::unique_ptr<X509_EXTENSION, Deleter<X509_EXTENSION_free>>;
using NumberHandle = std::unique_ptr<BIGNUM, Deleter<BN_free>>;
using DigestHandle = std::unique_ptr<EVP_MD_CTX, Deleter<EVP_MD_CTX_free>>;
using CipherHandle = std::unique_ptr<EVP_CIPHER_CTX, Deleter<EVP_CIPHER_CTX_free>>;
using KdfHandle = std::unique_ptr<EVP_KDF, Deleter<EVP_KDF_free>>;
using KdfContext = std::unique_ptr<EVP_KDF_CTX, Deleter<EVP_KDF_CTX_free>>;

/// Reads `text`, which must outlive it.
inline BioHandle reader(std::string_view text) {
  return BioHandle(::BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}
inline BioHandle writer() { return BioHandle(::BIO_new(::BIO_s_mem())); }
/// What was written so far.
inline std::string text_of(const BioHandle& bio) {
  char* bytes = nullptr;
  const long size = ::BIO_get_mem_data(bio.get(), &bytes);
  return {bytes, static_cast<std::size_t>(size)};
}

/// Why the last calls of this thread failed, in OpenSSL's words; forgets it.
inline std::string reasons() {
  std::string text;
  while (const unsigned long code = ::ERR_get_error()) {
    const char* reason = ::ERR_reason_error_string(code);
    if (!text.empty()) text += ", ";
    text += reason == nullptr ? "error " + std::to_string(code) : std::string(reason);
  }
  return text.empty() ? "no reason given" : text;
}

}  // namespace orchestra::openssl
