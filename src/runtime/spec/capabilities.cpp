#include "runtime/spec/capabilities.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace orchestra::runtime {
namespace {
// include/uapi/linux/capability.h, in order.
constexpr std::array<std::string_view, kCapabilityLast + 1> kNames{"CHOWN",
                                                                   "DAC_OVERRIDE",
                                                                   "DAC_READ_SEARCH",
                                                                   "FOWNER",
                                                                   "FSETID",
                                                                   "KILL",
                                                                   "SETGID",
                                                                   "SETUID",
                                                                   "SETPCAP",
                                                                   "LINUX_IMMUTABLE",
                                                                   "NET_BIND_SERVICE",
                                                                   "NET_BROADCAST",
                                                                   "NET_ADMIN",
                                                                   "NET_RAW",
                                                                   "IPC_LOCK",
                                                                   "IPC_OWNER",
                                                                   "SYS_MODULE",
                                                                   "SYS_RAWIO",
                                                                   "SYS_CHROOT",
                                                                   "SYS_PTRACE",
                                                                   "SYS_PACCT",
                                                                   "SYS_ADMIN",
                                                                   "SYS_BOOT",
                                                                   "SYS_NICE",
                                                                   "SYS_RESOURCE",
                                                                   "SYS_TIME",
                                                                   "SYS_TTY_CONFIG",
                                                                   "MKNOD",
                                                                   "LEASE",
                                                                   "AUDIT_WRITE",
                                                                   "AUDIT_CONTROL",
                                                                   "SETFCAP",
                                                                   "MAC_OVERRIDE",
                                                                   "MAC_ADMIN",
                                                                   "SYSLOG",
                                                                   "WAKE_ALARM",
                                                                   "BLOCK_SUSPEND",
                                                                   "AUDIT_READ",
                                                                   "PERFMON",
                                                                   "BPF",
                                                                   "CHECKPOINT_RESTORE"};
constexpr std::array<std::string_view, 14> kDefaults{
    "CHOWN",  "DAC_OVERRIDE", "FSETID",  "FOWNER",           "MKNOD",      "NET_RAW", "SETGID",
    "SETUID", "SETFCAP",      "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL",    "AUDIT_WRITE"};

std::string plain_name(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return upper.starts_with("CAP_") ? upper.substr(4) : upper;
}
}  // namespace

std::optional<int> capability_number(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), plain_name(name));
  if (found == kNames.end()) return std::nullopt;
  return static_cast<int>(found - kNames.begin());
}

std::string capability_name(int number) {
  return "CAP_" + std::string(kNames.at(static_cast<std::size_t>(number)));
}

std::uint64_t default_capabilities() {
  std::uint64_t set = 0;
  for (const std::string_view name : kDefaults) set |= std::uint64_t{1} << *capability_number(name);
  return set;
}

std::uint64_t choose_capabilities(const std::vector<std::string>& add, const std::vector<std::string>& drop,
                                  std::vector<std::string>& unknown) {
  // As Kubernetes does it: ALL first, then single names, so that drop ALL + add X leaves X.
  const auto has_all = [](const std::vector<std::string>& names) {
    return std::any_of(names.begin(), names.end(),
                       [](const std::string& name) { return plain_name(name) == "ALL"; });
  };
  std::uint64_t set = default_capabilities();
  if (has_all(add)) set = kAllCapabilities;
  if (has_all(drop)) set = 0;
  const auto apply = [&](const std::vector<std::string>& names, bool on) {
    for (const std::string& name : names) {
      if (plain_name(name) == "ALL") continue;
      const auto number = capability_number(name);
      if (!number) {
        unknown.push_back(name);
      } else if (on) {
        set |= std::uint64_t{1} << *number;
      } else {
        set &= ~(std::uint64_t{1} << *number);
      }
    }
  };
  apply(add, true);
  apply(drop, false);
  return set;
}

std::vector<std::string> capability_names(std::uint64_t set) {
  std::vector<std::string> names;
  for (int number = 0; number <= kCapabilityLast; ++number) {
    if ((set >> number & 1) != 0) names.push_back(capability_name(number));
  }
  return names;
}

}  // namespace orchestra::runtime
