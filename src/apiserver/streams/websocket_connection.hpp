#pragma once
// A WebSocket on an upgraded connection: messages in order, pings answered and sent, an orderly close.
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "apiserver/streams/frame_sink.hpp"
#include "apiserver/streams/remote_command.hpp"
#include "net/http/websocket_codec.hpp"

namespace orchestra::apiserver {

using http::websocket_accept;
using http::websocket_frame;
using http::WebSocketMessage;
using http::WebSocketOpcode;
using http::WebSocketParser;

class WebSocketConnection : public std::enable_shared_from_this<WebSocketConnection> {
 public:
  /// The next message comes when `taken` is called.
  using OnMessage = std::function<void(WebSocketMessage, std::function<void()> taken)>;
  /// Which end this is; a client masks what it sends.
  enum class Side : std::uint8_t { server, client };
  WebSocketConnection(Engine& engine, std::shared_ptr<DuplexStream> stream, Side side = Side::server);
  void start(OnMessage on_message, std::function<void()> on_closed);
  /// Before start(): a ping goes out, and what is sent waits until the other side answered or sent something,
  /// at most a second. Clients before client-go 0.34 throw away what arrives before they made their channels.
  void hold_until_heard();
  Pending<void> send(std::string_view payload, WebSocketOpcode opcode = WebSocketOpcode::binary);
  /// Sends a close frame; the connection ends when the client answers it or after some seconds.
  void close(std::uint16_t code, std::string_view reason);

 private:
  void read();
  void deliver();
  void deliver_soon();
  void closed();
  /// `step` when it is called; closed() when it is dropped uncalled, as by an engine that stops: else this,
  /// its owner and what they read would hold one another for ever.
  std::function<void()> once(void (WebSocketConnection::*step)());
  void arm_ping();
  std::string frame(WebSocketOpcode opcode, std::string_view payload) const;

  Engine& engine_;
  const Side side_;
  std::shared_ptr<DuplexStream> stream_;
  std::shared_ptr<FrameSink> sink_;
  WebSocketParser parser_;  ///< touched only by the one read or delivery that is under way
  std::mutex mutex_;
  OnMessage on_message_;
  std::function<void()> on_closed_;
  bool ended_ = false, closing_ = false;
};

/// How messages carry channels: the first byte is the number of the channel, or its digit before base64.
struct ChannelCoding {
  bool base64 = false;
  bool status_as_text = false;  ///< before v4: the error channel has text, and only of a failure
};
/// exec and attach on vN.channel.k8s.io and base64.channel.k8s.io.
std::shared_ptr<RemoteChannels> make_websocket_channels(Engine& engine, std::shared_ptr<DuplexStream> stream,
                                                        ChannelCoding coding = {});

/// A log as messages (binary.k8s.io, or in base64), to its end or until the client goes. What the client
/// sends is ignored.
void run_websocket_log(Engine& engine, std::shared_ptr<DuplexStream> stream, std::shared_ptr<ByteStream> log,
                       bool base64);

/// Port-forward on v4.channel.k8s.io: two channels for each port.
void run_websocket_forward(Engine& engine, std::shared_ptr<DuplexStream> stream, PodTarget target,
                           std::shared_ptr<PodStreams> streams, std::vector<int> ports);

/// The messages of a WebSocket as one byte stream (SPDY/3.1+portforward.k8s.io).
std::shared_ptr<DuplexStream> make_websocket_tunnel(
    Engine& engine, std::shared_ptr<DuplexStream> stream,
    WebSocketConnection::Side side = WebSocketConnection::Side::server);

}  // namespace orchestra::apiserver
