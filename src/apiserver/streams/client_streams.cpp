// Streams of a client: see client_streams.hpp.
#include "apiserver/streams/client_streams.hpp"

#include <deque>
#include <mutex>

#include "api/status.hpp"
#include "apiserver/streams/spdy_codec.hpp"
#include "apiserver/streams/websocket_connection.hpp"
#include "base/json.hpp"

namespace orchestra::apiserver {
namespace {

constexpr std::size_t kInputBytes = 64 << 10;    // of one message
constexpr std::size_t kErrorTextMax = 64 << 10;  // of the error stream of a forwarded connection
constexpr std::size_t kCarrierReadBytes = 64 << 10;
constexpr std::uint32_t kErrorStream = 1, kDataStream = 3;
enum RemoteChannel : unsigned char { kIn = 0, kOut = 1, kErr = 2, kStatus = 3, kSize = 4, kHalfClose = 255 };

class RemoteProcess final : public ProcessStream, public std::enable_shared_from_this<RemoteProcess> {
 public:
  RemoteProcess(Engine& engine, std::shared_ptr<DuplexStream> stream, bool half_close)
      : connection_(std::make_shared<WebSocketConnection>(engine, std::move(stream),
                                                          WebSocketConnection::Side::client)),
        half_close_(half_close) {}
  ~RemoteProcess() override { connection_->close(1000, ""); }

  void start() {
    std::weak_ptr<RemoteProcess> weak = weak_from_this();
    connection_->start(
        [weak](WebSocketMessage message, std::function<void()> taken) {
          if (auto self = weak.lock()) self->arrived(message.payload, std::move(taken));
        },
        [weak] {
          if (auto self = weak.lock()) self->gone();
        });
  }

  Pending<ProcessChunk> read() override {
    Promise<ProcessChunk> promise;
    auto pending = promise.pending();
    std::optional<Waiting> next;
    {
      std::lock_guard lock(mutex_);
      if (waiting_.empty()) {
        reader_ = promise;
        return pending;
      }
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    promise.set(std::move(next->chunk));
    if (next->taken) next->taken();
    return pending;
  }
  Pending<void> write_stdin(std::string bytes) override {
    std::size_t at = 0;
    for (; bytes.size() - at > kInputBytes; at += kInputBytes)
      send_part(bytes.substr(at, kInputBytes)).on_ready([](Result<void>) {});
    return send_part(bytes.substr(at));
  }
  void close_stdin() override {
    const char message[] = {static_cast<char>(kHalfClose), static_cast<char>(kIn)};
    if (half_close_) connection_->send({message, 2}).on_ready([](Result<void>) {});
  }
  void resize(std::uint16_t columns, std::uint16_t rows) override {
    std::string message(1, static_cast<char>(kSize));
    message += "{\"Width\":" + std::to_string(columns) + ",\"Height\":" + std::to_string(rows) + "}";
    connection_->send(message).on_ready([](Result<void>) {});
  }
  void close() override { connection_->close(1000, ""); }

 private:
  struct Waiting {
    ProcessChunk chunk;
    std::function<void()> taken;  ///< asks for the next message
  };
  // Pieces go in order: the last one's end is the end of all.
  Pending<void> send_part(const std::string& bytes) {
    return connection_->send(std::string(1, static_cast<char>(kIn)) + bytes);
  }
  void arrived(const std::string& payload, std::function<void()> taken) {
    const auto channel = static_cast<unsigned char>(payload.empty() ? char(kHalfClose) : payload[0]);
    if (channel == kStatus && payload.size() > 1) {
      put({exit_of_status(payload.substr(1)), nullptr});
      return taken();
    }
    if ((channel != kOut && channel != kErr) || payload.size() == 1) return taken();
    const auto to =
        channel == kOut ? ProcessChunk::Channel::standard_output : ProcessChunk::Channel::standard_error;
    put({{to, payload.substr(1), 0, std::nullopt}, std::move(taken)});
  }
  void gone() {
    const Error lost(Error::unavailable, "client", "the connection ended before the command's exit was told");
    put({{ProcessChunk::Channel::exit, "", 0, lost}, nullptr});
  }
  void put(Waiting next) {
    std::optional<Promise<ProcessChunk>> reader;
    {
      std::lock_guard lock(mutex_);
      if (exited_) return;
      exited_ = next.chunk.channel == ProcessChunk::Channel::exit;
      if (!reader_) {
        waiting_.push_back(std::move(next));  // at most one that has `taken`, and the exit
        return;
      }
      reader.swap(reader_);
    }
    reader->set(std::move(next.chunk));
    if (next.taken) next.taken();
  }

  std::shared_ptr<WebSocketConnection> connection_;
  const bool half_close_;
  std::mutex mutex_;
  std::deque<Waiting> waiting_;
  std::optional<Promise<ProcessChunk>> reader_;
  bool exited_ = false;
};

/// One connection into a pod: an error and a data stream. The carrier is read when somebody reads here.
class RemoteForward final : public DuplexStream, public std::enable_shared_from_this<RemoteForward> {
 public:
  RemoteForward(Engine& engine, std::shared_ptr<DuplexStream> carrier, int port)
      : engine_(engine),
        carrier_(std::move(carrier)),
        sink_(std::make_shared<FrameSink>(engine, carrier_)),
        port_(std::to_string(port)) {}
  ~RemoteForward() override { RemoteForward::close(); }

  void start() {
    SpdyHeaders headers{{"streamtype", "error"}, {"port", port_}, {"requestid", "0"}};
    std::string frames = writer_.syn_stream(kErrorStream, headers, false);
    frames += SpdyWriter::data(kErrorStream, "", true);
    headers["streamtype"] = "data";
    frames += writer_.syn_stream(kDataStream, headers, false);
    send(std::move(frames));
  }
  Pending<std::string> read(std::size_t bytes_max) override {
    Promise<std::string> promise;
    auto pending = promise.pending();
    next(std::max<std::size_t>(1, bytes_max), promise);
    return pending;
  }
  Pending<void> write(std::string bytes) override {
    return sink_->send(SpdyWriter::data(kDataStream, bytes, false));
  }
  void close_write() override { send(SpdyWriter::data(kDataStream, "", true)); }
  void close() override { carrier_->close(); }

 private:
  void send(std::string frames) {
    sink_->send(std::move(frames)).on_ready([](Result<void>) {});
  }
  // One reader: what follows is touched by it alone.
  void next(std::size_t bytes_max, const Promise<std::string>& promise) {
    while (arrived_.empty()) {
      auto frame = parser_.next();
      if (!frame) break;
      take(*frame);
    }
    if (!arrived_.empty()) {
      std::string out = arrived_.substr(0, bytes_max);
      arrived_.erase(0, out.size());
      return promise.set(std::move(out));
    }
    // The error stream says why there is no data; both end with the connection.
    if (data_ended_ && error_ended_) return end(promise);
    std::weak_ptr<RemoteForward> weak = weak_from_this();  // who drops the stream ends it
    carrier_->read(kCarrierReadBytes).on_ready([weak, bytes_max, promise](Result<std::string> bytes) {
      const auto self = weak.lock();
      if (!self) return promise.set(Error(Error::cancelled, "client", "the stream was dropped"));
      if (!bytes) return promise.set(bytes.error());
      if (bytes->empty()) return self->end(promise);
      if (auto fed = self->parser_.feed(*bytes); !fed) return promise.set(fed.error());
      self->engine_.post([self, bytes_max, promise] { self->next(bytes_max, promise); });
    });
  }
  void take(const SpdyFrame& frame) {
    const bool reset = frame.type == SpdyFrame::Type::rst_stream;
    if (frame.type == SpdyFrame::Type::ping && frame.value % 2 == 0) send(SpdyWriter::ping(frame.value));
    if (frame.type != SpdyFrame::Type::data && !reset) return;
    if (frame.stream == kDataStream) arrived_ += frame.payload;
    if (frame.stream == kErrorStream && error_.size() + frame.payload.size() <= kErrorTextMax)
      error_ += frame.payload;
    if (reset && error_.empty()) error_ = "the server refused the stream";
    if (!reset && !frame.final) return;
    if (reset || frame.stream == kDataStream) data_ended_ = true;
    if (reset || frame.stream == kErrorStream) error_ended_ = true;
  }
  void end(const Promise<std::string>& promise) const {
    if (error_.empty()) return promise.set(std::string());
    promise.set(Error(Error::unavailable, "client", error_));
  }

  Engine& engine_;
  std::shared_ptr<DuplexStream> carrier_;
  std::shared_ptr<FrameSink> sink_;
  const std::string port_;
  SpdyWriter writer_;
  SpdyParser parser_;
  std::string arrived_, error_;
  bool data_ended_ = false, error_ended_ = false;
};

}  // namespace

ProcessChunk exit_of_status(const std::string& status_json) {
  ProcessChunk exit{ProcessChunk::Channel::exit, "", 0, std::nullopt};
  const auto tree = parse_json(status_json);
  if (tree && string_at(*tree, "/status") == "Success") return exit;
  if (tree && string_at(*tree, "/reason") == "NonZeroExitCode") {
    if (const json::array* causes = array_at(*tree, "/details/causes")) {
      for (const json::value& cause : *causes) {
        if (string_at(cause, "/reason") == "ExitCode")
          exit.exit_code = std::atoi(string_at(cause, "/message").c_str());
      }
    }
    if (exit.exit_code != 0) return exit;
  }
  auto status = api::parse_status(status_json);
  exit.failure =
      status ? api::status_error(std::move(*status))
             : Error(Error::unavailable, "client", "the command failed: " + status_json.substr(0, 500));
  return exit;
}

std::shared_ptr<ProcessStream> make_remote_process(Engine& engine, std::shared_ptr<DuplexStream> stream,
                                                   bool half_close) {
  auto process = std::make_shared<RemoteProcess>(engine, std::move(stream), half_close);
  process->start();
  return process;
}

std::shared_ptr<DuplexStream> make_remote_forward(Engine& engine, std::shared_ptr<DuplexStream> carrier,
                                                  int port) {
  auto forward = std::make_shared<RemoteForward>(engine, std::move(carrier), port);
  forward->start();
  return forward;
}

}  // namespace orchestra::apiserver
