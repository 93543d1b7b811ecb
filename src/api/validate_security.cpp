// Security contexts, profiles, sysctls, Windows options, spec.os: ValidateSecurityContext,
// validatePodSpecSecurityContext and what they call in pkg/apis/core/validation/validation.go.
#include <algorithm>
#include <charconv>
#include <map>

#include "api/meta.hpp"
#include "api/tree.hpp"
#include "api/validate_parts.hpp"
#include "base/json.hpp"

namespace orchestra::api {
namespace {

constexpr const char* kIdText = "must be between 0 and 2147483647, inclusive";
constexpr std::size_t kSysctlNameMax = 253, kProfileMax = 4095, kSpecMax = 64 << 10;
constexpr std::size_t kUserMax = 104, kDomainMax = 256;
constexpr std::string_view kAppArmorPrefix = "container.apparmor.security.beta.kubernetes.io/";
constexpr std::string_view kSeccompPrefix = "container.seccomp.security.alpha.kubernetes.io/";
constexpr std::string_view kSeccompPod = "seccomp.security.alpha.kubernetes.io/pod";

void check_id(const json::value* id, const FieldPath& path, FieldErrors& errors) {
  if (id != nullptr && id->is_int64() && (id->get_int64() < 0 || id->get_int64() > INT32_MAX))
    errors.invalid(path, *id, kIdText);
}

void check_seccomp(const json::object& context, const FieldPath& path, FieldErrors& errors) {
  const json::object* profile = object_of(context, "seccompProfile");
  if (profile == nullptr) return;
  const FieldPath at = path / "seccompProfile";
  const std::string_view type = text_of(*profile, "type");
  if (type.empty()) errors.required(at / "type", "type is required when seccompProfile is set");
  const bool named = profile->contains("localhostProfile");
  if (type == "Localhost") {
    if (!named)
      errors.required(at / "localhostProfile", "must be set when seccomp type is Localhost");
    else
      check_descending_path(text_of(*profile, "localhostProfile"), at / "localhostProfile", errors);
  } else if (named) {
    errors.invalid(at / "localhostProfile", json::value(*profile),
                   "can only be set when seccomp type is Localhost");
  }
}

void check_app_armor(const json::object& context, const FieldPath& path, FieldErrors& errors) {
  const json::object* profile = object_of(context, "appArmorProfile");
  if (profile == nullptr) return;
  const FieldPath at = path / "appArmorProfile";
  const std::string_view type = text_of(*profile, "type"), name = text_of(*profile, "localhostProfile");
  const bool named = profile->contains("localhostProfile");
  if (type == "Localhost") {
    constexpr std::string_view kSpace = " \t\n\r\v\f";
    if (name.empty()) {
      errors.required(at / "localhostProfile", "must be set when AppArmor type is Localhost");
    } else if (kSpace.find(name.front()) != std::string_view::npos ||
               kSpace.find(name.back()) != std::string_view::npos) {
      errors.invalid(at / "localhostProfile", name, "must not be padded with whitespace");
    }
    if (name.size() > kProfileMax) errors.too_long(at / "localhostProfile", kProfileMax);
  } else if (type == "RuntimeDefault" || type == "Unconfined") {
    if (named)
      errors.invalid(at / "localhostProfile", name, "can only be set when AppArmor type is Localhost");
  } else if (type.empty()) {
    errors.required(at / "type", "type is required when appArmorProfile is set");
  } else {
    errors.not_supported(at / "type", json::string(type), {"Localhost", "RuntimeDefault", "Unconfined"});
  }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?`, joined by dots.
bool is_windows_dns(std::string_view text) {
  const auto alnum = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  for (const std::string_view part : split_words(text, '.')) {
    const bool good = !part.empty() && part.size() <= 63 && alnum(part.front()) && alnum(part.back()) &&
                      std::all_of(part.begin(), part.end(), [&](char c) { return alnum(c) || c == '-'; });
    if (!good) return false;
  }
  return !text.empty();
}

void check_windows_user(std::string_view name, const FieldPath& path, FieldErrors& errors) {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; };
  if (name.empty()) return errors.invalid(path, name, "runAsUserName cannot be an empty string");
  if (std::any_of(name.begin(), name.end(), control))
    return errors.invalid(path, name, "runAsUserName cannot contain control characters");
  if (std::count(name.begin(), name.end(), '\\') > 1)
    return errors.invalid(path, name, "runAsUserName cannot contain more than one backslash");
  const std::size_t slash = name.find('\\');
  const bool has_domain = slash != std::string_view::npos;
  const std::string_view domain = has_domain ? name.substr(0, slash) : std::string_view();
  const std::string_view user = has_domain ? name.substr(slash + 1) : name;
  const bool net_bios = !domain.empty() && domain.size() <= 15 && domain.front() != '.' &&
                        domain.find_first_of("\\/:*?\"<>|") == std::string_view::npos;
  if (domain.size() >= kDomainMax)
    errors.invalid(path, name, "runAsUserName's Domain length must be under 256 characters");
  if (has_domain && !net_bios && !is_windows_dns(domain))
    errors.invalid(path, name, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
  if (user.empty()) errors.invalid(path, name, "runAsUserName's User cannot be empty");
  if (user.size() > kUserMax)
    errors.invalid(path, name, "runAsUserName's User length must not be longer than 104 characters");
  if (!user.empty() && user.find_first_not_of(". ") == std::string_view::npos)
    errors.invalid(path, name, "runAsUserName's User cannot contain only periods or spaces");
  if (user.find_first_of("\"/\\:;|=,+*?<>@[]") != std::string_view::npos) {
    errors.invalid(path, name,
                   "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
  }
}

void check_windows(const json::object& context, const FieldPath& path, FieldErrors& errors) {
  const json::object* options = object_of(context, "windowsOptions");
  if (options == nullptr) return;
  const FieldPath at = path / "windowsOptions";
  if (options->contains("gmsaCredentialSpecName")) {
    const std::string_view name = text_of(*options, "gmsaCredentialSpecName");
    check_text(name, check_dns1123_subdomain(name), at / "gmsaCredentialSpecName", errors);
  }
  if (options->contains("gmsaCredentialSpec")) {
    const std::string_view spec = text_of(*options, "gmsaCredentialSpec");
    if (spec.empty())
      errors.invalid(at / "gmsaCredentialSpec", spec, "gmsaCredentialSpec cannot be an empty string");
    if (spec.size() > kSpecMax)
      errors.invalid(at / "gmsaCredentialSpec", spec, "gmsaCredentialSpec size must be under 64 KiB");
  }
  if (options->contains("runAsUserName"))
    check_windows_user(text_of(*options, "runAsUserName"), at / "runAsUserName", errors);
}

/// ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?
bool is_sysctl_name(std::string_view name) {
  if (name.size() > kSysctlNameMax) return false;
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  std::size_t start = 0;
  while (start <= name.size()) {
    std::size_t end = name.find_first_of("./", start);
    if (end == std::string_view::npos) end = name.size();
    const std::string_view part = name.substr(start, end - start);
    if (part.empty() || !alnum(part.front()) || !alnum(part.back()) ||
        !std::all_of(part.begin(), part.end(), [&](char c) { return alnum(c) || c == '-' || c == '_'; }))
      return false;
    start = end + 1;
  }
  return true;
}

/// Which namespace of the kernel holds a sysctl: "net", "ipc" or none.
std::string_view sysctl_namespace(std::string name) {
  std::replace(name.begin(), name.end(), '/', '.');
  if (name.starts_with("net.")) return "net";
  const bool ipc = name == "kernel.sem" || name.starts_with("kernel.shm") || name.starts_with("kernel.msg") ||
                   name.starts_with("fs.mqueue.");
  return ipc ? "ipc" : "";
}

void check_sysctls(const json::object& spec, const json::object& context, const FieldPath& path,
                   FieldErrors& errors) {
  const FieldPath list = path / "sysctls";
  std::set<std::string_view> names;
  for_each_object(context, "sysctls", [&](std::size_t i, const json::object& sysctl) {
    const std::string_view name = text_of(sysctl, "name");
    const FieldPath at = list[i];
    if (name.empty()) {
      errors.required(at / "name");
    } else if (!is_sysctl_name(name)) {
      errors.invalid(at / "name", name,
                     "must have at most 253 characters and match regex "
                     "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$");
    } else if (names.count(name) > 0) {
      errors.duplicate(at / "name", json::string(name));
    }
    const std::string_view space = sysctl_namespace(std::string(name));
    if (space == "net" && flag_of(spec, "hostNetwork")) {
      errors.invalid(at / "name", name, "may not be specified when 'hostNetwork' is true");
    } else if (space == "ipc" && flag_of(spec, "hostIPC")) {
      errors.invalid(at / "name", name, "may not be specified when 'hostIPC' is true");
    }
    names.insert(name);
  });
}

void check_windows_host_process(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object& pod = object_or_empty(object_or_empty(spec, "securityContext"), "windowsOptions");
  const json::value* pod_value = pod.if_contains("hostProcess");
  int all = 0, host = 0;
  for_each_container(spec, path, [&](const json::object& container, const FieldPath& at) {
    ++all;
    const json::object& own =
        object_or_empty(object_or_empty(container, "securityContext"), "windowsOptions");
    const json::value* value = own.if_contains("hostProcess");
    if (pod_value != nullptr && value != nullptr && *pod_value != *value) {
      errors.invalid(
          at / "securityContext" / "windowsOptions" / "hostProcess", *value,
          "pod hostProcess value must be identical if both are specified, was " + to_json(*pod_value));
    }
    if (value != nullptr ? flag_of(own, "hostProcess") : flag_of(pod, "hostProcess")) ++host;
  });
  if (host == 0) return;
  if (host != all) {
    errors.invalid(
        path, "",
        "If pod contains any hostProcess containers then all containers must be HostProcess containers");
  }
  if (!flag_of(spec, "hostNetwork")) {
    errors.invalid(path / "hostNetwork", json::value(false),
                   "hostNetwork must be true if pod contains any hostProcess containers");
  }
}

void check_host_users(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::value* users = spec.if_contains("hostUsers");
  if (users == nullptr || !users->is_bool() || users->get_bool()) return;
  constexpr const char* kText = "when `hostUsers` is false";
  if (flag_of(spec, "hostNetwork")) errors.forbidden(path / "hostNetwork", kText);
  if (flag_of(spec, "hostPID")) errors.forbidden(path / "HostPID", kText);
  if (flag_of(spec, "hostIPC")) errors.forbidden(path / "HostIPC", kText);
  for_each_container(spec, path, [&](const json::object& container, const FieldPath& at) {
    if (!array_or_empty(container, "volumeDevices").empty()) errors.forbidden(at / "volumeDevices", kText);
  });
}

void forbid(const json::object& object, std::initializer_list<const char*> fields, const FieldPath& path,
            const char* why, FieldErrors& errors) {
  for (const char* field : fields) {
    const json::value* value = object.if_contains(field);
    const bool set = value != nullptr && !value->is_null() && !(value->is_bool() && !value->get_bool()) &&
                     !(value->is_array() && value->get_array().empty());
    if (set) errors.forbidden(path / field, why);
  }
}
void forbid_present(const json::object& object, std::initializer_list<const char*> fields,
                    const FieldPath& path, const char* why, FieldErrors& errors) {
  for (const char* field : fields) {
    if (object.contains(field)) errors.forbidden(path / field, why);
  }
}

/// "must match" of a deprecated seccomp annotation and the field beside it.
void check_seccomp_match(std::string_view annotation, const json::object& profile, const FieldPath& path,
                         FieldErrors& errors) {
  const std::string_view type = text_of(profile, "type"), name = text_of(profile, "localhostProfile");
  constexpr const char* kText = "seccomp type in annotation and field must match";
  if (type == "Unconfined" && annotation != "unconfined") errors.forbidden(path / "type", kText);
  if (type == "RuntimeDefault" && annotation != "runtime/default" && annotation != "docker/default")
    errors.forbidden(path / "type", kText);
  if (type != "Localhost") return;
  if (!annotation.starts_with("localhost/")) {
    errors.forbidden(path / "type", kText);
  } else if (annotation.substr(10) != name) {
    errors.forbidden(path / "localhostProfile", "seccomp profile in annotation and field must match");
  }
}

void check_app_armor_match(std::string_view annotation, const json::object& profile, const FieldPath& path,
                           FieldErrors& errors) {
  const std::string_view type = text_of(profile, "type"), name = text_of(profile, "localhostProfile");
  constexpr const char* kText = "apparmor type in annotation and field must match";
  if (type == "Unconfined" && annotation != "unconfined") errors.forbidden(path / "type", kText);
  if (type == "RuntimeDefault" && annotation != "runtime/default") errors.forbidden(path / "type", kText);
  if (type != "Localhost") return;
  if (!annotation.starts_with("localhost/")) {
    errors.forbidden(path / "type", kText);
  } else if (annotation.substr(10) != name) {
    errors.forbidden(path / "localhostProfile", "apparmor profile in annotation and field must match");
  }
}

void check_seccomp_annotation(std::string_view profile, const FieldPath& path, FieldErrors& errors) {
  if (profile == "runtime/default" || profile == "docker/default" || profile == "unconfined") return;
  if (profile.starts_with("localhost/")) return check_descending_path(profile.substr(10), path, errors);
  errors.invalid(path, profile, "must be a valid seccomp profile");
}

void check_profiles_match(const json::object& notes, const json::object& spec, FieldErrors& errors,
                          const FieldPath& path) {
  const json::object& pod = object_or_empty(spec, "securityContext");
  const json::object* pod_seccomp = object_of(pod, "seccompProfile");
  if (pod_seccomp != nullptr && notes.contains(kSeccompPod))
    check_seccomp_match(text_of(notes, kSeccompPod), *pod_seccomp,
                        path / "securityContext" / "seccompProfile", errors);
  const bool windows = text_of(object_or_empty(spec, "os"), "name") == "windows";
  for_each_container(spec, path, [&](const json::object& container, const FieldPath& at) {
    const std::string name(text_of(container, "name"));
    const json::object& own = object_or_empty(container, "securityContext");
    const std::string seccomp = std::string(kSeccompPrefix) + name,
                      armor = std::string(kAppArmorPrefix) + name;
    const json::object* profile = object_of(own, "seccompProfile");
    if (profile != nullptr && notes.contains(seccomp))
      check_seccomp_match(text_of(notes, seccomp), *profile, at / "securityContext" / "seccompProfile",
                          errors);
    const json::object* armored = object_of(own, "appArmorProfile");
    if (armored == nullptr) armored = object_of(pod, "appArmorProfile");
    if (armored != nullptr && !windows && notes.contains(armor))
      check_app_armor_match(text_of(notes, armor), *armored, at / "securityContext" / "appArmorProfile",
                            errors);
  });
}

}  // namespace

void check_pod_security_context(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object& context = object_or_empty(spec, "securityContext");
  const FieldPath at = path / "securityContext";
  for (const char* field : {"fsGroup", "runAsUser", "runAsGroup"})
    check_id(context.if_contains(field), at / field, errors);
  const FieldPath groups = at / "supplementalGroups";
  std::size_t index = 0;
  for (const json::value& group : array_or_empty(context, "supplementalGroups"))
    check_id(&group, groups[index++], errors);
  if (flag_of(spec, "shareProcessNamespace") && flag_of(spec, "hostPID")) {
    errors.invalid(at / "shareProcessNamespace", json::value(true),
                   "ShareProcessNamespace and HostPID cannot both be enabled");
  }
  check_sysctls(spec, context, at, errors);
  check_seccomp(context, at, errors);
  check_windows(context, at, errors);
  check_app_armor(context, at, errors);
  if (context.contains("seLinuxChangePolicy")) {
    const std::string_view policy = text_of(context, "seLinuxChangePolicy");
    // MountOption needs the gate SELinuxMount, which is off at 1.35.
    if (policy != "Recursive" && policy != "MountOption")
      errors.not_supported(at / "seLinuxChangePolicy", json::string(policy), {"MountOption", "Recursive"});
  }
  check_windows_host_process(spec, path, errors);
  check_host_users(spec, path, errors);
}

void check_security_context(const json::object& container, bool host_users, const FieldPath& path,
                            FieldErrors& errors) {
  const json::object* context = object_of(container, "securityContext");
  if (context == nullptr) return;
  const FieldPath at = path / "securityContext";
  for (const char* field : {"runAsUser", "runAsGroup"})
    check_id(context->if_contains(field), at / field, errors);
  if (host_users && text_of(*context, "procMount") == "Unmasked")
    errors.invalid(at / "procMount", "Unmasked", "`hostUsers` must be false to use `Unmasked`");
  check_seccomp(*context, at, errors);
  const json::value* escalation = context->if_contains("allowPrivilegeEscalation");
  if (escalation != nullptr && escalation->is_bool() && !escalation->get_bool()) {
    if (flag_of(*context, "privileged")) {
      errors.invalid(at, json::value(*context),
                     "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    }
    for (const json::value& each : array_or_empty(object_or_empty(*context, "capabilities"), "add")) {
      if (each == "CAP_SYS_ADMIN") {
        errors.invalid(at, json::value(*context),
                       "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
      }
    }
  }
  check_windows(*context, at, errors);
  check_app_armor(*context, at, errors);
}

void check_pod_os(const json::object& spec, const FieldPath& path, FieldErrors& errors) {
  const json::object* os = object_of(spec, "os");
  if (os == nullptr) return;
  const FieldPath at = path / "os";
  const FieldPath context_path = path / "securityContext";
  const json::object& context = object_or_empty(spec, "securityContext");
  const std::string_view name = text_of(*os, "name");
  if (name.empty()) return errors.required(at / "name", "cannot be empty");
  if (name == "linux") {
    constexpr const char* kText = "windows options cannot be set for a linux pod";
    forbid_present(context, {"windowsOptions"}, context_path, kText, errors);
    for_each_container(spec, path, [&](const json::object& container, const FieldPath& each) {
      forbid_present(object_or_empty(container, "securityContext"), {"windowsOptions"},
                     each / "securityContext", kText, errors);
    });
  } else if (name == "windows") {
    constexpr const char* kText = "cannot be set for a windows pod";
    forbid_present(context, {"appArmorProfile", "seLinuxOptions"}, context_path, kText, errors);
    forbid_present(spec, {"hostUsers"}, path, kText, errors);
    forbid(spec, {"hostPID", "hostIPC"}, path, kText, errors);
    forbid_present(context, {"seccompProfile", "fsGroup", "fsGroupChangePolicy"}, context_path, kText,
                   errors);
    forbid(context, {"sysctls"}, context_path, kText, errors);
    forbid_present(spec, {"shareProcessNamespace"}, path, kText, errors);
    forbid_present(
        context,
        {"runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"},
        context_path, kText, errors);
    for_each_container(spec, path, [&](const json::object& container, const FieldPath& each) {
      forbid_present(
          object_or_empty(container, "securityContext"),
          {"appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem",
           "privileged", "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup"},
          each / "securityContext", kText, errors);
    });
  } else {
    errors.not_supported(at, json::string(name), {"linux", "windows"});
  }
}

void check_pod_annotations(const json::object& meta, const json::object& spec, const FieldPath& path,
                           FieldErrors& errors) {
  const json::object& notes = object_or_empty(meta, "annotations");
  if (notes.empty()) return;
  const FieldPath at = path / "annotations";
  constexpr std::string_view kMirror = "kubernetes.io/config.mirror";
  if (notes.contains(kMirror) && text_of(spec, "nodeName").empty()) {
    errors.invalid(at.key(kMirror), text_of(notes, kMirror),
                   "must set spec.nodeName if mirror pod annotation is set");
  }
  constexpr std::string_view kCost = "controller.kubernetes.io/pod-deletion-cost";
  if (notes.contains(kCost)) {
    const std::string_view text = text_of(notes, kCost);
    std::int32_t cost = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), cost);
    // As upstream's ParseInt: no leading zero or plus (but for "0" itself).
    const std::string_view digits = text.starts_with("-") ? text.substr(1) : text;
    const bool padded = digits.size() > 1 && digits.front() == '0';
    if (failed != std::errc() || end != text.data() + text.size() || padded || text == "-0")
      errors.invalid(at.key(kCost), text, "must be a 32bit integer");
  }
  if (notes.contains(kSeccompPod))
    check_seccomp_annotation(text_of(notes, kSeccompPod), at / kSeccompPod, errors);
  for (const auto& member : notes) {
    const std::string_view key = member.key(), text = text_of(notes, key);
    if (key.starts_with(kSeccompPrefix)) check_seccomp_annotation(text, at / key, errors);
    if (!key.starts_with(kAppArmorPrefix)) continue;
    const std::string_view container = key.substr(kAppArmorPrefix.size());
    bool found = false;
    for_each_container(spec, path, [&](const json::object& each, const FieldPath&) {
      found = found || text_of(each, "name") == container;
    });
    if (!found) errors.invalid(at.key(key), container, "container not found");
    if (!text.empty() && text != "runtime/default" && text != "unconfined" && !text.starts_with("localhost/"))
      errors.invalid(at.key(key), text, "invalid AppArmor profile name: " + to_json(json::string(text)));
  }
}

void check_profile_annotations(const json::object& meta, const json::object& spec, const FieldPath& path,
                               FieldErrors& errors) {
  const json::object& notes = object_or_empty(meta, "annotations");
  if (!notes.empty()) check_profiles_match(notes, spec, errors, path);
}

}  // namespace orchestra::api
