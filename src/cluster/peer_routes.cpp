#include "cluster/peer_routes.hpp"

#include "cluster/options.hpp"
#include "net/podnet/dual_stack.hpp"

namespace orchestra::cluster {
namespace {

constexpr Duration kApplyDeadline = std::chrono::seconds(10);

bool is_v4(const std::string& text) { return text.find(':') == std::string::npos; }

}  // namespace

PeerList peers_of(const NetworkSnapshot& snapshot, const std::string& own_name) {
  PeerList out;
  for (const auto& [key, node] : snapshot.nodes) {
    if (node->name == own_name) continue;
    std::string address;  // empty: not known yet, which is said so
    for (const std::string& one : node->internal_addresses) {
      if (address.empty() && is_v4(one)) address = one;
    }
    bool has_range = false;
    std::string numbers;  // of its range of IPv4, or of what that of IPv6 is made of
    for (const std::string& text : node->pod_cidrs) {
      const auto range = net::IpRange::parse(text);
      if (!range || (!range->base.is_v4() && !numbers.empty())) continue;
      if (const auto made = net::numbers_of(*range)) numbers = made->to_string();
    }
    if (!numbers.empty()) {
      out.peers.push_back({node->name, address, numbers});
      has_range = true;
    }
    if (!has_range) out.complete = false;
  }
  return out;
}

std::string second_name_server(const NetworkSnapshot& snapshot, const std::string& own_name) {
  std::string first, next;
  for (const auto& [key, node] : snapshot.nodes) {  // by name
    if (node->name == own_name || !node->ready) continue;
    // Of the first family, as this node's own name server.
    const std::string address = node->pod_cidrs.empty() ? "" : address_in(node->pod_cidrs.front(), 1);
    if (first.empty()) first = address;
    if (next.empty() && node->name > own_name) next = address;
  }
  return next.empty() ? first : next;
}

PeerRoutes::PeerRoutes(Engine& engine, std::shared_ptr<PodNetwork> network, Duration retry_after,
                       std::function<void(const std::string&)> report)
    : engine_(engine), network_(std::move(network)), retry_after_(retry_after), report_(std::move(report)) {}

void PeerRoutes::apply(PeerList wanted) {
  std::lock_guard lock(mutex_);
  if (stopped_ || (done_ && wanted == wanted_)) return;
  wanted_ = std::move(wanted);
  apply_wanted();
}

void PeerRoutes::stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
}

void PeerRoutes::apply_wanted() {
  const auto applied = network_->set_peers(wanted_.peers, wanted_.complete).wait(kApplyDeadline);
  done_ = applied && applied->empty();
  if (applied) {
    for (const std::string& problem : *applied) report_(problem);
  } else {
    engine_.log(LogLevel::error, "cluster", "routes to other nodes were not made",
                {{"error", applied.error().to_string()}});
  }
  if (done_ || waiting_) return;
  waiting_ = true;
  arm();
}

/// The timer holds nothing but a weak pointer, so it may outlive everything but the engine.
void PeerRoutes::arm() {
  engine_.after(retry_after_, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    const auto queued = self->engine_.post_blocking([self] { self->retry(); });
    if (!queued && !queued.error().is(Error::cancelled)) self->arm();  // no worker is free
  });
}

void PeerRoutes::retry() {
  std::lock_guard lock(mutex_);
  waiting_ = false;
  if (stopped_ || done_) return;
  apply_wanted();
}

}  // namespace orchestra::cluster
