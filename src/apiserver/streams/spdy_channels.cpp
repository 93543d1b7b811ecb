// exec, attach and port-forward as streams of a SPDY session.
#include <algorithm>
#include <array>

#include "api/status.hpp"
#include "apiserver/streams/spdy_session.hpp"
#include "apiserver/text.hpp"

namespace orchestra::apiserver {
namespace {

void ignore(Pending<void> pending) {
  pending.on_ready([](Result<void>) {});
}

class SpdyChannels final : public RemoteChannels, public std::enable_shared_from_this<SpdyChannels> {
 public:
  SpdyChannels(Engine& engine, std::shared_ptr<DuplexStream> connection, const ExecOptions& options,
               SpdyCoding coding)
      : session_(std::make_shared<SpdySession>(engine, std::move(connection))), coding_(coding) {
    wanted_.push_back("error");
    if (options.in) wanted_.push_back("stdin");
    if (options.out) wanted_.push_back("stdout");
    if (options.err && !options.tty) wanted_.push_back("stderr");
    if (options.tty && coding.resizes) wanted_.push_back("resize");
  }

  void start(std::function<void()> ready, OnInput on_input) override {
    ready_ = std::move(ready);
    on_input_ = std::move(on_input);
    auto self = shared_from_this();
    session_->start([self](std::shared_ptr<SpdyStream> stream) { self->opened(std::move(stream)); },
                    [self] { self->gone(); });
  }

  Pending<void> write(ProcessChunk::Channel channel, std::string bytes) override {
    const auto stream = named(channel == ProcessChunk::Channel::standard_error ? "stderr" : "stdout");
    if (!stream) return Result<void>();  // the client did not ask for this output
    return stream->write(bytes);
  }

  void finish(std::string status_json) override {
    for (const char* name : {"stdout", "stderr", "stdin", "resize"}) {
      if (const auto stream = named(name)) stream->finish();
    }
    if (const auto error = named("error")) {
      const std::string status = coding_.status_as_text ? exit_status_text(status_json) : status_json;
      if (!status.empty()) ignore(error->write(status));
      error->finish();
    }
    session_->close();
  }

 private:
  void input(RemoteInput input, std::function<void()> taken) {
    OnInput call;
    {
      std::lock_guard lock(mutex_);
      call = on_input_;
    }
    if (call) call(std::move(input), std::move(taken));
  }
  // Streams and callbacks hold each other until here.
  void gone() {
    input({}, [] {});
    OnInput call;
    std::map<std::string, std::shared_ptr<SpdyStream>> streams;
    std::lock_guard lock(mutex_);
    call.swap(on_input_);
    streams.swap(streams_);
  }
  std::shared_ptr<SpdyStream> named(const std::string& name) {
    std::lock_guard lock(mutex_);
    const auto found = streams_.find(name);
    return found == streams_.end() ? nullptr : found->second;
  }

  void opened(std::shared_ptr<SpdyStream> stream) {
    const std::string type = to_lower(stream->header("streamtype"));
    std::function<void()> ready;
    {
      std::lock_guard lock(mutex_);
      if (std::find(wanted_.begin(), wanted_.end(), type) == wanted_.end()) return stream->reset();
      streams_[type] = stream;
      if (streams_.size() == wanted_.size()) ready.swap(ready_);
    }
    auto self = shared_from_this();
    if (type == "stdin") {
      stream->on_data([self](std::string bytes, bool end, std::function<void()> taken) {
        if (bytes.empty() && !end) return taken();
        if (!end) return self->input({RemoteInput::Kind::standard_input, std::move(bytes)}, std::move(taken));
        auto last = [self, taken] { self->input({RemoteInput::Kind::end_of_input}, taken); };
        if (bytes.empty()) return last();
        self->input({RemoteInput::Kind::standard_input, std::move(bytes)}, last);
      });
    } else if (type == "resize") {
      stream->on_data(
          [self](std::string bytes, bool, std::function<void()> taken) { self->resized(bytes, taken); });
    } else {
      stream->on_data([](std::string, bool, std::function<void()> taken) { taken(); });
    }
    if (ready) ready();
  }

  // JSON objects one after another, in pieces as they come.
  void resized(const std::string& bytes, const std::function<void()>& taken) {
    constexpr std::size_t kPartialMax = 1024;
    partial_ += bytes;
    std::optional<std::pair<std::uint16_t, std::uint16_t>> size;
    for (std::size_t end = partial_.find('}'); end != std::string::npos; end = partial_.find('}')) {
      if (const auto parsed = parse_resize(trim(std::string_view(partial_).substr(0, end + 1))))
        size = parsed;
      partial_.erase(0, end + 1);
    }
    if (partial_.size() > kPartialMax) partial_.clear();
    if (!size) return taken();
    input({RemoteInput::Kind::resize, {}, size->first, size->second}, taken);
  }

  std::shared_ptr<SpdySession> session_;
  const SpdyCoding coding_;
  std::vector<std::string> wanted_;
  std::function<void()> ready_;
  OnInput on_input_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<SpdyStream>> streams_;
  std::string partial_;
};

/// One forwarded connection: both directions, each with its own end.
class ForwardedConnection : public std::enable_shared_from_this<ForwardedConnection> {
 public:
  ForwardedConnection(Engine& engine, std::shared_ptr<SpdyStream> data, std::shared_ptr<SpdyStream> error)
      : engine_(engine), data_(std::move(data)), error_(std::move(error)) {}

  void start(const PodTarget& target, PodStreams& streams, int port) {
    auto self = shared_from_this();
    streams.port_forward(target, port)
        .on_ready([self, target, port](Result<std::shared_ptr<DuplexStream>> socket) {
          if (!socket) {
            ignore(self->error_->write("error forwarding port " + std::to_string(port) + " to pod " +
                                       target.pod + ": " + api::status_of(socket.error()).message));
            self->error_->finish();
            self->data_->finish();
            return;
          }
          self->socket_ = *socket;
          self->data_->on_data([self](std::string bytes, bool end, std::function<void()> taken) {
            self->to_pod(std::move(bytes), end, std::move(taken));
          });
          self->from_pod();
        });
  }

 private:
  void to_pod(std::string bytes, bool end, std::function<void()> taken) {
    if (bytes.empty()) {
      if (end) socket_->close_write();
      return taken();
    }
    auto self = shared_from_this();
    socket_->write(std::move(bytes)).on_ready([self, end, taken](Result<void> written) {
      if (!written || end) self->socket_->close_write();
      self->engine_.post(taken);
    });
  }
  void from_pod() {
    auto self = shared_from_this();
    socket_->read(32 << 10).on_ready([self](Result<std::string> bytes) {
      if (!bytes || bytes->empty()) {
        self->data_->finish();
        self->error_->finish();
        self->socket_->close();
        return;
      }
      self->data_->write(*bytes).on_ready([self](Result<void> written) {
        if (!written) return self->socket_->close();
        self->engine_.post([self] { self->from_pod(); });
      });
    });
  }

  Engine& engine_;
  std::shared_ptr<SpdyStream> data_, error_;
  std::shared_ptr<DuplexStream> socket_;
};

class PortForward : public std::enable_shared_from_this<PortForward> {
 public:
  PortForward(Engine& engine, std::shared_ptr<DuplexStream> connection, PodTarget target,
              std::shared_ptr<PodStreams> streams)
      : engine_(engine),
        session_(std::make_shared<SpdySession>(engine, std::move(connection))),
        target_(std::move(target)),
        streams_(std::move(streams)) {}
  void start() {
    auto self = shared_from_this();
    session_->start([self](std::shared_ptr<SpdyStream> stream) { self->opened(std::move(stream)); }, [] {});
  }

 private:
  void opened(std::shared_ptr<SpdyStream> stream) {
    const std::string type = to_lower(stream->header("streamtype"));
    const std::string request = stream->header("requestid");
    const int port = std::atoi(stream->header("port").c_str());
    if ((type != "data" && type != "error") || port < 1 || port > 65535) return stream->reset();
    if (type == "error") stream->on_data([](std::string, bool, std::function<void()> taken) { taken(); });
    auto& pair = pairs_[request];  // only the session's one handler runs here
    (type == "data" ? pair.first : pair.second) = std::move(stream);
    if (!pair.first || !pair.second) return;
    auto connection =
        std::make_shared<ForwardedConnection>(engine_, std::move(pair.first), std::move(pair.second));
    pairs_.erase(request);
    connection->start(target_, *streams_, port);
  }
  Engine& engine_;
  std::shared_ptr<SpdySession> session_;
  PodTarget target_;
  std::shared_ptr<PodStreams> streams_;
  std::map<std::string, std::pair<std::shared_ptr<SpdyStream>, std::shared_ptr<SpdyStream>>> pairs_;
};
}  // namespace

std::shared_ptr<RemoteChannels> make_spdy_channels(Engine& engine, std::shared_ptr<DuplexStream> connection,
                                                   const ExecOptions& options, SpdyCoding coding) {
  return std::make_shared<SpdyChannels>(engine, std::move(connection), options, coding);
}

void run_port_forward(Engine& engine, std::shared_ptr<DuplexStream> connection, PodTarget target,
                      std::shared_ptr<PodStreams> streams) {
  std::make_shared<PortForward>(engine, std::move(connection), std::move(target), std::move(streams))
      ->start();
}

}  // namespace orchestra::apiserver
