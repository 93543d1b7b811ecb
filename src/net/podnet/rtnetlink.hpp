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
  std::uint32_t vni = 0;          ///< of a vxlan device
  std::uint16_t tunnel_port = 0;  ///< of a vxlan device
  std::optional<IpAddress>
      tunnel_local;  ///< of a vxlan device: source of the outer packets, where it is fixed
  int master = 0;    ///< the bridge whose port it is
  bool filters4 = false, filters6 = false;  ///< of a bridge: its frames pass the tables of IPv4, of IPv6
};

struct Route {
  IpRange destination{IpAddress::v4(0), 0};
  std::uint8_t type = 1;  ///< RTN_UNICAST 1, RTN_LOCAL 2, RTN_UNREACHABLE 7
  std::uint8_t protocol = kRouteProtocol;
  std::uint8_t scope = 0;     ///< RT_SCOPE_UNIVERSE 0, RT_SCOPE_LINK 253
  std::uint32_t table = 254;  ///< main; 255 local
  std::uint32_t metric = 0;
  int link = 0;         ///< output link; 0: none
  bool onlink = false;  ///< the gateway is on `link`, whatever other routes say
  std::optional<IpAddress> gateway, source;
};

/// Who has a hardware address: of an IP neighbour, or (forwarding entry) where a tunnel sends frames for it.
struct Neighbour {
  IpAddress address;  ///< the neighbour's, or that of the tunnel's other end
  std::string mac;    ///< 6 bytes
  friend bool operator==(const Neighbour&, const Neighbour&) = default;
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
  struct NewTunnel {
    std::string name, mac;
    std::uint32_t vni = 1;
    std::uint16_t port = 8472;
    std::optional<IpAddress> local;  ///< source of the outer packets; none: the kernel's choice
    int mtu = 1450;
  };
  /// A VXLAN device that learns nothing: it knows whom add_neighbour() names.
  Result<void> add_tunnel(const NewTunnel& tunnel);
  enum class Table : std::uint8_t { neighbours, forwarding };
  /// Permanent; in place of what the table says for the same address (neighbours) or MAC (forwarding).
  Result<void> set_neighbour(int link, Table table, const Neighbour& entry);
  /// One that is not there is fine.
  Result<void> remove_neighbour(int link, Table table, const Neighbour& entry);
  /// The permanent ones: neighbours of both families.
  Result<std::vector<Neighbour>> neighbours(int link, Table table);
  Result<void> set_mtu(int link, int mtu);
  Result<void> set_mac(int link, const std::string& mac);
  /// A bridge with this hardware address for good, which forwards at once, floods multicast, and whose frames
  /// pass nftables' tables of IPv4 and IPv6 (set_bridge_filter).
  Result<void> add_bridge(const std::string& name, const std::string& mac, int mtu);
  /// Its own option: counts whatever the namespace's net.bridge.bridge-nf-call-iptables says.
  Result<void> set_bridge_filter(int bridge, bool filters = true);
  /// Makes `link` a port of the bridge that sends frames back where they came from (hairpin): a pod may reach
  /// itself through a Service.
  Result<void> set_bridge_port(int link, int bridge);
  /// An `ifb`: what is redirected to it waits in its queue and goes on from where it came.
  Result<void> add_rate_link(const std::string& name, int mtu);
  /// What leaves this link does so with at most that many bits per second (token bucket).
  Result<void> set_rate(int link, std::uint64_t bits_per_second);
  /// What arrives on `link` goes through the queue of `rate_link` first.
  Result<void> redirect_arrivals(int link, int rate_link);
  Result<void> set_link(int index, const std::optional<std::string>& alias, bool up);
  /// A link that is not there (any more) is fine.
  Result<void> remove_link(int index);

  /// Adds or leaves as it is. An IPv6 address is used at once, without asking whether somebody has it.
  Result<void> add_address(int link, const IpAddress& address, int prefix);
  Result<std::vector<IpAddress>> addresses(int link);

  enum class IfExists : std::uint8_t { replace, refuse };
  Result<void> add_route(const Route& route, IfExists if_exists = IfExists::replace);
  /// A route that is not there is fine.
  Result<void> remove_route(const Route& route);
  Result<std::vector<Route>> routes(int family = 4);  ///< all tables
  /// What the kernel would do with a packet for `address`. `unavailable`: there is no way.
  Result<Route> lookup(const IpAddress& address);

 private:
  Result<void> add_simple_link(const std::string& name, const char* kind, int mtu, bool one_queue);
  explicit RouteSocket(Fd fd) : fd_(std::move(fd)) {}
  Result<void> request(nlmsghdr* message, const std::string& what);
  /// One question with one answer of type `wanted`; nothing when the kernel answers with `absent`.
  Result<void> add_neighbours(int link, Table table, unsigned char family, std::vector<Neighbour>& out);
  Result<bool> ask(nlmsghdr* message, const std::string& what, std::uint16_t wanted, int absent,
                   const std::function<void(const nlmsghdr*)>& answer);
  Result<void> dump(nlmsghdr* message, const std::string& what,
                    const std::function<void(const nlmsghdr*)>& each);
  Result<bool> dump_once(nlmsghdr* message, const std::string& what,
                         const std::function<void(const nlmsghdr*)>& each);
  Fd fd_;
  std::uint32_t sequence_ = 1;
};

}  // namespace orchestra::net
