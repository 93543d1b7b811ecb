// The agent's end of the node tunnel: see tunnel.hpp.
#include "node/tunnel.hpp"

#include <algorithm>

#include "orchestra/env.hpp"

namespace orchestra::node {

using namespace std::chrono_literals;

namespace {
constexpr const char* kProtocol = "v1.tunnel.orchestra.dev";
constexpr Duration kRetryMin = 200ms, kRetryMax = 15s;
/// Every window of every stream full, and something for their heads.
constexpr std::size_t kQueueBytesMax = tunnel::kStreamsMax * (tunnel::kWindowBytes + 4096);
}  // namespace

TunnelClient::TunnelClient(Engine& engine, std::shared_ptr<HttpClient> http, RemoteClientOptions server,
                           std::string node, std::shared_ptr<PodStreams> streams)
    : engine_(engine),
      http_(std::move(http)),
      server_(std::move(server)),
      node_(std::move(node)),
      streams_(std::move(streams)) {}

void TunnelClient::start() { dial(); }

void TunnelClient::stop() {
  std::shared_ptr<tunnel::Peer> peer;
  std::shared_ptr<WebSocket> socket;
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    peer.swap(peer_);
    socket.swap(socket_);
    if (timer_ != 0) engine_.cancel_timer(timer_);
  }
  if (peer) peer->closed(Error(Error::cancelled, "node", "the node agent stops"));
  if (socket) socket->close();
}

bool TunnelClient::connected() const {
  std::lock_guard lock(mutex_);
  return socket_ != nullptr;
}

void TunnelClient::send_statistics(const tunnel::Statistics& statistics) {
  std::shared_ptr<tunnel::Peer> peer;
  {
    std::lock_guard lock(mutex_);
    if (socket_) peer = peer_;
  }
  if (peer) peer->send_statistics(statistics);
}

void TunnelClient::dial() {
  HttpRequest request;
  const std::string_view path[] = {"apis", tunnel::kGroup,      tunnel::kVersion, tunnel::kResource,
                                   node_,  tunnel::kSubresource};
  request.url = server_.server;
  for (const std::string_view word : path) request.url.append("/").append(word);
  request.headers.emplace_back("Sec-WebSocket-Protocol", kProtocol);
  request.headers.emplace_back("User-Agent", server_.user_agent);
  if (!server_.token.empty()) request.headers.emplace_back("Authorization", "Bearer " + server_.token);
  request.tls.ca_pem = server_.ca_pem;
  request.tls.certificate_pem = server_.certificate_pem;
  request.tls.key_pem = server_.key_pem;
  if (server_.renewed) std::tie(request.tls.certificate_pem, request.tls.key_pem) = server_.renewed();
  request.tls.server_name = server_.server_name;
  const auto weak = weak_from_this();
  auto peer = std::make_shared<tunnel::Peer>(
      engine_,
      [weak](std::string message) {
        const auto self = weak.lock();
        if (!self) return;
        std::shared_ptr<WebSocket> socket;
        {
          std::lock_guard lock(self->mutex_);
          socket = self->socket_;
        }
        // The windows bound what waits; should it overflow all the same, the connection is of no use any
        // more.
        if (socket && !socket->send(std::move(message))) socket->close();
      },
      streams_);
  WebSocketHandler handler;
  handler.binary = true;
  handler.queue_bytes_max = kQueueBytesMax;
  handler.on_message = [weak, peer](const std::string& message) {
    auto taken = peer->receive(message);
    if (taken) return;
    if (const auto self = weak.lock()) self->lost(peer, taken.error());
  };
  handler.on_closed = [weak, peer](const Error& why) {
    if (const auto self = weak.lock()) self->lost(peer, why);
  };
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    peer_ = peer;
  }
  http_->open_web_socket(std::move(request), std::move(handler))
      .on_ready([weak, peer](Result<std::shared_ptr<WebSocket>> socket) {
        if (const auto self = weak.lock()) self->opened(peer, std::move(socket));
      });
}

void TunnelClient::opened(const std::shared_ptr<tunnel::Peer>& peer,
                          Result<std::shared_ptr<WebSocket>> socket) {
  if (!socket) return lost(peer, socket.error());
  std::lock_guard lock(mutex_);
  if (stopped_ || peer_ != peer) return (*socket)->close();
  socket_ = *socket;
  failures_ = 0;
  engine_.log(LogLevel::info, "node", "the tunnel to the API server is open", {{"server", server_.server}});
}

void TunnelClient::lost(const std::shared_ptr<tunnel::Peer>& peer, const Error& why) {
  std::shared_ptr<WebSocket> socket;
  {
    std::lock_guard lock(mutex_);
    if (stopped_ || peer_ != peer) return;
    peer_.reset();
    socket.swap(socket_);
    if (failures_++ == 0 || socket) {
      engine_.log(LogLevel::warning, "node", "the tunnel to the API server is down; it is tried again",
                  {{"server", server_.server}, {"error", why.to_string()}});
    }
  }
  peer->closed(why);
  if (socket) socket->close();
  dial_later();
}

void TunnelClient::dial_later() {
  std::lock_guard lock(mutex_);
  if (stopped_) return;
  const Duration pause = std::min<Duration>(kRetryMax, kRetryMin * (1 << std::min(failures_, 7)));
  const Duration jitter(
      static_cast<std::int64_t>(engine_.random().below(static_cast<std::uint64_t>(pause.count() / 2 + 1))));
  timer_ = engine_.after(pause / 2 + jitter, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->dial();
  });
}

}  // namespace orchestra::node
