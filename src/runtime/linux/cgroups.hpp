#pragma once
// Control groups, per controller: each is on v2, on v1 (which mount) or absent; hybrids work.
//
// `CgroupLayout` is what detection found (pure: from texts). `Cgroups` acts on it below one parent:
// groups are named by a path like "kubepods/podUID/web", made in every hierarchy that we use.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "api/pod_runtime.hpp"
#include "base/fd.hpp"
#include "orchestra/container_spec.hpp"
#include "runtime/plan/make_plan.hpp"

namespace orchestra::runtime {

struct CgroupHierarchy {
  std::string mount;                     ///< "/sys/fs/cgroup/memory"
  std::string root;                      ///< which part of the hierarchy is mounted there ("/")
  std::vector<std::string> controllers;  ///< v1: of the mount; v2: cgroup.controllers
  bool unified = false;
  bool writable = true;
};
struct CgroupLayout {
  std::vector<CgroupHierarchy> hierarchies;
  const CgroupHierarchy* find(std::string_view controller) const;
  const CgroupHierarchy* unified() const;
  std::string describe() const;  ///< "cpu: v1 /sys/fs/cgroup/cpu, ..."
};
/// `controllers_of(mount)` reads cgroup.controllers of a v2 mount.
CgroupLayout parse_cgroup_layout(std::string_view mountinfo,
                                 const std::map<std::string, std::string>& controllers_of);
Result<CgroupLayout> detect_cgroups();

/// One value to write: hierarchies differ, so files are listed with the controller they belong to.
struct CgroupWrite {
  std::string controller, file, value;
  bool required = true;
  std::string other_file = {}, other_value = {};  ///< where `file` does not exist; an empty value: the same
};
/// Pure: limits as the files of v1 or v2 of each controller. What cannot be enforced goes to `missing`.
std::vector<CgroupWrite> plan_limits(const CgroupLayout& layout, const ContainerSpec::Resources& resources,
                                     std::vector<std::string>& missing);
/// cpu.shares -> cpu.weight: 1024 -> 100, 2 -> 1, 262144 -> 10000.
std::uint64_t cpu_weight(std::uint64_t shares);

/// Sums over a process and its descendants, from /proc: for level `process`.
Result<ContainerUsage> process_tree_usage(int pid);
std::vector<int> children_of(int pid);

/// How a process gets into a group without waiting for RCU (10 ms when the machine is calm): on v1 a process
/// of one thread writes "0" into `tasks`, which needs no lock on the whole machine as cgroup.procs does; on
/// v2, where a domain knows no such file, it is born inside (CLONE_INTO_CGROUP).
struct CgroupPlace {
  std::vector<std::string> files;  ///< v1: `tasks`, in join order
  std::string unified;             ///< v2: the folder; empty without v2
};

/// What the controllers count; a number that a machine does not have is absent or 0.
struct CgroupStats {
  std::uint64_t cpu_ns = 0, cpu_user_ns = 0, cpu_system_ns = 0;
  std::vector<std::uint64_t> cpu_each_ns;
  std::uint64_t periods = 0, throttled_periods = 0, throttled_ns = 0;
  std::uint64_t memory_bytes = 0, memory_max_bytes = 0, memory_working_set_bytes = 0, memory_failures = 0;
  std::uint64_t memory_limit_bytes = 0;  ///< 0 = none
  std::uint64_t swap_bytes = 0, swap_limit_bytes = 0;
  std::map<std::string, std::uint64_t> memory_raw;  ///< memory.stat
  std::uint64_t oom_kills = 0;
  std::uint64_t pids = 0, pids_limit = 0;
  struct Io {
    std::uint64_t major = 0, minor = 0;
    std::string operation;  ///< Read, Write
    std::uint64_t value = 0;
  };
  std::vector<Io> io_bytes, io_operations;
  struct Hugepages {
    std::uint64_t usage = 0, max = 0, failures = 0;
  };
  std::map<std::string, Hugepages> hugepages;
  struct Pressure {
    double some_avg10 = 0, some_avg60 = 0, some_avg300 = 0, full_avg10 = 0, full_avg60 = 0, full_avg300 = 0;
    std::uint64_t some_total_us = 0, full_total_us = 0;
  };
  std::map<std::string, Pressure> pressure;  ///< cpu, memory, io; v2 only
};

class Cgroups {
 public:
  /// `parent` = "/orchestra-INSTANCE": below each mount.
  static Result<std::shared_ptr<Cgroups>> open(CgroupLayout layout, std::string parent);

  /// For an ordinary user: below our own v2 group, where that was handed to us, with the controllers that
  /// came along. `move_host`: this process goes into a leaf of it, since a group with members hands nothing
  /// on. Denied, busy or unsupported: there is no such subtree, the message says why.
  static Result<std::shared_ptr<Cgroups>> open_delegated(const CgroupLayout& layout,
                                                         const std::string& parent, bool move_host);

  /// v1 only, where devices are a hierarchy of their own: groups whose device rules are these, or that have
  /// none, get no device group of their own but share one. For a container and its pod that is two groups and
  /// a dozen writes less. Call before the first make().
  void share_device_group(std::vector<ContainerSpec::DeviceRule> rules);

  /// The groups below `parent` belong to systemd: those of v2 and of its own hierarchy are there already, and
  /// who enters a group enters the one of systemd's own hierarchy too, else systemd takes the unit for empty.
  void set_systemd_owned() { systemd_owned_ = true; }

  const CgroupLayout& layout() const { return layout_; }
  const std::string& parent() const { return parent_; }
  bool usable() const { return !used_.empty(); }
  /// Makes the group (and those above it) in each hierarchy that has limits of ours: the usual ones, and
  /// those that `resources` ask for. Idempotent.
  Result<void> make(const std::string& group, const ContainerSpec::Resources& resources);
  /// `missing`: what this machine has no controller for. `refused`: what the kernel did not take and the
  /// specification lets us go on without.
  Result<void> apply(const std::string& group, const ContainerSpec::Resources& resources,
                     std::vector<std::string>& missing, std::vector<std::string>& refused);
  /// apply() to a group with members; they enter hierarchies that they are not in yet.
  Result<void> update(const std::string& group, const ContainerSpec::Resources& resources,
                      std::vector<std::string>& missing);
  CgroupPlace place(const std::string& group, const ContainerSpec::Resources& resources) const;
  /// The group in each hierarchy, for mounts of type cgroup.
  std::vector<CgroupMount> mounts(const std::string& group) const;
  /// Where the shim of a pod goes, so that it leaves the host's service in every hierarchy.
  CgroupPlace place_shim(const std::string& pod) const;
  /// Makes these groups where they are missing: those of v2 (before the shim is born) or of v1.
  Result<void> make_shim(const std::string& pod, bool unified);
  /// A cgroup.procs file that lists the members of the group; empty without hierarchies.
  std::string members_file(const std::string& group) const;
  /// Removes what of the group is empty, now.
  void remove_empty(const std::string& group);
  /// Kills what is left, waits until it is empty, removes the group and what appeared below.
  Result<void> remove(const std::string& group, Duration deadline);
  std::string oom_file(const std::string& group) const;
  Result<ContainerUsage> usage(const std::string& group) const;
  /// More than usage(): everything that `events` and stats tell.
  Result<CgroupStats> stats(const std::string& group) const;
  Result<void> freeze(const std::string& group, bool frozen, Duration deadline);
  bool frozen(const std::string& group) const;
  Result<std::vector<int>> processes(const std::string& group) const;
  /// The parent itself, once nothing is below it.
  void remove_parent();

 private:
  Cgroups(CgroupLayout layout, std::string parent) : layout_(std::move(layout)), parent_(std::move(parent)) {}
  std::vector<const CgroupHierarchy*> chosen(const ContainerSpec::Resources& resources) const;
  std::string folder(const CgroupHierarchy& hierarchy, const std::string& group) const;
  std::string unified_folder(const std::string& group) const;  ///< empty without v2
  std::string shim_folder(const CgroupHierarchy& hierarchy, const std::string& pod) const;
  /// The v2 hierarchy where device rules are programs; nullptr where v1 has them, or nobody may load them.
  const CgroupHierarchy* device_programs() const;
  std::string folder_of(std::string_view controller, const std::string& group) const;
  /// Whether the shared device group serves these resources.
  bool shares_devices(const ContainerSpec::Resources& resources) const;
  /// Makes the shared device group with its rules; nobody sees it without them.
  Result<void> make_shared_devices();

  CgroupLayout layout_;
  std::string parent_;
  bool delegated_ = false, systemd_owned_ = false;
  const CgroupHierarchy* shared_devices_ = nullptr;
  std::vector<ContainerSpec::DeviceRule> shared_rules_;
  std::mutex shared_mutex_;
  std::vector<const CgroupHierarchy*> used_, all_;
};

}  // namespace orchestra::runtime
