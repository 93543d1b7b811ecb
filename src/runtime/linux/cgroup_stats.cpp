// What the controllers of one group count, from their files on v1 or v2.
#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/fd.hpp"
#include "runtime/linux/cgroups.hpp"

namespace orchestra::runtime {
namespace {

constexpr std::size_t kFileBytesMax = 1 << 20;
constexpr std::uint64_t kUnlimited = 1ull << 62;  ///< v1 writes "no limit" as a number near 2^63

std::string text_of(const std::string& path) {
  auto text = read_file(path, kFileBytesMax);
  return text ? std::move(*text) : std::string();
}
std::uint64_t value_of(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}
std::uint64_t number_of(const std::string& path) { return value_of(text_of(path)); }
/// A limit: 0 for "max" and v1's largest number.
std::uint64_t limit_of(const std::string& path) {
  const std::uint64_t value = number_of(path);
  return value >= kUnlimited ? 0 : value;
}
/// "name value" lines.
std::map<std::string, std::uint64_t> pairs_of(const std::string& path) {
  std::map<std::string, std::uint64_t> all;
  std::istringstream lines(text_of(path));
  std::string name, value;
  while (lines >> name >> value) all[name] = value_of(value);
  return all;
}
std::uint64_t at(const std::map<std::string, std::uint64_t>& all, const char* name) {
  const auto found = all.find(name);
  return found == all.end() ? 0 : found->second;
}

/// "8:0 Read 4096" of v1.
void read_io_v1(const std::string& path, std::vector<CgroupStats::Io>& out) {
  std::istringstream lines(text_of(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    CgroupStats::Io io;
    char colon = 0;
    if (words >> io.major >> colon >> io.minor >> io.operation >> io.value && colon == ':') out.push_back(io);
  }
}
/// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..." of v2.
void read_io_v2(const std::string& path, CgroupStats& stats) {
  std::istringstream lines(text_of(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::uint64_t major = 0, minor = 0;
    char colon = 0;
    if (!(words >> major >> colon >> minor)) continue;
    for (std::string word; words >> word;) {
      const std::size_t equal = word.find('=');
      if (equal == std::string::npos) continue;
      const std::string key = word.substr(0, equal);
      const std::uint64_t value = value_of(std::string_view(word).substr(equal + 1));
      if (key == "rbytes") stats.io_bytes.push_back({major, minor, "Read", value});
      if (key == "wbytes") stats.io_bytes.push_back({major, minor, "Write", value});
      if (key == "rios") stats.io_operations.push_back({major, minor, "Read", value});
      if (key == "wios") stats.io_operations.push_back({major, minor, "Write", value});
    }
  }
}

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full ..".
void read_pressure(const std::string& path, const std::string& name, CgroupStats& stats) {
  const std::string text = text_of(path);
  if (text.empty()) return;
  CgroupStats::Pressure pressure;
  std::istringstream lines(text);
  std::string kind;
  for (std::string line; std::getline(lines, line);) {
    double a10 = 0, a60 = 0, a300 = 0;
    unsigned long long total = 0;
    char word[8] = {};
    if (std::sscanf(line.c_str(), "%7s avg10=%lf avg60=%lf avg300=%lf total=%llu", word, &a10, &a60, &a300,
                    &total) != 5)
      continue;
    const bool some = std::string_view(word) == "some";
    (some ? pressure.some_avg10 : pressure.full_avg10) = a10;
    (some ? pressure.some_avg60 : pressure.full_avg60) = a60;
    (some ? pressure.some_avg300 : pressure.full_avg300) = a300;
    (some ? pressure.some_total_us : pressure.full_total_us) = total;
  }
  stats.pressure[name] = pressure;
}

void read_cpu_v1(const std::string& cpu, const std::string& accounting, CgroupStats& stats) {
  if (!accounting.empty()) {
    constexpr std::uint64_t kTickNs = 10'000'000;  // USER_HZ is 100 on every architecture we run on
    stats.cpu_ns = number_of(accounting + "/cpuacct.usage");
    const auto split = pairs_of(accounting + "/cpuacct.stat");
    stats.cpu_user_ns = at(split, "user") * kTickNs;
    stats.cpu_system_ns = at(split, "system") * kTickNs;
    std::istringstream each(text_of(accounting + "/cpuacct.usage_percpu"));
    for (std::uint64_t value = 0; each >> value;) stats.cpu_each_ns.push_back(value);
  }
  if (cpu.empty()) return;
  const auto throttling = pairs_of(cpu + "/cpu.stat");
  stats.periods = at(throttling, "nr_periods");
  stats.throttled_periods = at(throttling, "nr_throttled");
  stats.throttled_ns = at(throttling, "throttled_time");
}

void read_cpu_v2(const std::string& folder, CgroupStats& stats) {
  const auto all = pairs_of(folder + "/cpu.stat");
  stats.cpu_ns = at(all, "usage_usec") * 1000;
  stats.cpu_user_ns = at(all, "user_usec") * 1000;
  stats.cpu_system_ns = at(all, "system_usec") * 1000;
  stats.periods = at(all, "nr_periods");
  stats.throttled_periods = at(all, "nr_throttled");
  stats.throttled_ns = at(all, "throttled_usec") * 1000;
  read_pressure(folder + "/cpu.pressure", "cpu", stats);
}

void read_memory(const std::string& folder, bool unified, CgroupStats& stats) {
  stats.memory_raw = pairs_of(folder + "/memory.stat");
  if (unified) {
    stats.memory_bytes = number_of(folder + "/memory.current");
    stats.memory_max_bytes = number_of(folder + "/memory.peak");
    stats.memory_limit_bytes = limit_of(folder + "/memory.max");
    stats.swap_bytes = number_of(folder + "/memory.swap.current");
    stats.swap_limit_bytes = limit_of(folder + "/memory.swap.max");
    const auto events = pairs_of(folder + "/memory.events");
    stats.memory_failures = at(events, "max");
    stats.oom_kills = at(events, "oom_kill");
    read_pressure(folder + "/memory.pressure", "memory", stats);
  } else {
    stats.memory_bytes = number_of(folder + "/memory.usage_in_bytes");
    stats.memory_max_bytes = number_of(folder + "/memory.max_usage_in_bytes");
    stats.memory_limit_bytes = limit_of(folder + "/memory.limit_in_bytes");
    stats.memory_failures = number_of(folder + "/memory.failcnt");
    stats.swap_limit_bytes = limit_of(folder + "/memory.memsw.limit_in_bytes");
    stats.swap_bytes = at(stats.memory_raw, "total_swap");
    stats.oom_kills = at(pairs_of(folder + "/memory.oom_control"), "oom_kill");
  }
  const std::uint64_t inactive = at(stats.memory_raw, unified ? "inactive_file" : "total_inactive_file");
  stats.memory_working_set_bytes = stats.memory_bytes > inactive ? stats.memory_bytes - inactive : 0;
}
}  // namespace

Result<CgroupStats> Cgroups::stats(const std::string& group) const {
  CgroupStats stats;
  const CgroupHierarchy* cpu = layout_.find("cpu");
  const CgroupHierarchy* accounting = layout_.find("cpuacct");
  if (cpu != nullptr && cpu->unified) {
    read_cpu_v2(folder(*cpu, group), stats);
  } else {
    read_cpu_v1(cpu != nullptr ? folder(*cpu, group) : "",
                accounting != nullptr ? folder(*accounting, group) : "", stats);
  }
  if (const auto* memory = layout_.find("memory"))
    read_memory(folder(*memory, group), memory->unified, stats);
  if (const auto* pids = layout_.find("pids")) {
    stats.pids = number_of(folder(*pids, group) + "/pids.current");
    stats.pids_limit = limit_of(folder(*pids, group) + "/pids.max");
  }
  if (const auto* block = layout_.find("blkio"); block != nullptr && !block->unified) {
    read_io_v1(folder(*block, group) + "/blkio.throttle.io_service_bytes_recursive", stats.io_bytes);
    read_io_v1(folder(*block, group) + "/blkio.throttle.io_serviced_recursive", stats.io_operations);
  } else if (const auto* io = layout_.find("io"); io != nullptr && io->unified) {
    read_io_v2(folder(*io, group) + "/io.stat", stats);
    read_pressure(folder(*io, group) + "/io.pressure", "io", stats);
  }
  if (const auto* huge = layout_.find("hugetlb")) {
    for (const char* size : {"64KB", "2MB", "32MB", "512MB", "1GB", "16GB"}) {
      const std::string file = folder(*huge, group) + "/hugetlb." + size + ".";
      const std::string usage = text_of(file + (huge->unified ? "current" : "usage_in_bytes"));
      if (usage.empty()) continue;
      stats.hugepages[size] = {
          value_of(usage), huge->unified ? 0 : number_of(file + "max_usage_in_bytes"),
          huge->unified ? at(pairs_of(file + "events"), "max") : number_of(file + "failcnt")};
    }
  }
  return stats;
}

}  // namespace orchestra::runtime
