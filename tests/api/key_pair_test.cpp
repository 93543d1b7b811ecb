// What is said about Secrets of type kubernetes.io/tls: does the key belong to the certificate?
#include "api/x509/key_pair.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/test.hpp"

namespace orchestra {
using api::key_pair_mismatch;

TEST_CASE("a certificate and a key belong together or the difference is named") {
  const test::TestAuthority authority;
  const auto one = authority.issue("one", ""), two = authority.issue("two", "");
  CHECK(key_pair_mismatch(one.certificate_pem, one.key_pem).empty());
  CHECK(key_pair_mismatch(one.certificate_pem + authority.ca_pem(), one.key_pem).empty());
  CHECK(key_pair_mismatch(authority.ca_pem() + one.certificate_pem, one.key_pem) ==
        "tls: private key does not match public key");  // the first one counts
  CHECK(key_pair_mismatch(one.certificate_pem, two.key_pem) == "tls: private key does not match public key");
  CHECK(key_pair_mismatch("text\n" + one.certificate_pem, two.certificate_pem + one.key_pem).empty());

  EVP_PKEY* rsa = ::EVP_RSA_gen(2048);
  BIO* out = ::BIO_new(::BIO_s_mem());
  REQUIRE(::PEM_write_bio_PrivateKey(out, rsa, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  char* bytes = nullptr;
  const long size = ::BIO_get_mem_data(out, &bytes);
  CHECK(key_pair_mismatch(one.certificate_pem, std::string_view(bytes, static_cast<std::size_t>(size))) ==
        "tls: private key type does not match public key type");
  ::BIO_free(out);
  ::EVP_PKEY_free(rsa);
}

TEST_CASE("what is no certificate and no key is named") {
  const auto pair = test::TestAuthority().issue("one", "");
  CHECK(key_pair_mismatch("", "") == "tls: failed to find any PEM data in certificate input");
  CHECK(key_pair_mismatch("nonsense", pair.key_pem) ==
        "tls: failed to find any PEM data in certificate input");
  CHECK(key_pair_mismatch(pair.certificate_pem, "nonsense") ==
        "tls: failed to find any PEM data in key input");
  CHECK(
      key_pair_mismatch(pair.key_pem, pair.certificate_pem) ==
      "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs "
      "may have been switched");
  CHECK(key_pair_mismatch(pair.certificate_pem, pair.certificate_pem) ==
        "tls: found a certificate rather than a key in the PEM for the private key");
  const std::string other = "-----BEGIN X-----\nAAAA\n-----END X-----\n";
  CHECK(key_pair_mismatch(other + other, pair.key_pem) ==
        "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the "
        "following types: [X X]");
  CHECK(key_pair_mismatch(pair.certificate_pem, other) ==
        "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM "
        "blocks of the following types: [X]");
  CHECK(key_pair_mismatch("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", pair.key_pem)
            .starts_with("x509: malformed certificate"));
  CHECK(key_pair_mismatch(pair.certificate_pem,
                          "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n") ==
        "tls: failed to parse private key");
}

}  // namespace orchestra
