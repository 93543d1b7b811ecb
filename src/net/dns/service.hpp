#pragma once
// What a DNS query meets, whichever socket it came through: admission, the cluster's zone, the forwarder.
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/shared_slot.hpp"
#include "net/dns/cluster_zone.hpp"
#include "net/dns/forwarder.hpp"
#include "net/http/address.hpp"
#include "orchestra/dns_server.hpp"

namespace orchestra::dns {

class Service : public std::enable_shared_from_this<Service> {
 public:
  using Reply = std::function<void(std::string packet)>;
  /// A query that needs an upstream server.
  struct Unfinished {
    Query query;
    bool udp = true;
    Answer answer;  ///< with a chase: what comes before the upstream's part
  };
  struct Handled {
    std::string packet;  ///< the answer; empty with `rest`, or where none is deserved
    std::optional<Unfinished> rest;
  };
  Service(ZoneOptions zone, std::vector<net::IpRange> allow_from, std::shared_ptr<Forwarder> forwarder);

  bool admits(const http::SocketAddress& source);
  Handled handle(std::string_view packet, bool udp);
  /// Calls `reply` once, on the forwarder's strand.
  void finish(Unfinished rest, Reply reply);
  void publish(std::shared_ptr<const NetworkSnapshot> snapshot);
  DnsStats stats() const;

 private:
  using SharedZone = std::shared_ptr<const ClusterZone>;
  std::string write(const Query& query, bool udp, const Answer& answer);

  const ZoneOptions options_;
  const std::vector<net::IpRange> allow_from_;
  const std::shared_ptr<Forwarder> forwarder_;
  SharedSlot<const ClusterZone> zone_;
  std::atomic<std::uint32_t> rotation_{0};
  std::atomic<std::uint64_t> queries_{0}, forwarded_{0}, dropped_{0}, name_errors_{0}, failures_{0};
};

/// An address in the form that ranges compare: IPv4-mapped IPv6 becomes IPv4.
net::IpAddress ip_of(const http::SocketAddress& address);

}  // namespace orchestra::dns
