#pragma once
// Wire: one connected byte stream, plain or TLS, TCP or unix, behind one face.
//
// Server, client and proxy are state machines over a Wire and do not know which kind they hold. All
// calls on a wire and all its callbacks happen on its strand; at most one read and one write are
// outstanding. This header is internal: it shows Asio types.
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/system/error_code.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "net/http/tls_context.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::http {

namespace asio = boost::asio;
using ErrorCode = boost::system::error_code;
using Strand = asio::strand<asio::io_context::executor_type>;
using IoHandler = std::function<void(ErrorCode, std::size_t)>;

class Wire : public std::enable_shared_from_this<Wire> {
 public:
  virtual ~Wire() = default;
  /// Completes the TLS handshake; a plain wire answers at once.
  virtual void handshake(std::function<void(ErrorCode)> done) = 0;
  virtual void read_some(char* bytes, std::size_t size, IoHandler done) = 0;
  /// Writes all buffers; what they point to stays valid until `done`.
  virtual void write(std::vector<asio::const_buffer> buffers, IoHandler done) = 0;
  /// What the kernel takes at once of these buffers, in bytes; 0 where it takes nothing, has failed (the next
  /// write() says how) or where bytes are not sent as they are (TLS). Call with no write outstanding.
  virtual std::size_t write_now(std::span<const asio::const_buffer> buffers) {
    (void)buffers;
    return 0;
  }
  /// FIN, or close_notify: the other side reads end of file. Call with no write outstanding.
  virtual void shutdown_write() = 0;
  /// Ends everything; outstanding calls complete with an error.
  virtual void close() = 0;
  /// Of a verified client certificate, after the handshake.
  virtual TlsPeer tls_peer() const { return {}; }
  /// After a handshake: the name the client asked for.
  virtual std::string tls_server_name() const { return {}; }
  /// After a handshake: the protocol that both sides agreed on by ALPN, or empty.
  virtual std::string tls_protocol() const { return {}; }
  /// After a failed handshake: why the peer's certificate was refused, or empty.
  virtual std::string tls_verify_error() const { return {}; }
  virtual int native() = 0;

  const Strand& strand() const { return strand_; }

 protected:
  explicit Wire(Strand strand) : strand_(std::move(strand)) {}
  Strand strand_;
};

/// Takes over a connected socket.
std::shared_ptr<Wire> make_plain_wire(const Strand& strand, Fd socket, int family);
std::shared_ptr<Wire> make_tls_wire(const Strand& strand, Fd socket, int family,
                                    std::shared_ptr<const TlsContext> context, TlsRole role,
                                    const std::string& server_name = {});

/// Connects a socket without blocking.
void connect_socket(const Strand& strand, const struct SocketAddress& address,
                    std::function<void(ErrorCode, Fd)> done);

/// One moving deadline on a strand. Moving it later costs a clock reading, not a timer operation: the
/// timer fires at the old time, sees that the deadline moved and sleeps again.
class Deadline : public std::enable_shared_from_this<Deadline> {
 public:
  Deadline(Engine& engine, const Strand& strand) : engine_(engine), timer_(strand) {}
  /// `expired` is called once, on the strand, unless set() or clear() came first.
  void set(Duration delay, std::function<void()> expired);
  /// Moves the deadline and keeps its action.
  void extend(Duration delay);
  void clear();

 private:
  void arm();
  Engine& engine_;
  asio::steady_timer timer_;
  std::int64_t expires_ns_ = 0, armed_ns_ = 0;
  std::uint64_t generation_ = 0;
  std::function<void()> expired_;
};

/// Accepts connections on a listening socket until stop().
class Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  using OnAccept = std::function<void(Fd, std::string peer)>;
  static std::shared_ptr<Acceptor> start(Engine& engine, Fd listener, OnAccept on_accept);
  virtual ~Acceptor() = default;
  /// The listening socket is closed when this returns; `on_accept` is not called any more. Any thread.
  virtual void stop() = 0;
};

}  // namespace orchestra::http
