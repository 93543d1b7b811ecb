#pragma once
// What a DNS query meets, whichever socket it came through: admission, our zones, the upstream servers.
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/shared_slot.hpp"
#include "net/dns/dns_counts.hpp"
#include "net/dns/forwarder.hpp"
#include "net/dns/rate_limiter.hpp"
#include "net/dns/zone_set.hpp"
#include "net/http/address.hpp"
#include "orchestra/dns_server.hpp"
#include "orchestra/metrics.hpp"

namespace orchestra::dns {

struct ServiceOptions {
  ZoneOptions zone;  ///< of the cluster; its name empty: none
  std::vector<net::IpRange> allow_from;
  std::vector<net::IpRange> unlimited;  ///< whom answers_per_second does not count
  std::uint32_t answers_per_second = 0;
  bool autopath = false;
  CookieKey cookie_key{};
  std::optional<Histogram> durations = std::nullopt;  ///< seconds from a question's arrival to its answer
};

class Service : public std::enable_shared_from_this<Service> {
 public:
  using Reply = std::function<void(std::string packet)>;
  /// Who asks, and how.
  struct Asker {
    net::IpAddress address;
    bool udp = true;
    bool secure = false;  ///< nobody else reads it: answers are padded where the question was
  };
  /// A query that needs an upstream server.
  struct Unfinished {
    Query query;
    Asker asker;
    Answer answer;               ///< with a chase: what comes before the upstream's part
    bool chase_or_none = false;  ///< autopath: without an answer there, it is `if_none`
    std::shared_ptr<Answer> if_none = {};
    /// Who asks the same within a second may have the same answer.
    bool may_keep() const { return !chase_or_none && answer.keep; }
  };
  struct Handled {
    std::string packet;  ///< the answer; empty with `rest`, or where none is deserved
    std::optional<Unfinished> rest;
    bool keep = false;  ///< every such question has this answer until version() changes
  };
  /// Stub domains and their own upstream servers, besides those of all other names.
  using StubForwarders = std::map<Name, std::shared_ptr<Forwarder>, std::less<>>;
  Service(Engine& engine, ServiceOptions options, std::shared_ptr<Forwarder> forwarder, StubForwarders stubs);

  bool admits(const net::IpAddress& source);
  /// Whether a datagram from there may be answered now.
  RateVerdict limit(const net::IpAddress& source, std::string_view packet);
  Handled handle(std::string_view packet, const Asker& asker);
  /// "Come by TCP"; empty where nothing is deserved.
  std::string refer_to_tcp(std::string_view packet);
  /// Calls `reply` once, on the forwarder's strand.
  void finish(Unfinished rest, Reply reply);
  /// A listener answered by itself what it remembered.
  void count_remembered(const RememberedCounts& counts);

  /// For took(); 0 where nobody wants to know.
  std::int64_t begin_ns() const;
  /// So many questions that came at `begin_ns` have their answers.
  void took(std::int64_t begin_ns, std::uint64_t answers = 1) const;

  void publish(std::shared_ptr<const NetworkSnapshot> snapshot);
  Result<void> add_zone(std::shared_ptr<const DnsZone> zone);
  Result<void> remove_zone(const std::string& name);
  /// Changes after each of these; what was worked out before is not true any more.
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }
  void stop();
  DnsStats stats() const;

 private:
  using SharedZones = std::shared_ptr<const ZoneSet>;
  Handled answer_query(Query query, const Asker& asker);
  std::optional<Unfinished> walk_search(const ZoneSet& zones, const Query& query, const Asker& asker,
                                        Answer& answer, std::uint32_t rotation);
  std::string write(const Query& query, const Asker& asker, const Answer& answer);
  bool is_own_probe(const Name& name) const;
  const std::shared_ptr<Forwarder>& forwarder_of(const Name& name) const;
  void set_zones(std::shared_ptr<const ZoneSet> zones);
  std::uint32_t seconds() const;

  Engine& engine_;
  const ServiceOptions options_;
  const std::shared_ptr<Forwarder> forwarder_;
  const StubForwarders stubs_;
  const bool recursion_;     // RA: for some names at least there is an upstream server
  std::mutex change_mutex_;  // one publisher at a time
  SharedSlot<const ZoneSet> zones_;
  std::mutex limiter_mutex_;
  RateLimiter limiter_;
  std::atomic<std::uint64_t> version_{1};
  std::atomic<std::uint32_t> rotation_{0};
  std::atomic<std::uint64_t> queries_{0}, forwarded_{0}, dropped_{0}, name_errors_{0}, failures_{0},
      limited_{0}, remembered_{0};
  DnsCounts counts_;
};

/// An address in the form that ranges compare: IPv4-mapped IPv6 becomes IPv4.
net::IpAddress ip_of(const http::SocketAddress& address);

}  // namespace orchestra::dns
