// Roles `oci` and `oci-wait`: one process of a container for `orchestra oci`, without a shim.
//
// `oci` clones the init and ends, so that init goes to the caller's subreaper (conmon, the containerd
// shim), which reaps the exit code. `oci-wait` (run, exec in the foreground) stays the parent and ends
// with the code. The plan comes as a memory file; what init has to say goes to the report socket.
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "init_steps.hpp"
#include "roles.hpp"

namespace orch {

using namespace orchestra::wire;

namespace {
int give_up(Stage stage, long error, const char* text) {
  ReportMessage message;
  message.kind = Report::failed;
  message.stage = stage;
  message.error = static_cast<int>(-error);
  size_t n = 0;
  while (text[n] != 0 && n + 1 < sizeof message.text) message.text[n] = text[n], ++n;
  message.text[n] = 0;
  sys(__NR_sendto, kOciReportFd, arg(&message), sizeof message, MSG_NOSIGNAL_, 0, 0);
  return 128;
}

const Plan* map_plan() {
  struct stat info;
  if (sys(__NR_newfstatat, kOciPlanFd, arg(""), arg(&info), AT_EMPTY_PATH) < 0) return nullptr;
  const long at = sys(__NR_mmap, 0, info.st_size, PROT_READ, MAP_PRIVATE, kOciPlanFd, 0);
  if (at < 0 && at >= -4095) return nullptr;
  const auto* block = reinterpret_cast<const char*>(at);
  return plan_is_sound(block, static_cast<size_t>(info.st_size)) ? reinterpret_cast<const Plan*>(block)
                                                                 : nullptr;
}

/// What has to be joined before the clone: a pid namespace (it is for children), and beside a new user
/// namespace all others, as rights over them are needed that the child will not have.
long join_before(const Plan* plan, const char*& which) {
  if ((plan->flags & kJoinContainer) != 0) return sys(__NR_setns, kOciPidfdFd, CLONE_NEWPID);
  for (uint32_t i = 0; i < plan->joins.count; ++i) {
    const JoinStep& step = table_at<JoinStep>(plan, plan->joins)[i];
    if (step.clone_flag != CLONE_NEWPID && plan->uid_maps.count == 0) continue;
    which = text_at(plan, step.path);
    const long fd = open_at(AT_FDCWD, which, O_RDONLY);
    if (fd < 0) return fd;
    const long result = sys(__NR_setns, fd, step.clone_flag);
    close_fd(static_cast<int>(fd));
    if (result < 0) return result;
  }
  return 0;
}
}  // namespace

int run_oci(const char* role) {
  reset_signals();
  const bool wait = equal(role, "oci-wait");
  const Plan* plan = map_plan();
  if (plan == nullptr) return give_up(Stage::plan, -EINVAL, "the plan is not sound");
  const char* which = "pid namespace";
  const long joined = join_before(plan, which);
  if (joined < 0) return give_up(Stage::join_namespace, joined, which);
  const bool inside = (plan->flags & kJoinContainer) != 0;
  const uint64_t flags = inside ? 0 : plan->clone_flags;
  int pidfd = -1;
  bool in_cgroup = false;
  Refusal why;
  const long pid = clone_container(plan, flags, &pidfd, in_cgroup, why);
  if (pid < 0) return give_up(why.stage, pid, why.text.text);
  if (pid == 0) {
    const bool terminal = (plan->flags & kTerminal) != 0;
    run_init(plan,
             terminal
                 ? InitFds{-1, -1, 2, kOciReportFd, inside ? kOciPidfdFd : -1, in_cgroup, kOciPreservedFd}
                 : InitFds{0, 1, 2, kOciReportFd, inside ? kOciPidfdFd : -1, in_cgroup, kOciPreservedFd});
  }
  ReportMessage message;
  message.kind = Report::process;
  message.error = static_cast<int>(pid);
  message.text[0] = 0;
  sys(__NR_sendto, kOciReportFd, arg(&message), sizeof message, MSG_NOSIGNAL_, 0, 0);
  if (!wait) return 0;
  close_fd(kOciReportFd);
  for (int fd = 0; fd < 3; ++fd) close_fd(fd);
  int status = 0;
  while (sys(__NR_wait4, pid, arg(&status), 0, 0) == -EINTR) {
  }
  return (status & 0x7f) != 0 ? 128 + (status & 0x7f) : status >> 8 & 0xff;
}

}  // namespace orch
