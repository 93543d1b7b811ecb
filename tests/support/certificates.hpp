#pragma once
// Certificates for tests of TLS: an authority in memory, and what it signs, good for both ends of a
// connection.
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string>

#include "tests/support/test.hpp"

namespace orchestra::test {

class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name = "test authority") : key_(::EVP_EC_gen("P-256")) {
    certificate_ = make(name, key_, nullptr, {});
    add(certificate_, NID_basic_constraints, "critical,CA:TRUE");
    sign(certificate_);
  }
  ~TestAuthority() {
    ::X509_free(certificate_);
    ::EVP_PKEY_free(key_);
  }
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  std::string ca_pem() const { return pem_of(certificate_); }
  struct Pair {
    std::string certificate_pem, key_pem;
  };
  /// `names`: as in subjectAltName, e.g. "IP:127.0.0.1".
  Pair issue(const std::string& common_name, const std::string& names) const {
    EVP_PKEY* key = ::EVP_EC_gen("P-256");
    X509* leaf = make(common_name, key, certificate_, names);
    add(leaf, NID_ext_key_usage, "serverAuth,clientAuth");
    sign(leaf);
    Pair pair{pem_of(leaf), {}};
    BIO* out = ::BIO_new(::BIO_s_mem());
    ::PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
    pair.key_pem = text_of(out);
    ::X509_free(leaf);
    ::EVP_PKEY_free(key);
    return pair;
  }

 private:
  static X509* make(const std::string& common_name, EVP_PKEY* key, X509* issuer, const std::string& names) {
    static long serial = 1;
    X509* made = ::X509_new();
    ::X509_set_version(made, 2);
    ::ASN1_INTEGER_set(::X509_get_serialNumber(made), ++serial);
    ::X509_gmtime_adj(::X509_getm_notBefore(made), -3600);
    ::X509_gmtime_adj(::X509_getm_notAfter(made), 3600L * 24);
    ::X509_set_pubkey(made, key);
    ::X509_NAME_add_entry_by_txt(::X509_get_subject_name(made), "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0);
    ::X509_set_issuer_name(made, ::X509_get_subject_name(issuer != nullptr ? issuer : made));
    if (!names.empty()) add(made, NID_subject_alt_name, names);
    return made;
  }
  static void add(X509* to, int what, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    ::X509V3_set_ctx(&context, to, to, nullptr, nullptr, 0);
    X509_EXTENSION* extension = ::X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str());
    REQUIRE(extension != nullptr);
    ::X509_add_ext(to, extension, -1);
    ::X509_EXTENSION_free(extension);
  }
  void sign(X509* made) const { REQUIRE(::X509_sign(made, key_, ::EVP_sha256()) > 0); }
  static std::string text_of(BIO* out) {
    char* bytes = nullptr;
    const long size = ::BIO_get_mem_data(out, &bytes);
    std::string text(bytes, static_cast<std::size_t>(size));
    ::BIO_free(out);
    return text;
  }
  static std::string pem_of(X509* certificate) {
    BIO* out = ::BIO_new(::BIO_s_mem());
    ::PEM_write_bio_X509(out, certificate);
    return text_of(out);
  }

  EVP_PKEY* key_;
  X509* certificate_ = nullptr;
};

}  // namespace orchestra::test
