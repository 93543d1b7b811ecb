// Which controller lives where: from /proc/self/mountinfo and cgroup.controllers. Pure but for detect.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "runtime/linux/cgroups.hpp"

namespace orchestra::runtime {
namespace {

constexpr std::size_t kMountinfoBytesMax = 4 << 20;

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(separator, at), text.size());
    if (end > at) parts.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

/// mountinfo writes space, tab, newline and backslash as \040 and the like.
std::string unescape(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool octal = text[i] == '\\' && i + 3 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '3';
    if (octal) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool is_v1_controller(const std::string& option) {
  constexpr std::string_view known[] = {"cpu",        "cpuacct", "cpuset", "memory",  "devices",
                                        "freezer",    "blkio",   "pids",   "net_cls", "net_prio",
                                        "perf_event", "hugetlb", "rdma",   "misc"};
  for (const std::string_view name : known) {
    if (option == name) return true;
  }
  return option.starts_with("name=");
}
}  // namespace

const CgroupHierarchy* CgroupLayout::find(std::string_view controller) const {
  for (const CgroupHierarchy& hierarchy : hierarchies) {
    for (const std::string& name : hierarchy.controllers) {
      if (name == controller) return &hierarchy;
    }
  }
  return nullptr;
}

const CgroupHierarchy* CgroupLayout::unified() const {
  for (const CgroupHierarchy& hierarchy : hierarchies) {
    if (hierarchy.unified) return &hierarchy;
  }
  return nullptr;
}

std::string CgroupLayout::describe() const {
  std::string text;
  for (const std::string_view controller :
       {"cpu", "cpuacct", "memory", "pids", "devices", "freezer", "cpuset", "io", "blkio"}) {
    const CgroupHierarchy* at = find(controller);
    if (at == nullptr) continue;
    text +=
        (text.empty() ? "" : ", ") + std::string(controller) + (at->unified ? ": v2 " : ": v1 ") + at->mount;
  }
  return text.empty() ? "no controllers" : text;
}

CgroupLayout parse_cgroup_layout(std::string_view mountinfo,
                                 const std::map<std::string, std::string>& controllers_of) {
  CgroupLayout layout;
  for (const std::string& line : split(mountinfo, '\n')) {
    const std::vector<std::string> fields = split(line, ' ');
    std::size_t dash = 6;
    while (dash < fields.size() && fields[dash] != "-") ++dash;
    if (dash + 3 >= fields.size()) continue;
    const std::string& type = fields[dash + 1];
    if (type != "cgroup" && type != "cgroup2") continue;
    CgroupHierarchy hierarchy;
    hierarchy.root = unescape(fields[3]);
    hierarchy.mount = unescape(fields[4]);
    hierarchy.unified = type == "cgroup2";
    hierarchy.writable = ("," + fields[5] + ",").find(",rw,") != std::string::npos;
    if (hierarchy.unified) {
      const auto found = controllers_of.find(hierarchy.mount);
      if (found != controllers_of.end()) {
        for (const std::string& name : split(found->second, ' ')) {
          const std::size_t end = name.find('\n');
          if (end != 0) hierarchy.controllers.push_back(name.substr(0, end));
        }
      }
    } else {
      for (const std::string& option : split(fields[dash + 3], ',')) {
        if (is_v1_controller(option)) hierarchy.controllers.push_back(option);
      }
    }
    // Mounted twice (a bind of a container): the first one counts.
    bool repeated = false;
    for (const CgroupHierarchy& other : layout.hierarchies) {
      repeated |= other.unified == hierarchy.unified && other.controllers == hierarchy.controllers;
    }
    if (!repeated) layout.hierarchies.push_back(std::move(hierarchy));
  }
  return layout;
}

Result<CgroupLayout> detect_cgroups() {
  ORC_ASSIGN(const std::string mountinfo, read_file("/proc/self/mountinfo", kMountinfoBytesMax));
  std::map<std::string, std::string> controllers;
  for (const CgroupHierarchy& hierarchy : parse_cgroup_layout(mountinfo, {}).hierarchies) {
    if (!hierarchy.unified) continue;
    auto text = read_file(hierarchy.mount + "/cgroup.controllers", 4096);
    if (text) controllers[hierarchy.mount] = *text;
  }
  return parse_cgroup_layout(mountinfo, controllers);
}

std::uint64_t cpu_weight(std::uint64_t shares) {
  if (shares == 0) return 0;
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  const double l = std::log2(static_cast<double>(shares));
  const double exponent = (l * l + 125 * l) / 612.0 - 7.0 / 34.0;
  return static_cast<std::uint64_t>(std::ceil(std::pow(10, exponent)));
}

std::vector<CgroupWrite> plan_limits(const CgroupLayout& layout, const ContainerSpec::Resources& resources,
                                     std::vector<std::string>& missing) {
  std::vector<CgroupWrite> writes;
  const auto where = [&](const char* controller, const char* what) -> const CgroupHierarchy* {
    const CgroupHierarchy* found = layout.find(controller);
    if (found == nullptr || !found->writable) {
      missing.push_back(std::string(what) + ": the cgroup controller \"" + controller + "\" is " +
                        (found == nullptr ? "absent" : "mounted read-only"));
      return nullptr;
    }
    return found;
  };
  const auto number = [](auto value) { return std::to_string(value); };
  if (resources.cpu_shares) {
    if (const auto* at = where("cpu", "cpu shares")) {
      writes.push_back(at->unified
                           ? CgroupWrite{"cpu", "cpu.weight", number(cpu_weight(*resources.cpu_shares))}
                           : CgroupWrite{"cpu", "cpu.shares", number(*resources.cpu_shares)});
    }
  }
  if (resources.cpu_quota || resources.cpu_period) {
    const std::int64_t quota = resources.cpu_quota.value_or(-1);
    const std::uint64_t period = resources.cpu_period.value_or(100000);
    if (const auto* at = where("cpu", "cpu quota")) {
      if (at->unified) {
        writes.push_back(
            {"cpu", "cpu.max", (quota > 0 ? number(quota) : std::string("max")) + " " + number(period)});
      } else {
        writes.push_back({"cpu", "cpu.cfs_period_us", number(period)});
        writes.push_back({"cpu", "cpu.cfs_quota_us", number(quota)});
      }
    }
  }
  if (!resources.cpuset_cpus.empty() || !resources.cpuset_mems.empty()) {
    if (where("cpuset", "cpuset") != nullptr) {
      if (!resources.cpuset_cpus.empty()) writes.push_back({"cpuset", "cpuset.cpus", resources.cpuset_cpus});
      if (!resources.cpuset_mems.empty()) writes.push_back({"cpuset", "cpuset.mems", resources.cpuset_mems});
    }
  }
  if (resources.memory_limit || resources.memory_reservation || resources.memory_swap) {
    if (const auto* at = where("memory", "memory limit")) {
      const std::int64_t limit = resources.memory_limit.value_or(0);
      if (at->unified) {
        if (limit != 0) writes.push_back({"memory", "memory.max", limit < 0 ? "max" : number(limit)});
        if (resources.memory_reservation)
          writes.push_back({"memory", "memory.low", number(*resources.memory_reservation)});
        if (resources.memory_swap) {
          const std::int64_t swap = *resources.memory_swap;
          writes.push_back({"memory", "memory.swap.max",
                            swap < 0 ? "max" : number(swap - std::max<std::int64_t>(limit, 0)), false});
        }
      } else {
        if (limit != 0) writes.push_back({"memory", "memory.limit_in_bytes", number(limit)});
        if (resources.memory_reservation)
          writes.push_back({"memory", "memory.soft_limit_in_bytes", number(*resources.memory_reservation)});
        if (resources.memory_swap)
          writes.push_back({"memory", "memory.memsw.limit_in_bytes", number(*resources.memory_swap), false});
      }
    }
  }
  if (resources.pids_limit) {
    if (where("pids", "pids limit") != nullptr) {
      writes.push_back(
          {"pids", "pids.max", *resources.pids_limit <= 0 ? "max" : number(*resources.pids_limit)});
    }
  }
  const CgroupHierarchy* devices = layout.find("devices");
  if (devices != nullptr && !devices->unified && devices->writable) {
    for (const auto& rule : resources.devices) {
      const auto part = [](const std::optional<std::int64_t>& n) {
        return n && *n >= 0 ? std::to_string(*n) : std::string("*");
      };
      const std::string text = rule.type == 'a' ? "a"
                                                : std::string(1, rule.type) + " " + part(rule.major) + ":" +
                                                      part(rule.minor) + " " + rule.access;
      writes.push_back({"devices", rule.allow ? "devices.allow" : "devices.deny", text});
    }
  }
  const bool restricts = std::any_of(resources.devices.begin(), resources.devices.end(),
                                     [](const auto& rule) { return !rule.allow; });
  const bool has_v1 = devices != nullptr && !devices->unified && devices->writable;
  if (restricts && !has_v1 && layout.unified() == nullptr)
    missing.push_back(
        "device rules: no cgroup v1 devices hierarchy and no cgroup v2; /dev holds the default nodes only");
  for (const auto& [file, value] : resources.unified) {
    const CgroupHierarchy* at = layout.find(file.substr(0, file.find('.')));
    if (at == nullptr || !at->unified || file.find('/') != std::string::npos) {
      missing.push_back("unified \"" + file + "\": no cgroup v2 controller of that name");
    } else {
      writes.push_back({file.substr(0, file.find('.')), file, value});
    }
  }
  return writes;
}

}  // namespace orchestra::runtime
