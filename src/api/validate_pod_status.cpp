// What the status of a pod says about its claims, its devices and the users of its processes: parts of
// ValidatePodStatusUpdate in pkg/apis/core/validation/validation.go.
#include <set>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_hooks.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {
constexpr std::int64_t kIdMax = 2147483647;
constexpr const char* kIdText = "must be between 0 and 2147483647, inclusive";

void check_id(const json::value* id, const FieldPath& path, FieldErrors& errors) {
  if (id != nullptr && id->is_int64() && (id->get_int64() < 0 || id->get_int64() > kIdMax))
    errors.invalid(path, *id, kIdText);
}

void check_claims(const json::object& status, const json::object& spec, const FieldPath& path,
                  FieldErrors& errors) {
  const FieldPath list = path / "resourceClaimStatuses";
  std::set<std::string, std::less<>> known, seen;
  for_each_object(spec, "resourceClaims",
                  [&](std::size_t, const json::object& claim) { known.emplace(text_of(claim, "name")); });
  for_each_object(status, "resourceClaimStatuses", [&](std::size_t i, const json::object& claim) {
    const FieldPath at = list[i];
    const std::string_view name = text_of(claim, "name"), real = text_of(claim, "resourceClaimName");
    if (!known.contains(name))
      errors.invalid(at / "name", name, "must match the name of an entry in `spec.resourceClaims`");
    if (!seen.emplace(name).second) errors.duplicate(at / "name", json::string(name));
    const std::string wrong =
        claim.contains("resourceClaimName") ? check_dns1123_subdomain(real) : std::string();
    if (!wrong.empty()) errors.invalid(at / "name", real, wrong);
  });
}

// Without the `user` in the path, as upstream has it.
void check_users(const json::object& status, const char* field, std::string_view os, const FieldPath& path,
                 FieldErrors& errors) {
  const FieldPath list = path / field;
  for_each_object(status, field, [&](std::size_t i, const json::object& container) {
    const FieldPath at = list[i];
    const FieldPath linux_path = at / "linux";
    const json::object* user = object_of(object_or_empty(container, "user"), "linux");
    if (user == nullptr) return;
    if (os == "windows") return errors.forbidden(linux_path, "cannot be set for a windows pod");
    check_id(user->if_contains("uid"), linux_path / "uid", errors);
    check_id(user->if_contains("gid"), linux_path / "gid", errors);
    const FieldPath groups = linux_path / "supplementalGroups";
    std::size_t index = 0;
    for (const json::value& group : array_or_empty(*user, "supplementalGroups"))
      check_id(&group, groups[index++], errors);
  });
}

/// Is the device one that the container asked for? Claims are written as "claim:NAME/REQUEST".
bool asked_for(const json::object& container, std::string_view name) {
  const json::object& resources = object_or_empty(container, "resources");
  if (!name.starts_with("claim:")) return object_or_empty(resources, "requests").contains(name);
  bool found = false;
  for_each_object(resources, "claims", [&](std::size_t, const json::object& claim) {
    std::string full = "claim:" + std::string(text_of(claim, "name"));
    if (!text_of(claim, "request").empty()) full += "/" + std::string(text_of(claim, "request"));
    found = found || full == name;
  });
  return found;
}

void check_health(const json::object& device, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / "resources";
  std::set<std::string, std::less<>> seen;
  for_each_object(device, "resources", [&](std::size_t k, const json::object& each) {
    const FieldPath at = list[k];
    const std::string_view health = text_of(each, "health"), id = text_of(each, "resourceID");
    if (health != "Healthy" && health != "Unhealthy" && health != "Unknown")
      errors.not_supported(at / "health", json::string(health), {"Healthy", "Unhealthy", "Unknown"});
    if (!seen.emplace(id).second) errors.duplicate(at / "resourceID", json::string(id));
  });
}

// A status of a container that the pod has not got is nobody's business (kubernetes#124915).
void check_devices(const json::object& status, const json::object& spec, const char* field,
                   const char* containers, const FieldPath& path, FieldErrors& errors) {
  const FieldPath list = path / field;
  for_each_object(status, field, [&](std::size_t i, const json::object& one) {
    const json::object* container = nullptr;
    for_each_object(spec, containers, [&](std::size_t, const json::object& each) {
      if (text_of(each, "name") == text_of(one, "name")) container = &each;
    });
    const FieldPath at = list[i];
    const FieldPath devices = at / "allocatedResourcesStatus";
    for_each_object(one, "allocatedResourcesStatus", [&](std::size_t j, const json::object& device) {
      const std::string_view name = text_of(device, "name");
      const FieldPath each = devices[j];
      if (container != nullptr && !asked_for(*container, name)) {
        errors.invalid(each / "name", name,
                       name.starts_with("claim:")
                           ? "must match one of the container's resource claims in a format "
                             "'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"
                           : "must match one of the container's resource requests");
      }
      check_health(device, each, errors);
    });
  });
}

}  // namespace

void check_pod_status_details(const json::object& status, const json::object& spec, const FieldPath& path,
                              FieldErrors& errors) {
  const std::string_view os = text_of(object_or_empty(spec, "os"), "name");
  check_claims(status, spec, path, errors);
  for (const char* list : {"containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"})
    check_users(status, list, os, path, errors);
  check_devices(status, spec, "containerStatuses", "containers", path, errors);
  check_devices(status, spec, "initContainerStatuses", "initContainers", path, errors);
  const FieldPath ephemeral = path / "ephemeralContainerStatuses";
  for_each_object(status, "ephemeralContainerStatuses", [&](std::size_t i, const json::object& one) {
    const FieldPath at = ephemeral[i];
    if (!array_or_empty(one, "allocatedResourcesStatus").empty())
      errors.forbidden(at / "allocatedResourcesStatus", "must not be specified in container status");
  });
}

}  // namespace orchestra::api
