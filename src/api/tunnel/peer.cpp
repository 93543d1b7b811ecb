// Both ends of a node tunnel: see peer.hpp. The served side joins each stream to what PodStreams gives, the
// asking side wraps each as ByteStream, ProcessStream or DuplexStream.
#include "api/tunnel/peer.hpp"

#include <algorithm>

#include "api/tunnel/stream.hpp"

namespace orchestra::tunnel {
namespace {
constexpr Duration kOpenDeadline = std::chrono::seconds(30);
constexpr std::size_t kLogChunkBytes = kDataBytesMax;
enum Channel : std::uint8_t { kInput = 0, kOutput = 1, kErrors = 2 };

Error gone(const char* what) { return Error(Error::cancelled, "tunnel", what); }

Frame plain(FrameType type, std::string payload = {}) {
  Frame frame;
  frame.type = type;
  frame.payload = std::move(payload);
  return frame;
}

// --- served: from a PodStreams to the tunnel ------------------------------------------------------------

/// A log or a forwarded connection, copied out chunk by chunk.
template <class Source>
class ServedBytes : public std::enable_shared_from_this<ServedBytes<Source>> {
 public:
  ServedBytes(Engine& engine, std::shared_ptr<Stream> stream, std::shared_ptr<Source> source)
      : engine_(engine), stream_(std::move(stream)), source_(std::move(source)) {}
  void start() {
    copy_out();
    take_in();
  }

 private:
  void copy_out() {
    source_->read(kLogChunkBytes).on_ready([self = this->shared_from_this()](Result<std::string> chunk) {
      if (!chunk) return self->stream_->reset(chunk.error(), true);
      if (chunk->empty()) {
        self->stream_->send(plain(FrameType::end));
        return;
      }
      self->stream_->write(kOutput, std::move(*chunk)).on_ready([self](Result<void> written) {
        if (!written) return self->source_->close();
        self->engine_.post([self] { self->copy_out(); });
      });
    });
  }
  void take_in() {
    stream_->read().on_ready([self = this->shared_from_this()](Result<StreamEvent> event) {
      if (!event) return self->source_->close();
      self->accept(std::move(*event));
    });
  }
  void again() {
    engine_.post([self = this->shared_from_this()] { self->take_in(); });
  }
  void accept(StreamEvent event) {
    if constexpr (std::is_same_v<Source, DuplexStream>) {
      if (event.kind == StreamEvent::Kind::end) source_->close_write();
      if (event.kind == StreamEvent::Kind::data) {
        source_->write(std::move(event.bytes)).on_ready([self = this->shared_from_this()](Result<void> done) {
          if (!done) return self->stream_->reset(done.error(), true);
          self->again();
        });
        return;
      }
    }
    again();
  }
  Engine& engine_;
  const std::shared_ptr<Stream> stream_;
  const std::shared_ptr<Source> source_;
};

/// A page, as bytes.
class PageBytes final : public ByteStream {
 public:
  explicit PageBytes(std::string bytes) : bytes_(std::move(bytes)) {}
  Pending<std::string> read(std::size_t bytes_max) override {
    std::string out = bytes_.substr(at_, bytes_max);
    at_ += out.size();
    return Result<std::string>(std::move(out));
  }
  void close() override {}

 private:
  const std::string bytes_;
  std::size_t at_ = 0;
};

class ServedProcess : public std::enable_shared_from_this<ServedProcess> {
 public:
  ServedProcess(Engine& engine, std::shared_ptr<Stream> stream, std::shared_ptr<ProcessStream> process)
      : engine_(engine), stream_(std::move(stream)), process_(std::move(process)) {}
  void start() {
    copy_out();
    take_in();
  }

 private:
  void copy_out() {
    process_->read().on_ready([self = shared_from_this()](Result<ProcessChunk> chunk) {
      if (!chunk) return self->stream_->reset(chunk.error(), true);
      if (chunk->channel == ProcessChunk::Channel::exit) {
        self->stream_->send(plain(FrameType::exit, encode_exit(*chunk)));
        return;
      }
      const bool errors = chunk->channel == ProcessChunk::Channel::standard_error;
      self->stream_->write(errors ? kErrors : kOutput, std::move(chunk->bytes))
          .on_ready([self](Result<void> written) {
            if (!written) return self->process_->close();
            self->engine_.post([self] { self->copy_out(); });
          });
    });
  }
  void take_in() {
    stream_->read().on_ready([self = shared_from_this()](Result<StreamEvent> event) {
      if (!event) return self->process_->close();
      switch (event->kind) {
        case StreamEvent::Kind::data:
          // A process that no longer reads is not an error: the rest of its input is dropped.
          self->process_->write_stdin(std::move(event->bytes)).on_ready([self](Result<void>) {
            self->engine_.post([self] { self->take_in(); });
          });
          return;
        case StreamEvent::Kind::end:
          self->process_->close_stdin();
          break;
        case StreamEvent::Kind::resize:
          self->process_->resize(event->columns, event->rows);
          break;
        case StreamEvent::Kind::exit:
          break;
      }
      self->engine_.post([self] { self->take_in(); });
    });
  }
  Engine& engine_;
  const std::shared_ptr<Stream> stream_;
  const std::shared_ptr<ProcessStream> process_;
};

template <class Source, class Joined>
std::function<void(Result<std::shared_ptr<Source>>)> joiner(Engine& engine, std::shared_ptr<Stream> stream) {
  return [&engine, stream = std::move(stream)](Result<std::shared_ptr<Source>> source) {
    if (!source) return stream->reset(source.error(), true);
    stream->send(plain(FrameType::opened));
    // A read of the source may be outstanding, and holds us: closed, the source answers it.
    stream->when_reset([weak = std::weak_ptr<Source>(*source)] {
      if (const auto still = weak.lock()) still->close();
    });
    std::make_shared<Joined>(engine, stream, std::move(*source))->start();
  };
}

// --- asking: from the tunnel to streams ------------------------------------------------------------------

/// A log, or one direction of a forwarded connection.
class Bytes {
 public:
  explicit Bytes(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}
  ~Bytes() { close(); }
  Pending<std::string> read(std::size_t bytes_max) {
    if (ended_ || !rest_.empty()) return Result<std::string>(cut(bytes_max));
    return stream_->read().then([this, bytes_max](Result<StreamEvent> event) -> Result<std::string> {
      if (!event) return event.error();
      if (event->kind != StreamEvent::Kind::data) {
        ended_ = true;
        return std::string();
      }
      rest_ = std::move(event->bytes);
      return cut(bytes_max);
    });
  }
  void close() { stream_->reset(gone("the reader is gone"), true); }
  const std::shared_ptr<Stream>& stream() const { return stream_; }

 private:
  std::string cut(std::size_t bytes_max) {
    std::string out = rest_.substr(0, std::max<std::size_t>(1, bytes_max));
    rest_.erase(0, out.size());
    return out;
  }
  const std::shared_ptr<Stream> stream_;
  std::string rest_;  // touched by the one read that is outstanding
  bool ended_ = false;
};

class AskedLog final : public ByteStream {
 public:
  explicit AskedLog(std::shared_ptr<Stream> stream) : bytes_(std::make_shared<Bytes>(std::move(stream))) {}
  Pending<std::string> read(std::size_t bytes_max) override {
    return bytes_->read(bytes_max).then([keep = bytes_](Result<std::string> got) { return got; });
  }
  void close() override { bytes_->close(); }

 private:
  std::shared_ptr<Bytes> bytes_;
};

class AskedConnection final : public DuplexStream {
 public:
  explicit AskedConnection(std::shared_ptr<Stream> stream)
      : bytes_(std::make_shared<Bytes>(std::move(stream))) {}
  Pending<std::string> read(std::size_t bytes_max) override {
    return bytes_->read(bytes_max).then([keep = bytes_](Result<std::string> got) { return got; });
  }
  Pending<void> write(std::string bytes) override {
    return bytes_->stream()->write(kInput, std::move(bytes));
  }
  void close_write() override { bytes_->stream()->send(plain(FrameType::end)); }
  void close() override { bytes_->close(); }

 private:
  std::shared_ptr<Bytes> bytes_;
};

class AskedProcess final : public ProcessStream {
 public:
  explicit AskedProcess(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}
  ~AskedProcess() override { close(); }
  Pending<ProcessChunk> read() override {
    return stream_->read().then([](Result<StreamEvent> event) -> Result<ProcessChunk> {
      if (!event) return event.error();
      if (event->kind == StreamEvent::Kind::exit) return decode_exit(event->bytes);
      ProcessChunk chunk;
      chunk.channel = event->channel == kErrors ? ProcessChunk::Channel::standard_error
                                                : ProcessChunk::Channel::standard_output;
      chunk.bytes = std::move(event->bytes);
      return chunk;
    });
  }
  Pending<void> write_stdin(std::string bytes) override { return stream_->write(kInput, std::move(bytes)); }
  void close_stdin() override { stream_->send(plain(FrameType::end)); }
  void resize(std::uint16_t columns, std::uint16_t rows) override {
    Frame frame = plain(FrameType::resize);
    frame.columns = columns;
    frame.rows = rows;
    stream_->send(frame);
  }
  void close() override { stream_->reset(gone("the client is gone"), true); }

 private:
  const std::shared_ptr<Stream> stream_;
};

/// Reads a page to its end.
class AskedPage : public std::enable_shared_from_this<AskedPage> {
 public:
  AskedPage(Engine& engine, std::shared_ptr<Stream> stream) : engine_(engine), stream_(std::move(stream)) {}
  Pending<NodePage> start() {
    stream_->opened().on_ready([self = shared_from_this()](Result<void> opened) {
      opened ? self->next() : self->page_.set(opened.error());
    });
    return page_.pending();
  }

 private:
  void next() {
    stream_->read().on_ready([self = shared_from_this()](Result<StreamEvent> event) {
      if (!event) return self->page_.set(event.error());
      if (event->kind == StreamEvent::Kind::end) return self->page_.set(decode_page(self->bytes_));
      self->bytes_ += event->bytes;
      if (self->bytes_.size() > kNodePageBytesMax) {
        const Error why(Error::too_large, "tunnel", "the page is longer than a page of a node may be");
        self->stream_->reset(why, true);
        return self->page_.set(why);
      }
      self->engine_.post([self] { self->next(); });
    });
  }
  Engine& engine_;
  const std::shared_ptr<Stream> stream_;
  const Promise<NodePage> page_;
  std::string bytes_;
};

template <class Interface, class Wrapped>
Pending<std::shared_ptr<Interface>> when_open(Result<std::shared_ptr<Stream>> stream) {
  if (!stream) return stream.error();
  return (*stream)->opened().then(
      [stream = *stream](Result<void> opened) -> Result<std::shared_ptr<Interface>> {
        if (!opened) return opened.error();
        return std::shared_ptr<Interface>(std::make_shared<Wrapped>(stream));
      });
}
}  // namespace

class RemoteStreams final : public PodStreams {
 public:
  explicit RemoteStreams(std::shared_ptr<Peer> peer) : peer_(std::move(peer)) {}
  Pending<std::shared_ptr<ByteStream>> log(PodTarget target, LogOptions options) override {
    return when_open<ByteStream, AskedLog>(
        peer_->open({Request::Kind::log, std::move(target), std::move(options), {}, 0}));
  }
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget target, ExecOptions options) override {
    return when_open<ProcessStream, AskedProcess>(
        peer_->open({Request::Kind::exec, std::move(target), {}, std::move(options), 0}));
  }
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget target, int port) override {
    return when_open<DuplexStream, AskedConnection>(
        peer_->open({Request::Kind::port_forward, std::move(target), {}, {}, port}));
  }
  Pending<NodePage> page(std::string node, std::string path) override {
    Request request;
    request.kind = Request::Kind::page;
    request.target.node = std::move(node);
    request.path = std::move(path);
    auto stream = peer_->open(request);
    if (!stream) return stream.error();
    return std::make_shared<AskedPage>(peer_->engine_, std::move(*stream))->start();
  }

 private:
  const std::shared_ptr<Peer> peer_;
};

Peer::Peer(Engine& engine, Send send, std::shared_ptr<PodStreams> served)
    : engine_(engine), send_(std::move(send)), served_(std::move(served)) {}

std::shared_ptr<PodStreams> Peer::streams() { return std::make_shared<RemoteStreams>(shared_from_this()); }

Result<std::shared_ptr<Stream>> Peer::open(const Request& request) {
  Frame frame = plain(FrameType::open, encode_request(request));
  if (frame.payload.size() >= kMessageBytesMax / 2)
    return Error(Error::too_large, "tunnel", "the command is longer than the tunnel of a node takes");
  std::shared_ptr<Stream> stream;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return *closed_;
    if (streams_.size() >= kStreamsMax) {
      return Error(Error::overloaded, "tunnel",
                   "node " + request.target.node + " has " + std::to_string(kStreamsMax) +
                       " streams open already; end some, or try again later");
    }
    stream = std::make_shared<Stream>(weak_from_this(), send_, ++last_id_, false,
                                      request.kind == Request::Kind::port_forward);
    streams_.emplace(last_id_, stream);
  }
  stream->send(std::move(frame));
  engine_.after(kOpenDeadline, [weak = std::weak_ptr<Stream>(stream)] {
    auto late = weak.lock();
    if (!late || late->opened().is_ready()) return;
    late->reset(Error(Error::deadline_exceeded, "tunnel", "the node did not answer within 30 s"), true);
  });
  return stream;
}

Result<void> Peer::receive(std::string_view message) {
  ORC_ASSIGN(Frame frame, decode(message));
  if (frame.type == FrameType::statistics) {
    ORC_ASSIGN(Statistics arrived, decode_statistics(frame.payload));
    std::lock_guard lock(mutex_);
    statistics_ = std::move(arrived);
    return {};
  }
  std::shared_ptr<Stream> stream;
  if (frame.type == FrameType::open) {
    if (served_ == nullptr) return Error(Error::invalid, "tunnel", "only an API server opens streams");
    auto request = decode_request(frame.payload);
    {
      std::lock_guard lock(mutex_);
      if (closed_) return {};
      if (frame.stream <= last_id_)
        return Error(Error::invalid, "tunnel", "stream " + std::to_string(frame.stream) + " was used before");
      last_id_ = frame.stream;
      if (streams_.size() >= kStreamsMax)
        return Error(Error::invalid, "tunnel", "more than " + std::to_string(kStreamsMax) + " streams");
      stream = std::make_shared<Stream>(weak_from_this(), send_, frame.stream, true,
                                        request && request->kind == Request::Kind::port_forward);
      streams_.emplace(frame.stream, stream);
    }
    if (!request) {
      stream->reset(request.error(), true);
    } else {
      serve(stream, *request);
    }
    return {};
  }
  {
    std::lock_guard lock(mutex_);
    const auto found = streams_.find(frame.stream);
    if (found == streams_.end()) return {};
    stream = found->second;
  }
  StreamEvent event;
  event.bytes = std::move(frame.payload);
  switch (frame.type) {
    case FrameType::opened:
      stream->on_opened();
      return {};
    case FrameType::credit:
      stream->credit(frame.credit);
      return {};
    case FrameType::reset:
      stream->reset(decode_error(event.bytes), false);
      return {};
    case FrameType::data:
      event.channel = frame.channel;
      break;
    case FrameType::end:
      event.kind = StreamEvent::Kind::end;
      break;
    case FrameType::exit:
      event.kind = StreamEvent::Kind::exit;
      break;
    default:
      event.kind = StreamEvent::Kind::resize;
      event.columns = frame.columns;
      event.rows = frame.rows;
      break;
  }
  if (stream->arrive(std::move(event))) return {};
  return Error(Error::invalid, "tunnel",
               "stream " + std::to_string(frame.stream) + " sent more than its window");
}

void Peer::serve(const std::shared_ptr<Stream>& stream, const Request& request) {
  switch (request.kind) {
    case Request::Kind::log:
      return served_->log(request.target, request.log)
          .on_ready(joiner<ByteStream, ServedBytes<ByteStream>>(engine_, stream));
    case Request::Kind::exec:
      return served_->exec(request.target, request.exec)
          .on_ready(joiner<ProcessStream, ServedProcess>(engine_, stream));
    case Request::Kind::port_forward:
      return served_->port_forward(request.target, request.port)
          .on_ready(joiner<DuplexStream, ServedBytes<DuplexStream>>(engine_, stream));
    case Request::Kind::page:
      return served_->page(request.target.node, request.path)
          .then([](Result<NodePage> page) -> Result<std::shared_ptr<ByteStream>> {
            if (!page) return page.error();
            return std::shared_ptr<ByteStream>(std::make_shared<PageBytes>(encode_page(*page)));
          })
          .on_ready(joiner<ByteStream, ServedBytes<ByteStream>>(engine_, stream));
  }
}

void Peer::closed(const Error& why) {
  std::map<std::uint32_t, std::shared_ptr<Stream>> all;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = why;
    all = streams_;
    statistics_.reset();
  }
  for (const auto& [id, stream] : all) stream->reset(why, false);
}

void Peer::forget(std::uint32_t id) {
  std::lock_guard lock(mutex_);
  streams_.erase(id);
}

void Peer::send_statistics(const Statistics& statistics) {
  Frame frame = plain(FrameType::statistics, encode_statistics(statistics));
  if (frame.payload.size() < kMessageBytesMax / 2) send_(encode(frame));
}

std::optional<Statistics> Peer::statistics() const {
  std::lock_guard lock(mutex_);
  return statistics_;
}

std::size_t Peer::open_streams() const {
  std::lock_guard lock(mutex_);
  return streams_.size();
}

}  // namespace orchestra::tunnel
