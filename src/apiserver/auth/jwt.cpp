// Signing and verifying of service account tokens on OpenSSL 3: see orchestra/service_account_token.hpp.
//
// Order of verification: shape and sizes, header (alg must be that of the key which kid names), signature,
// and only then the claims. Claims follow upstream pkg/serviceaccount/claims.go; the key id is the
// base64url SHA-256 of the public key's DER, as in upstream jwt.go. A minute of leeway on times, as
// upstream (go-jose's default).
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>

#include "apiserver/text.hpp"
#include "base/json.hpp"
#include "base/openssl.hpp"
#include "orchestra/service_account_token.hpp"

namespace orchestra {
namespace {
using openssl::BioHandle;
using openssl::DigestHandle;
using openssl::KeyHandle;
using openssl::NumberHandle;
using namespace apiserver;
constexpr std::size_t kTokenBytesMax = 16 << 10;
constexpr std::int64_t kLeewaySeconds = 60;
constexpr std::size_t kEcPartBytes = 32;

using SignatureHandle = std::unique_ptr<ECDSA_SIG, openssl::Deleter<ECDSA_SIG_free>>;

Error token_error(const std::string& why) { return Error(Error::unauthenticated, "token", why); }
const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

/// A key with all that its tokens say about it.
struct TokenKey {
  KeyHandle handle;
  std::string id, algorithm, jwk;
};

std::string number_base64(EVP_PKEY* key, const char* name, std::size_t width) {
  BIGNUM* raw = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &raw) != 1) return {};
  const NumberHandle number(raw);
  const std::size_t size = width > 0 ? width : static_cast<std::size_t>(BN_num_bytes(raw));
  std::string bytes(size, '\0');
  BN_bn2binpad(raw, reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(size));
  return base64url_encode(bytes);
}

Result<std::shared_ptr<const TokenKey>> load_key(const std::string& pem, bool must_be_private) {
  auto key = std::make_shared<TokenKey>();
  const BioHandle bio = openssl::reader(pem);
  key->handle.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  if (!key->handle && !must_be_private) {
    const BioHandle again = openssl::reader(pem);
    key->handle.reset(PEM_read_bio_PUBKEY(again.get(), nullptr, nullptr, nullptr));
  }
  ERR_clear_error();
  const auto refuse = [](const std::string& why) { return Error(Error::invalid, "token", why); };
  if (!key->handle) return refuse("the PEM text holds no usable key");
  EVP_PKEY* raw = key->handle.get();
  json::object jwk{{"use", "sig"}};
  if (EVP_PKEY_get_base_id(raw) == EVP_PKEY_EC) {
    std::array<char, 64> curve{};
    EVP_PKEY_get_utf8_string_param(raw, OSSL_PKEY_PARAM_GROUP_NAME, curve.data(), curve.size(), nullptr);
    if (std::string_view(curve.data()) != "prime256v1") {
      return refuse("elliptic curve " + std::string(curve.data()) + " is not P-256");
    }
    key->algorithm = "ES256";
    jwk["kty"] = "EC";
    jwk["crv"] = "P-256";
    jwk["x"] = number_base64(raw, OSSL_PKEY_PARAM_EC_PUB_X, kEcPartBytes);
    jwk["y"] = number_base64(raw, OSSL_PKEY_PARAM_EC_PUB_Y, kEcPartBytes);
  } else if (EVP_PKEY_get_base_id(raw) == EVP_PKEY_RSA && EVP_PKEY_get_bits(raw) >= 2048) {
    key->algorithm = "RS256";
    jwk["kty"] = "RSA";
    jwk["n"] = number_base64(raw, OSSL_PKEY_PARAM_RSA_N, 0);
    jwk["e"] = number_base64(raw, OSSL_PKEY_PARAM_RSA_E, 0);
  } else {
    return refuse("tokens are signed with P-256 or with RSA of at least 2048 bits");
  }
  unsigned char* der = nullptr;
  const int length = i2d_PUBKEY(raw, &der);
  if (length <= 0) return refuse("the public key cannot be encoded");
  std::array<char, SHA256_DIGEST_LENGTH> hash{};
  SHA256(der, static_cast<std::size_t>(length), reinterpret_cast<unsigned char*>(hash.data()));
  OPENSSL_free(der);
  key->id = base64url_encode({hash.data(), hash.size()});
  jwk["kid"] = key->id;
  jwk["alg"] = key->algorithm;
  key->jwk = json::serialize(jwk);
  return std::shared_ptr<const TokenKey>(std::move(key));
}

// JWS holds the two numbers of an ECDSA signature, 32 bytes each (RFC 7518 3.4); OpenSSL speaks DER.
std::optional<std::string> raw_of_der(const std::string& der) {
  const unsigned char* at = bytes_of(der);
  const SignatureHandle signature(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
  if (!signature) return std::nullopt;
  std::string raw(2 * kEcPartBytes, '\0');
  auto* out = reinterpret_cast<unsigned char*>(raw.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), out, kEcPartBytes);
  BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), out + kEcPartBytes, kEcPartBytes);
  return raw;
}
std::optional<std::string> der_of_raw(const std::string& raw) {
  if (raw.size() != 2 * kEcPartBytes) return std::nullopt;
  const SignatureHandle signature(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(bytes_of(raw), kEcPartBytes, nullptr);
  BIGNUM* s = BN_bin2bn(bytes_of(raw) + kEcPartBytes, kEcPartBytes, nullptr);
  ECDSA_SIG_set0(signature.get(), r, s);
  unsigned char* der = nullptr;
  const int length = i2d_ECDSA_SIG(signature.get(), &der);
  if (length <= 0) return std::nullopt;
  std::string out(reinterpret_cast<char*>(der), static_cast<std::size_t>(length));
  OPENSSL_free(der);
  return out;
}

bool signature_holds(const TokenKey& key, std::string_view signed_text, std::string signature) {
  if (key.algorithm == "ES256") {
    auto der = der_of_raw(signature);
    if (!der) return false;
    signature = std::move(*der);
  }
  const DigestHandle context(EVP_MD_CTX_new());
  const bool holds =
      EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.handle.get()) == 1 &&
      EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(signed_text),
                       signed_text.size()) == 1;
  ERR_clear_error();
  return holds;
}

json::object named(const std::string& name, const std::string& uid) {
  json::object out{{"name", name}};
  if (!uid.empty()) out["uid"] = uid;
  return out;
}

json::value claims_json(const TokenClaims& claims, const std::string& issuer) {
  json::array audiences;
  for (const std::string& audience : claims.audiences) audiences.push_back(json::value(audience));
  json::object own{{"namespace", claims.ns}};
  if (!claims.node_name.empty()) own["node"] = named(claims.node_name, claims.node_uid);
  if (!claims.bound_kind.empty()) own[claims.bound_kind] = named(claims.bound_name, claims.bound_uid);
  own["serviceaccount"] = named(claims.account, claims.account_uid);
  if (claims.warn_after != 0) own["warnafter"] = claims.warn_after;
  return json::object{{"aud", std::move(audiences)},
                      {"exp", claims.expires_at},
                      {"iat", claims.issued_at},
                      {"iss", issuer},
                      {"jti", claims.id},
                      {"kubernetes.io", std::move(own)},
                      {"nbf", claims.not_before},
                      {"sub", claims.subject}};
}

TokenClaims claims_of(const json::value& tree) {
  TokenClaims claims;
  claims.issuer = string_at(tree, "/iss");
  claims.subject = string_at(tree, "/sub");
  if (const json::value* audience = find(tree, "/aud")) {
    if (audience->is_string()) claims.audiences.emplace_back(audience->get_string());
    if (audience->is_array()) {
      for (const json::value& one : audience->get_array()) {
        if (one.is_string()) claims.audiences.emplace_back(one.get_string());
      }
    }
  }
  claims.issued_at = int_at(tree, "/iat");
  claims.not_before = int_at(tree, "/nbf");
  claims.expires_at = int_at(tree, "/exp");
  claims.id = string_at(tree, "/jti");
  const json::value* own = find(tree, "/kubernetes.io");
  if (own == nullptr) return claims;
  claims.ns = string_at(*own, "/namespace");
  claims.account = string_at(*own, "/serviceaccount/name");
  claims.account_uid = string_at(*own, "/serviceaccount/uid");
  for (const char* kind : {"node", "secret", "pod"}) {
    const json::value* bound = find(*own, std::string("/") + kind);
    if (bound == nullptr) continue;
    claims.bound_kind = kind;
    claims.bound_name = string_at(*bound, "/name");
    claims.bound_uid = string_at(*bound, "/uid");
  }
  if (claims.bound_kind == "pod") {
    claims.node_name = string_at(*own, "/node/name");
    claims.node_uid = string_at(*own, "/node/uid");
  }
  claims.warn_after = int_at(*own, "/warnafter");
  return claims;
}

Result<json::value> decoded_part(std::string_view part, const char* what) {
  // Strict alphabet: base64url without padding (RFC 7515 section 2).
  const bool clean = part.find_first_of("+/=") == std::string_view::npos;
  const auto bytes = clean ? base64_decode(part) : std::nullopt;
  if (!bytes) return token_error(std::string("the token's ") + what + " is not base64url");
  auto tree = parse_json(*bytes);
  if (!tree || !tree->is_object())
    return token_error(std::string("the token's ") + what + " is not a JSON object");
  return std::move(*tree);
}
}  // namespace

struct TokenIssuer::Impl {
  std::shared_ptr<const TokenKey> key;
  std::string issuer, jwks;
};

Result<std::shared_ptr<TokenIssuer>> TokenIssuer::create(const std::string& key_pem,
                                                         const std::string& issuer) {
  auto impl = std::make_shared<Impl>();
  ORC_ASSIGN(impl->key, load_key(key_pem, true));
  impl->issuer = issuer;
  impl->jwks = "{\"keys\":[" + impl->key->jwk + "]}";
  auto out = std::make_shared<TokenIssuer>();
  out->impl_ = std::move(impl);
  return out;
}

Result<std::string> TokenIssuer::make_key() {
  const KeyHandle key(EVP_EC_gen("P-256"));
  const BioHandle bio = openssl::writer();
  if (!key || PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    ERR_clear_error();
    return Error(Error::internal, "token", "cannot make a P-256 key");
  }
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<std::size_t>(length));
}

Result<std::string> TokenIssuer::sign(const TokenClaims& claims) const {
  const json::object header{{"alg", impl_->key->algorithm}, {"kid", impl_->key->id}};
  std::string text = base64url_encode(json::serialize(header)) + "." +
                     base64url_encode(to_json(claims_json(claims, impl_->issuer)));
  const DigestHandle context(EVP_MD_CTX_new());
  std::size_t size = 0;
  const auto failed = [] {
    ERR_clear_error();
    return Error(Error::internal, "token", "the token cannot be signed");
  };
  if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, impl_->key->handle.get()) != 1 ||
      EVP_DigestSign(context.get(), nullptr, &size, bytes_of(text), text.size()) != 1) {
    return failed();
  }
  std::string signature(size, '\0');
  if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes_of(text),
                     text.size()) != 1) {
    return failed();
  }
  signature.resize(size);
  if (impl_->key->algorithm == "ES256") {
    auto raw = raw_of_der(signature);
    if (!raw) return failed();
    signature = std::move(*raw);
  }
  return text + "." + base64url_encode(signature);
}
const std::string& TokenIssuer::issuer() const { return impl_->issuer; }
const std::string& TokenIssuer::key_id() const { return impl_->key->id; }
const std::string& TokenIssuer::algorithm() const { return impl_->key->algorithm; }
const std::string& TokenIssuer::jwks() const { return impl_->jwks; }

struct TokenVerifier::Impl {
  std::string issuer;
  std::vector<std::shared_ptr<const TokenKey>> keys;
};
TokenVerifier::TokenVerifier(std::string issuer) : impl_(std::make_shared<Impl>()) {
  impl_->issuer = std::move(issuer);
}
Result<void> TokenVerifier::add_key(const std::string& pem) {
  ORC_ASSIGN(auto key, load_key(pem, false));
  impl_->keys.push_back(std::move(key));
  return {};
}

bool TokenVerifier::is_ours(const std::string& token) const {
  if (token.size() > kTokenBytesMax) return false;
  const std::vector<std::string> parts = split(token, '.');
  if (parts.size() != 3) return false;
  auto payload = decoded_part(parts[1], "payload");
  return payload && string_at(*payload, "/iss") == impl_->issuer;
}

Result<TokenClaims> TokenVerifier::verify(const std::string& token, std::int64_t now_seconds,
                                          const std::vector<std::string>& audiences) const {
  if (token.size() > kTokenBytesMax) return token_error("the token is longer than 16 KiB");
  const std::vector<std::string> parts = split(token, '.');
  if (parts.size() != 3) return token_error("the token has not the three parts of a signed JWT");
  ORC_ASSIGN(const json::value header, decoded_part(parts[0], "header"));
  const std::string id = string_at(header, "/kid");
  const std::string algorithm = string_at(header, "/alg");
  if (find(header, "/crit") != nullptr) return token_error("the token has critical header fields");
  const auto key = std::find_if(impl_->keys.begin(), impl_->keys.end(),
                                [&](const auto& one) { return !id.empty() && one->id == id; });
  if (key == impl_->keys.end()) return token_error("the token names a key that is not known here");
  if (algorithm != (*key)->algorithm) {
    return token_error("the token's algorithm \"" + algorithm.substr(0, 16) + "\" is not that of its key");
  }
  if (parts[2].find_first_of("+/=") != std::string::npos)
    return token_error("the signature is not base64url");
  const auto signature = base64_decode(parts[2]);
  const std::string_view signed_text =
      std::string_view(token).substr(0, parts[0].size() + 1 + parts[1].size());
  if (!signature || !signature_holds(**key, signed_text, *signature)) {
    return token_error("the token's signature does not hold");
  }
  ORC_ASSIGN(const json::value payload, decoded_part(parts[1], "payload"));
  TokenClaims claims = claims_of(payload);
  if (claims.issuer != impl_->issuer) return token_error("the token is from another issuer");
  const json::value* expires = find(payload, "/exp");
  if (expires != nullptr && now_seconds > claims.expires_at + kLeewaySeconds) {
    return token_error("the token has expired");
  }
  if (expires == nullptr && claims.bound_kind != "secret") return token_error("the token never expires");
  if (now_seconds + kLeewaySeconds < claims.not_before || now_seconds + kLeewaySeconds < claims.issued_at) {
    return token_error("the token is not valid yet");
  }
  if (claims.subject != "system:serviceaccount:" + claims.ns + ":" + claims.account || claims.ns.empty() ||
      claims.account.empty()) {
    return token_error("the token's subject is not its service account");
  }
  const bool for_us =
      audiences.empty() ||
      std::any_of(claims.audiences.begin(), claims.audiences.end(), [&](const std::string& one) {
        return std::find(audiences.begin(), audiences.end(), one) != audiences.end();
      });
  if (!for_us) return token_error("the token is for another audience");
  return claims;
}

}  // namespace orchestra
