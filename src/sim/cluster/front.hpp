#pragma once
// Front: how agents, users and the observer of a simulated cluster reach its API servers, one on each peer.
//
// It stands for a load balancer and the network behind it: a request goes to the peer that its client
// prefers, or to the next one that answers, takes a drawn time there and back, and is lost where the peer
// loses its power or is cut off meanwhile: `unavailable` if it never arrived, else `unknown_outcome`. Watches
// show what their peer shows, without delay, and break with it. Order comes from the world's events alone.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestra/client.hpp"
#include "orchestra/simulator.hpp"
#include "sim/simulator.hpp"

namespace orchestra::sim {

class Front : public std::enable_shared_from_this<Front> {
 public:
  /// `outside`: the machine where the callers live. Both outlive the Front's last call.
  Front(Simulator& world, Simulator::Host& outside, SimRange delay)
      : world_(world), outside_(outside), delay_(delay), random_(world.random().next()) {}

  /// Peers are numbered in the order of these calls.
  void add(Simulator::Host& host) { peers_.emplace_back().host = &host; }
  void up(std::size_t peer, Client client) { peers_[peer].client = std::move(client); }
  /// What is under way there is lost.
  void down(std::size_t peer, const std::string& why);
  /// One that turns to this peer first.
  Client client(std::size_t prefer);

 private:
  friend class FrontClient;
  friend class FrontWatch;
  struct Call {
    std::function<void(const Error&)> fail;
    bool arrived = false;
  };
  struct Peer {
    Simulator::Host* host = nullptr;
    Client client;  ///< empty: nobody answers
    std::map<std::uint64_t, Call> calls;
    std::vector<std::weak_ptr<class FrontWatch>> watches;
  };
  std::optional<std::size_t> pick(std::size_t prefer) const;
  Duration draw();
  /// A task for the callers' machine.
  void tell(std::function<void()> task);
  template <class T>
  Pending<T> send(std::size_t prefer, std::function<Pending<T>(Client::Impl&)> call);

  Simulator& world_;
  Simulator::Host& outside_;
  const SimRange delay_;
  SimRandom random_;
  std::vector<Peer> peers_;
  std::uint64_t calls_ = 0;
};

}  // namespace orchestra::sim
