// Authority and certificates of peer_tls.hpp.
#include "cluster/peer_tls.hpp"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <array>

#include "base/fd.hpp"

namespace orchestra::cluster {
namespace {

constexpr std::string_view kSalt = "orchestra store peers 1";
constexpr std::size_t kKeySize = 32;
constexpr std::uint64_t kScryptN = 1u << 15, kScryptR = 8, kScryptP = 1, kScryptMemory = 64u << 20;
constexpr const char* kFrom = "20200101000000Z";
constexpr const char* kTo = "99991231235959Z";
constexpr std::size_t kFileMax = 1 << 16;

struct Free {
  void operator()(EVP_PKEY* key) const { ::EVP_PKEY_free(key); }
  void operator()(X509* certificate) const { ::X509_free(certificate); }
  void operator()(X509_EXTENSION* extension) const { ::X509_EXTENSION_free(extension); }
  void operator()(BIGNUM* number) const { ::BN_free(number); }
  void operator()(BIO* bio) const { ::BIO_free(bio); }
};
template <class T>
using Handle = std::unique_ptr<T, Free>;
using Seed = std::array<unsigned char, kKeySize>;

Error failed(const char* what) {
  return {Error::internal, "cluster", std::string("OpenSSL could not ") + what + " for the store's peers"};
}

Handle<EVP_PKEY> key_of(const Seed& seed) {
  return Handle<EVP_PKEY>(
      ::EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed.data(), seed.size()));
}

/// Everything but issuer, extensions and signature.
Handle<X509> blank(EVP_PKEY* key, std::string_view serial, const char* name) {
  Handle<X509> made(::X509_new());
  const Handle<BIGNUM> number(::BN_bin2bn(reinterpret_cast<const unsigned char*>(serial.data()),
                                          static_cast<int>(serial.size()), nullptr));
  const bool fine =
      made && number && ::X509_set_version(made.get(), X509_VERSION_3) == 1 &&
      ::BN_to_ASN1_INTEGER(number.get(), ::X509_get_serialNumber(made.get())) != nullptr &&
      ::ASN1_TIME_set_string(::X509_getm_notBefore(made.get()), kFrom) == 1 &&
      ::ASN1_TIME_set_string(::X509_getm_notAfter(made.get()), kTo) == 1 &&
      ::X509_set_pubkey(made.get(), key) == 1 &&
      ::X509_NAME_add_entry_by_txt(::X509_get_subject_name(made.get()), "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(name), -1, -1, 0) == 1;
  return fine ? std::move(made) : nullptr;
}
bool extend(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  ::X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Handle<X509_EXTENSION> extension(::X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  return extension && ::X509_add_ext(certificate, extension.get(), -1) == 1;
}

std::string text_of(BIO* bio) {
  char* bytes = nullptr;
  const long size = ::BIO_get_mem_data(bio, &bytes);
  return {bytes, static_cast<std::size_t>(size)};
}
std::string pem_of(X509* certificate) {
  const Handle<BIO> bio(::BIO_new(::BIO_s_mem()));
  return ::PEM_write_bio_X509(bio.get(), certificate) == 1 ? text_of(bio.get()) : std::string();
}
std::string pem_of(EVP_PKEY* key) {
  const Handle<BIO> bio(::BIO_new(::BIO_s_mem()));
  const bool fine = ::PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1;
  return fine ? text_of(bio.get()) : std::string();
}

/// The same bytes for the same key: Ed25519 signatures need no chance.
Handle<X509> make_authority(EVP_PKEY* key) {
  Handle<X509> made = blank(key, "\x01", "orchestra-store-peers");
  if (!made) return nullptr;
  X509* raw = made.get();
  const bool fine = ::X509_set_issuer_name(raw, ::X509_get_subject_name(raw)) == 1 &&
                    extend(raw, raw, NID_basic_constraints, "critical,CA:TRUE") &&
                    extend(raw, raw, NID_key_usage, "critical,keyCertSign") &&
                    extend(raw, raw, NID_subject_key_identifier, "hash") &&
                    ::X509_sign(raw, key, nullptr) != 0;
  return fine ? std::move(made) : nullptr;
}

}  // namespace

Result<StoreTls> make_peer_tls(const std::string& token, const std::vector<std::string>& addresses,
                               Random& random) {
  Seed seed{};
  if (::EVP_PBE_scrypt(token.data(), token.size(), reinterpret_cast<const unsigned char*>(kSalt.data()),
                       kSalt.size(), kScryptN, kScryptR, kScryptP, kScryptMemory, seed.data(),
                       seed.size()) != 1)
    return failed("derive a key");
  const Handle<EVP_PKEY> authority_key = key_of(seed);
  random.fill(seed.data(), seed.size());
  const Handle<EVP_PKEY> own_key = key_of(seed);
  if (!authority_key || !own_key) return failed("make a key");
  const Handle<X509> authority = make_authority(authority_key.get());
  std::string serial(16, '\0');
  random.fill(serial.data(), serial.size());
  serial[0] = static_cast<char>((serial[0] & 0x3F) | 0x40);  // positive, never short
  const Handle<X509> own = blank(own_key.get(), serial, "peer");
  if (!authority || !own) return failed("make a certificate");
  std::string names;
  for (const std::string& address : addresses) names += (names.empty() ? "IP:" : ",IP:") + address;
  X509* raw = own.get();
  const bool fine = ::X509_set_issuer_name(raw, ::X509_get_subject_name(authority.get())) == 1 &&
                    extend(raw, authority.get(), NID_basic_constraints, "critical,CA:FALSE") &&
                    extend(raw, authority.get(), NID_key_usage, "critical,digitalSignature") &&
                    extend(raw, authority.get(), NID_ext_key_usage, "serverAuth,clientAuth") &&
                    extend(raw, authority.get(), NID_authority_key_identifier, "keyid") &&
                    (names.empty() || extend(raw, authority.get(), NID_subject_alt_name, names)) &&
                    ::X509_sign(raw, authority_key.get(), nullptr) != 0;
  if (!fine) return failed("sign a certificate");
  StoreTls tls;
  tls.ca_pem = pem_of(authority.get());
  tls.certificate_pem = pem_of(raw);
  tls.key_pem = pem_of(own_key.get());
  return tls;
}

Result<void> check_peer_authority(const std::string& data_dir, const StoreTls& tls) {
  const auto kept = read_file(data_dir + "/peers.crt", kFileMax);
  if (!kept && !kept.error().is(Error::not_found)) return kept.error();
  if (!kept || *kept == tls.ca_pem) return {};
  return Error(Error::denied, "cluster",
               "this token is not the one with which " + data_dir +
                   " belongs to its cluster; copy the file DIR/token of the first peer and name it with "
                   "--token-file");
}
Result<void> keep_peer_authority(const std::string& data_dir, const StoreTls& tls) {
  return replace_file(data_dir + "/peers.crt", tls.ca_pem, 0600, true);
}

}  // namespace orchestra::cluster
