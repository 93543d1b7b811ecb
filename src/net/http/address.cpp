#include "net/http/address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace orchestra::http {
namespace {

Error bad_address(std::string_view text, std::string_view why) {
  return {Error::invalid, "net", "address \"" + std::string(text) + "\" " + std::string(why)};
}

Result<std::uint16_t> parse_port(std::string_view whole, std::string_view text) {
  unsigned port = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (code != std::errc{} || end != text.data() + text.size() || port > 65535) {
    return bad_address(whole, "has no port between 0 and 65535 behind its last colon");
  }
  return static_cast<std::uint16_t>(port);
}

Result<SocketAddress> make_unix(std::string_view path) {
  SocketAddress out;
  auto* address = reinterpret_cast<sockaddr_un*>(&out.storage);
  if (path.empty() || path.size() >= sizeof address->sun_path) {
    return bad_address(path, "is no unix socket path of 1 to 107 bytes; use a shorter data folder");
  }
  address->sun_family = AF_UNIX;
  std::memcpy(address->sun_path, path.data(), path.size());
  out.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return out;
}

/// True if the file is a socket that nobody listens on: left by a process that was killed.
bool is_stale_socket(const SocketAddress& address) {
  struct stat info {};
  if (::lstat(address.host().c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return probe && ::connect(probe.get(), address.get(), address.size) != 0 && errno == ECONNREFUSED;
}

Error bind_error(const SocketAddress& address, Listen kind, int error_number) {
  const std::string text = address.text();
  if (error_number == EADDRINUSE) {
    return {Error::busy, "net",
            "address " + text + " is already in use by " + port_holder(address, kind) +
                "; stop it or choose another address (port 0 takes a free one)"};
  }
  if (error_number == EACCES && address.family() != AF_UNIX && address.port() < 1024) {
    return {
        Error::denied, "net",
        "port " + std::to_string(address.port()) + " of " + text +
            " needs root or CAP_NET_BIND_SERVICE; lower net.ipv4.ip_unprivileged_port_start or use a port "
            "above 1023"};
  }
  if (error_number == EADDRNOTAVAIL) {
    return {Error::invalid, "net", "address " + text + " belongs to no interface of this network namespace"};
  }
  return system_error("net", "bind", text, error_number);
}

}  // namespace

std::uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
  if (family() == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
  return 0;
}

std::string SocketAddress::host() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (family() == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr, text, sizeof text);
  } else if (family() == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr, text, sizeof text);
  } else if (family() == AF_UNIX && size > offsetof(sockaddr_un, sun_path)) {
    const auto* address = reinterpret_cast<const sockaddr_un*>(&storage);
    return {address->sun_path, ::strnlen(address->sun_path, size - offsetof(sockaddr_un, sun_path))};
  }
  return text;
}

std::string SocketAddress::text() const {
  if (family() == AF_UNIX) return "unix:" + host();
  if (family() == AF_INET6) return "[" + host() + "]:" + std::to_string(port());
  return host() + ":" + std::to_string(port());
}

Result<SocketAddress> make_address(std::string_view ip, std::uint16_t port) {
  SocketAddress out;
  const std::string host(ip);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out.size = sizeof *v4;
    return out;
  }
  if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out.size = sizeof *v6;
    return out;
  }
  return bad_address(ip, "is neither an IPv4 nor an IPv6 address");
}

Result<SocketAddress> parse_address(std::string_view text, int default_port) {
  if (text.substr(0, 5) == "unix:") return make_unix(text.substr(5));
  std::string_view host = text, port;
  if (!text.empty() && text.front() == '[') {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return bad_address(text, "has no closing bracket");
    host = text.substr(1, end - 1);
    port = text.substr(end + 1);
  } else if (std::count(text.begin(), text.end(), ':') <= 1) {
    const std::size_t colon = std::min(text.find(':'), text.size());
    host = text.substr(0, colon);
    port = text.substr(colon);
  }
  std::uint16_t number = static_cast<std::uint16_t>(default_port);
  if (!port.empty()) {
    if (port.front() != ':') return bad_address(text, "has bytes behind its bracket");
    ORC_ASSIGN(number, parse_port(text, port.substr(1)));
  } else if (default_port < 0) {
    return bad_address(text, "has no port; write ADDRESS:PORT");
  }
  if (host.empty()) host = "0.0.0.0";
  if (host == "localhost") host = "127.0.0.1";
  auto made = make_address(host, number);
  if (!made) return bad_address(text, "is no IPv4 or [IPv6] address with a port");
  return made;
}

Result<SocketAddress> local_address(int fd) {
  SocketAddress out;
  out.size = sizeof out.storage;
  if (::getsockname(fd, out.get(), &out.size) != 0)
    return system_error("net", "getsockname", "socket", errno);
  return out;
}

Result<SocketAddress> peer_address(int fd) {
  SocketAddress out;
  out.size = sizeof out.storage;
  if (::getpeername(fd, out.get(), &out.size) != 0)
    return system_error("net", "getpeername", "socket", errno);
  return out;
}

Result<Fd> open_listener(const SocketAddress& address, Listen kind, const ListenOptions& options) {
  const int type = kind == Listen::stream ? SOCK_STREAM : SOCK_DGRAM;
  Fd fd(::socket(address.family(), type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return system_error("net", "socket", address.text(), errno);
  const int on = 1;
  if (address.family() == AF_UNIX) {
    if (is_stale_socket(address)) ::unlink(address.host().c_str());
  } else {
    if (kind == Listen::stream) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (options.reuse_port) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (address.family() == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  }
  if (::bind(fd.get(), address.get(), address.size) != 0) return bind_error(address, kind, errno);
  if (address.family() == AF_UNIX) {
    // Before listen(), so that nobody connects while the mode is still the default one.
    const std::string path = address.host();
    if (::chmod(path.c_str(), static_cast<mode_t>(options.unix_mode)) != 0) {
      return system_error("net", "chmod", path, errno);
    }
  }
  if (kind == Listen::stream && ::listen(fd.get(), options.backlog) != 0)
    return bind_error(address, kind, errno);
  return fd;
}

}  // namespace orchestra::http
