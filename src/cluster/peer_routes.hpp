#pragma once
// Routes to the pods of other nodes, kept as the Node objects say.
//
// Which nodes there are is read from the snapshot by a pure function. What could not be done (a machine that
// cannot be reached yet, a device of somebody else) is tried again after a while, since no Node object
// changes when the machine's own routes do.
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/network_snapshot.hpp"
#include "orchestra/pod_network.hpp"

namespace orchestra::cluster {

struct PeerList {
  std::vector<PodNetworkPeer> peers;
  bool complete = true;  ///< false: a node is there that has no range (yet); it may be one that had one
  friend bool operator==(const PeerList&, const PeerList&) = default;
};
/// Every node but `own_name`. Pure; the snapshot's nodes are synced.
PeerList peers_of(const NetworkSnapshot& snapshot, const std::string& own_name);

/// Whom pods of this node ask for names while its own server is not there: the server of the next ready node
/// by name, which is at the first address of its range; "" where there is none. Pure.
std::string second_name_server(const NetworkSnapshot& snapshot, const std::string& own_name);

class PeerRoutes : public std::enable_shared_from_this<PeerRoutes> {
 public:
  /// `report` gets each problem, a sentence, on the thread of apply() or on a worker, one call at a time.
  PeerRoutes(Engine& engine, std::shared_ptr<PodNetwork> network, Duration retry_after,
             std::function<void(const std::string&)> report);
  /// Blocks; any thread but event threads.
  void apply(PeerList wanted);
  /// Nothing is reported or tried when this has returned. Twice is fine.
  void stop();

 private:
  void apply_wanted();
  void arm();
  void retry();

  Engine& engine_;
  const std::shared_ptr<PodNetwork> network_;
  const Duration retry_after_;
  const std::function<void(const std::string&)> report_;
  std::mutex mutex_;  // held while it works
  PeerList wanted_;
  bool done_ = false;     // wanted_ is there, without problems
  bool waiting_ = false;  // for a retry
  bool stopped_ = false;
};

}  // namespace orchestra::cluster
