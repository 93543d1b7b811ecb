// Validation of certificate signing requests: pkg/apis/certificates/validation/validation.go.
//
// What an older object already has wrong is tolerated on update, as upstream does. Which of /status and
// /approval may change which condition is the business of admission (kinds/auth/certificates.cpp).
#include <algorithm>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "api/x509/request.hpp"
#include "base/base64.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr std::string_view kUsages[] = {"any",
                                        "cert sign",
                                        "client auth",
                                        "code signing",
                                        "content commitment",
                                        "crl sign",
                                        "data encipherment",
                                        "decipher only",
                                        "digital signature",
                                        "email protection",
                                        "encipher only",
                                        "ipsec end system",
                                        "ipsec tunnel",
                                        "ipsec user",
                                        "key agreement",
                                        "key encipherment",
                                        "microsoft sgc",
                                        "netscape sgc",
                                        "ocsp signing",
                                        "s/mime",
                                        "server auth",
                                        "signing",
                                        "timestamping"};
constexpr std::int64_t kSecondsMin = 600;

const json::object& status_of_csr(const json::object& object) { return object_or_empty(object, "status"); }

std::string decoded(std::string_view text) { return decode_base64_text(text).value_or(std::string()); }

bool known_usage(const json::value& usage) {
  return usage.is_string() && std::find(std::begin(kUsages), std::end(kUsages),
                                        std::string_view(usage.get_string())) != std::end(kUsages);
}

void check_usages(const json::object& spec, FieldErrors& errors) {
  const FieldPath root("spec"), path = root / "usages";
  const json::array& usages = array_or_empty(spec, "usages");
  if (usages.empty()) errors.required(path);
  for (std::size_t i = 0; i < usages.size(); ++i) {
    if (!known_usage(usages[i]))
      errors.not_supported(path[i], usages[i], {std::begin(kUsages), std::end(kUsages)});
    if (std::find(usages.begin(), usages.begin() + static_cast<std::ptrdiff_t>(i), usages[i]) !=
        usages.begin() + static_cast<std::ptrdiff_t>(i))
      errors.duplicate(path[i], usages[i]);
  }
}

/// The first of the words between dots that is wrong.
template <class Check>
void check_labels(std::string_view text, Check check, const FieldPath& path, FieldErrors& errors) {
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('.', begin), text.size());
    const std::string_view label = text.substr(begin, end - begin);
    if (const std::string wrong = check(label); !wrong.empty())
      return errors.invalid(path, text, "validating label \"" + std::string(label) + "\": " + wrong);
    begin = end + 1;
  }
}

// "example.com/name": a domain of at least two labels, then a path of words and dots.
void check_signer_name(const json::object& spec, FieldErrors& errors) {
  constexpr std::size_t kDomainMax = 253, kNameMax = kDomainMax + 1 + 253 + 63 + 1;
  const std::string_view name = text_of(spec, "signerName");
  if (name.empty()) return;  // told by the schema
  const FieldPath root("spec"), path = root / "signerName";
  if (name == "kubernetes.io/legacy-unknown")
    return errors.invalid(path, name, "the legacy signerName is not allowed via this API version");
  const std::size_t slash = name.find('/');
  if (slash == std::string_view::npos || name.find('/', slash + 1) != std::string_view::npos) {
    return errors.invalid(path, name,
                          "must be a fully qualified domain and path of the form 'example.com/signer-name'");
  }
  const std::string_view domain = name.substr(0, slash);
  if (domain.size() > kDomainMax) errors.too_long(path, kDomainMax);
  check_labels(domain, check_dns1123_label, path, errors);
  if (domain.find('.') == std::string_view::npos)
    errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
  check_labels(name.substr(slash + 1), check_dns1123_subdomain, path, errors);
  if (name.size() > kNameMax) errors.too_long(path, kNameMax);
}

bool decides(std::string_view type) { return type == "Approved" || type == "Denied" || type == "Failed"; }

void check_conditions(const json::object& object, FieldErrors& errors) {
  const FieldPath root("status"), path = root / "conditions";
  std::map<std::string_view, int> seen;
  for_each_object(status_of_csr(object), "conditions", [&](std::size_t index, const json::object& condition) {
    const std::string_view type = text_of(condition, "type"), status = text_of(condition, "status");
    const FieldPath at = path[index];
    if (type.empty()) errors.required(at / "type");
    const bool known = status == "True" || (!decides(type) && (status == "False" || status == "Unknown"));
    if (status.empty()) {
      errors.required(at / "status");
    } else if (!known) {
      const std::vector<std::string_view> valid =
          decides(type) ? std::vector<std::string_view>{"True"}
                        : std::vector<std::string_view>{"False", "True", "Unknown"};
      errors.not_supported(at / "status", json::string(status), valid);
    }
    const bool clash =
        (type == "Approved" && seen.contains("Denied")) || (type == "Denied" && seen.contains("Approved"));
    if (clash) errors.invalid(at / "type", type, "Approved and Denied conditions are mutually exclusive");
    if (++seen[type] > 1) errors.duplicate(at / "type", json::string(type));
  });
}

const json::object* condition_of(const json::object& object, std::string_view type) {
  for (const json::value& condition : array_or_empty(status_of_csr(object), "conditions")) {
    if (condition.is_object() && text_of(condition.get_object(), "type") == type)
      return condition.if_object();
  }
  return nullptr;
}

void check_kept(const json::object& object, const json::object& old, FieldErrors& errors) {
  for (const char* type : {"Approved", "Denied", "Failed"}) {
    if (condition_of(old, type) != nullptr && condition_of(object, type) == nullptr) {
      errors.forbidden(FieldPath("status") / "conditions",
                       std::string("updates may not remove a condition of type \"") + type + "\"");
    }
  }
}
}  // namespace

void validate_csr(const json::object& object, FieldErrors& errors) {
  const json::object& spec = object_or_empty(object, "spec");
  const FieldPath root("spec");
  if (const std::string_view request = text_of(spec, "request"); !request.empty()) {
    const auto read = read_certificate_request(decoded(request));
    if (!read) errors.invalid(root / "request", request, read.error().message());
  }
  check_usages(spec, errors);
  check_signer_name(spec, errors);
  const json::value* seconds = spec.if_contains("expirationSeconds");
  if (seconds != nullptr && seconds->is_int64() && seconds->get_int64() < kSecondsMin) {
    errors.invalid(root / "expirationSeconds", *seconds,
                   "may not specify a duration less than 600 seconds (10 minutes)");
  }
}

void validate_csr_status(const json::object& object, const json::object& old, FieldErrors& errors) {
  check_conditions(object, errors);
  check_kept(object, old, errors);
  const std::string_view certificate = text_of(status_of_csr(object), "certificate");
  const std::string_view before = text_of(status_of_csr(old), "certificate");
  if (certificate == before) return;
  const FieldPath root("status");
  if (const auto fine = check_certificate_chain(decoded(certificate)); !fine)
    errors.invalid(root / "certificate", "<certificate data>", fine.error().message());
  if (!before.empty())
    errors.forbidden(root / "certificate", "updates may not modify existing certificate content");
}

}  // namespace orchestra::api
