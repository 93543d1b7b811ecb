#pragma once
// What the kernel alone takes for the life of one container: the same calls, nothing around them.
#include <optional>
#include <string>

namespace orchestra::bench {

struct FloorOptions {
  std::string root;      ///< directory with /bin/true, becomes a read-only /
  std::string scratch;   ///< name of the cgroups, unique on the machine
  std::string filter;    ///< struct sock_filter[]; empty: no seccomp
  bool limits = false;   ///< memory, pids, cpu and device cgroups
  bool network = false;  ///< a network namespace
};
/// Namespaces, cgroups, mounts, masks, capabilities, filter, exec, end, removal: its wall time in
/// milliseconds. Nothing if a call failed (the call and errno go to `why`).
std::optional<double> time_floor(const FloorOptions& options, std::string& why);

}  // namespace orchestra::bench
