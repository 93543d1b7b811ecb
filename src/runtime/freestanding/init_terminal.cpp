// The pseudo terminal of a container, and the hooks that run inside its namespaces.
//
// A terminal is opened from the container's own devpts and its other end by TIOCGPTPEER: no path is
// looked up in the container (CVE-2025-52565). The master goes to the parent by SCM_RIGHTS.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "init_steps.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
constexpr unsigned kUnlock = 0x40045431, kPeer = 0x5441, kSetSize = 0x5414,
                   kControl = 0x540e;   // TIOCSPTLCK ..
constexpr unsigned kTerminalGroup = 5;  // tty on every distribution, and devpts' gid= option

void send_descriptor(int socket, int fd) {
  ReportMessage message;
  message.kind = Report::terminal;
  iovec piece{&message, sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  zero(control, sizeof control);
  msghdr header;
  zero(&header, sizeof header);
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* extra = CMSG_FIRSTHDR(&header);
  extra->cmsg_level = SOL_SOCKET;
  extra->cmsg_type = SCM_RIGHTS;
  extra->cmsg_len = CMSG_LEN(sizeof(int));
  copy(CMSG_DATA(extra), &fd, sizeof fd);
  check(sys(__NR_sendmsg, socket, arg(&header), MSG_NOSIGNAL_), Stage::terminal, "send the terminal");
}

void bind_console(int root, int peer) {
  open_how how;
  zero(&how, sizeof how);
  how.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const long folder =
      check(sys(__NR_openat2, root, arg("dev"), arg(&how), sizeof how), Stage::terminal, "/dev");
  const long made = sys(__NR_mknodat, folder, arg("console"), S_IFREG | 0600, 0);
  if (made != -EEXIST) check(made, Stage::terminal, "/dev/console");
  const long target = check(sys(__NR_openat, folder, arg("console"), O_PATH | O_NOFOLLOW | O_CLOEXEC),
                            Stage::terminal, "/dev/console");
  const long tree =
      check(sys(__NR_open_tree, peer, arg(""), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH),
            Stage::terminal, "open_tree console");
  check(
      sys(__NR_move_mount, tree, arg(""), target, arg(""), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
      Stage::terminal, "/dev/console");
  close_fd(static_cast<int>(tree));
  close_fd(static_cast<int>(target));
  close_fd(static_cast<int>(folder));
}
}  // namespace

void open_terminal(const Plan* plan, int root) {
  long master;
  if (root >= 0) {
    open_how how;
    zero(&how, sizeof how);
    how.flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    master = check(sys(__NR_openat2, root, arg("dev/pts/ptmx"), arg(&how), sizeof how), Stage::terminal,
                   "/dev/pts/ptmx");
  } else {
    master = open_at(AT_FDCWD, "/dev/pts/ptmx", O_RDWR | O_NOCTTY);
    if (master < 0)
      master = check(open_at(AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY), Stage::terminal, "/dev/ptmx");
  }
  const int unlocked = 0;
  check(sys(__NR_ioctl, master, kUnlock, arg(&unlocked)), Stage::terminal, "TIOCSPTLCK");
  const long peer =
      check(sys(__NR_ioctl, master, kPeer, O_RDWR | O_NOCTTY | O_CLOEXEC), Stage::terminal, "TIOCGPTPEER");
  if (plan->columns != 0) {
    const uint16_t size[4] = {plan->rows, plan->columns, 0, 0};
    sys(__NR_ioctl, master, kSetSize, arg(size));
  }
  sys(__NR_fchown, peer, plan->uid, kTerminalGroup);  // a root without CAP_CHOWN keeps its own terminal
  if (root >= 0) bind_console(root, static_cast<int>(peer));
  check(sys(__NR_ioctl, peer, kControl, 0), Stage::terminal, "TIOCSCTTY");
  for (int i = 0; i < 3; ++i) check(sys(__NR_dup3, peer, i, 0), Stage::terminal, "dup3");
  send_descriptor(report_fd(), static_cast<int>(master));
  close_fd(static_cast<int>(master));
  close_fd(static_cast<int>(peer));
}

int run_hook(const Plan* plan, const HookStep& hook, Line<512>& why) {
  const char* path = text_at(plan, hook.path);
  why.add(path);
  int ends[2];
  if (sys(__NR_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, arg(ends)) < 0) return 1;
  static const char* args[kEnvMax + 1];
  static const char* env[kEnvMax + 1];
  for (uint32_t i = 0; i < hook.args.count; ++i) args[i] = text_at(plan, table_at<Text>(plan, hook.args)[i]);
  for (uint32_t i = 0; i < hook.env.count; ++i) env[i] = text_at(plan, table_at<Text>(plan, hook.env)[i]);
  args[hook.args.count] = nullptr;
  env[hook.env.count] = nullptr;
  if (hook.args.count == 0) args[0] = path, args[1] = nullptr;
  int pidfd = -1;
  const long pid = clone_process(0, SIGCHLD, &pidfd);
  if (pid == 0) {
    sys(__NR_dup3, ends[1], 0, 0);
    sys(__NR_execve, arg(path), arg(args), arg(env));
    exit_now(127);
  }
  close_fd(ends[1]);
  if (pid < 0) {
    close_fd(ends[0]);
    why.add(": cannot start");
    return 1;
  }
  const char* state = text_at(plan, plan->hook_state);
  sys(__NR_sendto, ends[0], arg(state), static_cast<long>(length(state)), MSG_NOSIGNAL_, 0, 0);
  close_fd(ends[0]);
  pollfd wait{pidfd, POLLIN, 0};
  timespec limit{hook.timeout_ms / 1000, static_cast<long>(hook.timeout_ms % 1000) * 1000000};
  const long ready = sys(__NR_ppoll, arg(&wait), 1, hook.timeout_ms != 0 ? arg(&limit) : 0, 0, 8);
  if (ready == 0) sys(__NR_kill, pid, SIGKILL);
  int status = 0;
  while (sys(__NR_wait4, pid, arg(&status), 0, 0) == -EINTR) {
  }
  close_fd(pidfd);
  if (ready == 0) {
    why.add(": no end within its timeout");
    return 1;
  }
  if (status == 0) return 0;
  if ((status & 0x7f) != 0) {
    why.add(": signal ").add(static_cast<long>(status & 0x7f));
  } else {
    why.add(": exit status ").add(static_cast<long>(status >> 8 & 0xff));
  }
  return 1;
}

void run_hooks(const Plan* plan, Table hooks) {
  for (uint32_t i = 0; i < hooks.count; ++i) {
    Line<512> why;
    if (run_hook(plan, table_at<HookStep>(plan, hooks)[i], why) != 0) fail(Stage::hook, ECANCELED, why.text);
  }
}

}  // namespace orch
