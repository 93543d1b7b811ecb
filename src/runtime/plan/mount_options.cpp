// Words of mount options, resource limits and propagation to the kernel's numbers.
#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "runtime/plan/make_plan.hpp"

namespace orchestra::runtime {
namespace {
struct FlagOption {
  std::string_view name;
  std::uint64_t set, clear;
};
// runtime-spec config.md, "Linux mount options". Each of these has a recursive form with an r before it.
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
    FlagOption{"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
    FlagOption{"defaults", 0, 0},
    FlagOption{"atime", 0, MOUNT_ATTR__ATIME},
    FlagOption{"norelatime", 0, MOUNT_ATTR__ATIME},
    FlagOption{"nostrictatime", 0, MOUNT_ATTR__ATIME},
    FlagOption{"loud", 0, 0},
    FlagOption{"silent", 0, 0},
};
// Flags of a file system, not of a mount: the kernel takes them by name.
constexpr std::string_view kSuperblock[] = {"sync", "async",  "dirsync",  "lazytime",  "nolazytime",
                                            "mand", "nomand", "iversion", "noiversion"};
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
    if (option == "idmap" || option == "ridmap") {
      parsed.id_mapped = true;
      parsed.id_mapped_recursive = option == "ridmap";
      continue;
    }
    if (option == "tmpcopyup") {
      parsed.copy_up = true;
      continue;
    }
    if (std::find(std::begin(kSuperblock), std::end(kSuperblock), option) != std::end(kSuperblock)) {
      parsed.superblock.push_back(option);
      continue;
    }
    const auto named = [](std::string_view name) {
      return std::find_if(kFlagOptions.begin(), kFlagOptions.end(),
                          [&](const FlagOption& f) { return f.name == name; });
    };
    const auto found = named(option);
    if (found == kFlagOptions.end()) {
      const auto recursive = option[0] == 'r' ? named(std::string_view(option).substr(1)) : found;
      if (recursive == kFlagOptions.end()) {
        parsed.data.push_back(option);
        continue;
      }
      parsed.all_set = (parsed.all_set & ~recursive->clear) | recursive->set;
      parsed.all_clear = (parsed.all_clear & ~recursive->set) | recursive->clear;
      continue;
    }
    parsed.set = (parsed.set & ~found->clear) | found->set;
    parsed.clear = (parsed.clear & ~found->set) | found->clear;
  }
  return parsed;
}

std::optional<std::vector<std::uint64_t>> parse_number_list(std::string_view text) {
  constexpr unsigned kNumberMax = 8191;
  std::vector<std::uint64_t> mask;
  const auto number = [](std::string_view digits) -> std::optional<unsigned> {
    while (!digits.empty() && digits.front() == ' ') digits.remove_prefix(1);
    while (!digits.empty() && digits.back() == ' ') digits.remove_suffix(1);
    unsigned value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size() || value > kNumberMax)
      return std::nullopt;
    return value;
  };
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view part = text.substr(at, end - at);
    const std::size_t dash = part.find('-');
    const auto first = number(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number(part.substr(dash + 1));
    if (!first || !last || *last < *first) return std::nullopt;
    if (mask.size() <= *last / 64) mask.resize(*last / 64 + 1, 0);
    for (unsigned i = *first; i <= *last; ++i) mask[i / 64] |= std::uint64_t{1} << (i % 64);
    at = end + 1;
  }
  return mask;
}

int rlimit_number(std::string_view name) {
  if (!name.starts_with("RLIMIT_")) return -1;
  const auto found = std::find(kLimits.begin(), kLimits.end(), name.substr(7));
  return found == kLimits.end() ? -1 : static_cast<int>(found - kLimits.begin());
}

}  // namespace orchestra::runtime
