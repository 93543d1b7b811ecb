// The user namespace of level rootless: made by the shim itself, so that all it makes later belongs to it.
//
// Maps with ranges may only be written from outside, by newuidmap and newgidmap (setuid programs that read
// /etc/subuid): a child that stays outside runs them once the namespace is there. With one id the process
// writes its own maps; the kernel wants setgroups denied before (user_namespaces(7)).
// Roles here: `probe` tells whether containers can be made, `reclaim` makes a tree removable.
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "init_steps.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
constexpr uint32_t kArgsMax = 2 + 3 * kIdRangesMax + 1;
constexpr int kDepthMax = 256;  ///< folders below each other that `reclaim` goes into

/// newuidmap PID INSIDE OUTSIDE COUNT ..; the exit status, or -1.
int run_map_helper(const char* program, long pid, const IdRange* ranges, uint32_t count) {
  static Line<16> words[kArgsMax];
  const char* args[kArgsMax + 1];
  uint32_t used = 0;
  const auto add = [&](long number) {
    words[used].used = 0;
    words[used].add(number);
    args[used] = words[used].text;
    ++used;
  };
  args[used++] = program;
  add(pid);
  for (uint32_t i = 0; i < count && i < kIdRangesMax; ++i) {
    add(ranges[i].inside);
    add(ranges[i].outside);
    add(ranges[i].count);
  }
  args[used] = nullptr;
  const char* env[1] = {nullptr};
  int pidfd = -1;
  const long child = clone_process(0, SIGCHLD, &pidfd);
  if (child < 0) return -1;
  if (child == 0) {
    const long result = sys(__NR_execve, arg(program), arg(args), arg(env));
    Line<256> why;
    why.add(program).add(": errno ").add(-result);
    write_fd(2, why.text, why.used);
    exit_now(127);
  }
  close_fd(pidfd);
  int status = -1;
  while (sys(__NR_wait4, child, arg(&status), 0, 0) == -EINTR) {
  }
  return status == 0 ? 0 : 1;
}

/// The child that stays outside: waits for the namespace, then writes the maps of `pid`.
[[noreturn]] void map_from_outside(const UserNamespace& space, long pid, int go, int text) {
  char byte;
  if (sys(__NR_read, go, arg(&byte), 1) != 1) exit_now(1);
  sys(__NR_dup3, text, 1, 0);
  sys(__NR_dup3, text, 2, 0);
  if (run_map_helper(space.newuidmap, pid, space.uids, space.uid_count) != 0) exit_now(1);
  if (run_map_helper(space.newgidmap, pid, space.gids, space.gid_count) != 0) exit_now(1);
  exit_now(0);
}

long write_own_maps(const UserNamespace& space, Line<512>& why) {
  Line<64> uids, gids;
  uids.add(space.uids[0].inside).add(" ").add(space.uids[0].outside).add(" 1\n");
  gids.add(space.gids[0].inside).add(" ").add(space.gids[0].outside).add(" 1\n");
  why.add("/proc/self/setgroups");
  long result = write_text("/proc/self/setgroups", "deny");
  if (result < 0 && result != -ENOENT) return result;
  why.used = 0;
  why.add("/proc/self/uid_map");
  result = write_text("/proc/self/uid_map", uids.text);
  if (result < 0) return result;
  why.used = 0;
  why.add("/proc/self/gid_map");
  return write_text("/proc/self/gid_map", gids.text);
}

long read_role_config(UserNamespace& space) {
  const long n = sys(__NR_pread64, kRoleConfigFd, arg(&space), sizeof space, 0);
  close_fd(kRoleConfigFd);
  return n == static_cast<long>(sizeof space) ? 0 : -EINVAL;
}

[[noreturn]] void tell(Stage stage, long result, const char* text) {
  ReportMessage message;
  message.kind = result < 0 ? Report::failed : Report::created;
  message.stage = stage;
  message.error = static_cast<int>(result < 0 ? -result : 0);
  size_t n = 0;
  while (text[n] != 0 && n + 1 < sizeof message.text) message.text[n] = text[n], ++n;
  message.text[n] = 0;
  write_fd(kRoleResultFd, &message, sizeof message);
  exit_now(result < 0 ? 1 : 0);
}

/// What the first mounts of a container do, in namespaces as it has them.
[[noreturn]] void try_mounts() {
  long result = sys(__NR_mount, 0, arg("/"), 0, MS_REC | MS_SLAVE, 0);
  if (result < 0) tell(Stage::propagation, result, "/");
  constexpr const char* types[] = {"proc", "tmpfs"};
  for (const char* type : types) {
    const long context = sys(__NR_fsopen, arg(type), FSOPEN_CLOEXEC);
    result = context;
    if (result >= 0) result = sys(__NR_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0);
    if (result >= 0) result = sys(__NR_fsmount, context, FSMOUNT_CLOEXEC, 0);
    if (result < 0) tell(Stage::mount, result, type);
  }
  tell(Stage::none, 0, "");
}

struct Entry {
  uint64_t inode;
  int64_t offset;
  unsigned short size;
  unsigned char type;
  char name[1];
};

/// Gives `folder` and all folders below to id 0, with rwx for it. Links are not followed, mounts not entered.
long reclaim_folder(int folder, unsigned long device, int depth, Line<512>& why) {
  struct stat info;
  long result = sys(__NR_newfstatat, folder, arg(""), arg(&info), AT_EMPTY_PATH);
  if (result < 0) return result;
  if (info.st_dev != device) return 0;
  if (info.st_uid != 0) result = sys(__NR_fchown, folder, 0, -1);
  if (result >= 0 && (info.st_mode & 0700) != 0700) result = sys(__NR_fchmod, folder, 0700);
  if (result < 0) return result;
  if (depth >= kDepthMax) return -ELOOP;
  alignas(8) char entries[2048];
  long n;
  while ((n = sys(__NR_getdents64, folder, arg(entries), sizeof entries)) > 0) {
    for (long at = 0; at < n;) {
      const auto* entry = reinterpret_cast<const Entry*>(entries + at);
      at += entry->size;
      if (entry->type != 4 /* DT_DIR */ || equal(entry->name, ".") || equal(entry->name, "..")) continue;
      const long inner =
          sys(__NR_openat, folder, arg(entry->name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      result = inner < 0 ? inner : reclaim_folder(static_cast<int>(inner), device, depth + 1, why);
      close_fd(static_cast<int>(inner));
      if (result >= 0 || result == -ENOENT) continue;
      if (why.used == 0) why.add(entry->name);
      return result;
    }
  }
  return n;
}
}  // namespace

long enter_user_namespace(const UserNamespace& space, Line<512>& why) {
  int go[2] = {-1, -1}, text[2] = {-1, -1}, pidfd = -1;
  long helper = 0;
  if (space.by_helpers != 0) {
    long result = sys(__NR_pipe2, arg(go), O_CLOEXEC);
    if (result >= 0) result = sys(__NR_pipe2, arg(text), O_CLOEXEC);
    const long own = sys(__NR_getpid);
    if (result >= 0) result = helper = clone_process(0, SIGCHLD, &pidfd);
    if (result == 0) {
      close_fd(go[1]);
      map_from_outside(space, own, go[0], text[1]);
    }
    close_fd(pidfd);
    if (result < 0) {
      why.add("clone");
      return result;
    }
  }
  close_fd(go[0]);
  close_fd(text[1]);
  why.add("unshare(CLONE_NEWUSER)");
  long result = sys(__NR_unshare, CLONE_NEWUSER);
  if (result >= 0) {
    why.used = 0;
    why.text[0] = 0;
  }
  if (space.by_helpers == 0) return result < 0 ? result : write_own_maps(space, why);
  const char byte = 1;
  if (result >= 0) result = write_fd(go[1], &byte, 1);
  close_fd(go[1]);
  int status = -1;
  while (sys(__NR_wait4, helper, arg(&status), 0, 0) == -EINTR) {
  }
  if (result >= 0 && status != 0) {  // what the program said is the best explanation
    const long n = sys(__NR_read, text[0], arg(why.text), sizeof why.text - 1);
    why.used = n > 0 ? static_cast<size_t>(n) : 0;
    while (why.used > 0 && why.text[why.used - 1] == '\n') --why.used;
    why.text[why.used] = 0;
    if (why.used == 0) why.add(space.newuidmap);
    result = -EPERM;
  }
  close_fd(text[0]);
  return result;
}

int run_probe() {
  static UserNamespace space;
  Line<512> why;
  long result = read_role_config(space);
  if (result < 0) tell(Stage::plan, result, "configuration");
  result = enter_user_namespace(space, why);
  if (result < 0) tell(Stage::user_namespace, result, why.text);
  int pidfd = -1;
  const long pid = clone_process(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
                                 SIGCHLD, &pidfd);
  if (pid == 0) try_mounts();
  if (pid < 0) tell(Stage::clone, pid, "clone3 with mount, pid, ipc, uts and cgroup namespaces");
  int status = 0;
  while (sys(__NR_wait4, pid, arg(&status), 0, 0) == -EINTR) {
  }
  return status == 0 ? 0 : 1;
}

int run_reclaim() {
  static UserNamespace space;
  Line<512> why;
  long result = read_role_config(space);
  if (result < 0) tell(Stage::plan, result, "configuration");
  result = enter_user_namespace(space, why);
  if (result < 0) tell(Stage::user_namespace, result, why.text);
  // Opened anew: our user may not have been able to read the folder itself.
  const long folder = sys(__NR_openat, kRoleDirectoryFd, arg("."), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct stat info;
  result = folder < 0 ? folder : sys(__NR_newfstatat, folder, arg(""), arg(&info), AT_EMPTY_PATH);
  if (result >= 0) result = reclaim_folder(static_cast<int>(folder), info.st_dev, 0, why);
  tell(Stage::reclaim, result, why.text);
}

}  // namespace orch
