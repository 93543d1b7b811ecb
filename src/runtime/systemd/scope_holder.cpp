#include "runtime/systemd/scope_holder.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/linux/shared_child.hpp"

namespace orchestra::runtime {

Result<std::unique_ptr<ScopeHolder>> ScopeHolder::start() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return system_error("runtime", "pipe", "scope", errno);
  std::unique_ptr<ScopeHolder> made(new ScopeHolder);
  const Fd read_end(ends[0]);
  made->alive_ = Fd(ends[1]);
  made->pid_ = fork();
  if (made->pid_ < 0) return system_error("runtime", "fork", "scope", errno);
  if (made->pid_ == 0) {
    close(ends[1]);
    char byte;
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR) {
    }
    end_child(0);
  }
  return made;
}

ScopeHolder::~ScopeHolder() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace orchestra::runtime
