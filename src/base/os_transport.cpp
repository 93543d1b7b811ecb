// The real Transport: framed messages over TCP, one connection per direction.
//
// Frame: length (4 bytes, big endian, at most kMessageMax), CRC-32 of the payload, payload. A bad length
// or checksum closes the connection. Sends are queued up to kInFlightMax bytes, then `overloaded`.
// Everything of one connection runs on its strand.
#include <zlib.h>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <mutex>

#include "base/engine_impl.hpp"
#include "orchestra/env.hpp"

namespace orchestra {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {
constexpr std::size_t kMessageMax = 64 << 20;
constexpr std::size_t kInFlightMax = 64 << 20;

Error closed(const std::string& why) {
  return {Error::unavailable, "transport", "connection closed: " + why};
}

std::uint32_t get_u32(const char* at) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(at);
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 |
         bytes[3];
}
void put_u32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}
std::uint32_t checksum(std::string_view bytes) {
  return static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

class Connection final : public TransportConnection, public std::enable_shared_from_this<Connection> {
 public:
  explicit Connection(tcp::socket socket)
      : socket_(std::move(socket)), strand_(asio::make_strand(socket_.get_executor())) {}

  void start(TransportHandler handler) {
    handler_ = std::move(handler);
    boost::system::error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    asio::post(strand_, [self = shared_from_this()] { self->read(); });
  }
  /// What is sent while a write is under way leaves together in the next one.
  Result<void> send(std::string message) override {
    if (message.size() > kMessageMax)
      return Error(Error::too_large, "transport",
                   "message of " + std::to_string(message.size()) + " bytes; at most 64 MiB");
    {
      std::lock_guard lock(out_mutex_);
      if (out_.size() + writing_size_ > kInFlightMax)
        return Error(Error::overloaded, "transport", "64 MiB wait to be sent on this connection");
      out_.reserve(out_.size() + message.size() + kHead);
      put_u32(out_, static_cast<std::uint32_t>(message.size()));
      put_u32(out_, checksum(message));
      out_ += message;
      if (std::exchange(scheduled_, true)) return {};
    }
    asio::post(strand_, [self = shared_from_this()] { self->write(); });
    return {};
  }
  void close() override {
    asio::post(strand_, [self = shared_from_this()] { self->end(closed("by this side")); });
  }

 private:
  static constexpr std::size_t kHead = 8;
  static constexpr std::size_t kReadStep = 128 << 10;

  void read() {
    if (ended_) return;
    const std::size_t have = in_.size();
    in_.resize(have + std::max(kReadStep, wanted_ > have ? wanted_ - have : 0));
    socket_.async_read_some(
        asio::buffer(in_.data() + have, in_.size() - have),
        asio::bind_executor(strand_, [self = shared_from_this(), have](auto failed, std::size_t got) {
          if (failed) return self->end(closed(failed.message()));
          self->in_.resize(have + got);
          self->take_frames();
        }));
  }
  void take_frames() {
    std::size_t at = 0;
    wanted_ = 0;
    while (!ended_ && in_.size() - at >= kHead) {
      const std::uint32_t size = get_u32(in_.data() + at);
      if (size > kMessageMax) return end(closed("frame longer than 64 MiB"));
      if (in_.size() - at - kHead < size) {
        wanted_ = kHead + size;
        break;
      }
      const std::string_view body = std::string_view(in_).substr(at + kHead, size);
      if (checksum(body) != get_u32(in_.data() + at + 4)) return end(closed("frame checksum is wrong"));
      at += kHead + size;
      if (handler_.on_message) handler_.on_message(std::string(body));
    }
    in_.erase(0, at);
    read();
  }
  void write() {
    {
      std::lock_guard lock(out_mutex_);
      writing_.clear();
      writing_.swap(out_);
      writing_size_ = writing_.size();
      if (writing_.empty() || ended_) {
        scheduled_ = false;
        return;
      }
    }
    asio::async_write(socket_, asio::buffer(writing_),
                      asio::bind_executor(strand_, [self = shared_from_this()](auto failed, std::size_t) {
                        if (failed) return self->end(closed(failed.message()));
                        self->write();
                      }));
  }
  void end(const Error& why) {
    if (ended_) return;
    ended_ = true;
    boost::system::error_code ignored;
    socket_.close(ignored);
    TransportHandler handler = std::move(handler_);
    handler_ = {};
    if (handler.on_closed) handler.on_closed(why);
  }

  tcp::socket socket_;
  asio::strand<tcp::socket::executor_type> strand_;
  TransportHandler handler_;
  std::string in_;          ///< bytes that are no whole frame yet
  std::size_t wanted_ = 0;  ///< of the frame that has begun
  std::mutex out_mutex_;
  std::string out_;
  std::size_t writing_size_ = 0;
  bool scheduled_ = false;
  std::string writing_;
  bool ended_ = false;
};

Result<tcp::endpoint> parse(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  boost::system::error_code failed;
  std::string host = colon == std::string::npos ? "" : address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  const auto ip = asio::ip::make_address(host, failed);
  const long port = colon == std::string::npos ? -1 : std::strtol(address.c_str() + colon + 1, nullptr, 10);
  if (failed || port < 0 || port > 65535) {
    return Error(Error::invalid, "transport", "\"" + address + "\" is not IP:PORT");
  }
  return tcp::endpoint(ip, static_cast<unsigned short>(port));
}

struct AcceptLoop : std::enable_shared_from_this<AcceptLoop> {
  AcceptLoop(asio::io_context& context, Transport::Accept call)
      : acceptor(asio::make_strand(context)), accept(std::move(call)) {}
  void next() {
    acceptor.async_accept([self = shared_from_this()](auto failed, tcp::socket socket) {
      if (!self->acceptor.is_open()) return;
      if (!failed) {
        auto connection = std::make_shared<Connection>(std::move(socket));
        connection->start(self->accept(connection));
      }
      self->next();
    });
  }
  tcp::acceptor acceptor;
  Transport::Accept accept;
};

class Listener final : public TransportListener {
 public:
  Listener(std::shared_ptr<AcceptLoop> loop, std::string address)
      : loop_(std::move(loop)), address_(std::move(address)) {}
  ~Listener() override {
    asio::post(loop_->acceptor.get_executor(), [loop = loop_] {
      boost::system::error_code ignored;
      loop->acceptor.close(ignored);
    });
  }
  std::string address() const override { return address_; }

 private:
  std::shared_ptr<AcceptLoop> loop_;
  std::string address_;
};

class TcpTransport final : public Transport {
 public:
  explicit TcpTransport(Engine& engine) : engine_(engine) {}
  Result<std::unique_ptr<TransportListener>> listen(const std::string& address, Accept accept) override {
    ORC_ASSIGN(const tcp::endpoint endpoint, parse(address));
    auto loop = std::make_shared<AcceptLoop>(event_context(engine_), std::move(accept));
    boost::system::error_code failed;
    loop->acceptor.open(endpoint.protocol(), failed);
    if (!failed) loop->acceptor.set_option(tcp::acceptor::reuse_address(true), failed);
    if (!failed) loop->acceptor.bind(endpoint, failed);
    if (!failed) loop->acceptor.listen(asio::socket_base::max_listen_connections, failed);
    if (failed) return system_error_of("listen", address, failed);
    const tcp::endpoint real = loop->acceptor.local_endpoint(failed);
    loop->next();
    const std::string host =
        real.address().is_v6() ? "[" + real.address().to_string() + "]" : real.address().to_string();
    return std::unique_ptr<TransportListener>(
        std::make_unique<Listener>(loop, host + ":" + std::to_string(real.port())));
  }
  Pending<std::shared_ptr<TransportConnection>> connect(const std::string& address,
                                                        TransportHandler handler) override {
    auto endpoint = parse(address);
    if (!endpoint) return endpoint.error();
    Promise<std::shared_ptr<TransportConnection>> promise;
    auto pending = promise.pending();
    auto socket = std::make_shared<tcp::socket>(event_context(engine_));
    socket->async_connect(*endpoint,
                          [promise, socket, address, handler = std::move(handler)](auto failed) mutable {
                            if (failed) return promise.set(system_error_of("connect", address, failed));
                            auto connection = std::make_shared<Connection>(std::move(*socket));
                            connection->start(std::move(handler));
                            promise.set(std::shared_ptr<TransportConnection>(connection));
                          });
    return pending;
  }

 private:
  static Error system_error_of(const char* call, const std::string& address,
                               const boost::system::error_code& failed) {
    const auto code = failed == asio::error::address_in_use ? Error::busy : Error::unavailable;
    return {code, "transport", std::string(call) + " " + address + ": " + failed.message()};
  }
  Engine& engine_;
};
}  // namespace

std::unique_ptr<Transport> make_tcp_transport(Engine& engine) {
  return std::make_unique<TcpTransport>(engine);
}

}  // namespace orchestra
