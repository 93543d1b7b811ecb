// TCP relay: accept, pick, connect, move bytes both ways.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <cerrno>
#include <mutex>
#include <set>

#include "net/lb/relay_picker.hpp"
#include "net/podnet/in_namespace.hpp"

namespace orchestra::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t kReadBytes = 64 << 10;  // on the stack of the event thread
constexpr int kEndpointTriesMax = 3;
constexpr auto kConnectDeadline = std::chrono::seconds(5);
constexpr int kKeepaliveSeconds = 15;
constexpr int kListenBacklog = 1024;

void set_keepalive(int fd) {
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepaliveSeconds, sizeof kKeepaliveSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &kKeepaliveSeconds, sizeof kKeepaliveSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

class TcpRelay;

/// One client and its endpoint. All handlers run on the client socket's strand.
class TcpSession : public std::enable_shared_from_this<TcpSession> {
 public:
  TcpSession(std::shared_ptr<RelayShared> shared, tcp::socket client, std::vector<RelayTarget> targets)
      : shared_(std::move(shared)),
        client_(std::move(client)),
        endpoint_(client_.get_executor()),
        deadline_(client_.get_executor()),
        targets_(std::move(targets)) {
    ++shared_->connections_open;
  }
  ~TcpSession() { --shared_->connections_open; }

  void start() {
    asio::post(client_.get_executor(), [self = shared_from_this()] { self->connect_next(); });
  }
  void close() {
    asio::post(client_.get_executor(), [self = shared_from_this()] { self->end(); });
  }

 private:
  struct Direction {
    tcp::socket* from = nullptr;
    tcp::socket* to = nullptr;
    std::string waiting;  // read, but not taken by `to` yet; at most kReadBytes
    bool done = false;
  };

  void connect_next() {
    if (next_ >= targets_.size()) {
      // A reset, as a machine without such a port would answer.
      const linger reset{1, 0};
      ::setsockopt(client_.native_handle(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      return end();
    }
    const RelayTarget target = targets_[next_++];
    auto fd = in_namespace_get<Fd>(shared_->name_space, [&]() -> Result<Fd> {
      Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (!socket) return system_error("net", "socket", "relay", errno);
      return socket;
    });
    error_code ignored;
    endpoint_.close(ignored);
    if (!fd) return end();
    endpoint_.assign(tcp::v4(), fd->release(), ignored);
    deadline_.expires_after(kConnectDeadline);
    deadline_.async_wait([self = shared_from_this()](error_code error) {
      error_code closed;
      if (!error) self->endpoint_.close(closed);  // the connect ends with operation_aborted
    });
    const tcp::endpoint name(asio::ip::address_v4(target.address), target.port);
    endpoint_.async_connect(name, [self = shared_from_this()](error_code error) { self->connected(error); });
  }

  void connected(error_code error) {
    deadline_.cancel();
    if (ended_) return;
    if (error) {
      ++shared_->connect_failures;
      return connect_next();
    }
    error_code ignored;
    client_.non_blocking(true, ignored);
    endpoint_.non_blocking(true, ignored);
    set_keepalive(client_.native_handle());
    set_keepalive(endpoint_.native_handle());
    up_ = {&client_, &endpoint_, {}, false};
    down_ = {&endpoint_, &client_, {}, false};
    read(up_);
    read(down_);
  }

  void read(Direction& way) {
    way.from->async_wait(tcp::socket::wait_read, [self = shared_from_this(), &way](error_code error) {
      if (error || self->ended_) return self->end();
      self->move(way);
    });
  }

  void move(Direction& way) {
    char bytes[kReadBytes];
    error_code error;
    const std::size_t got = way.from->read_some(asio::buffer(bytes), error);
    if (error == asio::error::would_block) return read(way);
    if (error == asio::error::eof) return finish(way);
    if (error) return end();
    std::size_t sent = 0;
    while (sent < got) {
      sent += way.to->write_some(asio::buffer(bytes + sent, got - sent), error);
      if (error == asio::error::would_block) break;
      if (error) return end();
    }
    if (sent == got) return read(way);
    way.waiting.assign(bytes + sent, got - sent);
    write(way);
  }

  void write(Direction& way) {
    way.to->async_wait(tcp::socket::wait_write, [self = shared_from_this(), &way](error_code error) {
      if (error || self->ended_) return self->end();
      const std::size_t sent = way.to->write_some(asio::buffer(way.waiting), error);
      if (error && error != asio::error::would_block) return self->end();
      way.waiting.erase(0, sent);
      if (!way.waiting.empty()) return self->write(way);
      way.waiting.shrink_to_fit();
      self->read(way);
    });
  }

  /// One side said everything: tell the other, and go on with the way back.
  void finish(Direction& way) {
    error_code ignored;
    way.to->shutdown(tcp::socket::shutdown_send, ignored);
    way.done = true;
    if (up_.done && down_.done) end();
  }

  void end() {
    if (ended_) return;
    ended_ = true;
    error_code ignored;
    deadline_.cancel();
    client_.close(ignored);
    endpoint_.close(ignored);
  }

  std::shared_ptr<RelayShared> shared_;
  tcp::socket client_, endpoint_;
  asio::steady_timer deadline_;
  std::vector<RelayTarget> targets_;
  std::size_t next_ = 0;
  Direction up_, down_;
  bool ended_ = false;
};

class TcpRelay final : public Relay, public std::enable_shared_from_this<TcpRelay> {
 public:
  TcpRelay(std::shared_ptr<RelayShared> shared, Fd socket, RelayTargets targets)
      : shared_(std::move(shared)),
        acceptor_(asio::make_strand(shared_->context), tcp::v4(), socket.release()) {
    picker_.set(std::move(targets));
  }
  void start() {
    asio::post(acceptor_.get_executor(), [self = shared_from_this()] { self->accept(); });
  }
  void set_targets(RelayTargets targets) override {
    std::lock_guard lock(picker_mutex_);
    picker_.set(std::move(targets));
  }
  Pending<void> stop_listening() override {
    Promise<void> closed;
    asio::post(acceptor_.get_executor(), [self = shared_from_this(), closed] {
      error_code ignored;
      self->acceptor_.close(ignored);
      closed.set({});
    });
    return closed.pending();
  }
  void close() override {
    (void)stop_listening();
    std::lock_guard lock(mutex_);
    for (const auto& weak : sessions_) {
      if (auto session = weak.lock()) session->close();
    }
    sessions_.clear();
  }

 private:
  void accept() {
    if (!acceptor_.is_open()) return;
    acceptor_.async_accept(asio::make_strand(shared_->context),
                           [self = shared_from_this()](error_code error, tcp::socket client) {
                             if (error == asio::error::operation_aborted) return;
                             if (!error) self->serve(std::move(client));
                             if (error) return self->accept_later();
                             self->accept();
                           });
  }

  /// No descriptors left: do not spin on the same error.
  void accept_later() {
    auto timer =
        std::make_shared<asio::steady_timer>(acceptor_.get_executor(), std::chrono::milliseconds(50));
    timer->async_wait([self = shared_from_this(), timer](error_code) { self->accept(); });
  }

  std::vector<RelayTarget> pick(const tcp::socket& client) {
    error_code ignored;
    const auto peer = client.remote_endpoint(ignored).address();
    const std::uint32_t address = peer.is_v4() ? peer.to_v4().to_uint() : 0;
    const std::int64_t now_ns = shared_->clock.now().steady_ns;
    std::lock_guard lock(picker_mutex_);
    auto targets = picker_.pick(shared_->random, address, now_ns, kEndpointTriesMax);
    if (!targets.empty()) picker_.used(address, targets.front(), now_ns);
    return targets;
  }

  void serve(tcp::socket client) {
    auto targets = pick(client);
    if (targets.empty() || shared_->connections_open >= shared_->connections_max) {
      ++shared_->connections_refused;
      const linger reset{1, 0};
      ::setsockopt(client.native_handle(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      return;
    }
    ++shared_->connections;
    auto session = std::make_shared<TcpSession>(shared_, std::move(client), std::move(targets));
    {
      std::lock_guard lock(mutex_);
      sessions_.insert(session);
      if (sessions_.size() > 2 * shared_->connections_open + 64) {
        std::erase_if(sessions_, [](const auto& weak) { return weak.expired(); });
      }
    }
    session->start();
  }

  std::shared_ptr<RelayShared> shared_;
  tcp::acceptor acceptor_;
  std::mutex picker_mutex_;
  RelayPicker picker_;
  std::mutex mutex_;
  std::set<std::weak_ptr<TcpSession>, std::owner_less<>> sessions_;
};

}  // namespace

Result<Fd> bind_relay_socket(const RelayShared& shared, int type, std::uint32_t address, std::uint16_t port) {
  const std::string name = IpAddress::v4(address).to_string() + ":" + std::to_string(port);
  return in_namespace_get<Fd>(shared.name_space, [&]() -> Result<Fd> {
    Fd socket(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return system_error("net", "socket", name, errno);
    const int on = 1;
    if (type == SOCK_STREAM) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::setsockopt(socket.get(), IPPROTO_IP, IP_FREEBIND, &on, sizeof on);
    sockaddr_in bytes{};
    bytes.sin_family = AF_INET;
    bytes.sin_port = htons(port);
    bytes.sin_addr.s_addr = htonl(address);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&bytes), sizeof bytes) != 0) {
      const int failure = errno;
      Error error = system_error("net", "bind", name, failure);
      if (failure == EACCES) {
        return error.with_context(
            "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE");
      }
      return error;
    }
    if (type == SOCK_STREAM && ::listen(socket.get(), kListenBacklog) != 0) {
      return system_error("net", "listen", name, errno);
    }
    return socket;
  });
}

Result<std::shared_ptr<Relay>> start_tcp_relay(std::shared_ptr<RelayShared> shared, std::uint32_t address,
                                               std::uint16_t port, RelayTargets targets) {
  ORC_ASSIGN(Fd socket, bind_relay_socket(*shared, SOCK_STREAM, address, port));
  auto relay = std::make_shared<TcpRelay>(std::move(shared), std::move(socket), std::move(targets));
  relay->start();
  return std::shared_ptr<Relay>(std::move(relay));
}

}  // namespace orchestra::net
