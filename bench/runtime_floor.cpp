// The floor under `lifecycle_*_ms`: one process does by bare system calls what a container of the bench is.
//
// No plan, no shim, no log, no hand-over between processes, no check of hostile paths: a runtime that does
// its work cannot be faster. The child shares this program's memory until its exec (CLONE_VM | CLONE_VFORK),
// which is the cheapest birth there is. It joins v1 cgroups through `tasks` and is born in its v2 one, and
// the network namespace is left to the kernel's asynchronous cleaner, as the runtime does.
#include "bench/runtime_floor.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "bench/bench.hpp"
#include "runtime/linux/cgroups.hpp"

namespace orchestra::bench {
namespace {

constexpr const char* kMasked[] = {"proc/acpi",
                                   "proc/asound",
                                   "proc/interrupts",
                                   "proc/kcore",
                                   "proc/keys",
                                   "proc/latency_list",
                                   "proc/latency_stats",
                                   "proc/timer_list",
                                   "proc/timer_stats",
                                   "proc/sched_debug",
                                   "proc/scsi",
                                   "sys/firmware",
                                   "sys/devices/virtual/powercap"};
constexpr const char* kReadOnly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
constexpr std::uint64_t kCapabilities = 0xa80425fb;  // the 14 of containerd
constexpr std::size_t kStackBytes = 128 << 10;

struct Child {
  const FloorOptions* options = nullptr;
  std::vector<std::string> tasks;
  const char* step = nullptr;
  int error = 0;
};

/// Remembers the first call that failed and leaves.
#define FLOOR(call)         \
  do {                      \
    if ((call) < 0) {       \
      child->step = #call;  \
      child->error = errno; \
      _exit(1);             \
    }                       \
  } while (false)

int mount_type(Child* child, const char* type, const char* target, unsigned attributes,
               std::initializer_list<std::array<const char*, 2>> options) {
  const int context = static_cast<int>(syscall(SYS_fsopen, type, 1));
  FLOOR(context);
  for (const auto& [key, value] : options) FLOOR(syscall(SYS_fsconfig, context, 1, key, value, 0));
  FLOOR(syscall(SYS_fsconfig, context, 6, nullptr, nullptr, 0));
  const int made = static_cast<int>(syscall(SYS_fsmount, context, 1, attributes));
  FLOOR(made);
  FLOOR(syscall(SYS_move_mount, made, "", AT_FDCWD, target, 4 /* MOVE_MOUNT_F_EMPTY_PATH */));
  close(context);
  close(made);
  return 0;
}

void make_mounts(Child* child) {
  constexpr unsigned kNone = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  mount_type(child, "proc", "proc", kNone, {});
  mount_type(child, "tmpfs", "dev", MOUNT_ATTR_NOSUID, {{"mode", "755"}, {"size", "65536k"}});
  constexpr std::pair<const char*, unsigned> nodes[] = {
      {"dev/null", 3}, {"dev/zero", 5}, {"dev/full", 7}, {"dev/random", 8}, {"dev/urandom", 9}};
  for (const auto& [name, minor_number] : nodes) FLOOR(mknod(name, S_IFCHR | 0666, makedev(1, minor_number)));
  FLOOR(mknod("dev/tty", S_IFCHR | 0666, makedev(5, 0)));
  constexpr const char* links[][2] = {{"/proc/self/fd", "dev/fd"},       {"/proc/self/fd/0", "dev/stdin"},
                                      {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"},
                                      {"pts/ptmx", "dev/ptmx"},          {"/proc/kcore", "dev/core"}};
  for (const auto& link : links) FLOOR(symlink(link[0], link[1]));
  for (const char* folder : {"dev/pts", "dev/shm", "dev/mqueue"}) FLOOR(mkdir(folder, 0755));
  mount_type(child, "devpts", "dev/pts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
             {{"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", "5"}});
  mount_type(child, "tmpfs", "dev/shm", kNone, {{"mode", "1777"}, {"size", "65536k"}});
  mount_type(child, "mqueue", "dev/mqueue", kNone, {});
  if (child->options->network) {
    mount_type(child, "sysfs", "sys", kNone | MOUNT_ATTR_RDONLY, {});
  } else {
    FLOOR(mount("/sys", "sys", nullptr, MS_BIND | MS_REC, nullptr));
  }
}

void protect(Child* child) {
  for (const char* path : kMasked) {
    struct stat info;
    if (stat(path, &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) {
      mount_type(child, "tmpfs", path, MOUNT_ATTR_RDONLY, {{"size", "4k"}});
    } else {
      FLOOR(mount("/dev/null", path, nullptr, MS_BIND, nullptr));
    }
  }
  for (const char* path : kReadOnly) {
    if (access(path, F_OK) != 0) continue;
    FLOOR(mount(path, path, nullptr, MS_BIND | MS_REC, nullptr));
    FLOOR(mount(nullptr, path, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr));
  }
  FLOOR(mount(nullptr, ".", nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr));
}

void drop_rights(Child* child) {
  for (int cap = 0; cap <= 40; ++cap) {
    if ((kCapabilities >> cap & 1) == 0) FLOOR(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
  }
  const std::string& filter = child->options->filter;
  if (!filter.empty()) {
    struct {
      unsigned short size;
      const void* filter;
    } program{static_cast<unsigned short>(filter.size() / 8), filter.data()};
    FLOOR(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  data[0].effective = data[0].permitted = static_cast<std::uint32_t>(kCapabilities);
  FLOOR(syscall(SYS_capset, &header, data));
}

int run_child(void* argument) {
  auto* child = static_cast<Child*>(argument);
  for (const std::string& path : child->tasks) {
    const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    FLOOR(file);
    FLOOR(write(file, "0", 1));
    close(file);
  }
  FLOOR(unshare(CLONE_NEWCGROUP));
  FLOOR(setsid());
  FLOOR(mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr));
  const char* root = child->options->root.c_str();
  FLOOR(mount(root, root, nullptr, MS_BIND | MS_REC, nullptr));
  FLOOR(chdir(root));
  make_mounts(child);
  protect(child);
  FLOOR(syscall(SYS_pivot_root, ".", "."));
  FLOOR(umount2(".", MNT_DETACH));
  FLOOR(chdir("/"));
  drop_rights(child);
  FLOOR(syscall(SYS_close_range, 3, ~0u, 4 /* CLOEXEC */));
  char* const args[] = {const_cast<char*>("/bin/true"), nullptr};
  char* const env[] = {nullptr};
  FLOOR(execve(args[0], args, env));
  return 0;
}
#undef FLOOR

void write_value(const std::string& path, std::string_view value) {
  const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  (void)!write(file, value.data(), value.size());
  close(file);
}

/// The groups of one container; v1 only, as the machines are where the bench runs as root by default.
std::vector<std::string> make_groups(const runtime::CgroupLayout& layout, const std::string& name) {
  std::vector<std::string> groups;
  for (const char* controller : {"cpu", "memory", "pids", "devices"}) {
    const auto* at = layout.find(controller);
    if (at == nullptr || at->unified) continue;
    groups.push_back(at->mount + "/" + name);
    mkdir(groups.back().c_str(), 0755);
    const std::string text = controller;
    if (text == "cpu") write_value(groups.back() + "/cpu.shares", "512");
    if (text == "memory") write_value(groups.back() + "/memory.limit_in_bytes", "67108864");
    if (text == "pids") write_value(groups.back() + "/pids.max", "100");
    if (text != "devices") continue;
    write_value(groups.back() + "/devices.deny", "a");
    for (const char* rule : {"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                             "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm"})
      write_value(groups.back() + "/devices.allow", rule);
  }
  return groups;
}
}  // namespace

std::optional<double> time_floor(const FloorOptions& options, std::string& why) {
  static const auto layout = runtime::detect_cgroups();
  if (!layout) {
    why = layout.error().message();
    return std::nullopt;
  }
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const std::int64_t start = now_ns();
  Child child;
  child.options = &options;
  std::vector<std::string> groups;
  if (options.limits) groups = make_groups(*layout, options.scratch);
  for (const std::string& group : groups) child.tasks.push_back(group + "/tasks");
  int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_VM | CLONE_VFORK | SIGCHLD;
  if (options.network) flags |= CLONE_NEWNET;
  const pid_t pid = clone(run_child, static_cast<char*>(stack) + kStackBytes, flags, &child);
  int status = -1;
  if (pid > 0) waitpid(pid, &status, 0);
  for (const std::string& group : groups) rmdir(group.c_str());
  const double took = static_cast<double>(now_ns() - start) / 1e6;
  munmap(stack, kStackBytes);
  if (pid > 0 && status == 0) return took;
  why = pid < 0 ? "clone: " + std::string(std::strerror(errno))
                : std::string(child.step != nullptr ? child.step : "/bin/true") + ": " +
                      std::strerror(child.error);
  return std::nullopt;
}

}  // namespace orchestra::bench
