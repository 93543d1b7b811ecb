// Continue tokens: see continue_token.hpp.
#include "apiserver/continue_token.hpp"

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <array>

#include "apiserver/text.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kTokenBytesMax = 8192;  // a key has at most 4 KiB

std::string tag_of(std::string_view text, std::string_view secret) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data(), &length);
  return std::string(reinterpret_cast<const char*>(digest.data()), kTagBytes);
}
Error bad_token() {
  return Error(Error::invalid, "apiserver", "continue key is not valid: it was not made by this server");
}
}  // namespace

std::string seal_continue(const ContinueToken& token, std::string_view secret) {
  const std::string text = std::to_string(token.revision) + " " + token.last_key;
  return base64url_encode(tag_of(text, secret) + text);
}

Result<ContinueToken> open_continue(std::string_view text, std::string_view secret) {
  if (text.size() > kTokenBytesMax) return bad_token();
  const auto bytes = base64_decode(text);
  if (!bytes || bytes->size() < kTagBytes) return bad_token();
  const std::string body = bytes->substr(kTagBytes);
  if (CRYPTO_memcmp(tag_of(body, secret).data(), bytes->data(), kTagBytes) != 0) return bad_token();
  const std::size_t space = body.find(' ');
  if (space == std::string::npos || space == 0 || space > 18) return bad_token();
  ContinueToken token;
  for (const char c : body.substr(0, space)) {
    if (c < '0' || c > '9') return bad_token();
    token.revision = token.revision * 10 + (c - '0');
  }
  token.last_key = body.substr(space + 1);
  return token;
}

}  // namespace orchestra::apiserver
