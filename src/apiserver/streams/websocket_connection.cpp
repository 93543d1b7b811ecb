// WebSockets of streams: see websocket_connection.hpp.
#include "apiserver/streams/websocket_connection.hpp"

#include <cstdlib>
#include <deque>

#include "apiserver/text.hpp"
#include "orchestra/env.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kReadBytes = 64 << 10;
constexpr Duration kPingInterval = std::chrono::seconds(30);
constexpr Duration kCloseWait = std::chrono::seconds(5);
constexpr Duration kHeardWait = std::chrono::seconds(1);
constexpr unsigned char kCloseChannel = 255;  // v5: "ff NN" half-closes channel NN
enum Channel : unsigned char { kStdin = 0, kStdout = 1, kStderr = 2, kError = 3, kResize = 4 };
}  // namespace

WebSocketConnection::WebSocketConnection(Engine& engine, std::shared_ptr<DuplexStream> stream, Side side)
    : engine_(engine),
      side_(side),
      stream_(std::move(stream)),
      sink_(std::make_shared<FrameSink>(engine, stream_)),
      parser_(side == Side::server ? WebSocketParser::From::client : WebSocketParser::From::server) {}

std::string WebSocketConnection::frame(WebSocketOpcode opcode, std::string_view payload) const {
  if (side_ == Side::server) return websocket_frame(opcode, payload);
  return http::websocket_masked_frame(opcode, payload, static_cast<std::uint32_t>(engine_.random().next()));
}

void WebSocketConnection::start(OnMessage on_message, std::function<void()> on_closed) {
  on_message_ = std::move(on_message);
  on_closed_ = std::move(on_closed);
  arm_ping();
  read();
}

void WebSocketConnection::arm_ping() {
  std::weak_ptr<WebSocketConnection> weak = weak_from_this();
  engine_.after(kPingInterval, [weak] {
    auto self = weak.lock();
    if (!self) return;
    {
      std::lock_guard lock(self->mutex_);
      if (self->ended_) return;
    }
    self->sink_->send(self->frame(WebSocketOpcode::ping, "")).on_ready([](Result<void>) {});
    self->arm_ping();
  });
}

void WebSocketConnection::hold_until_heard() {
  sink_->send(frame(WebSocketOpcode::ping, "")).on_ready([](Result<void>) {});
  sink_->hold();
  engine_.after(kHeardWait, [weak = std::weak_ptr<FrameSink>(sink_)] {
    if (auto sink = weak.lock()) sink->release();
  });
}

void WebSocketConnection::read() {
  auto self = shared_from_this();
  stream_->read(kReadBytes).on_ready([self](Result<std::string> bytes) {
    if (!bytes || bytes->empty()) return self->closed();
    if (auto fed = self->parser_.feed(*bytes); !fed) {
      const std::string& why = fed.error().message();
      self->close(static_cast<std::uint16_t>(std::atoi(why.c_str())),
                  why.substr(std::min<std::size_t>(5, why.size())));
      return self->closed();
    }
    self->deliver_soon();
  });
}

std::function<void()> WebSocketConnection::once(void (WebSocketConnection::*step)()) {
  struct Step {
    ~Step() {
      if (!done) owner->closed();
    }
    std::shared_ptr<WebSocketConnection> owner;
    bool done = false;
  };
  const auto promised = std::make_shared<Step>();
  promised->owner = shared_from_this();
  return [promised, step] {
    promised->done = true;
    (promised->owner.get()->*step)();
  };
}

void WebSocketConnection::deliver_soon() { engine_.post(once(&WebSocketConnection::deliver)); }

void WebSocketConnection::deliver() {
  while (auto message = parser_.next()) {
    sink_->release();  // whatever came: the other side reads
    switch (message->kind) {
      case WebSocketMessage::Kind::ping:
        sink_->send(frame(WebSocketOpcode::pong, message->payload)).on_ready([](Result<void>) {});
        continue;
      case WebSocketMessage::Kind::pong:
        continue;
      case WebSocketMessage::Kind::close:
        close(1000, "");
        return closed();
      default:
        break;
    }
    OnMessage call;
    {
      std::lock_guard lock(mutex_);
      call = on_message_;
    }
    if (!call) return;
    return call(std::move(*message), once(&WebSocketConnection::deliver_soon));
  }
  read();
}

Pending<void> WebSocketConnection::send(std::string_view payload, WebSocketOpcode opcode) {
  return sink_->send(frame(opcode, payload));
}

void WebSocketConnection::close(std::uint16_t code, std::string_view reason) {
  {
    std::lock_guard lock(mutex_);
    if (closing_) return;
    closing_ = true;
  }
  auto self = shared_from_this();
  sink_->send(frame(WebSocketOpcode::close, http::websocket_close_payload(code, reason)))
      .on_ready([self](Result<void>) {
        // Closed when the timer goes, also with an engine that ends before: until then all hold one another.
        const std::shared_ptr<void> end(nullptr, [self](void*) { self->closed(); });
        self->engine_.after(kCloseWait, [end] {});
      });
}

void WebSocketConnection::closed() {
  std::function<void()> call;
  OnMessage on_message;  // may hold its owner, so it ends outside of the lock
  {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    call = std::move(on_closed_);
    on_message.swap(on_message_);
  }
  sink_->release();
  // What close() has queued goes out first.
  auto self = shared_from_this();
  sink_->send("").on_ready([self](Result<void>) { self->stream_->close(); });
  if (call) call();
}

namespace {
class WebSocketChannels final : public RemoteChannels,
                                public std::enable_shared_from_this<WebSocketChannels> {
 public:
  WebSocketChannels(Engine& engine, std::shared_ptr<DuplexStream> stream, ChannelCoding coding)
      : connection_(std::make_shared<WebSocketConnection>(engine, std::move(stream))), coding_(coding) {}

  void start(std::function<void()> ready, OnInput on_input) override {
    on_input_ = std::move(on_input);
    auto self = shared_from_this();
    connection_->hold_until_heard();
    connection_->start(
        [self](WebSocketMessage message, std::function<void()> taken) {
          self->message(std::move(message), std::move(taken));
        },
        [self] { self->gone(); });
    ready();
  }
  Pending<void> write(ProcessChunk::Channel channel, std::string bytes) override {
    return send(channel == ProcessChunk::Channel::standard_error ? kStderr : kStdout, bytes);
  }
  void finish(std::string status_json) override {
    const std::string status = coding_.status_as_text ? exit_status_text(status_json) : status_json;
    if (status.empty()) return connection_->close(1000, "");
    auto self = shared_from_this();
    send(kError, status).on_ready([self](Result<void>) { self->connection_->close(1000, ""); });
  }

 private:
  Pending<void> send(Channel channel, const std::string& bytes) {
    if (coding_.base64) {
      const std::string text = static_cast<char>('0' + channel) + base64_encode(bytes);
      return connection_->send(text, WebSocketOpcode::text);
    }
    return connection_->send(static_cast<char>(channel) + bytes);
  }
  /// The number of the channel and its bytes; empty: nothing that could be read.
  std::string decoded(std::string payload) const {
    if (!coding_.base64 || payload.empty()) return payload;
    const auto bytes = base64_decode(std::string_view(payload).substr(1));
    if (payload[0] < '0' || payload[0] > '9' || !bytes) return {};
    return static_cast<char>(payload[0] - '0') + *bytes;
  }
  void message(WebSocketMessage message, std::function<void()> taken) {
    const std::string payload = decoded(std::move(message.payload));
    if (payload.empty()) return taken();
    RemoteInput input;
    const auto channel = static_cast<unsigned char>(payload[0]);
    if (channel == kCloseChannel && payload.size() == 2 && payload[1] == kStdin) {
      input.kind = RemoteInput::Kind::end_of_input;
    } else if (channel == kStdin) {
      if (payload.size() == 1) return taken();  // clients open the channel with an empty message
      input.kind = RemoteInput::Kind::standard_input;
      input.bytes = payload.substr(1);
    } else if (channel == kResize) {
      const auto size = parse_resize(std::string_view(payload).substr(1));
      if (!size) return taken();
      input.kind = RemoteInput::Kind::resize;
      std::tie(input.columns, input.rows) = *size;
    } else {
      return taken();
    }
    OnInput call;
    {
      std::lock_guard lock(mutex_);
      call = on_input_;
    }
    if (call) call(std::move(input), std::move(taken));
  }
  // The reader of the input holds these channels; it lets go here.
  void gone() {
    OnInput call;
    {
      std::lock_guard lock(mutex_);
      call.swap(on_input_);
    }
    if (call) call({}, [] {});
  }
  std::shared_ptr<WebSocketConnection> connection_;
  const ChannelCoding coding_;
  std::mutex mutex_;
  OnInput on_input_;
};

class WebSocketLog : public std::enable_shared_from_this<WebSocketLog> {
 public:
  WebSocketLog(Engine& engine, std::shared_ptr<DuplexStream> stream, std::shared_ptr<ByteStream> log,
               bool base64)
      : engine_(engine),
        connection_(std::make_shared<WebSocketConnection>(engine, std::move(stream))),
        log_(std::move(log)),
        base64_(base64) {}

  void start() {
    connection_->start([](WebSocketMessage, std::function<void()> taken) { taken(); },
                       [log = log_] { log->close(); });  // ends a read that waits for more (follow)
    send("");                                            // tells the client that the log is there
  }

 private:
  void send(const std::string& chunk) {
    auto sent =
        base64_ ? connection_->send(base64_encode(chunk), WebSocketOpcode::text) : connection_->send(chunk);
    sent.on_ready([self = shared_from_this()](Result<void> written) {
      if (!written) return self->log_->close();
      self->engine_.post([self] { self->next(); });
    });
  }
  void next() {
    log_->read(kReadBytes).on_ready([self = shared_from_this()](Result<std::string> chunk) {
      if (chunk && !chunk->empty()) return self->send(*chunk);
      self->log_->close();
      self->connection_->close(chunk ? 1000 : 1011, chunk ? "" : "the log could not be read on");
    });
  }

  Engine& engine_;
  const std::shared_ptr<WebSocketConnection> connection_;
  const std::shared_ptr<ByteStream> log_;
  const bool base64_;
};

class WebSocketTunnel final : public DuplexStream, public std::enable_shared_from_this<WebSocketTunnel> {
 public:
  WebSocketTunnel(Engine& engine, std::shared_ptr<DuplexStream> stream, WebSocketConnection::Side side)
      : connection_(std::make_shared<WebSocketConnection>(engine, std::move(stream), side)) {}
  void start() {
    std::weak_ptr<WebSocketTunnel> weak = weak_from_this();
    connection_->start(
        [weak](WebSocketMessage message, std::function<void()> taken) {
          if (auto self = weak.lock()) self->arrived(std::move(message.payload), std::move(taken));
        },
        [weak] {
          if (auto self = weak.lock()) self->ended();
        });
  }

  Pending<std::string> read(std::size_t bytes_max) override {
    Promise<std::string> promise;
    auto pending = promise.pending();
    std::function<void()> taken;
    {
      std::lock_guard lock(mutex_);
      if (buffer_.empty() && !ended_) {
        reader_ = promise;
        reader_bytes_max_ = bytes_max;
        return pending;
      }
      promise.set(take(bytes_max));
      if (buffer_.empty()) taken.swap(taken_);
    }
    if (taken) taken();
    return pending;
  }
  Pending<void> write(std::string bytes) override { return connection_->send(bytes); }
  void close_write() override { connection_->close(1000, ""); }
  void close() override { connection_->close(1000, ""); }

 private:
  std::string take(std::size_t bytes_max) {
    std::string out = buffer_.substr(0, bytes_max);
    buffer_.erase(0, out.size());
    return out;
  }
  // The next message is asked for only when this one was read.
  void arrived(std::string bytes, std::function<void()> taken) {
    std::optional<Promise<std::string>> reader;
    std::string out;
    {
      std::lock_guard lock(mutex_);
      buffer_ += bytes;
      if (reader_ && !buffer_.empty()) {
        reader.swap(reader_);
        out = take(reader_bytes_max_);
      }
      if (!buffer_.empty()) taken_.swap(taken);  // one message waits here at most
    }
    if (reader) reader->set(std::move(out));
    if (taken) taken();
  }
  void ended() {
    std::optional<Promise<std::string>> reader;
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
      reader.swap(reader_);
    }
    if (reader) reader->set(std::string());
  }
  std::shared_ptr<WebSocketConnection> connection_;
  std::mutex mutex_;
  std::string buffer_;
  std::function<void()> taken_;
  std::optional<Promise<std::string>> reader_;
  std::size_t reader_bytes_max_ = 0;
  bool ended_ = false;
};
}  // namespace

std::shared_ptr<RemoteChannels> make_websocket_channels(Engine& engine, std::shared_ptr<DuplexStream> stream,
                                                        ChannelCoding coding) {
  return std::make_shared<WebSocketChannels>(engine, std::move(stream), coding);
}

void run_websocket_log(Engine& engine, std::shared_ptr<DuplexStream> stream, std::shared_ptr<ByteStream> log,
                       bool base64) {
  std::make_shared<WebSocketLog>(engine, std::move(stream), std::move(log), base64)->start();
}

std::shared_ptr<DuplexStream> make_websocket_tunnel(Engine& engine, std::shared_ptr<DuplexStream> stream,
                                                    WebSocketConnection::Side side) {
  auto tunnel = std::make_shared<WebSocketTunnel>(engine, std::move(stream), side);
  tunnel->start();
  return tunnel;
}

}  // namespace orchestra::apiserver
