#pragma once
// RouteSocket: links, addresses and routes of one network namespace, through rtnetlink (libmnl).
//
// A socket belongs to the namespace of the thread that opened it, for its whole life, and may be used
// from any thread (one at a time). Strict checking and extended acknowledgements are on, so a refusal
// carries the kernel's own sentence. Dumps that the kernel marks as interrupted are repeated.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "net/snapshot.hpp"

struct nlmsghdr;

namespace orchestra::net {

/// rtm_protocol of every route that Orchestra makes: tells ours from the machine's.
constexpr std::uint8_t kRouteProtocol = 111;
/// Metric of the `unreachable` routes: any other route wins.
constexpr std::uint32_t kLastMetric = 0xfffffffe;

struct Link {
  int index = 0;
  int peer_index = 0;  ///< IFLA_LINK: of a veth, in its peer's namespace
  std::string name, alias, kind;
  std::string mac;  ///< 6 bytes
  int mtu = 0;
  bool up = false;
};

struct Route {
  IpRange destination{IpAddress::v4(0), 0};
  std::uint8_t type = 1;  ///< RTN_UNICAST 1, RTN_LOCAL 2, RTN_UNREACHABLE 7
  std::uint8_t protocol = kRouteProtocol;
  std::uint8_t scope = 0;     ///< RT_SCOPE_UNIVERSE 0, RT_SCOPE_LINK 253
  std::uint32_t table = 254;  ///< main; 255 local
  std::uint32_t metric = 0;
  int link = 0;  ///< output link; 0: none
  std::optional<IpAddress> gateway, source;
};

class RouteSocket {
 public:
  /// In the namespace of the calling thread.
  static Result<RouteSocket> open();

  Result<std::vector<Link>> links();
  Result<std::optional<Link>> find_link(const std::string& name);
  struct NewVeth {
    std::string name, peer_name;
    int peer_namespace = -1;  ///< fd; the peer is born there
    std::string mac, peer_mac;
    int mtu = 1500;
  };
  Result<void> add_veth(const NewVeth& veth);
  /// A link without a wire that swallows what is sent to it: `dummy` where the kernel has it, else a bridge
  /// without ports. (`ifb` would do, but loading its module makes two links nobody asked for.)
  Result<void> add_sink(const std::string& name, int mtu);
  Result<void> set_link(int index, const std::optional<std::string>& alias, bool up);
  /// A link that is not there (any more) is fine.
  Result<void> remove_link(int index);

  /// Adds or leaves as it is.
  Result<void> add_address(int link, const IpAddress& address, int prefix);
  Result<std::vector<IpAddress>> addresses(int link);

  enum class IfExists : std::uint8_t { replace, refuse };
  Result<void> add_route(const Route& route, IfExists if_exists = IfExists::replace);
  /// A route that is not there is fine.
  Result<void> remove_route(const Route& route);
  Result<std::vector<Route>> routes();  ///< IPv4, all tables

 private:
  Result<void> add_simple_link(const std::string& name, const char* kind, int mtu);
  explicit RouteSocket(Fd fd) : fd_(std::move(fd)) {}
  Result<void> request(nlmsghdr* message, const std::string& what);
  Result<void> dump(nlmsghdr* message, const std::string& what,
                    const std::function<void(const nlmsghdr*)>& each);
  Result<bool> dump_once(nlmsghdr* message, const std::string& what,
                         const std::function<void(const nlmsghdr*)>& each);
  Fd fd_;
  std::uint32_t sequence_ = 1;
};

}  // namespace orchestra::net
