#pragma once
// StoreSim: a cluster of RaftStores under faults, with clients, watches and everything that is checked.
//
// Phase 1, chaos: cuts (one way or both), resets, crashes at any disk operation, pauses, failing syncs, full
// disks, damage in what a start needs, replaced disks, doubled messages, peers of an earlier release, clocks
// that run wrong, members that come and go, leaders handed over - each seed draws its own rates. Phase 2,
// heal: then progress and convergence are demanded. Checked all the time: one leader per term, one state hash
// per log index, revisions of a peer never go back; at the end the clients' history (history.hpp) and what
// the watches delivered.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sim/history.hpp"
#include "sim/simulator.hpp"
#include "store/raft_store.hpp"

namespace orchestra::sim {

struct StoreSimOptions {
  std::uint64_t seed = 1;
  std::size_t peers = 3;  ///< at the beginning; 0: the seed chooses 1, 3 or 5
  Duration chaos = std::chrono::seconds(20);
  Duration heal = std::chrono::seconds(20);
  std::size_t clients = 4;
  std::size_t keys = 3;
  bool members = true;  ///< also changes of members
  bool lease_reads = false;
  bool trace = false;  ///< keep a line per fault
};

struct StoreSimReport {
  std::string violation;         ///< empty: everything held
  std::uint64_t trace_hash = 0;  ///< of all that happened: the same seed gives the same
  std::uint64_t calls = 0, acknowledged = 0, events = 0, faults = 0, elections = 0, installs = 0;
  std::uint64_t damaged = 0, replaced = 0, doubled = 0, upgraded = 0;  ///< how often
  std::uint64_t turned_away = 0, told = 0;  ///< empty disks: that were refused, that learned who they are
  std::uint64_t held_back = 0;    ///< writes refused as a member's release does not know their commands
  std::uint64_t stood_still = 0;  ///< at the end, as a disk was lost that a change of members needs
  std::uint64_t diverged = 0;  ///< peers that stopped because the others told them that their state is wrong
  std::vector<std::string> trace;
};

StoreSimReport run_store_sim(const StoreSimOptions& options);

}  // namespace orchestra::sim
