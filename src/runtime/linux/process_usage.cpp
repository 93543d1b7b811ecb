// Usage of a process and its descendants from /proc: what level `process` has instead of cgroups.
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <sstream>

#include "runtime/linux/cgroups.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kProcessesMax = 10000;

void add_process(int pid, ContainerUsage& usage) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  if (!stat) return;
  const std::size_t end = stat->rfind(')');
  if (end == std::string::npos) return;
  std::istringstream fields(stat->substr(end + 2));
  std::string word;
  std::uint64_t user = 0, system = 0, pages = 0;
  for (int field = 3; fields >> word && field <= 24; ++field) {
    if (field == 14) user = std::stoull(word);
    if (field == 15) system = std::stoull(word);
    if (field == 24) pages = std::stoull(word);
  }
  const auto tick_ns = static_cast<std::uint64_t>(1'000'000'000 / sysconf(_SC_CLK_TCK));
  usage.cpu_ns += (user + system) * tick_ns;
  usage.memory_bytes += pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  ++usage.pids;
}
}  // namespace

std::vector<int> children_of(int pid) {
  std::vector<int> children;
  std::error_code failed;
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks, failed)) {
    const auto text = read_file(task.path().string() + "/children", 1 << 20);
    if (!text) continue;
    std::istringstream words(*text);
    for (int child; words >> child;) children.push_back(child);
  }
  return children;
}

Result<ContainerUsage> process_tree_usage(int pid) {
  ContainerUsage usage;
  std::vector<int> all{pid};
  for (std::size_t i = 0; i < all.size() && all.size() < kProcessesMax; ++i) {
    add_process(all[i], usage);
    for (const int child : children_of(all[i])) all.push_back(child);
  }
  if (usage.pids == 0)
    return Error(Error::not_found, "runtime", "process " + std::to_string(pid) + " has ended");
  usage.memory_working_set_bytes = usage.memory_bytes;
  return usage;
}

}  // namespace orchestra::runtime
