#pragma once
// A blocking TCP client for tests that must send bytes which no HTTP library would send.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "base/fd.hpp"
#include "net/http/address.hpp"

namespace orchestra::test {

class RawSocket {
 public:
  explicit RawSocket(const std::string& address) {
    const auto to = http::parse_address(address).value();
    fd_ = Fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    connected_ = ::connect(fd_.get(), to.get(), to.size) == 0;
  }
  bool connected() const { return connected_; }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void shutdown_write() { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }
  int get() const { return fd_.get(); }
  /// What comes until `end` was seen, the peer closes, or 30 s pass.
  std::string read_until(std::string_view end) {
    std::string out;
    while (out.find(end) == std::string::npos) {
      const std::string more = read_some();
      if (more.empty()) break;
      out += more;
    }
    return out;
  }
  std::string read_all() { return read_until(std::string_view("\0never\0", 7)); }
  std::string read_some(int milliseconds = 30000) {
    pollfd wait{fd_.get(), POLLIN, 0};
    if (::poll(&wait, 1, milliseconds) <= 0) {
      timed_out_ = true;
      return {};
    }
    char bytes[16384];
    const ssize_t count = ::recv(fd_.get(), bytes, sizeof bytes, 0);
    return count > 0 ? std::string(bytes, static_cast<std::size_t>(count)) : std::string();
  }
  bool timed_out() const { return timed_out_; }

 private:
  Fd fd_;
  bool connected_ = false, timed_out_ = false;
};

}  // namespace orchestra::test
