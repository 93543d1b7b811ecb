#include "sim/sim_transport.hpp"

#include <algorithm>

namespace orchestra::sim {

namespace {
constexpr std::uint64_t kDoubleLaterMax = 500'000'000;

Error transport_error(Error::Code code, std::string text) { return {code, "sim", std::move(text)}; }
}  // namespace

struct SimNetwork::Impl : std::enable_shared_from_this<SimNetwork::Impl> {
  class End;
  struct Listening {
    std::string host;
    Transport::Accept accept;
  };

  Impl(Engine& engine_, Random& random_, SimNetworkOptions options_)
      : engine(engine_), random(random_), options(options_) {}

  bool blocked(const std::string& from, const std::string& to) const { return cuts.count({from, to}) != 0; }
  Duration draw_delay() {
    const auto span = static_cast<std::uint64_t>((options.delay_max - options.delay_min).count());
    return options.delay_min + Duration(static_cast<std::int64_t>(random.below(span + 1)));
  }

  Engine& engine;
  Random& random;
  const SimNetworkOptions options;
  std::map<std::string, std::shared_ptr<Listening>> listeners;  // by "HOST:PORT"
  std::set<std::pair<std::string, std::string>> cuts;           // from, to
  std::vector<std::weak_ptr<End>> ends;
  std::uint32_t resets_per_million = options.resets_per_million;
  std::uint32_t doubles_per_million = 0;
  std::function<bool(std::string_view)> may_double;
  int next_port = 40000;
  Watcher watcher;
};

/// One side of a connection. Messages to the other side are timers; order holds because none is due before
/// the one sent earlier.
class SimNetwork::Impl::End final : public TransportConnection, public std::enable_shared_from_this<End> {
 public:
  End(std::shared_ptr<Impl> network, std::string self, std::string peer)
      : network_(std::move(network)), self_(std::move(self)), peer_(std::move(peer)) {}

  Result<void> send(std::string message) override {
    if (closed_) return transport_error(Error::unavailable, "connection to " + peer_ + " is closed");
    if (in_flight_ + message.size() > network_->options.in_flight_bytes_max) {
      return transport_error(Error::overloaded, "too many bytes are under way to " + peer_);
    }
    auto other = other_.lock();
    if (network_->watcher) network_->watcher(self_, peer_, message, false);
    if (!other) return {};
    if (network_->blocked(self_, peer_)) return {};  // lost: the sender learns it by silence
    if (network_->resets_per_million > network_->random.below(1'000'000)) {
      reset("reset by the simulated network");
      return {};
    }
    in_flight_ += message.size();
    const std::int64_t now = network_->engine.clock().now().steady_ns;
    const std::int64_t due = std::max(last_due_ns_, now + network_->draw_delay().count());
    last_due_ns_ = due;
    const bool twice = network_->doubles_per_million != 0 &&
                       network_->doubles_per_million > network_->random.below(1'000'000) &&
                       network_->may_double(message);
    if (twice) {
      const auto later = static_cast<std::int64_t>(network_->random.below(kDoubleLaterMax));
      in_flight_ += message.size();
      deliver(Duration(due - now + later), other, message);
    }
    deliver(Duration(due - now), other, std::move(message));
    return {};
  }
  void deliver(Duration after, const std::shared_ptr<End>& other, std::string message) {
    network_->engine.after(after, [self = shared_from_this(), other, message = std::move(message)]() mutable {
      self->in_flight_ -= message.size();
      if (other->closed_ || self->network_->blocked(self->self_, self->peer_)) return;
      if (!other->handler_.on_message) return;
      if (self->network_->watcher) self->network_->watcher(self->self_, self->peer_, message, true);
      other->handler_.on_message(std::move(message));
    });
  }
  void close() override { reset("closed by this side"); }

  void reset(const char* why) {
    auto other = other_.lock();
    end(why);
    if (other) other->end(why);
  }
  void end(const std::string& why) {
    if (closed_) return;
    closed_ = true;
    // Told later, so that no handler runs inside a call of its owner.
    network_->engine.post([self = shared_from_this(), why] {
      TransportHandler handler = std::move(self->handler_);
      self->handler_ = {};
      if (handler.on_closed)
        handler.on_closed(transport_error(Error::unavailable, "connection closed: " + why));
    });
  }

  std::shared_ptr<Impl> network_;
  const std::string self_, peer_;
  std::weak_ptr<End> other_;
  TransportHandler handler_;
  std::size_t in_flight_ = 0;
  std::int64_t last_due_ns_ = 0;
  bool closed_ = false;
};

namespace {
class Listener final : public TransportListener {
 public:
  Listener(std::shared_ptr<SimNetwork::Impl> network, std::string address)
      : network_(std::move(network)), address_(std::move(address)) {}
  ~Listener() override { network_->listeners.erase(address_); }
  std::string address() const override { return address_; }

 private:
  std::shared_ptr<SimNetwork::Impl> network_;
  std::string address_;
};

class HostTransport final : public Transport {
 public:
  HostTransport(std::shared_ptr<SimNetwork::Impl> network, std::string name)
      : network_(std::move(network)), name_(std::move(name)) {}

  Result<std::unique_ptr<TransportListener>> listen(const std::string& address, Accept accept) override {
    const std::size_t colon = address.rfind(':');
    if (colon == std::string::npos)
      return transport_error(Error::invalid, "\"" + address + "\" is not HOST:PORT");
    std::string port = address.substr(colon + 1);
    if (port == "0") port = std::to_string(network_->next_port++);
    const std::string real = name_ + ":" + port;
    if (network_->listeners.count(real) != 0) return transport_error(Error::busy, real + " is in use");
    network_->listeners.emplace(real, std::make_shared<SimNetwork::Impl::Listening>(
                                          SimNetwork::Impl::Listening{name_, std::move(accept)}));
    return std::unique_ptr<TransportListener>(std::make_unique<Listener>(network_, real));
  }

  Pending<std::shared_ptr<TransportConnection>> connect(const std::string& address,
                                                        TransportHandler handler) override {
    Promise<std::shared_ptr<TransportConnection>> promise;
    auto pending = promise.pending();
    network_->engine.after(network_->draw_delay(), [network = network_, name = name_, address, promise,
                                                    handler = std::move(handler)]() mutable {
      const auto found = network->listeners.find(address);
      const std::string peer = address.substr(0, address.rfind(':'));
      if (found == network->listeners.end() || network->blocked(name, peer) || network->blocked(peer, name)) {
        return promise.set(transport_error(Error::unavailable, "connect " + address + ": nobody answers"));
      }
      auto near = std::make_shared<SimNetwork::Impl::End>(network, name, peer);
      auto far = std::make_shared<SimNetwork::Impl::End>(network, peer, name);
      near->other_ = far;
      far->other_ = near;
      near->handler_ = std::move(handler);
      const auto listening = found->second;
      far->handler_ = listening->accept(far);
      network->ends.push_back(near);
      network->ends.push_back(far);
      promise.set(std::shared_ptr<TransportConnection>(near));
    });
    return pending;
  }

 private:
  std::shared_ptr<SimNetwork::Impl> network_;
  std::string name_;
};
}  // namespace

SimNetwork::SimNetwork(Engine& engine, Random& random, SimNetworkOptions options)
    : impl_(std::make_shared<Impl>(engine, random, options)) {}
SimNetwork::~SimNetwork() {
  // Who handles what arrives at an end often holds that end: nothing arrives any more, so let go of it.
  std::vector<TransportHandler> handlers;
  for (const auto& weak : impl_->ends) {
    const auto end = weak.lock();
    if (!end) continue;
    end->closed_ = true;
    handlers.push_back(std::exchange(end->handler_, {}));
  }
}

std::unique_ptr<Transport> SimNetwork::host(std::string name) {
  return std::make_unique<HostTransport>(impl_, std::move(name));
}

void SimNetwork::cut(const std::string& a, const std::string& b, bool one_way) {
  impl_->cuts.insert({a, b});
  if (one_way) return;
  impl_->cuts.insert({b, a});
  for (const auto& weak : std::vector<std::weak_ptr<Impl::End>>(impl_->ends)) {
    const auto end = weak.lock();
    if (end && ((end->self_ == a && end->peer_ == b) || (end->self_ == b && end->peer_ == a)))
      end->end("the link was cut");
  }
  std::erase_if(impl_->ends, [](const auto& weak) { return weak.expired(); });
}
void SimNetwork::heal() { impl_->cuts.clear(); }
void SimNetwork::calm() {
  heal();
  impl_->resets_per_million = impl_->doubles_per_million = 0;
}
void SimNetwork::double_messages(std::uint32_t per_million, std::function<bool(std::string_view)> may) {
  impl_->doubles_per_million = per_million;
  impl_->may_double = std::move(may);
}
void SimNetwork::watch(Watcher watcher) { impl_->watcher = std::move(watcher); }

}  // namespace orchestra::sim
