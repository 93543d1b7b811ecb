#pragma once
// Simulator: several machines in one thread and in virtual time; one seed decides everything.
//
// Each machine has an engine of its own with a clock of its own (it may run fast, slow, or jump), a disk that
// forgets and a place in one simulated network. The very production objects run on them. The simulator lets
// the machine with the earliest event run, then the next; nothing else decides an order.
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "orchestra/engine.hpp"
#include "orchestra/env.hpp"
#include "sim/sim_disk.hpp"
#include "sim/sim_env.hpp"
#include "sim/sim_transport.hpp"

namespace orchestra::sim {

/// A machine's clocks: they follow the world's at a rate of their own.
class HostClock final : public Clock {
 public:
  explicit HostClock(SimClock& world)
      : world_(world), base_world_(world.now().steady_ns), base_own_(base_world_) {}
  Now now() override {
    const std::int64_t steady = own(world_.now().steady_ns);
    return {steady + wall_offset_, steady};
  }
  /// 1.0 = like the world's.
  void set_rate(double rate) {
    base_own_ = now().steady_ns;
    base_world_ = world_.now().steady_ns;
    rate_ = rate;
  }
  void step_wall(Duration by) { wall_offset_ += by.count(); }
  /// When the world's clock shows that this one shows `steady`.
  std::int64_t world_time_of(std::int64_t steady) const {
    if (steady <= base_own_) return base_world_;
    return base_world_ + static_cast<std::int64_t>(static_cast<double>(steady - base_own_) / rate_) + 1;
  }

 private:
  std::int64_t own(std::int64_t world) const {
    return base_own_ + static_cast<std::int64_t>(static_cast<double>(world - base_world_) * rate_);
  }
  SimClock& world_;
  std::int64_t base_world_, base_own_;
  std::int64_t wall_offset_ = 1'700'000'000'000'000'000;
  double rate_ = 1.0;
};

class Simulator {
 public:
  explicit Simulator(std::uint64_t seed, SimNetworkOptions network = {});
  ~Simulator();
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  struct Host {
    std::string name;
    HostClock clock;
    SimRandom random;
    SimDisk disk;
    std::unique_ptr<Transport> transport;
    std::unique_ptr<Engine> engine;
    bool paused = false;
    bool dirty = false;  ///< something was posted from outside
    bool ran = false;    ///< set whenever it did something; on_event may clear it
    Host(std::string host_name, SimClock& world, std::uint64_t seed)
        : name(std::move(host_name)), clock(world), random(seed), disk(seed ^ 0xD15C) {}
  };
  Host& add_host(const std::string& name);
  Host& host(const std::string& name) { return *hosts_.at(name); }
  SimNetwork& network() { return network_; }
  SimRandom& random() { return random_; }
  std::int64_t now_ns() { return world_clock_.now().steady_ns; }

  /// Calls `task` in the world's time.
  void after(Duration delay, std::function<void()> task);
  /// Runs events until the time has passed; after each one `on_event` may look at everything.
  void run_for(Duration time);
  std::function<void()> on_event;
  /// Lets what is due now happen, or moves on to the next event; false: there is none until then (world's
  /// time).
  bool run_one(std::int64_t until_ns) { return step(until_ns); }
  /// Lets one machine finish what is due now.
  void run_host(Host& host);
  std::uint64_t events() const { return events_; }

 private:
  bool step(std::int64_t until);

  SimClock world_clock_;
  SimRandom random_;
  Engine world_;
  SimNetwork network_;
  std::map<std::string, std::unique_ptr<Host>> hosts_;
  std::uint64_t events_ = 0;
};

}  // namespace orchestra::sim
