// The answer leaves from the address that was asked (IP_PKTINFO), which matters on a socket bound to all
// addresses: a client drops answers from elsewhere.
#include "net/dns/udp_listener.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/engine_impl.hpp"
#include "net/http/wire.hpp"

namespace orchestra::dns {
namespace {

constexpr std::size_t kBatch = 64;
constexpr std::size_t kQueryBytesMax = 4096;  // longer ones are cut, and then malformed
constexpr int kReceiveBufferBytes = 4 << 20;

/// Where a datagram came from and which of our addresses it was sent to.
struct Route {
  http::SocketAddress source;
  alignas(cmsghdr) std::array<char, 64> control{};  // the packet info, given back with the answer
  std::size_t control_bytes = 0;
};

class Listener final : public UdpListener, public std::enable_shared_from_this<Listener> {
 public:
  Listener(Engine& engine, Fd socket, std::shared_ptr<Service> service)
      : descriptor_(event_context(engine), socket.release()),
        service_(std::move(service)),
        packets_(new char[kBatch * kQueryBytesMax]) {}

  void wait() {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    descriptor_.async_wait(http::asio::posix::descriptor_base::wait_read,
                           [self = shared_from_this()](http::ErrorCode failed) {
                             if (!failed) self->serve();
                           });
  }

  void stop() override {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    http::ErrorCode ignored;
    descriptor_.close(ignored);
  }

 private:
  struct Datagram {
    Route route;
    std::string packet;
  };

  /// One wait is outstanding at a time, so this runs on one thread at a time.
  void serve() {
    const std::size_t count = receive();
    std::vector<Datagram> answers;
    for (std::size_t i = 0; i < count; ++i) {
      if (!service_->admits(routes_[i].source)) continue;
      auto handled = service_->handle({packets_.get() + i * kQueryBytesMax, sizes_[i]}, true);
      if (!handled.packet.empty()) answers.push_back({routes_[i], std::move(handled.packet)});
      if (!handled.rest) continue;
      service_->finish(std::move(*handled.rest),
                       [weak = weak_from_this(), route = routes_[i]](std::string packet) {
                         const auto self = weak.lock();
                         if (!self) return;
                         std::vector<Datagram> one;
                         one.push_back({route, std::move(packet)});
                         self->send(one);
                       });
    }
    if (!answers.empty()) send(answers);
    wait();
  }

  std::size_t receive() {
    std::array<mmsghdr, kBatch> messages{};
    std::array<iovec, kBatch> vectors{};
    for (std::size_t i = 0; i < kBatch; ++i) {
      Route& route = routes_[i];
      vectors[i] = {packets_.get() + i * kQueryBytesMax, kQueryBytesMax};
      msghdr& header = messages[i].msg_hdr;
      header.msg_name = &route.source.storage;
      header.msg_namelen = sizeof route.source.storage;
      header.msg_iov = &vectors[i];
      header.msg_iovlen = 1;
      header.msg_control = route.control.data();
      header.msg_controllen = route.control.size();
    }
    std::lock_guard lock(mutex_);
    if (stopped_) return 0;
    const int count = ::recvmmsg(descriptor_.native_handle(), messages.data(), kBatch, MSG_DONTWAIT, nullptr);
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      routes_[at].source.size = messages[at].msg_hdr.msg_namelen;
      routes_[at].control_bytes = messages[at].msg_hdr.msg_controllen;
      forget_interface(messages[at].msg_hdr);
      sizes_[at] = messages[at].msg_len;
    }
    return count > 0 ? static_cast<std::size_t>(count) : 0;
  }

  /// Keeps our address of the packet info and lets the routing table choose the way back.
  static void forget_interface(msghdr& header) {
    for (cmsghdr* one = CMSG_FIRSTHDR(&header); one != nullptr; one = CMSG_NXTHDR(&header, one)) {
      if (one->cmsg_level != IPPROTO_IP || one->cmsg_type != IP_PKTINFO) continue;
      in_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(one), sizeof info);
      info.ipi_ifindex = 0;
      std::memcpy(CMSG_DATA(one), &info, sizeof info);
    }
  }

  void send(std::vector<Datagram>& answers) {
    std::array<mmsghdr, kBatch> messages{};
    std::array<iovec, kBatch> vectors{};
    std::size_t count = 0;
    for (auto& [route, packet] : answers) {
      vectors[count] = {packet.data(), packet.size()};
      msghdr& header = messages[count].msg_hdr;
      header.msg_name = &route.source.storage;
      header.msg_namelen = route.source.size;
      header.msg_iov = &vectors[count];
      header.msg_iovlen = 1;
      header.msg_control = route.control_bytes == 0 ? nullptr : route.control.data();
      header.msg_controllen = route.control_bytes;
      ++count;
    }
    std::lock_guard lock(mutex_);
    std::size_t sent = 0;
    while (sent < count && !stopped_) {
      const int done = ::sendmmsg(descriptor_.native_handle(), messages.data() + sent,
                                  static_cast<unsigned>(count - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
      // A datagram that cannot go (no route, full buffer) is lost, as datagrams may be; the rest goes on.
      sent += done > 0 ? static_cast<std::size_t>(done) : 1;
    }
  }

  std::mutex mutex_;
  http::asio::posix::basic_stream_descriptor<http::asio::io_context::executor_type> descriptor_;
  const std::shared_ptr<Service> service_;
  std::unique_ptr<char[]> packets_;
  std::array<Route, kBatch> routes_;
  std::array<std::size_t, kBatch> sizes_{};
  bool stopped_ = false;
};

}  // namespace

std::shared_ptr<UdpListener> start_udp_listener(Engine& engine, Fd socket, std::shared_ptr<Service> service) {
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBufferBytes, sizeof kReceiveBufferBytes);
  auto listener = std::make_shared<Listener>(engine, std::move(socket), std::move(service));
  listener->wait();
  return listener;
}

}  // namespace orchestra::dns
