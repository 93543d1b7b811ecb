#pragma once
// HttpServer: HTTP/1.1 over TCP, TLS and unix sockets, HTTP/2 over TLS, for the API server, the control
// socket and whatever else answers HTTP. No Beast or Asio type shows here.
//
// A handler gets the whole request (bodies are bounded) and a Responder that it may answer later, from
// any thread: at once, in chunks with back-pressure (watches, logs), or by taking the connection over
// (WebSocket, SPDY; HTTP/1.1 alone, in HTTP/2 such a stream is refused with HTTP_1_1_REQUIRED). Dropping the
// Responder without an answer gives a 500.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/pod_streams.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/forward_proxies.hpp"

namespace orchestra {

struct HttpServerOptions {
  std::string listen;  ///< "127.0.0.1:0", "[::1]:6443", "unix:/path"
  bool tls = false;
  std::string certificate_pem, key_pem;
  std::string client_ca_pem;       ///< ask for client certificates and verify those given
  bool http2 = true;               ///< with TLS: offered by ALPN
  std::size_t streams_max = 1024;  ///< requests at once on one HTTP/2 connection
  std::size_t connections_max = 10000;
  std::size_t header_bytes_max = 64 << 10;  ///< with the request line: 431
  std::size_t body_bytes_max = 3 << 20;     ///< 413
  Duration header_deadline = std::chrono::seconds(10);
  Duration body_deadline = std::chrono::seconds(60);
  Duration idle_deadline = std::chrono::seconds(120);
};

struct HttpPeer {
  std::string address;      ///< ip:port
  std::string common_name;  ///< of a verified client certificate, else empty
  std::vector<std::string> organizations;
};
struct HttpServerRequest {
  std::string method, target;                  ///< target as sent: path and query
  std::map<std::string, std::string> headers;  ///< names in lower case; repeated ones joined by ", "
  std::string body;
  HttpPeer peer;
  /// Value of the field of this name (lower case); empty if the request has none.
  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string() : found->second;
  }
};

/// Something to do on a connection's own sequence of events.
class ORC_API HttpBodyTask {
 public:
  virtual ~HttpBodyTask() = default;
  virtual void run_in_order() = 0;
};

/// The rest of an answer in chunks. write() completes when the bytes are handed to the kernel, so at
/// most one write is outstanding; an error means that the client is gone.
class ORC_API HttpBodyWriter {
 public:
  virtual ~HttpBodyWriter() = default;
  virtual Pending<void> write(std::string bytes) = 0;
  /// As write(), for bytes that many writers share. Nothing to wait for (nullopt): the kernel has all of them
  /// already. That is tried within a task of dispatch() only.
  virtual std::optional<Pending<void>> write_now(const std::shared_ptr<const std::string>& bytes) {
    return write(*bytes);
  }
  /// Where write() needs no hop to another thread: run on the connection's own sequence of events, at once
  /// when this is it. False (and not run) when the client is gone.
  virtual bool dispatch(std::shared_ptr<HttpBodyTask> task) = 0;
  virtual void finish() = 0;  ///< ends the chunked body; the connection may be used again
  virtual void abort() = 0;   ///< closes the connection in mid-body
  /// Called once when the client goes away (also without a write).
  virtual void on_closed(std::function<void()> call) = 0;
};

class ORC_API HttpResponder {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;
  virtual ~HttpResponder() = default;
  /// Content-Length is that of the body; in an answer to HEAD one among the headers counts, as what GET would
  /// give (RFC 9110 section 9.3.2). Elsewhere such a header is dropped.
  virtual void respond(int status, Headers headers, std::string body) = 0;
  /// The body as parts that are written one after another without joining them (big lists).
  virtual void respond_parts(int status, Headers headers,
                             std::vector<std::shared_ptr<const std::string>> parts) = 0;
  virtual std::shared_ptr<HttpBodyWriter> start(int status, Headers headers) = 0;
  /// 101 with these headers; the connection is then the caller's (bytes read ahead included).
  virtual std::shared_ptr<DuplexStream> upgrade(Headers headers) = 0;
  virtual void on_closed(std::function<void()> call) = 0;
};

class ORC_API HttpServer {
 public:
  using Handler = std::function<void(HttpServerRequest, std::shared_ptr<HttpResponder>)>;
  virtual ~HttpServer() = default;
  /// Binds, listens and serves. `busy` names the address and, where it can be found, the process that
  /// holds it. `handler` is called on event threads and must not block.
  static Result<std::shared_ptr<HttpServer>> start(Engine& engine, HttpServerOptions options,
                                                   Handler handler);
  virtual std::string address() const = 0;  ///< host:port with the real port
  /// New handshakes use this certificate.
  virtual Result<void> set_certificate(const std::string& certificate_pem, const std::string& key_pem) = 0;
  /// Stops accepting, closes idle connections, aborts the rest after `grace`.
  virtual void stop(Duration grace) = 0;
};

/// The one HttpClient of the library (keep-alive pool per engine).
ORC_API std::shared_ptr<class HttpClient> make_http_client(Engine& engine);
/// As above; a proxy that cannot be understood makes each request that needs it fail.
ORC_API std::shared_ptr<class HttpClient> make_http_client(Engine& engine, ForwardProxies proxies);

}  // namespace orchestra
