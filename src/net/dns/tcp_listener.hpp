#pragma once
// DNS over TCP (RFC 7766) and over TLS (RFC 7858): length-prefixed messages, pipelined, answered in the order
// they get ready.
#include <memory>

#include "base/fd.hpp"
#include "net/dns/service.hpp"
#include "net/http/tls_context.hpp"

namespace orchestra::dns {

class TcpListener {
 public:
  virtual ~TcpListener() = default;
  virtual void stop() = 0;  ///< closes the socket and all connections; any thread
  /// Of connections that come from now on. Any thread.
  virtual void set_tls(http::SharedTlsContext context) = 0;
};
/// Without `tls` in the clear.
std::shared_ptr<TcpListener> start_tcp_listener(Engine& engine, Fd socket, std::shared_ptr<Service> service,
                                                http::SharedTlsContext tls = nullptr);

}  // namespace orchestra::dns
