// Digests over OpenSSL's EVP, which uses the processor's SHA instructions.
#include "image/digest.hpp"

#include <openssl/evp.h>

#include <algorithm>

#include "base/assert.hpp"

namespace orchestra::image {

Result<void> check_digest(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    return Error(Error::invalid, "image",
                 "digest \"" + std::string(text) + "\" has no algorithm; write sha256:HEX");
  }
  const std::string_view algorithm = text.substr(0, colon);
  const std::string_view hex = text.substr(colon + 1);
  if (algorithm != "sha256" && algorithm != "sha512") {
    return Error(Error::unsupported, "image", "unsupported digest algorithm " + std::string(algorithm));
  }
  const std::size_t length = algorithm == "sha256" ? 64 : 128;
  const bool is_hex = std::all_of(hex.begin(), hex.end(),
                                  [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (hex.size() != length || !is_hex) {
    return Error(Error::invalid, "image",
                 "digest \"" + std::string(text) + "\" must have " + std::to_string(length) +
                     " lower-case hex digits");
  }
  return {};
}

std::string_view digest_algorithm(std::string_view digest) { return digest.substr(0, digest.find(':')); }
std::string_view digest_hex(std::string_view digest) { return digest.substr(digest.find(':') + 1); }

void Hasher::Free::operator()(void* context) const { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context)); }

Hasher::Hasher(std::string_view algorithm) : context_(EVP_MD_CTX_new()), algorithm_(algorithm) {
  const EVP_MD* method = algorithm_ == "sha512" ? EVP_sha512() : EVP_sha256();
  ORC_ASSERT(algorithm_ == "sha256" || algorithm_ == "sha512");
  const bool ready = EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_.get()), method, nullptr) == 1;
  ORC_ASSERT(ready);
}

void Hasher::update(std::string_view bytes) {
  EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), bytes.size());
  bytes_ += bytes.size();
}

std::string Hasher::finish() {
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_.get()), raw, &size);
  std::string text = algorithm_ + ":";
  constexpr char kHex[] = "0123456789abcdef";
  for (unsigned i = 0; i < size; ++i) {
    text += kHex[raw[i] >> 4];
    text += kHex[raw[i] & 15];
  }
  return text;
}

std::string sha256_digest(std::string_view bytes) {
  Hasher hasher;
  hasher.update(bytes);
  return hasher.finish();
}

std::string chain_id(std::string_view parent, std::string_view diff_id) {
  if (parent.empty()) return std::string(diff_id);
  return sha256_digest(std::string(parent) + " " + std::string(diff_id));
}

}  // namespace orchestra::image
