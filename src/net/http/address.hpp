#pragma once
// Socket addresses as text and back, listening sockets, and who holds a port that is taken.
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.hpp"
#include "orchestra/result.hpp"

namespace orchestra::http {

/// IPv4, IPv6 or unix, ready for bind and connect.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
  std::uint16_t port() const;
  /// "10.0.0.1", "fd00::1", or the path of a unix socket
  std::string host() const;
  /// "10.0.0.1:80", "[fd00::1]:80", "unix:/path"
  std::string text() const;
};

/// "127.0.0.1:80", "[::1]:80", ":80" (all IPv4 addresses), "localhost:80", "unix:/path". An address without
/// a port takes `default_port`; without that it is an error. Names other than localhost are `invalid`.
Result<SocketAddress> parse_address(std::string_view text, int default_port = -1);
/// An address literal and a port, without brackets.
Result<SocketAddress> make_address(std::string_view ip, std::uint16_t port);
Result<SocketAddress> local_address(int fd);
Result<SocketAddress> peer_address(int fd);

enum class Listen : std::uint8_t { stream, datagram };
struct ListenOptions {
  bool reuse_port = false;
  int backlog = 1024;
  int unix_mode = 0600;
};
/// A bound, listening, non-blocking socket in this process' network namespace. `busy` names the address
/// and the process that holds it, `denied` the way around a port below 1024. A unix socket file that
/// nobody listens on is replaced.
Result<Fd> open_listener(const SocketAddress& address, Listen kind, const ListenOptions& options);

/// "process 123 (nginx)", or "another process" where /proc does not tell.
std::string port_holder(const SocketAddress& address, Listen kind);

}  // namespace orchestra::http
