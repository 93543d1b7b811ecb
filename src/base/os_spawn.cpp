// Spawner on posix_spawn and pidfds: the child's end is read from its pidfd, so the host's SIGCHLD and its
// other children are none of our business. One worker thread per running program.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fd.hpp"
#include "base/http_client.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"

extern char** environ;

namespace orchestra {
namespace {

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/// Bytes of one pipe up to a limit; what is beyond is read and dropped, so that the child goes on.
void take(Fd& pipe, std::string& into, std::size_t bytes_max, bool& truncated) {
  char buffer[16 << 10];
  const ssize_t got = ::read(pipe.get(), buffer, sizeof buffer);
  if (got <= 0) {
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    pipe.reset();
    return;
  }
  const std::size_t room = bytes_max - std::min(into.size(), bytes_max);
  into.append(buffer, std::min(room, static_cast<std::size_t>(got)));
  truncated = truncated || static_cast<std::size_t>(got) > room;
}

class PosixSpawner final : public Spawner {
 public:
  explicit PosixSpawner(Engine& engine) : engine_(engine) {}
  Pending<SpawnResult> run(SpawnRequest request) override {
    return engine_.run_blocking([this, request = std::move(request)] { return run_now(request); });
  }

 private:
  Result<SpawnResult> run_now(const SpawnRequest& request) {
    if (request.args.empty() || request.args[0].empty())
      return Error(Error::invalid, "spawn", "no program was named");
    ORC_ASSIGN(auto input, make_pipe());
    ORC_ASSIGN(auto output, make_pipe());
    ORC_ASSIGN(auto errors, make_pipe());
    ORC_ASSIGN(const pid_t pid, start(request, input.first, output.second, errors.second));
    input.first.reset();
    output.second.reset();
    errors.second.reset();
    auto pidfd = open_pidfd(pid);
    auto result = pidfd ? attend(request, *pidfd, input.second, output.first, errors.first)
                        : Result<SpawnResult>(pidfd.error());
    // Ours to reap, whatever happened; only this pid.
    if (!result) ::kill(pid, SIGKILL);
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) != 0 && errno == EINTR) {
    }
    if (result) result->exit_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    return result;
  }

  static Result<pid_t> start(const SpawnRequest& request, const Fd& input, const Fd& output,
                             const Fd& errors) {
    std::vector<char*> args, env;
    for (const std::string& one : request.args) args.push_back(const_cast<char*>(one.c_str()));
    args.push_back(nullptr);
    for (const std::string& one : request.env) env.push_back(const_cast<char*>(one.c_str()));
    env.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input.get(), 0);
    posix_spawn_file_actions_adddup2(&actions, output.get(), 1);
    posix_spawn_file_actions_adddup2(&actions, errors.get(), 2);
    if (!request.working_directory.empty())
      posix_spawn_file_actions_addchdir_np(&actions, request.working_directory.c_str());
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t pid = -1;
    const int failed = ::posix_spawnp(&pid, args[0], &actions, &attributes, args.data(),
                                      request.env.empty() ? environ : env.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (failed != 0) return system_error("spawn", "posix_spawn", request.args[0], failed);
    return pid;
  }

  /// Feeds and reads until the child has ended and its pipes are closed or quiet.
  Result<SpawnResult> attend(const SpawnRequest& request, const Fd& pidfd, Fd& input, Fd& output,
                             Fd& errors) {
    SpawnResult result;
    std::size_t sent = 0;
    if (request.input.empty()) input.reset();
    if (input) ::fcntl(input.get(), F_SETFL, O_NONBLOCK);
    const std::int64_t until = engine_.clock().now().steady_ns + request.deadline.count();
    bool ended = false;
    while (true) {
      const std::int64_t left_ms = (until - engine_.clock().now().steady_ns) / 1'000'000;
      if (left_ms <= 0) {
        return Error(Error::deadline_exceeded, "spawn",
                     request.args[0] + " did not end in its time and was killed");
      }
      pollfd waits[4] = {{ended ? -1 : pidfd.get(), POLLIN, 0},
                         {output ? output.get() : -1, POLLIN, 0},
                         {errors ? errors.get() : -1, POLLIN, 0},
                         {input ? input.get() : -1, POLLOUT, 0}};
      const int timeout = ended ? 0 : static_cast<int>(std::min<std::int64_t>(left_ms, 60'000));
      const int ready = ::poll(waits, 4, timeout);
      if (ready < 0 && errno != EINTR) return system_error("spawn", "poll", request.args[0], errno);
      if (ready <= 0) {
        if (ended) return result;  // a grandchild may keep the pipes: what is quiet now is not ours
        continue;
      }
      if (waits[1].revents != 0) take(output, result.output, request.output_bytes_max, result.truncated);
      if (waits[2].revents != 0) take(errors, result.errors, request.output_bytes_max, result.truncated);
      if (waits[3].revents != 0) feed(input, request.input, sent);
      if (waits[0].revents != 0) ended = true;
      if (ended && !output && !errors) return result;
    }
  }

  /// A child that reads no input closes its end; SIGPIPE must not reach the host, so send by a socket is no
  /// way: the signal is blocked for this thread while it writes.
  static void feed(Fd& input, const std::string& bytes, std::size_t& sent) {
    sigset_t pipe, before;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe, &before);
    const ssize_t wrote = ::write(input.get(), bytes.data() + sent, bytes.size() - sent);
    const int failed = errno;
    if (wrote < 0 && failed == EPIPE) {
      const timespec now{0, 0};
      while (::sigtimedwait(&pipe, nullptr, &now) < 0 && errno == EINTR) {
      }
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (wrote > 0) sent += static_cast<std::size_t>(wrote);
    if ((wrote < 0 && failed != EAGAIN && failed != EINTR) || sent == bytes.size()) input.reset();
  }

  Engine& engine_;
};

}  // namespace

std::shared_ptr<Spawner> make_spawner(Engine& engine) { return std::make_shared<PosixSpawner>(engine); }

}  // namespace orchestra
