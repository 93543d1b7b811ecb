// Reviews: questions to the server that are asked by creating an object, answered in its status, never
// stored. Access reviews ask the very function that decides about requests.
#include "api/status.hpp"
#include "apiserver/admission.hpp"

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
  const auto allowed = authorize(user, described(*admission.object));
  json::object status{{"allowed", allowed.has_value()}};
  if (!allowed) status["reason"] = api::status_of(allowed.error()).message;
  admission.object->get_object()["status"] = std::move(status);
  return {};
}

Result<void> review_self(Admission& admission) {
  return answer_access(admission, admission.input.call->user);
}

Result<void> review_subject(Admission& admission) {
  Identity user;
  user.user = string_at(*admission.object, "/spec/user");
  if (const json::array* groups = array_at(*admission.object, "/spec/groups")) {
    for (const json::value& group : *groups) {
      if (group.is_string()) user.groups.emplace_back(group.get_string());
    }
  }
  return answer_access(admission, user);
}

Result<void> review_rules(Admission& admission) {
  const bool all = admission.input.call->user.in_group("system:masters");
  json::array resources;
  json::array paths;
  const json::array any{json::value("*")};
  if (all) {
    resources.push_back(json::object{{"verbs", any}, {"apiGroups", any}, {"resources", any}});
    paths.push_back(json::object{{"verbs", any}, {"nonResourceURLs", any}});
  } else {
    paths.push_back(json::object{
        {"verbs", json::array{json::value("get")}},
        {"nonResourceURLs", json::array{"/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez",
                                        "/openapi", "/openapi/*", "/readyz", "/version"}}});
  }
  admission.object->get_object()["status"] = json::object{
      {"resourceRules", std::move(resources)}, {"nonResourceRules", std::move(paths)}, {"incomplete", false}};
  return {};
}

Result<void> review_who(Admission& admission) {
  const Identity& user = admission.input.call->user;
  json::array groups;
  for (const std::string& group : user.groups) groups.push_back(json::value(group));
  admission.object->get_object()["status"] =
      json::object{{"userInfo", json::object{{"username", user.user}, {"groups", std::move(groups)}}}};
  return {};
}

// Tokens of service accounts are not issued here yet, so no token that one could ask about is known.
Result<void> review_token(Admission& admission) {
  admission.object->get_object()["status"] =
      json::object{{"authenticated", false}, {"user", json::object()}, {"error", "unknown token"}};
  return {};
}
}  // namespace

const std::vector<KindHooks>& review_hooks() {
  static const std::vector<KindHooks> kHooks = {
      {.group = "authorization.k8s.io", .resource = "selfsubjectaccessreviews", .on_create = review_self},
      {.group = "authorization.k8s.io", .resource = "subjectaccessreviews", .on_create = review_subject},
      {.group = "authorization.k8s.io", .resource = "localsubjectaccessreviews", .on_create = review_subject},
      {.group = "authorization.k8s.io", .resource = "selfsubjectrulesreviews", .on_create = review_rules},
      {.group = "authentication.k8s.io", .resource = "selfsubjectreviews", .on_create = review_who},
      {.group = "authentication.k8s.io", .resource = "tokenreviews", .on_create = review_token},
  };
  return kHooks;
}

}  // namespace orchestra::apiserver
