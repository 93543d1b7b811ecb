#pragma once
// All zones of a server as one immutable value: a question sees the old ones or the new ones, never a
// mixture. Pure.
#include <map>
#include <memory>

#include "net/dns/cluster_zone.hpp"
#include "net/dns/dns_zone.hpp"

namespace orchestra::dns {

class ZoneSet {
 public:
  using Zones = std::map<Name, std::shared_ptr<const AnyZone>, std::less<>>;
  /// `cluster` may be null.
  ZoneSet(std::shared_ptr<const ClusterZone> cluster, Zones zones)
      : cluster_(std::move(cluster)), zones_(std::move(zones)) {}

  /// The longest zone that the name is below answers. A CNAME is followed in the same way, to the longest
  /// zone that holds its target, which may lie inside of the one it comes from; `chase` is left where none
  /// does.
  Answer answer(const Question& question, std::uint32_t rotation) const;
  const std::shared_ptr<const ClusterZone>& cluster() const { return cluster_; }
  const Zones& zones() const { return zones_; }

 private:
  const AnyZone* above_cluster(const Name& name) const;
  Answer answer_once(const Question& question, std::uint32_t rotation) const;
  std::shared_ptr<const ClusterZone> cluster_;
  Zones zones_;
};

/// The namespace's part of a search list that `name` was looked up with: "www.example.com" of
/// "www.example.com.shop.svc.cluster.local" for ("shop", "cluster.local"); nullopt for other names.
std::optional<Name> before_search(const Name& name, std::string_view ns, const Name& zone);

}  // namespace orchestra::dns
