#pragma once
// PodRuntime: what the node agent needs of a container runtime. Implemented by src/runtime for real
// pods, by the simulator as a model. Values only; every call may be made from any thread, repeated
// calls with the same ids converge (idempotent), and nothing is lost when the host is killed: list()
// after a restart tells what runs and how what ended ended.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/pod_streams.hpp"
#include "base/fd.hpp"
#include "orchestra/image.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

struct PodMount {
  std::string source;  ///< absolute host path; for tmpfs empty
  std::string target;  ///< absolute path in the container
  bool read_only = false;
  bool tmpfs = false;
  std::uint64_t tmpfs_bytes_max = 0;
  std::string propagation;           ///< "", "rslave", "rshared"
  bool recursive_read_only = false;  ///< with read_only: what is mounted below it, too. Since 0.2.
  /// What is mounted is this path below `source`, looked up inside it at that very moment: links and swaps of
  /// whoever writes there lead nowhere else. Empty: `source` itself. Since 0.2.
  std::string sub_path = {};
  /// Level process has no mounts: then copies of `source` are placed under the root (files, refreshed by
  /// the agent), directories become a symlink when `may_link` says both see one root.
};

struct ResourceLimits {
  std::int64_t cpu_shares = 0;    ///< 0 = default
  std::int64_t cpu_quota_us = 0;  ///< per cpu_period_us; 0 = none
  std::int64_t cpu_period_us = 100000;
  std::int64_t memory_bytes = 0;  ///< 0 = none
  std::int64_t pids = 0;          ///< 0 = none
  int oom_score_adj = 0;
};

/// Annotation of a pod: what its logs may grow by, in bytes a second (spec/observability.md A.1).
inline constexpr const char* kLogLimitAnnotation = "orchestra.dev/log-bytes-per-second";

/// Ids of a pod with a user namespace (PodSandboxConfig::first_user_id).
inline constexpr std::uint32_t kPodUserIds = 65536;

struct PodSandboxConfig {
  std::string uid, ns, name;
  std::string hostname;
  std::string log_directory;
  std::string cgroup_parent;  ///< relative to the runtime's: "kubepods/burstable"
  ResourceLimits limits;      ///< of the whole pod
  bool host_network = false, host_pid = false, host_ipc = false, share_process_namespace = false;
  /// Its containers live in user namespaces of their own: ids 0..65535 inside are these and the next of the
  /// machine, and files keep their owners by id-mapped mounts. 0: the machine's ids. Level full only, and not
  /// with host_* or share_process_namespace. Since 0.2.
  std::uint32_t first_user_id = 0;
  std::map<std::string, std::string> sysctls;
  std::map<std::string, std::string> annotations;
};
struct PodSandbox {
  std::string uid;
  Isolation isolation = Isolation::full;
  /// The network namespace, for PodAttacher; empty with host_network and at level process.
  std::shared_ptr<Fd> network_namespace;
  std::vector<std::string> degraded;  ///< what could not be enforced, with the reason
  /// The machine was started anew since: only the records of its ended containers are left. create_pod makes
  /// it again and forgets them. Since 0.2.
  bool ended = false;
};

struct ContainerConfig {
  std::string id;  ///< unique on this node; the agent makes it from pod uid, name and attempt
  std::string name;
  std::uint32_t attempt = 0;
  std::string image, image_id;  ///< for records only
  MountPlan root;
  std::vector<std::string> args;
  std::vector<std::string> env;  ///< "NAME=value"
  std::string cwd = "/";
  std::uint32_t uid = 0, gid = 0;
  std::vector<std::uint32_t> supplemental_groups;
  std::vector<PodMount> mounts;
  ResourceLimits limits;
  bool privileged = false, read_only_root = false, no_new_privileges = false;
  bool unmasked_proc = false;  ///< no masked and no read-only paths (procMount: Unmasked). Since 0.2.
  std::vector<std::string> add_capabilities, drop_capabilities;  ///< "NET_ADMIN", "ALL"
  std::string seccomp = "default";                               ///< default, unconfined
  bool tty = false, in = false, in_once = false;
  /// Id of a running container of the pod whose process namespace this one joins (`kubectl debug --target`);
  /// empty: its own, or the pod's. Refused at level process. Since 0.2.
  std::string process_namespace_of;
  std::string log_path;  ///< absolute path of the CRI log file
  std::int64_t log_file_bytes_max = 10 << 20;
  std::map<std::string, std::string> annotations;
};

enum class ContainerState : std::uint8_t { created, running, exited, unknown };
struct ContainerStatus {
  std::string id, pod_uid, name;
  std::uint32_t attempt = 0;
  ContainerState state = ContainerState::created;
  std::int64_t pid = 0;
  std::int64_t created_ns = 0, started_ns = 0, finished_ns = 0;  ///< wall clock
  std::optional<int> exit_code;  ///< 128+n for signal n; absent: not known (never invented)
  int signal = 0;
  bool oom_killed = false;
  std::string reason;  ///< why unknown, or why the start failed
  std::string image, image_id, log_path;
  std::map<std::string, std::string> annotations;
};
struct PodRecord {
  PodSandboxConfig config;
  PodSandbox sandbox;
  std::vector<ContainerStatus> containers;
};
struct ContainerUsage {
  std::int64_t wall_ns = 0;
  std::uint64_t cpu_ns = 0, memory_bytes = 0, memory_working_set_bytes = 0, pids = 0;
};

struct ExecResult {
  int exit_code = 0;
  std::string output;  ///< stdout and stderr, cut at the bound
  bool truncated = false;
};

class ORC_API PodRuntime {
 public:
  virtual ~PodRuntime() = default;
  virtual Isolation isolation() const = 0;
  /// What pods may ask for and this machine cannot enforce, one line each, beyond what the level itself
  /// leaves out. Since 0.2.
  virtual std::vector<std::string> not_enforced() const { return {}; }
  virtual Pending<PodSandbox> create_pod(PodSandboxConfig config) = 0;
  virtual Pending<ContainerStatus> create_container(std::string pod_uid, ContainerConfig config) = 0;
  virtual Pending<void> start_container(std::string pod_uid, std::string id) = 0;
  virtual Pending<void> signal_container(std::string pod_uid, std::string id, int signal) = 0;
  /// Kills what is left of it and forgets it.
  virtual Pending<void> remove_container(std::string pod_uid, std::string id) = 0;
  /// Kills all containers, ends the shim, removes cgroups and records. Twice is fine.
  virtual Pending<void> remove_pod(std::string pod_uid) = 0;
  virtual Pending<std::vector<PodRecord>> list() = 0;
  virtual Pending<ContainerStatus> status(std::string pod_uid, std::string id) = 0;
  /// Completes when the container has ended (at once if it has).
  virtual Pending<ContainerStatus> exited(std::string pod_uid, std::string id) = 0;
  /// Runs a command to its end; killed with `deadline_exceeded` at `deadline`.
  virtual Pending<ExecResult> exec(std::string pod_uid, std::string id, std::vector<std::string> args,
                                   Duration deadline, std::size_t output_bytes_max) = 0;
  virtual Pending<std::shared_ptr<ProcessStream>> exec_stream(std::string pod_uid, std::string id,
                                                              ExecOptions options) = 0;
  /// options.command is empty: attaches to the main process.
  virtual Pending<std::shared_ptr<ProcessStream>> attach(std::string pod_uid, std::string id,
                                                         ExecOptions options) = 0;
  virtual Pending<ContainerUsage> usage(std::string pod_uid, std::string id) = 0;
  /// Before a tree that containers wrote into is removed: at level rootless its folders may belong to ids
  /// that are not ours. Elsewhere nothing has to be done.
  virtual Pending<void> make_removable(std::string path) {
    (void)path;
    return Result<void>();
  }
  /// New cpu and memory limits while the container runs; a quota of 0 takes the quota away, a memory limit of
  /// 0 leaves the one that is. `id` empty: those of the whole pod. `unsupported` names what this machine or
  /// level cannot limit; `conflict`: the container does not run, or uses more memory than that. Since 0.2.
  virtual Pending<void> update_limits(std::string pod_uid, std::string id, ResourceLimits limits) {
    (void)id;
    (void)limits;
    return Error(Error::unsupported, "runtime", "pod " + pod_uid + ": limits cannot change while it runs");
  }
};

}  // namespace orchestra
