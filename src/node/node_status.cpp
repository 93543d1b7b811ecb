#include "node/node_status.hpp"

#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "api/meta.hpp"
#include "base/fd.hpp"
#include "base/version.hpp"

namespace orchestra::node {

namespace {
constexpr std::size_t kImagesMax = 50;

std::string first_line(const std::string& path) {
  std::string text = read_file(path, 4096).value_or("");
  return text.substr(0, text.find('\n'));
}

std::int64_t meminfo(const std::string& text, const std::string& field) {
  const std::size_t at = text.find(field + ":");
  return at == std::string::npos ? 0 : std::atoll(text.c_str() + at + field.size() + 1) * 1024;
}

std::string pretty_name() {
  const std::string text = read_file("/etc/os-release", 16 << 10).value_or("");
  const std::size_t at = text.find("PRETTY_NAME=\"");
  if (at == std::string::npos) return "Linux";
  return text.substr(at + 13, text.find('"', at + 13) - at - 13);
}

json::object condition(const json::value& before, const char* type, bool value, const char* reason,
                       const std::string& message, Now now) {
  const std::string time = api::format_time(now.wall_ns);
  const char* status = value ? "True" : "False";
  std::string changed = time;
  if (const json::array* old = array_at(before, "/status/conditions")) {
    for (const json::value& one : *old) {
      if (string_at(one, "/type") == type && string_at(one, "/status") == status)
        changed = string_at(one, "/lastTransitionTime", time);
    }
  }
  return {
      {"type", type},     {"status", status},  {"lastHeartbeatTime", time}, {"lastTransitionTime", changed},
      {"reason", reason}, {"message", message}};
}

bool has_condition(const json::value& before, std::string_view type) {
  const json::array* all = array_at(before, "/status/conditions");
  return all != nullptr && std::any_of(all->begin(), all->end(), [&](const json::value& one) {
           return string_at(one, "/type") == type;
         });
}
}  // namespace

MachineFacts read_machine(const std::string& data_dir) {
  MachineFacts out;
  out.cpu_milli = sysconf(_SC_NPROCESSORS_ONLN) * 1000;
  const std::string memory = read_file("/proc/meminfo", 64 << 10).value_or("");
  out.memory_bytes = meminfo(memory, "MemTotal");
  out.memory_available_bytes = meminfo(memory, "MemAvailable");
  out.memory_free_bytes = meminfo(memory, "MemFree");
  struct statvfs disk {};
  if (statvfs(data_dir.c_str(), &disk) == 0) {
    out.disk_bytes = static_cast<std::int64_t>(disk.f_blocks * disk.f_frsize);
    out.disk_free_bytes = static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize);
    out.inodes = static_cast<std::int64_t>(disk.f_files);
    out.inodes_free = static_cast<std::int64_t>(disk.f_favail);
  }
  out.pids_max = std::atoll(first_line("/proc/sys/kernel/pid_max").c_str());
  // "0.1 0.2 0.3 2/345 6789": running and all tasks.
  const std::string load = first_line("/proc/loadavg");
  if (const std::size_t slash = load.find('/'); slash != std::string::npos)
    out.pids = std::atoll(load.c_str() + slash + 1);
  // "cpu user nice system idle iowait irq softirq steal": ticks since boot.
  std::istringstream ticks(first_line("/proc/stat"));
  std::string word;
  ticks >> word;
  std::uint64_t busy = 0;
  for (int field = 0; field < 8 && ticks >> word; ++field) {
    if (field != 3 && field != 4) busy += std::strtoull(word.c_str(), nullptr, 10);
  }
  const long hertz = sysconf(_SC_CLK_TCK);
  out.busy_ns = busy * (1'000'000'000ULL / static_cast<std::uint64_t>(hertz > 0 ? hertz : 100));
  utsname name{};
  uname(&name);
  out.kernel = name.release;
  out.hostname = name.nodename;
  const std::string machine = name.machine;
  out.architecture = machine == "x86_64" ? "amd64" : machine == "aarch64" ? "arm64" : machine;
  out.os_image = pretty_name();
  out.machine_id = first_line("/etc/machine-id");
  out.boot_id = first_line("/proc/sys/kernel/random/boot_id");
  return out;
}

std::int64_t allocatable_memory(const NodeAgentOptions& options, const MachineFacts& facts) {
  return std::max<std::int64_t>(0, facts.memory_bytes - options.eviction.hard.memory_available_bytes);
}

PressureSignals signals_of(const MachineFacts& facts) {
  return {facts.memory_available_bytes,
          facts.memory_bytes,
          facts.disk_free_bytes,
          facts.disk_bytes,
          facts.inodes_free,
          facts.inodes,
          facts.pids_max - facts.pids,
          facts.pids_max};
}

json::value make_node(const NodeAgentOptions& options, const MachineFacts& facts) {
  json::object labels{
      {"kubernetes.io/hostname", options.node_name},   {"kubernetes.io/os", "linux"},
      {"kubernetes.io/arch", facts.architecture},      {"beta.kubernetes.io/os", "linux"},
      {"beta.kubernetes.io/arch", facts.architecture}, {"orchestra.dev/isolation", options.isolation_name}};
  json::object spec;
  if (!options.pod_cidr.empty()) {
    json::array all;
    for (std::size_t at = 0; at <= options.pod_cidr.size();) {
      const std::size_t end = std::min(options.pod_cidr.find(',', at), options.pod_cidr.size());
      all.emplace_back(options.pod_cidr.substr(at, end - at));
      at = end + 1;
    }
    spec["podCIDR"] = all.front();
    spec["podCIDRs"] = std::move(all);
  }
  return json::object{{"apiVersion", "v1"},
                      {"kind", "Node"},
                      {"metadata", json::object{{"name", options.node_name}, {"labels", std::move(labels)}}},
                      {"spec", std::move(spec)}};
}

json::object node_status(const NodeAgentOptions& options, const MachineFacts& facts,
                         const std::string& address, const std::vector<ImageInfo>& images,
                         const PressureMemory& pressure, const json::value& before, Now now) {
  const auto resources = [&](std::int64_t memory, std::int64_t disk) {
    return json::object{{"cpu", std::to_string(facts.cpu_milli / 1000)},
                        {"memory", std::to_string(memory / 1024) + "Ki"},
                        {"ephemeral-storage", std::to_string(disk / 1024) + "Ki"},
                        {"pods", std::to_string(options.pods_max)},
                        {"hugepages-2Mi", "0"}};
  };
  json::object out;
  out["capacity"] = resources(facts.memory_bytes, facts.disk_bytes);
  out["allocatable"] =
      resources(allocatable_memory(options, facts),
                facts.disk_bytes - facts.disk_bytes / 100 * options.eviction.hard.disk_free_percent);
  // Short now, or a short time ago.
  std::vector<Shortage> now_short = shortages(signals_of(facts), options.eviction.hard);
  for (const Shortage& soft : shortages(signals_of(facts), options.eviction.soft)) now_short.push_back(soft);
  const auto low = [&](const char* type) {
    return pressure.holds(type, now.steady_ns) ||
           std::any_of(now_short.begin(), now_short.end(),
                       [&](const Shortage& each) { return std::string_view(each.condition()) == type; });
  };
  const bool memory_low = low("MemoryPressure");
  const bool disk_low = low("DiskPressure");
  const bool pids_low = low("PIDPressure");
  json::array conditions;
  conditions.push_back(condition(
      before, "MemoryPressure", memory_low,
      memory_low ? "KubeletHasInsufficientMemory" : "KubeletHasSufficientMemory",
      memory_low ? "kubelet has insufficient memory available" : "kubelet has sufficient memory available",
      now));
  conditions.push_back(condition(
      before, "DiskPressure", disk_low, disk_low ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
      disk_low ? "kubelet has disk pressure" : "kubelet has no disk pressure", now));
  conditions.push_back(condition(
      before, "PIDPressure", pids_low, pids_low ? "KubeletHasInsufficientPID" : "KubeletHasSufficientPID",
      pids_low ? "kubelet has insufficient PID available" : "kubelet has sufficient PID available", now));
  std::string degraded;
  for (const std::string& one : options.degraded) degraded += (degraded.empty() ? "" : "; ") + one;
  conditions.push_back(condition(
      before, "orchestra.dev/Degraded", !degraded.empty(), degraded.empty() ? "Complete" : "NotEnforced",
      degraded.empty() ? "everything that pods ask for can be enforced" : degraded, now));
  // As upstream's networks do: a node without one that works gets no more pods; those that run stay. Whoever
  // had it never has no such condition.
  if (!facts.network_trouble.empty() || has_condition(before, "NetworkUnavailable")) {
    const bool bad = !facts.network_trouble.empty();
    conditions.push_back(condition(before, "NetworkUnavailable", bad,
                                   bad ? "PodNetworkBroken" : "PodNetworkReady",
                                   bad ? facts.network_trouble : "the pods' network works", now));
  }
  conditions.push_back(
      condition(before, "Ready", true, "KubeletReady", "kubelet is posting ready status", now));
  out["conditions"] = std::move(conditions);
  out["addresses"] = json::array{json::object{{"type", "InternalIP"}, {"address", address}},
                                 json::object{{"type", "Hostname"}, {"address", options.node_name}}};
  out["daemonEndpoints"] = json::object{{"kubeletEndpoint", json::object{{"Port", 0}}}};
  out["nodeInfo"] = json::object{{"machineID", facts.machine_id},
                                 {"systemUUID", facts.machine_id},
                                 {"bootID", facts.boot_id},
                                 {"kernelVersion", facts.kernel},
                                 {"osImage", facts.os_image},
                                 {"containerRuntimeVersion", std::string("orchestra://") + kVersion},
                                 {"kubeletVersion", std::string("v1.35.0+orchestra.") + kVersion},
                                 {"kubeProxyVersion", ""},
                                 {"operatingSystem", "linux"},
                                 {"architecture", facts.architecture}};
  json::array list;
  for (const ImageInfo& image : images) {
    if (list.size() >= kImagesMax) break;
    json::array names;
    for (const std::string& name : image.names) names.push_back(json::string(name));
    list.push_back(json::object{{"names", std::move(names)}, {"sizeBytes", image.bytes}});
  }
  out["images"] = std::move(list);
  return out;
}

}  // namespace orchestra::node
