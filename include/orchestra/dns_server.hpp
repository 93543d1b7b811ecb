#pragma once
// DnsServer: the cluster's names over UDP and TCP, everything else from upstream servers.
//
// Answers follow the Kubernetes DNS specification 1.1.0: Services, headless endpoints, named ports,
// ExternalName, pods, reverse names. Before the first complete snapshot it answers SERVFAIL, never "no such
// name". Also an authoritative server of zone files and of names that the host answers (add_zone), and an
// embedded caching resolver: publish nothing, leave `zone` empty and give `forward`. Since 0.1.
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "orchestra/dns_zone.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/metrics.hpp"
#include "orchestra/network_snapshot.hpp"
#include "orchestra/result.hpp"

namespace orchestra {

enum class DnsForwardPolicy : std::uint8_t { random, round_robin, sequential };

/// Names of pods: "10-244-1-5.shop.pod.cluster.local".
enum class DnsPodNames : std::uint8_t {
  verified,  ///< where namespace "shop" has a pod with this address
  insecure,  ///< for any address: whoever can get a certificate for such names can be anybody
  disabled,  ///< never
};

/// Which names a cluster has. Those that a filter leaves out are answered as if their objects were not there,
/// also as targets of reverse names. As CoreDNS has these options (plugin kubernetes). Since 0.2.
struct DnsClusterNames {
  DnsPodNames pods = DnsPodNames::verified;
  /// An endpoint without a hostname is called by its pod's name, where it has one of at most 63 characters.
  bool endpoint_pod_names = false;
  /// No names and reverse names of endpoints: headless Services do not exist.
  bool no_endpoints = false;
  /// A Service with an address does not exist while none of its endpoints is ready. Not with no_endpoints.
  bool ignore_empty_services = false;
  /// ZONE._zone.SERVICE.NS.svc.cluster.local: endpoints of a headless Service in that zone, and SRV records
  /// of all their ports. A zone that never had an endpoint has no such name.
  bool zonal = false;
  std::vector<std::string> namespaces = {};  ///< only these; empty: all
  std::string namespace_labels = {};         ///< only namespaces with such labels: "team in (shop, ops)"
  std::string labels = {};                   ///< only Services and pods with such labels
  /// Names below these domains ("cluster.local", "in-addr.arpa"; "." are all) that are not there are asked of
  /// the zone above, or of an upstream server.
  std::vector<std::string> fallthrough = {};
};

struct DnsServerOptions {
  /// "10.244.0.1:53", "[::1]:5353", port 0 takes a free one (the same for UDP and TCP). Sockets belong to the
  /// network namespace of the thread that calls create(). Each has a worker thread of the engine for UDP.
  std::vector<std::string> listen = {"127.0.0.1:53"};
  /// Addresses for DNS over TLS (RFC 7858; port 853 unless given) and over HTTPS (RFC 8484: GET and POST
  /// /dns-query by HTTP/1.1 and HTTP/2; port 443 unless given). They need a certificate and its key.
  std::vector<std::string> listen_tls = {}, listen_https = {};
  std::string certificate_pem = {}, key_pem = {};
  /// Upstream servers for names outside our zones, port 53 unless given; at most 15. None: such names are
  /// REFUSED. An address of our own is an error (it would loop). "tls://192.0.2.53#dns.example" (port 853) is
  /// asked by TLS only (RFC 7858), and its certificate has to be for that name.
  std::vector<std::string> forward = {};
  std::string forward_ca_pem = {};  ///< who may sign for tls:// servers; empty: the system's authorities
  /// Upstream servers of names below a domain of their own: {"corp.example", {"10.0.0.53"}}.
  std::map<std::string, std::vector<std::string>> forward_zones = {};
  DnsForwardPolicy forward_policy = DnsForwardPolicy::random;
  std::string zone = "cluster.local";  ///< of the published snapshots; empty: none, publish() is for nothing
  std::uint32_t ttl = 5;               ///< seconds of answers from the snapshot, 0 to 3600
  DnsClusterNames names = {};          ///< of that zone. Since 0.2.
  /// Ranges that may ask ("10.244.0.0/16"), besides the listen addresses themselves; others get no answer.
  /// Empty: loopback.
  std::vector<std::string> allow_from = {};
  /// Ranges of pods and Services: reverse names in them are ours.
  std::vector<std::string> reverse_ranges = {};
  std::size_t cache_bytes_max = 64 << 20;
  /// UDP sockets for each address, which the kernel spreads clients over; 1 to 64. More than the engine has
  /// event threads is for nothing.
  std::size_t workers = 1;
  /// Answers by UDP for each /24 (IPv6: /56) of askers outside of loopback, our own addresses and
  /// reverse_ranges; above it every second question is told to come by TCP and the others hear nothing, so
  /// that a forged source is not flooded. 0: no limit.
  std::uint32_t answers_per_second = 200;
  /// For this long after their end answers of upstream servers serve on, with 30 s to live, while no upstream
  /// server answers (RFC 8767). 0: never; at most 86400.
  std::uint32_t stale_seconds = 0;
  /// Walks a pod's search list here: a name that is looked up below the pod's own namespace and exists only
  /// further down the list is answered at once, by a CNAME. Needs `forward` and the pods of the snapshot.
  bool autopath = false;
  /// Gets orchestra_dns_request_duration_seconds: from a question's arrival to its answer. Since 0.2.
  std::shared_ptr<Metrics> metrics = nullptr;
};

/// One upstream server, by "ip:port".
struct DnsUpstreamStats {
  std::string server;
  std::uint64_t answered = 0, failed = 0;  ///< tries; no answer in time is a failure, SERVFAIL is an answer
  bool down = false;                       ///< passed over until it answers again
};

struct DnsStats {
  std::uint64_t queries = 0;      ///< that were answered or forwarded
  std::uint64_t forwarded = 0;    ///< of these, names outside our zones
  std::uint64_t dropped = 0;      ///< malformed beyond an answer, or from outside allow_from
  std::uint64_t name_errors = 0;  ///< NXDOMAIN
  std::uint64_t failures = 0;     ///< SERVFAIL
  std::uint64_t limited = 0;      ///< above answers_per_second: no answer, or one that says "by TCP"
  std::uint64_t remembered = 0;   ///< answers that were ready as wire from an earlier question
  /// `queries` by the type asked for ("A", "AAAA", ...; "other": one that is rare).
  std::map<std::string, std::uint64_t> requests = {};
  /// Answers by type and response code: {"A", "NXDOMAIN"}.
  std::map<std::pair<std::string, std::string>, std::uint64_t> responses = {};
  /// Of what upstream servers said: found, not found, and how many answers are kept.
  std::uint64_t cache_hits = 0, cache_misses = 0;
  std::size_t cache_entries = 0;
  std::vector<DnsUpstreamStats> upstreams = {};
};

/// Any thread. Ends with stop() or its last reference; the engine must outlive it.
class ORC_API DnsServer {
 public:
  virtual ~DnsServer() = default;
  /// Listens at once. `invalid` names a bad option, `busy` an address in use and its holder.
  static Result<std::shared_ptr<DnsServer>> create(Engine& engine, DnsServerOptions options);
  /// Queries that come after this see the new state; none sees a mixture.
  virtual void publish(std::shared_ptr<const NetworkSnapshot> snapshot) = 0;
  /// Serves the zone, in the place of an earlier one of this name, between two queries. The longest zone that
  /// a name is below answers for it. `invalid`: it has the name of the cluster's zone.
  virtual Result<void> add_zone(std::shared_ptr<const DnsZone> zone) = 0;
  /// `not_found` when there is no such zone.
  virtual Result<void> remove_zone(const std::string& name) = 0;
  /// New TLS connections use this certificate. `invalid`: it is none, or the key is not its key.
  virtual Result<void> set_certificate(const std::string& certificate_pem, const std::string& key_pem) = 0;
  /// "ip:port" as in options.listen, with the real ports; then "tls://ip:port" and
  /// "https://ip:port/dns-query".
  virtual std::vector<std::string> addresses() const = 0;
  virtual DnsStats stats() const = 0;
  /// Closes the sockets; idempotent.
  virtual void stop() = 0;
};

}  // namespace orchestra
