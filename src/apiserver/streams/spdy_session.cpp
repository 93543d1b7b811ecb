// SPDY connections: see spdy_session.hpp.
#include "apiserver/streams/spdy_session.hpp"

#include <vector>

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kReadBytes = 64 << 10;
constexpr Duration kCloseWait = std::chrono::seconds(5);
constexpr std::uint32_t kRefusedStream = 3;
constexpr std::uint32_t kCancel = 5;

void ignore(Pending<void> pending) {
  pending.on_ready([](Result<void>) {});
}
}  // namespace

std::string SpdyStream::header(const std::string& name) const {
  const auto found = headers_.find(name);
  return found == headers_.end() ? std::string() : found->second;
}

void SpdyStream::on_data(OnData call) {
  {
    std::lock_guard lock(mutex_);
    on_data_ = std::move(call);
  }
  deliver();
}

std::size_t SpdyStream::queued() const {
  std::lock_guard lock(mutex_);
  return queued_bytes_;
}

void SpdyStream::arrived(std::string bytes, bool end) {
  {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = end;
    queued_bytes_ += bytes.size();
    queue_.emplace_back(std::move(bytes), end);
  }
  deliver();
}

void SpdyStream::deliver() {
  OnData call;
  std::pair<std::string, bool> piece;
  {
    std::lock_guard lock(mutex_);
    if (delivering_ || queue_.empty() || !on_data_) return;
    delivering_ = true;
    piece = std::move(queue_.front());
    queue_.pop_front();
    queued_bytes_ -= piece.first.size();
    call = on_data_;
    if (piece.second) on_data_ = nullptr;  // nothing follows; the reader may hold this stream
  }
  const std::size_t size = piece.first.size();
  auto self = shared_from_this();
  call(std::move(piece.first), piece.second, [self, size] {
    {
      std::lock_guard lock(self->mutex_);
      self->delivering_ = false;
    }
    auto session = self->session_.lock();
    if (!session) return;
    if (size > 0)
      ignore(session->sink_->send(SpdyWriter::window_update(self->id_, static_cast<std::uint32_t>(size))));
    session->drained();
    session->engine_.post([self] { self->deliver(); });
  });
}

void SpdyStream::abandon() {
  OnData call;
  std::lock_guard lock(mutex_);
  call.swap(on_data_);
}

Pending<void> SpdyStream::write(std::string_view bytes) {
  auto session = session_.lock();
  if (!session) return Error(Error::unavailable, "spdy", "the client is gone");
  return session->sink_->send(SpdyWriter::data(id_, bytes, false));
}

void SpdyStream::finish() {
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    finished_ = true;
  }
  if (auto session = session_.lock()) ignore(session->sink_->send(SpdyWriter::data(id_, "", true)));
}

void SpdyStream::reset() {
  if (auto session = session_.lock()) ignore(session->sink_->send(SpdyWriter::rst_stream(id_, kCancel)));
}

SpdySession::SpdySession(Engine& engine, std::shared_ptr<DuplexStream> connection)
    : engine_(engine),
      connection_(std::move(connection)),
      sink_(std::make_shared<FrameSink>(engine, connection_)) {}

void SpdySession::start(OnStream on_stream, std::function<void()> on_closed) {
  on_stream_ = std::move(on_stream);
  on_closed_ = std::move(on_closed);
  read();
}

void SpdySession::read() {
  auto self = shared_from_this();
  connection_->read(kReadBytes).on_ready([self](Result<std::string> bytes) {
    if (!bytes || bytes->empty()) return self->closed();
    if (auto fed = self->parser_.feed(*bytes); !fed) {
      self->engine_.log(LogLevel::info, "apiserver",
                        "a SPDY client broke the protocol: " + fed.error().message());
      return self->closed();
    }
    self->engine_.post([self] { self->handle(); });
  });
}

void SpdySession::handle() {
  while (auto frame = parser_.next()) {
    if (!take(std::move(*frame))) return closed();
  }
  {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    if (crowded()) {
      paused_ = true;
      return;
    }
  }
  read();
}

// With the lock held.
bool SpdySession::crowded() {
  for (const auto& [id, stream] : streams_) {
    if (stream->queued() > kQueuedBytesMax) return true;
  }
  return false;
}

void SpdySession::drained() {
  {
    std::lock_guard lock(mutex_);
    if (!paused_ || crowded()) return;
    paused_ = false;
  }
  engine_.post([self = shared_from_this()] { self->handle(); });
}

bool SpdySession::take(SpdyFrame frame) {
  using Type = SpdyFrame::Type;
  std::shared_ptr<SpdyStream> stream;
  OnStream on_stream;
  switch (frame.type) {
    case Type::syn_stream: {
      {
        std::lock_guard lock(mutex_);
        if (ended_) return false;
        on_stream = on_stream_;
        // Clients use odd numbers that grow; 0 and repeats end the connection.
        if (frame.stream % 2 == 0 || frame.stream <= last_stream_) return false;
        last_stream_ = frame.stream;
        if (streams_.size() >= kStreamsMax) {
          ignore(sink_->send(SpdyWriter::rst_stream(frame.stream, kRefusedStream)));
          return true;
        }
        stream = std::make_shared<SpdyStream>(shared_from_this(), frame.stream, std::move(frame.headers));
        streams_[frame.stream] = stream;
        ignore(sink_->send(writer_.syn_reply(frame.stream, {}, false)));
      }
      on_stream(stream);
      if (frame.final) stream->arrived("", true);
      return true;
    }
    case Type::data:
    case Type::rst_stream: {
      {
        std::lock_guard lock(mutex_);
        const auto found = streams_.find(frame.stream);
        if (found == streams_.end()) return true;
        stream = found->second;
        // The object lives on in its reader; the number is free of data from here.
        if (frame.type == Type::rst_stream || frame.final) streams_.erase(found);
      }
      const bool end = frame.type == Type::rst_stream || frame.final;
      stream->arrived(std::move(frame.payload), end);
      return true;
    }
    case Type::ping:
      if (frame.value % 2 == 1) ignore(sink_->send(SpdyWriter::ping(frame.value)));
      return true;
    case Type::goaway:
    default:
      return true;
  }
}

void SpdySession::close() {
  std::uint32_t last = 0;
  {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    last = last_stream_;
  }
  auto self = shared_from_this();
  sink_->send(SpdyWriter::goaway(last, 0)).on_ready([self](Result<void>) {
    self->engine_.after(kCloseWait, [self] { self->closed(); });
  });
}

void SpdySession::closed() {
  std::function<void()> call;
  OnStream on_stream;  // may hold its owner, so it ends outside of the lock
  std::map<std::uint32_t, std::shared_ptr<SpdyStream>> streams;
  {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    call = std::move(on_closed_);
    on_stream.swap(on_stream_);
    streams.swap(streams_);
  }
  connection_->close();
  for (const auto& [id, stream] : streams) {
    stream->arrived("", true);
    stream->abandon();
  }
  if (call) call();
}

}  // namespace orchestra::apiserver
