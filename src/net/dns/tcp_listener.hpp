#pragma once
// DNS over TCP (RFC 7766): length-prefixed messages, pipelined, answered in the order they get ready.
#include <memory>

#include "base/fd.hpp"
#include "net/dns/service.hpp"

namespace orchestra::dns {

class TcpListener {
 public:
  virtual ~TcpListener() = default;
  virtual void stop() = 0;  ///< closes the socket and all connections; any thread
};
std::shared_ptr<TcpListener> start_tcp_listener(Engine& engine, Fd socket, std::shared_ptr<Service> service);

}  // namespace orchestra::dns
