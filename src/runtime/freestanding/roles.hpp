#pragma once
// The roles of the static program, and what init and shim share.
#include "../wire/plan_format.hpp"
#include "../wire/protocol.hpp"
#include "sys.hpp"

namespace orch {

int run_shim();
/// `oci`: makes one process and leaves it; `oci-wait`: stays and ends with its exit code.
int run_oci(const char* role);

/// Tells whether a rootless container can be made here.
int run_probe();
/// Makes a tree of a rootless container removable for the user outside.
int run_reclaim();

/// Descriptors of an init at its start; everything else is closed.
struct InitFds {
  int input = -1, output = -1, error = -1;
  int report = -1;           ///< SOCK_SEQPACKET to the parent: ReportMessage out, one byte in = start
  int container_pidfd = -1;  ///< exec: whose namespaces to enter
  bool in_cgroup = false;    ///< born in the plan's v2 group
  int preserved = -1;        ///< first of plan->preserved_fds descriptors
};
/// Runs in the new process: does what the plan says and becomes the program. Never returns.
[[noreturn]] void run_init(const orchestra::wire::Plan* plan, InitFds fds);

/// Why a birth failed.
struct Refusal {
  orchestra::wire::Stage stage = orchestra::wire::Stage::clone;
  Line<512> text;
};
/// The process of a container with the plan's namespaces, ids and descriptors (birth.cpp): 0 in the child,
/// the pid in the parent, or -errno and why.
long clone_container(const orchestra::wire::Plan* plan, uint64_t flags, int* pidfd, bool& in_cgroup,
                     Refusal& why);
/// clone3: 0 in the child, the pid in the parent, or -errno.
long clone_process(uint64_t flags, int exit_signal, int* pidfd, int cgroup = -1);
/// The same, born inside the v2 group at `cgroup` if the kernel lets it; `inside` tells the child.
long clone_into(const char* cgroup, uint64_t flags, int exit_signal, int* pidfd, bool& inside);

}  // namespace orch
