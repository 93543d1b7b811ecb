#pragma once
// The plan: everything orch-init must do to make one process of a container, as one flat block.
//
// The library decides (src/runtime/plan), orch-init obeys (src/runtime/freestanding). Between them goes
// this block: a header, then tables and NUL-terminated strings that the header points to by offset. No
// text is parsed on the other side; `plan_is_sound` checks every offset once, and then all of it may be
// read in place. Shared by hosted and freestanding code, so it uses only plain types.
// Always true: offset 0 means "absent". Library and shim may come from two releases, where a host was
// replaced under its pods: a plan says the lowest version that knows all of it, and a shim refuses what is
// newer than itself rather than leave a part of it out.
#include <cstddef>
#include <cstdint>

namespace orchestra::wire {

inline constexpr std::uint32_t kPlanMagic = 0x4c50524f;  // "ORPL"
inline constexpr std::uint32_t kPlanVersionMin = 2;      ///< what most plans say
inline constexpr std::uint32_t kPlanVersion = 3;         ///< MountStep::below, kRootByParent
inline constexpr std::uint32_t kPlanBytesMax = 1 << 20;
inline constexpr std::uint32_t kMountsMax = 4096;
inline constexpr std::uint32_t kEnvMax = 8192;
inline constexpr std::uint32_t kHooksMax = 64;
inline constexpr std::uint32_t kIdMapsMax = 340;         ///< the kernel's bound
inline constexpr std::uint32_t kIdMappedMountsMax = 64;  ///< each keeps a descriptor until it is attached

/// A table: `count` elements at `offset` bytes from the start of the block.
struct Table {
  std::uint32_t offset = 0, count = 0;
};
/// Offset of a NUL-terminated string; 0 = absent.
using Text = std::uint32_t;

enum class MountKind : std::uint32_t {
  bind = 1,    ///< `source` of the host onto `target`
  filesystem,  ///< a new file system of `type`
  devices,     ///< the container's default device nodes and links go into `target` (/dev)
};
struct IdMapStep {  ///< a line of /proc/PID/uid_map
  std::uint32_t inside = 0, outside = 0, count = 0;
};
enum class IdMapping : std::uint32_t { none, own, of_container };
struct MountStep {
  MountKind kind = MountKind::filesystem;
  std::uint32_t recursive = 0;  ///< bind: rbind
  Text source = 0, target = 0, type = 0;
  Table options;                               ///< Text pairs key, value; value 0 = a flag
  std::uint32_t optional = 0;                  ///< a failure is not an error (mqueue on kernels without it)
  std::uint32_t mode = 0;                      ///< of a directory that has to be made; 0 = 0755
  std::uint64_t attr_set = 0, attr_clear = 0;  ///< MOUNT_ATTR_*
  std::uint64_t propagation = 0;               ///< MS_PRIVATE ..; 0 = private
  std::uint64_t all_set = 0, all_clear = 0;    ///< MOUNT_ATTR_* of everything below, too
  /// bind: files have other owners inside; a file system with one is made by the parent
  IdMapping mapping = IdMapping::none;
  std::uint32_t mapping_recursive = 0;
  Table uids, gids;           ///< IdMapStep, of IdMapping::own
  std::uint32_t copy_up = 0;  ///< tmpfs: begins with what the target holds
  Text below = 0;             ///< bind: this path inside of `source`, looked up as in a root
};
struct DeviceStep {
  Text path = 0;           ///< absolute, in the container
  std::uint32_t mode = 0;  ///< S_IFCHR | 0666
  std::uint32_t major = 0, minor = 0, uid = 0, gid = 0;
};
struct LimitStep {
  std::uint32_t resource = 0, unused = 0;
  std::uint64_t soft = 0, hard = 0;
};
struct JoinStep {
  std::uint32_t clone_flag = 0;  ///< CLONE_NEWNET ..
  Text path = 0;
};
struct SchedulerStep {  ///< struct sched_attr, first version
  std::uint32_t size = 48, policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 0, deadline = 0, period = 0;
};
struct WriteStep {  ///< sysctl: `text` into `path` below /proc/sys
  Text path = 0, text = 0;
};
struct HookStep {
  Text path = 0;
  Table args, env;  ///< Text
  std::uint32_t timeout_ms = 0, unused = 0;
};

enum PlanFlags : std::uint32_t {
  kOwnRoot = 1 << 0,          ///< mounts and pivot_root (full)
  kChroot = 1 << 1,           ///< chroot only (process)
  kCgroupNamespace = 1 << 2,  ///< unshared once inside the cgroup
  kTerminal = 1 << 3,
  kNoNewPrivileges = 1 << 4,
  kReadOnlyRoot = 1 << 5,
  kJoinContainer = 1 << 6,  ///< exec: enters the namespaces of a running container
  kSetCapabilities = 1 << 7,
  kSetIds = 1 << 8,
  kBareDevices = 1 << 9,  ///< process: device nodes are made in the root's own /dev
  kNoPivot = 1 << 10,     ///< MS_MOVE and chroot instead of pivot_root
  kMakeCwd = 1 << 11,
  kStartByFifo = 1 << 12,  ///< `start_fifo` instead of the report socket
  kKeepSession = 1 << 13,
  kRuntimeHooks = 1 << 14,  ///< pauses for prestart and createRuntime hooks, which the parent runs
  kTimeNamespace = 1 << 16,
  kCheckProgram = 1 << 15,  ///< a missing program fails the create, not the start
  kRootByParent = 1 << 17,  ///< the root is mounted by the parent, with its files' owners mapped
};

struct Plan {
  std::uint32_t magic = kPlanMagic, version = kPlanVersionMin, size = 0, flags = 0;
  std::uint64_t clone_flags = 0;  ///< namespaces the process is born in
  std::uint32_t uid = 0, gid = 0, umask = 022;
  std::int32_t oom_score_adj = 0;
  std::uint64_t cap_bounding = 0, cap_effective = 0, cap_permitted = 0, cap_inheritable = 0, cap_ambient = 0;
  std::uint64_t root_propagation = 0;
  Text root = 0;               ///< directory that becomes /
  Text overlay_directory = 0;  ///< working directory for the overlay mount
  Text overlay_lower = 0, overlay_upper = 0, overlay_work = 0, overlay_extra = 0;
  Text overlay_target = 0;  ///< where it is mounted; then also the root
  Text cwd = 0, hostname = 0, domainname = 0, start_fifo = 0, program = 0;
  std::uint16_t columns = 0, rows = 0;
  std::uint32_t unused = 0;
  Table args, env;  ///< Text
  Table groups;     ///< uint32
  Table mounts, devices, limits, joins, sysctls;
  Table masked, read_only;                              ///< Text
  Table cgroup_files;                                   ///< Text: v1 `tasks` files to join, in order
  Table seccomp;                                        ///< struct sock_filter
  Table hooks_create_container, hooks_start_container;  ///< HookStep
  Text hook_state = 0;                                  ///< state JSON for the hooks above
  std::uint32_t seccomp_flags = 0;
  Text cgroup_unified = 0;          ///< v2 group the process is born in
  Text time_offsets = 0;            ///< text for timens_offsets; with kTimeNamespace
  Table uid_maps, gid_maps;         ///< IdMapStep: of a new user namespace, written by the parent
  Table scheduler;                  ///< SchedulerStep, at most one
  Table affinity, affinity_final;   ///< uint64 words of a cpu mask: before and after the cgroup is joined
  Table memory_nodes;               ///< uint64 words
  std::int32_t memory_policy = -1;  ///< mode and flags of set_mempolicy; -1: as it is
  std::int32_t io_priority = -1;    ///< class << 13 | level; -1: as it is
  std::int64_t personality = -1;
  Text apparmor = 0, selinux = 0;                            ///< labels of the program
  Text notify_socket = 0;                                    ///< where the seccomp listener goes
  Text notify_head = 0, notify_middle = 0, notify_tail = 0;  ///< the message, around two times the pid
  std::uint32_t preserved_fds = 0;
};

/// Where init was when something failed; `stage_name` is part of the error message.
enum class Stage : std::uint32_t {
  none,
  plan,
  cgroup,
  join_namespace,
  unshare,
  session,
  propagation,
  root,
  mount,
  device,
  hook,
  pivot,
  mask,
  read_only,
  hostname,
  sysctl,
  terminal,
  limits,
  oom_score,
  start,
  capabilities,
  ids,
  no_new_privileges,
  cwd,
  seccomp,
  exec,
  clone,
  log,
  user_namespace,
  reclaim,
  label,
  count
};
constexpr const char* stage_name(Stage stage) {
  constexpr const char* names[] = {"none",           "plan",
                                   "cgroup",         "join namespace",
                                   "unshare",        "session",
                                   "propagation",    "root",
                                   "mount",          "device",
                                   "hook",           "pivot_root",
                                   "mask",           "read-only path",
                                   "hostname",       "sysctl",
                                   "terminal",       "limits",
                                   "oom_score_adj",  "start",
                                   "capabilities",   "user and groups",
                                   "no_new_privs",   "working directory",
                                   "seccomp",        "exec",
                                   "clone",          "log",
                                   "user namespace", "reclaim",
                                   "security label"};
  static_assert(sizeof(names) / sizeof(names[0]) == static_cast<std::size_t>(Stage::count));
  const auto index = static_cast<std::uint32_t>(stage);
  return index < static_cast<std::uint32_t>(Stage::count) ? names[index] : "unknown";
}

namespace detail {
inline bool table_is_sound(const char* block, std::uint32_t size, Table table, std::uint32_t element,
                           std::uint32_t count_max) {
  (void)block;
  if (table.count == 0) return true;
  if (table.count > count_max || table.offset < sizeof(Plan) || table.offset % 8 != 0) return false;
  return table.offset <= size && std::uint64_t{table.count} * element <= size - table.offset;
}
inline bool text_is_sound(const char* block, std::uint32_t size, Text text) {
  (void)block;
  return text == 0 || (text >= sizeof(Plan) && text < size);  // the block ends in NUL, so every string ends
}
inline bool texts_are_sound(const char* block, std::uint32_t size, Table table, std::uint32_t count_max) {
  if (!table_is_sound(block, size, table, sizeof(Text), count_max)) return false;
  for (std::uint32_t i = 0; i < table.count; ++i) {
    Text text = 0;
    __builtin_memcpy(&text, block + table.offset + i * sizeof(Text), sizeof text);
    if (!text_is_sound(block, size, text)) return false;
  }
  return true;
}
}  // namespace detail

template <class T>
const T* table_at(const Plan* plan, Table table) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(plan) + table.offset);
}
inline const char* text_at(const Plan* plan, Text text) {
  return text == 0 ? "" : reinterpret_cast<const char*>(plan) + text;
}

/// Checks every offset of a block that is aligned to 8 bytes. After true, all tables and texts may be read.
inline bool plan_is_sound(const char* block, std::size_t bytes) {
  using detail::table_is_sound, detail::text_is_sound, detail::texts_are_sound;
  if (bytes <= sizeof(Plan) || bytes > kPlanBytesMax || block[bytes - 1] != 0) return false;
  const Plan& p = *reinterpret_cast<const Plan*>(block);
  if (p.magic != kPlanMagic || p.version < kPlanVersionMin || p.version > kPlanVersion || p.size != bytes)
    return false;
  const std::uint32_t size = p.size;
  const Text texts[] = {p.root,         p.overlay_directory, p.overlay_lower,  p.overlay_upper,
                        p.overlay_work, p.overlay_extra,     p.overlay_target, p.cwd,
                        p.hostname,     p.domainname,        p.start_fifo,     p.program,
                        p.hook_state,   p.cgroup_unified,    p.time_offsets,   p.apparmor,
                        p.selinux,      p.notify_socket,     p.notify_head,    p.notify_middle,
                        p.notify_tail};
  for (const Text text : texts) {
    if (!text_is_sound(block, size, text)) return false;
  }
  if (!texts_are_sound(block, size, p.args, kEnvMax) || !texts_are_sound(block, size, p.env, kEnvMax))
    return false;
  if (!texts_are_sound(block, size, p.masked, kMountsMax)) return false;
  if (!texts_are_sound(block, size, p.read_only, kMountsMax)) return false;
  if (!texts_are_sound(block, size, p.cgroup_files, 64)) return false;
  if (!table_is_sound(block, size, p.groups, 4, 65536)) return false;
  if (!table_is_sound(block, size, p.seccomp, 8, 4096)) return false;
  if (!table_is_sound(block, size, p.limits, sizeof(LimitStep), 64)) return false;
  if (!table_is_sound(block, size, p.uid_maps, sizeof(IdMapStep), kIdMapsMax)) return false;
  if (!table_is_sound(block, size, p.gid_maps, sizeof(IdMapStep), kIdMapsMax)) return false;
  if (!table_is_sound(block, size, p.scheduler, sizeof(SchedulerStep), 1)) return false;
  const Table masks[] = {p.affinity, p.affinity_final, p.memory_nodes};
  for (const Table words : masks) {
    if (!table_is_sound(block, size, words, 8, 128)) return false;
  }
  if (!table_is_sound(block, size, p.mounts, sizeof(MountStep), kMountsMax)) return false;
  for (std::uint32_t i = 0; i < p.mounts.count; ++i) {
    const MountStep& step = table_at<MountStep>(&p, p.mounts)[i];
    if (!text_is_sound(block, size, step.source) || !text_is_sound(block, size, step.target)) return false;
    if (!text_is_sound(block, size, step.type) || !text_is_sound(block, size, step.below)) return false;
    if (!table_is_sound(block, size, step.uids, sizeof(IdMapStep), kIdMapsMax)) return false;
    if (!table_is_sound(block, size, step.gids, sizeof(IdMapStep), kIdMapsMax)) return false;
    if (step.options.count % 2 != 0 || !texts_are_sound(block, size, step.options, 256)) return false;
  }
  if (!table_is_sound(block, size, p.devices, sizeof(DeviceStep), kMountsMax)) return false;
  for (std::uint32_t i = 0; i < p.devices.count; ++i) {
    if (!text_is_sound(block, size, table_at<DeviceStep>(&p, p.devices)[i].path)) return false;
  }
  if (!table_is_sound(block, size, p.joins, sizeof(JoinStep), 16)) return false;
  for (std::uint32_t i = 0; i < p.joins.count; ++i) {
    if (!text_is_sound(block, size, table_at<JoinStep>(&p, p.joins)[i].path)) return false;
  }
  if (!table_is_sound(block, size, p.sysctls, sizeof(WriteStep), 256)) return false;
  for (std::uint32_t i = 0; i < p.sysctls.count; ++i) {
    const WriteStep& step = table_at<WriteStep>(&p, p.sysctls)[i];
    if (!text_is_sound(block, size, step.path) || !text_is_sound(block, size, step.text)) return false;
  }
  const Table all_hooks[] = {p.hooks_create_container, p.hooks_start_container};
  for (const Table hooks : all_hooks) {
    if (!table_is_sound(block, size, hooks, sizeof(HookStep), kHooksMax)) return false;
    for (std::uint32_t i = 0; i < hooks.count; ++i) {
      const HookStep& hook = table_at<HookStep>(&p, hooks)[i];
      if (!text_is_sound(block, size, hook.path) || !texts_are_sound(block, size, hook.args, kEnvMax))
        return false;
      if (!texts_are_sound(block, size, hook.env, kEnvMax)) return false;
    }
  }
  return true;
}

}  // namespace orchestra::wire
