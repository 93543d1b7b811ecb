// An HTTP/2 connection of the server under arbitrary frames, whole and byte by byte, with handlers that
// answer at once, late, in pieces and never: it ends without a wait, and what it writes is frames.
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "net/http/http2_connection.hpp"

namespace {
using namespace orchestra;
using namespace orchestra::http;

/// A wire to nowhere: bytes come from the input, and what is written is kept.
class MemoryWire final : public Wire {
 public:
  MemoryWire(const Strand& strand, asio::io_context& context) : Wire(strand), context_(context) {}
  void handshake(std::function<void(ErrorCode)> done) override { done({}); }
  void read_some(char* bytes, std::size_t size, IoHandler done) override {
    if (reader_) std::abort();  // one read at a time
    room_ = bytes;
    room_bytes_ = size;
    reader_ = std::move(done);
    if (closed_) give({}, asio::error::operation_aborted);
  }
  void write(std::vector<asio::const_buffer> buffers, IoHandler done) override {
    if (writer_) std::abort();  // one write at a time
    for (const auto& buffer : buffers) written.append(static_cast<const char*>(buffer.data()), buffer.size());
    writer_ = std::move(done);
  }
  void shutdown_write() override {}
  void close() override {
    closed_ = true;
    if (reader_) give({}, asio::error::operation_aborted);
  }
  int native() override { return -1; }

  bool closed() const { return closed_; }
  /// Hands over as much as is asked for; false: nobody reads.
  bool feed(std::string_view& input, std::size_t piece) {
    if (!reader_ || closed_) return false;
    const std::string_view part = input.substr(0, std::min(piece, room_bytes_));
    input.remove_prefix(part.size());
    give(part, {});
    return true;
  }
  void end() {
    if (reader_ && !closed_) give({}, asio::error::eof);
  }
  void complete_write() {
    if (!writer_) return;
    const IoHandler done = std::exchange(writer_, nullptr);
    done(closed_ ? ErrorCode(asio::error::operation_aborted) : ErrorCode(), 0);
  }
  std::string written;

 private:
  void give(std::string_view part, ErrorCode failed) {
    std::copy(part.begin(), part.end(), room_);
    asio::post(context_,
               [done = std::exchange(reader_, nullptr), failed, size = part.size()] { done(failed, size); });
  }
  asio::io_context& context_;
  IoHandler reader_, writer_;
  char* room_ = nullptr;
  std::size_t room_bytes_ = 0;
  bool closed_ = false;
};

void run(Engine& engine, std::string_view input, std::size_t piece) {
  asio::io_context context;
  bool over = false;
  std::vector<std::shared_ptr<HttpResponder>> kept;
  std::vector<std::shared_ptr<HttpBodyWriter>> writers;
  auto shared = std::make_shared<ServerShared>(ServerShared{engine, {}, nullptr, nullptr, nullptr});
  shared->options.streams_max = 8;
  shared->options.header_bytes_max = 2048;
  shared->options.body_bytes_max = 4096;
  shared->on_end = [&](ServerSession*) { over = true; };
  shared->handler = [&](HttpServerRequest request, std::shared_ptr<HttpResponder> responder) {
    if (request.method.empty() || request.target.empty() || request.body.size() > 4096) std::abort();
    switch (request.target.size() % 5) {
      case 0:
        return responder->respond(200, {{"X", request.method}}, request.body);
      case 1:
        return kept.push_back(std::move(responder));
      case 2: {
        auto writer = responder->start(200, {});
        writer->write(std::string(request.target.size() * 100, 'w')).on_ready([](Result<void>) {});
        if (request.target.size() % 2 == 0) writer->finish();
        return writers.push_back(std::move(writer));
      }
      case 3:
        return (void)responder->upgrade({});
      default:
        return;  // dropped
    }
  };
  auto wire = std::make_shared<MemoryWire>(asio::make_strand(context), context);
  auto session = std::make_shared<Http2Connection>(shared, wire, HttpPeer{});
  const auto settle = [&] {
    while (context.poll() > 0) context.restart();
    context.restart();
    wire->complete_write();
    while (context.poll() > 0) context.restart();
    context.restart();
  };
  asio::post(session->strand(), [session] { session->start(); });
  settle();
  while (!input.empty() && wire->feed(input, piece)) settle();
  for (auto& responder : kept) responder->respond(200, {}, "late");
  for (auto& writer : writers) writer->finish();
  settle();
  asio::post(session->strand(), [session] { session->drain(); });
  settle();
  wire->end();
  settle();
  asio::post(session->strand(), [session] { session->abort(); });
  settle();
  if (!over) std::abort();
  // Frames and nothing else: lengths that add up.
  std::string_view out = wire->written;
  while (!out.empty()) {
    if (out.size() < 9) std::abort();
    const std::size_t length = static_cast<unsigned char>(out[0]) * 65536u +
                               static_cast<unsigned char>(out[1]) * 256u + static_cast<unsigned char>(out[2]);
    if (length > 16384 || out.size() < 9 + length) std::abort();
    out.remove_prefix(9 + length);
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Engine engine;
  if (size > 20000) return 0;
  // Most inputs are frames behind the preface; one that begins with P brings its own.
  std::string input(reinterpret_cast<const char*>(data), size);
  if (!input.starts_with('P')) input.insert(0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  run(engine, input, input.size());
  run(engine, input, 1);
  return 0;
}
