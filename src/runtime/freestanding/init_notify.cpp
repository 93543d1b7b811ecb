// A seccomp filter with a listener: somebody outside decides about some system calls (seccomp_unotify(2)).
//
// The listener's descriptor exists only in the process that loaded the filter, and that process may not be
// able to hand it over: the filter may stop sendmsg itself. So a helper, forked before, stays outside of the
// filter. It shares the table of descriptors (CLONE_FILES), so that it has the listener at once, whatever
// rights are left (pidfd_getfd would need those of a tracer), sends it with the one message that runtime-spec
// asks for, and closes it for both. The two meet in a shared page; from the load on this process makes no
// system call until the helper is done.
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "init_steps.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
constexpr int64_t kHandOverNs = 10000000000;
constexpr uint64_t kSpinsMax = 4000000000ull;  ///< far above kHandOverNs: only a killed helper gets there
int g_socket = -1;
long g_pid = 0;

struct Shared {
  volatile int number;  ///< of the listener, plus one
  volatile int done;    ///< 1, or -errno
};

long send_listener(const Plan* plan, int listener) {
  Line<32> pid;
  pid.add(g_pid);
  iovec pieces[5];
  const char* texts[5] = {text_at(plan, plan->notify_head), pid.text, text_at(plan, plan->notify_middle),
                          pid.text, text_at(plan, plan->notify_tail)};
  for (int i = 0; i < 5; ++i) pieces[i] = {const_cast<char*>(texts[i]), length(texts[i])};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  zero(control, sizeof control);
  msghdr header;
  zero(&header, sizeof header);
  header.msg_iov = pieces;
  header.msg_iovlen = 5;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* extra = CMSG_FIRSTHDR(&header);
  extra->cmsg_level = SOL_SOCKET;
  extra->cmsg_type = SCM_RIGHTS;
  extra->cmsg_len = CMSG_LEN(sizeof(int));
  copy(CMSG_DATA(extra), &listener, sizeof listener);
  return sys(__NR_sendmsg, g_socket, arg(&header), MSG_NOSIGNAL_);
}

[[noreturn]] void run_helper(const Plan* plan, Shared* shared) {
  const int64_t until = steady_ns() + kHandOverNs;
  while (shared->number == 0 && steady_ns() < until) {
    const timespec pause{0, 100000};
    sys(__NR_nanosleep, arg(&pause), 0);
  }
  const int listener = shared->number - 1;
  const long sent = listener < 0 ? -ETIMEDOUT : send_listener(plan, listener);
  if (listener >= 0) close_fd(listener);
  close_fd(g_socket);
  shared->done = sent < 0 ? static_cast<int>(sent) : 1;
  exit_now(0);
}
}  // namespace

void connect_listener(const Plan* plan) {
  if (plan->notify_socket == 0) return;
  const char* path = text_at(plan, plan->notify_socket);
  sockaddr_un address;
  zero(&address, sizeof address);
  address.sun_family = AF_UNIX;
  if (length(path) >= sizeof address.sun_path) fail(Stage::seccomp, ENAMETOOLONG, path);
  copy(address.sun_path, path, length(path));
  g_socket = static_cast<int>(
      check(sys(__NR_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), Stage::seccomp, "socket"));
  check(sys(__NR_connect, g_socket, arg(&address), sizeof address), Stage::seccomp, path);
  char text[24];
  const long n = check(sys(__NR_readlinkat, AT_FDCWD, arg("/proc/self"), arg(text), sizeof text - 1),
                       Stage::seccomp, "/proc/self");
  for (long i = 0; i < n; ++i) g_pid = g_pid * 10 + (text[i] - '0');
}

void load_with_listener(const Plan* plan) {
  const long page = sys(__NR_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page < 0 && page >= -4095) fail(Stage::seccomp, static_cast<int>(-page), "mmap");
  auto* shared = reinterpret_cast<Shared*>(page);
  shared->number = 0;
  shared->done = 0;
  int pidfd = -1;
  const long helper = check(clone_process(CLONE_FILES, SIGCHLD, &pidfd), Stage::seccomp, "clone");
  if (helper == 0) run_helper(plan, shared);
  close_fd(pidfd);
  struct {
    unsigned short size;
    const void* filter;
  } program{static_cast<unsigned short>(plan->seccomp.count), table_at<char>(plan, plan->seccomp)};
  const long listener = sys(__NR_seccomp, SECCOMP_SET_MODE_FILTER, plan->seccomp_flags, arg(&program));
  if (listener < 0) {
    sys(__NR_kill, helper, SIGKILL);
    fail(Stage::seccomp, static_cast<int>(-listener), "load filter with a listener");
  }
  shared->number = static_cast<int>(listener) + 1;
  for (uint64_t spins = 0; shared->done == 0 && spins < kSpinsMax; ++spins) {
#if defined(__x86_64__)
    __asm__ volatile("pause");
#else
    __asm__ volatile("yield");
#endif
  }
  int status;
  sys(__NR_wait4, helper, arg(&status), 0, 0);
  if (shared->done != 1)
    fail(Stage::seccomp, shared->done < 0 ? -shared->done : ETIMEDOUT, "hand over the listener");
}

}  // namespace orch
