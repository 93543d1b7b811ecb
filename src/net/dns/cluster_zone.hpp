#pragma once
// Answers for the cluster's names, from the network snapshot. Pure: question in, records out.
//
// The rules are those of the Kubernetes DNS specification 1.1.0 (github.com/kubernetes/dns). Nothing is
// precomputed but the reverse names of headless endpoints: a name says by its labels which Service it
// means, and the snapshot finds that by two map lookups, so that publishing costs next to nothing and one
// changed Service is visible at once.
// Always true: while an input is not synced, names that depend on it answer SERVFAIL, never NXDOMAIN,
// because negative caches remember.
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "net/dns/zone.hpp"
#include "net/snapshot.hpp"
#include "orchestra/dns_server.hpp"
#include "orchestra/selector.hpp"

namespace orchestra::dns {

/// DnsClusterNames as it is looked at for each question.
struct NameRules {
  DnsPodNames pods = DnsPodNames::verified;
  bool endpoint_pod_names = false, no_endpoints = false, ignore_empty_services = false, zonal = false;
  std::set<std::string, std::less<>> namespaces;
  Selector namespace_labels, labels;
  std::vector<Name> fallthrough;
  static Result<NameRules> read(const DnsClusterNames& names);
};

struct ZoneOptions {
  std::string zone = "cluster.local";
  std::uint32_t ttl = 5;  ///< seconds, 0 to 3600
  NameRules names = {};
  /// Ranges of pods and Services: their reverse zones are ours.
  std::vector<net::IpRange> reverse_ranges;
  /// Where this server listens, for the NS name when there is no Service kube-system/kube-dns.
  std::vector<net::IpAddress> own_addresses;
};

class ClusterZone {
 public:
  /// `snapshot` may be null: nothing is synced then. `before`: what was served until now, whose zones of
  /// endpoints stay known.
  ClusterZone(ZoneOptions options, std::shared_ptr<const NetworkSnapshot> snapshot,
              const ClusterZone* before = nullptr);

  /// `rotation` turns the order of several addresses, a different one for each query.
  Answer answer(const Question& question, std::uint32_t rotation = 0) const;
  const Name& name() const { return zone_; }
  const NetworkSnapshot* snapshot() const { return snapshot_.get(); }

 private:
  struct Labels;
  using ZoneLabels = std::set<std::string, std::less<>>;
  /// Whether the namespace is there for who asks, and so for Services and pods.
  bool has_namespace(std::string_view ns) const;
  const NetworkService* find_service(std::string_view ns, std::string_view name) const;
  bool shows(const NetworkService& service) const { return options_.names.labels.matches(service.labels); }
  bool is_usable(const NetworkService& service, const NetworkEndpoint& endpoint) const;
  std::string host_label(const NetworkEndpoint& endpoint) const;
  std::vector<net::IpAddress> addresses_of(const NetworkService& service) const;
  std::vector<Name> reverse_names(const net::IpAddress& address) const;
  void learn_zones(const ClusterZone* before);
  void answer_zonal(const NetworkService& service, const Labels& labels, const Name& name, Type type,
                    Answer& out) const;
  void answer_name(const Name& name, Type type, std::uint32_t rotation, Answer& out) const;
  void answer_apex(const Name& name, Type type, Answer& out) const;
  void answer_pod(const Labels& labels, const Name& name, Type type, Answer& out) const;
  void answer_service(const Labels& labels, const Name& name, Type type, std::uint32_t rotation,
                      Answer& out) const;
  void answer_port(const NetworkService& service, const Labels& labels, const Name& name, Type type,
                   Answer& out) const;
  void answer_host(const NetworkService& service, std::string_view host, const Name& name, Type type,
                   Answer& out) const;
  void answer_external(const NetworkService& service, const Name& name, Type type, Answer& out) const;
  void answer_reverse(const net::IpAddress& address, const Name& name, Type type, Answer& out) const;
  void add_addresses(const Name& name, Type type, const std::vector<net::IpAddress>& addresses,
                     Answer& out) const;
  void no_data(Answer& out) const { out.authority = {soa()}; }
  void no_name(Answer& out) const;
  void pass_on(const Name& name, Answer& out) const;
  void not_ready(Answer& out, const char* what) const;
  Record soa() const;
  Record record(const Name& name, Type type, std::string data) const {
    return {name, type, options_.ttl, std::move(data)};
  }
  Name service_name(const NetworkService& service) const;

  ZoneOptions options_;
  std::shared_ptr<const NetworkSnapshot> snapshot_;
  Name zone_, primary_;
  std::shared_ptr<const ZoneLabels> zone_labels_;  ///< lower case; those that an endpoint ever was in
};

/// "7.0.96.10.in-addr.arpa" or nibbles of ip6.arpa; nullopt for other names, nothing for partial ones.
std::optional<net::IpAddress> reverse_address(std::string_view name);
bool is_reverse_name(std::string_view name);
/// "10-244-1-5": the name of an endpoint that has no hostname.
std::string dashed(std::string_view address);

}  // namespace orchestra::dns
