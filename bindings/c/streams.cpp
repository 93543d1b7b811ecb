// orc_stream_*: logs, commands and connections of pods.
//
// One read is outstanding always, so that the eventfd tells when there is something; what it brings waits
// here until it is taken, and only then is more asked for.
#include "orchestra/pod_streams.hpp"

#include <condition_variable>

#include "bindings/c/handles.hpp"

using namespace orchestra;
using namespace orchestra::c;

namespace {
constexpr std::size_t kPieceBytes = 64 << 10;

struct Piece {
  int channel = ORC_STREAM_OUT, exit_code = 0;
  std::string bytes;
};

struct StreamState : std::enable_shared_from_this<StreamState> {
  // One of these.
  std::shared_ptr<ByteStream> log;
  std::shared_ptr<ProcessStream> process;
  std::shared_ptr<DuplexStream> connection;
  ReadyFd ready;

  std::mutex mutex;  ///< guards what follows
  std::condition_variable changed;
  std::optional<Result<Piece>> arrived;
  bool ended = false;

  void ask() {
    if (process) {
      process->read().on_ready([state = shared_from_this()](Result<ProcessChunk> chunk) {
        state->arrive(chunk ? piece_of(std::move(*chunk)) : Result<Piece>(chunk.error()));
      });
      return;
    }
    ByteStream& stream = connection ? *connection : *log;
    stream.read(kPieceBytes).on_ready([state = shared_from_this()](Result<std::string> bytes) {
      if (!bytes) return state->arrive(bytes.error());
      const int channel = bytes->empty() ? ORC_STREAM_END : ORC_STREAM_OUT;
      state->arrive(Piece{channel, 0, std::move(*bytes)});
    });
  }
  static Result<Piece> piece_of(ProcessChunk chunk) {
    if (chunk.failure) return *chunk.failure;
    Piece piece;
    piece.channel = chunk.channel == ProcessChunk::Channel::standard_output  ? ORC_STREAM_OUT
                    : chunk.channel == ProcessChunk::Channel::standard_error ? ORC_STREAM_ERR
                                                                             : ORC_STREAM_END;
    piece.exit_code = chunk.exit_code;
    piece.bytes = std::move(chunk.bytes);
    return piece;
  }
  void arrive(Result<Piece> piece) {
    {
      std::lock_guard lock(mutex);
      arrived = std::move(piece);
    }
    changed.notify_all();
    ready.signal()();
  }
  void close() {
    if (process) process->close();
    if (connection) connection->close();
    if (log) log->close();
  }
};

}  // namespace

struct orc_stream {
  std::shared_ptr<StreamState> state;
};

namespace {
template <class T>
orc_code opened(Result<T> stream, T StreamState::*member, orc_stream** out, orc_error** error) {
  if (!stream) return fail(stream.error(), error);
  auto state = std::make_shared<StreamState>();
  (*state).*member = std::move(*stream);
  *out = new orc_stream{state};
  state->ask();
  return ORC_OK;
}

Result<int> port_of(const std::string& options) {
  ORC_ASSIGN(const json::value tree, parse_json(options.empty() ? "{}" : options));
  const json::array* ports = array_at(tree, "/ports");
  if (ports == nullptr || ports->size() != 1 || !ports->front().is_int64())
    return Error(Error::invalid, "c", "a portforward needs {\"ports\": [PORT]} with one number as its body");
  const std::int64_t port = ports->front().get_int64();
  if (port < 1 || port > 65535)
    return Error(Error::invalid, "c", "port " + std::to_string(port) + " is not in 1-65535");
  return static_cast<int>(port);
}

orc_code no_input(orc_error** error) {
  return fail(Error(Error::unsupported, "c", "a log takes no input"), error);
}
}  // namespace

orc_code orc_client_stream(orc_client* client, const orc_request* request, orc_stream** out,
                           orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (!usable(client, request) || out == nullptr)
      return bad("client, request (with its size) and out must be given", error);
    orc_request wanted = *request;
    if (wanted.resource == nullptr) wanted.resource = "pods";
    auto converted = request_of(wanted);
    if (!converted) return fail(converted.error(), error);
    if (converted->name.empty()) return bad("a stream needs the name of its pod", error);
    if (converted->ns.empty()) converted->ns = "default";
    const std::string verb = converted->verb;
    const Duration deadline = converted->deadline;
    Client::Impl& impl = *client->client.impl();
    if (verb == "log")
      return opened(impl.log(std::move(*converted)).wait(deadline), &StreamState::log, out, error);
    if (verb == "exec" || verb == "attach") {
      converted->subresource = verb;
      return opened(impl.exec(std::move(*converted)).wait(deadline), &StreamState::process, out, error);
    }
    if (verb != "portforward") return bad("verb must be log, exec, attach or portforward", error);
    const auto port = port_of(converted->body);
    if (!port) return fail(port.error(), error);
    converted->body.clear();
    return opened(impl.port_forward(std::move(*converted), *port).wait(deadline), &StreamState::connection,
                  out, error);
  });
}

orc_code orc_stream_next(orc_stream* stream, int64_t timeout_ms, int* channel, int* exit_code,
                         orc_bytes* bytes, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (stream == nullptr || channel == nullptr || bytes == nullptr)
      return bad("stream, channel and bytes must be given", error);
    StreamState& state = *stream->state;
    Result<Piece> piece = Piece{ORC_STREAM_END, 0, {}};
    {
      std::unique_lock lock(state.mutex);
      if (!state.changed.wait_for(lock, milliseconds(timeout_ms), [&] { return state.arrived.has_value(); }))
        return ORC_EDEADLINEEXCEEDED;
      piece = *state.arrived;
      state.ended = !piece || piece->channel == ORC_STREAM_END;
      // The end stays, for whoever asks again.
      if (!state.ended) {
        state.arrived.reset();
        state.ready.clear();
      }
    }
    if (!piece) return fail(piece.error(), error);
    if (piece->channel != ORC_STREAM_END) state.ask();
    *channel = piece->channel;
    if (exit_code != nullptr) *exit_code = piece->exit_code;
    give(bytes, piece->bytes);
    return ORC_OK;
  });
}

int orc_stream_fd(orc_stream* stream) { return stream != nullptr ? stream->state->ready.get() : -1; }

orc_code orc_stream_write(orc_stream* stream, const void* data, size_t size, int64_t timeout_ms,
                          orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (stream == nullptr || (data == nullptr && size > 0))
      return bad("stream and data must be given", error);
    StreamState& state = *stream->state;
    if (state.log) return no_input(error);
    std::string bytes(static_cast<const char*>(data), size);
    auto pending = state.process ? state.process->write_stdin(std::move(bytes))
                                 : state.connection->write(std::move(bytes));
    auto written = pending.wait(milliseconds(timeout_ms > 0 ? timeout_ms : kDefaultTimeoutMs));
    return written ? ORC_OK : fail(written.error(), error);
  });
}

orc_code orc_stream_close_write(orc_stream* stream, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (stream == nullptr) return bad("stream must be given", error);
    if (stream->state->log) return no_input(error);
    if (stream->state->process) stream->state->process->close_stdin();
    if (stream->state->connection) stream->state->connection->close_write();
    return ORC_OK;
  });
}

orc_code orc_stream_resize(orc_stream* stream, uint16_t columns, uint16_t rows, orc_error** error) {
  return guarded(error, [&]() -> orc_code {
    if (stream == nullptr) return bad("stream must be given", error);
    if (!stream->state->process)
      return fail(Error(Error::unsupported, "c", "only a command has a terminal"), error);
    stream->state->process->resize(columns, rows);
    return ORC_OK;
  });
}

void orc_stream_free(orc_stream* stream) {
  if (stream == nullptr) return;
  stream->state->close();
  delete stream;
}
