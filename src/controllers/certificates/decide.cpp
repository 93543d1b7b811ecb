// Approver, signer and cleaner of certificate signing requests (kubernetes/pkg/controller/certificates).
//
// Upstream's approver asks the API server with a SubjectAccessReview. Here the roles are read like everything
// else, so the decision is pure and is made again when a binding changes. A request counts as a node's when
// the signer would sign it (group system:nodes, name system:node:.., the usages of a client): who asks for
// his own name needs `selfnodeclient`, who asks for a first certificate (a bootstrap token) `nodeclient`.
// Serving certificates are never approved here, as upstream: their names would have to be believed.
#include "controllers/certificates/decide.hpp"

#include <algorithm>

#include "api/x509/request.hpp"
#include "base/base64.hpp"
#include "controllers/common/objects.hpp"
#include "orchestra/rbac_authorizer.hpp"

namespace orchestra::controllers {

namespace {

constexpr std::int64_t kHourNs = 3'600'000'000'000;
constexpr std::int64_t kAnsweredLifeNs = kHourNs;      // of requests that were signed, denied or failed
constexpr std::int64_t kPendingLifeNs = 24 * kHourNs;  // of requests that nobody answered
constexpr Duration kLifeMax = std::chrono::hours(24 * 365);
constexpr Duration kLifeMin = std::chrono::minutes(10);

ResourceRef requests() { return {"certificates.k8s.io/v1", "certificatesigningrequests"}; }
ResourceRef cluster_roles() { return {"rbac.authorization.k8s.io/v1", "clusterroles"}; }
ResourceRef cluster_role_bindings() { return {"rbac.authorization.k8s.io/v1", "clusterrolebindings"}; }

std::vector<std::string> strings_at(const json::value& root, std::string_view pointer) {
  std::vector<std::string> out;
  if (const json::array* list = array_at(root, pointer)) {
    for (const json::value& one : *list) {
      if (one.is_string()) out.emplace_back(one.get_string());
    }
  }
  return out;
}

bool is_true(const json::value& root, std::string_view type) {
  const json::object* condition = find_condition(root, type);
  return condition != nullptr && string_at(json::value(*condition), "/status") == "True";
}
bool answered(const json::value& root) { return is_true(root, "Approved") || is_true(root, "Denied"); }
bool signed_already(const json::value& root) { return !string_at(root, "/status/certificate").empty(); }

Result<api::CertificateRequest> request_in(const json::value& root) {
  return api::read_certificate_request(
      decode_base64_text(string_at(root, "/spec/request")).value_or(std::string()));
}

// A condition with the fields that the kind has, in the order of the schema.
void add_condition(json::value& root, const char* type, const char* reason, const std::string& message,
                   std::int64_t wall_ns) {
  array_in(root, "/status/conditions")
      .push_back(json::object{{"type", type},
                              {"status", "True"},
                              {"reason", reason},
                              {"message", message},
                              {"lastUpdateTime", format_time(wall_ns)}});
}

class Approver final : public Reconciler {
 public:
  std::string name() const override { return "certificatesigningrequest-approver"; }
  std::vector<Source> sources() const override {
    // A new binding may allow what waits.
    const KeysOf wake_waiting = [](const View& view, const Object&, const Object&, const KeySink& wake) {
      for (const Object& request : view.list(requests())) {
        if (!answered(tree(request)) && !signed_already(tree(request))) wake(request.name());
      }
    };
    return {watch_self(requests()),
            {cluster_roles(), false, wake_waiting},
            {cluster_role_bindings(), false, wake_waiting}};
  }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const Object request = view.get(requests(), {}, key);
    if (!request || request.deleting()) return actions;
    const json::value& root = tree(request);
    if (answered(root) || signed_already(root)) return actions;
    if (string_at(root, "/spec/signerName") != api::kSignerKubeletClient) return actions;
    const auto asked = request_in(root);
    if (!asked) return actions;
    const std::string objection =
        api::signer_objection(api::kSignerKubeletClient, *asked, strings_at(root, "/spec/usages"));
    if (!objection.empty()) {
      actions.reason = "not approved: " + objection;
      return actions;
    }
    const bool self = string_at(root, "/spec/username") == asked->common_name;
    RbacAuthorizer roles;
    for (const ResourceRef& resource : {cluster_roles(), cluster_role_bindings()}) {
      for (const Object& object : view.list(resource)) (void)roles.put(object);
    }
    if (self && holds(roles, root, "selfnodeclient"))
      return approve(std::move(actions), root,
                     "Auto approving self kubelet client certificate after SubjectAccessReview.", now);
    if (holds(roles, root, "nodeclient"))
      return approve(std::move(actions), root,
                     "Auto approving kubelet client certificate after SubjectAccessReview.", now);
    actions.reason = "not approved: \"" + string_at(root, "/spec/username") + "\" may not create " +
                     (self ? "certificatesigningrequests/selfnodeclient or " : "") +
                     "certificatesigningrequests/nodeclient";
    return actions;
  }

 private:
  static bool holds(const RbacAuthorizer& roles, const json::value& root, const char* permission) {
    AccessRequest access;
    access.user = string_at(root, "/spec/username");
    access.groups = strings_at(root, "/spec/groups");
    access.verb = "create";
    access.api_group = "certificates.k8s.io";
    access.resource = "certificatesigningrequests";
    access.subresource = permission;
    return roles.decide(access).allowed;
  }
  static Actions approve(Actions actions, const json::value& root, const char* message, Now now) {
    json::value next = root;
    add_condition(next, "Approved", "AutoApproved", message, now.wall_ns);
    actions.reason = message;
    actions.update(requests(), object_from_tree(std::move(next)), "a node's client certificate").subresource =
        "approval";
    return actions;
  }
};

class Signer final : public Reconciler {
 public:
  explicit Signer(CertificateSign sign) : sign_(std::move(sign)) {}
  std::string name() const override { return "certificatesigningrequest-signer"; }
  std::vector<Source> sources() const override { return {watch_self(requests())}; }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const Object request = view.get(requests(), {}, key);
    if (!sign_ || !request || request.deleting()) return actions;
    const json::value& root = tree(request);
    const std::string signer = string_at(root, "/spec/signerName");
    if (!api::known_signer(signer) || signed_already(root)) return actions;
    if (!is_true(root, "Approved") || is_true(root, "Denied") || is_true(root, "Failed")) return actions;
    const std::vector<std::string> usages = strings_at(root, "/spec/usages");
    const auto asked = request_in(root);
    const std::string objection =
        asked ? api::signer_objection(signer, *asked, usages) : asked.error().message();
    json::value next = root;
    if (!objection.empty()) {
      add_condition(next, "Failed", "SignerValidationFailure", objection, now.wall_ns);
      actions.update_status(requests(), object_from_tree(std::move(next)), objection);
      return actions;
    }
    Duration life = kLifeMax;
    if (const json::value* seconds = find(root, "/spec/expirationSeconds");
        seconds != nullptr && seconds->is_int64()) {
      life = std::clamp<Duration>(std::chrono::seconds(seconds->get_int64()), kLifeMin, kLifeMax);
    }
    const auto certificate =
        sign_(decode_base64_text(string_at(root, "/spec/request")).value_or(std::string()), usages, life);
    if (!certificate) {
      actions.reason = "not signed: " + certificate.error().to_string();
      actions.requeue(std::chrono::seconds(10));
      return actions;
    }
    set_at(next, "/status/certificate", json::value(encode_base64_text(*certificate)));
    actions.update_status(requests(), object_from_tree(std::move(next)), "it is approved");
    return actions;
  }

 private:
  const CertificateSign sign_;
};

class Cleaner final : public Reconciler {
 public:
  std::string name() const override { return "certificatesigningrequest-cleaner"; }
  std::vector<Source> sources() const override { return {watch_self(requests())}; }

  Actions decide(const std::string& key, const View& view, Now now) const override {
    Actions actions;
    const Object request = view.get(requests(), {}, key);
    if (!request || request.deleting()) return actions;
    const json::value& root = tree(request);
    std::int64_t since = time_at(root, "/metadata/creationTimestamp").value_or(now.wall_ns);
    std::int64_t life = kPendingLifeNs;
    const char* why = "nobody answered it";
    for (const char* type : {"Approved", "Denied", "Failed"}) {
      const json::object* condition = find_condition(root, type);
      if (condition == nullptr) continue;
      // Approved but unsigned: another signer may still come, as long as for a pending one.
      if (std::string_view(type) == "Approved" && !signed_already(root)) continue;
      since = time_at(json::value(*condition), "/lastUpdateTime").value_or(since);
      life = kAnsweredLifeNs;
      why = "it was answered";
    }
    const Duration left(since + life - now.wall_ns);
    if (left > Duration::zero()) {
      actions.requeue(left);
    } else {
      actions.remove(requests(), request, why);
    }
    return actions;
  }
};

}  // namespace

std::shared_ptr<const Reconciler> make_certificate_approver() { return std::make_shared<Approver>(); }
std::shared_ptr<const Reconciler> make_certificate_signer(CertificateSign sign) {
  return std::make_shared<Signer>(std::move(sign));
}
std::shared_ptr<const Reconciler> make_certificate_cleaner() { return std::make_shared<Cleaner>(); }

}  // namespace orchestra::controllers
