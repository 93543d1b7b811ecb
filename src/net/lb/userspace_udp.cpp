// UDP relay: a flow per client, each with a socket of its own towards its endpoint.
//
// The endpoint's answers come in on the flow's socket and go out by the listener, from the very address
// the client asked (IP_PKTINFO: a node port listens on all of them). A flow ends after 60 s without a
// datagram, when its endpoint is gone (the client's next datagram starts a new one), or as the least
// recently used one when the table is full.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>
#include <optional>

#include "net/lb/relay_picker.hpp"
#include "net/podnet/in_namespace.hpp"

namespace orchestra::net {
namespace {

namespace asio = boost::asio;
using asio::ip::udp;
using boost::system::error_code;

constexpr std::size_t kDatagramBytes = 65536;
constexpr int kDatagramsPerTurn = 64;
constexpr auto kSweepPeriod = std::chrono::seconds(15);
constexpr int kIdleSweepsMax = 4;  // 60 s

struct ClientKey {
  std::uint32_t address = 0, asked = 0;
  std::uint16_t port = 0;
  friend auto operator<=>(const ClientKey&, const ClientKey&) = default;
};

struct Flow {
  explicit Flow(udp::socket socket_in) : socket(std::move(socket_in)) {}
  udp::socket socket;
  ClientKey client;
  RelayTarget target;
  int idle_sweeps = 0;
  std::list<ClientKey>::iterator age;
};

struct Datagram {
  char bytes[kDatagramBytes];
  std::size_t size = 0;
  ClientKey from;
};

/// One datagram with the address it was sent to; nullopt: nothing there (any more).
bool receive(int fd, Datagram& out) {
  sockaddr_in client{};
  iovec data{out.bytes, sizeof out.bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(in_pktinfo))];
  msghdr message{};
  message.msg_name = &client;
  message.msg_namelen = sizeof client;
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const auto got = ::recvmsg(fd, &message, MSG_DONTWAIT);
  if (got < 0) return false;
  out.size = static_cast<std::size_t>(got);
  out.from = {ntohl(client.sin_addr.s_addr), 0, ntohs(client.sin_port)};
  for (auto* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != IPPROTO_IP || header->cmsg_type != IP_PKTINFO) continue;
    in_pktinfo info{};
    std::memcpy(&info, CMSG_DATA(header), sizeof info);
    out.from.asked = ntohl(info.ipi_addr.s_addr);
  }
  return true;
}

void send_from(int fd, const ClientKey& client, const char* bytes, std::size_t size) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(client.port);
  name.sin_addr.s_addr = htonl(client.address);
  iovec data{const_cast<char*>(bytes), size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(in_pktinfo))] = {};
  msghdr message{};
  message.msg_name = &name;
  message.msg_namelen = sizeof name;
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  auto* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = IPPROTO_IP;
  header->cmsg_type = IP_PKTINFO;
  header->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
  in_pktinfo info{};
  info.ipi_spec_dst.s_addr = htonl(client.asked);
  std::memcpy(CMSG_DATA(header), &info, sizeof info);
  (void)::sendmsg(fd, &message, MSG_DONTWAIT);  // a lost datagram is a lost datagram
}

class UdpRelay final : public Relay, public std::enable_shared_from_this<UdpRelay> {
 public:
  UdpRelay(std::shared_ptr<RelayShared> shared, Fd socket, RelayTargets targets)
      : shared_(std::move(shared)),
        socket_(asio::make_strand(shared_->context), udp::v4(), socket.release()),
        sweep_(socket_.get_executor()) {
    picker_.set(std::move(targets));
  }
  ~UdpRelay() override { shared_->udp_flows_open -= flows_.size(); }

  void start() {
    asio::post(socket_.get_executor(), [self = shared_from_this()] {
      self->wait();
      self->wait_for_sweep();
    });
  }
  void set_targets(RelayTargets targets) override {
    asio::post(socket_.get_executor(), [self = shared_from_this(), targets = std::move(targets)]() mutable {
      self->picker_.set(std::move(targets));
      self->drop_flows([&](const Flow& flow) {
        const auto& list = self->picker_.targets().list;
        return std::find(list.begin(), list.end(), flow.target) == list.end();
      });
    });
  }
  Pending<void> stop_listening() override {
    Promise<void> closed;
    asio::post(socket_.get_executor(), [self = shared_from_this(), closed] {
      error_code ignored;
      self->socket_.close(ignored);
      self->sweep_.cancel();
      self->drop_flows([](const Flow&) { return true; });
      closed.set({});
    });
    return closed.pending();
  }
  void close() override { (void)stop_listening(); }

 private:
  void wait() {
    socket_.async_wait(udp::socket::wait_read, [self = shared_from_this()](error_code error) {
      if (error || !self->socket_.is_open()) return;
      auto datagram = std::make_unique<Datagram>();
      for (int i = 0; i < kDatagramsPerTurn && receive(self->socket_.native_handle(), *datagram); ++i) {
        self->forward(*datagram);
      }
      self->wait();
    });
  }

  void forward(const Datagram& datagram) {
    auto found = flows_.find(datagram.from);
    std::shared_ptr<Flow> flow = found != flows_.end() ? found->second : open_flow(datagram.from);
    if (!flow) return;
    flow->idle_sweeps = 0;
    ages_.splice(ages_.end(), ages_, flow->age);
    if (::send(flow->socket.native_handle(), datagram.bytes, datagram.size, MSG_DONTWAIT) < 0 &&
        errno == ECONNREFUSED) {
      ++shared_->connect_failures;
      drop_flow(flow->client);  // the next datagram tries another endpoint
    }
  }

  std::shared_ptr<Flow> open_flow(const ClientKey& client) {
    if (picker_.targets().list.empty()) return nullptr;
    if (shared_->udp_flows_open >= shared_->udp_flows_max) {
      if (ages_.empty()) return nullptr;
      drop_flow(ages_.front());
    }
    const std::int64_t now_ns = shared_->clock.now().steady_ns;
    const RelayTarget target = picker_.pick(shared_->random, client.address, now_ns, 1).front();
    picker_.used(client.address, target, now_ns);
    auto fd = in_namespace_get<Fd>(shared_->name_space, [&]() -> Result<Fd> {
      Fd made(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      sockaddr_in name{};
      name.sin_family = AF_INET;
      name.sin_port = htons(target.port);
      name.sin_addr.s_addr = htonl(target.address);
      if (!made || ::connect(made.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
        return system_error("net", "connect", "UDP relay", errno);
      }
      return made;
    });
    if (!fd) return nullptr;
    auto flow = std::make_shared<Flow>(udp::socket(socket_.get_executor(), udp::v4(), fd->release()));
    flow->client = client;
    flow->target = target;
    flow->age = ages_.insert(ages_.end(), client);
    flows_[client] = flow;
    ++shared_->udp_flows_open;
    ++shared_->udp_flows;
    wait_for_answer(flow);
    return flow;
  }

  void wait_for_answer(const std::shared_ptr<Flow>& flow) {
    flow->socket.async_wait(udp::socket::wait_read, [self = shared_from_this(), flow](error_code error) {
      if (error || !flow->socket.is_open() || !self->socket_.is_open()) return;
      auto bytes = std::make_unique<char[]>(kDatagramBytes);
      for (int i = 0; i < kDatagramsPerTurn; ++i) {
        const auto got = ::recv(flow->socket.native_handle(), bytes.get(), kDatagramBytes, MSG_DONTWAIT);
        if (got < 0) {
          if (errno != ECONNREFUSED) break;
          ++self->shared_->connect_failures;
          return self->drop_flow(flow->client);
        }
        flow->idle_sweeps = 0;
        send_from(self->socket_.native_handle(), flow->client, bytes.get(), static_cast<std::size_t>(got));
      }
      self->wait_for_answer(flow);
    });
  }

  void drop_flow(const ClientKey client) {
    const auto found = flows_.find(client);
    if (found == flows_.end()) return;
    error_code ignored;
    found->second->socket.close(ignored);
    ages_.erase(found->second->age);
    flows_.erase(found);
    --shared_->udp_flows_open;
  }

  template <class F>
  void drop_flows(F which) {
    std::vector<ClientKey> gone;
    for (const auto& [client, flow] : flows_) {
      if (which(*flow)) gone.push_back(client);
    }
    for (const auto& client : gone) drop_flow(client);
  }

  void wait_for_sweep() {
    sweep_.expires_after(kSweepPeriod);
    sweep_.async_wait([weak = weak_from_this()](error_code error) {
      auto self = weak.lock();
      if (error || !self || !self->socket_.is_open()) return;
      self->drop_flows([](Flow& flow) { return ++flow.idle_sweeps > kIdleSweepsMax; });
      self->wait_for_sweep();
    });
  }

  std::shared_ptr<RelayShared> shared_;
  udp::socket socket_;
  asio::steady_timer sweep_;
  RelayPicker picker_;
  std::map<ClientKey, std::shared_ptr<Flow>> flows_;
  std::list<ClientKey> ages_;  // least recently used first
};

}  // namespace

Result<std::shared_ptr<Relay>> start_udp_relay(std::shared_ptr<RelayShared> shared, std::uint32_t address,
                                               std::uint16_t port, RelayTargets targets) {
  ORC_ASSIGN(Fd socket, bind_relay_socket(*shared, SOCK_DGRAM, address, port));
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  auto relay = std::make_shared<UdpRelay>(std::move(shared), std::move(socket), std::move(targets));
  relay->start();
  return std::shared_ptr<Relay>(std::move(relay));
}

}  // namespace orchestra::net
