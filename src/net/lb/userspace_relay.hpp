#pragma once
// The relays of the userspace proxy: one listening address each.
//
// A listener is given its endpoints as an immutable list and picks per connection (TCP) or per flow (UDP),
// at random or in turn. TCP tries up to three endpoints before any byte was moved. Idle connections hold no
// buffer: data is read only when there is some, and what the other side cannot take at once is kept until
// it can (at most one read's worth), so a slow reader stops its sender. Half-close is carried over.
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/fd.hpp"
#include "net/snapshot.hpp"
#include "orchestra/env.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra::net {

struct RelayTarget {
  std::uint32_t address = 0;
  std::uint16_t port = 0;
  friend auto operator<=>(const RelayTarget&, const RelayTarget&) = default;
};
struct RelayTargets {
  std::vector<RelayTarget> list;
  bool round_robin = false;
  int affinity_seconds = 0;  ///< above 0: a client keeps its endpoint while it comes back within that time
  friend bool operator==(const RelayTargets&, const RelayTargets&) = default;
};

/// What all relays of one proxy share: bounds and counts.
struct RelayShared {
  RelayShared(boost::asio::io_context& context_in, Random& random_in, Clock& clock_in)
      : context(context_in), random(random_in), clock(clock_in) {}
  boost::asio::io_context& context;
  Random& random;
  Clock& clock;
  NetworkNamespace name_space;
  std::size_t connections_max = 65536, udp_flows_max = 65536;
  std::atomic<std::size_t> connections_open{0}, udp_flows_open{0};
  std::atomic<std::uint64_t> connections{0}, connections_refused{0}, connect_failures{0}, udp_flows{0};
};

class Relay {
 public:
  virtual ~Relay() = default;
  virtual void set_targets(RelayTargets targets) = 0;
  /// Closes the listener and every connection and flow of it.
  virtual void close() = 0;
  /// Closes the listener only: established connections go on. Done when nobody can connect any more.
  virtual Pending<void> stop_listening() = 0;
};

/// Binds `address`:`port` (address 0 is every address of the host) and starts.
Result<std::shared_ptr<Relay>> start_tcp_relay(std::shared_ptr<RelayShared> shared, std::uint32_t address,
                                               std::uint16_t port, RelayTargets targets);
Result<std::shared_ptr<Relay>> start_udp_relay(std::shared_ptr<RelayShared> shared, std::uint32_t address,
                                               std::uint16_t port, RelayTargets targets);

/// A non-blocking socket of the shared namespace, bound with SO_REUSEADDR and IP_FREEBIND.
Result<Fd> bind_relay_socket(const RelayShared& shared, int type, std::uint32_t address, std::uint16_t port);

}  // namespace orchestra::net
