#pragma once
// The node tunnel: PodStreams of a node over one connection that the node itself has dialled.
//
// Nodes need no open port and may sit behind NAT: the agent keeps a WebSocket to the API server, and logs,
// exec, attach and port-forward of its pods, and its own pages, are streams on it. Both ends are a Peer. The
// agent's has a PodStreams to serve; the server's hands one out that asks the other end. Who carries the
// messages is not known here.
//
// Flow control is per stream and direction: kWindowBytes may be under way, and the reader gives them back as
// it takes them; so a client that stops reading blocks its own stream only, and what is queued here is
// bounded by kStreamsMax * kWindowBytes. Any thread.
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "api/pod_streams.hpp"
#include "api/tunnel/frame.hpp"
#include "orchestra/engine.hpp"

namespace orchestra::tunnel {

class Stream;

class Peer : public std::enable_shared_from_this<Peer> {
 public:
  /// Hands one message to the connection, in order; any thread; must not call back into the peer.
  using Send = std::function<void(std::string message)>;
  /// `served`: what the other end may open; null at the API server.
  Peer(Engine& engine, Send send, std::shared_ptr<PodStreams> served);

  /// A message of the other end. An error means that it broke the protocol: close the connection.
  Result<void> receive(std::string_view message);
  /// The connection is gone: every stream ends with `why`.
  void closed(const Error& why);

  /// Streams of pods at the other end; lives as long as the peer.
  std::shared_ptr<PodStreams> streams();
  void send_statistics(const Statistics& statistics);
  std::optional<Statistics> statistics() const;
  std::size_t open_streams() const;

 private:
  friend class Stream;
  friend class RemoteStreams;
  Result<std::shared_ptr<Stream>> open(const Request& request);
  void serve(const std::shared_ptr<Stream>& stream, const Request& request);
  void forget(std::uint32_t id);

  Engine& engine_;
  const Send send_;
  const std::shared_ptr<PodStreams> served_;
  mutable std::mutex mutex_;
  std::map<std::uint32_t, std::shared_ptr<Stream>> streams_;
  std::uint32_t last_id_ = 0;
  std::optional<Error> closed_;
  std::optional<Statistics> statistics_;
};

}  // namespace orchestra::tunnel
