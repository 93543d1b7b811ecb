// Certificate signing requests: who asks, who may approve and who may sign.
//
// Upstream's strategies (pkg/registry/certificates) and the plug-ins CertificateApproval, CertificateSigning
// and CertificateSubjectRestriction (plugin/pkg/admission/certificates). A request carries the user who made
// it, as the server knows him; /approval changes conditions only, for holders of `approve` on the signer,
// /status the certificate and other conditions, for holders of `sign`.
#include "api/meta.hpp"
#include "api/status.hpp"
#include "api/x509/request.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/admission/plugins.hpp"
#include "apiserver/auth/access.hpp"
#include "base/base64.hpp"

namespace orchestra::apiserver {
namespace {
constexpr const char* kGroup = "certificates.k8s.io";
constexpr const char* kResource = "certificatesigningrequests";

Result<void> create_request(Admission& admission) {
  json::value& object = *admission.object;
  const Identity& user = admission.input.call->user;
  set_at(object, "/spec/username", json::value(user.user));
  if (!user.uid.empty()) set_at(object, "/spec/uid", json::value(user.uid));
  json::array groups;
  for (const std::string& group : user.groups) groups.push_back(json::value(group));
  set_at(object, "/spec/groups", std::move(groups));
  json::object extra;
  for (const auto& [key, values] : user.extra) {
    json::array list;
    for (const std::string& value : values) list.push_back(json::value(value));
    extra[key] = std::move(list);
  }
  if (!extra.empty()) object.get_object()["spec"].get_object()["extra"] = std::move(extra);
  object.get_object()["status"] = json::object();
  // Nobody becomes an administrator by a certificate that somebody approved in passing.
  if (string_at(object, "/spec/signerName") != api::kSignerClient) return {};
  const auto asked = api::read_certificate_request(
      decode_base64_text(string_at(object, "/spec/request")).value_or(std::string()));
  if (!asked) return {};  // validation says so
  for (const std::string& organization : asked->organizations) {
    if (organization == "system:masters")
      return deny(admission, std::string("use of ") + api::kSignerClient +
                                 " signer with system:masters group is not allowed");
  }
  return {};
}

// The verb on this signer, or on all of its domain.
bool may(const Admission& admission, const char* verb, const std::string& signer) {
  RequestInfo info;
  info.is_resource = true;
  info.verb = verb;
  info.group = kGroup;
  info.version = "*";
  info.resource = "signers";
  for (const std::string& name : {signer, signer.substr(0, signer.find('/')) + "/*"}) {
    info.name = name;
    if (admission.input.core->access().decide(admission.input.call->user, info).allowed) return true;
  }
  return false;
}

bool same_field(const Admission& admission, const char* pointer) {
  const json::value* before = find(*admission.old, pointer);
  const json::value* after = find(*admission.object, pointer);
  if (before == nullptr || after == nullptr) return before == after;
  return *before == *after;
}

const json::value* condition(const json::value& object, const std::string& type) {
  const json::array* list = array_at(object, "/status/conditions");
  if (list == nullptr) return nullptr;
  for (const json::value& one : *list) {
    if (string_at(one, "/type") == type) return &one;
  }
  return nullptr;
}

void stamp_conditions(Admission& admission) {
  json::value* status = admission.object->get_object().if_contains("status");
  json::value* list =
      status == nullptr || !status->is_object() ? nullptr : status->get_object().if_contains("conditions");
  if (list == nullptr || !list->is_array()) return;
  const std::string now = api::format_time(admission.input.now().wall_ns);
  for (json::value& one : list->get_array()) {
    if (!one.is_object()) continue;
    json::object& fields = one.get_object();
    const auto absent = [&](const char* field) {
      const json::value* value = fields.if_contains(field);
      return value == nullptr || value->is_null();
    };
    if (absent("lastUpdateTime")) fields["lastUpdateTime"] = now;
    if (!absent("lastTransitionTime")) continue;
    const json::value* before = condition(*admission.old, string_at(one, "/type"));
    const bool same = before != nullptr && string_at(*before, "/status") == string_at(one, "/status");
    const std::string since = same ? string_at(*before, "/lastTransitionTime") : std::string();
    fields["lastTransitionTime"] = since.empty() ? now : since;
  }
}

// Approved and Denied are set through /approval alone.
Result<void> keep_decisions(const Admission& admission) {
  api::FieldErrors errors;
  const api::FieldPath status("status");
  for (const char* type : {"Approved", "Denied"}) {
    const json::value* before = condition(*admission.old, type);
    const json::value* after = condition(*admission.object, type);
    if (after == nullptr) continue;  // a removal is refused by validation
    const std::string quoted = std::string("a condition of type \"") + type + "\"";
    if (before == nullptr) {
      errors.forbidden(status / "conditions", "updates may not add " + quoted);
    } else if (*before != *after) {
      errors.forbidden(status / "conditions", "updates may not modify " + quoted);
    }
  }
  if (errors.empty()) return {};
  return api::invalid(kGroup, admission.input.type->kind, admission.input.name(), errors);
}
}  // namespace

Result<void> admit_certificates(Admission& admission) {
  if (!is_type(admission, kGroup, kResource) || admission.input.sub == nullptr) return {};
  if (admission.object == nullptr || admission.old == nullptr) return {};
  const std::string signer = string_at(*admission.old, "/spec/signerName");
  const std::string& through = admission.input.sub->name;
  stamp_conditions(admission);
  if (through == "approval") {
    if (may(admission, "approve", signer)) return {};
    return deny(admission, "user not permitted to approve requests with signerName \"" + signer + "\"");
  }
  if (through != "status") return {};
  ORC_TRY(keep_decisions(admission));
  if (same_field(admission, "/status/certificate") && same_field(admission, "/status/conditions")) return {};
  if (may(admission, "sign", signer)) return {};
  return deny(admission, "user not permitted to sign requests with signerName \"" + signer + "\"");
}

const std::vector<KindHooks>& certificate_hooks() {
  static const std::vector<KindHooks> kHooks = {
      {.group = kGroup, .resource = kResource, .on_create = create_request},
  };
  return kHooks;
}

}  // namespace orchestra::apiserver
