#pragma once
// Lines over a unix socket with deadlines, and socket paths of any length: what both ends of control.hpp
// need.
#include <sys/socket.h>
#include <sys/un.h>

#include <functional>
#include <string>
#include <string_view>

#include "base/fd.hpp"

namespace orchestra {

constexpr std::size_t kControlLineMax = 16u << 20;  ///< a value of 3 MiB in base64 fits several times

/// The address of `path`; where it is too long for one, by way of an open descriptor of its folder.
class SocketAddress {
 public:
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  socklen_t size() const { return sizeof address_; }

 private:
  friend Result<SocketAddress> socket_address(const std::string& path);
  sockaddr_un address_{};
  Fd folder_;
};
Result<SocketAddress> socket_address(const std::string& path);

/// Waits at most `wait_ms` for each step; `socket` must not block by itself.
Result<void> send_all(int socket, std::string_view bytes, int wait_ms);
/// One line without its end; `rest` keeps what came behind it. Waits at most `wait_ms` for each piece (-1:
/// for ever); `poll`, when set, is called several times a second meanwhile and ends the wait with false.
Result<std::string> receive_line(int socket, std::string& rest, int wait_ms,
                                 const std::function<bool()>& poll);

}  // namespace orchestra
