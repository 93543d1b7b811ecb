#pragma once
// Which way to a node and its pods: the tunnel that its agent keeps to this server, or the agent in this
// process.
//
// One per server. Also what the nodes behind tunnels use: each agent sends its numbers after every pass.
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "api/tunnel/peer.hpp"
#include "net/http/http_server.hpp"
#include "orchestra/engine.hpp"
#include "orchestra/metrics_source.hpp"

namespace orchestra::apiserver {

class WebSocketConnection;

/// GET .../nodes/NAME/tunnel, with this WebSocket protocol.
inline constexpr const char* kTunnelProtocol = "v1.tunnel.orchestra.dev";

class NodeTunnels final : public PodStreams,
                          public MetricsSource,
                          public std::enable_shared_from_this<NodeTunnels> {
 public:
  explicit NodeTunnels(Engine& engine) : engine_(engine) {}

  /// The agent of this process; `node` empty: it answers for every node without a tunnel.
  void set_local(std::shared_ptr<PodStreams> streams, std::string node);
  /// A request on nodes/NAME/tunnel of somebody who may: upgrades it. A newer tunnel of a node ends the
  /// older.
  void accept(const std::string& node, const HttpServerRequest& request,
              const std::shared_ptr<HttpResponder>& responder);
  bool connected(const std::string& node) const;
  /// Ends all tunnels; no more are taken.
  void stop();

  Pending<std::shared_ptr<ByteStream>> log(PodTarget target, LogOptions options) override;
  Pending<std::shared_ptr<ProcessStream>> exec(PodTarget target, ExecOptions options) override;
  Pending<std::shared_ptr<DuplexStream>> port_forward(PodTarget target, int port) override;
  Pending<NodePage> page(std::string node, std::string path) override;
  std::vector<PodUse> pods(const std::string& ns) const override;
  std::vector<NodeUse> nodes() const override;

 private:
  struct Tunnel {
    std::shared_ptr<tunnel::Peer> peer;
    std::shared_ptr<WebSocketConnection> connection;
    std::int64_t heard_ns = 0;
  };
  Result<std::shared_ptr<PodStreams>> way_to(const std::string& node) const;
  void arrived(const std::string& node, const std::shared_ptr<tunnel::Peer>& peer, std::string_view message);
  /// Ends this tunnel if it is still the node's.
  void end(const std::string& node, const std::shared_ptr<tunnel::Peer>& peer, const std::string& why);
  void watch_silence(const std::string& node, const std::weak_ptr<tunnel::Peer>& peer);
  std::vector<std::shared_ptr<tunnel::Peer>> peers() const;

  Engine& engine_;
  mutable std::mutex mutex_;
  std::shared_ptr<PodStreams> local_;
  std::string local_node_;
  std::map<std::string, Tunnel> tunnels_;
  bool stopped_ = false;
};

}  // namespace orchestra::apiserver
