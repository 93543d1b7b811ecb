// ControlClient: one connection, one request, its lines.
#include <sys/socket.h>

#include <cerrno>
#include <limits>

#include "base/control.hpp"
#include "base/control_socket.hpp"
#include "base/fd.hpp"

namespace orchestra {
namespace {

constexpr int kSendWaitMs = 30'000;

Error::Code code_named(std::string_view name) {
  for (int code = Error::invalid; code <= Error::internal; ++code) {
    if (name == to_string(static_cast<Error::Code>(code))) return static_cast<Error::Code>(code);
  }
  return Error::internal;
}

Error error_of(const json::value& line) {
  Error error(code_named(string_at(line, "/error/code")), "control", string_at(line, "/error/message"));
  if (const json::object* detail = object_at(line, "/error/detail")) return error.with_detail(*detail);
  return error;
}

}  // namespace

struct ControlClient::Impl {
  Fd socket;
  std::string path;
  std::string rest;
};

ControlClient::ControlClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlClient::ControlClient(ControlClient&&) noexcept = default;
ControlClient& ControlClient::operator=(ControlClient&&) noexcept = default;
ControlClient::~ControlClient() = default;

Result<ControlClient> ControlClient::connect(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->socket = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!impl->socket) return system_error("control", "socket", path, errno);
  ORC_ASSIGN(const SocketAddress address, socket_address(path));
  while (::connect(impl->socket.get(), address.get(), address.size()) != 0) {
    if (errno == EINTR) continue;
    if (errno == ECONNREFUSED || errno == EAGAIN) {
      return Error(Error::unavailable, "control",
                   "nobody listens on " + path + ": the process that made it is gone or too busy");
    }
    return system_error("control", "connect", path, errno);
  }
  return ControlClient(std::move(impl));
}

Result<void> ControlClient::call(const json::object& request, const OnLine& on_line, Duration idle,
                                 const std::function<bool()>& poll) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(idle).count();
  const int wait_ms = ms > std::numeric_limits<int>::max() ? -1 : static_cast<int>(ms);
  ORC_TRY(send_all(impl_->socket.get(), to_json(request) + "\n", kSendWaitMs));
  while (true) {
    ORC_ASSIGN(const std::string text, receive_line(impl_->socket.get(), impl_->rest, wait_ms, poll));
    ORC_ASSIGN(const json::value line, parse_json(text));
    const json::object* object = line.if_object();
    if (object == nullptr)
      return Error(Error::internal, "control", impl_->path + " answered something else than an object");
    if (object->contains("error")) return error_of(line);
    if (object->contains("done")) return {};
    ORC_TRY(on_line(*object));
  }
}

Result<json::object> ControlClient::ask(const json::object& request, Duration idle) {
  json::object answer;
  ORC_TRY(call(
      request,
      [&](const json::object& line) -> Result<void> {
        answer = line;
        return {};
      },
      idle));
  return answer;
}

}  // namespace orchestra
