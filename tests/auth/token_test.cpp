// Service account tokens as bytes: what is believed and, above all, what is not.
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include "apiserver/text.hpp"
#include "base/json.hpp"
#include "orchestra/service_account_token.hpp"
#include "tests/support/test.hpp"

using namespace orchestra;
using namespace orchestra::apiserver;

namespace {
constexpr std::int64_t kNow = 1'800'000'000;
const std::string kIssuer = "https://issuer.test";

std::string rsa_key() {
  EVP_PKEY* key = EVP_RSA_gen(2048);
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string pem(data, static_cast<std::size_t>(size));
  BIO_free_all(bio);
  EVP_PKEY_free(key);
  return pem;
}
std::string public_pem(const std::string& private_pem) {
  BIO* in = BIO_new_mem_buf(private_pem.data(), static_cast<int>(private_pem.size()));
  EVP_PKEY* key = PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr);
  BIO* out = BIO_new(BIO_s_mem());
  PEM_write_bio_PUBKEY(out, key);
  char* data = nullptr;
  const long size = BIO_get_mem_data(out, &data);
  std::string pem(data, static_cast<std::size_t>(size));
  BIO_free_all(in);
  BIO_free_all(out);
  EVP_PKEY_free(key);
  return pem;
}
TokenClaims good() {
  TokenClaims claims;
  claims.subject = "system:serviceaccount:shop:web";
  claims.audiences = {kIssuer};
  claims.issued_at = claims.not_before = kNow;
  claims.expires_at = kNow + 3600;
  claims.id = "one";
  claims.ns = "shop";
  claims.account = "web";
  claims.account_uid = "u1";
  claims.bound_kind = "pod";
  claims.bound_name = "p";
  claims.bound_uid = "u2";
  claims.node_name = "n";
  claims.node_uid = "u3";
  claims.warn_after = kNow + 10;
  return claims;
}
struct Desk {
  std::string key;
  std::shared_ptr<TokenIssuer> issuer;
  TokenVerifier verifier{kIssuer};
  explicit Desk(std::string pem) : key(std::move(pem)) {
    auto made = TokenIssuer::create(key, kIssuer);
    REQUIRE(made);
    issuer = *made;
    REQUIRE(verifier.add_key(public_pem(key)));
  }
  std::string refused(const std::string& token, std::int64_t now = kNow,
                      std::vector<std::string> audiences = {kIssuer}) {
    auto result = verifier.verify(token, now, audiences);
    REQUIRE_FALSE(result);
    CHECK(result.error().is(Error::unauthenticated));
    return result.error().message();
  }
};
std::string encoded(const json::value& value) { return base64url_encode(json::serialize(value)); }
}  // namespace

TEST_CASE("a token says to its verifier what its issuer was told, with both kinds of keys") {
  auto made = TokenIssuer::make_key();
  REQUIRE(made);
  for (const std::string& pem : {*made, rsa_key()}) {
    Desk desk(pem);
    const auto token = desk.issuer->sign(good());
    REQUIRE(token);
    auto claims = desk.verifier.verify(*token, kNow + 1, {"x", kIssuer});
    REQUIRE(claims);
    CHECK(claims->subject == "system:serviceaccount:shop:web");
    CHECK(claims->bound_kind == "pod");
    CHECK(claims->bound_uid == "u2");
    CHECK(claims->node_name == "n");
    CHECK(claims->warn_after == kNow + 10);
    CHECK(desk.verifier.is_ours(*token));
    auto jwks = parse_json(desk.issuer->jwks());
    REQUIRE(jwks);
    CHECK(string_at(*jwks, "/keys/0/kid") == desk.issuer->key_id());
    CHECK(string_at(*jwks, "/keys/0/alg") == desk.issuer->algorithm());
    CHECK(find(*jwks, "/keys/0/d") == nullptr);  // nothing private
  }
}

TEST_CASE("alg none, HMAC with the public key, unknown and foreign keys, changed bytes are refused") {
  Desk desk(rsa_key());
  const std::string token = desk.issuer->sign(good()).value();
  const std::vector<std::string> parts = split(token, '.');
  const std::string kid = desk.issuer->key_id();
  CHECK(desk.refused(encoded(json::object{{"alg", "none"}, {"kid", kid}}) + "." + parts[1] + ".") ==
        "the token's algorithm \"none\" is not that of its key");
  // The classic: HS256, the secret being the public key that everybody can read.
  const std::string pem = public_pem(desk.key);
  const std::string head = encoded(json::object{{"alg", "HS256"}, {"kid", kid}}) + "." + parts[1];
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), pem.data(), static_cast<int>(pem.size()),
       reinterpret_cast<const unsigned char*>(head.data()), head.size(), mac, &size);
  CHECK(desk.refused(head + "." + base64url_encode({reinterpret_cast<char*>(mac), size})) ==
        "the token's algorithm \"HS256\" is not that of its key");
  CHECK(desk.refused(encoded(json::object{{"alg", "ES256"}, {"kid", kid}}) + "." + parts[1] + "." + parts[2])
            .find("algorithm") != std::string::npos);
  CHECK(desk.refused(encoded(json::object{{"alg", "RS256"}, {"kid", "other"}}) + "." + parts[1] + "." +
                     parts[2]) == "the token names a key that is not known here");
  CHECK(desk.refused(encoded(json::object{{"alg", "RS256"}}) + "." + parts[1] + "." + parts[2]) ==
        "the token names a key that is not known here");
  Desk stranger(rsa_key());
  CHECK(desk.refused(parts[0] + "." + split(stranger.issuer->sign(good()).value(), '.')[1] + "." +
                     split(stranger.issuer->sign(good()).value(), '.')[2]) ==
        "the token's signature does not hold");
  TokenClaims admin = good();
  admin.account = "admin";
  admin.subject = "system:serviceaccount:shop:admin";
  CHECK(desk.refused(parts[0] + "." + split(stranger.issuer->sign(admin).value(), '.')[1] + "." + parts[2]) ==
        "the token's signature does not hold");
  CHECK(desk.refused(token + ".x") == "the token has not the three parts of a signed JWT");
  CHECK(desk.refused(parts[0] + "." + parts[1] + "." + parts[2] + "=") == "the signature is not base64url");
  CHECK(desk.refused(std::string(20000, 'a')) == "the token is longer than 16 KiB");
  CHECK(desk.refused("") == "the token has not the three parts of a signed JWT");
}

TEST_CASE("time, audience, issuer and subject are looked at, after the signature") {
  Desk desk(TokenIssuer::make_key().value());
  const std::string token = desk.issuer->sign(good()).value();
  CHECK(desk.verifier.verify(token, kNow + 3600 + 30, {kIssuer}));  // a minute of leeway
  CHECK(desk.refused(token, kNow + 3600 + 61) == "the token has expired");
  CHECK(desk.refused(token, kNow - 61) == "the token is not valid yet");
  CHECK(desk.refused(token, kNow, {"vault"}) == "the token is for another audience");
  TokenClaims wrong = good();
  wrong.subject = "system:serviceaccount:kube-system:web";
  CHECK(desk.refused(desk.issuer->sign(wrong).value()) == "the token's subject is not its service account");
  TokenVerifier other("https://other.test");
  REQUIRE(other.add_key(desk.key));
  CHECK_FALSE(other.verify(token, kNow, {}));
}

TEST_CASE("keys that tokens must not be signed with are refused") {
  CHECK_FALSE(TokenIssuer::create("no key", kIssuer));
  EVP_PKEY* small = EVP_RSA_gen(1024);
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(bio, small, nullptr, nullptr, 0, nullptr, nullptr);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  const std::string pem(data, static_cast<std::size_t>(size));
  BIO_free_all(bio);
  EVP_PKEY_free(small);
  CHECK_FALSE(TokenIssuer::create(pem, kIssuer));
}
