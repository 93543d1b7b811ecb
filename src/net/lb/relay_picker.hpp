#pragma once
// RelayPicker: which endpoint a client of the userspace proxy gets: by turn, by chance, or the one it had.
//
// Affinity is remembered per client address, bounded: when full, the client that came longest ago is
// forgotten. An endpoint that is gone is forgotten at once. One caller at a time.
#include <algorithm>
#include <list>
#include <unordered_map>
#include <vector>

#include "net/lb/userspace_relay.hpp"

namespace orchestra::net {

class RelayPicker {
 public:
  static constexpr std::size_t kClientsMax = 65536;

  void set(RelayTargets targets) {
    targets_ = std::move(targets);
    for (auto client = clients_.begin(); client != clients_.end();) {
      const bool there =
          targets_.affinity_seconds > 0 &&
          std::find(targets_.list.begin(), targets_.list.end(), client->target) != targets_.list.end();
      client = there ? std::next(client) : forget(client);
    }
  }
  const RelayTargets& targets() const { return targets_; }

  /// Up to `tries` different targets, the best one first; none when there are none.
  std::vector<RelayTarget> pick(Random& random, std::uint32_t client, std::int64_t now_ns,
                                std::size_t tries) {
    const std::size_t count = targets_.list.size();
    if (count == 0) return {};
    std::size_t first = kept(client, now_ns);
    if (first == count) first = targets_.round_robin ? turn_++ % count : random.below(count);
    std::vector<RelayTarget> out;
    for (std::size_t i = 0; i < count && i < tries; ++i) out.push_back(targets_.list[(first + i) % count]);
    return out;
  }
  /// This client was connected to this target.
  void used(std::uint32_t client, const RelayTarget& target, std::int64_t now_ns) {
    if (targets_.affinity_seconds <= 0) return;
    if (const auto found = by_address_.find(client); found != by_address_.end()) forget(found->second);
    if (clients_.size() >= kClientsMax) forget(clients_.begin());
    clients_.push_back({client, target, now_ns});
    by_address_[client] = std::prev(clients_.end());
  }
  std::size_t clients() const { return clients_.size(); }

 private:
  struct Client {
    std::uint32_t address;
    RelayTarget target;
    std::int64_t at_ns;
  };
  using Clients = std::list<Client>;  // longest ago first

  /// Index of the target that the client had; the number of targets when it has none.
  std::size_t kept(std::uint32_t client, std::int64_t now_ns) {
    const std::size_t none = targets_.list.size();
    const auto found = by_address_.find(client);
    if (found == by_address_.end()) return none;
    const std::int64_t age_ns = now_ns - found->second->at_ns;
    if (age_ns >= std::int64_t{targets_.affinity_seconds} * 1'000'000'000) {
      forget(found->second);
      return none;
    }
    const auto target = std::find(targets_.list.begin(), targets_.list.end(), found->second->target);
    return static_cast<std::size_t>(target - targets_.list.begin());
  }
  Clients::iterator forget(Clients::iterator client) {
    by_address_.erase(client->address);
    return clients_.erase(client);
  }

  RelayTargets targets_;
  std::size_t turn_ = 0;
  Clients clients_;
  std::unordered_map<std::uint32_t, Clients::iterator> by_address_;
};

}  // namespace orchestra::net
