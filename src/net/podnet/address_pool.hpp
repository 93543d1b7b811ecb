#pragma once
// Which pod has which address of the node's range. Pure: `now` is an argument, the journal is text.
//
// The first address is the node's own. Free addresses are given out round robin and a released one not
// before a cool-down, because DNS caches, connection tracking and other nodes' policy sets remember the old
// owner for a while. One pod has one address; asking again gives the same one. A lease also holds the ports
// of the machine that lead to the pod, so that no two pods get one and a start knows them.
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/pod_attacher.hpp"
#include "net/snapshot.hpp"

namespace orchestra::net {

class AddressPool {
 public:
  struct Lease {
    std::string pod_uid, ns, name;
    IpAddress address;
    std::vector<HostPort> host_ports = {};
  };
  /// IPv4 ranges of /8 to /29.
  static Result<AddressPool> create(const IpRange& range, std::int64_t cooldown_ns);
  /// Takes over the journal's text; entries outside of the range are refused, so a changed range is seen.
  Result<void> load(std::string_view journal, std::int64_t now_ns);
  std::string journal() const;

  IpAddress node_address() const { return IpAddress::v4(first_); }
  Result<Lease> reserve(const std::string& pod_uid, const std::string& ns, const std::string& name,
                        std::int64_t now_ns);
  /// The ports of the machine of a pod with a lease, in place of those it had. `conflict` names the pod that
  /// has one of them already, `invalid` a port that is asked for twice; then nothing changes. False: it has
  /// them already.
  Result<bool> set_host_ports(const std::string& pod_uid, const std::vector<HostPort>& ports);
  /// A pod that certainly has this address (its link says so). False when it is taken or not of the range.
  bool adopt(const std::string& pod_uid, const IpAddress& address);
  /// False when the pod had none.
  bool release(const std::string& pod_uid, std::int64_t now_ns);
  const Lease* find(const std::string& pod_uid) const;
  std::vector<Lease> leases() const;

 private:
  AddressPool(const IpRange& range, std::int64_t cooldown_ns);
  bool is_cooled(std::uint32_t address, std::int64_t now_ns) const;

  IpRange range_;
  std::uint32_t first_ = 0, last_ = 0;  ///< first_ is the node's; pods get first_+1 .. last_
  std::uint32_t cursor_ = 0;            ///< the address given last
  std::int64_t cooldown_ns_ = 0;
  std::map<std::string, Lease> by_pod_;
  std::set<std::uint32_t> used_;
  std::map<std::uint32_t, std::int64_t> released_;  ///< wall clock
};

}  // namespace orchestra::net
