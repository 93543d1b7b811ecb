// TLS under the framed transport (tls_transport.hpp).
#include "store/transport/shell/tls_transport.hpp"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <mutex>

#include "base/engine_impl.hpp"
#include "base/framed_connection.hpp"
#include "net/http/tls_context.hpp"

namespace orchestra::store {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using TlsStream = asio::ssl::stream<tcp::socket>;
using TlsConnection = detail::FramedConnection<TlsStream>;
using Strand = asio::strand<asio::any_io_executor>;
using http::SharedTlsContext;

constexpr auto kHandshakeMax = std::chrono::seconds(10);
constexpr std::size_t kHandshakesMax = 1024;  ///< under way at once; more connections are closed

/// A handshake with its deadline; then a connection, or the reason why not.
struct Handshake : std::enable_shared_from_this<Handshake> {
  using Done = std::function<void(Result<std::shared_ptr<TlsConnection>>)>;
  Handshake(tcp::socket socket, SharedTlsContext used, Done call)
      : strand(asio::make_strand(socket.get_executor())),
        context(std::move(used)),
        stream(std::move(socket), ::SSL_new(context->get())),
        timer(strand),
        done(std::move(call)) {}

  void start(TlsStream::handshake_type side) {
    asio::post(strand, [self = shared_from_this(), side] { self->run(side); });
  }
  void run(TlsStream::handshake_type side) {
    timer.expires_after(kHandshakeMax);
    timer.async_wait([weak = weak_from_this()](const boost::system::error_code& failed) {
      const auto self = weak.lock();
      if (!self || failed || self->finished) return;
      boost::system::error_code ignored;
      self->stream.lowest_layer().close(ignored);
    });
    stream.async_handshake(
        side,
        asio::bind_executor(strand, [self = shared_from_this()](const boost::system::error_code& failed) {
          self->finished = true;
          self->timer.cancel();
          if (!failed)
            return self->done(std::make_shared<TlsConnection>(std::move(self->stream), self->strand));
          const long verified = ::SSL_get_verify_result(self->stream.native_handle());
          // Whoever shows the wrong certificate stays wrong; anything else may pass.
          self->done(Error(verified == X509_V_OK ? Error::unavailable : Error::denied, "transport",
                           "the TLS handshake failed: " + failed.message() +
                               (verified == X509_V_OK
                                    ? std::string()
                                    : std::string(" (") + ::X509_verify_cert_error_string(verified) + ")")));
        }));
  }

  const Strand strand;
  const SharedTlsContext context;
  TlsStream stream;
  asio::steady_timer timer;
  const Done done;
  bool finished = false;
};

struct Contexts {
  SharedTlsContext server, client;
};

Result<Contexts> make_contexts(const StoreTls& tls) {
  for (const auto& [what, pem] : {std::pair("the certificate of an authority", &tls.ca_pem),
                                  {"a certificate", &tls.certificate_pem},
                                  {"a private key", &tls.key_pem}}) {
    if (pem->empty())
      return Error(Error::invalid, "store",
                   std::string("TLS between store peers and clients is mutual: ") + what + " is missing");
  }
  Contexts made;
  ORC_ASSIGN(made.server, http::make_server_context(tls.certificate_pem, tls.key_pem, tls.ca_pem));
  ORC_ASSIGN(made.client, http::make_client_context({true, tls.ca_pem, tls.certificate_pem, tls.key_pem}));
  for (const auto& context : {made.server, made.client})
    ::SSL_CTX_set_min_proto_version(context->get(), TLS1_3_VERSION);
  ::SSL_CTX_set_verify(made.server->get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return made;
}

/// The contexts of the connections that begin now. Where the options name files, these are read again when
/// they were last read a second ago: no timer, no thread, and no connection that begins with what was
/// replaced before. Any thread.
class Credentials {
 public:
  Credentials(Engine& engine, StoreTls tls) : engine_(engine), tls_(std::move(tls)) {}

  Result<void> load() {
    ORC_TRY(read(tls_));
    ORC_ASSIGN(made_, make_contexts(tls_));
    looked_ns_ = engine_.clock().now().steady_ns;
    return {};
  }
  Contexts now() {
    std::lock_guard lock(mutex_);
    const std::int64_t at = engine_.clock().now().steady_ns;
    if (at - looked_ns_ < kLookEvery) return made_;
    looked_ns_ = at;
    StoreTls fresh = tls_;
    const auto taken = take(fresh);
    const std::string trouble = taken ? std::string() : taken.error().to_string();
    if (!trouble.empty() && trouble != trouble_)  // told once
      engine_.log(LogLevel::warning, "store", "the TLS files have changed and are not taken: " + trouble);
    trouble_ = trouble;
    return made_;
  }

 private:
  static constexpr std::int64_t kLookEvery = 1'000'000'000;
  static constexpr std::size_t kFileMax = 1 << 20;

  Result<void> read(StoreTls& into) const {
    for (const auto& [file, text] : {std::pair(&tls_.ca_file, &into.ca_pem),
                                     {&tls_.certificate_file, &into.certificate_pem},
                                     {&tls_.key_file, &into.key_pem}}) {
      if (file->empty()) continue;
      ORC_ASSIGN(*text, engine_.disk().read_file(*file, kFileMax));
    }
    return {};
  }
  Result<void> take(StoreTls& fresh) {
    ORC_TRY(read(fresh));
    if (fresh.ca_pem == tls_.ca_pem && fresh.certificate_pem == tls_.certificate_pem &&
        fresh.key_pem == tls_.key_pem)
      return {};
    ORC_ASSIGN(made_, make_contexts(fresh));
    tls_ = std::move(fresh);
    engine_.log(LogLevel::info, "store", "the TLS files have changed: new connections use them");
    return {};
  }

  Engine& engine_;
  std::mutex mutex_;
  StoreTls tls_;
  Contexts made_;
  std::int64_t looked_ns_ = 0;
  std::string trouble_;
};

class TlsTransport final : public Transport {
 public:
  TlsTransport(Engine& engine, std::shared_ptr<Credentials> credentials)
      : engine_(engine), credentials_(std::move(credentials)) {}

  Result<std::unique_ptr<TransportListener>> listen(const std::string& address, Accept accept) override {
    auto under_way = std::make_shared<std::atomic<std::size_t>>(0);
    auto loop = std::make_shared<detail::AcceptLoop>(
        event_context(engine_), [credentials = credentials_, under_way, accept = std::move(accept),
                                 &engine = engine_](tcp::socket socket) {
          if (*under_way >= kHandshakesMax) return;  // the socket closes with the scope
          ++*under_way;
          auto done = [under_way, accept, &engine](Result<std::shared_ptr<TlsConnection>> connection) {
            --*under_way;
            if (connection) return (*connection)->start(accept(*connection));
            engine.log(LogLevel::warning, "store",
                       "a connection was refused: " + connection.error().message());
          };
          std::make_shared<Handshake>(std::move(socket), credentials->now().server, std::move(done))
              ->start(TlsStream::server);
        });
    ORC_ASSIGN(std::string real, loop->listen(address));
    return std::unique_ptr<TransportListener>(
        std::make_unique<detail::AcceptListener>(std::move(loop), std::move(real)));
  }

  Pending<std::shared_ptr<TransportConnection>> connect(const std::string& address,
                                                        TransportHandler handler) override {
    auto endpoint = detail::parse_endpoint(address);
    if (!endpoint) return endpoint.error();
    Promise<std::shared_ptr<TransportConnection>> promise;
    auto pending = promise.pending();
    auto dialled = [promise, address, credentials = credentials_, ip = endpoint->address(),
                    handler = std::move(handler)](Result<tcp::socket> socket) mutable {
      if (!socket) return promise.set(socket.error());
      auto done = [promise, address,
                   handler = std::move(handler)](Result<std::shared_ptr<TlsConnection>> connection) mutable {
        if (!connection) return promise.set(connection.error().with_context("connect " + address));
        (*connection)->start(std::move(handler));
        promise.set(std::shared_ptr<TransportConnection>(*connection));
      };
      auto handshake =
          std::make_shared<Handshake>(std::move(*socket), credentials->now().client, std::move(done));
      ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(handshake->stream.native_handle()),
                                      ip.to_string().c_str());
      handshake->start(TlsStream::client);
    };
    detail::dial(event_context(engine_), address, *endpoint, std::move(dialled));
    return pending;
  }

 private:
  Engine& engine_;
  const std::shared_ptr<Credentials> credentials_;
};

}  // namespace

Result<std::shared_ptr<Transport>> make_tls_transport(Engine& engine, const StoreTls& tls) {
  auto credentials = std::make_shared<Credentials>(engine, tls);
  ORC_TRY(credentials->load());
  return std::shared_ptr<Transport>(std::make_shared<TlsTransport>(engine, std::move(credentials)));
}

}  // namespace orchestra::store
