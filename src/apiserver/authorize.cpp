// Who may do what, until RBAC objects decide: system:masters everything, every other authenticated user
// the reads that upstream gives to system:authenticated (discovery, version, own reviews), anonymous users
// health and version. A refusal says what is missing, in upstream's words.
#include <array>

#include "api/status.hpp"
#include "apiserver/core.hpp"

namespace orchestra::apiserver {
namespace {

bool starts_with_any(const std::string& path, const auto& prefixes) {
  for (const std::string_view prefix : prefixes) {
    if (path == prefix || path.starts_with(std::string(prefix) + "/")) return true;
  }
  return false;
}
}  // namespace

Result<void> authorize(const Identity& user, const RequestInfo& info) {
  if (user.in_group("system:masters")) return {};
  static constexpr std::array<std::string_view, 4> kPublic = {"/healthz", "/livez", "/readyz", "/version"};
  static constexpr std::array<std::string_view, 3> kDiscovery = {"/api", "/apis", "/openapi"};
  const bool authenticated = user.in_group("system:authenticated");
  if (!info.is_resource) {
    const bool read = info.verb == "get";
    if (read && starts_with_any(info.path, kPublic)) return {};
    if (read && authenticated && starts_with_any(info.path, kDiscovery)) return {};
    return api::status_error(api::make_status(
        403, "Forbidden",
        "forbidden: User \"" + user.user + "\" cannot " + info.verb + " path \"" + info.path + "\""));
  }
  if (authenticated && info.verb == "create" &&
      (info.resource.starts_with("selfsubject") && info.group.starts_with("auth"))) {
    return {};
  }
  const api::ResourceName resource(info.group, info.resource);
  return api::forbidden(resource, info.name,
                        api::cannot_do(user.user, info.verb, resource, info.subresource, info.ns));
}

}  // namespace orchestra::apiserver
