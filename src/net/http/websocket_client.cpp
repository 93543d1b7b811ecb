// WebSocket client: one HTTP request that ends in 101, then frames on the same connection.
//
// A state machine on the wire's strand: one read and one write outstanding. Each kPingEvery a ping goes
// out; a server from which nothing came in a whole such time after it counts as gone (it was stopped, or
// the way to it is cut): TCP alone would not tell for minutes.
#include "net/http/websocket_client.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <mutex>

#include "base/base64.hpp"
#include "net/http/client_attempt.hpp"
#include "net/http/websocket_codec.hpp"
#include "orchestra/env.hpp"

namespace orchestra::http {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kMessageBytesMax = 16 << 20;  // an etcd event with both values, in base64
constexpr auto kPingEvery = std::chrono::seconds(5);

class Socket : public std::enable_shared_from_this<Socket> {
 public:
  Socket(Engine& engine, std::string where, std::unique_ptr<ClientConnection> connection,
         WebSocketHandler handler)
      : engine_(engine),
        where_(std::move(where)),
        connection_(std::move(connection)),
        handler_(std::move(handler)),
        opcode_(handler_.binary ? WebSocketOpcode::binary : WebSocketOpcode::text),
        queue_bytes_max_(handler_.queue_bytes_max),
        parser_(WebSocketParser::From::server, kMessageBytesMax),
        ping_(std::make_shared<Deadline>(engine, connection_->wire->strand())) {}

  void start() {
    asio::post(strand(), [self = shared_from_this()] {
      self->arm_ping();
      if (self->take(self->connection_->buffer.size())) self->read();
    });
  }

  Result<void> send(std::string_view message) {
    {
      std::lock_guard lock(mutex_);
      if (closed_) return Error(Error::unavailable, "http", where_ + ": the WebSocket is closed");
      if (queued_bytes_ + message.size() > queue_bytes_max_) {
        return Error(Error::overloaded, "http",
                     where_ + ": " + std::to_string(queued_bytes_) + " bytes wait to be sent already");
      }
    }
    push(opcode_, message);
    return {};
  }

  void close() {
    asio::post(strand(), [self = shared_from_this()] {
      self->end(Error(Error::cancelled, "http", self->where_ + ": the WebSocket was closed by us"), false);
    });
  }

 private:
  const Strand& strand() const { return connection_->wire->strand(); }

  void push(WebSocketOpcode opcode, std::string_view payload) {
    const auto mask = static_cast<std::uint32_t>(engine_.random().next());
    std::string frame = websocket_masked_frame(opcode, payload, mask);
    {
      std::lock_guard lock(mutex_);
      if (closed_) return;
      queued_bytes_ += frame.size();
      queue_.push_back(std::move(frame));
    }
    asio::post(strand(), [self = shared_from_this()] { self->write(); });
  }

  void write() {
    if (writing_ || ended_) return;
    {
      std::lock_guard lock(mutex_);
      if (queue_.empty()) return;
      out_ = std::move(queue_.front());
      queue_.pop_front();
    }
    writing_ = true;
    connection_->wire->write({asio::buffer(out_)},
                             [self = shared_from_this()](ErrorCode failed, std::size_t) {
                               self->writing_ = false;
                               {
                                 std::lock_guard lock(self->mutex_);
                                 self->queued_bytes_ -= self->out_.size();
                               }
                               if (failed) return self->end_io("writing", failed);
                               self->write();
                             });
  }

  void read() {
    if (ended_) return;
    char* room = connection_->buffer.prepare(kReadBytes);
    connection_->wire->read_some(room, connection_->buffer.room(),
                                 [self = shared_from_this()](ErrorCode failed, std::size_t bytes) {
                                   if (self->ended_) return;
                                   self->connection_->buffer.commit(bytes);
                                   self->heard_ = true;
                                   if (!self->take(bytes)) return;
                                   if (failed) return self->end_io("reading", failed);
                                   self->read();
                                 });
  }

  /// False when the connection has ended.
  bool take(std::size_t bytes) {
    if (bytes == 0) return !ended_;
    auto fed = parser_.feed(connection_->buffer.view());
    connection_->buffer.consume(connection_->buffer.size());
    while (auto message = parser_.next()) {
      switch (message->kind) {
        case WebSocketMessage::Kind::text:
        case WebSocketMessage::Kind::binary:
          if (handler_.on_message) handler_.on_message(std::move(message->payload));
          break;
        case WebSocketMessage::Kind::ping:
          push(WebSocketOpcode::pong, message->payload);
          break;
        case WebSocketMessage::Kind::pong:
          break;
        case WebSocketMessage::Kind::close:
          end(Error(Error::unavailable, "http",
                    where_ + ": the server closed the WebSocket with code " +
                        std::to_string(message->close_code) +
                        (message->payload.empty() ? "" : " (" + message->payload + ")")),
              true);
          return false;
      }
      if (ended_) return false;
    }
    if (!fed) end(fed.error().with_context(where_), true);
    return !ended_;
  }

  void arm_ping() {
    ping_->set(kPingEvery, [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (!self || self->ended_) return;
      if (self->asked_ && !self->heard_) {
        return self->end(Error(Error::unavailable, "http", self->where_ + ": the server answers no ping"),
                         true);
      }
      self->asked_ = true;
      self->heard_ = false;
      self->push(WebSocketOpcode::ping, "");
      self->arm_ping();
    });
  }

  void end_io(const char* what, ErrorCode failed) {
    end(Error(Error::unavailable, "http", where_ + ": " + what + ": " + failed.message()), true);
  }

  void end(const Error& why, bool tell) {
    if (std::exchange(ended_, true)) return;
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
      queue_.clear();
    }
    ping_->clear();
    connection_->wire->close();
    WebSocketHandler handler = std::move(handler_);
    handler_ = {};
    if (tell && handler.on_closed) handler.on_closed(why);
  }

  Engine& engine_;
  const std::string where_;
  std::unique_ptr<ClientConnection> connection_;
  WebSocketHandler handler_;
  const WebSocketOpcode opcode_;
  const std::size_t queue_bytes_max_;
  WebSocketParser parser_;
  std::shared_ptr<Deadline> ping_;
  bool writing_ = false, ended_ = false, asked_ = false, heard_ = true;  // on the strand
  std::string out_;
  std::mutex mutex_;  ///< guards what follows
  bool closed_ = false;
  std::deque<std::string> queue_;
  std::size_t queued_bytes_ = 0;
};

/// What the user holds: its end is the end of the connection.
class Handle final : public WebSocket {
 public:
  explicit Handle(std::shared_ptr<Socket> socket) : socket_(std::move(socket)) {}
  ~Handle() override { socket_->close(); }
  Result<void> send(std::string message) override { return socket_->send(message); }
  void close() override { socket_->close(); }

 private:
  std::shared_ptr<Socket> socket_;
};

}  // namespace

Pending<std::shared_ptr<WebSocket>> connect_web_socket(Engine& engine, std::shared_ptr<ClientPool> pool,
                                                       HttpRequest request, WebSocketHandler handler) {
  auto url = parse_url(request.url);
  if (!url) return url.error();
  const std::string where = "WebSocket " + url->text();
  std::string nonce(16, '\0');
  engine.random().fill(nonce.data(), nonce.size());
  const std::string key = encode_base64_text(nonce);
  request.method = "GET";
  request.headers.emplace_back("Upgrade", "websocket");
  request.headers.emplace_back("Connection", "Upgrade");
  request.headers.emplace_back("Sec-WebSocket-Version", "13");
  request.headers.emplace_back("Sec-WebSocket-Key", key);
  const Duration total = std::min(request.total_deadline, request.connect_deadline + request.header_deadline);
  Promise<std::shared_ptr<WebSocket>> promise;
  auto pending = promise.pending();
  const auto done = [&engine, promise, where, key, handler = std::move(handler)](AttemptResult result) {
    if (!result.response) return promise.set(result.response.error().with_context(where));
    const HttpResponse& response = *result.response;
    if (!result.upgraded) {
      return promise.set(Error(Error::unsupported, "http",
                               where + ": the server answers " + std::to_string(response.status) +
                                   " instead of 101: " + response.body.substr(0, 200)));
    }
    const auto accept = response.headers.find("sec-websocket-accept");
    if (accept == response.headers.end() || accept->second != websocket_accept(key)) {
      result.upgraded->wire->close();
      return promise.set(
          Error(Error::unsupported, "http", where + ": the server's Sec-WebSocket-Accept is wrong"));
    }
    auto socket = std::make_shared<Socket>(engine, where, std::move(result.upgraded), handler);
    promise.set(std::shared_ptr<WebSocket>(std::make_shared<Handle>(socket)));
    socket->start();
  };
  const auto any = [](int, const std::map<std::string, std::string>&) { return true; };
  auto attempt = std::make_shared<ClientAttempt>(
      engine, std::move(pool), std::make_shared<HttpRequest>(std::move(request)), std::move(*url), any, done);
  attempt->accept_upgrade();
  attempt->start(true, total);
  return pending;
}

}  // namespace orchestra::http
