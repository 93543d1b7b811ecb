#pragma once
// Framed messages over a stream: what the TCP transport of base and the TLS one of the store share.
//
// Frame: length (4 bytes, big endian, at most kMessageMax), CRC-32 of the payload, payload. A bad length
// or checksum closes the connection. Sends are queued up to kInFlightMax bytes, then `overloaded`.
// Everything of one connection runs on its strand.
#include <sys/socket.h>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "base/crc32.hpp"
#include "orchestra/env.hpp"

namespace orchestra::detail {

constexpr std::size_t kMessageMax = 64 << 20;
constexpr std::size_t kInFlightMax = 64 << 20;

inline Error closed_error(const std::string& why) {
  return {Error::unavailable, "transport", "connection closed: " + why};
}
inline std::uint32_t get_u32(const char* at) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(at);
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 |
         bytes[3];
}
inline void put_u32(char* out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) *out++ = static_cast<char>(value >> shift);
}

/// "IP:PORT" or "[IPv6]:PORT".
inline Result<boost::asio::ip::tcp::endpoint> parse_endpoint(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  boost::system::error_code failed;
  std::string host = colon == std::string::npos ? "" : address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  const auto ip = boost::asio::ip::make_address(host, failed);
  const long port = colon == std::string::npos ? -1 : std::strtol(address.c_str() + colon + 1, nullptr, 10);
  if (failed || port < 0 || port > 65535) {
    return Error(Error::invalid, "transport", "\"" + address + "\" is not IP:PORT");
  }
  return boost::asio::ip::tcp::endpoint(ip, static_cast<unsigned short>(port));
}
inline Error socket_error(const char* call, const std::string& address,
                          const boost::system::error_code& failed) {
  const auto code = failed == boost::asio::error::address_in_use ? Error::busy : Error::unavailable;
  return {code, "transport", std::string(call) + " " + address + ": " + failed.message()};
}

/// `Stream`: tcp::socket, or an asio::ssl::stream over one whose handshake is done.
template <class Stream>
class FramedConnection final : public TransportConnection,
                               public std::enable_shared_from_this<FramedConnection<Stream>> {
 public:
  /// All use of `stream` runs on `strand`.
  FramedConnection(Stream stream, boost::asio::strand<boost::asio::any_io_executor> strand)
      : stream_(std::move(stream)), strand_(std::move(strand)) {}

  void start(TransportHandler handler) {
    handler_ = std::move(handler);
    boost::system::error_code ignored;
    stream_.lowest_layer().set_option(boost::asio::ip::tcp::no_delay(true), ignored);
    boost::asio::post(strand_, [self = this->shared_from_this()] { self->read(); });
  }
  /// What is sent while a write is under way leaves together in the next one.
  Result<void> send(std::string message) override {
    if (message.size() > kMessageMax)
      return Error(Error::too_large, "transport",
                   "message of " + std::to_string(message.size()) + " bytes; at most 64 MiB");
    char head[kHead];
    put_u32(head, static_cast<std::uint32_t>(message.size()));
    put_u32(head + 4, crc32_of(message));
    {
      std::lock_guard lock(out_mutex_);
      if (out_.size() + writing_size_ > kInFlightMax)
        return Error(Error::overloaded, "transport", "64 MiB wait to be sent on this connection");
      out_.append(head, kHead);
      out_ += message;
      if (std::exchange(scheduled_, true)) return {};
    }
    boost::asio::post(strand_, [self = this->shared_from_this()] { self->write(); });
    return {};
  }
  void close() override {
    boost::asio::post(strand_,
                      [self = this->shared_from_this()] { self->end(closed_error("by this side")); });
  }

 private:
  static constexpr std::size_t kHead = 8;
  static constexpr std::size_t kReadStep = 128 << 10;
  static constexpr std::size_t kFramesAtOnce = 32;
  static constexpr std::size_t kKeptMax = 1 << 20;

  /// Behind what is there already. The buffer keeps its size: to fill 128 KiB with zeros for each read costs
  /// more than the read.
  void read() {
    if (ended_) return;
    const std::size_t room = std::max(kReadStep, wanted_ > have_ ? wanted_ - have_ : 0);
    if (in_.size() < have_ + room) in_.resize(have_ + room);
    stream_.async_read_some(
        boost::asio::buffer(in_.data() + have_, in_.size() - have_),
        boost::asio::bind_executor(strand_, [self = this->shared_from_this()](auto failed, std::size_t got) {
          if (failed) return self->end(closed_error(failed.message()));
          self->have_ += got;
          self->take_frames();
        }));
  }
  /// A few at a time: what they make us send leaves between them, so the other side has work meanwhile.
  void take_frames() {
    wanted_ = 0;
    for (std::size_t count = 0; !ended_ && have_ - taken_ >= kHead; ++count) {
      if (count == kFramesAtOnce)
        return boost::asio::post(strand_, [self = this->shared_from_this()] { self->take_frames(); });
      const std::uint32_t size = get_u32(in_.data() + taken_);
      if (size > kMessageMax) return end(closed_error("frame longer than 64 MiB"));
      if (have_ - taken_ - kHead < size) {
        wanted_ = kHead + size;
        break;
      }
      const std::string_view body(in_.data() + taken_ + kHead, size);
      if (crc32_of(body) != get_u32(in_.data() + taken_ + 4))
        return end(closed_error("frame checksum is wrong"));
      taken_ += kHead + size;
      if (handler_.on_message) handler_.on_message(std::string(body));
    }
    have_ -= taken_;
    if (have_ != 0 && taken_ != 0) std::memmove(in_.data(), in_.data() + taken_, have_);
    taken_ = 0;
    if (wanted_ <= kReadStep && in_.size() > kKeptMax) {
      in_.resize(std::max(have_, kReadStep));  // after a large message
      in_.shrink_to_fit();
    }
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
    boost::asio::async_write(
        stream_, boost::asio::buffer(writing_),
        boost::asio::bind_executor(strand_, [self = this->shared_from_this()](auto failed, std::size_t) {
          if (failed) return self->end(closed_error(failed.message()));
          self->write();
        }));
  }
  void end(const Error& why) {
    if (ended_) return;
    ended_ = true;
    boost::system::error_code ignored;
    stream_.lowest_layer().close(ignored);
    TransportHandler handler = std::move(handler_);
    handler_ = {};
    if (handler.on_closed) handler.on_closed(why);
  }

  Stream stream_;
  boost::asio::strand<boost::asio::any_io_executor> strand_;
  TransportHandler handler_;
  std::string in_;  ///< its first have_ bytes are no whole frame yet
  std::size_t have_ = 0, taken_ = 0;
  std::size_t wanted_ = 0;  ///< of the frame that has begun
  std::mutex out_mutex_;
  std::string out_;
  std::size_t writing_size_ = 0;
  bool scheduled_ = false;
  std::string writing_;
  bool ended_ = false;
};

/// Connects; `done` gets the socket, on an event thread.
template <class Done>
void dial(boost::asio::io_context& context, const std::string& address,
          const boost::asio::ip::tcp::endpoint& endpoint, Done done) {
  auto socket = std::make_shared<boost::asio::ip::tcp::socket>(context);
  socket->async_connect(endpoint, [socket, address, done = std::move(done)](auto failed) mutable {
    if (failed) return done(Result<boost::asio::ip::tcp::socket>(socket_error("connect", address, failed)));
    done(Result<boost::asio::ip::tcp::socket>(std::move(*socket)));
  });
}

/// Accepts until the listener is closed; `accepted` gets each socket.
struct AcceptLoop : std::enable_shared_from_this<AcceptLoop> {
  using tcp = boost::asio::ip::tcp;
  AcceptLoop(boost::asio::io_context& context, std::function<void(tcp::socket)> call)
      : acceptor(boost::asio::make_strand(context)), accepted(std::move(call)) {}
  /// The address with the real port.
  Result<std::string> listen(const std::string& address) {
    ORC_ASSIGN(const tcp::endpoint endpoint, parse_endpoint(address));
    boost::system::error_code failed;
    acceptor.open(endpoint.protocol(), failed);
    if (!failed) acceptor.set_option(tcp::acceptor::reuse_address(true), failed);
    if (!failed) acceptor.bind(endpoint, failed);
    if (!failed) acceptor.listen(boost::asio::socket_base::max_listen_connections, failed);
    if (failed) return socket_error("listen", address, failed);
    const tcp::endpoint real = acceptor.local_endpoint(failed);
    next();
    const std::string host =
        real.address().is_v6() ? "[" + real.address().to_string() + "]" : real.address().to_string();
    return host + ":" + std::to_string(real.port());
  }
  void next() {
    acceptor.async_accept([self = shared_from_this()](auto failed, tcp::socket socket) {
      if (!self->acceptor.is_open() || failed == boost::asio::error::invalid_argument) return;  // it ended
      if (!failed) self->accepted(std::move(socket));
      self->next();
    });
  }
  tcp::acceptor acceptor;
  std::function<void(tcp::socket)> accepted;
};

class AcceptListener final : public TransportListener {
 public:
  AcceptListener(std::shared_ptr<AcceptLoop> loop, std::string address)
      : loop_(std::move(loop)), address_(std::move(address)) {}
  /// The address is free when this returns, however busy the engine is: the kernel ends the listening at
  /// once.
  ~AcceptListener() override {
    ::shutdown(loop_->acceptor.native_handle(), SHUT_RDWR);
    boost::asio::post(loop_->acceptor.get_executor(), [loop = loop_] {
      boost::system::error_code ignored;
      loop->acceptor.close(ignored);
    });
  }
  std::string address() const override { return address_; }

 private:
  std::shared_ptr<AcceptLoop> loop_;
  std::string address_;
};

}  // namespace orchestra::detail
