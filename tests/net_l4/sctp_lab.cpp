// SCTP by hand, on raw sockets: the two packets that begin an association.
//
// Connection tracking knows an association by its INIT and its INIT ACK, so these two show whether a packet
// was led to an endpoint and its answer back. The checksum (CRC32c over the whole packet, which covers the
// ports) is looked at on both ends: who translates ports has to make it anew.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

#include "net/podnet/in_namespace.hpp"
#include "tests/net_l4/net_lab.hpp"

namespace orchestra::test {
using namespace orchestra::net;

namespace {

constexpr std::uint8_t kInit = 1, kInitAck = 2, kCookie = 7;
constexpr std::size_t kHeader = 12, kInitChunk = 20;

std::uint32_t crc32c(const std::string& bytes) {
  std::uint32_t crc = ~0u;
  for (const unsigned char c : bytes) {
    crc ^= c;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1)));
  }
  return ~crc;
}

void put(std::string& out, std::uint32_t number, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(number >> shift);
}
std::uint32_t get(const std::string& bytes, std::size_t at, std::size_t count) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < count; ++i) out = out << 8 | static_cast<unsigned char>(bytes[at + i]);
  return out;
}

struct Packet {
  std::uint16_t from_port = 0, to_port = 0;
  std::uint32_t tag = 0;  ///< verification tag: 0 in an INIT
  std::uint8_t chunk = kInit;
  std::uint32_t own_tag = 0;  ///< that the other side has to write
  std::string cookie;
};

std::string to_bytes(const Packet& packet) {
  std::string out;
  put(out, packet.from_port, 2);
  put(out, packet.to_port, 2);
  put(out, packet.tag, 4);
  put(out, 0, 4);
  const std::size_t cookie = packet.cookie.empty() ? 0 : 4 + packet.cookie.size();
  put(out, packet.chunk, 1);
  put(out, 0, 1);
  put(out, static_cast<std::uint32_t>(kInitChunk + cookie), 2);
  put(out, packet.own_tag, 4);
  put(out, 65'536, 4);          // receiver window
  put(out, 1, 2);               // streams out
  put(out, 1, 2);               // streams in
  put(out, packet.own_tag, 4);  // first TSN
  if (cookie != 0) {
    put(out, kCookie, 2);
    put(out, static_cast<std::uint32_t>(cookie), 2);
    out += packet.cookie;
    while (out.size() % 4 != 0) out += '\0';
  }
  const std::uint32_t crc = crc32c(out);
  for (std::size_t i = 0; i < 4; ++i) out[8 + i] = static_cast<char>(crc >> (8 * i));  // little endian
  return out;
}

std::optional<Packet> read_packet(std::string bytes) {
  if (bytes.size() < kHeader + kInitChunk) return std::nullopt;
  std::uint32_t crc = 0;
  for (std::size_t i = 0; i < 4; ++i) crc |= get(bytes, 8 + i, 1) << (8 * i);
  for (std::size_t i = 0; i < 4; ++i) bytes[8 + i] = '\0';
  if (crc != crc32c(bytes)) return std::nullopt;
  Packet out;
  out.from_port = static_cast<std::uint16_t>(get(bytes, 0, 2));
  out.to_port = static_cast<std::uint16_t>(get(bytes, 2, 2));
  out.tag = get(bytes, 4, 4);
  out.chunk = static_cast<std::uint8_t>(get(bytes, kHeader, 1));
  out.own_tag = get(bytes, kHeader + 4, 4);
  const std::size_t end = kHeader + get(bytes, kHeader + 2, 2);
  const std::size_t cookie = kHeader + kInitChunk;
  if (end > bytes.size()) return std::nullopt;
  if (end >= cookie + 4 && get(bytes, cookie, 2) == kCookie)
    out.cookie = bytes.substr(cookie + 4, end - cookie - 4);
  return out;
}

Fd raw_socket(const NetworkNamespace& where, int family) {
  Fd out;
  in_namespace(where, [&]() -> Result<void> {
    out = Fd(::socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_SCTP));
    return {};
  }).value();
  REQUIRE(out);
  return out;
}

/// Payload of what arrived, without the header that raw sockets of IPv4 give along.
std::optional<Packet> receive(const Fd& socket, int family, sockaddr_storage& from) {
  char bytes[2048];
  socklen_t size = sizeof from;
  const auto got =
      ::recvfrom(socket.get(), bytes, sizeof bytes, 0, reinterpret_cast<sockaddr*>(&from), &size);
  if (got <= 0) return std::nullopt;
  std::string packet(bytes, static_cast<std::size_t>(got));
  if (family == AF_INET) packet.erase(0, static_cast<std::size_t>(packet[0] & 15) * 4);
  return read_packet(std::move(packet));
}

std::string text_of(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = {};
  const void* bytes =
      address.ss_family == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr)
          : &reinterpret_cast<const sockaddr_in&>(address).sin_addr;
  ::inet_ntop(address.ss_family, bytes, text, sizeof text);
  return text;
}

}  // namespace

struct SctpAnswerer::Impl {
  Fd v4, v6, stop;
  int port = 0;
  std::string answer;
  std::mutex mutex;
  std::string last_client;
  std::thread thread;

  void serve() {
    while (true) {
      pollfd waits[] = {{v4.get(), POLLIN, 0}, {v6.get(), POLLIN, 0}, {stop.get(), POLLIN, 0}};
      ::poll(waits, 3, -1);
      if (waits[2].revents != 0) return;
      if (waits[0].revents != 0) reply(v4, AF_INET);
      if (waits[1].revents != 0) reply(v6, AF_INET6);
    }
  }
  void reply(const Fd& socket, int family) {
    sockaddr_storage from{};
    const auto packet = receive(socket, family, from);
    if (!packet || packet->chunk != kInit || packet->tag != 0 || packet->to_port != port) return;
    {
      std::lock_guard lock(mutex);
      last_client = text_of(from);
    }
    const std::string bytes = to_bytes({.from_port = packet->to_port,
                                        .to_port = packet->from_port,
                                        .tag = packet->own_tag,
                                        .chunk = kInitAck,
                                        .own_tag = 77,
                                        .cookie = answer});
    if (family == AF_INET6) reinterpret_cast<sockaddr_in6&>(from).sin6_port = 0;
    const socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    (void)::sendto(socket.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
  }
};

SctpAnswerer::SctpAnswerer(const NetworkNamespace& where, int port, std::string answer)
    : impl_(std::make_unique<Impl>()) {
  impl_->v4 = raw_socket(where, AF_INET);
  impl_->v6 = raw_socket(where, AF_INET6);
  impl_->stop = Fd(::eventfd(0, EFD_CLOEXEC));
  impl_->port = port;
  impl_->answer = std::move(answer);
  impl_->thread = std::thread([this] { impl_->serve(); });
}

SctpAnswerer::~SctpAnswerer() {
  const std::uint64_t one = 1;
  (void)::write(impl_->stop.get(), &one, sizeof one);
  impl_->thread.join();
}

std::string SctpAnswerer::last_client() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->last_client;
}

std::string ask_sctp(const NetworkNamespace& from, const std::string& address, int port, int milliseconds) {
  static std::uint16_t next_port = 20'000;
  const bool v6 = address.find(':') != std::string::npos;
  const int family = v6 ? AF_INET6 : AF_INET;
  const Fd socket = raw_socket(from, family);
  sockaddr_in6 name{};
  name.sin6_family = static_cast<sa_family_t>(family);
  void* bytes = v6 ? static_cast<void*>(&name.sin6_addr) : &reinterpret_cast<sockaddr_in&>(name).sin_addr;
  REQUIRE(::inet_pton(family, address.c_str(), bytes) == 1);
  REQUIRE(::connect(socket.get(), reinterpret_cast<sockaddr*>(&name),
                    v6 ? sizeof name : sizeof(sockaddr_in)) == 0);
  const Packet init{
      .from_port = ++next_port, .to_port = static_cast<std::uint16_t>(port), .own_tag = next_port};
  const std::string packet = to_bytes(init);
  if (::send(socket.get(), packet.data(), packet.size(), 0) < 0)
    return std::string("error: ") + ::strerrorname_np(errno);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd wait{socket.get(), POLLIN, 0};
    if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) == 0) return "error: timeout";
    sockaddr_storage answerer{};
    errno = 0;
    const auto answer = receive(socket, family, answerer);
    if (!answer && errno != 0 && errno != EAGAIN) return std::string("error: ") + ::strerrorname_np(errno);
    if (!answer || answer->chunk != kInitAck || answer->to_port != init.from_port) continue;
    if (answer->from_port != init.to_port || answer->tag != init.own_tag) return "error: of something else";
    return answer->cookie;
  }
}

}  // namespace orchestra::test
