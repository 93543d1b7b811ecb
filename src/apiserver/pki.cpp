// The certificate authority, on OpenSSL 3: see pki.hpp.
#include "apiserver/pki.hpp"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <set>

#include "api/x509/request.hpp"
#include "apiserver/text.hpp"
#include "base/fd.hpp"
#include "base/openssl.hpp"
#include "orchestra/service_account_token.hpp"

namespace orchestra::apiserver {
namespace {
using openssl::BioHandle;
using openssl::CertificateHandle;
using openssl::ExtensionHandle;
using openssl::KeyHandle;
using openssl::RequestHandle;

constexpr std::int64_t kBackdateSeconds = 3600;  // clocks of clients differ
constexpr Duration kCaLife = std::chrono::hours(24 * 3650);
constexpr std::size_t kPemBytesMax = 64 << 10;

Error ssl_error(const std::string& what) {
  return Error(Error::internal, "apiserver", what + ": " + openssl::reasons());
}

std::string pem_of(X509* certificate) {
  const BioHandle bio = openssl::writer();
  PEM_write_bio_X509(bio.get(), certificate);
  return openssl::text_of(bio);
}
std::string pem_of(EVP_PKEY* key) {
  const BioHandle bio = openssl::writer();
  PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  return openssl::text_of(bio);
}
CertificateHandle parse_certificate(const std::string& pem) {
  const BioHandle bio = openssl::reader(pem);
  return CertificateHandle(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}
KeyHandle parse_key(const std::string& pem) {
  const BioHandle bio = openssl::reader(pem);
  return KeyHandle(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
}
KeyHandle make_key() { return KeyHandle(EVP_EC_gen("P-256")); }

bool is_address(const std::string& name) {
  std::array<unsigned char, 16> bytes{};
  return inet_pton(AF_INET, name.c_str(), bytes.data()) == 1 ||
         inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1;
}

bool add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionHandle extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

void add_name(X509_NAME* name, const char* field, const std::string& value) {
  X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(value.data()),
                             static_cast<int>(value.size()), -1, 0);
}

// Everything but issuer, extensions and signature.
CertificateHandle blank_certificate(Clock& clock, Random& random, EVP_PKEY* key, Duration life) {
  CertificateHandle certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  std::array<unsigned char, 16> serial{};
  random.fill(serial.data(), serial.size());
  serial[0] = static_cast<unsigned char>((serial[0] & 0x7F) | 0x40);  // positive, never short
  BIGNUM* number = BN_bin2bn(serial.data(), static_cast<int>(serial.size()), nullptr);
  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate.get()));
  BN_free(number);
  const time_t now = clock.now().wall_ns / 1'000'000'000;
  ASN1_TIME_set(X509_getm_notBefore(certificate.get()), now - kBackdateSeconds);
  ASN1_TIME_set(X509_getm_notAfter(certificate.get()),
                now + std::chrono::duration_cast<std::chrono::seconds>(life).count());
  X509_set_pubkey(certificate.get(), key);
  return certificate;
}

// notBefore and notAfter as upstream's signer sets them: the end of a short life is not moved.
void set_life(X509* certificate, Now now, Duration life) {
  constexpr std::int64_t kBackdate = 300, kShort = 8 * 3600;
  const time_t at = now.wall_ns / 1'000'000'000;
  const std::int64_t seconds = std::chrono::duration_cast<std::chrono::seconds>(life).count();
  ASN1_TIME_set(X509_getm_notBefore(certificate), at - kBackdate);
  ASN1_TIME_set(X509_getm_notAfter(certificate), at + seconds - (seconds < kShort ? 0 : kBackdate));
}

struct UsageName {
  std::string_view usage;
  const char* key;       // keyUsage, or null
  const char* extended;  // extendedKeyUsage, or null
};
constexpr UsageName kUsageNames[] = {
    {"signing", "digitalSignature", nullptr},
    {"digital signature", "digitalSignature", nullptr},
    {"content commitment", "nonRepudiation", nullptr},
    {"key encipherment", "keyEncipherment", nullptr},
    {"key agreement", "keyAgreement", nullptr},
    {"data encipherment", "dataEncipherment", nullptr},
    {"cert sign", "keyCertSign", nullptr},
    {"crl sign", "cRLSign", nullptr},
    {"encipher only", "encipherOnly", nullptr},
    {"decipher only", "decipherOnly", nullptr},
    {"any", nullptr, "anyExtendedKeyUsage"},
    {"server auth", nullptr, "serverAuth"},
    {"client auth", nullptr, "clientAuth"},
    {"code signing", nullptr, "codeSigning"},
    {"email protection", nullptr, "emailProtection"},
    {"s/mime", nullptr, "emailProtection"},
    {"ipsec end system", nullptr, "1.3.6.1.5.5.7.3.5"},
    {"ipsec tunnel", nullptr, "1.3.6.1.5.5.7.3.6"},
    {"ipsec user", nullptr, "1.3.6.1.5.5.7.3.7"},
    {"timestamping", nullptr, "timeStamping"},
    {"ocsp signing", nullptr, "OCSPSigning"},
    {"microsoft sgc", nullptr, "msSGC"},
    {"netscape sgc", nullptr, "nsSGC"},
};
// Texts in OpenSSL's notation, of words that are ours.
std::pair<std::string, std::string> usage_texts(const std::vector<std::string>& usages) {
  std::set<std::string> key;
  std::set<std::string> extended;
  for (const UsageName& name : kUsageNames) {
    if (std::find(usages.begin(), usages.end(), name.usage) == usages.end()) continue;
    if (name.key != nullptr) key.insert(name.key);
    if (name.extended != nullptr) extended.insert(name.extended);
  }
  const auto joined = [](const std::set<std::string>& words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
    return text;
  };
  return {joined(key), joined(extended)};
}

// The names of a request that a certificate may have; others (directory names...) are left out.
bool copy_names(X509_REQ* request, X509* certificate) {
  STACK_OF(X509_EXTENSION)* extensions = X509_REQ_get_extensions(request);
  auto* names =
      static_cast<GENERAL_NAMES*>(X509V3_get_d2i(extensions, NID_subject_alt_name, nullptr, nullptr));
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  if (names == nullptr) return true;
  GENERAL_NAMES* kept = GENERAL_NAMES_new();
  while (GENERAL_NAME* name = sk_GENERAL_NAME_shift(names)) {
    const bool fine =
        name->type == GEN_DNS || name->type == GEN_EMAIL || name->type == GEN_URI || name->type == GEN_IPADD;
    if (fine) {
      sk_GENERAL_NAME_push(kept, name);
    } else {
      GENERAL_NAME_free(name);
    }
  }
  const bool done = sk_GENERAL_NAME_num(kept) == 0 ||
                    X509_add1_ext_i2d(certificate, NID_subject_alt_name, kept, 0, X509V3_ADD_DEFAULT) == 1;
  GENERAL_NAMES_free(kept);
  GENERAL_NAMES_free(names);
  return done;
}

std::string indent_base64(const std::string& key, const std::string& pem) {
  return "    " + key + ": " + base64_encode(pem) + "\n";
}
}  // namespace

struct Pki::Impl {
  CertificateHandle certificate;
  KeyHandle key;
};

Pki::Pki(Clock& clock, Random& random, PkiOptions options)
    : clock_(clock), random_(random), options_(std::move(options)), impl_(std::make_unique<Impl>()) {}
Pki::~Pki() = default;

Result<std::shared_ptr<Pki>> Pki::open(Clock& clock, Random& random, PkiOptions options) {
  std::shared_ptr<Pki> pki(new Pki(clock, random, std::move(options)));
  ORC_TRY(pki->load());
  return pki;
}

Result<void> Pki::load() {
  const std::string& directory = options_.directory;
  if (!directory.empty()) ORC_TRY(make_directories(directory, 0700));
  auto certificate =
      directory.empty() ? Result<std::string>(std::string()) : read_file(directory + "/ca.crt", kPemBytesMax);
  auto key =
      directory.empty() ? Result<std::string>(std::string()) : read_file(directory + "/ca.key", kPemBytesMax);
  for (const auto* part : {&certificate, &key}) {
    if (!*part && !part->error().is(Error::not_found)) return part->error();
  }
  if (certificate && key && !certificate->empty()) {
    ca_ = {*certificate, *key};
    impl_->certificate = parse_certificate(ca_.certificate_pem);
    impl_->key = parse_key(ca_.key_pem);
    if (!impl_->certificate || !impl_->key ||
        X509_check_private_key(impl_->certificate.get(), impl_->key.get()) != 1) {
      ERR_clear_error();
      return Error(Error::corrupt, "apiserver",
                   directory +
                       "/ca.crt and ca.key are not a certificate and its key; restore them, or remove both "
                       "to make a new authority (clients then need a new kubeconfig)");
    }
  } else {
    ORC_TRY(make_ca());
  }
  ORC_ASSIGN(secret_, load_or_make_secret("continue.key"));
  ORC_ASSIGN(admin_token_, load_or_make_secret("admin.token"));
  ORC_ASSIGN(token_key_, load_or_make_token_key());
  return {};
}

Result<void> Pki::make_ca() {
  KeyHandle key = make_key();
  if (!key) return ssl_error("cannot make a P-256 key");
  CertificateHandle certificate = blank_certificate(clock_, random_, key.get(), kCaLife);
  X509* raw = certificate.get();
  add_name(X509_get_subject_name(raw), "CN", "orchestra-ca");
  X509_set_issuer_name(raw, X509_get_subject_name(raw));
  const bool extended =
      add_extension(raw, raw, NID_basic_constraints, "critical,CA:TRUE") &&
      add_extension(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign,digitalSignature") &&
      add_extension(raw, raw, NID_subject_key_identifier, "hash");
  if (!extended || X509_sign(raw, key.get(), EVP_sha256()) == 0)
    return ssl_error("cannot sign the CA certificate");
  ca_ = {pem_of(raw), pem_of(key.get())};
  impl_->certificate = std::move(certificate);
  impl_->key = std::move(key);
  if (options_.directory.empty()) return {};
  // The key first: a certificate without its key would be taken for damage at the next start.
  ORC_TRY(replace_file(options_.directory + "/ca.key", ca_.key_pem, 0600, true));
  return replace_file(options_.directory + "/ca.crt", ca_.certificate_pem, 0644, true);
}

Result<std::string> Pki::load_or_make_token_key() const {
  const std::string path = options_.directory + "/sa.key";
  if (!options_.directory.empty()) {
    auto stored = read_file(path, kPemBytesMax);
    if (stored && !stored->empty()) return stored;
    if (!stored && !stored.error().is(Error::not_found)) return stored.error();
  }
  ORC_ASSIGN(std::string key, TokenIssuer::make_key());
  if (!options_.directory.empty()) ORC_TRY(replace_file(path, key, 0600, true));
  return key;
}

Result<std::string> Pki::load_or_make_secret(const std::string& name) const {
  const std::string path = options_.directory + "/" + name;
  if (!options_.directory.empty()) {
    auto stored = read_file(path, kPemBytesMax);
    if (stored && !stored->empty()) return std::string(trim(*stored));
    if (!stored && !stored.error().is(Error::not_found)) return stored.error();
  }
  std::array<char, 32> bytes{};
  random_.fill(bytes.data(), bytes.size());
  std::string secret = base64url_encode({bytes.data(), bytes.size()});
  if (!options_.directory.empty()) ORC_TRY(replace_file(path, secret + "\n", 0600, false));
  return secret;
}

Result<KeyPair> Pki::issue(const std::string& common_name, const std::vector<std::string>& organizations,
                           const std::vector<std::string>& names, bool server) const {
  const KeyHandle key = make_key();
  if (!key) return ssl_error("cannot make a P-256 key");
  const CertificateHandle certificate =
      blank_certificate(clock_, random_, key.get(), options_.certificate_life);
  X509* raw = certificate.get();
  X509_NAME* subject = X509_get_subject_name(raw);
  for (const std::string& organization : organizations) add_name(subject, "O", organization);
  add_name(subject, "CN", common_name);
  X509* issuer = impl_->certificate.get();
  X509_set_issuer_name(raw, X509_get_subject_name(issuer));
  bool extended = add_extension(raw, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
                  add_extension(raw, issuer, NID_key_usage, "critical,digitalSignature") &&
                  add_extension(raw, issuer, NID_ext_key_usage, server ? "serverAuth" : "clientAuth") &&
                  add_extension(raw, issuer, NID_authority_key_identifier, "keyid");
  std::string alternatives;
  for (const std::string& name : names) {
    if (!alternatives.empty()) alternatives += ',';
    alternatives += (is_address(name) ? "IP:" : "DNS:") + name;
  }
  if (!alternatives.empty())
    extended = extended && add_extension(raw, issuer, NID_subject_alt_name, alternatives);
  if (!extended || X509_sign(raw, impl_->key.get(), EVP_sha256()) == 0) {
    return ssl_error("cannot sign a certificate for \"" + common_name + "\"");
  }
  return KeyPair{pem_of(raw), pem_of(key.get())};
}

Result<std::string> Pki::sign_request(const std::string& request_pem, const std::vector<std::string>& usages,
                                      Duration life) const {
  ORC_TRY(api::read_certificate_request(request_pem));  // form and signature
  const BioHandle bio = openssl::reader(request_pem);
  const RequestHandle request(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
  if (!request) return ssl_error("cannot read the certificate request");
  const CertificateHandle certificate =
      blank_certificate(clock_, random_, X509_REQ_get0_pubkey(request.get()), life);
  X509* raw = certificate.get();
  X509* issuer = impl_->certificate.get();
  set_life(raw, clock_.now(), life);
  // No certificate outlives its authority.
  if (ASN1_TIME_compare(X509_get0_notAfter(raw), X509_get0_notAfter(issuer)) > 0)
    X509_set1_notAfter(raw, X509_get0_notAfter(issuer));
  X509_set_subject_name(raw, X509_REQ_get_subject_name(request.get()));
  X509_set_issuer_name(raw, X509_get_subject_name(issuer));
  bool extended = add_extension(raw, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
                  add_extension(raw, issuer, NID_authority_key_identifier, "keyid");
  const auto [key_usage, extended_usage] = usage_texts(usages);
  if (!key_usage.empty())
    extended = extended && add_extension(raw, issuer, NID_key_usage, "critical," + key_usage);
  if (!extended_usage.empty())
    extended = extended && add_extension(raw, issuer, NID_ext_key_usage, extended_usage);
  extended = extended && copy_names(request.get(), raw);
  if (!extended || X509_sign(raw, impl_->key.get(), EVP_sha256()) == 0)
    return ssl_error("cannot sign the certificate request");
  return pem_of(raw);
}

Result<KeyPair> Pki::issue_server(const std::string& common_name,
                                  const std::vector<std::string>& names) const {
  return issue(common_name, {}, names, true);
}
Result<KeyPair> Pki::issue_client(const std::string& user, const std::vector<std::string>& groups) const {
  return issue(user, groups, {}, false);
}

std::string kubeconfig_text(const KubeconfigOptions& options) {
  std::string text = "apiVersion: v1\nkind: Config\ncurrent-context: " + options.cluster +
                     "\nclusters:\n- name: " + options.cluster +
                     "\n  cluster:\n    server: " + options.server + "\n";
  if (!options.ca_pem.empty()) text += indent_base64("certificate-authority-data", options.ca_pem);
  text += "contexts:\n- name: " + options.cluster + "\n  context:\n    cluster: " + options.cluster +
          "\n    user: " + options.user + "\nusers:\n- name: " + options.user + "\n  user:\n";
  if (!options.client.certificate_pem.empty()) {
    text += indent_base64("client-certificate-data", options.client.certificate_pem);
    text += indent_base64("client-key-data", options.client.key_pem);
  } else {
    text += "    token: " + options.token + "\n";
  }
  return text;
}

}  // namespace orchestra::apiserver
