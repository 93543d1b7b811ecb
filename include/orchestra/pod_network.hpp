#pragma once
// PodNetwork: an address and a wire for every pod of this node, and NetworkNamespace and NetProbe.
//
// Mode routed: each pod has a veth pair and a /32 address, the node routes between them; there is no
// bridge. Mode bridge: the pods of a node share one link (layer 2: broadcasts arrive), for which the machine
// needs the kernel's module br_netfilter; its ports let a pod send with its own addresses only. Before
// anything else `unreachable` routes cover the pod and Service ranges, so no packet for them ever leaves by
// another interface. Everything we made carries the instance's id, every sysctl we changed is in a journal
// with its old value; teardown() restores all of it. kill -9 at any point converges at the next open(). Since
// 0.1.
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/pending.hpp"

namespace orchestra {

class Fd;
class PodAttacher;
class PodDialer;

/// A handle on a network namespace; cheap to copy. The default one is "the namespace of this process".
class ORC_API NetworkNamespace {
 public:
  NetworkNamespace() = default;
  explicit NetworkNamespace(std::shared_ptr<Fd> fd) : fd_(std::move(fd)) {}
  static NetworkNamespace current() { return {}; }
  /// /run/netns/x, /proc/PID/ns/net
  static Result<NetworkNamespace> open(const std::string& path);
  /// A new empty one; it lives as long as a handle or a process in it does.
  static Result<NetworkNamespace> create();
  bool is_own() const { return fd_ == nullptr; }
  const std::shared_ptr<Fd>& fd() const { return fd_; }

 private:
  std::shared_ptr<Fd> fd_;
};

/// One ability of this machine, as `orchestra doctor` prints it.
struct NetworkAbility {
  std::string name;  ///< "network namespaces", "nftables", ...
  bool available = false;
  std::string evidence;     ///< what was tried, and what came back
  std::string consequence;  ///< what happens without it
  std::string remedy;
};
/// Tries things once in a scratch namespace and leaves nothing behind. Blocks; not on event threads.
class ORC_API NetProbe {
 public:
  static std::vector<NetworkAbility> run();
  static bool has(const std::vector<NetworkAbility>& abilities, std::string_view name);
};

struct PodNetworkOptions {
  enum class Mode : std::uint8_t {
    routed,
    bridge,  ///< of one node: others may have the other mode
  };
  std::string data_dir;      ///< journals: addresses.json, network.json
  std::string instance;      ///< 8 hex digits: names our links and tables
  std::string pod_cidr;      ///< this node's part, "10.244.1.0/24"
  std::string cluster_cidr;  ///< all pods, "10.244.0.0/16"; empty: pod_cidr
  /// IPv6 beside IPv4: a /96 or larger, "fd00:10:244::/96"; an address is this and the IPv4 one in the last
  /// 32 bits. Empty: IPv4 only. The same on all nodes.
  std::string cluster_cidr6;
  /// Where pods have IPv6: it is their first address, and the node's address among them. Since 0.2.
  bool ipv6_first = false;
  /// False: pods have IPv6 alone. pod_cidr and cluster_cidr then number them only (the last 32 bits of their
  /// addresses are still made of these), and no address of IPv4 is given, routed or covered. Since 0.2.
  bool ipv4 = true;
  std::string service_cidr;  ///< "10.96.0.0/16"; empty: no Services of IPv4
  /// How pods are attached. A data folder keeps the one of its first open(). Since 0.2.
  Mode mode = Mode::routed;
  /// Of IPv6, "fd00:10:96::/112", where pods have it too; empty: Services have addresses of IPv4 only. Since
  /// 0.2.
  std::string service_cidr6;
  /// Destinations (besides the cluster and Service ranges and link-local) that see the pod's own address.
  std::vector<std::string> non_masquerade;
  bool masquerade = true;  ///< off-cluster traffic of pods leaves with the node's address
  int mtu = 0;             ///< 0: that of the link with the default route, else 1500; 50 less by tunnels
  /// This machine's address for tunnels to nodes that share no link with it; empty: the kernel's choice.
  std::string node_address;
  std::uint32_t tunnel_vni = 1;                          ///< VXLAN network; the same on all nodes
  std::uint16_t tunnel_port = 8472;                      ///< UDP; the same on all nodes
  Duration address_cooldown = std::chrono::seconds(60);  ///< before an address is given to another pod
  NetworkNamespace name_space;                           ///< the node's side
  /// The network namespace of a pod that runs, by its uid: for its MTU, which becomes smaller when the first
  /// tunnel comes. Empty, or an error: the pod keeps the one it began with. Called in no particular thread,
  /// may block. Since 0.2.
  std::function<Result<std::shared_ptr<Fd>>(const std::string& pod_uid)> namespace_of = {};
};

/// Another node: how its pods are reached.
struct PodNetworkPeer {
  std::string name;
  std::string address;  ///< of the machine; empty: not known yet
  std::string pod_cidr;
  friend bool operator==(const PodNetworkPeer&, const PodNetworkPeer&) = default;
};

/// A sysctl or route of the machine that we changed.
struct MachineChange {
  std::string what, old_value, new_value;
};

class ORC_API PodNetwork {
 public:
  /// Refuses ranges that overlap a route of the machine, naming both. `unsupported`: mode bridge on a machine
  /// without the kernel's module br_netfilter. Blocks; not on event threads.
  static Result<std::shared_ptr<PodNetwork>> open(Engine& engine, PodNetworkOptions options);
  /// The first of `wanted`, and of the same-sized ranges behind it, that overlaps no route of the machine.
  static Result<std::string> find_free_range(const std::string& wanted,
                                             const NetworkNamespace& name_space = {});
  /// Removes what the instance recorded in `data_dir` made (also its ServiceProxy's table and route),
  /// without opening it: for `down` after a crash. Nothing recorded is fine.
  static Result<void> remove_leftovers(const std::string& data_dir, const NetworkNamespace& name_space = {});
  virtual ~PodNetwork() = default;

  /// What the node agent needs (src/api/pod_attacher.hpp); keeps the network open.
  virtual std::shared_ptr<PodAttacher> attacher() = 0;
  /// Detaches every pod that is not in `live_pod_uids`; answers how many.
  virtual Pending<std::size_t> reconcile(std::set<std::string> live_pod_uids) = 0;
  /// Routes to the pods of these nodes, and to no others: what an earlier call or process made and is not
  /// named any more goes, unless `complete` is false (there may be nodes that are not named yet). A node on a
  /// link of this one is reached by a plain route, others by a tunnel (VXLAN). The answer lists the nodes
  /// that cannot be reached, each with the reason (no way to its address; a foreign device with the tunnel's
  /// VNI and port; a foreign route for its range, which stays); what was made for them before stays too, and
  /// the call may be repeated. A peer with a range and without an address is one that is not known
  /// completely: what is there for it stays, and it is not in the answer. Any thread; calls are done in
  /// order. Since 0.2.
  virtual Pending<std::vector<std::string>> set_peers(std::vector<PodNetworkPeer> peers,
                                                      bool complete = true) = 0;
  virtual std::string node_address() const = 0;
  virtual std::vector<MachineChange> machine_changes() const = 0;
  /// What keeps the pods' network from working now, with the remedy; empty: it works. Looked at each 10 s in
  /// mode bridge. Any thread. Since 0.2.
  virtual std::string trouble() const { return {}; }
  /// Removes everything of this instance and restores the journalled sysctls. Twice is fine.
  virtual Pending<void> teardown() = 0;
};

struct ProcessPodNetworkOptions {
  std::string data_dir;
  int node_index = 0;  ///< 0-4095: pods get 127.(128 + index/256).(index%256).2 and up, the node .1
  Duration address_cooldown = std::chrono::seconds(60);
};
/// Level process: no namespaces; every pod gets an address of 127.128.0.0/12, nothing is configured.
ORC_API Result<std::shared_ptr<PodAttacher>> make_process_pod_network(Engine& engine,
                                                                      ProcessPodNetworkOptions options);

/// Connected sockets into pods. `namespace_of` answers the pod's network namespace by its uid.
ORC_API std::shared_ptr<PodDialer> make_pod_dialer(
    Engine& engine, std::function<Result<std::shared_ptr<Fd>>(const std::string& pod_uid)> namespace_of);
/// Level process: 127.0.0.1 of a pod is its own address; nothing else of the machine is reached.
ORC_API std::shared_ptr<PodDialer> make_process_pod_dialer(Engine& engine,
                                                           std::shared_ptr<PodAttacher> network);

}  // namespace orchestra
