// Keys and certificates of a joined node: see node_identity.hpp.
#include "cluster/node_identity.hpp"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <array>
#include <ctime>

#include "api/object_tree.hpp"
#include "base/base64.hpp"
#include "base/fd.hpp"
#include "base/openssl.hpp"
#include "base/yaml.hpp"
#include "orchestra/remote_client.hpp"

namespace orchestra::cluster {

using namespace std::chrono_literals;

namespace {
using openssl::BioHandle;
using openssl::CertificateHandle;
using openssl::KeyHandle;
using openssl::RequestHandle;
constexpr std::size_t kPemBytesMax = 64 << 10;
constexpr const char* kSigner = "kubernetes.io/kube-apiserver-client-kubelet";
constexpr const char* kCsrVersion = "certificates.k8s.io/v1";
constexpr Duration kApiDeadline = 10s;
constexpr Duration kLookEvery = 200ms;

Error bad(Error::Code code, std::string text) { return Error(code, "cluster", std::move(text)); }
Error ssl_error(const std::string& what) { return bad(Error::internal, what + ": " + openssl::reasons()); }
Result<CertificateHandle> parse(const std::string& pem) {
  const BioHandle bio = openssl::reader(pem);
  CertificateHandle certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (!certificate) return bad(Error::corrupt, "this is no certificate in PEM");
  return certificate;
}
std::int64_t wall_ns(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return std::int64_t{timegm(&parts)} * 1'000'000'000;
}
void add_name(X509_NAME* name, const char* field, const std::string& value) {
  X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(value.data()),
                             static_cast<int>(value.size()), -1, 0);
}
}  // namespace

std::string write_join_token(const JoinToken& token) {
  return "# A node joins with this: orchestra join https://ADDRESS:PORT --token-file THIS\n# Who has it can "
         "add nodes "
         "until the token expires.\ntoken: " +
         token.token + "\nca-hash: " + token.ca_hash + "\n";
}

Result<JoinToken> parse_join_token(const std::string& text) {
  ORC_ASSIGN(const json::value tree, parse_yaml(text));
  JoinToken out{string_at(tree, "/token"), string_at(tree, "/ca-hash")};
  if (out.token.size() != 23 || out.token[6] != '.' ||
      out.token.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.") != std::string::npos)
    return bad(Error::invalid,
               "the token file has no \"token: \" of the form abcdef.0123456789abcdef; copy the file "
               "node-token of the control plane's data folder");
  if (out.ca_hash.size() != 71 || out.ca_hash.compare(0, 7, "sha256:") != 0 ||
      out.ca_hash.find_first_not_of("0123456789abcdef", 7) != std::string::npos)
    return bad(Error::invalid,
               "the token file has no \"ca-hash: sha256:\" with 64 hex digits; copy the file "
               "node-token of the control plane's data folder");
  return out;
}

Result<std::string> ca_hash(const std::string& certificate_pem) {
  ORC_ASSIGN(const CertificateHandle certificate, parse(certificate_pem));
  unsigned char* der = nullptr;
  const int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate.get()), &der);
  if (length <= 0) return ssl_error("public key of the certificate authority");
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(der, static_cast<std::size_t>(length), digest.data(), &size, EVP_sha256(), nullptr);
  OPENSSL_free(der);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "sha256:";
  for (unsigned i = 0; i < size; ++i) {
    out += kHex[digest[i] >> 4];
    out += kHex[digest[i] & 15];
  }
  return out;
}

Result<CertificateRequest> make_node_request(const std::string& node_name) {
  const KeyHandle key(EVP_EC_gen("P-256"));
  const RequestHandle request(X509_REQ_new());
  if (!key || !request) return ssl_error("cannot make a P-256 key");
  X509_NAME* name = X509_REQ_get_subject_name(request.get());
  add_name(name, "O", "system:nodes");
  add_name(name, "CN", "system:node:" + node_name);
  if (X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_pubkey(request.get(), key.get()) != 1 ||
      X509_REQ_sign(request.get(), key.get(), EVP_sha256()) == 0)
    return ssl_error("cannot sign the certificate request");
  const BioHandle key_bio = openssl::writer();
  const BioHandle request_bio = openssl::writer();
  PEM_write_bio_PrivateKey(key_bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  PEM_write_bio_X509_REQ(request_bio.get(), request.get());
  return CertificateRequest{openssl::text_of(key_bio), openssl::text_of(request_bio)};
}

Result<CertificateFacts> read_certificate(const std::string& certificate_pem) {
  ORC_ASSIGN(const CertificateHandle certificate, parse(certificate_pem));
  std::array<char, 256> name{};
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name.data(),
                            static_cast<int>(name.size()));
  return CertificateFacts{name.data(), wall_ns(X509_get0_notBefore(certificate.get())),
                          wall_ns(X509_get0_notAfter(certificate.get()))};
}

Result<void> check_pair(const std::string& certificate_pem, const std::string& key_pem) {
  ORC_ASSIGN(const CertificateHandle certificate, parse(certificate_pem));
  const BioHandle bio = openssl::reader(key_pem);
  const KeyHandle key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  const bool fits = key && X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (fits) return {};
  return bad(Error::conflict, "the node's certificate and key do not belong together");
}

Result<std::string> fetch_ca(HttpClient& http, const std::string& server, const std::string& hash) {
  HttpRequest request;
  request.url = server + "/api/v1/namespaces/kube-public/configmaps/cluster-info";
  request.headers.emplace_back("Accept", "application/json");
  request.tls.verify = false;  // what comes is believed only if the hash proves it
  request.body_bytes_max = 1 << 20;
  ORC_ASSIGN(const HttpResponse answer, http.send(std::move(request)).wait(kApiDeadline * 3));
  if (answer.status != 200) {
    return bad(Error::unavailable,
               server + " answers " + std::to_string(answer.status) +
                   " for the ConfigMap kube-public/cluster-info: " + answer.body.substr(0, 200));
  }
  ORC_ASSIGN(const json::value tree, parse_json(answer.body));
  auto found = read_kubeconfig(string_at(tree, "/data/kubeconfig"));
  if (!found) return found.error().with_context("ConfigMap kube-public/cluster-info of " + server);
  ORC_ASSIGN(const std::string real, ca_hash(found->ca_pem));
  if (real == hash) return found->ca_pem;
  return bad(Error::denied, "the certificate authority of " + server + " is " + real +
                                ", the token file expects " + hash +
                                ": another cluster, or somebody in between");
}

Result<std::string> request_certificate(Engine& engine, const Client& client, const std::string& request_pem,
                                        Duration deadline) {
  const json::value wanted =
      json::object{{"apiVersion", kCsrVersion},
                   {"kind", "CertificateSigningRequest"},
                   {"metadata", json::object{{"generateName", "node-csr-"}}},
                   {"spec", json::object{{"request", encode_base64_text(request_pem)},
                                         {"signerName", kSigner},
                                         {"usages", json::array{"digital signature", "client auth"}}}}};
  auto made = client.create(object_from_tree(wanted)).wait(kApiDeadline);
  if (!made) return made.error().with_context("asking for a certificate");
  const std::int64_t until = engine.clock().now().steady_ns + deadline.count();
  while (true) {
    auto now = client.get(kCsrVersion, "certificatesigningrequests", made->name()).wait(kApiDeadline);
    if (!now) return now.error().with_context("CertificateSigningRequest " + made->name());
    const json::value& object = tree(*now);
    if (const std::string encoded = string_at(object, "/status/certificate"); !encoded.empty()) {
      auto pem = decode_base64_text(encoded);
      if (!pem) return bad(Error::corrupt, "the certificate in " + made->name() + " is not base64");
      return *pem;
    }
    if (const json::array* conditions = array_at(object, "/status/conditions")) {
      for (const json::value& one : *conditions) {
        const std::string type = string_at(one, "/type");
        if (type == "Denied" || type == "Failed")
          return bad(Error::denied, "CertificateSigningRequest " + made->name() + " was " +
                                        (type == "Denied" ? "denied" : "not signed") + ": " +
                                        string_at(one, "/message", string_at(one, "/reason")));
      }
    }
    if (engine.clock().now().steady_ns > until) {
      return bad(Error::deadline_exceeded,
                 "CertificateSigningRequest " + made->name() +
                     " was not signed in time; look at `kubectl get csr`, approve it with "
                     "`kubectl certificate approve`, and join again");
    }
    const Promise<> nobody;
    (void)nobody.pending().wait(kLookEvery);
  }
}

Result<bool> NodeIdentity::load(std::int64_t now_wall_ns) {
  std::array<std::string, 3> text;
  std::size_t at = 0;
  for (const char* name : {"ca.crt", "node.crt", "node.key"}) {
    auto read = read_file(folder_ + "/" + name, kPemBytesMax);
    if (!read && read.error().is(Error::not_found)) return false;
    if (!read) return read.error();
    text[at++] = std::move(*read);
  }
  auto facts = read_certificate(text[1]);
  if (!facts) return facts.error().with_context(folder_ + "/node.crt");
  if (facts->common_name != "system:node:" + node_name_) {
    return bad(Error::conflict, folder_ + "/node.crt is that of " + facts->common_name + ", not of node " +
                                    node_name_ + "; use its name, or another data folder");
  }
  if (facts->not_after_ns <= now_wall_ns) return false;
  ORC_TRY(check_pair(text[1], text[2]));
  std::lock_guard lock(mutex_);
  ca_ = text[0];
  certificate_ = text[1];
  key_ = text[2];
  return true;
}

Result<void> NodeIdentity::keep(const std::string& ca_pem, const std::string& certificate_pem,
                                const std::string& key_pem) {
  ORC_TRY(check_pair(certificate_pem, key_pem));
  ORC_TRY(make_directories(folder_, 0700));
  // The certificate last: without one, a start asks for a new one.
  (void)real_disk().remove(folder_ + "/node.crt");
  ORC_TRY(replace_file(folder_ + "/ca.crt", ca_pem, 0644, true));
  ORC_TRY(replace_file(folder_ + "/node.key", key_pem, 0600, true));
  ORC_TRY(replace_file(folder_ + "/node.crt", certificate_pem, 0644, true));
  std::lock_guard lock(mutex_);
  ca_ = ca_pem;
  certificate_ = certificate_pem;
  key_ = key_pem;
  return {};
}

std::string NodeIdentity::ca_pem() const {
  std::lock_guard lock(mutex_);
  return ca_;
}
std::pair<std::string, std::string> NodeIdentity::pair() const {
  std::lock_guard lock(mutex_);
  return {certificate_, key_};
}
std::int64_t NodeIdentity::renew_at_ns() const {
  const auto facts = read_certificate(pair().first);
  if (!facts) return 0;
  return facts->not_before_ns + (facts->not_after_ns - facts->not_before_ns) / 3 * 2;
}

}  // namespace orchestra::cluster
