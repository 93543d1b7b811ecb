#pragma once
// ControlPlane: the machines of a simulated cluster that run API server, controllers and scheduler.
//
// One peer: a MemoryStore and everything else on one machine, without a disk that could fail. Three or five:
// the production Raft stores of sim_peers.hpp under simulated disks and network, an API server on each, and
// the election of production that says whose controllers and scheduler run, every write of theirs fenced.
// Agents and users live on a machine of their own and reach the peers through a Front.
//
// What ends or begins objects here waits until no task waits in the middle of itself (wait_on pumps the world
// from within a task): jobs_ and settle(). So nothing is destroyed under its own feet.
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/api_server.hpp"
#include "orchestra/controllers.hpp"
#include "orchestra/leader_election.hpp"
#include "orchestra/scheduler.hpp"
#include "orchestra/simulator.hpp"
#include "sim/cluster/front.hpp"
#include "sim/sim_peers.hpp"
#include "sim/store_audit.hpp"

namespace orchestra::sim {

class ControlPlane {
 public:
  struct Hooks {
    std::function<void(std::string)> note;      ///< for the timeline
    std::function<void(std::string)> violated;  ///< an invariant of the store broke
    std::function<void(std::string)> failed;    ///< something that should have started did not
    /// Of nodes whose heartbeats are not written (ControllersOptions::node_heard); empty: they are.
    std::function<std::optional<std::int64_t>(const std::string&)> node_heard;
  };
  ControlPlane(Simulator& world, const SimScenario& scenario, Hooks hooks);
  ~ControlPlane();
  ControlPlane(const ControlPlane&) = delete;
  ControlPlane& operator=(const ControlPlane&) = delete;

  /// All peers and their API servers; answers when they serve.
  Result<void> start();
  /// Controllers and scheduler; with several peers by election.
  Result<void> start_loops();
  /// Soon (see jobs_).
  void stop_loops();

  /// The machine of agents, users and the observer.
  Simulator::Host& outside() { return *outside_; }
  std::size_t peers() const { return peers_.size(); }
  /// Administrator; turns to this peer first.
  Client client(std::size_t prefer = 0);
  std::uint64_t revision() const;
  /// Of the scheduler that runs; nullopt: none does.
  std::optional<SchedulerStats> scheduling() const;
  std::uint64_t elections() const { return leaders_.size(); }

  /// One event of the world, for a task that waits inside of it.
  bool pump(std::int64_t until);
  /// Ends the tasks that are ready everywhere, without moving the clock.
  void drain();

  // Faults. A target is a peer's name, "leader" or "random"; each happens soon and undoes itself after
  // `lasts`.
  void power(const std::string& target, std::optional<Duration> lasts);
  void isolate(const std::string& target, std::optional<Duration> lasts);
  void slow_disk(const std::string& target, std::optional<Duration> lasts);
  void hand_over();
  /// The wall clock of a peer's machine is set; its monotonic clock goes on. Returns whose it was.
  std::string step_clock(const std::string& target, Duration by);

 private:
  struct Peer {
    SimPeer raft;
    Simulator::Host* host = nullptr;
    std::size_t index = 0;
    std::shared_ptr<StateStore> store;
    std::unique_ptr<ApiServer> server;
    std::unique_ptr<LeaderElection> election;
    std::unique_ptr<Controllers> controllers;
    std::unique_ptr<Scheduler> scheduler;
    std::optional<Revision> elected, runs;  ///< the token under which its loops should run, and do
    bool serving = false, isolated = false, slow = false, failed = false;
    std::uint64_t revision = 0;
  };
  bool raft() const { return peers_.size() > 1; }
  std::vector<SimPeer*> stores();
  Peer* named(const std::string& target);
  void soon(std::function<void()> job);
  void settle();
  void look();

  Result<void> open_store(Peer& peer);
  Result<void> serve(Peer& peer);
  void serve_when_led(Peer& peer);
  void wire();
  void campaign(Peer& peer);
  Result<void> begin_loops(Peer& peer, const std::string& fence);
  void end_loops(Peer& peer);
  void end(Peer& peer);

  Simulator& world_;
  const SimScenario& scenario_;
  const Hooks hooks_;
  Simulator::Host* outside_ = nullptr;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::shared_ptr<Front> front_;
  StoreAudit audit_;
  std::map<store::Term, std::string> leaders_;
  std::map<store::Index, std::uint64_t> hashes_;
  std::deque<std::function<void()>> jobs_;
  bool loops_wanted_ = false, settling_ = false, over_ = false;
  int waiting_ = 0;  ///< tasks that wait inside of others
};

}  // namespace orchestra::sim
