#include "net/dns/tcp_listener.hpp"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <map>
#include <mutex>
#include <set>

#include "base/engine_impl.hpp"
#include "net/http/read_buffer.hpp"
#include "net/http/wire.hpp"

namespace orchestra::dns {
namespace {

constexpr auto kIdle = std::chrono::seconds(10);
constexpr std::size_t kConnectionsMax = 256, kConnectionsPerClientMax = 16;
constexpr std::size_t kOutstandingMax = 64;  // questions of one connection; then reading stops
constexpr std::size_t kReadBytes = 2048;

using http::ErrorCode;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using OnEnd = std::function<void(Connection*)>;
  Connection(Engine& engine, std::shared_ptr<http::Wire> wire, std::shared_ptr<Service> service,
             const http::SocketAddress& peer, bool secure, OnEnd on_end)
      : wire_(std::move(wire)),
        service_(std::move(service)),
        deadline_(std::make_shared<http::Deadline>(engine, wire_->strand())),
        client_(peer.host()),
        asker_{ip_of(peer), false, secure},
        on_end_(std::move(on_end)) {}

  const http::Strand& strand() const { return wire_->strand(); }
  const std::string& client() const { return client_; }

  void start() {
    deadline_->set(kIdle, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->close();
    });
    wire_->handshake([self = shared_from_this()](ErrorCode failed) {
      if (failed) return self->close();
      self->advance();
    });
  }

  void close() {
    if (std::exchange(closed_, true)) return;
    const auto self = shared_from_this();
    deadline_->clear();
    wire_->close();
    on_end_(this);
  }

 private:
  void advance() {
    while (!closed_ && outstanding_ + answers_.size() < kOutstandingMax) {
      const std::string_view view = buffer_.view();
      const std::size_t size = view.size() < 2 ? 0
                                               : std::size_t{static_cast<unsigned char>(view[0])} << 8 |
                                                     static_cast<unsigned char>(view[1]);
      if (view.size() < 2 || view.size() < size + 2) break;
      ask(view.substr(2, size));
      buffer_.consume(size + 2);
    }
    if (closed_ || reading_ || ended_ || outstanding_ + answers_.size() >= kOutstandingMax) {
      if (ended_ && outstanding_ == 0 && answers_.empty() && !writing_) close();
      return;
    }
    reading_ = true;
    char* room = buffer_.prepare(kReadBytes);
    wire_->read_some(room, buffer_.room(), [self = shared_from_this()](ErrorCode failed, std::size_t bytes) {
      self->reading_ = false;
      self->buffer_.commit(bytes);
      self->ended_ |= static_cast<bool>(failed);
      self->deadline_->extend(kIdle);
      self->advance();
    });
  }

  void ask(std::string_view packet) {
    const std::int64_t begin_ns = service_->begin_ns();
    auto handled = service_->handle(packet, asker_);
    if (!handled.packet.empty()) {
      service_->took(begin_ns);
      answer(std::move(handled.packet));
    }
    if (!handled.rest) return;
    ++outstanding_;
    service_->finish(std::move(*handled.rest), [weak = weak_from_this(), service = service_,
                                                strand = strand(), begin_ns](std::string packet) {
      service->took(begin_ns);
      http::asio::post(strand, [weak, packet = std::move(packet)]() mutable {
        const auto self = weak.lock();
        if (!self) return;
        --self->outstanding_;
        self->answer(std::move(packet));
        self->advance();
      });
    });
  }

  void answer(std::string packet) {
    const std::size_t size = packet.size();
    packet.insert(0, {static_cast<char>(size >> 8), static_cast<char>(size & 0xff)});
    answers_.push_back(std::move(packet));
    if (!writing_) write();
  }

  void write() {
    if (closed_) return;
    writing_ = true;
    auto batch = std::make_shared<std::deque<std::string>>(std::exchange(answers_, {}));
    std::vector<http::asio::const_buffer> buffers;
    for (const std::string& one : *batch) buffers.push_back(http::asio::buffer(one));
    wire_->write(std::move(buffers), [self = shared_from_this(), batch](ErrorCode failed, std::size_t) {
      self->writing_ = false;
      if (failed) return self->close();
      self->deadline_->extend(kIdle);
      if (!self->answers_.empty()) self->write();
      self->advance();
    });
  }

  const std::shared_ptr<http::Wire> wire_;
  const std::shared_ptr<Service> service_;
  const std::shared_ptr<http::Deadline> deadline_;
  const std::string client_;
  const Service::Asker asker_;
  const OnEnd on_end_;
  http::ReadBuffer buffer_;
  std::deque<std::string> answers_;
  std::size_t outstanding_ = 0;
  bool reading_ = false, writing_ = false, ended_ = false, closed_ = false;
};

class Listener final : public TcpListener, public std::enable_shared_from_this<Listener> {
 public:
  Listener(Engine& engine, std::shared_ptr<Service> service, http::SharedTlsContext tls)
      : engine_(engine), service_(std::move(service)), tls_(std::move(tls)) {}

  void start(Fd socket) {
    acceptor_ =
        http::Acceptor::start(engine_, std::move(socket), [weak = weak_from_this()](Fd fd, std::string) {
          if (const auto self = weak.lock()) self->accept(std::move(fd));
        });
  }

  void set_tls(http::SharedTlsContext context) override {
    std::lock_guard lock(mutex_);
    tls_ = std::move(context);
  }

  void stop() override {
    acceptor_->stop();
    std::map<Connection*, std::shared_ptr<Connection>> connections;
    {
      std::lock_guard lock(mutex_);
      connections.swap(connections_);
    }
    for (const auto& [key, connection] : connections) {
      http::asio::post(connection->strand(), [connection = connection] { connection->close(); });
    }
  }

 private:
  void accept(Fd fd) {
    const auto peer = http::peer_address(fd.get());
    if (!peer || !service_->admits(ip_of(*peer))) return;  // the Fd closes
    const std::string client = peer->host();
    std::lock_guard lock(mutex_);
    if (connections_.size() >= kConnectionsMax || per_client_[client] >= kConnectionsPerClientMax) return;
    ++per_client_[client];
    const auto strand = http::asio::make_strand(event_context(engine_));
    auto wire = tls_ ? http::make_tls_wire(strand, std::move(fd), peer->family(), tls_, http::TlsRole::server)
                     : http::make_plain_wire(strand, std::move(fd), peer->family());
    auto connection = std::make_shared<Connection>(engine_, std::move(wire), service_, *peer, tls_ != nullptr,
                                                   [weak = weak_from_this()](Connection* ended) {
                                                     if (const auto self = weak.lock()) self->forget(ended);
                                                   });
    connections_.emplace(connection.get(), connection);
    http::asio::post(connection->strand(), [connection] { connection->start(); });
  }

  void forget(Connection* connection) {
    std::lock_guard lock(mutex_);
    if (--per_client_[connection->client()] == 0) per_client_.erase(connection->client());
    connections_.erase(connection);
  }

  Engine& engine_;
  const std::shared_ptr<Service> service_;
  std::shared_ptr<http::Acceptor> acceptor_;
  std::mutex mutex_;
  http::SharedTlsContext tls_;
  std::map<Connection*, std::shared_ptr<Connection>> connections_;
  std::map<std::string, std::size_t> per_client_;
};

}  // namespace

std::shared_ptr<TcpListener> start_tcp_listener(Engine& engine, Fd socket, std::shared_ptr<Service> service,
                                                http::SharedTlsContext tls) {
  auto listener = std::make_shared<Listener>(engine, std::move(service), std::move(tls));
  listener->start(std::move(socket));
  return listener;
}

}  // namespace orchestra::dns
