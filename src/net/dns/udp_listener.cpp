// The answer leaves from the address that was asked (IP_PKTINFO), which matters on a socket bound to all
// addresses: a client drops answers from elsewhere.
#include "net/dns/udp_listener.hpp"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/engine_impl.hpp"
#include "net/dns/answer_memo.hpp"
#include "net/http/wire.hpp"
#include "orchestra/env.hpp"

namespace orchestra::dns {
namespace {

constexpr std::size_t kBatch = 64;
constexpr int kRoundsMax = 16;  // full batches in a row; then it is looked whether to stop
constexpr std::int64_t kUpstreamKeptNs = 1'000'000'000;  // times to live are whole seconds
constexpr std::size_t kArrivedMax = 1024;                // what the forwarder may have outstanding
constexpr std::size_t kQueryBytesMax = 4096;             // longer ones are cut, and then malformed
constexpr int kReceiveBufferBytes = 4 << 20;

bool is_any(const http::SocketAddress& address) {
  return address.host() == "0.0.0.0" || address.host() == "::";
}

/// Where a datagram came from and which of our addresses it was sent to.
struct Route {
  http::SocketAddress source;
  alignas(cmsghdr) std::array<char, 64> control{};  // the packet info, given back with the answer
  std::size_t control_bytes = 0;
};

class Listener final : public UdpListener, public std::enable_shared_from_this<Listener> {
 public:
  Listener(Engine& engine, Fd socket, std::shared_ptr<Service> service)
      : engine_(engine),
        socket_(std::move(socket)),
        wake_(::eventfd(0, EFD_CLOEXEC)),
        service_(std::move(service)),
        packets_(new char[kBatch * kQueryBytesMax]),
        answers_(new char[kBatch * kEdnsUdpBytes]) {
    engine.random().fill(&seed_, sizeof seed_);
    for (std::size_t i = 0; i < kBatch; ++i) {
      query_vectors_[i] = {packets_.get() + i * kQueryBytesMax, kQueryBytesMax};
      msghdr& header = queries_[i].msg_hdr;
      header.msg_name = &routes_[i].source.storage;
      header.msg_iov = &query_vectors_[i];
      header.msg_iovlen = 1;
      header.msg_control = routes_[i].control.data();
    }
  }

  /// Waits and answers on one thread until stop() or the engine's stop: a question wakes that thread and
  /// nothing else, which on an idle machine is most of what an answer takes.
  void run() {
    {
      std::lock_guard lock(mutex_);
      if (stopped_) return;
      running_ = true;
    }
    {
      EventThreadScope scope;  // what answers is the host's code too, and may not wait
      std::array<pollfd, 3> watched{
          {{socket_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}, {stopping_descriptor(engine_), POLLIN, 0}}};
      while (::poll(watched.data(), watched.size(), -1) >= 0 || errno == EINTR) {
        if (watched[1].revents != 0 || watched[2].revents != 0) break;
        if (watched[0].revents != 0 && !serve_unless_stopped()) break;
      }
    }
    std::lock_guard lock(mutex_);
    stopped_ = true;
    socket_.reset();
    running_ = false;
    over_.notify_all();
  }

  /// Waits for the thread to let go of the socket, not for an answer that the host's code is at: that one is
  /// lost.
  void stop() override {
    std::unique_lock lock(mutex_);
    stopped_ = true;
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    if (!running_ || serving_) return socket_.reset();
    over_.wait(lock, [this] { return !running_; });
  }

 private:
  struct Arrived {
    PlainQuestion question;
    std::string packet;
    std::uint64_t version = 0;  // of the zones when it was asked: they did not have the name then
    std::int64_t ends_ns = 0;
  };

  bool serve_unless_stopped() {
    {
      std::lock_guard lock(mutex_);
      if (stopped_) return false;
      serving_ = true;
    }
    serve();
    std::lock_guard lock(mutex_);
    serving_ = false;
    return !stopped_;
  }

  void serve() {
    for (int round = 0; round < kRoundsMax; ++round) {
      const std::size_t count = receive();
      // Behind receive(): who asks after a publish() has returned is answered from what was published.
      if (const std::uint64_t version = service_->version(); version != memo_version_) {
        memo_.clear();
        memo_version_ = version;
      }
      take_arrived();
      now_ns_ = engine_.clock().now().steady_ns;
      answer_count_ = 0;
      remembered_ = {};
      for (std::size_t i = 0; i < count; ++i) answer(i);
      // Counted first: who has an answer finds it counted.
      if (remembered_.answers > 0) service_->count_remembered(remembered_);
      service_->took(now_ns_, answer_count_);
      if (answer_count_ > 0) send(answer_messages_.data(), answer_count_);
      if (count < kBatch) break;
    }
  }

  void answer(std::size_t i) {
    const net::IpAddress source = ip_of(routes_[i].source);
    if (!service_->admits(source)) return;
    const std::string_view packet(packets_.get() + i * kQueryBytesMax, queries_[i].msg_len);
    const RateVerdict verdict = service_->limit(source, packet);
    if (verdict == RateVerdict::drop) return;
    if (verdict == RateVerdict::slip) return queue(i, service_->refer_to_tcp(packet));
    const bool plain = read_plain_question(packet, seed_, question_);
    char* room = answers_.get() + i * kEdnsUdpBytes;
    if (plain) {
      const auto found = memo_.find(packet, question_, rotation_++, now_ns_, room);
      if (found.bytes > 0) {
        const bool name_error = (room[3] & 0xf) == static_cast<char>(Rcode::name_error);
        remembered_.add(question_.type, name_error, found.upstream);
        return queue(i, room, found.bytes);
      }
    }
    auto handled = service_->handle(packet, {source, true});
    // Answers that were cut to a size are not for everybody.
    const bool whole = question_.bytes_max == (question_.edns ? kEdnsUdpBytes : kUdpBytes);
    if (handled.rest) {
      const bool common =
          packet.size() > 3 && (packet[2] & 0x01) != 0 && (packet[3] & 0x10) == 0;  // RD, no CD
      return finish_later(i, std::move(*handled.rest), plain && whole && common);
    }
    if (plain && handled.keep && whole && (handled.packet[2] & 0x02) == 0)
      memo_.remember(question_, handled.packet);
    queue(i, std::move(handled.packet));
  }

  void finish_later(std::size_t i, Service::Unfinished rest, bool keep) {
    std::shared_ptr<Arrived> kept;
    if (keep && rest.may_keep()) kept = std::make_shared<Arrived>(Arrived{question_, {}, memo_version_, 0});
    service_->finish(std::move(rest), [weak = weak_from_this(), route = routes_[i], kept,
                                       begin_ns = now_ns_](std::string packet) {
      const auto self = weak.lock();
      if (!self) return;
      self->service_->took(begin_ns);
      if (kept) self->arrive(*kept, packet);
      iovec vector{packet.data(), packet.size()};
      mmsghdr message{};
      address(message.msg_hdr, route, vector);
      self->send(&message, 1);
    });
  }

  /// On the forwarder's strand. An answer from upstream waits here for the next serve().
  void arrive(Arrived& kept, const std::string& packet) {
    const int rcode = packet[3] & 0xf;
    const bool answer =
        rcode == static_cast<int>(Rcode::no_error) || rcode == static_cast<int>(Rcode::name_error);
    if (!answer || (packet[2] & 0x02) != 0) return;
    kept.packet = packet;
    kept.ends_ns = engine_.clock().now().steady_ns + kUpstreamKeptNs;
    std::lock_guard lock(arrived_mutex_);
    if (arrived_.size() < kArrivedMax) arrived_.push_back(std::move(kept));
    has_arrived_.store(true, std::memory_order_release);
  }
  void take_arrived() {
    if (!has_arrived_.load(std::memory_order_acquire)) return;
    std::vector<Arrived> all;
    {
      std::lock_guard lock(arrived_mutex_);
      all.swap(arrived_);
      has_arrived_.store(false, std::memory_order_release);
    }
    for (const Arrived& one : all) {
      if (one.version == memo_version_) memo_.remember(one.question, one.packet, one.ends_ns);
    }
  }

  void queue(std::size_t i, std::string packet) {
    if (packet.empty()) return;
    slow_answers_[i] = std::move(packet);
    queue(i, slow_answers_[i].data(), slow_answers_[i].size());
  }
  void queue(std::size_t i, char* data, std::size_t size) {
    answer_vectors_[answer_count_] = {data, size};
    address(answer_messages_[answer_count_].msg_hdr, routes_[i], answer_vectors_[answer_count_]);
    ++answer_count_;
  }
  static void address(msghdr& header, const Route& route, iovec& vector) {
    header.msg_name = const_cast<sockaddr_storage*>(&route.source.storage);
    header.msg_namelen = route.source.size;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = route.control_bytes == 0 ? nullptr : const_cast<char*>(route.control.data());
    header.msg_controllen = route.control_bytes;
  }

  std::size_t receive() {
    for (std::size_t i = 0; i < last_count_; ++i) {
      queries_[i].msg_hdr.msg_namelen = sizeof(sockaddr_storage);
      queries_[i].msg_hdr.msg_controllen = routes_[i].control.size();
    }
    std::lock_guard lock(mutex_);
    last_count_ = 0;
    if (stopped_) return 0;
    const int count = ::recvmmsg(socket_.get(), queries_.data(), kBatch, MSG_DONTWAIT, nullptr);
    if (count <= 0) return 0;
    last_count_ = static_cast<std::size_t>(count);
    for (std::size_t i = 0; i < last_count_; ++i) {
      routes_[i].source.size = queries_[i].msg_hdr.msg_namelen;
      routes_[i].control_bytes = queries_[i].msg_hdr.msg_controllen;
      if (routes_[i].control_bytes > 0) forget_interface(queries_[i].msg_hdr);
    }
    return last_count_;
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

  void send(mmsghdr* messages, std::size_t count) {
    std::lock_guard lock(mutex_);
    std::size_t sent = 0;
    while (sent < count && !stopped_) {
      const int done = ::sendmmsg(socket_.get(), messages + sent, static_cast<unsigned>(count - sent),
                                  MSG_DONTWAIT | MSG_NOSIGNAL);
      // A datagram that cannot go (no route, full buffer) is lost, as datagrams may be; the rest goes on.
      sent += done > 0 ? static_cast<std::size_t>(done) : 1;
    }
  }

  Engine& engine_;
  std::mutex mutex_;
  std::condition_variable over_;
  Fd socket_;
  const Fd wake_;  ///< readable: stop
  bool running_ = false, serving_ = false;
  const std::shared_ptr<Service> service_;
  std::mutex arrived_mutex_;
  std::vector<Arrived> arrived_;
  std::atomic<bool> has_arrived_{false};
  // What follows is only touched in serve().
  AnswerMemo memo_;
  std::uint64_t memo_version_ = 0, seed_ = 0;
  std::uint32_t rotation_ = 0;
  PlainQuestion question_;
  std::unique_ptr<char[]> packets_, answers_;
  std::array<Route, kBatch> routes_;
  std::array<mmsghdr, kBatch> queries_{}, answer_messages_{};
  std::array<iovec, kBatch> query_vectors_{}, answer_vectors_{};
  std::array<std::string, kBatch> slow_answers_;
  std::size_t last_count_ = kBatch, answer_count_ = 0;
  RememberedCounts remembered_;  // of this round
  std::int64_t now_ns_ = 0;
  bool stopped_ = false;
};

}  // namespace

Result<std::shared_ptr<UdpListener>> start_udp_listener(Engine& engine, Fd socket,
                                                        std::shared_ptr<Service> service) {
  const int on = 1;
  const auto own = http::local_address(socket.get());
  if (!own || is_any(*own)) {
    ::setsockopt(socket.get(), IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
  }
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBufferBytes, sizeof kReceiveBufferBytes);
  auto listener = std::make_shared<Listener>(engine, std::move(socket), std::move(service));
  ORC_TRY(engine.post_blocking([listener] { listener->run(); }));
  return std::shared_ptr<UdpListener>(std::move(listener));
}

}  // namespace orchestra::dns
