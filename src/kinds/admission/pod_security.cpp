// Pod Security Standards by namespace labels: baseline and restricted, enforced on pods, told as warnings for
// pods and for what makes pods.
//
// Upstream staging/src/k8s.io/pod-security-admission (policy/check_*.go), at the level "latest"; a version
// label is accepted and shown, the checks are those of our API level. Exemptions are not configurable.
#include <algorithm>
#include <array>
#include <functional>

#include "api/meta.hpp"
#include "apiserver/admission/plugins.hpp"
#include "base/json_text.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::array kModes = {"enforce", "audit", "warn"};

struct Check {
  std::string reason, detail;
};

std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }
std::string joined(const std::vector<std::string>& words, const char* between = ", ") {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : between) + word;
  return out;
}
// container "a", containers "a", "b"
std::string containers_named(const std::vector<std::string>& names) {
  std::vector<std::string> words;
  for (const std::string& name : names) words.push_back(quoted(name));
  return (names.size() == 1 ? "container " : "containers ") + joined(words);
}

template <class F>
void each_container(const json::value& spec, F call) {
  for (const char* list : {"/initContainers", "/containers", "/ephemeralContainers"}) {
    if (const json::array* all = array_at(spec, list)) {
      for (const json::value& container : *all) call(container, string_at(container, "/name"));
    }
  }
}
std::vector<std::string> containers_where(const json::value& spec,
                                          const std::function<bool(const json::value&)>& bad) {
  std::vector<std::string> names;
  each_container(spec, [&](const json::value& container, const std::string& name) {
    if (bad(container)) names.push_back(name);
  });
  return names;
}

void check_host(const json::value& spec, std::vector<Check>& out) {
  std::vector<std::string> set;
  for (const char* field : {"hostNetwork", "hostPID", "hostIPC"}) {
    if (bool_at(spec, std::string("/") + field)) set.push_back(std::string(field) + "=true");
  }
  if (!set.empty()) out.push_back({"host namespaces", joined(set)});
  const auto privileged = containers_where(
      spec, [](const json::value& container) { return bool_at(container, "/securityContext/privileged"); });
  if (!privileged.empty()) {
    out.push_back(
        {"privileged", containers_named(privileged) + " must not set securityContext.privileged=true"});
  }
  std::vector<std::string> volumes;
  if (const json::array* all = array_at(spec, "/volumes")) {
    for (const json::value& volume : *all) {
      if (find(volume, "/hostPath") != nullptr) volumes.push_back(quoted(string_at(volume, "/name")));
    }
  }
  if (!volumes.empty()) {
    out.push_back({"hostPath volumes", (volumes.size() == 1 ? "volume " : "volumes ") + joined(volumes)});
  }
  std::vector<std::string> ports;
  const auto users = containers_where(spec, [&](const json::value& container) {
    bool uses = false;
    if (const json::array* list = array_at(container, "/ports")) {
      for (const json::value& port : *list) {
        const std::int64_t number = int_at(port, "/hostPort");
        if (number == 0) continue;
        uses = true;
        const std::string text = std::to_string(number);
        if (std::find(ports.begin(), ports.end(), text) == ports.end()) ports.push_back(text);
      }
    }
    return uses;
  });
  if (!users.empty()) {
    out.push_back({"hostPort", containers_named(users) + (users.size() == 1 ? " uses " : " use ") +
                                   (ports.size() == 1 ? "hostPort " : "hostPorts ") + joined(ports)});
  }
}

void check_capabilities(const json::value& spec, std::vector<Check>& out) {
  static constexpr std::array<std::string_view, 13> kAllowed = {
      "AUDIT_WRITE",      "CHOWN",   "DAC_OVERRIDE", "FOWNER",  "FSETID", "KILL",      "MKNOD",
      "NET_BIND_SERVICE", "SETFCAP", "SETGID",       "SETPCAP", "SETUID", "SYS_CHROOT"};
  std::vector<std::string> added;
  const auto names = containers_where(spec, [&](const json::value& container) {
    bool bad = false;
    if (const json::array* list = array_at(container, "/securityContext/capabilities/add")) {
      for (const json::value& one : *list) {
        const std::string_view name =
            one.is_string() ? std::string_view(one.get_string()) : std::string_view();
        if (std::find(kAllowed.begin(), kAllowed.end(), name) != kAllowed.end()) continue;
        bad = true;
        const std::string text = quoted(name);
        if (std::find(added.begin(), added.end(), text) == added.end()) added.push_back(text);
      }
    }
    return bad;
  });
  if (names.empty()) return;
  out.push_back({"non-default capabilities", containers_named(names) + " must not include " + joined(added) +
                                                 " in securityContext.capabilities.add"});
}

void check_kernel(const json::value& spec, std::vector<Check>& out) {
  const auto unconfined = [](const json::value& at) {
    return string_at(at, "/securityContext/seccompProfile/type") == "Unconfined";
  };
  const auto seccomp = containers_where(spec, unconfined);
  if (unconfined(spec) || !seccomp.empty()) {
    const std::string who = unconfined(spec) && !seccomp.empty() ? "pod and " + containers_named(seccomp)
                            : unconfined(spec)                   ? "pod"
                                                                 : containers_named(seccomp);
    out.push_back(
        {"seccompProfile", who + " must not set securityContext.seccompProfile.type to \"Unconfined\""});
  }
  const auto masks = containers_where(spec, [](const json::value& container) {
    const std::string type = string_at(container, "/securityContext/procMount");
    return !type.empty() && type != "Default";
  });
  if (!masks.empty()) {
    out.push_back(
        {"procMount", containers_named(masks) + " must not set securityContext.procMount to \"Unmasked\""});
  }
  const auto selinux = [](const json::value& at) {
    static constexpr std::array<std::string_view, 5> kTypes = {"", "container_t", "container_init_t",
                                                               "container_kvm_t", "container_engine_t"};
    const std::string type = string_at(at, "/securityContext/seLinuxOptions/type");
    return std::find(kTypes.begin(), kTypes.end(), type) == kTypes.end() ||
           !string_at(at, "/securityContext/seLinuxOptions/user").empty() ||
           !string_at(at, "/securityContext/seLinuxOptions/role").empty();
  };
  const auto labelled = containers_where(spec, selinux);
  if (selinux(spec) || !labelled.empty()) {
    out.push_back({"seLinuxOptions", (selinux(spec) ? std::string("pod") : containers_named(labelled)) +
                                         " set forbidden securityContext.seLinuxOptions"});
  }
  static constexpr std::array<std::string_view, 10> kSysctls = {"kernel.shm_rmid_forced",
                                                                "net.ipv4.ip_local_port_range",
                                                                "net.ipv4.tcp_syncookies",
                                                                "net.ipv4.ping_group_range",
                                                                "net.ipv4.ip_unprivileged_port_start",
                                                                "net.ipv4.ip_local_reserved_ports",
                                                                "net.ipv4.tcp_keepalive_time",
                                                                "net.ipv4.tcp_fin_timeout",
                                                                "net.ipv4.tcp_keepalive_intvl",
                                                                "net.ipv4.tcp_keepalive_probes"};
  std::vector<std::string> sysctls;
  if (const json::array* list = array_at(spec, "/securityContext/sysctls")) {
    for (const json::value& one : *list) {
      const std::string name = string_at(one, "/name");
      if (std::find(kSysctls.begin(), kSysctls.end(), name) == kSysctls.end()) sysctls.push_back(name);
    }
  }
  if (!sysctls.empty()) out.push_back({"forbidden sysctls", joined(sysctls)});
  const auto unarmoured = [](const json::value& at) {
    return string_at(at, "/securityContext/appArmorProfile/type") == "Unconfined";
  };
  const auto profiles = containers_where(spec, unarmoured);
  if (unarmoured(spec) || !profiles.empty()) {
    out.push_back(
        {"forbidden AppArmor profile", (unarmoured(spec) ? std::string("pod") : containers_named(profiles)) +
                                           " must not set AppArmor profile type to \"Unconfined\""});
  }
}

void check_restricted(const json::value& spec, std::vector<Check>& out) {
  static constexpr std::array<std::string_view, 8> kVolumes = {
      "configMap", "csi",   "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
      "projected", "secret"};
  std::vector<std::string> volumes;
  std::vector<std::string> kinds;
  if (const json::array* all = array_at(spec, "/volumes")) {
    for (const json::value& volume : *all) {
      if (!volume.is_object()) continue;
      for (const auto& entry : volume.get_object()) {
        const std::string_view kind = entry.key();
        if (kind == "name" || kind == "image" ||
            std::find(kVolumes.begin(), kVolumes.end(), kind) != kVolumes.end())
          continue;
        volumes.push_back(quoted(string_at(volume, "/name")));
        if (std::find(kinds.begin(), kinds.end(), quoted(kind)) == kinds.end()) kinds.push_back(quoted(kind));
      }
    }
  }
  if (!volumes.empty()) {
    out.push_back({"restricted volume types", (volumes.size() == 1 ? "volume " : "volumes ") +
                                                  joined(volumes) + (volumes.size() == 1 ? " uses" : " use") +
                                                  " restricted volume " +
                                                  (kinds.size() == 1 ? "type " : "types ") + joined(kinds)});
  }
  const auto escalate = containers_where(spec, [](const json::value& container) {
    return bool_at(container, "/securityContext/allowPrivilegeEscalation", true);
  });
  if (!escalate.empty()) {
    out.push_back({"allowPrivilegeEscalation != false",
                   containers_named(escalate) + " must set securityContext.allowPrivilegeEscalation=false"});
  }
  const auto keep = containers_where(spec, [](const json::value& container) {
    const json::array* drop = array_at(container, "/securityContext/capabilities/drop");
    return drop == nullptr || std::find(drop->begin(), drop->end(), json::value("ALL")) == drop->end();
  });
  if (!keep.empty()) {
    out.push_back({"unrestricted capabilities",
                   containers_named(keep) + " must set securityContext.capabilities.drop=[\"ALL\"]"});
  }
  const auto extra = containers_where(spec, [](const json::value& container) {
    const json::array* add = array_at(container, "/securityContext/capabilities/add");
    return add != nullptr && std::any_of(add->begin(), add->end(),
                                         [](const json::value& one) { return one != "NET_BIND_SERVICE"; });
  });
  if (!extra.empty()) {
    out.push_back({"unrestricted capabilities", containers_named(extra) +
                                                    " must not include other than \"NET_BIND_SERVICE\" in "
                                                    "securityContext.capabilities.add"});
  }
  const bool pod_non_root = bool_at(spec, "/securityContext/runAsNonRoot");
  const auto root = containers_where(spec, [&](const json::value& container) {
    return !bool_at(container, "/securityContext/runAsNonRoot", pod_non_root);
  });
  if (!root.empty()) {
    out.push_back({"runAsNonRoot != true",
                   "pod or " + containers_named(root) + " must set securityContext.runAsNonRoot=true"});
  }
  const auto zero = [](const json::value& at) {
    const json::value* user = find(at, "/securityContext/runAsUser");
    return user != nullptr && user->is_int64() && user->get_int64() == 0;
  };
  const auto zeros = containers_where(spec, zero);
  if (zero(spec) || !zeros.empty()) {
    out.push_back({"runAsUser=0", (zero(spec) ? std::string("pod") : containers_named(zeros)) +
                                      " must not set runAsUser=0"});
  }
  const std::string own = string_at(spec, "/securityContext/seccompProfile/type");
  const auto open = containers_where(spec, [&](const json::value& container) {
    const std::string type = string_at(container, "/securityContext/seccompProfile/type", own);
    return type != "RuntimeDefault" && type != "Localhost";
  });
  if (!open.empty()) {
    out.push_back(
        {"seccompProfile",
         "pod or " + containers_named(open) +
             " must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""});
  }
}

std::string violations(const std::string& level, const json::value& spec) {
  std::vector<Check> checks;
  if (level == "baseline" || level == "restricted") {
    check_host(spec, checks);
    check_capabilities(spec, checks);
    check_kernel(spec, checks);
  }
  if (level == "restricted") check_restricted(spec, checks);
  std::string out;
  for (const Check& check : checks)
    out += (out.empty() ? "" : ", ") + check.reason + " (" + check.detail + ")";
  return out;
}

/// The pod spec that an object is or makes; null: it makes none.
const json::value* pod_spec_of(const Admission& admission) {
  const json::value& object = *admission.object;
  if (is_type(admission, "", "pods")) return find(object, "/spec");
  if (is_type(admission, "batch", "cronjobs")) return find(object, "/spec/jobTemplate/spec/template/spec");
  if (is_type(admission, "", "podtemplates")) return find(object, "/template/spec");
  const std::string& group = admission.input.type->group;
  const bool workload =
      group == "apps" || group == "batch" || is_type(admission, "", "replicationcontrollers");
  return workload ? find(object, "/spec/template/spec") : nullptr;
}
}  // namespace

Result<void> admit_pod_security(Admission& admission) {
  if (admission.object == nullptr || !admission.input.type->namespaced) return {};
  const json::value* spec = pod_spec_of(admission);
  if (spec == nullptr) return {};
  const bool pod = is_type(admission, "", "pods");
  ORC_ASSIGN(const auto found, admission.view.load(object_key({"", "namespaces"}, "", admission.input.ns())));
  if (!found || found->view.labels.empty()) return {};
  const auto label = [&](const std::string& name, const char* other) {
    return std::string(found->view.label("pod-security.kubernetes.io/" + name).value_or(other));
  };
  const bool asked = std::any_of(kModes.begin(), kModes.end(), [&](const char* mode) {
    return found->view.label(std::string("pod-security.kubernetes.io/") + mode).has_value();
  });
  if (!asked && admission.input.call->notes == nullptr) return {};
  if (pod && admission.old != nullptr) {
    const json::value* before = find(*admission.old, "/spec");
    if (before != nullptr && same_json(*before, *spec)) return {};
  }
  const auto shown = [&](const std::string& mode, const std::string& level) {
    return "PodSecurity \"" + level + ":" + label(mode + "-version", "latest") + "\": ";
  };
  const std::string enforced = label("enforce", "privileged");
  if (pod) {
    note(admission, "pod-security.kubernetes.io/enforce-policy",
         enforced + ":" + label("enforce-version", "latest"));
    const std::string broken = violations(enforced, *spec);
    if (!broken.empty()) return deny(admission, "violates " + shown("enforce", enforced) + broken);
  }
  const std::string audited = label("audit", "privileged");
  if (const std::string found = violations(audited, *spec); !found.empty())
    note(admission, "pod-security.kubernetes.io/audit-violations",
         "would violate " + shown("audit", audited) + found);
  const std::string warned = label("warn", "privileged");
  const std::string broken = violations(warned, *spec);
  if (!broken.empty()) admission.change.warnings.push_back("would violate " + shown("warn", warned) + broken);
  return {};
}

}  // namespace orchestra::apiserver
