// HttpServer: the listening socket and the set of its connections.
#include <unistd.h>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <mutex>
#include <unordered_map>

#include "base/engine_impl.hpp"
#include "net/http/address.hpp"
#include "net/http/http2_connection.hpp"
#include "net/http/http_server.hpp"
#include "net/http/server_connection.hpp"

namespace orchestra {
namespace {

using http::ServerSession;
using http::ServerShared;

constexpr auto kAbortDeadline = std::chrono::seconds(2);  // for aborted connections to leave the set

class Server : public std::enable_shared_from_this<Server> {
 public:
  Server(Engine& engine, HttpServerOptions options) : engine_(engine), options_(std::move(options)) {}

  Result<void> open(HttpServer::Handler handler) {
    ORC_ASSIGN(const auto wanted, http::parse_address(options_.listen));
    if (options_.tls) ORC_TRY(set_certificate(options_.certificate_pem, options_.key_pem));
    ORC_ASSIGN(Fd listener, http::open_listener(wanted, http::Listen::stream, {}));
    ORC_ASSIGN(bound_, http::local_address(listener.get()));
    shared_ =
        std::make_shared<ServerShared>(ServerShared{engine_, options_, std::move(handler), nullptr, nullptr});
    shared_->options.key_pem.clear();
    shared_->on_end = [weak = weak_from_this()](ServerSession* session) {
      if (const auto self = weak.lock()) self->forget(session);
    };
    shared_->on_http2 = [weak = weak_from_this()](ServerSession* session, std::shared_ptr<http::Wire> wire,
                                                  HttpPeer peer, bool draining) {
      if (const auto self = weak.lock())
        self->go_on_with_http2(session, std::move(wire), std::move(peer), draining);
    };
    acceptor_ = http::Acceptor::start(engine_, std::move(listener),
                                      [weak = weak_from_this()](Fd fd, std::string peer) {
                                        if (const auto self = weak.lock())
                                          self->accept(std::move(fd), std::move(peer));
                                      });
    return {};
  }

  std::string address() const { return bound_.text(); }

  Result<void> set_certificate(const std::string& certificate_pem, const std::string& key_pem) {
    if (!options_.tls)
      return Error(Error::invalid, "http", "the server on " + options_.listen + " does not speak TLS");
    ORC_ASSIGN(auto context,
               http::make_server_context(certificate_pem, key_pem, options_.client_ca_pem, options_.http2));
    std::lock_guard lock(mutex_);
    tls_ = std::move(context);
    return {};
  }

  void stop(Duration grace) {
    std::shared_ptr<http::Acceptor> acceptor;
    {
      std::lock_guard lock(mutex_);
      acceptor = std::exchange(acceptor_, nullptr);
      stopping_ = true;
    }
    if (acceptor) {
      acceptor->stop();
      if (bound_.family() == AF_UNIX) ::unlink(bound_.host().c_str());
    }
    for_each([](ServerSession& session) { session.drain(); });
    if (event_context(engine_).stopped()) return;
    if (detail::on_event_thread()) {
      // May not wait here: the rest is ended by a timer.
      engine_.after(grace, [connections = snapshot()] {
        for (const auto& weak : connections) abort_later(weak);
      });
      return;
    }
    if (wait_empty(grace)) return;
    for_each([](ServerSession& session) { session.abort(); });
    wait_empty(kAbortDeadline);
  }

 private:
  using WeakConnection = std::weak_ptr<ServerSession>;

  void accept(Fd fd, std::string peer) {
    http::SharedTlsContext tls;
    {
      std::lock_guard lock(mutex_);
      if (stopping_ || connections_.size() >= options_.connections_max) return;  // the Fd closes
      tls = tls_;
    }
    const http::Strand strand = boost::asio::make_strand(event_context(engine_));
    const int family = bound_.family();
    auto wire =
        tls ? http::make_tls_wire(strand, std::move(fd), family, std::move(tls), http::TlsRole::server)
            : http::make_plain_wire(strand, std::move(fd), family);
    auto connection = std::make_shared<http::ServerConnection>(shared_, std::move(wire), std::move(peer));
    {
      std::lock_guard lock(mutex_);
      connections_.emplace(connection.get(), connection);
    }
    boost::asio::post(strand, [connection] { connection->start(); });
  }

  void go_on_with_http2(ServerSession* first, std::shared_ptr<http::Wire> wire, HttpPeer peer,
                        bool draining) {
    auto session = std::make_shared<http::Http2Connection>(shared_, std::move(wire), std::move(peer));
    {
      std::lock_guard lock(mutex_);
      connections_.emplace(session.get(), session);
      draining = draining || stopping_;
    }
    forget(first);
    session->start();
    if (draining) session->drain();
  }

  void forget(ServerSession* session) {
    std::lock_guard lock(mutex_);
    const auto found = connections_.find(session);
    if (found == connections_.end()) return;
    connections_.erase(found);
    if (connections_.empty()) empty_.notify_all();
  }

  std::vector<WeakConnection> snapshot() {
    std::lock_guard lock(mutex_);
    std::vector<WeakConnection> all;
    for (const auto& [key, connection] : connections_) all.push_back(connection);
    return all;
  }

  template <class F>
  void for_each(F call) {
    for (const WeakConnection& weak : snapshot()) {
      const auto connection = weak.lock();
      if (connection) boost::asio::post(connection->strand(), [connection, call] { call(*connection); });
    }
  }

  static void abort_later(const WeakConnection& weak) {
    const auto connection = weak.lock();
    if (connection) boost::asio::post(connection->strand(), [connection] { connection->abort(); });
  }

  bool wait_empty(Duration deadline) {
    std::unique_lock lock(mutex_);
    return empty_.wait_for(lock, deadline, [&] { return connections_.empty(); });
  }

  Engine& engine_;
  const HttpServerOptions options_;
  http::SocketAddress bound_;
  std::shared_ptr<ServerShared> shared_;
  std::mutex mutex_;
  std::condition_variable empty_;
  std::shared_ptr<http::Acceptor> acceptor_;
  // Owned here until closed: responders and streams that users hold do not keep a connection alive.
  std::unordered_map<ServerSession*, std::shared_ptr<ServerSession>> connections_;
  http::SharedTlsContext tls_;
  bool stopping_ = false;
};

/// What the user holds: its end stops the server, whose connections may live a little longer.
class ServerHandle final : public HttpServer {
 public:
  explicit ServerHandle(std::shared_ptr<Server> server) : server_(std::move(server)) {}
  ~ServerHandle() override { server_->stop(Duration::zero()); }
  std::string address() const override { return server_->address(); }
  Result<void> set_certificate(const std::string& certificate_pem, const std::string& key_pem) override {
    return server_->set_certificate(certificate_pem, key_pem);
  }
  void stop(Duration grace) override { server_->stop(grace); }

 private:
  std::shared_ptr<Server> server_;
};

}  // namespace

Result<std::shared_ptr<HttpServer>> HttpServer::start(Engine& engine, HttpServerOptions options,
                                                      Handler handler) {
  auto server = std::make_shared<Server>(engine, std::move(options));
  ORC_TRY(server->open(std::move(handler)));
  return std::shared_ptr<HttpServer>(std::make_shared<ServerHandle>(std::move(server)));
}

}  // namespace orchestra
