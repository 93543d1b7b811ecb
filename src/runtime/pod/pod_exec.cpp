// Commands inside running containers: captured with a deadline.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <tuple>

#include "orchestra/env.hpp"
#include "runtime/domain.hpp"
#include "runtime/linux/labels.hpp"
#include "runtime/linux/seccomp.hpp"
#include "runtime/plan/make_plan.hpp"
#include "runtime/pod/pod_runtime.hpp"
#include "runtime/spec/pod_spec.hpp"

namespace orchestra::runtime {
namespace {
constexpr std::size_t kSpecBytesMax = 4 << 20;
constexpr std::int64_t kDrainMs = 1000;  ///< a daemon that the command left behind may hold the output

/// Reads what is there. False at the end of the stream.
bool read_available(int fd, std::string& output, std::size_t max, bool& truncated) {
  char buffer[16384];
  while (true) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    const std::size_t room = max - std::min(max, output.size());
    output.append(buffer, std::min(room, static_cast<std::size_t>(n)));
    truncated |= static_cast<std::size_t>(n) > room;
  }
}

}  // namespace

Result<std::string> RealPodRuntime::exec_plan(const Pod& pod, const ContainerConfig& config,
                                              const ExecOptions& options) {
  if (cgroups_ && cgroups_->frozen(container_group(pod, config.id)))
    return Error(Error::conflict, kDomain, "container " + config.id + " is paused; resume it first");
  ContainerSpec spec = make_pod_container_spec(pod.config(), config, isolation_);
  if (const auto text = read_file(pod.container_directory(config.id) + "/spec.json", kSpecBytesMax)) {
    ORC_ASSIGN(spec, ContainerSpec::from_json(*text));
  }
  (void)drop_groups(spec);
  spec.process->args = options.command;
  spec.process->terminal = options.tty;
  PlanContext context;
  context.isolation = isolation_;
  context.exec = true;
  context.root = config.root;
  std::tie(context.apparmor, context.selinux) = detect_labels();
  if (isolation_ == Isolation::rootless) {
    // The shim is in the pod's user, ipc and uts namespaces; what belongs to the machine may not be entered.
    context.ids = &ids_.maps;
    context.join_namespaces = CLONE_NEWNS;
    for (const auto& space : spec.namespaces) {
      if (space.type == "cgroup") context.join_namespaces |= CLONE_NEWCGROUP;
    }
  }
  if (isolation_ == Isolation::full) {
    context.join_namespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP;
    for (const auto& space : spec.namespaces) {
      if (space.type == "user") context.join_namespaces |= CLONE_NEWUSER;
      if (space.type == "time") context.join_namespaces |= 0x80;  // CLONE_NEWTIME
    }
  }
  if (cgroups_) {
    CgroupPlace place = cgroups_->place(container_group(pod, config.id), spec.resources);
    context.cgroup_files = std::move(place.files);
    context.cgroup_unified = std::move(place.unified);
  }
  ORC_ASSIGN(context.seccomp_filter, seccomp_filter(config, spec));
  return make_plan(spec, context);
}

Pending<ExecResult> RealPodRuntime::exec(std::string pod_uid, std::string id, std::vector<std::string> args,
                                         Duration deadline, std::size_t output_bytes_max) {
  auto work = [self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id),
               args = std::move(args), deadline, output_bytes_max]() -> Result<ExecResult> {
    ORC_ASSIGN(const auto pod, self->require(uid));
    const auto config = pod->container(id);
    if (!config) return Error(Error::not_found, kDomain, "container " + id + " does not exist in pod " + uid);
    ExecOptions options;
    options.command = args;
    ORC_ASSIGN(const std::string plan, self->exec_plan(*pod, *config, options));
    ORC_ASSIGN(const Fd null, open_file("/dev/null", O_RDONLY));
    ORC_ASSIGN(auto pipe, make_pipe());
    ORC_ASSIGN(ShimConnection shim, ShimConnection::connect(pod->directory()));
    const std::int64_t until = real_clock().now().steady_ns + deadline.count();
    ORC_TRY(
        shim.send(wire::Op::exec, id_request(id) + plan, {null.get(), pipe.second.get(), pipe.second.get()}));
    pipe.second.reset();
    fcntl(pipe.first.get(), F_SETFL, O_NONBLOCK);
    ExecResult result;
    bool open = true, started = false, ended = false;
    std::int64_t drain_until = 0;
    while (!ended || open) {
      const std::int64_t now = real_clock().now().steady_ns;
      if (!ended && now >= until) {
        return Error(
            Error::deadline_exceeded, kDomain,
            "exec of \"" + args.front() + "\" in container " + id + " did not end in time; it was killed");
      }
      if (ended && now >= drain_until) break;
      pollfd wait[2] = {{ended ? -1 : shim.socket().get(), POLLIN, 0},
                        {open ? pipe.first.get() : -1, POLLIN, 0}};
      const std::int64_t left = (ended ? drain_until : until) - now;
      poll(wait, 2, static_cast<int>(std::min<std::int64_t>(left / 1'000'000 + 1, 60'000)));
      if (wait[1].revents != 0)
        open = read_available(pipe.first.get(), result.output, output_bytes_max, result.truncated);
      if (wait[0].revents == 0) continue;
      ORC_ASSIGN(auto frame, shim.receive(std::chrono::seconds(5)));
      if (frame.header.op == wire::Op::reply && frame.header.status < 0) {
        wire::ReportMessage message;
        if (frame.payload.size() != sizeof message)
          return system_error(kDomain, "exec in", id, -frame.header.status);
        std::memcpy(&message, frame.payload.data(), sizeof message);
        message.text[sizeof message.text - 1] = '\0';
        result.exit_code = start_failure_code(message);
        if (result.exit_code == 128) return failure_error(message, "exec");
        result.output = failure_error(message, "exec").message();
        return result;
      }
      if (frame.header.op == wire::Op::reply) started = true;
      if (frame.header.op == wire::Op::exec_exited && started) {
        wire::ExecEnd end;
        if (frame.payload.size() == sizeof end) std::memcpy(&end, frame.payload.data(), sizeof end);
        result.exit_code = end.code;
        ended = true;
        drain_until = real_clock().now().steady_ns + kDrainMs * 1'000'000;
      }
    }
    return result;
  };
  return engine_.run_blocking(std::move(work));
}

}  // namespace orchestra::runtime
