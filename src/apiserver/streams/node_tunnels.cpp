// Tunnels of node agents: see node_tunnels.hpp.
#include "apiserver/streams/node_tunnels.hpp"

#include <algorithm>

#include "api/status.hpp"
#include "apiserver/http_front.hpp"
#include "apiserver/streams/websocket_connection.hpp"

namespace orchestra::apiserver {
namespace {
/// Agents send their numbers each 10 s, so a node that says nothing for so long is gone.
constexpr Duration kSilenceMax = std::chrono::seconds(40);
}  // namespace

void NodeTunnels::set_local(std::shared_ptr<PodStreams> streams, std::string node) {
  std::lock_guard lock(mutex_);
  local_ = std::move(streams);
  local_node_ = std::move(node);
}

void NodeTunnels::accept(const std::string& node, const HttpServerRequest& request,
                         const std::shared_ptr<HttpResponder>& responder) {
  const std::string key = request.header("sec-websocket-key");
  const std::string offered = request.header("sec-websocket-protocol");
  if (to_lower(request.header("upgrade")) != "websocket" || key.empty() ||
      request.header("sec-websocket-version") != "13" || offered != kTunnelProtocol) {
    return send_reply(engine_, responder,
                      error_reply(api::bad_request("a node tunnel is a WebSocket of the protocol " +
                                                   std::string(kTunnelProtocol))));
  }
  auto connection = std::make_shared<WebSocketConnection>(
      engine_, responder->upgrade({{"Upgrade", "websocket"},
                                   {"Connection", "Upgrade"},
                                   {"Sec-WebSocket-Accept", websocket_accept(key)},
                                   {"Sec-WebSocket-Protocol", kTunnelProtocol}}));
  const std::weak_ptr<WebSocketConnection> weak = connection;
  auto peer = std::make_shared<tunnel::Peer>(
      engine_,
      [weak](std::string message) {
        if (auto to = weak.lock()) to->send(message).on_ready([](Result<void>) {});
      },
      nullptr);
  Tunnel before;
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return connection->close(1001, "the server stops");
    Tunnel& now = tunnels_[node];
    before = std::move(now);
    now = {peer, connection, engine_.clock().now().steady_ns};
  }
  if (before.peer) {
    before.peer->closed(Error(Error::unavailable, "tunnel", "node " + node + " has opened a newer tunnel"));
    before.connection->close(1000, "a newer tunnel of this node was opened");
  }
  engine_.log(LogLevel::info, "apiserver", "a node is connected", {{"node", node}});
  const auto self = shared_from_this();
  connection->start(
      [self, node, peer](const WebSocketMessage& message, const std::function<void()>& taken) {
        self->arrived(node, peer, message.payload);
        taken();
      },
      [self, node, peer] { self->end(node, peer, "its connection has ended"); });
  watch_silence(node, peer);
}

void NodeTunnels::arrived(const std::string& node, const std::shared_ptr<tunnel::Peer>& peer,
                          std::string_view message) {
  {
    std::lock_guard lock(mutex_);
    const auto found = tunnels_.find(node);
    if (found == tunnels_.end() || found->second.peer != peer) return;
    found->second.heard_ns = engine_.clock().now().steady_ns;
  }
  if (auto taken = peer->receive(message); !taken) end(node, peer, taken.error().to_string());
}

void NodeTunnels::end(const std::string& node, const std::shared_ptr<tunnel::Peer>& peer,
                      const std::string& why) {
  std::shared_ptr<WebSocketConnection> connection;
  {
    std::lock_guard lock(mutex_);
    const auto found = tunnels_.find(node);
    if (found != tunnels_.end() && found->second.peer == peer) {
      connection = found->second.connection;
      tunnels_.erase(found);
    }
  }
  peer->closed(Error(Error::unavailable, "tunnel", "the tunnel of node " + node + " has ended: " + why));
  if (!connection) return;
  engine_.log(LogLevel::info, "apiserver", "a node is no longer connected", {{"node", node}, {"why", why}});
  connection->close(1001, why.substr(0, 100));
}

void NodeTunnels::watch_silence(const std::string& node, const std::weak_ptr<tunnel::Peer>& peer) {
  engine_.after(kSilenceMax / 4, [weak = weak_from_this(), node, peer] {
    const auto self = weak.lock();
    const auto same = peer.lock();
    if (!self || !same) return;
    std::int64_t heard = 0;
    {
      std::lock_guard lock(self->mutex_);
      const auto found = self->tunnels_.find(node);
      if (found == self->tunnels_.end() || found->second.peer != same) return;
      heard = found->second.heard_ns;
    }
    if (self->engine_.clock().now().steady_ns - heard > kSilenceMax.count())
      return self->end(node, same, "it was silent for 40 s");
    self->watch_silence(node, same);
  });
}

bool NodeTunnels::connected(const std::string& node) const {
  std::lock_guard lock(mutex_);
  return tunnels_.contains(node);
}

void NodeTunnels::stop() {
  std::map<std::string, Tunnel> all;
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    all = tunnels_;
  }
  for (const auto& [node, tunnel] : all) end(node, tunnel.peer, "the server stops");
}

Result<std::shared_ptr<PodStreams>> NodeTunnels::way_to(const std::string& node) const {
  std::lock_guard lock(mutex_);
  if (const auto found = tunnels_.find(node); found != tunnels_.end()) return found->second.peer->streams();
  if (local_ && (local_node_.empty() || local_node_ == node)) return local_;
  if (!local_ && tunnels_.empty())
    return api::service_unavailable("no node agent is connected to this server, so pods cannot be reached");
  return api::service_unavailable("node " + node +
                                  " is not connected to this server: its agent has no tunnel open");
}

Pending<std::shared_ptr<ByteStream>> NodeTunnels::log(PodTarget target, LogOptions options) {
  auto way = way_to(target.node);
  if (!way) return way.error();
  return (*way)->log(std::move(target), std::move(options));
}
Pending<std::shared_ptr<ProcessStream>> NodeTunnels::exec(PodTarget target, ExecOptions options) {
  auto way = way_to(target.node);
  if (!way) return way.error();
  return (*way)->exec(std::move(target), std::move(options));
}
Pending<std::shared_ptr<DuplexStream>> NodeTunnels::port_forward(PodTarget target, int port) {
  auto way = way_to(target.node);
  if (!way) return way.error();
  return (*way)->port_forward(std::move(target), port);
}

Pending<NodePage> NodeTunnels::page(std::string node, std::string path) {
  auto way = way_to(node);
  if (!way) return way.error();
  return (*way)->page(std::move(node), std::move(path));
}

std::vector<std::shared_ptr<tunnel::Peer>> NodeTunnels::peers() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<tunnel::Peer>> out;
  for (const auto& [node, tunnel] : tunnels_) out.push_back(tunnel.peer);
  return out;
}

std::vector<PodUse> NodeTunnels::pods(const std::string& ns) const {
  std::vector<PodUse> out;
  for (const auto& peer : peers()) {
    const auto statistics = peer->statistics();
    if (!statistics) continue;
    for (const PodUse& pod : statistics->pods) {
      if (ns.empty() || pod.ns == ns) out.push_back(pod);
    }
  }
  return out;
}

std::vector<NodeUse> NodeTunnels::nodes() const {
  std::vector<NodeUse> out;
  std::map<std::string, std::shared_ptr<tunnel::Peer>> all;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [node, tunnel] : tunnels_) all.emplace(node, tunnel.peer);
  }
  for (const auto& [node, peer] : all) {
    const auto statistics = peer->statistics();
    if (!statistics) continue;
    for (const NodeUse& one : statistics->nodes) {
      if (one.name == node) out.push_back(one);  // a node speaks for itself only
    }
  }
  return out;
}

}  // namespace orchestra::apiserver
