#pragma once
// One UDP socket of a DNS server: reads and answers in batches of up to 64 datagrams per system call, on a
// worker thread of the engine of its own.
#include <memory>

#include "base/fd.hpp"
#include "net/dns/service.hpp"

namespace orchestra::dns {

class UdpListener {
 public:
  virtual ~UdpListener() = default;
  virtual void stop() = 0;  ///< the socket is closed when this returns; any thread
};
Result<std::shared_ptr<UdpListener>> start_udp_listener(Engine& engine, Fd socket,
                                                        std::shared_ptr<Service> service);

}  // namespace orchestra::dns
