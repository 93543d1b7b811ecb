#include "sim/cluster/front.hpp"

#include <algorithm>

namespace orchestra::sim {
namespace {
Error nobody() {
  return Error(Error::unavailable, "simulation", "no peer of the control plane can be reached");
}
Error not_here(const char* what) {
  return Error(Error::unsupported, "simulation", std::string(what) + ": model nodes have no streams");
}
}  // namespace

/// A watch on one peer; ends when that cannot be reached any more.
class FrontWatch final : public ObjectWatch::Impl, public std::enable_shared_from_this<FrontWatch> {
 public:
  FrontWatch(ObjectWatch inner, Simulator::Host& outside) : inner_(std::move(inner)), outside_(outside) {}

  std::optional<std::vector<ObjectChange>> next(Duration) override { return poll(); }
  std::optional<std::vector<ObjectChange>> poll() override { return inner_ ? inner_->poll() : std::nullopt; }
  void notify(std::function<void()> ready) override {
    if (!inner_) return ready();
    ready_ = std::move(ready);
    inner_->notify([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->wake();
    });
  }
  std::optional<Error> error() const override { return inner_ ? inner_->error() : error_; }
  void cancel() override {
    ready_ = {};
    if (inner_) inner_->cancel();
  }
  void broke(const Error& why) {
    error_ = why;
    if (inner_) inner_->cancel();
    inner_.reset();
    wake();
  }

 private:
  void wake() {
    outside_.dirty = true;
    if (const auto ready = std::exchange(ready_, {})) ready();
  }
  std::optional<ObjectWatch> inner_;
  Simulator::Host& outside_;
  std::optional<Error> error_;
  std::function<void()> ready_;
};

class FrontClient final : public Client::Impl {
 public:
  FrontClient(std::shared_ptr<Front> front, std::size_t prefer) : front_(std::move(front)), prefer_(prefer) {}

  Pending<ApiResponse> request(ApiRequest request) override {
    return front_->send<ApiResponse>(
        prefer_, [request = std::move(request)](Client::Impl& client) { return client.request(request); });
  }
  Pending<std::vector<ApiResponse>> batch(std::vector<ApiRequest> requests) override {
    const auto held = std::make_shared<std::vector<ApiRequest>>(std::move(requests));
    return front_->send<std::vector<ApiResponse>>(
        prefer_, [held](Client::Impl& client) { return client.batch(std::move(*held)); });
  }
  Pending<ObjectList> list(ApiRequest request) override {
    request.verb = "list";
    return front_->send<ObjectList>(
        prefer_, [request = std::move(request)](Client::Impl& client) { return client.list(request); });
  }
  Result<ObjectWatch> watch(ApiRequest request) override {
    const auto at = front_->pick(prefer_);
    if (!at) return nobody();
    Front::Peer& peer = front_->peers_[*at];
    ORC_ASSIGN(ObjectWatch inner, peer.client.impl()->watch(std::move(request)));
    peer.host->dirty = true;
    auto watch = std::make_shared<FrontWatch>(std::move(inner), front_->outside_);
    std::erase_if(peer.watches, [](const auto& weak) { return weak.expired(); });
    peer.watches.push_back(watch);
    return ObjectWatch(std::move(watch));
  }
  Pending<std::shared_ptr<ByteStream>> log(ApiRequest) override { return not_here("log"); }
  Pending<std::shared_ptr<ProcessStream>> exec(ApiRequest) override { return not_here("exec"); }
  Pending<std::shared_ptr<DuplexStream>> port_forward(ApiRequest, int) override {
    return not_here("port-forward");
  }

 private:
  const std::shared_ptr<Front> front_;
  const std::size_t prefer_;
};

Client Front::client(std::size_t prefer) {
  return Client(std::make_shared<FrontClient>(shared_from_this(), prefer));
}

std::optional<std::size_t> Front::pick(std::size_t prefer) const {
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    const std::size_t at = (prefer + i) % peers_.size();
    if (peers_[at].client) return at;
  }
  return std::nullopt;
}

Duration Front::draw() {
  const auto width = static_cast<std::uint64_t>((delay_.most - delay_.least).count());
  return delay_.least + Duration(static_cast<std::int64_t>(width == 0 ? 0 : random_.below(width + 1)));
}

void Front::tell(std::function<void()> task) {
  outside_.dirty = true;
  outside_.engine->post(std::move(task));
}

template <class T>
Pending<T> Front::send(std::size_t prefer, std::function<Pending<T>(Client::Impl&)> call) {
  const auto at = pick(prefer);
  if (!at) return nobody();
  Promise<T> promise;
  auto pending = promise.pending();
  const std::uint64_t id = ++calls_;
  peers_[*at].calls[id].fail = [promise](const Error& why) { promise.set(why); };
  const auto back = [self = shared_from_this(), at = *at, id, promise](Result<T> answer) {
    const auto held = std::make_shared<Result<T>>(std::move(answer));
    self->world_.after(self->draw(), [self, at, id, promise, held] {
      if (self->peers_[at].calls.erase(id) == 0) return;  // the connection broke meanwhile
      self->tell([promise, held] { promise.set(std::move(*held)); });
    });
  };
  const auto there = [self = shared_from_this(), at = *at, id, call = std::move(call), back] {
    Peer& peer = self->peers_[at];
    if (!peer.calls.contains(id)) return;
    call(*peer.client.impl()).on_ready(back);
  };
  world_.after(draw(), [self = shared_from_this(), at = *at, id, there] {
    Peer& peer = self->peers_[at];
    const auto found = peer.calls.find(id);
    if (found == peer.calls.end()) return;
    found->second.arrived = true;
    peer.host->dirty = true;
    peer.host->engine->post(there);
  });
  return pending;
}

void Front::down(std::size_t peer, const std::string& why) {
  Peer& gone = peers_[peer];
  gone.client = {};
  for (auto& [id, call] : std::exchange(gone.calls, {})) {
    const Error error(call.arrived ? Error::unknown_outcome : Error::unavailable, "simulation", why);
    tell([fail = std::move(call.fail), error] { fail(error); });
  }
  for (const auto& weak : std::exchange(gone.watches, {})) {
    if (const auto watch = weak.lock()) watch->broke(Error(Error::unavailable, "simulation", why));
  }
}

}  // namespace orchestra::sim
