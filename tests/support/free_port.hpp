#pragma once
// Ports for programs that take no port 0, or are told of a port before anybody listens there.
#include <netinet/in.h>
#include <sys/socket.h>

#include <random>

#include "base/fd.hpp"

namespace orchestra::test {

/// A port that nobody has, by TCP and by UDP and on any address, from a range of which the kernel gives
/// nothing to whoever asks for any port: other programs do not get it before it is used, nor while its owner
/// is away.
inline int free_port() {
  std::random_device random;
  for (;;) {
    const int port = 20000 + static_cast<int>(random() % 10000);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<std::uint16_t>(port));
    const Fd stream(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const Fd datagram(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto* name = reinterpret_cast<const sockaddr*>(&at);
    if (::bind(stream.get(), name, sizeof at) == 0 && ::bind(datagram.get(), name, sizeof at) == 0)
      return port;
  }
}

}  // namespace orchestra::test
