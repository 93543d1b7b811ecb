// Lines over unix sockets (control_socket.hpp).
#include "base/control_socket.hpp"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace orchestra {
namespace {
constexpr int kPollStepMs = 100;

Error gone(const char* what) {
  return {Error::unavailable, "control", std::string("the control connection ") + what};
}

/// Waits for `events`; false after `wait_ms`.
Result<bool> wait_for(int socket, short events, int wait_ms) {
  pollfd entry{socket, events, 0};
  const int ready = ::poll(&entry, 1, wait_ms);
  if (ready < 0 && errno != EINTR) return system_error("control", "poll", "control socket", errno);
  return ready > 0;
}
}  // namespace

Result<SocketAddress> socket_address(const std::string& path) {
  SocketAddress made;
  made.address_.sun_family = AF_UNIX;
  std::string name = path;
  if (name.size() >= sizeof made.address_.sun_path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos)
      return Error(Error::invalid, "control", "the socket name " + path + " is too long");
    ORC_ASSIGN(made.folder_, open_file(path.substr(0, slash), O_PATH | O_DIRECTORY));
    name = "/proc/self/fd/" + std::to_string(made.folder_.get()) + path.substr(slash);
    if (name.size() >= sizeof made.address_.sun_path) {
      return Error(Error::invalid, "control", "the socket name " + path.substr(slash + 1) + " is too long");
    }
  }
  std::memcpy(made.address_.sun_path, name.data(), name.size());
  return made;
}

Result<void> send_all(int socket, std::string_view bytes, int wait_ms) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
      continue;
    }
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return gone("was closed");
    ORC_ASSIGN(const bool ready, wait_for(socket, POLLOUT, wait_ms));
    if (!ready)
      return Error(Error::deadline_exceeded, "control",
                   "the other end of the control connection does not read");
  }
  return {};
}

Result<std::string> receive_line(int socket, std::string& rest, int wait_ms,
                                 const std::function<bool()>& poll) {
  std::size_t searched = 0;
  int waited = 0;
  while (true) {
    const std::size_t end = rest.find('\n', searched);
    if (end != std::string::npos) {
      std::string line = rest.substr(0, end);
      rest.erase(0, end + 1);
      return line;
    }
    searched = rest.size();
    if (rest.size() > kControlLineMax) {
      return Error(Error::too_large, "control",
                   "a line of more than " + std::to_string(kControlLineMax) + " bytes");
    }
    char buffer[64 << 10];
    const ssize_t got = ::recv(socket, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0) {
      rest.append(buffer, static_cast<std::size_t>(got));
      waited = 0;
      continue;
    }
    if (got == 0) return gone("ended early");
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return gone("was closed");
    if (poll && !poll()) return Error(Error::cancelled, "control", "the operation was cancelled");
    if (wait_ms >= 0 && waited >= wait_ms) {
      return Error(Error::deadline_exceeded, "control",
                   "no answer within " + std::to_string(wait_ms / 1000) + " s");
    }
    const int step = poll || wait_ms >= 0 ? kPollStepMs : -1;
    ORC_ASSIGN(const bool ready, wait_for(socket, POLLIN, step));
    if (!ready) waited += kPollStepMs;
  }
}

}  // namespace orchestra
