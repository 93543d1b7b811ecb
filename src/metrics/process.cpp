// process_*: what /proc/self says, by the names of Prometheus' client libraries.
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "orchestra/metrics.hpp"

namespace orchestra {
namespace {

// Fields of /proc/self/stat behind the name, which may hold anything: proc(5) counts the state as 3.
std::vector<std::string> stat_fields() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  const auto end = line.rfind(')');
  if (end == std::string::npos) return {};
  std::istringstream words(line.substr(end + 1));
  std::vector<std::string> out(3);
  for (std::string word; words >> word;) out.push_back(word);
  return out;
}

double boot_seconds() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::stod(line.substr(6));
  }
  return 0;
}

int open_descriptors() {
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return -1;
  int count = -3;  // . and .. and the folder itself
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

}  // namespace

void collect_process(MetricSink& sink) {
  const std::vector<std::string> fields = stat_fields();
  const double ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  if (fields.size() > 24) {
    sink.sample(MetricKind::counter, "process_cpu_seconds_total", "User and system CPU time in seconds.", {},
                (std::stod(fields[14]) + std::stod(fields[15])) / ticks);
    sink.sample(MetricKind::gauge, "process_start_time_seconds", "Start of the process since 1970 in seconds.", {},
                boot_seconds() + std::stod(fields[22]) / ticks);
    sink.sample(MetricKind::gauge, "process_virtual_memory_bytes", "Virtual memory in bytes.", {},
                std::stod(fields[23]));
    sink.sample(MetricKind::gauge, "process_resident_memory_bytes", "Resident memory in bytes.", {},
                std::stod(fields[24]) * static_cast<double>(::sysconf(_SC_PAGESIZE)));
  }
  if (const int count = open_descriptors(); count >= 0) {
    sink.sample(MetricKind::gauge, "process_open_fds", "Open file descriptors.", {}, count);
  }
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    sink.sample(MetricKind::gauge, "process_max_fds", "Most file descriptors that may be open.", {},
                static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace orchestra
