// exec_stream and attach: the requests that open a ProcessStream.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/domain.hpp"
#include "runtime/pod/pod_runtime.hpp"
#include "runtime/pod/process_stream.hpp"

namespace orchestra::runtime {
namespace {
constexpr auto kStartDeadline = std::chrono::seconds(10);

}  // namespace

int start_failure_code(const wire::ReportMessage& message) {
  if (message.stage != wire::Stage::exec) return 128;
  if (message.error == ENOENT || message.error == ENOTDIR) return 127;
  if (message.error == EACCES || message.error == ENOEXEC || message.error == EISDIR) return 126;
  return 128;
}

Pending<std::shared_ptr<ProcessStream>> RealPodRuntime::exec_stream(std::string pod_uid, std::string id,
                                                                    ExecOptions options) {
  using Answer = Result<std::shared_ptr<ProcessStream>>;
  auto work = [self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id),
               options = std::move(options)]() -> Answer {
    ORC_ASSIGN(const auto pod, self->require(uid));
    const auto config = pod->container(id);
    if (!config) return Error(Error::not_found, kDomain, "container " + id + " does not exist in pod " + uid);
    if (options.command.empty()) return Error(Error::invalid, kDomain, "exec: the command is empty");
    ORC_ASSIGN(const std::string plan, self->exec_plan(*pod, *config, options));
    ORC_ASSIGN(const Fd null, open_file("/dev/null", O_RDWR));
    ORC_ASSIGN(auto input, make_pipe());
    ORC_ASSIGN(auto output, make_pipe());
    ORC_ASSIGN(auto error, make_pipe());
    ORC_ASSIGN(ShimConnection shim, ShimConnection::connect(pod->directory()));
    std::vector<int> fds;
    if (!options.tty) {
      fds = {options.in ? input.first.get() : null.get(), options.out ? output.second.get() : null.get(),
             options.err ? error.second.get() : null.get()};
    }
    ORC_TRY(shim.send(wire::Op::exec,
                      id_request(id, 0, options.tty ? std::uint32_t{wire::kWantTerminal} : 0u) + plan, fds));
    ORC_ASSIGN(auto frame, shim.receive(kStartDeadline));
    if (frame.header.status < 0) {
      wire::ReportMessage message;
      if (frame.payload.size() != sizeof message)
        return system_error(kDomain, "exec in", id, -frame.header.status);
      std::memcpy(&message, frame.payload.data(), sizeof message);
      message.text[sizeof message.text - 1] = '\0';
      return make_failed_stream(start_failure_code(message), failure_error(message, "exec"));
    }
    StreamParts parts;
    parts.id = id;
    parts.terminal = options.tty;
    parts.control = std::move(shim.socket());
    if (options.tty) {
      ORC_ASSIGN(parts.input, frame.descriptor.duplicate());
      parts.output = std::move(frame.descriptor);
    } else {
      if (options.in) parts.input = std::move(input.second);
      if (options.out) parts.output = std::move(output.first);
      if (options.err) parts.error = std::move(error.first);
    }
    return make_process_stream(self->engine_, std::move(parts));
  };
  return engine_.run_blocking(std::move(work));
}

Pending<std::shared_ptr<ProcessStream>> RealPodRuntime::attach(std::string pod_uid, std::string id,
                                                               ExecOptions options) {
  using Answer = Result<std::shared_ptr<ProcessStream>>;
  auto work = [self = shared_from_this(), uid = std::move(pod_uid), id = std::move(id),
               options = std::move(options)]() -> Answer {
    ORC_ASSIGN(const auto pod, self->require(uid));
    const auto config = pod->container(id);
    if (!config) return Error(Error::not_found, kDomain, "container " + id + " does not exist in pod " + uid);
    std::uint32_t flags = 0;
    if (options.in) flags |= wire::kWantInput;
    if (options.out) flags |= wire::kWantOutput;
    if (options.err) flags |= wire::kWantError;
    ORC_ASSIGN(ShimConnection shim, ShimConnection::connect(pod->directory()));
    auto reply = shim.call(wire::Op::attach, id_request(id, 0, flags), kStartDeadline);
    if (!reply)
      return Error(Error::conflict, kDomain,
                   "container " + id + " is not running: " + reply.error().message());
    StreamParts parts;
    parts.id = id;
    parts.attach = true;
    parts.terminal = config->tty;
    parts.control = std::move(shim.socket());
    return make_process_stream(self->engine_, std::move(parts));
  };
  return engine_.run_blocking(std::move(work));
}

}  // namespace orchestra::runtime
