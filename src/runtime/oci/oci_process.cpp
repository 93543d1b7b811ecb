#include "runtime/oci/oci_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/domain.hpp"
#include "runtime/shim/shim_client.hpp"
#include "runtime/wire/protocol.hpp"

namespace orchestra::runtime {
namespace {

Result<wire::ReportMessage> receive_report(int socket, Fd& descriptor, bool& ended) {
  wire::ReportMessage message;
  while (true) {
    iovec piece{&message, sizeof message};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t n = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(kDomain, "recvmsg", "report of init", errno);
    ended = n == 0;
    if (cmsghdr* extra = CMSG_FIRSTHDR(&header);
        n > 0 && extra != nullptr && extra->cmsg_type == SCM_RIGHTS) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(extra), sizeof fd);
      descriptor = Fd(fd);
    }
    message.text[sizeof message.text - 1] = '\0';
    return message;
  }
}

/// conmon and the containerd shim take the descriptor with any payload; its name is customary.
Result<void> send_to_socket(const std::string& path, const Fd& sent, std::string name, const char* option) {
  const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(Error::invalid, kDomain, std::string(option) + " " + path + ": the path is too long");
  path.copy(address.sun_path, path.size());
  if (!socket || connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return system_error(kDomain, "connect", path, errno);
  }
  iovec piece{name.data(), name.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* extra = CMSG_FIRSTHDR(&header);
  extra->cmsg_level = SOL_SOCKET;
  extra->cmsg_type = SCM_RIGHTS;
  extra->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = sent.get();
  std::memcpy(CMSG_DATA(extra), &fd, sizeof fd);
  if (sendmsg(socket.get(), &header, MSG_NOSIGNAL) < 0) return system_error(kDomain, "sendmsg", path, errno);
  return {};
}

Error start_error(const wire::ReportMessage& message) {
  // Callers match these words.
  if (message.stage == wire::Stage::exec && message.error == ENOENT) {
    const std::string program = message.text;
    const bool path = program.find('/') != std::string::npos;
    return Error(Error::not_found, kDomain,
                 "exec \"" + program +
                     "\": " + (path ? "no such file or directory" : "executable file not found in $PATH"));
  }
  if (message.stage == wire::Stage::exec && message.error == EACCES) {
    return Error(Error::denied, kDomain, "exec \"" + std::string(message.text) + "\": permission denied");
  }
  return failure_error(message, "container");
}
}  // namespace

int wait_for_child(const Spawned& child) {
  siginfo_t info{};
  while (waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED) < 0 && errno == EINTR) {
  }
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

Result<OciProcess> make_oci_process(const OciProcessRequest& request) {
  Fd plan(memfd_create("orchestra-plan", MFD_CLOEXEC));
  if (!plan) return system_error(kDomain, "memfd_create", "plan", errno);
  ORC_TRY(write_all(plan.get(), request.plan));
  ORC_ASSIGN(auto report, make_socket_pair());
  SpawnPlan spawn;
  spawn.role = request.wait ? "oci-wait" : "oci";
  spawn.orphan = false;
  spawn.descriptors = {request.input, request.output, request.error, plan.get(), report.second.get()};
  spawn.descriptors.push_back(request.container_pidfd);
  for (int fd = 3; fd < 3 + request.preserved_fds; ++fd) spawn.descriptors.push_back(fd);
  OciProcess process;
  ORC_ASSIGN(process.parent, spawn_embedded(spawn));
  report.second.reset();
  const bool exec = request.container_pidfd >= 0;
  // Init and its parent write to the same socket, and on a busy machine init may be ready before its parent
  // has told the pid: nothing is done with a process whose pid is not known (0 is this whole process group).
  bool ready = false, failed = false, created = false, hooks_wait = false;
  Error failure(Error::internal, kDomain, "the container's init ended before it was ready");
  while (!ready && !failed) {
    bool ended = false;
    Fd descriptor;
    ORC_ASSIGN(const auto message, receive_report(report.first.get(), descriptor, ended));
    if (ended) {
      // For an exec the end of the socket says that the program runs; a create says so itself.
      ready = exec && process.pid != 0;
      failed = !ready;
    } else if (message.kind == wire::Report::process) {
      process.pid = message.error;
    } else if (message.kind == wire::Report::terminal) {
      process.terminal = std::move(descriptor);
    } else if (message.kind == wire::Report::hooks) {
      hooks_wait = true;
    } else if (message.kind == wire::Report::created) {
      created = true;
    } else {
      failure = start_error(message);
      failed = true;
    }
    if (hooks_wait && process.pid != 0 && !failed) {
      hooks_wait = false;
      auto hooked = request.runtime_hooks ? request.runtime_hooks(process.pid) : Result<void>();
      if (!hooked) {
        failure = hooked.error();
        failed = true;
      }
      const char go = 1;
      if (hooked) (void)!send(report.first.get(), &go, 1, MSG_NOSIGNAL);
    }
    if (created && process.pid != 0) ready = true;
  }
  report.first.reset();
  const auto hand_over = [&](const std::string& socket, const Fd& fd, const char* name, const char* option) {
    auto sent = send_to_socket(socket, fd, name, option);
    if (sent) return;
    failure = sent.error();
    failed = true;
  };
  if (!failed && process.terminal && !request.console_socket.empty()) {
    hand_over(request.console_socket, process.terminal, "/dev/ptmx", "--console-socket");
    process.terminal.reset();
  }
  if (!failed && !request.pidfd_socket.empty()) {
    if (auto pidfd = open_pidfd(process.pid)) {
      hand_over(request.pidfd_socket, *pidfd, "pidfd", "--pidfd-socket");
    } else {
      failure = pidfd.error();
      failed = true;
    }
  }
  if (failed) {
    if (process.pid > 0) kill(process.pid, SIGKILL);
    wait_for_child(process.parent);
    return failure;
  }
  if (!request.wait) wait_for_child(process.parent);
  return process;
}

Result<void> run_runtime_hooks(const std::vector<ContainerSpec::Hook>& hooks, const std::string& state,
                               const char* kind) {
  for (const auto& hook : hooks) {
    const auto failed = [&](const std::string& why) {
      return Error(Error::invalid, kDomain, std::string(kind) + " hook " + hook.path + ": " + why);
    };
    std::vector<char*> args, env;
    if (hook.args.empty()) args.push_back(const_cast<char*>(hook.path.c_str()));
    for (const auto& value : hook.args) args.push_back(const_cast<char*>(value.c_str()));
    for (const auto& value : hook.env) env.push_back(const_cast<char*>(value.c_str()));
    args.push_back(nullptr);
    env.push_back(nullptr);
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      return system_error(kDomain, "socketpair", hook.path, errno);
    const Fd read_end(ends[0]);
    Fd write_end(ends[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, read_end.get(), 0);
    pid_t pid = 0;
    const int spawned = posix_spawn(&pid, hook.path.c_str(), &actions, nullptr, args.data(), env.data());
    posix_spawn_file_actions_destroy(&actions);
    if (spawned != 0) return system_error(kDomain, "start hook", hook.path, spawned);
    (void)!send(write_end.get(), state.data(), state.size(),
                MSG_NOSIGNAL);  // a hook that does not read it is fine
    write_end.reset();
    ORC_ASSIGN(const Fd pidfd, open_pidfd(pid));
    pollfd wait{pidfd.get(), POLLIN, 0};
    const int ready = poll(&wait, 1, hook.timeout.value_or(30) * 1000);
    if (ready == 0) kill(pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (ready == 0) return failed("did not end within " + std::to_string(hook.timeout.value_or(30)) + " s");
    if (WIFSIGNALED(status)) return failed("was ended by signal " + std::to_string(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0) return failed("exit status " + std::to_string(WEXITSTATUS(status)));
  }
  return {};
}

}  // namespace orchestra::runtime
