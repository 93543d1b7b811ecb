// containerd's default profile (contrib/seccomp/seccomp_default.go), as a list of names.
//
// Everything not named answers EPERM. Some calls are allowed only with a capability that gives them a
// meaning; clone without CAP_SYS_ADMIN only without new namespaces; personality only with known values.
#include <sched.h>

#include <algorithm>

#include "runtime/linux/seccomp.hpp"
#include "runtime/spec/capabilities.hpp"

namespace orchestra::runtime {
namespace {

constexpr const char* kAllowed =
    "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 "
    "clock_adjtime "
    "clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep "
    "clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create "
    "epoll_create1 "
    "epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve "
    "execveat exit "
    "exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat "
    "fchmodat2 "
    "fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr "
    "fstat "
    "fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 "
    "futex_wait "
    "futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 "
    "getgid "
    "getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority "
    "getrandom "
    "getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname "
    "getsockopt "
    "get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init "
    "inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents "
    "io_pgetevents_time64 "
    "ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset "
    "landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat "
    "llistxattr "
    "_llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create "
    "memfd_secret "
    "mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify "
    "mq_open "
    "mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl "
    "msgget "
    "msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open "
    "openat "
    "openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll "
    "ppoll_time64 "
    "prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev "
    "pwritev2 read "
    "readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages "
    "removexattr "
    "removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending "
    "rt_sigprocmask "
    "rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo "
    "sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min "
    "sched_getscheduler "
    "sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
    "sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send "
    "sendfile "
    "sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups "
    "setgroups32 "
    "setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid "
    "setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 "
    "setxattr "
    "setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn "
    "socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync "
    "sync_file_range "
    "syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 "
    "timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
    "timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime "
    "utimensat "
    "utimensat_time64 utimes uretprobe vfork vmsplice wait4 waitid waitpid write writev "
    "arch_prctl modify_ldt process_vm_readv process_vm_writev ptrace";

struct Conditional {
  const char* capability;
  const char* names;
};
constexpr Conditional kConditional[] = {
    {"DAC_READ_SEARCH", "open_by_handle_at"},
    {"SYS_ADMIN",
     "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
     "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl "
     "quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"},
    {"SYS_BOOT", "reboot"},
    {"SYS_CHROOT", "chroot"},
    {"SYS_MODULE", "delete_module init_module finit_module"},
    {"SYS_PACCT", "acct"},
    {"SYS_PTRACE", "kcmp pidfd_getfd process_madvise"},
    {"SYS_RAWIO", "iopl ioperm"},
    {"SYS_TIME", "settimeofday stime clock_settime clock_settime64"},
    {"SYS_TTY_CONFIG", "vhangup"},
    {"SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    {"SYSLOG", "syslog"},
    {"BPF", "bpf"},
    {"PERFMON", "perf_event_open"},
};

std::vector<std::string> words(const char* text) {
  std::vector<std::string> out;
  std::string word;
  for (; *text != '\0'; ++text) {
    if (*text != ' ') {
      word += *text;
    } else if (!word.empty()) {
      out.push_back(std::exchange(word, {}));
    }
  }
  if (!word.empty()) out.push_back(word);
  return out;
}

bool has(const ContainerSpec::Process& process, const char* name) {
  if (!process.capabilities) return false;
  const auto wanted = capability_number(name);
  const auto& bounding = process.capabilities->bounding;
  return std::any_of(bounding.begin(), bounding.end(),
                     [&](const std::string& other) { return capability_number(other) == wanted; });
}
}  // namespace

ContainerSpec::Seccomp default_seccomp_profile(const ContainerSpec::Process& process) {
  ContainerSpec::Seccomp profile;
  profile.default_action = "SCMP_ACT_ERRNO";
  constexpr const char* allow = "SCMP_ACT_ALLOW";
  profile.syscalls.push_back({words(kAllowed), allow, {}, {}});
  // AF_VSOCK (40) would reach the hypervisor: socket is allowed for every other family.
  profile.syscalls.push_back({{"socket"}, allow, {}, {{0, 40, 0, "SCMP_CMP_NE"}}});
  for (const std::uint64_t value : {0x0ull, 0x8ull, 0x20000ull, 0x20008ull, 0xffffffffull}) {
    profile.syscalls.push_back({{"personality"}, allow, {}, {{0, value, 0, "SCMP_CMP_EQ"}}});
  }
  for (const Conditional& entry : kConditional) {
    if (has(process, entry.capability)) profile.syscalls.push_back({words(entry.names), allow, {}, {}});
  }
  if (!has(process, "SYS_ADMIN")) {
    constexpr std::uint64_t namespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                                         CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
    profile.syscalls.push_back({{"clone"}, allow, {}, {{0, namespaces, 0, "SCMP_CMP_MASKED_EQ"}}});
    // Its flags lie in memory, where a filter cannot look: ENOSYS makes libc fall back to clone.
    profile.syscalls.push_back({{"clone3"}, "SCMP_ACT_ERRNO", 38, {}});
  }
  return profile;
}

}  // namespace orchestra::runtime
