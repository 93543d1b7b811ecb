#pragma once
// PodNetwork: the shell around AddressPool, MachineJournal and RouteSocket, in both modes (routed; what is
// different in mode bridge is in bridge_mode.cpp).
//
// Every operation runs in one SerialQueue, so there is one writer. attach() is a list of steps of which
// each may be repeated: reserve the address (journal) -> veth with its peer born in the pod's namespace ->
// host side (sysctls, alias = pod uid, up) -> inside (lo, address, routes) -> host route. An attach that
// was cut off is simply done again; a link without an alias is a leftover of one and is removed at open().
// detach() takes the machine's ports away from the pod, cuts it off (its route goes, and with the route
// rp_filter drops what it sends), gives the address back and answers; the link itself goes in the background,
// because the kernel waits 20-30 ms for its readers when a link is removed.
#include <atomic>
#include <map>
#include <mutex>
#include <set>

#include "api/pod_attacher.hpp"
#include "net/lb/nft_transaction.hpp"
#include "net/podnet/address_pool.hpp"
#include "net/podnet/bridge_guard.hpp"
#include "net/podnet/dual_stack.hpp"
#include "net/podnet/machine_journal.hpp"
#include "net/podnet/range_check.hpp"
#include "net/podnet/rtnetlink.hpp"
#include "net/serial_queue.hpp"
#include "orchestra/env.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra::net {

struct RoutedRanges {
  IpRange pods, cluster;
  std::optional<IpRange> services;
  std::optional<IpRange> cluster6;  ///< of the whole cluster, as it was given; nothing: IPv4 only
  std::optional<IpRange> services6;
};

/// The gateway of IPv6 that every pod sees.
constexpr const char* kPodGateway6 = "fe80::1";

/// Of the pod's end: 0a:58 and the four bytes of its address, known without asking, unique in the cluster.
std::string pod_mac(const IpAddress& address);

/// An `unreachable` route for each, or none of them: the first that is there already is the error.
Result<void> add_covers(RouteSocket& routes, const std::vector<IpRange>& ranges);

/// What teardown and remove_leftovers share: everything of `journal`'s instance goes, the covers last.
Result<void> remove_instance(MachineJournal& journal, RouteSocket& routes,
                             const NetworkNamespace& name_space);

class RoutedNetwork final : public PodNetwork,
                            public PodAttacher,
                            public std::enable_shared_from_this<RoutedNetwork> {
 public:
  RoutedNetwork(Engine& engine, PodNetworkOptions options, RoutedRanges ranges, AddressPool pool,
                MachineJournal journal, RouteSocket routes, RouteSocket removal_routes);
  ~RoutedNetwork() override;
  /// Covers, gateway link, sysctls, masquerade; adopts or removes what an earlier process left.
  Result<void> start();

  std::shared_ptr<PodAttacher> attacher() override { return shared_from_this(); }
  Pending<std::size_t> reconcile(std::set<std::string> live_pod_uids) override;
  Pending<std::vector<std::string>> set_peers(std::vector<PodNetworkPeer> peers, bool complete) override;
  std::string node_address() const override { return first_of(gateway_).to_string(); }
  std::vector<MachineChange> machine_changes() const override;
  Pending<void> teardown() override;

  Pending<Attachment> attach(AttachRequest request) override;
  Pending<void> detach(std::string pod_uid) override;
  Result<std::vector<Attachment>> list() override;
  std::string dns_address() const override { return node_address(); }
  std::string trouble() const override;
  /// Mode bridge: once now what is done each 10 s.
  Pending<void> look_at_bridge();

 private:
  Result<void> claim_ranges();
  Result<void> make_machine_parts();
  Result<void> make_gateway_link();

  /// The address of the first family that belongs to this number.
  IpAddress first_of(const IpAddress& number) const {
    return options_.ipv6_first ? with_prefix(*ranges_.cluster6, number) : number;
  }
  bool is_bridged() const { return options_.mode == PodNetworkOptions::Mode::bridge; }
  Result<void> check_bridge_module() const;
  Result<void> make_bridge();
  BridgePort port_of(const IpAddress& address) const;
  Result<void> plug_in(const Link& link, const AttachRequest& request, const IpAddress& address);
  Result<std::size_t> plug_in_all();
  Result<void> open_port(const BridgePort& port);
  Result<void> close_port(const std::string& link);
  Result<void> write_guard();
  Result<void> remember_guard();
  Result<bool> is_guard_whole();
  Result<void> keep_bridge();
  void watch_bridge();

  Result<void> set_machine_sysctls();
  Result<void> set_masquerade();
  Result<void> set_rules6();
  Result<void> set_sysctls6();
  /// The table says what the leases say, but for that of one pod that goes.
  Result<void> write_host_ports(const std::string& without = {});
  bool has_host_ports() const;
  Result<void> adopt_links();
  std::optional<IpAddress> address_of_link(const std::string& link) const;
  Result<void> load_addresses();
  Result<void> save_addresses();

  struct PeerPlan;
  struct PeerPlans;
  Result<PeerPlan> plan_peer(const PodNetworkPeer& peer);
  PeerPlans plan_peers(const std::vector<PodNetworkPeer>& peers, std::vector<std::string>& problems);
  Result<Link> ensure_tunnel();
  RouteSocket::NewTunnel wanted_tunnel() const;
  Result<Link> make_tunnel(const RouteSocket::NewTunnel& tunnel);
  int tunnel_mtu() const;
  void follow_mtu();
  Result<void> set_pod_mtu(const AddressPool::Lease& lease);
  Result<void> set_peer_routes(const PeerPlans& plans, int family, std::vector<std::string>& problems);
  Result<void> set_tunnel_ends(const PeerPlans& plans);
  Result<std::vector<std::string>> set_peers_now(const std::vector<PodNetworkPeer>& peers, bool complete);
  Result<Attachment> attach_now(const AttachRequest& request);
  Result<void> publish_host_ports(const AddressPool::Lease& lease);
  Result<void> limit_rates(const Link& link, const IpAddress& address, const AttachRequest& request);
  /// A UDP client with a fixed port would keep what its first packet met for ever: flows from before the
  /// ports were published, or those that lead to a pod that goes.
  void cut_udp_flows(const AddressPool::Lease& lease, bool published);
  Result<Link> ensure_veth(const AttachRequest& request, const IpAddress& address);
  Result<void> configure_host_side(const Link& link, const AttachRequest& request);
  Result<void> set_pod_side_sysctls(const Link& link);
  Result<void> configure_host_side6(const Link& link);
  Result<void> configure_inside(const NetworkNamespace& pod, const IpAddress& address);
  Result<void> configure_inside6(RouteSocket& inside, const Link& link, const IpAddress& address);
  /// Routes to the pod, of each family.
  std::vector<Route> pod_routes(const Link& link, const IpAddress& address) const;
  Result<bool> is_wired(const NetworkNamespace& pod, const Link& host_link);
  Result<void> detach_now(const std::string& pod_uid);
  Result<std::vector<Link>> links_of(const std::string& pod_uid);
  void remove_in_background(const std::string& pod_uid, const Link& link);
  Result<void> finish_removal(const std::string& pod_uid);
  Attachment describe(const AddressPool::Lease& lease) const;
  std::int64_t wall_now() const { return engine_.clock().now().wall_ns; }

  Engine& engine_;
  PodNetworkOptions options_;
  RoutedRanges ranges_;
  IpAddress gateway_;
  int underlay_mtu_ = 1500;     // of the machine's way out
  std::atomic<int> mtu_{1500};  // of pods: smaller while there is a tunnel
  int gateway_link_ = 0;
  std::shared_ptr<SerialQueue> queue_;

  mutable std::mutex mutex_;  // guards pool_ and journal_ for readers outside of the queue
  AddressPool pool_;
  MachineJournal journal_;
  RouteSocket routes_;
  std::atomic<bool> torn_down_ = false;
  std::set<std::string>
      unpublished_;  // pods whose ports changed since the table was written; in the queue only

  // Mode bridge, in the queue only: what the table bridge_guard.hpp says.
  std::set<std::string> open_ports_;
  std::uint32_t guard_generation_ = 0;
  std::string guard_text_;
  std::string trouble_;      // under mutex_
  std::uint64_t timer_ = 0;  // under mutex_

  // Links that are being removed, by pod: the pod may come back before its old eth0 is gone.
  std::shared_ptr<SerialQueue> removals_;
  RouteSocket removal_routes_;  // used in removals_ only
  std::mutex leaving_mutex_;
  std::multimap<std::string, int> leaving_;
};

}  // namespace orchestra::net
