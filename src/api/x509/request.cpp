// Certificate requests on OpenSSL 3: see request.hpp.
#include "api/x509/request.hpp"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>

#include "base/openssl.hpp"

namespace orchestra::api {
namespace {
using openssl::BioHandle;
using openssl::CertificateHandle;
using openssl::KeyHandle;
using openssl::RequestHandle;

void free_names(GENERAL_NAMES* names) { GENERAL_NAMES_free(names); }
void free_extensions(STACK_OF(X509_EXTENSION) * list) {
  sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}
using NamesHandle = std::unique_ptr<GENERAL_NAMES, openssl::Deleter<free_names>>;
using ExtensionsHandle = std::unique_ptr<STACK_OF(X509_EXTENSION), openssl::Deleter<free_extensions>>;

constexpr std::size_t kPemBytesMax = 64 << 10;
constexpr std::size_t kNamesMax = 1000;

Error bad(const std::string& why) {
  ERR_clear_error();
  return Error(Error::invalid, "x509", why);
}

/// One PEM block.
struct Block {
  std::string type, headers, der;
};
// nullopt: there is no further block.
std::optional<Block> read_block(BIO* bio) {
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* data = nullptr;
  long length = 0;
  if (PEM_read_bio(bio, &name, &header, &data, &length) != 1) {
    ERR_clear_error();
    return std::nullopt;
  }
  Block block{name, header, std::string(reinterpret_cast<char*>(data), static_cast<std::size_t>(length))};
  OPENSSL_free(name);
  OPENSSL_free(header);
  OPENSSL_free(data);
  return block;
}

std::string text_of_string(const ASN1_STRING* string) {
  unsigned char* utf8 = nullptr;
  const int length = ASN1_STRING_to_UTF8(&utf8, string);
  if (length < 0) {
    ERR_clear_error();
    return {};
  }
  std::string text(reinterpret_cast<char*>(utf8), static_cast<std::size_t>(length));
  OPENSSL_free(utf8);
  return text;
}

std::vector<std::string> subject_values(const X509_NAME* subject, int nid) {
  std::vector<std::string> values;
  for (int at = -1; (at = X509_NAME_get_index_by_NID(const_cast<X509_NAME*>(subject), nid, at)) >= 0;) {
    values.push_back(text_of_string(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))));
  }
  return values;
}

std::string text_of_address(const ASN1_OCTET_STRING* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int length = ASN1_STRING_length(address);
  if (length != 4 && length != 16) return {};
  inet_ntop(length == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), text.data(), text.size());
  return text.data();
}

Result<void> read_names(X509_REQ* request, CertificateRequest& out) {
  const ExtensionsHandle extensions(X509_REQ_get_extensions(request));
  if (!extensions) return {};
  int critical = 0;
  const NamesHandle names(static_cast<GENERAL_NAMES*>(
      X509V3_get_d2i(extensions.get(), NID_subject_alt_name, &critical, nullptr)));
  if (!names) {
    if (critical == -1) return {};  // there is none
    return bad("the subjectAltName extension cannot be read, or there is more than one");
  }
  const int count = sk_GENERAL_NAME_num(names.get());
  if (static_cast<std::size_t>(count) > kNamesMax) return bad("more than 1000 subject alternative names");
  for (int i = 0; i < count; ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    switch (name->type) {
      case GEN_DNS:
        out.dns_names.push_back(text_of_string(name->d.dNSName));
        break;
      case GEN_EMAIL:
        out.emails.push_back(text_of_string(name->d.rfc822Name));
        break;
      case GEN_URI:
        out.uris.push_back(text_of_string(name->d.uniformResourceIdentifier));
        break;
      case GEN_IPADD: {
        std::string address = text_of_address(name->d.iPAddress);
        if (address.empty()) return bad("an IP address of the subjectAltName has neither 4 nor 16 bytes");
        out.ip_addresses.push_back(std::move(address));
        break;
      }
      default:
        break;  // other kinds of names are never signed
    }
  }
  return {};
}

bool add_name(X509_NAME* name, const char* field, const std::string& value) {
  return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(value.data()),
                                    static_cast<int>(value.size()), -1, 0) == 1;
}

// Built from values, never from a text in OpenSSL's notation: a name may hold commas.
NamesHandle names_of(const CertificateRequest& wanted) {
  NamesHandle names(GENERAL_NAMES_new());
  const auto add = [&](int type, const std::string& value) {
    GENERAL_NAME* name = GENERAL_NAME_new();
    ASN1_IA5STRING* text = ASN1_IA5STRING_new();
    ASN1_STRING_set(text, value.data(), static_cast<int>(value.size()));
    GENERAL_NAME_set0_value(name, type, text);
    sk_GENERAL_NAME_push(names.get(), name);
  };
  for (const std::string& value : wanted.dns_names) add(GEN_DNS, value);
  for (const std::string& value : wanted.emails) add(GEN_EMAIL, value);
  for (const std::string& value : wanted.uris) add(GEN_URI, value);
  for (const std::string& value : wanted.ip_addresses) {
    ASN1_OCTET_STRING* address = a2i_IPADDRESS(value.c_str());
    if (address == nullptr) return nullptr;
    GENERAL_NAME* name = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(name, GEN_IPADD, address);
    sk_GENERAL_NAME_push(names.get(), name);
  }
  return names;
}

bool same_set(const std::vector<std::string>& usages, const std::set<std::string>& wanted) {
  return std::set<std::string>(usages.begin(), usages.end()) == wanted;
}
// With or without key encipherment, which only RSA keys need.
bool node_usages(const std::vector<std::string>& usages, const char* purpose) {
  return same_set(usages, {"digital signature", purpose}) ||
         same_set(usages, {"digital signature", "key encipherment", purpose});
}

std::string node_subject_objection(const CertificateRequest& request) {
  if (request.organizations != std::vector<std::string>{"system:nodes"})
    return "subject organization is not system:nodes";
  return {};
}
std::string node_name_objection(const CertificateRequest& request) {
  if (!request.common_name.starts_with("system:node:"))
    return "subject common name does not begin with system:node:";
  return {};
}

std::string kubelet_serving_objection(const CertificateRequest& request,
                                      const std::vector<std::string>& usages) {
  if (std::string why = node_subject_objection(request); !why.empty()) return why;
  if (request.dns_names.empty() && request.ip_addresses.empty())
    return "DNS or IP subjectAltName is required";
  if (!request.emails.empty()) return "Email subjectAltNames are not allowed";
  if (!request.uris.empty()) return "URI subjectAltNames are not allowed";
  if (!node_usages(usages, "server auth"))
    return "usages did not match [digital signature key encipherment server auth]";
  return node_name_objection(request);
}

std::string kubelet_client_objection(const CertificateRequest& request,
                                     const std::vector<std::string>& usages) {
  if (std::string why = node_subject_objection(request); !why.empty()) return why;
  if (!request.dns_names.empty()) return "DNS subjectAltNames are not allowed";
  if (!request.emails.empty()) return "Email subjectAltNames are not allowed";
  if (!request.ip_addresses.empty()) return "IP subjectAltNames are not allowed";
  if (!request.uris.empty()) return "URI subjectAltNames are not allowed";
  if (std::string why = node_name_objection(request); !why.empty()) return why;
  if (!node_usages(usages, "client auth"))
    return "usages did not match [client auth digital signature key encipherment]";
  return {};
}

std::string client_objection(const std::vector<std::string>& usages) {
  bool client = false;
  for (const std::string& usage : usages) {
    client = client || usage == "client auth";
    if (usage != "client auth" && usage != "digital signature" && usage != "key encipherment")
      return "invalid usage for client certificate: " + usage;
  }
  return client ? "" : "missing required usage for client certificate: client auth";
}
}  // namespace

Result<CertificateRequest> read_certificate_request(std::string_view pem) {
  if (pem.size() > kPemBytesMax) return bad("a certificate request takes at most 65536 bytes");
  const BioHandle bio = openssl::reader(pem);
  const auto block = read_block(bio.get());
  if (!block || block->type != "CERTIFICATE REQUEST")
    return bad("PEM block type must be CERTIFICATE REQUEST");
  const auto* der = reinterpret_cast<const unsigned char*>(block->der.data());
  const auto* begin = der;
  const RequestHandle request(d2i_X509_REQ(nullptr, &der, static_cast<long>(block->der.size())));
  if (!request) return bad("the certificate request is not a PKCS#10 structure");
  if (static_cast<std::size_t>(der - begin) != block->der.size())
    return bad("the certificate request has trailing data");
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  if (key == nullptr) return bad("the public key of the certificate request cannot be read");
  if (X509_REQ_verify(request.get(), key) != 1)
    return bad("the signature of the certificate request does not match its key");
  CertificateRequest out;
  const X509_NAME* subject = X509_REQ_get_subject_name(request.get());
  // As Go reads it: the last common name counts.
  if (const auto names = subject_values(subject, NID_commonName); !names.empty())
    out.common_name = names.back();
  out.organizations = subject_values(subject, NID_organizationName);
  ORC_TRY(read_names(request.get(), out));
  return out;
}

Result<void> check_certificate_chain(std::string_view pem) {
  if (pem.empty()) return {};
  if (pem.size() > kPemBytesMax * 4) return bad("a certificate chain takes at most 262144 bytes");
  const BioHandle bio = openssl::reader(pem);
  std::size_t blocks = 0;
  while (auto block = read_block(bio.get())) {
    if (block->type != "CERTIFICATE")
      return bad("only CERTIFICATE PEM blocks are allowed, found \"" + block->type + "\"");
    if (!block->headers.empty()) return bad("no PEM block headers are permitted");
    const auto* der = reinterpret_cast<const unsigned char*>(block->der.data());
    const CertificateHandle certificate(d2i_X509(nullptr, &der, static_cast<long>(block->der.size())));
    if (!certificate) return bad("a CERTIFICATE PEM block holds no certificate");
    ++blocks;
  }
  if (blocks == 0) return bad("must contain at least one CERTIFICATE PEM block");
  return {};
}

Result<NewCertificateRequest> make_certificate_request(const CertificateRequest& wanted) {
  const Error failed(Error::internal, "x509", "OpenSSL could not make a certificate request");
  const KeyHandle key(EVP_EC_gen("P-256"));
  const RequestHandle request(X509_REQ_new());
  if (!key || !request) return failed;
  X509_NAME* subject = X509_REQ_get_subject_name(request.get());
  bool fine = true;
  for (const std::string& organization : wanted.organizations)
    fine = fine && add_name(subject, "O", organization);
  if (!wanted.common_name.empty()) fine = fine && add_name(subject, "CN", wanted.common_name);
  const NamesHandle names = names_of(wanted);
  if (!names) return bad("an address of the request is neither IPv4 nor IPv6");
  if (sk_GENERAL_NAME_num(names.get()) > 0) {
    STACK_OF(X509_EXTENSION)* list = nullptr;
    fine = fine && X509V3_add1_i2d(&list, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1;
    const ExtensionsHandle extensions(list);
    fine = fine && X509_REQ_add_extensions(request.get(), extensions.get()) == 1;
  }
  fine = fine && X509_REQ_set_pubkey(request.get(), key.get()) == 1 &&
         X509_REQ_sign(request.get(), key.get(), EVP_sha256()) > 0;
  if (!fine) {
    ERR_clear_error();
    return failed;
  }
  NewCertificateRequest out;
  const BioHandle request_bio = openssl::writer();
  PEM_write_bio_X509_REQ(request_bio.get(), request.get());
  out.request_pem = openssl::text_of(request_bio);
  const BioHandle key_bio = openssl::writer();
  PEM_write_bio_PrivateKey(key_bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  out.key_pem = openssl::text_of(key_bio);
  return out;
}

bool known_signer(std::string_view signer) {
  return signer == kSignerClient || signer == kSignerKubeletClient || signer == kSignerKubeletServing;
}

std::string signer_objection(std::string_view signer, const CertificateRequest& request,
                             const std::vector<std::string>& usages) {
  if (signer == kSignerKubeletServing) return kubelet_serving_objection(request, usages);
  if (signer == kSignerKubeletClient) return kubelet_client_objection(request, usages);
  if (signer == kSignerClient) return client_objection(usages);
  return "no signer of this name is here";
}

}  // namespace orchestra::api
