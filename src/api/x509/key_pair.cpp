// A certificate and its key on OpenSSL 3: see key_pair.hpp.
#include "api/x509/key_pair.hpp"

#include <openssl/pem.h>

#include <optional>
#include <vector>

#include "base/openssl.hpp"

namespace orchestra::api {
namespace {
constexpr std::size_t kBlocksMax = 100;  // a chain has a few; the text is bounded by the size of an object

struct Found {
  std::optional<std::string> der;
  std::vector<std::string> skipped;  ///< types of the blocks before it
};

/// The first block whose type ends in `wanted`.
Found find_block(std::string_view pem, std::string_view wanted, bool whole) {
  Found found;
  const openssl::BioHandle bio = openssl::reader(pem);
  for (std::size_t i = 0; i < kBlocksMax; ++i) {
    char* name = nullptr;
    char* header = nullptr;
    unsigned char* data = nullptr;
    long length = 0;
    if (PEM_read_bio(bio.get(), &name, &header, &data, &length) != 1) break;
    const std::string_view type(name);
    const bool fits = type == wanted || (!whole && type.ends_with(" " + std::string(wanted)));
    if (fits) {
      found.der = std::string(reinterpret_cast<char*>(data), static_cast<std::size_t>(length));
    } else {
      found.skipped.emplace_back(type);
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
    if (fits) break;
  }
  ERR_clear_error();
  return found;
}

/// As Go prints a list of strings.
std::string listed(const std::vector<std::string>& words) {
  std::string out = "[";
  for (const std::string& word : words) out += (out.size() > 1 ? " " : "") + word;
  return out + "]";
}

std::string no_certificate(const std::vector<std::string>& skipped) {
  if (skipped.empty()) return "tls: failed to find any PEM data in certificate input";
  if (skipped.size() == 1 && skipped.front().ends_with("PRIVATE KEY")) {
    return "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM "
           "inputs may have been switched";
  }
  return "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of "
         "the "
         "following types: " +
         listed(skipped);
}

std::string no_key(const std::vector<std::string>& skipped) {
  if (skipped.empty()) return "tls: failed to find any PEM data in key input";
  if (skipped.size() == 1 && skipped.front() == "CERTIFICATE")
    return "tls: found a certificate rather than a key in the PEM for the private key";
  return "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM "
         "blocks of the following types: " +
         listed(skipped);
}

}  // namespace

std::string key_pair_mismatch(std::string_view certificate, std::string_view key) {
  const Found first = find_block(certificate, "CERTIFICATE", true);
  if (!first.der) return no_certificate(first.skipped);
  const Found second = find_block(key, "PRIVATE KEY", false);
  if (!second.der) return no_key(second.skipped);
  const auto* bytes = reinterpret_cast<const unsigned char*>(first.der->data());
  const openssl::CertificateHandle read(d2i_X509(nullptr, &bytes, static_cast<long>(first.der->size())));
  if (read == nullptr) return "x509: malformed certificate: " + openssl::reasons();
  EVP_PKEY* certified = X509_get0_pubkey(read.get());
  if (certified == nullptr) return "x509: malformed public key: " + openssl::reasons();
  bytes = reinterpret_cast<const unsigned char*>(second.der->data());
  const openssl::KeyHandle own(d2i_AutoPrivateKey(nullptr, &bytes, static_cast<long>(second.der->size())));
  ERR_clear_error();
  if (own == nullptr) return "tls: failed to parse private key";
  if (EVP_PKEY_get_base_id(own.get()) != EVP_PKEY_get_base_id(certified))
    return "tls: private key type does not match public key type";
  const bool same = EVP_PKEY_eq(certified, own.get()) == 1;
  ERR_clear_error();
  return same ? std::string() : "tls: private key does not match public key";
}

}  // namespace orchestra::api
