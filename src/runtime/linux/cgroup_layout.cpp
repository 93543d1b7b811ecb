// Which controller lives where: from /proc/self/mountinfo and cgroup.controllers. Pure but for detect.
#include <algorithm>
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

}  // namespace orchestra::runtime
