#pragma once
// DnsServer: the cluster's names over UDP and TCP, everything else from upstream servers.
//
// Answers follow the Kubernetes DNS specification 1.1.0: Services, headless endpoints, named ports,
// ExternalName, pods, reverse names. Before the first complete snapshot it answers SERVFAIL, never "no such
// name". Also an embedded caching resolver on its own: publish nothing and give `forward`. Since 0.1.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/network_snapshot.hpp"
#include "orchestra/result.hpp"

namespace orchestra {

enum class DnsForwardPolicy : std::uint8_t { random, round_robin, sequential };

struct DnsServerOptions {
  /// "10.244.0.1:53", "[::1]:5353", port 0 takes a free one (the same for UDP and TCP). Sockets belong to the
  /// network namespace of the thread that calls create().
  std::vector<std::string> listen = {"127.0.0.1:53"};
  /// Upstream servers for names outside the zone, port 53 unless given; at most 15. None: such names are
  /// REFUSED. An address of our own is an error (it would loop).
  std::vector<std::string> forward = {};
  DnsForwardPolicy forward_policy = DnsForwardPolicy::random;
  std::string zone = "cluster.local";
  std::uint32_t ttl = 5;  ///< seconds of answers from the snapshot, 0 to 3600
  /// Ranges that may ask ("10.244.0.0/16"), besides the listen addresses themselves; others get no answer.
  /// Empty: loopback.
  std::vector<std::string> allow_from = {};
  /// Ranges of pods and Services: reverse names in them are ours.
  std::vector<std::string> reverse_ranges = {};
  std::size_t cache_bytes_max = 64 << 20;
};

struct DnsStats {
  std::uint64_t queries = 0;      ///< that were answered or forwarded
  std::uint64_t forwarded = 0;    ///< of these, names outside the zone
  std::uint64_t dropped = 0;      ///< malformed beyond an answer, or from outside allow_from
  std::uint64_t name_errors = 0;  ///< NXDOMAIN
  std::uint64_t failures = 0;     ///< SERVFAIL
};

/// Any thread. Ends with stop() or its last reference; the engine must outlive it.
class ORC_API DnsServer {
 public:
  virtual ~DnsServer() = default;
  /// Listens at once. `invalid` names a bad option, `busy` an address in use and its holder.
  static Result<std::shared_ptr<DnsServer>> create(Engine& engine, DnsServerOptions options);
  /// Queries that come after this see the new state; none sees a mixture.
  virtual void publish(std::shared_ptr<const NetworkSnapshot> snapshot) = 0;
  /// "ip:port" as in options.listen, with the real ports.
  virtual std::vector<std::string> addresses() const = 0;
  virtual DnsStats stats() const = 0;
  /// Closes the sockets; idempotent.
  virtual void stop() = 0;
};

}  // namespace orchestra
