// Spawn by clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD), twice, then exec of a sealed memory file.
//
// The fork is doubled before the exec, because exec resets the exit signal to SIGCHLD: a host that calls
// waitpid(-1) in another thread would steal our exit codes. The middle process has exit signal 0, which
// only __WALL sees. Everything the children touch is prepared before; between clone and exec only
// async-signal-safe calls are made, with all signals blocked, on stacks of their own.
#include "runtime/linux/spawn.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>

#include "runtime/domain.hpp"
#include "runtime/linux/shared_child.hpp"
#include "runtime/shim/embedded_shim.hpp"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

namespace orchestra::runtime {
namespace {

constexpr std::size_t kStackBytes = 64 << 10;
constexpr int kDescriptorsMax = 48;
constexpr int kBusyRetries = 7;  // 1, 2 .. 64 ms

Result<Fd> make_memory_program() {
  int fd =
      static_cast<int>(syscall(SYS_memfd_create, "orch-shim", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
  if (fd < 0 && errno == EINVAL) {
    fd = static_cast<int>(syscall(SYS_memfd_create, "orch-shim", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  }
  if (fd < 0) return system_error(kDomain, "memfd_create", "orch-shim", errno);
  Fd file(fd);
  ORC_TRY(write_all(file.get(), embedded_shim()));
  if (fchmod(file.get(), 0500) != 0) return system_error(kDomain, "fchmod", "orch-shim", errno);
  constexpr int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  if (fcntl(file.get(), F_ADD_SEALS, seals) != 0) return system_error(kDomain, "seal", "orch-shim", errno);
  return file;
}

/// vm.memfd_noexec=2: a file with the same bytes, compared before it is used.
Result<Fd> make_file_program(const std::string& directory) {
  ORC_TRY(make_directories(directory, 0700));
  const std::string path = directory + "/orch-shim";
  auto present = read_file(path, embedded_shim().size() + 1);
  if (!present || *present != embedded_shim()) ORC_TRY(replace_file(path, embedded_shim(), 0500, false));
  return open_file(path, O_RDONLY);
}

/// One memory file per process: copying the program for each start would cost more than the start.
Result<int> program_fd() {
  static std::mutex mutex;
  static Fd program;  // sealed bytes of our own, the same for every Runtime of the process
  std::lock_guard lock(mutex);
  if (!program) {
    auto made = make_memory_program();
    if (!made) return made.error();
    program = std::move(made).value();
  }
  return program.get();
}

/// Shared with the children through CLONE_VM: they write, the parent reads once they have gone on.
struct Birth {
  int program = -1;
  const char* args[3] = {"orch-shim", nullptr, nullptr};
  const char* env[1] = {nullptr};
  std::array<int, kDescriptorsMax> from{};
  int count = 0;
  char* inner_stack = nullptr;
  int cgroup = -1;                ///< folder of the v2 group to be born in
  const char* members = nullptr;  ///< its cgroup.procs, written when that was refused
  pid_t pid = 0;
  int error = 0;
};

/// clone3 on a stack of its own: the C library's clone knows no CLONE_INTO_CGROUP. The child runs
/// `call(argument)` and must not return. The pid, or -errno.
long clone3_call(clone_args* args, int (*call)(void*), void* argument) {
#if defined(__x86_64__)
  long result = SYS_clone3;
  register int (*callee)(void*) __asm__("r12") = call;
  register void* value __asm__("r13") = argument;
  __asm__ volatile(
      "syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\tmov %%r13, %%rdi\n\tcall *%%r12\n\t"
      "hlt\n1:"
      : "+a"(result)
      : "D"(args), "S"(sizeof *args), "r"(callee), "r"(value)
      : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long number __asm__("x8") = SYS_clone3;
  register long result __asm__("x0") = reinterpret_cast<long>(args);
  register unsigned long size __asm__("x1") = sizeof *args;
  register int (*callee)(void*) __asm__("x20") = call;
  register void* value __asm__("x21") = argument;
  __asm__ volatile("svc 0\n\tcbnz x0, 1f\n\tmov x29, #0\n\tmov x0, x21\n\tblr x20\n\tbrk #1\n1:"
                   : "+r"(result)
                   : "r"(number), "r"(size), "r"(callee), "r"(value)
                   : "memory");
  return result;
#else
  (void)args, (void)call, (void)argument;
  return -ENOSYS;
#endif
}

int exec_program(void* argument) {
  auto* birth = static_cast<Birth*>(argument);
  if (birth->members != nullptr) {
    const long members = syscall(SYS_openat, AT_FDCWD, birth->members, O_WRONLY | O_CLOEXEC);
    if (members < 0 || syscall(SYS_write, members, "0", 1) < 0) {
      birth->error = errno;
      end_child(127);
    }
  }
  for (int i = 0; i < birth->count; ++i) {
    if (syscall(SYS_dup3, birth->from[static_cast<std::size_t>(i)], i, 0) < 0) {
      birth->error = errno;
      end_child(127);
    }
  }
  syscall(SYS_close_range, birth->count, ~0u, CLOSE_RANGE_CLOEXEC);
  syscall(SYS_execveat, birth->program, "", birth->args, birth->env, AT_EMPTY_PATH);
  birth->error = errno;
  end_child(127);
}

int middle(void* argument) {
  auto* birth = static_cast<Birth*>(argument);
  long pid = -ENOSYS;
  if (birth->cgroup >= 0) {
    clone_args args{};
    args.flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP;
    args.stack = reinterpret_cast<std::uint64_t>(birth->inner_stack);
    args.stack_size = kStackBytes;
    args.cgroup = static_cast<std::uint64_t>(birth->cgroup);
    const char* members = birth->members;
    birth->members = nullptr;
    pid = clone3_call(&args, exec_program, birth);
    if (pid < 0) birth->members = members;
  }
  if (pid < 0) {
    pid = clone_child(exec_program, birth->inner_stack + kStackBytes, 0, birth);
    if (pid < 0) birth->error = errno;
  }
  birth->pid = static_cast<pid_t>(pid);
  end_child(0);
}

/// The descriptors, moved above the numbers they will get, so that dup3 never overwrites a source.
Result<std::vector<Fd>> lift(const SpawnPlan& plan, Fd& null) {
  std::vector<Fd> lifted;
  for (const int fd : plan.descriptors) {
    const int copy = fcntl(fd >= 0 ? fd : null.get(), F_DUPFD_CLOEXEC, kDescriptorsMax + 1);
    if (copy < 0) return system_error(kDomain, "dup", std::to_string(fd), errno);
    lifted.emplace_back(copy);
  }
  return lifted;
}

Result<Spawned> spawn_once(const SpawnPlan& plan, Birth& birth) {
  const ChildStack stacks(2 * kStackBytes);
  if (!stacks) return system_error(kDomain, "mmap", "stacks", errno);
  birth.inner_stack = stacks.bottom();
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int pidfd = -1;
  const int flags = CLONE_PIDFD | (plan.orphan ? 0 : SIGCHLD);
  const pid_t pid = clone_child(plan.orphan ? middle : exec_program, stacks.top(), flags, &birth, &pidfd);
  const int clone_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return system_error(kDomain, "clone", "orch-shim", clone_error);
  Spawned spawned{pid, Fd(pidfd)};
  if (plan.orphan || birth.error != 0) {
    siginfo_t info;
    while (waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | __WALL) < 0 && errno == EINTR) {
    }
    spawned.pidfd.reset();
    spawned.pid = birth.pid;
  }
  if (birth.error != 0) return system_error(kDomain, "exec", "orch-shim", birth.error);
  return spawned;
}
}  // namespace

Result<Spawned> spawn_embedded(const SpawnPlan& plan) {
  ORC_ASSIGN(Fd null, open_file("/dev/null", O_RDWR));
  ORC_ASSIGN(std::vector<Fd> lifted, lift(plan, null));
  ORC_ASSIGN(const int program, program_fd());
  Fd file;
  Birth birth;
  birth.program = program;
  birth.args[1] = plan.role.c_str();
  Fd cgroup;
  const std::string members = plan.cgroup + "/cgroup.procs";
  if (!plan.cgroup.empty()) {
    ORC_ASSIGN(cgroup, open_file(plan.cgroup, O_PATH | O_DIRECTORY));
    birth.cgroup = cgroup.get();
  }
  for (const Fd& fd : lifted) birth.from[static_cast<std::size_t>(birth.count++)] = fd.get();
  for (int attempt = 0;; ++attempt) {
    birth.error = 0;
    birth.members = plan.cgroup.empty() ? nullptr : members.c_str();
    auto spawned = spawn_once(plan, birth);
    if (spawned || birth.error == 0) return spawned;
    if (birth.error == ETXTBSY && attempt < kBusyRetries) {
      poll(nullptr, 0, 1 << attempt);
    } else if (birth.error == EACCES && !file && !plan.fallback_directory.empty()) {
      ORC_ASSIGN(file, make_file_program(plan.fallback_directory));
      birth.program = file.get();
    } else {
      return spawned;
    }
  }
}

}  // namespace orchestra::runtime
