// Reviews: questions to the server that are asked by creating an object, answered in its status, never
// stored. Access reviews ask the very function that decides about requests.
#include "api/rbac/rules.hpp"
#include "api/status.hpp"
#include "apiserver/admission.hpp"
#include "apiserver/auth/access.hpp"
#include "apiserver/auth/tokens.hpp"

namespace orchestra::apiserver {
namespace {

// The request that a review describes.
RequestInfo described(const json::value& review) {
  RequestInfo info;
  if (const json::value* resource = find(review, "/spec/resourceAttributes")) {
    info.is_resource = true;
    info.verb = string_at(*resource, "/verb");
    info.group = string_at(*resource, "/group");
    info.version = string_at(*resource, "/version");
    info.ns = string_at(*resource, "/namespace");
    info.resource = string_at(*resource, "/resource");
    info.subresource = string_at(*resource, "/subresource");
    info.name = string_at(*resource, "/name");
  } else {
    info.verb = string_at(review, "/spec/nonResourceAttributes/verb");
    info.path = string_at(review, "/spec/nonResourceAttributes/path");
  }
  return info;
}

Result<void> answer_access(Admission& admission, const Identity& user) {
  const RequestInfo info = described(*admission.object);
  const AccessDecision decision = admission.input.core->access().decide(user, info);
  json::object status{{"allowed", decision.allowed}};
  // A denial says what is missing, in the words of the 403 (upstream leaves this empty).
  const std::string reason =
      decision.allowed ? decision.reason : api::status_of(refusal(user, info, decision)).message;
  if (!reason.empty()) status["reason"] = reason;
  admission.object->get_object()["status"] = std::move(status);
  return {};
}

Result<void> review_self(Admission& admission) {
  return answer_access(admission, admission.input.call->user);
}

Error invalid_review(const Admission& admission, const char* field, const std::string& why) {
  api::FieldErrors errors;
  errors.invalid(api::FieldPath("spec") / field, json::value(""), why);
  return api::invalid(admission.input.type->group, admission.input.type->kind, "", errors);
}

Result<void> review_subject(Admission& admission) {
  Identity user;
  user.user = string_at(*admission.object, "/spec/user");
  if (const json::array* groups = array_at(*admission.object, "/spec/groups")) {
    for (const json::value& group : *groups) {
      if (group.is_string()) user.groups.emplace_back(group.get_string());
    }
  }
  if (user.user.empty() && user.groups.empty()) {
    return invalid_review(admission, "user", "at least one of user or group must be specified");
  }
  return answer_access(admission, user);
}

Result<void> review_local_subject(Admission& admission) {
  const std::string ns = string_at(*admission.object, "/spec/resourceAttributes/namespace");
  if (find(*admission.object, "/spec/nonResourceAttributes") != nullptr) {
    return invalid_review(admission, "nonResourceAttributes", "disallowed on this kind of request");
  }
  if (ns != admission.input.ns()) {
    return invalid_review(admission, "resourceAttributes", "must match metadata.namespace");
  }
  return review_subject(admission);
}

Result<void> review_rules(Admission& admission) {
  const Identity& user = admission.input.call->user;
  const std::string ns = string_at(*admission.object, "/spec/namespace");
  if (ns.empty()) return api::bad_request("no namespace on request");
  const RbacAuthorizer::Rules held = admission.input.core->access().rules_for(user, ns);
  json::array resources;
  json::array paths;
  if (user.in_group("system:masters")) {
    const json::array any{json::value("*")};
    resources.push_back(json::object{{"verbs", any}, {"apiGroups", any}, {"resources", any}});
    paths.push_back(json::object{{"verbs", any}, {"nonResourceURLs", any}});
  }
  for (const PolicyRule& rule : held.rules) {
    PolicyRule part = rule;
    if (!rule.resources.empty()) {
      part.non_resource_urls.clear();
      resources.push_back(api::rbac::rule_json(part));
    }
    if (rule.non_resource_urls.empty()) continue;
    part = PolicyRule{.verbs = rule.verbs, .non_resource_urls = rule.non_resource_urls};
    paths.push_back(api::rbac::rule_json(part));
  }
  json::object status{{"resourceRules", std::move(resources)},
                      {"nonResourceRules", std::move(paths)},
                      {"incomplete", !held.errors.empty()}};
  std::string errors;
  for (const std::string& error : held.errors) errors += (errors.empty() ? "" : "; ") + error;
  if (!errors.empty()) status["evaluationError"] = errors;
  admission.object->get_object()["status"] = std::move(status);
  return {};
}

json::object user_info(const Identity& user) {
  json::object info{{"username", user.user}};
  if (!user.uid.empty()) info["uid"] = user.uid;
  json::array groups;
  for (const std::string& group : user.groups) groups.push_back(json::value(group));
  info["groups"] = std::move(groups);
  if (user.extra.empty()) return info;
  json::object extra;
  for (const auto& [key, values] : user.extra) {
    json::array list;
    for (const std::string& value : values) list.push_back(json::value(value));
    extra[key] = std::move(list);
  }
  info["extra"] = std::move(extra);
  return info;
}

Result<void> review_who(Admission& admission) {
  admission.object->get_object()["status"] =
      json::object{{"userInfo", user_info(admission.input.call->user)}};
  return {};
}

Result<void> review_token(Admission& admission) {
  const std::string token = string_at(*admission.object, "/spec/token");
  if (token.empty()) return api::bad_request("token is required for TokenReview in authentication");
  std::vector<std::string> audiences;
  if (const json::array* asked = array_at(*admission.object, "/spec/audiences")) {
    for (const json::value& one : *asked) {
      if (one.is_string()) audiences.emplace_back(one.get_string());
    }
  }
  const auto user = user_of_token(*admission.input.core, admission.view, token, audiences);
  json::object status{{"authenticated", user.has_value()}};
  if (!user) {
    if (!user.error().is(Error::unauthenticated)) return user.error();
    status["user"] = json::object();
    status["error"] = user.error().message();
  } else {
    status["user"] = user_info(user->user);
    json::array list;
    for (const std::string& audience : user->audiences) list.push_back(json::value(audience));
    if (!list.empty()) status["audiences"] = std::move(list);
  }
  // The token itself is not sent back.
  admission.object->get_object()["status"] = std::move(status);
  return {};
}
}  // namespace

const std::vector<KindHooks>& review_hooks() {
  static const std::vector<KindHooks> kHooks = {
      {.group = "authorization.k8s.io", .resource = "selfsubjectaccessreviews", .on_create = review_self},
      {.group = "authorization.k8s.io", .resource = "subjectaccessreviews", .on_create = review_subject},
      {.group = "authorization.k8s.io",
       .resource = "localsubjectaccessreviews",
       .on_create = review_local_subject},
      {.group = "authorization.k8s.io", .resource = "selfsubjectrulesreviews", .on_create = review_rules},
      {.group = "authentication.k8s.io", .resource = "selfsubjectreviews", .on_create = review_who},
      {.group = "authentication.k8s.io", .resource = "tokenreviews", .on_create = review_token},
  };
  return kHooks;
}

}  // namespace orchestra::apiserver
