#pragma once
// The host's side of the shim's control socket. One connection per call: a call costs 20 us more that
// way, and no state is shared between threads. Blocking; used on worker threads only.
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "orchestra/pending.hpp"
#include "runtime/wire/protocol.hpp"

namespace orchestra::runtime {

struct ShimReply {
  int status = 0;  ///< 0 or -errno
  std::string payload;
  Fd descriptor;  ///< exec with a terminal
};

class ShimConnection {
 public:
  /// Connects to `directory`/shim.sock. `not_found` or `unavailable` when nobody listens.
  static Result<ShimConnection> connect(const std::string& directory);

  Result<void> send(wire::Op op, std::string_view payload, const std::vector<int>& descriptors = {});
  /// The next frame; `deadline_exceeded` leaves the connection unusable.
  struct Frame {
    wire::FrameHeader header;
    std::string payload;
    Fd descriptor;
  };
  Result<Frame> receive(Duration deadline);
  /// send, then the reply. A status below 0 becomes an error that names stage, text and errno.
  Result<ShimReply> call(wire::Op op, std::string_view payload, Duration deadline,
                         const std::vector<int>& descriptors = {});
  Fd& socket() { return socket_; }

 private:
  explicit ShimConnection(Fd socket) : socket_(std::move(socket)) {}
  Result<void> receive_bytes(char* bytes, std::size_t size, std::int64_t deadline_ns, Fd* descriptor);
  Fd socket_;
  std::uint32_t next_request_ = 1;
};

/// A listening socket at `directory`/shim.sock, 0600; an older one is replaced.
Result<Fd> listen_for_shim(const std::string& directory);
/// An error for a failed reply or ready message: code from errno, text with stage and remedy.
Error failure_error(const wire::ReportMessage& message, std::string_view what);
std::string id_request(const std::string& id, std::uint32_t number = 0, std::uint32_t flags = 0);
/// Copies into a fixed field; the caller has checked the length.
template <std::size_t N>
void set_field(char (&field)[N], std::string_view value) {
  const std::size_t size = value.size() < N ? value.size() : N - 1;
  value.copy(field, size);
  field[size] = '\0';
}

}  // namespace orchestra::runtime
