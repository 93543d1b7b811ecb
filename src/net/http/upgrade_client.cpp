// Upgraded connections of a client: see upgrade_client.hpp.
#include "net/http/upgrade_client.hpp"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>

#include "net/http/client_attempt.hpp"
#include "net/http/client_pool.hpp"

namespace orchestra::http {
namespace {

constexpr std::size_t kUpgradedReadBytes = 64 << 10;

/// One read and one write outstanding at most, each completed on the wire's strand.
class UpgradedWire final : public std::enable_shared_from_this<UpgradedWire> {
 public:
  explicit UpgradedWire(std::unique_ptr<ClientConnection> connection) : connection_(std::move(connection)) {}
  ~UpgradedWire() { connection_->wire->close(); }

  template <class F>
  void run(F call) {
    asio::dispatch(connection_->wire->strand(),
                   [self = shared_from_this(), call = std::move(call)]() mutable { call(*self); });
  }
  void read(std::size_t bytes_max, Promise<std::string> reader) {
    if (closed_) return reader.set(ended("read"));
    ReadBuffer& buffer = connection_->buffer;
    if (!buffer.empty()) return give(bytes_max, reader);
    if (std::exchange(reading_, true))
      return reader.set(Error(Error::busy, "http", "one read of this stream is outstanding already"));
    char* room = buffer.prepare(kUpgradedReadBytes);
    connection_->wire->read_some(
        room, buffer.room(),
        [self = shared_from_this(), bytes_max, reader](ErrorCode failed, std::size_t bytes) {
          self->reading_ = false;
          self->connection_->buffer.commit(bytes);
          if (bytes > 0) return self->give(bytes_max, reader);
          if (self->closed_) return reader.set(self->ended("read"));
          if (failed && failed != asio::error::eof)
            return reader.set(Error(Error::unavailable, "http", "read: " + failed.message()));
          reader.set(std::string());
        });
  }
  void write(std::string bytes, Promise<void> written) {
    if (closed_) return written.set(ended("write"));
    if (std::exchange(writing_, true))
      return written.set(Error(Error::busy, "http", "one write of this stream is outstanding already"));
    out_ = std::move(bytes);
    connection_->wire->write(
        {asio::buffer(out_)}, [self = shared_from_this(), written](ErrorCode failed, std::size_t) {
          self->writing_ = false;
          written.set(failed ? Result<void>(Error(Error::unavailable, "http", "write: " + failed.message()))
                             : Result<void>());
        });
  }
  void shutdown() {
    if (!closed_ && !writing_) connection_->wire->shutdown_write();
  }
  void close() {
    if (!std::exchange(closed_, true)) connection_->wire->close();
  }

 private:
  static Error ended(const char* what) {
    return {Error::cancelled, "http", std::string(what) + " of a stream that was closed"};
  }
  void give(std::size_t bytes_max, const Promise<std::string>& reader) {
    ReadBuffer& buffer = connection_->buffer;
    std::string bytes(buffer.view().substr(0, std::max<std::size_t>(1, bytes_max)));
    buffer.consume(bytes.size());
    reader.set(std::move(bytes));
  }

  std::unique_ptr<ClientConnection> connection_;
  std::string out_;
  bool reading_ = false, writing_ = false, closed_ = false;
};

class ClientStream final : public DuplexStream {
 public:
  explicit ClientStream(std::unique_ptr<ClientConnection> connection)
      : wire_(std::make_shared<UpgradedWire>(std::move(connection))) {}
  ~ClientStream() override { ClientStream::close(); }
  Pending<std::string> read(std::size_t bytes_max) override {
    Promise<std::string> reader;
    wire_->run([bytes_max, reader](UpgradedWire& wire) { wire.read(bytes_max, reader); });
    return reader.pending();
  }
  Pending<void> write(std::string bytes) override {
    Promise<void> written;
    wire_->run([bytes = std::move(bytes), written](UpgradedWire& wire) mutable {
      wire.write(std::move(bytes), written);
    });
    return written.pending();
  }
  void close_write() override {
    wire_->run([](UpgradedWire& wire) { wire.shutdown(); });
  }
  void close() override {
    wire_->run([](UpgradedWire& wire) { wire.close(); });
  }

 private:
  std::shared_ptr<UpgradedWire> wire_;
};

}  // namespace

UpgradeClient::UpgradeClient(Engine& engine) : engine_(engine), pool_(std::make_shared<ClientPool>(engine)) {}

Pending<UpgradeAnswer> UpgradeClient::open(HttpRequest request) {
  auto url = parse_url(request.url);
  if (!url) return url.error();
  const Duration total = std::min(request.total_deadline, request.connect_deadline + request.header_deadline);
  Promise<UpgradeAnswer> promise;
  auto pending = promise.pending();
  const auto done = [promise](AttemptResult result) {
    if (!result.response) return promise.set(result.response.error());
    UpgradeAnswer answer{std::move(*result.response), nullptr};
    if (result.upgraded) answer.stream = std::make_shared<ClientStream>(std::move(result.upgraded));
    promise.set(std::move(answer));
  };
  const auto any = [](int, const std::map<std::string, std::string>&) { return true; };
  auto attempt = std::make_shared<ClientAttempt>(
      engine_, pool_, std::make_shared<HttpRequest>(std::move(request)), std::move(*url), any, done);
  attempt->accept_upgrade();
  attempt->start(true, total);
  return pending;
}

}  // namespace orchestra::http
