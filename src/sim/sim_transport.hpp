#pragma once
// SimNetwork: the Transport of simulated peers, in one process and in the engine's virtual time.
//
// Every host of a run gets its own Transport from one network; a message arrives after a drawn delay, in
// order per connection, unless the link is cut: then the connection is closed at both ends, as a reset would.
// All chance comes from the given Random, all time from the given engine (one without event threads, driven
// by hand), so one seed gives one run. Single-threaded, like the engine that drives it.
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"

namespace orchestra::sim {

struct SimNetworkOptions {
  Duration delay_min = std::chrono::microseconds(100), delay_max = std::chrono::milliseconds(5);
  std::uint32_t resets_per_million = 0;        ///< messages that end their connection instead of arriving
  std::size_t in_flight_bytes_max = 64 << 20;  ///< per direction; more answers `overloaded`
};

class SimNetwork {
 public:
  SimNetwork(Engine& engine, Random& random, SimNetworkOptions options = {});
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  /// The transport of one host; addresses are "HOST:PORT", port 0 takes a free one. It must not outlive the
  /// network.
  std::unique_ptr<Transport> host(std::string name);
  /// Nothing passes from `a` to `b`, nor back unless `one_way`; connections between them are reset.
  void cut(const std::string& a, const std::string& b, bool one_way = false);
  void heal();
  /// No connection is reset and no message doubled any more, either.
  void calm();
  /// Sees each message when it is sent (arrived = false; it may be lost yet) and when it arrives.
  using Watcher = std::function<void(const std::string& from, const std::string& to, std::string_view message,
                                     bool arrived)>;
  void watch(Watcher watcher);
  /// Of the messages for which `may` says so, so many of a million arrive a second time, up to half a second
  /// later and behind whatever was sent meanwhile.
  void double_messages(std::uint32_t per_million, std::function<bool(std::string_view message)> may);

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace orchestra::sim
