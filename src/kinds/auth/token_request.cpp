// The token subresource of service accounts: upstream pkg/registry/core/serviceaccount/storage/token.go.
#include "api/meta.hpp"
#include "api/status.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/admission/plugins.hpp"
#include "apiserver/auth/tokens.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::int64_t kDefaultSeconds = 3600;
constexpr std::int64_t kMinSeconds = 600;
constexpr std::int64_t kMaxSeconds = std::int64_t{1} << 32;
/// Tokens of this length are those of the projected volume: they live for a year, so that old clients that
/// never read the file again go on, and `warnafter` tells who did not.
constexpr std::int64_t kProjectedSeconds = 3607;
constexpr std::int64_t kExtendedSeconds = 365 * 24 * 3600;

Result<std::int64_t> seconds_of(const WriteInput& input) {
  const std::int64_t seconds = int_at(input.body, "/spec/expirationSeconds", kDefaultSeconds);
  if (seconds >= kMinSeconds && seconds <= kMaxSeconds) return seconds;
  api::FieldErrors errors;
  errors.invalid(api::FieldPath("spec") / "expirationSeconds", json::value(seconds),
                 seconds < kMinSeconds ? "may not specify a duration less than 10 minutes"
                                       : "may not specify a duration larger than 2^32 seconds");
  return api::invalid("authentication.k8s.io", "TokenRequest", input.name(), errors);
}

Error gone(const char* resource, const std::string& name) {
  return api::not_found(api::ResourceName("", resource), name);
}

// Fills in what the token is bound to.
Result<void> bind(const WriteInput& input, const View& view, TokenClaims& claims) {
  const json::value* ref = find(input.body, "/spec/boundObjectRef");
  if (ref == nullptr || !ref->is_object()) return {};
  const std::string kind = string_at(*ref, "/kind");
  const std::string name = string_at(*ref, "/name");
  const bool core_group = string_at(*ref, "/apiVersion", "v1") == "v1";
  if (!core_group || (kind != "Pod" && kind != "Secret" && kind != "Node")) {
    return api::bad_request("cannot bind token to object of type " + string_at(*ref, "/apiVersion") +
                            ", Kind=" + kind);
  }
  const char* resource = kind == "Pod" ? "pods" : kind == "Secret" ? "secrets" : "nodes";
  ORC_ASSIGN(auto found, view.load(object_key({"", resource}, kind == "Node" ? "" : input.ns(), name)));
  if (!found) return gone(resource, name);
  const std::string asked = string_at(*ref, "/uid");
  if (!asked.empty() && asked != found->view.uid) {
    return api::conflict(api::ResourceName("", resource), name,
                         "the UID in the bound object reference (" + asked +
                             ") does not match the UID in record. The object might have been deleted and "
                             "then recreated");
  }
  claims.bound_kind = to_lower(kind);
  claims.bound_name = name;
  claims.bound_uid = found->view.uid;
  if (kind != "Pod") return {};
  ORC_ASSIGN(const json::value pod, found->tree());
  if (string_at(pod, "/spec/serviceAccountName") != input.name()) {
    return api::bad_request("cannot bind token for serviceaccount \"" + input.name() +
                            "\" to pod running with different serviceaccount name.");
  }
  claims.node_name = string_at(pod, "/spec/nodeName");
  if (claims.node_name.empty()) return {};
  ORC_ASSIGN(auto node, view.load(object_key({"", "nodes"}, "", claims.node_name)));
  if (node) claims.node_uid = node->view.uid;
  return {};
}

/// The answer: a token of this account, as `input.body` asks for it.
Result<Change> issue_token(const WriteInput& input, const View& view, const TokenAuthority& authority,
                           const std::string& account_uid, Change change) {
  ORC_ASSIGN(const std::int64_t seconds, seconds_of(input));
  TokenClaims claims;
  claims.ns = input.ns();
  claims.account = input.name();
  claims.account_uid = account_uid;
  claims.subject = "system:serviceaccount:" + claims.ns + ":" + claims.account;
  if (const json::array* asked = array_at(input.body, "/spec/audiences")) {
    for (const json::value& one : *asked) {
      if (one.is_string()) claims.audiences.emplace_back(one.get_string());
    }
  }
  const bool for_us = claims.audiences.empty() || claims.audiences == authority.audiences;
  if (claims.audiences.empty()) claims.audiences = authority.audiences;
  ORC_TRY(bind(input, view, claims));
  const std::int64_t now = input.now().wall_ns / api::kSecond;
  claims.id = input.core->engine().random().uuid();
  claims.issued_at = claims.not_before = now;
  claims.expires_at = now + seconds;
  if (seconds == kProjectedSeconds && claims.bound_kind == "pod" && for_us) {
    claims.warn_after = now + seconds;
    claims.expires_at = now + kExtendedSeconds;
  }
  ORC_ASSIGN(std::string token, authority.issuer->sign(claims));
  json::value answer = input.body;
  json::object& metadata = api::metadata(answer);
  metadata["name"] = input.name();
  metadata["namespace"] = input.ns();
  metadata["creationTimestamp"] = api::format_time(now * api::kSecond);
  set_at(answer, "/spec/expirationSeconds", seconds);
  json::array audiences;
  for (const std::string& one : claims.audiences) audiences.push_back(json::value(one));
  set_at(answer, "/spec/audiences", std::move(audiences));
  answer.get_object()["status"] = json::object{
      {"token", std::move(token)}, {"expirationTimestamp", api::format_time((now + seconds) * api::kSecond)}};
  answer.get_object()["apiVersion"] = "authentication.k8s.io/v1";
  answer.get_object()["kind"] = input.sub->kind.kind;
  change.code = 201;
  change.status = to_json(answer);
  return change;
}
Result<Change> request_token(const WriteInput& input, const View& view) {
  const auto authority = input.core->tokens();
  if (authority == nullptr) return api::service_unavailable("this server has no key for tokens yet");
  for (const auto& [field, expected] :
       {std::pair("name", &input.name()), std::pair("namespace", &input.ns())}) {
    const std::string given(api::meta_string(input.body, field));
    if (!given.empty() && given != *expected) {
      return api::bad_request(std::string("metadata.") + field + " must match the service account's " +
                              field);
    }
  }
  Change unchanged;
  json::value body = input.body;
  api::metadata(body)["name"] = input.name();
  Admission admission{input, view, unchanged, &body, nullptr};
  ORC_TRY(admit_node_restriction(admission));
  ORC_ASSIGN(auto account, load_target(input, view));
  ORC_TRY(admit_document(admission));
  WriteInput admitted = input;
  admitted.body = body;
  Change change;
  change.warnings = unchanged.warnings;
  return issue_token(admitted, view, *authority, std::string(account.view.uid), std::move(change));
}

}  // namespace

const std::vector<SubresourceHook>& token_subresources() {
  static const std::vector<SubresourceHook> kHooks = {
      {.group = "", .resource = "serviceaccounts", .name = "token", .write = request_token},
  };
  return kHooks;
}

}  // namespace orchestra::apiserver
