#include "sim/sim_peers.hpp"

namespace orchestra::sim {

void found_peers(Simulator& simulator, const std::vector<SimPeer*>& peers) {
  store::LogIdentity cluster;
  simulator.random().fill(cluster.cluster.data(), cluster.cluster.size());
  store::Configuration configuration;
  for (std::size_t i = 0; i < peers.size(); ++i) {
    SimPeer& peer = *peers[i];
    peer.host = &simulator.add_host(peer.name);
    peer.identity.identity = cluster;
    peer.identity.identity.peer = 1 + i;
    configuration.members.push_back({store::PeerId{1 + i}, peer.name, peer.name + ":1", true});
  }
  peers.front()->identity.founds = configuration;
}

RaftStoreOptions options_of_peer(const SimPeer& peer) {
  RaftStoreOptions options;
  options.data_dir = "/s";
  options.name = peer.name;
  options.peer_listen = peer.name + ":1";
  options.log_thread = false;
  return options;
}

Result<void> open_peer(Simulator& simulator, SimPeer& peer, RaftStoreOptions options) {
  auto made = std::make_shared<store::RaftStoreImpl>(*peer.host->engine, std::move(options), peer.identity);
  auto started = made->start();
  if (started) {
    peer.store = std::move(made);
    return {};
  }
  made->stop();
  made.reset();
  simulator.run_host(*peer.host);
  return started;
}

void close_peer(Simulator& simulator, SimPeer& peer) {
  if (!peer.store) return;
  simulator.run_host(*peer.host);
  peer.store->stop();
  peer.store.reset();
  simulator.run_host(*peer.host);
}

SimPeer* leader_of(const std::vector<SimPeer*>& peers) {
  SimPeer* found = nullptr;
  store::Term best;
  for (SimPeer* peer : peers) {
    if (!peer->store) continue;
    peer->store->inspect([&](const store::RaftCore& core) {
      if (core.role() != store::Role::leader || (found != nullptr && core.term() <= best)) return;
      found = peer;
      best = core.term();
    });
  }
  return found;
}

}  // namespace orchestra::sim
