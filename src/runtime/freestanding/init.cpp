// orch-init: what happens between the birth of a container's process and its program.
//
// One function per step, in the only order that works (spec/runtime.md 4): cgroup before its namespace,
// mounts before pivot_root, masks after it, limits before the start, bounding set before the ids, ids
// before the capability sets, descriptors closed before seccomp, seccomp last. A step that fails sends
// (stage, errno, text) to the parent and ends the process; nothing is retried and nothing is undone
// here, the parent owns what was made. The plan was checked once, so its offsets are trusted.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "init_steps.hpp"
#include "roles.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
int g_report = -1;

struct FilterProgram {
  unsigned short size;
  const void* filter;
};

const Text* texts(const Plan* plan, Table table) { return table_at<Text>(plan, table); }

void join_cgroups(const Plan* plan, bool in_unified) {
  if (plan->cgroup_unified != 0 && !in_unified) {
    Line<1100> path;
    path.add(text_at(plan, plan->cgroup_unified)).add("/cgroup.procs");
    check(write_text(path.text, "0"), Stage::cgroup, path.text);
  }
  for (uint32_t i = 0; i < plan->cgroup_files.count; ++i) {
    const char* path = text_at(plan, texts(plan, plan->cgroup_files)[i]);
    // The right to write is the opener's: with a user namespace of our own that was the parent.
    check(i < kept().cgroup_count ? sys(__NR_write, kept().cgroups[i], arg("0"), 1) : write_text(path, "0"),
          Stage::cgroup, path);
  }
}

void set_affinity(const Plan* plan, Table words) {
  if (words.count == 0) return;
  check(sys(__NR_sched_setaffinity, 0, words.count * 8, arg(table_at<uint64_t>(plan, words))), Stage::limits,
        "cpu affinity");
}

/// How eagerly the program runs, and on which memory.
void set_placement(const Plan* plan) {
  if (plan->scheduler.count != 0) {
    check(sys(__NR_sched_setattr, 0, arg(table_at<SchedulerStep>(plan, plan->scheduler)), 0), Stage::limits,
          "scheduler");
  }
  if (plan->io_priority >= 0)
    check(sys(__NR_ioprio_set, 1, 0, plan->io_priority), Stage::limits, "io priority");
  if (plan->memory_policy >= 0) {
    const uint32_t words = plan->memory_nodes.count;
    check(sys(__NR_set_mempolicy, plan->memory_policy,
              words != 0 ? arg(table_at<uint64_t>(plan, plan->memory_nodes)) : 0, words * 64),
          Stage::limits, "memory policy");
  }
  if (plan->personality >= 0)
    check(sys(__NR_personality, static_cast<long>(plan->personality)), Stage::limits, "personality");
}

/// The file that takes the program's label: opened while /proc is still the machine's own, as a container's
/// could have been swapped (CVE-2019-16884). The kernel takes a write from the opener only.
int open_label(const Plan* plan) {
  if (plan->apparmor == 0 && plan->selinux == 0) return -1;
  long fd = -ENOENT;
  if (plan->apparmor != 0) fd = open_at(AT_FDCWD, "/proc/thread-self/attr/apparmor/exec", O_WRONLY);
  if (fd < 0) fd = open_at(AT_FDCWD, "/proc/thread-self/attr/exec", O_WRONLY);
  return static_cast<int>(check(fd, Stage::label, "/proc/thread-self/attr/exec"));
}

void write_label(const Plan* plan, int fd) {
  if (fd < 0) return;
  Line<4096> label;
  if (plan->apparmor != 0) label.add("exec ");
  label.add(text_at(plan, plan->apparmor != 0 ? plan->apparmor : plan->selinux));
  const long n = sys(__NR_write, fd, arg(label.text), static_cast<long>(label.used));
  check(n, Stage::label, label.text);
  close_fd(fd);
}

void join_namespaces(const Plan* plan, const InitFds& fds) {
  if ((plan->flags & kJoinContainer) != 0 && fds.container_pidfd >= 0) {
    // The pid namespace was entered by the parent, which is how it stays the parent.
    check(sys(__NR_setns, fds.container_pidfd, static_cast<long>(plan->clone_flags)), Stage::join_namespace,
          "setns to the container");
  }
  if (plan->uid_maps.count != 0) return;  // all were joined before this process was made
  for (uint32_t i = 0; i < plan->joins.count; ++i) {
    const JoinStep& step = table_at<JoinStep>(plan, plan->joins)[i];
    if (step.clone_flag == CLONE_NEWPID) continue;  // entered before this process was made
    const char* path = text_at(plan, step.path);
    const long fd = check(open_at(AT_FDCWD, path, O_RDONLY), Stage::join_namespace, path);
    check(sys(__NR_setns, fd, step.clone_flag), Stage::join_namespace, path);
    close_fd(static_cast<int>(fd));
    if (step.clone_flag != CLONE_NEWUSER) continue;
    sys(__NR_setresgid, 0, 0, 0);
    sys(__NR_setresuid, 0, 0, 0);
    sys(__NR_prctl, PR_SET_DUMPABLE, 1);
  }
}

void set_hostname(const Plan* plan) {
  if (plan->hostname != 0) {
    const char* name = text_at(plan, plan->hostname);
    check(sys(__NR_sethostname, arg(name), static_cast<long>(length(name))), Stage::hostname, name);
  }
  if (plan->domainname != 0) {
    const char* name = text_at(plan, plan->domainname);
    check(sys(__NR_setdomainname, arg(name), static_cast<long>(length(name))), Stage::hostname, name);
  }
}

void write_sysctls(const Plan* plan) {
  for (uint32_t i = 0; i < plan->sysctls.count; ++i) {
    const WriteStep& step = table_at<WriteStep>(plan, plan->sysctls)[i];
    Line<512> path;
    path.add("/proc/sys/").add(text_at(plan, step.path));
    check(write_text(path.text, text_at(plan, step.text)), Stage::sysctl, path.text);
  }
}

void set_limits(const Plan* plan) {
  for (uint32_t i = 0; i < plan->limits.count; ++i) {
    const LimitStep& step = table_at<LimitStep>(plan, plan->limits)[i];
    const uint64_t pair[2] = {step.soft, step.hard};
    Line<64> name;
    name.add("resource ").add(static_cast<long>(step.resource));
    check(sys(__NR_prlimit64, 0, step.resource, arg(pair), 0), Stage::limits, name.text);
  }
}

void set_oom_score(const Plan* plan) {
  Line<16> score;
  score.add(static_cast<long>(plan->oom_score_adj));
  const long result = write_text("/proc/self/oom_score_adj", score.text);
  // Without CAP_SYS_RESOURCE lowering is refused; the library reports that as degraded beforehand.
  if (result != -EACCES && result != -EPERM) check(result, Stage::oom_score, score.text);
}

void send_report(Report kind) {
  ReportMessage message;
  message.kind = kind;
  sys(__NR_sendto, g_report, arg(&message), sizeof message, MSG_NOSIGNAL_, 0, 0);
}

/// One byte from the parent. False: it is gone or changed its mind.
bool wait_for_byte(int fd) {
  char byte;
  long n;
  do {
    n = sys(__NR_read, fd, arg(&byte), 1);
  } while (n == -EINTR);
  return n == 1;
}

void wait_for_start(const Plan* plan) {
  send_report(Report::created);
  if ((plan->flags & kStartByFifo) != 0) {
    // The fifo was opened before the root changed; the read waits until `start` writes.
    close_fd(g_report);
    if (!wait_for_byte(kStartFd)) exit_now(128);
    close_fd(kStartFd);
    return;
  }
  if (!wait_for_byte(g_report)) exit_now(128);
}

void drop_bounding_set(const Plan* plan) {
  for (int cap = 0; cap < 64; ++cap) {
    if ((plan->cap_bounding >> cap & 1) != 0) continue;
    const long result = sys(__NR_prctl, PR_CAPBSET_DROP, cap);
    if (result == -EINVAL) break;  // past the kernel's last capability
    check(result, Stage::capabilities, "bounding set");
  }
}

void set_ids(const Plan* plan) {
  const uint32_t* groups = table_at<uint32_t>(plan, plan->groups);
  const long set = sys(__NR_setgroups, plan->groups.count, arg(groups));
  // A user namespace with one id denies the call; there are no other groups to be had then.
  if (set != -EPERM || plan->groups.count != 0) check(set, Stage::ids, "setgroups");
  check(sys(__NR_setresgid, plan->gid, plan->gid, plan->gid), Stage::ids, "setresgid");
  check(sys(__NR_setresuid, plan->uid, plan->uid, plan->uid), Stage::ids, "setresuid");
}

void set_capabilities(const Plan* plan) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  for (int half = 0; half < 2; ++half) {
    data[half].effective = static_cast<uint32_t>(plan->cap_effective >> (32 * half));
    data[half].permitted = static_cast<uint32_t>(plan->cap_permitted >> (32 * half));
    data[half].inheritable = static_cast<uint32_t>(plan->cap_inheritable >> (32 * half));
  }
  check(sys(__NR_capset, arg(&header), arg(data)), Stage::capabilities, "capset");
  sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  for (int cap = 0; cap < 64; ++cap) {
    if ((plan->cap_ambient >> cap & 1) == 0) continue;
    check(sys(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0), Stage::capabilities,
          "ambient set");
  }
}

void load_seccomp(const Plan* plan) {
  if (plan->seccomp.count == 0) return;
  if (plan->notify_socket != 0) return load_with_listener(plan);
  const FilterProgram program{static_cast<unsigned short>(plan->seccomp.count),
                              table_at<char>(plan, plan->seccomp)};
  check(sys(__NR_seccomp, SECCOMP_SET_MODE_FILTER, plan->seccomp_flags, arg(&program)), Stage::seccomp,
        "load filter");
}

/// CVE-2024-21626: a working directory outside the root shows itself by an unreachable name.
void enter_cwd(const Plan* plan, bool must) {
  const char* cwd = text_at(plan, plan->cwd);
  const long result = sys(__NR_chdir, arg(*cwd != 0 ? cwd : "/"));
  if (result < 0 && !must) return;
  check(result, Stage::cwd, cwd);
  char path[4096];
  const long n = sys(__NR_getcwd, arg(path), sizeof path);
  if (n < 0 && n != -ERANGE) fail(Stage::cwd, static_cast<int>(-n), "getcwd");
  if (n > 0 && path[0] != '/') fail(Stage::cwd, EPERM, "the working directory lies outside of the root");
}

const char* find_variable(const Plan* plan, const char* prefix) {
  for (uint32_t i = 0; i < plan->env.count; ++i) {
    const char* entry = text_at(plan, texts(plan, plan->env)[i]);
    if (starts_with(entry, prefix)) return entry + length(prefix);
  }
  return nullptr;
}

bool has_slash(const char* text) {
  for (; *text != 0; ++text) {
    if (*text == '/') return true;
  }
  return false;
}

/// The next "folder/program" of PATH; false at its end.
bool next_candidate(const char*& path, const char* program, Line<4096>& file) {
  if (path == nullptr) return false;
  const char* end = path;
  while (*end != 0 && *end != ':') ++end;
  file.used = 0;
  for (const char* c = path; c < end && file.used + 1 < sizeof file.text; ++c) file.text[file.used++] = *c;
  file.text[file.used] = 0;
  if (file.used == 0) file.add(".");
  file.add("/").add(program);
  path = *end == 0 ? nullptr : end + 1;
  return true;
}

const char* path_variable(const Plan* plan) {
  const char* path = find_variable(plan, "PATH=");
  return path != nullptr ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/// Callers of `create` expect a missing program to fail there.
void check_program(const Plan* plan) {
  const char* program = text_at(plan, texts(plan, plan->args)[0]);
  constexpr int kExecutable = 1;
  if (has_slash(program)) {
    check(sys(__NR_faccessat, AT_FDCWD, arg(program), kExecutable), Stage::exec, program);
    return;
  }
  Line<4096> file;
  for (const char* path = path_variable(plan); next_candidate(path, program, file);) {
    if (sys(__NR_faccessat, AT_FDCWD, arg(file.text), kExecutable) == 0) return;
  }
  fail(Stage::exec, ENOENT, program);
}

/// execve by path, each folder of PATH in turn, as execvp does; the last telling errno is the answer.
[[noreturn]] void exec_program(const Plan* plan) {
  static const char* args[kEnvMax + 1];
  static const char* env[kEnvMax + 1];
  for (uint32_t i = 0; i < plan->args.count; ++i) args[i] = text_at(plan, texts(plan, plan->args)[i]);
  for (uint32_t i = 0; i < plan->env.count; ++i) env[i] = text_at(plan, texts(plan, plan->env)[i]);
  args[plan->args.count] = nullptr;
  env[plan->env.count] = nullptr;
  const char* program = args[0];
  if (has_slash(program)) {
    const long result = sys(__NR_execve, arg(program), arg(args), arg(env));
    fail(Stage::exec, static_cast<int>(-result), program);
  }
  long answer = -ENOENT;
  Line<4096> file;
  for (const char* path = path_variable(plan); *program != 0 && next_candidate(path, program, file);) {
    const long result = sys(__NR_execve, arg(file.text), arg(args), arg(env));
    if (result != -ENOENT && result != -ENOTDIR) answer = result;
    if (result != -ENOENT && result != -ENOTDIR && result != -EACCES) break;
  }
  fail(Stage::exec, static_cast<int>(-answer), program);
}

/// Closes what is between the descriptors of `fds` (`count`, sorted here), from `first` on.
void close_others(int* fds, uint32_t count, unsigned first) {
  for (uint32_t i = 1; i < count; ++i) {
    for (uint32_t k = i; k > 0 && fds[k - 1] > fds[k]; --k) {
      const int other = fds[k];
      fds[k] = fds[k - 1];
      fds[k - 1] = other;
    }
  }
  for (uint32_t i = 0; i < count; ++i) {
    const auto fd = static_cast<unsigned>(fds[i]);
    if (fd > first) sys(__NR_close_range, first, fd - 1, 0);
    if (fd >= first) first = fd + 1;
  }
  sys(__NR_close_range, first, ~0u, 0);
}

int lift(int fd) {
  return fd < 0 ? fd
                : static_cast<int>(
                      check(sys(__NR_fcntl, fd, F_DUPFD_CLOEXEC, 16), Stage::exec, "duplicate descriptor"));
}

int g_preserved[orchestra::wire::kPreservedFdsMax];

/// Moves the descriptors that init needs to 0..5, keeps those for the program, closes all others.
InitFds keep_only(const Plan* plan, InitFds fds) {
  static int wanted[3 + kIdMappedMountsMax + orchestra::wire::kPreservedFdsMax];
  uint32_t count = 0;
  int* all[] = {&fds.input, &fds.output, &fds.error, &fds.report, &fds.container_pidfd};
  for (int*& fd : all) *fd = lift(*fd);
  Kept& ours = kept();
  ours.start = lift(ours.start);
  for (uint32_t i = 0; i < ours.tree_count; ++i) {
    ours.trees[i] = lift(ours.trees[i]);
    if (ours.trees[i] >= 0) wanted[count++] = ours.trees[i];
  }
  if (ours.root_count != 0) wanted[count++] = ours.root = lift(ours.root);
  const uint32_t preserved = fds.preserved < 0 ? 0 : plan->preserved_fds;
  for (uint32_t i = 0; i < preserved && i < orchestra::wire::kPreservedFdsMax; ++i)
    wanted[count++] = g_preserved[i] = lift(fds.preserved + static_cast<int>(i));
  for (int i = 0; i < 3; ++i) {
    if (*all[i] >= 0) sys(__NR_dup3, *all[i], i, 0);
  }
  if (fds.report >= 0) sys(__NR_dup3, fds.report, 3, O_CLOEXEC);
  if (fds.container_pidfd >= 0) sys(__NR_dup3, fds.container_pidfd, 4, O_CLOEXEC);
  if (ours.start >= 0) sys(__NR_dup3, ours.start, kStartFd, O_CLOEXEC);
  const unsigned first = static_cast<unsigned>(kStartFd) + (ours.start >= 0 ? 1 : 0);
  close_others(wanted, count, first);
  fds = {0, 1, 2, fds.report >= 0 ? 3 : -1, fds.container_pidfd >= 0 ? 4 : -1, fds.in_cgroup, fds.preserved};
  return fds;
}

/// --preserve-fds: the program finds them at 3, 4, ..; all else closes itself.
void place_preserved(const Plan* plan) {
  const int count = static_cast<int>(plan->preserved_fds);
  if (count != 0 && g_preserved[0] != 0) {
    if (g_report >= 0) g_report = static_cast<int>(sys(__NR_fcntl, g_report, F_DUPFD_CLOEXEC, 200));
    for (int i = 0; i < count; ++i)
      g_preserved[i] = static_cast<int>(sys(__NR_fcntl, g_preserved[i], F_DUPFD_CLOEXEC, 100));
    for (int i = 0; i < count; ++i) sys(__NR_dup3, g_preserved[i], 3 + i, 0);
    sys(__NR_close_range, 3 + count, ~0u, CLOSE_RANGE_CLOEXEC);
    return;
  }
  sys(__NR_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
}
}  // namespace

void fail(Stage stage, int error, const char* text) {
  ReportMessage message;
  message.kind = Report::failed;
  message.stage = stage;
  message.error = error;
  size_t n = 0;
  while (text[n] != 0 && n + 1 < sizeof message.text) message.text[n] = text[n], ++n;
  message.text[n] = 0;
  sys(__NR_sendto, g_report, arg(&message), sizeof message, MSG_NOSIGNAL_, 0, 0);
  exit_now(128);
}

long check(long result, Stage stage, const char* text) {
  if (result < 0) fail(stage, static_cast<int>(-result), text);
  return result;
}

int report_fd() { return g_report; }

void pause_for_hooks(const Plan* plan) {
  if ((plan->flags & kRuntimeHooks) == 0) return;
  send_report(Report::hooks);
  if (!wait_for_byte(g_report)) exit_now(128);
}

void run_init(const Plan* plan, InitFds fds) {
  unblock_signals();  // their dispositions are default in all that become an init
  g_report = fds.report;
  set_affinity(plan, plan->affinity);
  join_cgroups(plan, fds.in_cgroup);
  fds = keep_only(plan, fds);
  g_report = fds.report;
  const int label = open_label(plan);
  connect_listener(plan);
  sys(__NR_prctl, PR_SET_NAME, arg("orch-init"));
  sys(__NR_umask, plan->umask);

  set_oom_score(plan);
  join_namespaces(plan, fds);
  if ((plan->flags & kCgroupNamespace) != 0)
    check(sys(__NR_unshare, CLONE_NEWCGROUP), Stage::unshare, "cgroup");
  if ((plan->flags & kKeepSession) == 0) {
    sys(__NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);  // its absence (ENOSYS) loses nothing
  }
  check(sys(__NR_setsid), Stage::session, "setsid");
  set_hostname(plan);
  write_sysctls(plan);
  if ((plan->flags & kOwnRoot) != 0) make_own_root(plan);
  if ((plan->flags & kChroot) != 0) enter_plain_root(plan);
  if ((plan->flags & kTerminal) != 0 && (plan->flags & (kOwnRoot | kChroot)) == 0) open_terminal(plan, -1);
  set_limits(plan);
  set_placement(plan);
  if ((plan->flags & kCheckProgram) != 0) check_program(plan);
  if ((plan->flags & kJoinContainer) == 0) wait_for_start(plan);

  run_hooks(plan, plan->hooks_start_container);
  set_affinity(plan, plan->affinity_final);
  write_label(plan, label);
  if ((plan->flags & kSetCapabilities) != 0) drop_bounding_set(plan);
  if ((plan->flags & kNoNewPrivileges) == 0) load_seccomp(plan);
  enter_cwd(plan, false);
  if ((plan->flags & kSetCapabilities) != 0) sys(__NR_prctl, PR_SET_KEEPCAPS, 1);
  if ((plan->flags & kSetIds) != 0) set_ids(plan);
  if ((plan->flags & kSetCapabilities) != 0) set_capabilities(plan);
  if ((plan->flags & kNoNewPrivileges) != 0) {
    check(sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), Stage::no_new_privileges, "prctl");
  }
  enter_cwd(plan, true);
  place_preserved(plan);
  if ((plan->flags & kNoNewPrivileges) != 0) load_seccomp(plan);
  exec_program(plan);
}

}  // namespace orch
