// The event loop of simulator.hpp, and the transport that brings messages to a machine's own engine.
#include "sim/simulator.hpp"

#include <algorithm>

#include "base/engine_manual.hpp"

namespace orchestra::sim {
namespace {

/// What arrives is work for the machine's engine: one that is paused does it later.
class OwnTimeTransport final : public Transport {
 public:
  OwnTimeTransport(std::unique_ptr<Transport> inner, Simulator::Host& host)
      : inner_(std::move(inner)), host_(host) {}
  Result<std::unique_ptr<TransportListener>> listen(const std::string& address, Accept accept) override {
    return inner_->listen(address, [this, accept](std::shared_ptr<TransportConnection> connection) {
      return wrap(accept(std::move(connection)));
    });
  }
  Pending<std::shared_ptr<TransportConnection>> connect(const std::string& address,
                                                        TransportHandler handler) override {
    Promise<std::shared_ptr<TransportConnection>> promise;
    auto pending = promise.pending();
    inner_->connect(address, wrap(std::move(handler)))
        .on_ready([this, promise](Result<std::shared_ptr<TransportConnection>> connected) {
          post([promise, connected = std::move(connected)] { promise.set(connected); });
        });
    return pending;
  }

 private:
  void post(std::function<void()> task) {
    host_.dirty = true;
    host_.engine->post(std::move(task));
  }
  TransportHandler wrap(TransportHandler handler) {
    TransportHandler own;
    if (handler.on_message) {
      own.on_message = [this, call = std::move(handler.on_message)](std::string message) {
        post([call, message = std::move(message)] { call(message); });
      };
    }
    if (handler.on_closed) {
      own.on_closed = [this, call = std::move(handler.on_closed)](const Error& why) {
        post([call, why] { call(why); });
      };
    }
    return own;
  }
  const std::unique_ptr<Transport> inner_;
  Simulator::Host& host_;
};

EngineOptions manual(Clock* clock, Random* random, Disk* disk, Transport* transport) {
  EngineOptions options;
  options.event_threads = 0;
  options.clock = clock;
  options.random = random;
  options.disk = disk;
  options.transport = transport;
  return options;
}

}  // namespace

Simulator::Simulator(std::uint64_t seed, SimNetworkOptions network)
    : random_(seed),
      world_(manual(&world_clock_, &random_, nullptr, nullptr)),
      network_(world_, random_, network) {}
Simulator::~Simulator() { world_.stop(); }  // what is under way ends while the machines are still there

Simulator::Host& Simulator::add_host(const std::string& name) {
  auto& host = hosts_[name];
  host = std::make_unique<Host>(name, world_clock_, random_.next());
  host->transport = std::make_unique<OwnTimeTransport>(network_.host(name), *host);
  host->engine =
      std::make_unique<Engine>(manual(&host->clock, &host->random, &host->disk, host->transport.get()));
  return *host;
}

void Simulator::after(Duration delay, std::function<void()> task) { world_.after(delay, std::move(task)); }

void Simulator::run_host(Host& host) {
  host.dirty = false;
  host.ran = true;
  while (run_ready(*host.engine) != 0) {
  }
}

void Simulator::run_for(Duration time) {
  const std::int64_t until = now_ns() + time.count();
  while (step(until)) {
  }
  if (now_ns() < until) world_clock_.advance(Duration(until - now_ns()));
}

/// Lets everything that is due now happen, then moves on to the next event.
bool Simulator::step(std::int64_t until) {
  const auto first = next_timer_ns(world_);
  bool ran = first && *first <= now_ns();
  ran = run_ready(world_) != 0 || ran;
  for (auto& [name, host] : hosts_) {
    if (host->paused) continue;
    const auto next = next_timer_ns(*host->engine);
    const bool due = next && host->clock.world_time_of(*next) <= now_ns();
    if (!host->dirty && !due) continue;
    run_host(*host);
    ran = true;
  }
  if (ran) {
    ++events_;
    if (on_event) on_event();
    return true;
  }
  std::int64_t next = until + 1;
  if (const auto timer = next_timer_ns(world_)) next = std::min(next, *timer);
  for (auto& [name, host] : hosts_) {
    if (host->paused) continue;
    if (const auto timer = next_timer_ns(*host->engine))
      next = std::min(next, host->clock.world_time_of(*timer));
  }
  if (next > until) return false;
  world_clock_.advance(Duration(std::max<std::int64_t>(0, next - now_ns())));
  return true;
}

}  // namespace orchestra::sim
