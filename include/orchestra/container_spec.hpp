#pragma once
// ContainerSpec: what a container is to be, as values. The OCI runtime specification's config.json, in
// and out, or built field by field.
//
// Names follow config.json in snake_case. What this machine or level cannot do is refused by name when the
// container is made, never ignored. Since 0.1.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "orchestra/result.hpp"

namespace orchestra {

struct ORC_API ContainerSpec {
  struct User {
    std::uint32_t uid = 0, gid = 0;
    std::optional<std::uint32_t> umask;
    std::vector<std::uint32_t> additional_gids;
  };
  /// Names with or without "CAP_", any case.
  struct Capabilities {
    std::vector<std::string> bounding, effective, permitted, inheritable, ambient;
  };
  struct ResourceLimit {
    std::string type;  ///< RLIMIT_NOFILE ..
    std::uint64_t soft = 0, hard = 0;
  };
  /// sched_setattr(2).
  struct Scheduler {
    std::string policy;  ///< SCHED_OTHER ..
    int nice = 0, priority = 0;
    std::vector<std::string> flags;                       ///< SCHED_FLAG_RESET_ON_FORK ..
    std::uint64_t runtime = 0, deadline = 0, period = 0;  ///< nanoseconds, SCHED_DEADLINE
  };
  struct IoPriority {
    std::string io_class;  ///< IOPRIO_CLASS_RT, _BE, _IDLE
    int priority = 0;
  };
  struct Process {
    bool terminal = false;
    std::uint16_t console_columns = 0, console_rows = 0;
    User user;
    std::vector<std::string> args, env;
    std::string cwd = "/";
    std::optional<Capabilities> capabilities;  ///< absent: none
    std::vector<ResourceLimit> rlimits;
    bool no_new_privileges = false;
    std::optional<int> oom_score_adj;
    std::string apparmor_profile, selinux_label;
    std::optional<Scheduler> scheduler;
    std::optional<IoPriority> io_priority;
    std::string exec_affinity_initial, exec_affinity_final;  ///< lists of cpus, of exec only
  };
  /// `size` ids from `container` on are the ids from `host` on.
  struct IdMapping {
    std::uint32_t container = 0, host = 0, size = 0;
  };
  struct Mount {
    std::string destination, type, source;
    std::vector<std::string> options;
    std::vector<IdMapping> uid_mappings, gid_mappings;  ///< of an id-mapped mount
  };
  struct Namespace {
    std::string type;  ///< pid network mount ipc uts user cgroup time
    std::string path;  ///< empty = a new one
  };
  struct TimeOffset {
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = 0;
  };
  struct Device {
    std::string path;
    char type = 'c';  ///< c b u p
    std::int64_t major = 0, minor = 0;
    std::optional<std::uint32_t> file_mode, uid, gid;
  };
  struct DeviceRule {
    bool allow = false;
    char type = 'a';
    std::optional<std::int64_t> major, minor;
    std::string access = "rwm";
    bool operator==(const DeviceRule&) const = default;
  };
  struct BlockWeight {
    std::int64_t major = 0, minor = 0;
    std::optional<std::uint16_t> weight, leaf_weight;
  };
  struct BlockRate {
    std::int64_t major = 0, minor = 0;
    std::uint64_t rate = 0;
  };
  struct BlockIo {
    std::optional<std::uint16_t> weight, leaf_weight;
    std::vector<BlockWeight> weight_device;
    std::vector<BlockRate> read_bps, write_bps, read_iops, write_iops;
  };
  struct HugepageLimit {
    std::string page_size;  ///< "2MB"
    std::uint64_t limit = 0;
  };
  struct RdmaLimit {
    std::optional<std::uint32_t> handles, objects;
  };
  struct Resources {
    std::vector<DeviceRule> devices;
    std::optional<std::uint64_t> cpu_shares, cpu_period, cpu_burst, realtime_period;
    std::optional<std::int64_t> cpu_quota, cpu_idle, realtime_runtime;
    std::string cpuset_cpus, cpuset_mems;
    std::optional<std::int64_t> memory_limit, memory_reservation, memory_swap;
    std::optional<std::uint64_t> memory_swappiness;
    std::optional<std::int64_t> memory_kernel_tcp;  ///< v1 only: bytes of TCP buffers
    std::optional<bool> disable_oom_killer, check_before_update;
    std::optional<std::int64_t> pids_limit;
    std::optional<BlockIo> block_io;
    std::vector<HugepageLimit> hugepage_limits;
    std::map<std::string, RdmaLimit> rdma;
    std::optional<std::uint32_t> network_class;
    std::map<std::string, std::uint32_t> network_priorities;
    std::map<std::string, std::string> unified;
  };
  struct SeccompArgument {
    std::uint32_t index = 0;
    std::uint64_t value = 0, value_two = 0;
    std::string op;  ///< SCMP_CMP_EQ ..
  };
  struct SeccompRule {
    std::vector<std::string> names;
    std::string action;  ///< SCMP_ACT_ALLOW ..
    std::optional<std::uint32_t> errno_ret;
    std::vector<SeccompArgument> args;
  };
  struct Seccomp {
    std::string default_action;
    std::optional<std::uint32_t> default_errno_ret;
    std::vector<std::string> architectures, flags;
    std::vector<SeccompRule> syscalls;
    std::string listener_path, listener_metadata;  ///< for SCMP_ACT_NOTIFY
  };
  /// set_mempolicy(2).
  struct MemoryPolicy {
    std::string mode, nodes;         ///< MPOL_BIND .., "0-1"
    std::vector<std::string> flags;  ///< MPOL_F_STATIC_NODES ..
  };
  struct IntelRdt {
    std::string clos_id, l3_cache_schema, mem_bw_schema;
    std::vector<std::string> schemata;
    bool enable_monitoring = false;
  };
  struct Hook {
    std::string path;
    std::vector<std::string> args, env;
    std::optional<int> timeout;  ///< seconds
  };
  struct Hooks {
    std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart, poststop;
  };

  std::string oci_version = "1.0.2";
  std::optional<Process> process;
  std::string root_path;  ///< absolute, or relative to the bundle
  bool root_readonly = false;
  std::string hostname, domainname;
  std::vector<Mount> mounts;
  std::map<std::string, std::string> annotations;
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::map<std::string, TimeOffset> time_offsets;  ///< "monotonic", "boottime"
  std::map<std::string, std::string> net_devices;  ///< of the host -> name in the container
  std::string mount_label;                         ///< SELinux context of new file systems
  std::optional<std::string> personality;          ///< LINUX, LINUX32
  std::optional<MemoryPolicy> memory_policy;
  std::optional<IntelRdt> intel_rdt;
  std::vector<Device> devices;
  std::string cgroups_path;
  Resources resources;
  std::map<std::string, std::string> sysctl;
  std::vector<std::string> masked_paths, readonly_paths;
  std::string rootfs_propagation;
  std::optional<Seccomp> seccomp;
  Hooks hooks;

  /// Parses config.json. Errors name the JSON path and the value. At most 4 MiB.
  static Result<ContainerSpec> from_json(std::string_view text);
  /// `directory`/config.json; a relative root becomes absolute.
  static Result<ContainerSpec> from_bundle(const std::string& directory);
  std::string to_json() const;
  /// What `orchestra oci spec` writes: a shell in all namespaces, with containerd's default protections.
  static ContainerSpec example();
};

}  // namespace orchestra
