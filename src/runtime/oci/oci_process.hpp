#pragma once
// Making one process for `orchestra oci`: create's init, or an exec.
#include <functional>
#include <string>

#include "base/fd.hpp"
#include "orchestra/container_spec.hpp"
#include "runtime/linux/spawn.hpp"

namespace orchestra::runtime {

struct OciProcessRequest {
  std::string plan;
  bool terminal = false;
  bool wait = false;  ///< its parent stays and ends with its code
  int input = 0, output = 1, error = 2;
  int container_pidfd = -1;    ///< exec
  int preserved_fds = 0;       ///< this program's 3.. that the container gets
  std::string console_socket;  ///< where the terminal's master goes
  std::string pidfd_socket;    ///< where a pidfd of the process goes
  std::function<Result<void>(int pid)> runtime_hooks;
};
struct OciProcess {
  int pid = 0;
  Spawned parent;  ///< of role oci-wait, to be waited for
  Fd terminal;     ///< the master, when no console socket was given
};
/// Returns once init is ready (create) or the program runs (exec).
Result<OciProcess> make_oci_process(const OciProcessRequest& request);
/// The exit status of a process made by `spawn_embedded` with `orphan` = false.
int wait_for_child(const Spawned& child);
/// Runs hooks in this process's namespaces, state JSON on stdin. Errors name the hook.
Result<void> run_runtime_hooks(const std::vector<ContainerSpec::Hook>& hooks, const std::string& state,
                               const char* kind);

}  // namespace orchestra::runtime
