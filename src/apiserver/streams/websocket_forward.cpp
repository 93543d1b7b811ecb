// Port-forward on v4.channel.k8s.io, as older clients and those of other languages speak it: port i of the
// query has the channels 2i (data) and 2i+1 (errors), and the server begins each with the port's number in
// two bytes. Upstream pkg/kubelet/cri/streaming/portforward/websocket.go. There is no half-close: when the
// connections into the pod have ended, the WebSocket ends.
#include <mutex>
#include <set>

#include "api/status.hpp"
#include "apiserver/streams/websocket_connection.hpp"

namespace orchestra::apiserver {
namespace {
constexpr std::size_t kPodReadBytes = 32 << 10;

class WebSocketForward : public std::enable_shared_from_this<WebSocketForward> {
 public:
  WebSocketForward(Engine& engine, std::shared_ptr<DuplexStream> stream, PodTarget target,
                   std::shared_ptr<PodStreams> streams, std::vector<int> ports)
      : engine_(engine),
        connection_(std::make_shared<WebSocketConnection>(engine, std::move(stream))),
        target_(std::move(target)),
        streams_(std::move(streams)),
        ports_(std::move(ports)),
        links_(ports_.size()),
        open_(ports_.size()) {}

  void start() {
    auto self = shared_from_this();
    connection_->start(
        [self](WebSocketMessage message, std::function<void()> taken) {
          self->arrived(message.payload, std::move(taken));
        },
        [self] { self->gone(); });
    for (std::size_t i = 0; i < ports_.size(); ++i) {
      const auto port = static_cast<std::uint16_t>(ports_[i]);
      for (const std::size_t channel : {2 * i, 2 * i + 1})
        send(channel, {static_cast<char>(port & 0xFF), static_cast<char>(port >> 8)});
      streams_->port_forward(target_, port).on_ready([self, i](Result<std::shared_ptr<DuplexStream>> socket) {
        self->opened(i, std::move(socket));
      });
    }
  }

 private:
  struct Link {
    std::shared_ptr<DuplexStream> socket;
    std::function<void()> waiting;  ///< the one message that came before the connection was there
    bool ended = false;
  };

  void send(std::size_t channel, std::string bytes) {
    bytes.insert(bytes.begin(), static_cast<char>(channel));
    connection_->send(bytes).on_ready([](Result<void>) {});
  }

  void opened(std::size_t i, Result<std::shared_ptr<DuplexStream>> socket) {
    if (!socket) {
      send(2 * i + 1, "error forwarding port " + std::to_string(ports_[i]) + " to pod " + target_.pod + ": " +
                          api::status_of(socket.error()).message);
      return end(i);
    }
    std::function<void()> waiting;
    bool gone = false;
    {
      std::lock_guard lock(mutex_);
      gone = gone_;
      if (!gone) links_[i].socket = *socket;
      waiting.swap(links_[i].waiting);
    }
    if (gone) return (*socket)->close();
    if (waiting) waiting();
    from_pod(i, *socket);
  }

  void from_pod(std::size_t i, const std::shared_ptr<DuplexStream>& socket) {
    auto self = shared_from_this();
    socket->read(kPodReadBytes).on_ready([self, i, socket](Result<std::string> bytes) {
      if (!bytes || bytes->empty()) {
        socket->close();
        return self->end(i);
      }
      bytes->insert(bytes->begin(), static_cast<char>(2 * i));
      self->connection_->send(*bytes).on_ready([self, i, socket](Result<void> written) {
        if (!written) return socket->close();
        self->engine_.post([self, i, socket] { self->from_pod(i, socket); });
      });
    });
  }

  void arrived(const std::string& payload, std::function<void()> taken) {
    const std::size_t channel = payload.empty() ? 1 : static_cast<unsigned char>(payload[0]);
    if (channel % 2 != 0 || channel / 2 >= ports_.size() || payload.size() == 1) return taken();
    std::shared_ptr<DuplexStream> socket;
    {
      std::lock_guard lock(mutex_);
      Link& link = links_[channel / 2];
      socket = link.socket;
      if (!socket && !link.ended) {
        link.waiting = [self = shared_from_this(), payload, taken] { self->arrived(payload, taken); };
        return;
      }
    }
    if (!socket) return taken();
    socket->write(payload.substr(1)).on_ready([taken, engine = &engine_](Result<void>) {
      engine->post(taken);
    });
  }

  void end(std::size_t i) {
    std::function<void()> waiting;
    bool last = false;
    {
      std::lock_guard lock(mutex_);
      if (std::exchange(links_[i].ended, true)) return;
      links_[i].socket.reset();
      waiting.swap(links_[i].waiting);
      last = --open_ == 0;
    }
    if (waiting) waiting();
    if (last) connection_->close(1000, "");
  }

  void gone() {
    std::vector<std::shared_ptr<DuplexStream>> sockets;
    {
      std::lock_guard lock(mutex_);
      gone_ = true;
      for (Link& link : links_) {
        if (link.socket) sockets.push_back(std::move(link.socket));
        link = {.ended = link.ended};
      }
    }
    for (const auto& socket : sockets) socket->close();
  }

  Engine& engine_;
  std::shared_ptr<WebSocketConnection> connection_;
  const PodTarget target_;
  const std::shared_ptr<PodStreams> streams_;
  const std::vector<int> ports_;
  std::mutex mutex_;  ///< guards what follows
  std::vector<Link> links_;
  std::size_t open_ = 0;
  bool gone_ = false;
};
}  // namespace

void run_websocket_forward(Engine& engine, std::shared_ptr<DuplexStream> stream, PodTarget target,
                           std::shared_ptr<PodStreams> streams, std::vector<int> ports) {
  std::make_shared<WebSocketForward>(engine, std::move(stream), std::move(target), std::move(streams),
                                     std::move(ports))
      ->start();
}

}  // namespace orchestra::apiserver
