#pragma once
// RelayPicker: which endpoint a client of the userspace proxy gets: by turn, by chance, or the one it had.
//
// Affinity is remembered per client address, bounded: when full, the client that came longest ago is
// forgotten. An endpoint that is gone is forgotten at once. A client that is not known gets the endpoint
// whose hash with the client is the highest (rendezvous hashing; Thaler, Ravishankar 1998): so who comes back
// after a restart of this program finds its endpoint again without any file, as long as no endpoint came that
// has a higher one, which a new one among n has for each n-th client. One caller at a time.
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
    if (first == count) {
      first = targets_.affinity_seconds > 0 ? by_client(client)
              : targets_.round_robin        ? turn_++ % count
                                            : random.below(count);
    }
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
  std::size_t by_client(std::uint32_t client) const {
    const auto weight = [client](const RelayTarget& target) {
      std::uint64_t x = std::uint64_t{client} << 32 | target.address;
      x += std::uint64_t{target.port} * 0x9e3779b97f4a7c15;
      x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;  // the finalizer of SplitMix64
      x = (x ^ x >> 27) * 0x94d049bb133111eb;
      return x ^ x >> 31;
    };
    const auto best =
        std::max_element(targets_.list.begin(), targets_.list.end(),
                         [&](const RelayTarget& a, const RelayTarget& b) { return weight(a) < weight(b); });
    return static_cast<std::size_t>(best - targets_.list.begin());
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
