#include "runtime/linux/try_in_child.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/linux/shared_child.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kStackBytes = 64 << 10;
struct Attempt {
  int (*call)(long);
  long argument;
  int answer = EAGAIN;
};
int run(void* argument) {
  auto* attempt = static_cast<Attempt*>(argument);
  attempt->answer = attempt->call(attempt->argument);
  end_child(0);
}
}  // namespace

int try_in_child(int (*call)(long), long argument) {
  const ChildStack stack(kStackBytes);
  if (!stack) return ENOMEM;
  Attempt attempt{call, argument};
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int pidfd = -1;
  // Exit signal 0: neither SIGCHLD nor anybody's waitpid(-1).
  const pid_t pid = clone_child(run, stack.top(), CLONE_PIDFD, &attempt, &pidfd);
  const int clone_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid > 0) {
    siginfo_t info;
    while (waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | __WALL) < 0 && errno == EINTR) {
    }
    close(pidfd);
  }
  return pid < 0 ? clone_error : attempt.answer;
}

}  // namespace orchestra::runtime
