// Words of mount options, resource limits and propagation to the kernel's numbers.
#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>

#include "runtime/plan/make_plan.hpp"

namespace orchestra::runtime {
namespace {
struct FlagOption {
  std::string_view name;
  std::uint64_t set, clear;
};
// runtime-spec config.md, "Linux mount options"; recursive r* forms belong to a later tier.
constexpr std::array kFlagOptions{
    FlagOption{"ro", MOUNT_ATTR_RDONLY, 0},
    FlagOption{"rw", 0, MOUNT_ATTR_RDONLY},
    FlagOption{"nosuid", MOUNT_ATTR_NOSUID, 0},
    FlagOption{"suid", 0, MOUNT_ATTR_NOSUID},
    FlagOption{"nodev", MOUNT_ATTR_NODEV, 0},
    FlagOption{"dev", 0, MOUNT_ATTR_NODEV},
    FlagOption{"noexec", MOUNT_ATTR_NOEXEC, 0},
    FlagOption{"exec", 0, MOUNT_ATTR_NOEXEC},
    FlagOption{"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    FlagOption{"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    FlagOption{"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    FlagOption{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    FlagOption{"diratime", 0, MOUNT_ATTR_NODIRATIME},
    FlagOption{"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    FlagOption{"defaults", 0, 0},
    FlagOption{"atime", 0, MOUNT_ATTR__ATIME},
    FlagOption{"async", 0, 0},
    FlagOption{"norelatime", 0, MOUNT_ATTR__ATIME},
    FlagOption{"nostrictatime", 0, MOUNT_ATTR__ATIME},
    FlagOption{"loud", 0, 0},
    FlagOption{"silent", 0, 0},
};
constexpr std::array<std::string_view, 16> kLimits{
    "CPU",     "FSIZE", "DATA",  "STACK",      "CORE",     "RSS",  "NPROC",  "NOFILE",
    "MEMLOCK", "AS",    "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"};
}  // namespace

std::uint64_t propagation_flags(std::string_view name) {
  std::uint64_t flags = 0;
  if (name.starts_with('r') && name != "r") {
    flags = MS_REC;
    name.remove_prefix(1);
  }
  if (name == "private") return flags | MS_PRIVATE;
  if (name == "slave") return flags | MS_SLAVE;
  if (name == "shared") return flags | MS_SHARED;
  if (name == "unbindable") return flags | MS_UNBINDABLE;
  return 0;
}

MountOptions parse_mount_options(const std::vector<std::string>& options) {
  MountOptions parsed;
  for (const std::string& option : options) {
    if (option == "bind" || option == "rbind") {
      parsed.bind = true;
      parsed.recursive = option == "rbind";
      continue;
    }
    if (const std::uint64_t propagation = propagation_flags(option); propagation != 0) {
      parsed.propagation = propagation;
      continue;
    }
    const auto found = std::find_if(kFlagOptions.begin(), kFlagOptions.end(),
                                    [&](const FlagOption& f) { return f.name == option; });
    if (found == kFlagOptions.end()) {
      parsed.data.push_back(option);
      continue;
    }
    parsed.set = (parsed.set & ~found->clear) | found->set;
    parsed.clear = (parsed.clear & ~found->set) | found->clear;
  }
  return parsed;
}

int rlimit_number(std::string_view name) {
  if (!name.starts_with("RLIMIT_")) return -1;
  const auto found = std::find(kLimits.begin(), kLimits.end(), name.substr(7));
  return found == kLimits.end() ? -1 : static_cast<int>(found - kLimits.begin());
}

}  // namespace orchestra::runtime
