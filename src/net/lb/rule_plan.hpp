#pragma once
// From a snapshot to kernel map elements, and from one snapshot to the next by differences. Pure.
//
// There is no chain per Service: chain `nN` picks one of N at random and goes to `iK`, which translates by
// map `eK`, the K-th endpoint of every Service. So a Service is a handful of map elements (key: address,
// protocol, port), and a change of one Service is a handful of element additions and removals. Only exact
// round robin, session affinity and the near side of externalTrafficPolicy Local need a chain of their own:
// the kernel's counter belongs to a rule, what a client was given before belongs to one Service port, and
// whom pods and the node reach by an outside address differs from whom others do.
// RulePlan holds what the kernel was told, and the table of Services that this was made of: only Services
// whose records differ are looked at. Verified layout: spec net.md section 5.
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "net/snapshot.hpp"
#include "orchestra/service_proxy.hpp"

namespace orchestra::net {

constexpr std::size_t kServiceEndpointsMax = 1024;  ///< per Service port; the kernel's chains are this wide

enum class MapKind : std::uint8_t {
  service,        ///< svc: address . protocol . port -> goto chain
  node_service,   ///< np_svc: protocol . port -> goto chain
  near_service,   ///< near: as svc, for pods and this node; before svc, and only where that differs
  near_node,      ///< np_near
  nothing,        ///< none: as svc, for ports without endpoints -> reject or drop
  node_nothing,   ///< np_none
  addresses,      ///< vips: every cluster address
  hairpin,        ///< hair: endpoint . endpoint
  keep_source,    ///< keep: endpoint of an externalTrafficPolicy Local Service, whose clients stay visible
  endpoint,       ///< e0, e1, ...: address . protocol . port -> address . port
  node_endpoint,  ///< np_e0, ...: protocol . port -> address . port
};

struct RuleElement {
  MapKind map = MapKind::service;
  std::uint16_t index = 0;  ///< K of eK
  IpAddress address, second_address;
  IpProtocol protocol = IpProtocol::tcp;
  std::uint16_t port = 0;
  // The value:
  std::string chain;
  IpAddress to_address;
  std::uint16_t to_port = 0;

  auto key() const { return std::tie(map, index, address, second_address, protocol, port); }
  friend bool operator==(const RuleElement&, const RuleElement&) = default;
};
/// "svc", "e3"
std::string map_name(const RuleElement& element);

/// A chain of one Service port's own. It picks from the maps eK, or names its endpoints itself, or drops who
/// may not use this address and leaves the rest to another chain.
struct ServiceChain {
  std::string name;
  std::size_t count = 0;
  bool node_port = false;
  bool in_turn = false;      ///< counts exactly (0, 1, ... count-1, 0, ...), else by chance
  int affinity_seconds = 0;  ///< above 0: remembers each client's endpoint in a set of its own per endpoint
  IpProtocol protocol = IpProtocol::tcp;
  std::vector<std::pair<IpAddress, std::uint16_t>> targets;  ///< address and port; none: the maps have them
  std::string then;                  ///< not empty: only those of `sources` go on to this chain
  std::vector<std::string> sources;  ///< "192.0.2.0/24", none inside of another
  /// Kernel objects besides the chain, as "chain g_1" and "set f_1", in the order in which they may go.
  std::vector<std::string> objects() const;
  friend bool operator==(const ServiceChain&, const ServiceChain&) = default;
};

/// Everything the kernel must hold for one Service.
struct ServiceRules {
  std::vector<RuleElement> elements;  ///< by key, each once
  std::vector<ServiceChain> chains;
  std::size_t width = 0;  ///< the largest number of endpoints
  std::size_t ports = 0;
  std::vector<NetworkRejection> rejected;
};
/// Each family has a table and a plan of its own.
struct PlanFamily {
  int family = 4;  ///< 4 or 6
  /// There is no plan of IPv6 beside that of IPv4: its addresses are refused. What is refused for both is
  /// told by the plan of IPv4.
  bool alone = true;
};
ServiceRules compile_service(const NetworkService& service, std::string_view node, PlanFamily family = {},
                             std::string_view zone = {});

/// A UDP address of a Service that changed, and what it leads to now; node ports have no address.
struct UdpFront {
  bool node_port = false;
  IpAddress address;
  std::uint16_t port = 0;
  std::vector<std::pair<IpAddress, std::uint16_t>> targets;
  auto key() const { return std::tie(node_port, address, port); }
  friend bool operator<(const UdpFront& a, const UdpFront& b) { return a.key() < b.key(); }
};

struct RuleBatch {
  bool full = false;                        ///< the maps are emptied first, in the same transaction
  std::vector<RuleElement> removed, added;  ///< removals come first
  std::vector<ServiceChain> chains_before, chains_after;  ///< written before or after the elements
  std::vector<std::string> objects_removed;               ///< "chain s_1", "set f_1": after the elements
  std::size_t width = 0;  ///< chains n1..nW, i0..iW-1 and their maps must exist before the elements
  std::vector<NetworkRejection> rejected;
  std::vector<UdpFront> udp_fronts;  ///< whose connection tracking has to be looked at
  bool empty() const {
    return !full && removed.empty() && added.empty() && chains_before.empty() && chains_after.empty();
  }
};

class RulePlan {
 public:
  explicit RulePlan(std::string node, PlanFamily family = {}) : node_(std::move(node)), family_(family) {}
  /// What has to change so that the kernel holds `snapshot`; afterwards the plan believes that it does.
  RuleBatch update(const NetworkSnapshot& snapshot);
  /// The kernel's content is unknown: the next update() is full.
  void forget();
  std::size_t ports() const { return ports_; }

 private:
  void change_service(RuleBatch& batch, const NamespacedName& name, const NetworkService* service);
  void change(RuleBatch& batch, const ServiceRules& before, const ServiceRules& after);
  void count(RuleBatch& batch, const RuleElement& element, int by);

  std::string node_;
  std::string zone_;  ///< of the node, when the services below were compiled
  PlanFamily family_;
  bool known_ = false;
  NetworkSnapshot::Table<NetworkService> applied_;
  std::map<NamespacedName, ServiceRules> services_;  ///< those that have rules
  std::map<NamespacedName, std::vector<NetworkRejection>> rejected_;
  std::size_t ports_ = 0;
  using SharedKey = std::tuple<MapKind, IpAddress, IpAddress, IpProtocol, std::uint16_t>;
  std::map<SharedKey, int> shared_;  ///< vips, hair and keep belong to several Services: how many
};

/// A table of nftables: "orc_1a2b3c4d" of one family.
struct NftTable {
  std::string name;
  int family = 4;
  const char* word() const { return family == 4 ? "ip" : "ip6"; }
  std::string text() const { return std::string(word()) + " " + name; }  ///< "ip orc_1a2b3c4d"
};

/// The base table: hooks, empty maps, and what refuses. Replaces a table of that name, atomically.
struct BaseTable {
  NftTable table;
  std::string cluster_cidr, service_cidr, node_gateway;
};
std::string base_table_text(const BaseTable& base);
/// Chains and maps for widths `from`+1 .. `to`.
std::string width_text(const NftTable& table, std::size_t from, std::size_t to);
/// `add element` commands: for the transaction that replaces a whole table.
std::string elements_text(const NftTable& table, const std::vector<RuleElement>& elements);
std::string service_chain_text(const NftTable& table, const ServiceChain& chain);
/// What the affinity sets of these chains remembered, as commands that put it back with the time that is
/// left: `listing` is what `nft list sets` says of the table before it is replaced. Sets that the chains do
/// not have any more (the endpoint is gone, the time is another) are left out, and so is what is not
/// understood.
std::string kept_clients_text(const NftTable& table, std::string_view listing,
                              const std::vector<ServiceChain>& chains);

}  // namespace orchestra::net
