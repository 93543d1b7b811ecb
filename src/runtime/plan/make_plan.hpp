#pragma once
// ContainerSpec + what the machine gives -> the flat plan that orch-init obeys. Pure.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/pod_runtime.hpp"
#include "orchestra/container_spec.hpp"
#include "runtime/plan/id_maps.hpp"
#include "runtime/wire/plan_format.hpp"

namespace orchestra::runtime {

/// A hierarchy for mounts of type "cgroup": its name below the mount, and the container's own group in it.
struct CgroupMount {
  std::string name, folder;
  bool unified = false;
};

/// What is not in the specification: where things are on this machine.
struct PlanContext {
  Isolation isolation = Isolation::full;
  MountPlan root;                         ///< used when spec.root_path is empty
  std::string root_target;                ///< where an overlay is mounted
  std::vector<std::string> cgroup_files;  ///< v1 `tasks` files, in join order
  std::string cgroup_unified;             ///< v2 group to be born in
  std::vector<CgroupMount> cgroup_mounts;
  std::map<std::string, std::string> sub_paths;  ///< of binds, by destination: what is mounted of the source
  std::string seccomp_filter;                    ///< struct sock_filter[]
  std::string bundle;                            ///< for relative bind sources
  std::string start_fifo;                        ///< `orchestra oci`: start comes through it
  std::string state_json;                        ///< stdin of hooks
  std::string state_members;               ///< state JSON without its pid: of a seccomp listener's message
  bool apparmor = false, selinux = false;  ///< what this machine has on
  bool exec = false;                       ///< a further process of a running container
  bool make_cwd = true;
  bool no_pivot = false, no_new_keyring = false;
  bool runtime_hooks = false;      ///< init pauses for hooks that the caller runs
  bool moves_net_devices = false;  ///< the caller does, while init pauses
  int preserved_fds = 0;           ///< descriptors 3.. that the program keeps
  bool check_program = false;      ///< a missing program fails before the start
  /// The container has a user namespace of its own and may not go where its root lies, nor mount for the
  /// pod's namespaces: its parent does both, and gives the root's files the owners that they have inside.
  bool root_by_parent = false;
  const IdMaps* ids = nullptr;        ///< rootless: the ids that there are
  std::uint64_t join_namespaces = 0;  ///< exec: CLONE_NEW* to enter through the container's pidfd
};

/// The block, sound by construction (asserted). Errors name the field and its value.
Result<std::string> make_plan(const ContainerSpec& spec, const PlanContext& context);
/// A sound plan as readable lines, one fact a line: for tests that compare whole plans.
std::string print_plan(std::string_view block);

/// Mount options of config.json as flags; what is no flag goes to `data` (for the file system).
struct MountOptions {
  std::uint64_t set = 0, clear = 0;          ///< MOUNT_ATTR_*
  std::uint64_t propagation = 0;             ///< MS_*
  std::uint64_t all_set = 0, all_clear = 0;  ///< the same of everything below
  bool bind = false, recursive = false;
  bool id_mapped = false, id_mapped_recursive = false, copy_up = false;
  std::vector<std::string> data;
  std::vector<std::string> superblock;  ///< sync ..: of a file system; a bind has none of its own
};
MountOptions parse_mount_options(const std::vector<std::string>& options);
/// "0-3,8" as a mask of 64-bit words; nothing if it is no list, or names a number above 8191.
std::optional<std::vector<std::uint64_t>> parse_number_list(std::string_view text);
/// RLIMIT_* -> number, or -1.
int rlimit_number(std::string_view name);
/// "slave", "rprivate" .. -> MS_* flags.
std::uint64_t propagation_flags(std::string_view name);

}  // namespace orchestra::runtime
