#pragma once
// SimPeers: RaftStores of production, each on a simulated machine of its own.
//
// What both simulations stand on: StoreSim (whole stores under every fault, with clients that check each
// answer) and SimCluster (whole clusters whose control plane has several peers). A peer is opened on its
// machine's disk, closed, and loses its power; what its disk kept is what it opens with again.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sim/simulator.hpp"
#include "store/raft_store.hpp"

namespace orchestra::sim {

struct SimPeer {
  std::string name;
  Simulator::Host* host = nullptr;  ///< owned by the Simulator
  store::SimulatedPeer identity;
  std::shared_ptr<store::RaftStoreImpl> store;  ///< null while it is down
  store::PeerId id() const { return store::PeerId{identity.identity.peer}; }
};

/// Gives named peers their machines and identities; the first one founds the cluster.
void found_peers(Simulator& simulator, const std::vector<SimPeer*>& peers);

/// Where its files lie and where the others reach it; the engine's only thread writes its log.
RaftStoreOptions options_of_peer(const SimPeer& peer);

/// Opens what its disk holds. On failure peer.store stays null, and nothing of it runs any more.
Result<void> open_peer(Simulator& simulator, SimPeer& peer, RaftStoreOptions options);

/// Ends it; what it had to write is written, if its disk still takes it.
void close_peer(Simulator& simulator, SimPeer& peer);

/// The one with the highest term of those that believe to lead; null: nobody does.
SimPeer* leader_of(const std::vector<SimPeer*>& peers);

}  // namespace orchestra::sim
