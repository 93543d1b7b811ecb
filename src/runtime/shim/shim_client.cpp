#include "runtime/shim/shim_client.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "orchestra/env.hpp"
#include "runtime/domain.hpp"

namespace orchestra::runtime {
namespace {

/// sun_path holds 108 bytes: the folder is named by its descriptor.
Result<sockaddr_un> short_address(const Fd& directory) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = "/proc/self/fd/" + std::to_string(directory.get()) + "/shim.sock";
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

Error gone() { return Error(Error::unavailable, kDomain, "the shim ended; it closed the connection"); }
}  // namespace

Error failure_error(const wire::ReportMessage& message, std::string_view what) {
  const std::string object = std::string(wire::stage_name(message.stage)) + " " + message.text;
  return system_error(kDomain, what, object, message.error);
}

std::string id_request(const std::string& id, std::uint32_t number, std::uint32_t flags) {
  wire::IdRequest request;
  set_field(request.id, id);
  request.number = number;
  request.flags = flags;
  return {reinterpret_cast<const char*>(&request), sizeof request};
}

Result<Fd> listen_for_shim(const std::string& path) {
  ORC_ASSIGN(const Fd directory, open_file(path, O_PATH | O_DIRECTORY));
  if (unlinkat(directory.get(), "shim.sock", 0) != 0 && errno != ENOENT) {
    return system_error(kDomain, "unlink", path + "/shim.sock", errno);
  }
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return system_error(kDomain, "socket", path, errno);
  ORC_ASSIGN(const sockaddr_un address, short_address(directory));
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return system_error(kDomain, "bind", path + "/shim.sock", errno);
  }
  if (fchmodat(directory.get(), "shim.sock", 0600, 0) != 0)
    return system_error(kDomain, "chmod", path + "/shim.sock", errno);
  if (listen(socket.get(), 128) != 0) return system_error(kDomain, "listen", path + "/shim.sock", errno);
  return socket;
}

Result<ShimConnection> ShimConnection::connect(const std::string& path) {
  ORC_ASSIGN(const Fd directory, open_file(path, O_PATH | O_DIRECTORY));
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return system_error(kDomain, "socket", path, errno);
  ORC_ASSIGN(const sockaddr_un address, short_address(directory));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ECONNREFUSED || errno == ENOENT) {
      return Error(Error::unavailable, kDomain, "the shim of " + path + " does not run");
    }
    return system_error(kDomain, "connect", path + "/shim.sock", errno);
  }
  return ShimConnection(std::move(socket));
}

Result<void> ShimConnection::send(wire::Op op, std::string_view payload,
                                  const std::vector<int>& descriptors) {
  wire::FrameHeader header;
  header.bytes = static_cast<std::uint32_t>(payload.size());
  header.request = next_request_++;
  header.op = op;
  std::string frame(reinterpret_cast<const char*>(&header), sizeof header);
  frame.append(payload);
  std::size_t sent = 0;
  while (sent < frame.size()) {
    iovec piece{frame.data() + sent, frame.size() - sent};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))] = {};
    if (sent == 0 && !descriptors.empty()) {
      const std::size_t bytes = descriptors.size() * sizeof(int);
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(bytes);
      cmsghdr* extra = CMSG_FIRSTHDR(&message);
      extra->cmsg_level = SOL_SOCKET;
      extra->cmsg_type = SCM_RIGHTS;
      extra->cmsg_len = CMSG_LEN(bytes);
      std::memcpy(CMSG_DATA(extra), descriptors.data(), bytes);
    }
    const ssize_t n = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) return gone();
    if (n < 0) return system_error(kDomain, "send to", "shim", errno);
    sent += static_cast<std::size_t>(n);
  }
  return {};
}

Result<void> ShimConnection::receive_bytes(char* bytes, std::size_t size, std::int64_t deadline_ns,
                                           Fd* descriptor) {
  while (size > 0) {
    const std::int64_t left_ns = deadline_ns - real_clock().now().steady_ns;
    pollfd wait{socket_.get(), POLLIN, 0};
    const int ready =
        poll(&wait, 1,
             left_ns <= 0 ? 0 : static_cast<int>(std::min<std::int64_t>(left_ns / 1'000'000 + 1, 1 << 30)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return Error(Error::deadline_exceeded, kDomain, "the shim did not answer in time");
    iovec piece{bytes, size};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t n = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EINTR) continue;
    // A shim that ends with our frame unread, or before it accepted us, resets the connection.
    if (n == 0 || (n < 0 && errno == ECONNRESET)) return gone();
    if (n < 0) return system_error(kDomain, "receive from", "shim", errno);
    if (cmsghdr* extra = CMSG_FIRSTHDR(&message); extra != nullptr && extra->cmsg_type == SCM_RIGHTS) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(extra), sizeof fd);
      Fd owned(fd);
      if (descriptor != nullptr) *descriptor = std::move(owned);
    }
    bytes += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

Result<ShimConnection::Frame> ShimConnection::receive(Duration deadline) {
  const std::int64_t until = real_clock().now().steady_ns + deadline.count();
  Frame frame;
  ORC_TRY(
      receive_bytes(reinterpret_cast<char*>(&frame.header), sizeof frame.header, until, &frame.descriptor));
  if (frame.header.bytes > wire::kFrameBytesMax) {
    return Error(Error::corrupt, kDomain,
                 "the shim sent a frame of " + std::to_string(frame.header.bytes) + " bytes");
  }
  frame.payload.resize(frame.header.bytes);
  ORC_TRY(receive_bytes(frame.payload.data(), frame.payload.size(), until, &frame.descriptor));
  return frame;
}

Result<ShimReply> ShimConnection::call(wire::Op op, std::string_view payload, Duration deadline,
                                       const std::vector<int>& descriptors) {
  ORC_TRY(send(op, payload, descriptors));
  ORC_ASSIGN(Frame frame, receive(deadline));
  if (frame.header.op != wire::Op::reply)
    return Error(Error::corrupt, kDomain, "the shim sent no reply but a frame of another kind");
  ShimReply reply{frame.header.status, std::move(frame.payload), std::move(frame.descriptor)};
  if (reply.status >= 0 || reply.status == -EEXIST) return reply;
  if (reply.payload.size() == sizeof(wire::ReportMessage)) {
    wire::ReportMessage message;
    std::memcpy(&message, reply.payload.data(), sizeof message);
    message.text[sizeof message.text - 1] = '\0';
    return failure_error(message, "container");
  }
  // Without a report: it could not read what it was asked.
  if (reply.status == -EINVAL)
    return Error(
        Error::unsupported, kDomain,
        "the pod's shim does not know what it was asked for; it is of an earlier release that outlived "
        "its program: make the pod anew");
  return system_error(kDomain, "request to", "shim", -reply.status);
}

}  // namespace orchestra::runtime
