#pragma once
// One connection of an HttpServer as its responders see it: HTTP/1.1 (server_connection.hpp) or HTTP/2
// (http2_connection.hpp). What a handler holds (responder, body writer, upgraded stream) is the same for
// both and knows its session weakly: it may outlive server and engine.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/http/http_server.hpp"
#include "net/http/wire.hpp"

namespace orchestra::http {

class ServerSession : public std::enable_shared_from_this<ServerSession> {
 public:
  using Headers = HttpResponder::Headers;
  /// Names one request of this session and is never used again: what is said about an ended one is ignored.
  using Turn = std::uint64_t;
  using Parts = std::vector<std::shared_ptr<const std::string>>;
  /// Writes of one answer that a caller may queue without waiting for write().
  static constexpr std::size_t kWritesMax = 64;

  virtual ~ServerSession() = default;
  virtual const Strand& strand() const = 0;

  // All on the strand.
  virtual void start() = 0;
  virtual void drain() = 0;  ///< ends after the answers that are under way
  virtual void abort() = 0;

  virtual void respond(Turn turn, int status, const Headers& headers, Parts parts) = 0;
  virtual void begin_stream(Turn turn, int status, const Headers& headers) = 0;
  virtual void write_chunk(Turn turn, std::string bytes, Promise<void> written) = 0;
  /// As write_chunk(); nullopt: the kernel has all of it already.
  virtual std::optional<Pending<void>> write_chunk_now(Turn turn,
                                                       const std::shared_ptr<const std::string>& bytes);
  virtual void finish_stream(Turn turn) = 0;
  virtual void abort_stream(Turn turn) = 0;
  virtual void add_on_closed(Turn turn, std::function<void()> call) = 0;

  virtual void begin_upgrade(Turn turn, const Headers& headers) = 0;
  virtual void upgraded_read(Turn turn, std::size_t bytes_max, Promise<std::string> reader) = 0;
  virtual void upgraded_write(Turn turn, std::string bytes, Promise<void> written) = 0;
  virtual void upgraded_close_write(Turn turn) = 0;
  virtual void upgraded_close(Turn turn) = 0;
};

/// What the sessions of one server share.
struct ServerShared {
  Engine& engine;
  HttpServerOptions options;
  HttpServer::Handler handler;
  std::function<void(ServerSession*)> on_end;
  /// The client of this session chose HTTP/2: its wire goes to a session that takes its place.
  std::function<void(ServerSession*, std::shared_ptr<Wire>, HttpPeer, bool draining)> on_http2;
};

std::shared_ptr<HttpResponder> make_responder(std::weak_ptr<ServerSession> session, ServerSession::Turn turn);

/// "the client has closed the connection"
Error gone();
std::shared_ptr<const std::string> text(std::string bytes);
std::string lower_case(std::string_view name);
/// Content-Length among the fields of an answer to HEAD; nullopt: none, or no number.
std::optional<std::uint64_t> told_length(const HttpResponder::Headers& headers);
/// "Sun, 06 Nov 1994 08:49:37 GMT"
std::string http_date(Clock& clock);

}  // namespace orchestra::http
